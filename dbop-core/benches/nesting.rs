//! Whether operations on different connections get in each other's way in the table of connections
//! that have an operation running on them: `cargo bench -p dbop-core --bench nesting`.
//!
//! The machine runs alone, against a driver that answers everything at once, each thread on its own
//! connection. Every thread count is measured in turn, in several rounds, so that a change of the
//! computer's load meets them all. The first count is measured again at the end of each round as
//! `1 again`: what differs between the two is noise.
#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use operation::{Connection, plain};

mod operation;

const THREADS: [usize; 6] = [1, 2, 4, 8, 16, 1];

/// How many operations a second so many threads do together.
fn measure(threads: usize, nested: u32, time: Duration) -> f64 {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let work = || {
            let connection = Connection::new();
            connection.run(&plain(), 0, nested);
            start.wait();
            let mut operations = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    connection.run(&plain(), 0, nested);
                }
                operations += 64;
            }
            f64::from(operations)
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        start.wait();
        let begun = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let operations: f64 = workers
            .into_iter()
            .map(|worker| worker.join().expect("no thread panics"))
            .sum();
        operations / begun.elapsed().as_secs_f64()
    })
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let (rounds, time) = match std::env::args().any(|argument| argument == "--bench") {
        true => (9, Duration::from_millis(150)),
        false => (1, Duration::from_millis(5)),
    };
    println!("thousand operations a second: median (lowest to highest of {rounds} rounds)");
    println!("{:>8} {:>28} {:>28}", "threads", "alone", "with 2 nested");
    let mut seen = vec![[Vec::new(), Vec::new()]; THREADS.len()];
    measure(2, 0, time);
    for _ in 0..rounds {
        for (threads, [alone, with_nested]) in THREADS.into_iter().zip(&mut seen) {
            alone.push(measure(threads, 0, time) / 1e3);
            with_nested.push(measure(threads, 2, time) / 1e3);
        }
    }
    for (at, columns) in seen.into_iter().enumerate() {
        let threads = THREADS[at].to_string();
        let name = match at + 1 == THREADS.len() {
            true => "1 again",
            false => &threads,
        };
        let [alone, with_nested] = columns.map(|mut figures| {
            figures.sort_by(f64::total_cmp);
            let [lowest, median, highest] =
                [0, figures.len() / 2, figures.len() - 1].map(|at| figures[at]);
            format!("{median:.0} ({lowest:.0} to {highest:.0})")
        });
        println!("{name:>8} {alone:>28} {with_nested:>28}");
    }
}
