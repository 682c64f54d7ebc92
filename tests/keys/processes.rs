//! Two processes have the same request at the same moment, many times. One of them does it, and both tell its
//! answer.
//!
//! `DBOP_KEYED_REQUESTS` says how many requests there are.

#![allow(clippy::print_stdout, reason = "how many there were")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dbop_tests::asynchronous::Program;
use dbop_tests::together;

use super::requests::{
    PATIENCE, Told, ask, check, number_of_requests, request, start, with_tables,
};

const REQUESTS: u32 = 500;

/// So many requests are made beside each other, each to both processes.
const PAIRS: usize = 4;

/// Repeats a request for as long as another call has it: what it is told then, and how often it was repeated.
fn insist(address: SocketAddr, request: &str) -> (Told, u32) {
    let (begin, mut repeated) = (Instant::now(), 0);
    loop {
        let told = ask(address, request).expect("an answer");
        if told != Told::UnderWay {
            return (told, repeated);
        }
        assert!(begin.elapsed() < PATIENCE, "{request}");
        repeated += 1;
        thread::sleep(Duration::from_millis(10));
    }
}

/// Asks both processes at once: the number that they tell, which of them has done it, and how often it was under
/// way.
fn ask_both(services: &[Program; 2], number: u32) -> (i64, usize, u32) {
    let (request, barrier) = (request(number), Barrier::new(2));
    let ask = |service: &Program| {
        barrier.wait();
        insist(service.address(), &request)
    };
    let [one, other] = services;
    let (one, other) = together(|| ask(one), || ask(other));
    let under_way = one.1 + other.1;
    match (one.0, other.0) {
        (Told::Done(done), Told::Replayed(same)) if same == done => (done, 0, under_way),
        (Told::Replayed(same), Told::Done(done)) if same == done => (done, 1, under_way),
        told => panic!("{request}: {told:?}"),
    }
}

#[test]
fn of_two_processes_with_one_request_one_does_it_and_both_have_its_answer() {
    let requests = number_of_requests(REQUESTS);
    let begin = Instant::now();
    let bed = with_tables();
    let services = [start(bed.url()), start(bed.url())];
    let (next, under_way) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = [AtomicU32::new(0), AtomicU32::new(0)];
    let pair = || {
        let mut answers = BTreeMap::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return answers;
            }
            let (answer, process, repeated) = ask_both(&services, number);
            answers.insert(number, answer);
            done[process].fetch_add(1, Ordering::Relaxed);
            under_way.fetch_add(repeated, Ordering::Relaxed);
        }
    };
    let answers: BTreeMap<_, _> = thread::scope(|scope| {
        let pairs: Vec<_> = (0..PAIRS).map(|_| scope.spawn(pair)).collect();
        let answers = pairs.into_iter().map(|pair| pair.join());
        answers
            .flat_map(|answers| answers.expect("no panic"))
            .collect()
    });
    assert_eq!(answers.len(), requests as usize);
    check(&bed, &answers);
    let done = done.map(AtomicU32::into_inner);
    println!(
        "{requests} requests to two processes, done by {done:?}, {} times under way; {:.1} s",
        under_way.into_inner(),
        begin.elapsed().as_secs_f32()
    );
    // Otherwise one of them was always late, and nothing is shown.
    assert!(done.iter().all(|done| *done > 0), "{done:?}");
}
