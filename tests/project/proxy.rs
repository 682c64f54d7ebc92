//! The proxy that tests rely on, between a client and a server that are no more than sockets: what
//! exactly each of them sees.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use dbop_tests::proxy::{Cut, Proxy, Until, When};

use wire::{Heard, Server, Wire, message, query};

mod wire;

#[test]
fn the_url_is_that_of_the_server_through_the_proxy() {
    let proxy = Proxy::start("mysql://user:secret@127.0.0.1:3306/db?x=1");
    let (start, rest) = proxy.url().rsplit_once(':').expect("a port");
    assert_eq!(start, "mysql://user:secret@127.0.0.1");
    let (port, rest) = rest.split_once('/').expect("a path");
    assert_eq!(rest, "db?x=1");
    assert_ne!(port, "3306");
}

#[test]
fn a_question_is_a_round_trip_and_a_login_is_none() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let mut client = Wire::logged_in(&proxy);
    for (i, sql) in ["ONE", "TWO"].into_iter().enumerate() {
        assert_eq!(proxy.round_trips() as usize, i);
        client.ask(sql);
        assert_eq!(client.answer().expect("an answer").trim(), sql);
    }
    assert_eq!(proxy.conversation(), ["Query: ONE", "Query: TWO"]);
    proxy.reset();
    assert_eq!((proxy.round_trips(), proxy.conversation().len()), (0, 0));
}

/// A statement closed in passing, as tokio-postgres does it.
#[test]
fn what_is_said_in_passing_is_neither_a_round_trip_nor_cut() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let mut client = Wire::logged_in(&proxy);
    let cut = proxy.cut(When::anything(), Cut::BeforeSent);
    let bytes = [message(b'C', b"Ss0\0"), message(b'S', b"")].concat();
    client.0.write_all(&bytes).expect("a connection");
    assert_eq!(client.read().expect("an answer").0, b'Z');
    assert_eq!((proxy.round_trips(), proxy.asides()), (0, 1));
    assert!(proxy.conversation().is_empty());
    assert_eq!(cut.reached(), 0);
    client.write(b'S', b"");
    assert_eq!(client.end(), Heard::Eof);
    assert_eq!(proxy.conversation(), ["Sync", "-- BeforeSent"]);
}

#[test]
fn encryption_is_declined_and_the_server_is_not_asked() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let mut client = Wire::to(&proxy);
    for code in [80_877_103, 80_877_104] {
        client.open(code);
        let mut answer = [0];
        client.0.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, *b"N");
    }
    client.open(196_608);
    assert_eq!(client.read().expect("an answer").0, b'Z');
}

#[test]
fn a_client_that_is_cut_off_sees_an_eof_or_a_reset() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    for (resets, end) in [(false, Heard::Eof), (true, Heard::Reset)] {
        proxy.reset_connections(resets);
        for cut in [
            Cut::BeforeSent,
            Cut::AnswerLost,
            Cut::Late(Until::Passed(Duration::ZERO)),
        ] {
            let planned = proxy.cut(When::statement("CUT"), cut);
            let mut client = Wire::logged_in(&proxy);
            proxy.reset();
            client.ask("CUT");
            assert_eq!(client.end(), end, "{cut:?}");
            planned.wait_until_finished();
            let is_sent = cut != Cut::BeforeSent;
            if is_sent {
                server.hears_query("CUT");
            }
            assert_eq!(proxy.round_trips(), u32::from(is_sent), "the whole answer");
            assert_eq!(server.hears(), Heard::Eof, "{cut:?}");
        }
    }
    assert_eq!(proxy.cuts_made(), 6);
}

/// Several questions at once: those before the cut are answered, those after it are not asked.
#[test]
fn only_one_answer_is_lost() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    for cut in [Cut::AnswerLost, Cut::Late(Until::Released)] {
        let planned = proxy.cut(When::statement("TWO"), cut);
        let mut client = Wire::logged_in(&proxy);
        let questions = ["ONE", "TWO", "THREE"].map(query).concat();
        client.0.write_all(&questions).expect("a connection");
        if cut == Cut::AnswerLost {
            assert_eq!(client.answer().expect("an answer").trim(), "ONE");
            assert_eq!(client.end(), Heard::Eof);
            server.hears_query("ONE");
        } else {
            server.hears_query("ONE");
            planned.wait_until_reached();
            assert!(server.hears_nothing());
            planned.release();
        }
        server.hears_query("TWO");
        assert_eq!(server.hears(), Heard::Eof, "{cut:?}");
        planned.wait_until_finished();
    }
}

#[test]
fn in_the_middle_both_are_cut_off() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let planned = proxy.cut(When::statement("WAIT"), Cut::MidStatement(Until::Released));
    let mut client = Wire::logged_in(&proxy);
    client.ask("WAIT");
    server.hears_query("WAIT");
    planned.wait_until_reached();
    assert_eq!(proxy.cuts_made(), 0);
    planned.release();
    assert_eq!(client.end(), Heard::Eof);
    assert_eq!(server.hears(), Heard::Eof);
    assert_eq!(proxy.cuts_made(), 1);
}

