//! What real clients and servers have said to each other, recorded: the proxy that tests rely on
//! understands it, in whatever pieces it comes.
//!
//! `conversations/` has a file for each client: what it (C) and the server (S) sent, as it came.
//! Each client reads an account twice, changes one in a transaction, has two batches executed, one
//! with several results and one with an error in the middle, makes an error, and reads again.

use std::path::Path;

use dbop_tests::proxy::{Action, Dialog, End, Protocol, Turn};

struct Recording {
    name: &'static str,
    protocol: Protocol,
    /// As counted between the client and the server.
    round_trips: usize,
    asides: usize,
}

const RECORDINGS: [Recording; 6] = [
    Recording::new("libpq", Protocol::Postgres, 13, 1),
    Recording::new("tokio_postgres", Protocol::Postgres, 16, 3),
    Recording::new("libmariadb_mariadb", Protocol::Mysql, 28, 6),
    Recording::new("libmariadb_mysql", Protocol::Mysql, 28, 6),
    Recording::new("mysql_async_mariadb", Protocol::Mysql, 17, 1),
    Recording::new("mysql_async_mysql", Protocol::Mysql, 17, 1),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Recording {
    const fn new(
        name: &'static str,
        protocol: Protocol,
        round_trips: usize,
        asides: usize,
    ) -> Self {
        Self {
            name,
            protocol,
            round_trips,
            asides,
        }
    }

    fn chunks(&self) -> Vec<(Side, Vec<u8>)> {
        let path = format!("project/conversations/{}.txt", self.name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(path).expect("the file is there");
        text.lines().map(chunk).collect()
    }
}

fn chunk(line: &str) -> (Side, Vec<u8>) {
    let (side, bytes) = line.split_once(' ').expect("who and what");
    let side = if side == "C" {
        Side::Client
    } else {
        Side::Server
    };
    let bytes = bytes.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits).expect("digits");
        u8::from_str_radix(digits, 16).expect("digits")
    });
    (side, bytes.collect())
}

/// Somebody who listens to both.
struct Listener {
    dialog: Dialog,
    buffers: [Vec<u8>; 2],
    /// What they have said, put together again.
    passed: [Vec<u8>; 2],
    lines: Vec<String>,
    executed: Vec<String>,
    asked: usize,
    round_trips: usize,
    asides: usize,
}

impl Listener {
    fn new(protocol: Protocol) -> Self {
        Self {
            dialog: Dialog::new(protocol),
            buffers: Default::default(),
            passed: Default::default(),
            lines: Vec::new(),
            executed: Vec::new(),
            asked: 0,
            round_trips: 0,
            asides: 0,
        }
    }

    fn hears(&mut self, side: Side, bytes: &[u8]) {
        self.buffers[side as usize].extend_from_slice(bytes);
        match side {
            Side::Client => self.requests(),
            Side::Server => self.responses(),
        }
    }

    fn requests(&mut self) {
        while let Some(request) = self.dialog.request(&mut self.buffers[0]) {
            self.passed[0].extend_from_slice(&request.bytes);
            self.lines.push(request.to_string());
            match request.turn {
                Turn::Asks => self.asked += 1,
                Turn::OneWay => self.asides += 1,
                _ => {}
            }
            if let (Action::Executes, Some(sql)) = (request.action, request.sql) {
                let verb = sql.split(' ').next().expect("a word");
                self.executed.push(verb.into());
            }
        }
    }

    fn responses(&mut self) {
        while let Some(response) = self.dialog.response(&mut self.buffers[1]) {
            self.passed[1].extend_from_slice(&response.bytes);
            let Some(end) = response.end else { continue };
            self.lines.push(format!("{end:?}"));
            match end {
                End::Login => {}
                End::Answer => self.round_trips += 1,
                End::Aside => self.asides += 1,
            }
        }
    }
}

