//! Two processes have the same request, and it takes longer than one of them waits.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::requests::{PATIENCE, Told, ask, check, request, start, with_tables};

/// Tells `each` what it is told, until it has the number.
fn insist(address: SocketAddr, request: &str, each: impl Fn(&Told)) -> i64 {
    let begin = Instant::now();
    loop {
        let told = ask(address, request).expect("an answer");
        each(&told);
        match told {
            Told::Done(number) | Told::Replayed(number) => return number,
            Told::UnderWay => {}
            Told::Failed(why) => panic!("{request}: {why}"),
        }
        assert!(begin.elapsed() < PATIENCE, "{request}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An account is locked. If the impatient one takes the key first, it lets go of it as soon as it has waited
/// for the account, and the patient one has it from then on.
#[test]
fn who_is_told_that_it_is_under_way_has_the_answer_later() {
    let bed = with_tables();
    let services = [start(bed.url()), start(bed.url())];
    let [patient, impatient] = &services;
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance");
    let request = request(0);
    let (tell, told) = channel();
    let (one, other) = thread::scope(|scope| {
        let request = &request;
        let one = scope.spawn(move || {
            insist(patient.address(), &format!("{request} 20000"), |told| {
                assert_ne!(*told, Told::UnderWay);
            })
        });
        let other = scope.spawn(move || {
            insist(impatient.address(), &format!("{request} 1000"), |told| {
                _ = tell.send(*told == Told::UnderWay);
            })
        });
        let is_under_way = told.recv_timeout(PATIENCE).expect("an answer");
        assert!(is_under_way, "it is told so first");
        opponent.execute("COMMIT");
        (
            one.join().expect("no panic"),
            other.join().expect("no panic"),
        )
    });
    assert_eq!(one, other);
    check(&bed, &[(0, one)].into());
}