#[test]
fn half_closed_it_goes_on_in_one_direction() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let planned = proxy.cut(When::statement("ONE"), Cut::HalfClose);
    let mut client = Wire::logged_in(&proxy);
    client.ask("ONE");
    assert_eq!(client.end(), Heard::Eof);
    server.hears_query("ONE");
    client.ask("TWO");
    server.hears_query("TWO");
    assert_eq!((planned.reached(), planned.finished()), (1, 0));
    assert_eq!(client.end(), Heard::Eof, "still");
    drop(client);
    assert_eq!(server.hears(), Heard::Eof);
    planned.wait_until_finished();
}

#[test]
fn stalled_nobody_is_cut_off_and_nothing_is_lost() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    for cut in [Cut::Stall, Cut::StallAnswer] {
        let planned = proxy.cut(When::statement("TWO"), cut);
        let mut client = Wire::logged_in(&proxy);
        client.ask("ONE");
        assert_eq!(client.answer().expect("an answer").trim(), "ONE");
        server.hears_query("ONE");
        client.ask("TWO");
        planned.wait_until_reached();
        client.ask("THREE");
        if cut == Cut::StallAnswer {
            server.hears_query("TWO");
        }
        assert!(server.hears_nothing(), "{cut:?}");
        client.0.set_nonblocking(true).expect("an option");
        let nothing = client.0.read(&mut [0]).expect_err("nothing to read");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        client.0.set_nonblocking(false).expect("an option");
        proxy.resume();
        assert_eq!(client.answer().expect("an answer").trim(), "TWO");
        assert_eq!(client.answer().expect("an answer").trim(), "THREE");
        if cut == Cut::Stall {
            server.hears_query("TWO");
        }
        server.hears_query("THREE");
        drop(client);
        assert_eq!(server.hears(), Heard::Eof);
    }
}

#[test]
fn the_refused_are_refused_and_the_port_is_kept() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let mut client = Wire::logged_in(&proxy);
    let address = client.0.peer_addr().expect("an address");
    for _ in 0..3 {
        proxy.refuse(true);
        let refused = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let other = Proxy::start(&server.url);
        assert_ne!(other.url(), proxy.url());
        proxy.refuse(false);
        Wire::logged_in(&proxy);
    }
    client.ask("ONE");
    client.answer().expect("an open one goes on");
}

#[test]
fn without_a_server_a_client_is_sent_away() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let proxy = Proxy::start(&format!("postgres://user@{address}/db"));
    assert_eq!(Wire::to(&proxy).end(), Heard::Eof);
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn all_end_with_the_proxy() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url);
    let mut idle = Wire::logged_in(&proxy);
    let mut late = Wire::logged_in(&proxy);
    let planned = proxy.cut(When::statement("LATE"), Cut::Late(Until::Released));
    late.ask("LATE");
    assert_eq!(late.end(), Heard::Eof);
    planned.wait_until_reached();
    drop(proxy);
    assert_eq!(idle.end(), Heard::Eof);
    assert_eq!([server.hears(), server.hears()], [Heard::Eof, Heard::Eof]);
}

/// More than the buffers between them can hold, in both directions at once.
#[test]
fn large_messages_go_through_in_both_directions() {
    const LENGTH: usize = 12_000_000;
    let server = Server::answering(LENGTH);
    let proxy = Proxy::start(&server.url);
    let mut client = Wire::logged_in(&proxy);
    let sql = "x".repeat(LENGTH);
    std::thread::scope(|scope| {
        let mut writer = Wire(client.0.try_clone().expect("a copy"));
        scope.spawn(move || {
            for _ in 0..2 {
                writer.ask(&sql);
            }
        });
        for _ in 0..2 {
            assert_eq!(client.answer().expect("an answer").len(), LENGTH);
        }
    });
    assert_eq!(proxy.round_trips(), 2);
}

#[test]
fn a_cut_that_cannot_be_exact_fails_the_test() {
    let server = Server::start();
    for (when, cut, sent) in [
        (
            When::statement("ONE"),
            Cut::MidStatement(Until::Released),
            query("ONE"),
        ),
        (When::message("CancelRequest"), Cut::AnswerLost, Vec::new()),
    ] {
        let proxy = Proxy::start(&server.url);
        let planned = proxy.cut(when, cut);
        let mut client = if sent.is_empty() {
            let mut client = Wire::to(&proxy);
            client.open(80_877_102);
            client
        } else {
            let mut client = Wire::logged_in(&proxy);
            client.0.write_all(&sent).expect("a connection");
            client
        };
        assert_eq!(client.end(), Heard::Eof);
        planned.wait_until_finished();
        assert_eq!(proxy.cuts_made(), 0);
        std::panic::catch_unwind(move || drop(proxy)).expect_err("not exact");
    }
}
