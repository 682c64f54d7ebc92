//! What is lost, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dbop_tests::Number;
use dbop_tests::proxy::{Cut, Planned, Proxy, Until, When};
use dbop_tests::server::Server;
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{QueryResult, RunQueryDsl as _, sql_query};
use fastrand::Rng;

use crate::{BLOCKED, Bed, Conn, GREAT, SESSIONS, end};

/// A loss that everybody notices. Each comes once in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "not every server has sessions that can be killed")]
pub(crate) enum Great {
    /// The server is stopped and started.
    Restart,
    /// kill -9 for the process of a session, for which PostgreSQL ends all others.
    SessionKilled,
    /// kill -9 for the server.
    ServerKilled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    Great(Great),
    /// The proxy cuts at a commit.
    Commit(&'static str),
    /// It cuts elsewhere.
    Statement(&'static str),
    /// A session is ended by an administrator.
    Ended,
    /// All connections are closed, wherever they are.
    AllClosed,
    AllReset,
    /// The same, while all wait for a lock.
    AllInTheMiddle,
    /// For a moment nobody can connect.
    Refused,
}

/// What makes them.
pub(crate) struct Losses<'a> {
    server: &'a Server,
    bed: &'a Bed,
    proxy: &'a Proxy,
    random: Rng,
    conn: Option<Conn>,
    planned: Vec<Planned>,
    made: BTreeMap<Loss, u32>,
}

impl<'a> Losses<'a> {
    pub(crate) fn new(server: &'a Server, bed: &'a Bed, proxy: &'a Proxy, random: Rng) -> Self {
        Self {
            server,
            bed,
            proxy,
            random,
            conn: None,
            planned: Vec::new(),
            made: BTreeMap::new(),
        }
    }

    /// Lets them come down for so long.
    pub(crate) fn come_down(&mut self, time: Duration) {
        let begin = Instant::now();
        let mut great = GREAT.to_vec();
        self.random.shuffle(&mut great);
        let parts = u32::try_from(great.len() + 1).expect("a few");
        for part in 1..=parts {
            while begin.elapsed() < time * part / parts {
                self.come_down_once();
            }
            if let Some(great) = great.pop() {
                self.great(great);
            }
        }
    }

    /// A small one.
    pub(crate) fn come_down_once(&mut self) {
        self.small();
        // Some transfers get through.
        sleep(Duration::from_millis(self.random.u64(5..60)));
        self.proxy.reset();
    }

    fn small(&mut self) {
        let delay = Until::Passed(Duration::from_millis(self.random.u64(1..500)));
        let statement = || When::statement("UPDATE");
        match self.random.u32(0..24) {
            0..6 => self.cut(When::commit(), Cut::AnswerLost),
            6..9 => self.cut(When::commit(), Cut::BeforeSent),
            9..12 => self.cut(When::commit(), Cut::Late(delay)),
            12 => self.cut(When::commit(), Cut::HalfClose),
            13 => self.cut(statement(), Cut::AnswerLost),
            14 => self.cut(statement(), Cut::Late(delay)),
            15 => self.cut(When::anything(), Cut::BeforeSent),
            16..20 => self.end_a_session(),
            20 => self.close_all(false),
            21 => self.close_all(true),
            22 => self.close_in_the_middle(),
            _ => {
                self.proxy.refuse(true);
                sleep(Duration::from_millis(self.random.u64(1..100)));
                self.proxy.refuse(false);
                self.count(Loss::Refused);
            }
        }
    }

    fn great(&mut self, great: Great) {
        match great {
            Great::Restart => {
                self.server.stop();
                self.server.start();
            }
            Great::ServerKilled => {
                self.server.kill();
                self.server.start();
            }
            Great::SessionKilled => {
                // One that is gone meanwhile is none.
                let begin = Instant::now();
                loop {
                    let session = self.session();
                    if session.is_some_and(|session| self.server.kill_session(session)) {
                        break;
                    }
                    assert!(begin.elapsed() < Duration::from_secs(30), "no session");
                    sleep(Duration::from_millis(5));
                }
            }
        }
        self.conn = None;
        self.count(Loss::Great(great));
    }

    /// Plans a cut, unless there are many to come.
    fn cut(&mut self, when: When, cut: Cut) {
        self.planned.retain(|planned| planned.reached() == 0);
        if self.planned.len() < 4 {
            let is_commit = format!("{when:?}").contains("Commit");
            let name = match cut {
                Cut::BeforeSent => "BeforeSent",
                Cut::AnswerLost => "AnswerLost",
                Cut::Late(_) => "Late",
                _ => "HalfClose",
            };
            let nth = self.random.u32(1..4);
            self.planned.push(self.proxy.cut(when.nth(nth), cut));
            self.count(if is_commit {
                Loss::Commit(name)
            } else {
                Loss::Statement(name)
            });
        }
    }

    fn end_a_session(&mut self) {
        if let Some(session) = self.session() {
            // It can have ended by itself.
            if self.ask(|conn| conn.batch_execute(&end(session))).is_some() {
                self.count(Loss::Ended);
            }
        }
    }

    fn close_all(&mut self, resets: bool) {
        self.proxy.reset_connections(resets);
        self.proxy.cut_all();
        self.proxy.reset_connections(false);
        self.count(if resets {
            Loss::AllReset
        } else {
            Loss::AllClosed
        });
    }

    fn close_in_the_middle(&mut self) {
        let lock = "BEGIN; SELECT id FROM accounts FOR UPDATE SKIP LOCKED";
        if self.ask(|conn| conn.batch_execute(lock)).is_none() {
            return;
        }
        let begin = Instant::now();
        let mut blocked = false;
        while !blocked && begin.elapsed() < Duration::from_secs(1) {
            // A server answers from a copy that it does not renew more often.
            sleep(Duration::from_millis(110));
            let sessions = self.ask(|conn| sql_query(BLOCKED).get_result::<Number>(conn));
            blocked = sessions.is_some_and(|sessions| sessions.n > 0);
        }
        let resets = self.random.bool();
        self.close_all(resets);
        self.ask(|conn| conn.batch_execute("ROLLBACK"));
        if blocked {
            self.count(Loss::AllInTheMiddle);
        }
    }

    fn count(&mut self, loss: Loss) {
        *self.made.entry(loss).or_default() += 1;
    }

    /// Any session of the workers.
    fn session(&mut self) -> Option<i64> {
        let sessions = self.ask(|conn| sql_query(SESSIONS).load::<Number>(conn))?;
        Some(self.random.choice(sessions)?.n)
    }

    /// The answer of the server, if it is there to answer.
    fn ask<T>(&mut self, question: impl FnOnce(&mut Conn) -> QueryResult<T>) -> Option<T> {
        if self.conn.is_none() {
            self.conn = self.connect();
        }
        let answer = question(self.conn.as_mut()?).ok();
        if answer.is_none() {
            self.conn = None;
        }
        answer
    }

    fn connect(&self) -> Option<Conn> {
        Conn::establish(self.bed.url()).ok()
    }
}

impl fmt::Display for Losses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.made.iter();
        let made: Vec<_> = made
            .map(|(loss, count)| format!("{count} {loss:?}"))
            .collect();
        f.write_str(&made.join(", "))
    }
}