#[test]
fn every_client_is_understood() {
    for recording in RECORDINGS {
        let name = recording.name;
        let mut listener = Listener::new(recording.protocol);
        for (side, bytes) in recording.chunks() {
            listener.hears(side, &bytes);
        }
        let counts = (listener.round_trips, listener.asides);
        let expected = (recording.round_trips, recording.asides);
        assert_eq!(counts, expected, "{name}: {:#?}", listener.lines);
        let work = [
            "SELECT", "SELECT", "BEGIN", "UPDATE", "COMMIT", "SELECT", "SELECT", "INSERT", "SELECT",
        ];
        assert!(
            listener.executed.ends_with(&work.map(String::from)),
            "{name}: {:?}",
            listener.executed
        );
        assert!(listener.buffers.iter().all(Vec::is_empty), "{name}");
    }
}

/// These clients wait for an answer before they ask again, so an answer is over exactly when its
/// last byte has come.
#[test]
fn an_answer_is_over_with_its_last_byte() {
    for recording in RECORDINGS {
        if recording.name == "tokio_postgres" {
            continue;
        }
        let mut listener = Listener::new(recording.protocol);
        let mut chunks = recording.chunks().into_iter().peekable();
        while let Some((side, bytes)) = chunks.next() {
            let (last, rest) = bytes.split_last().expect("not empty");
            listener.hears(side, rest);
            let goes_on = chunks.peek().is_some_and(|(next, _)| *next == side);
            let is_the_end = side == Side::Server && !goes_on && listener.asked > 0;
            if is_the_end {
                let answered = listener.round_trips + 1;
                assert_eq!(answered, listener.asked, "{}: too early", recording.name);
            }
            listener.hears(side, &[*last]);
            if is_the_end {
                let answered = listener.round_trips;
                assert_eq!(answered, listener.asked, "{}: too late", recording.name);
            }
        }
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_it_comes() {
    for recording in RECORDINGS {
        let chunks = recording.chunks();
        let mut whole = Listener::new(recording.protocol);
        for (side, bytes) in &chunks {
            whole.hears(*side, bytes);
        }
        let mut bytewise = Listener::new(recording.protocol);
        for (side, bytes) in &chunks {
            for byte in bytes {
                bytewise.hears(*side, &[*byte]);
            }
        }
        assert_eq!(bytewise.lines, whole.lines, "{}", recording.name);
        assert_eq!(bytewise.passed, whole.passed, "{}", recording.name);
        let longest = chunks.iter().map(|(_, bytes)| bytes.len()).max();
        for at in 1..longest.expect("not empty") {
            let mut halved = Listener::new(recording.protocol);
            for (side, bytes) in &chunks {
                let (left, right) = bytes.split_at(at.min(bytes.len()));
                halved.hears(*side, left);
                halved.hears(*side, right);
            }
            assert_eq!(halved.lines, whole.lines, "{} at {at}", recording.name);
            assert_eq!(halved.passed, whole.passed, "{} at {at}", recording.name);
        }
    }
}

/// Nothing is lost and nothing is made up, but for the greeting of MySQL and MariaDB: four bytes of
/// it say what the server can do, and encryption and compression are taken out.
#[test]
fn what_is_passed_on_is_what_was_said() {
    for recording in RECORDINGS {
        let mut listener = Listener::new(recording.protocol);
        let mut said = [Vec::new(), Vec::new()];
        for (side, bytes) in recording.chunks() {
            listener.hears(side, &bytes);
            said[side as usize].extend_from_slice(&bytes);
        }
        let [client, server] = &listener.passed;
        assert_eq!(*client, said[0], "{}", recording.name);
        let changed: Vec<(u8, u8)> = server
            .iter()
            .zip(&said[1])
            .filter(|(now, before)| now != before)
            .map(|(now, before)| (*now, *before))
            .collect();
        assert_eq!(server.len(), said[1].len(), "{}", recording.name);
        let taken: u32 = changed
            .iter()
            .map(|(now, before)| (now ^ before).count_ones())
            .sum();
        match recording.protocol {
            Protocol::Postgres => assert!(changed.is_empty(), "{}", recording.name),
            Protocol::Mysql => {
                assert!(changed.iter().all(|(now, before)| now & before == *now));
                assert!((1..=4).contains(&taken), "{}: {changed:?}", recording.name);
            }
        }
    }
}
