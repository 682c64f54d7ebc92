//! What is lost, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dbop_tests::proxy::{Cut, Planned, Proxy, Until, When};
use dbop_tests::server::Server;
use dbop_tests::{Number, eventually};
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
    Commit(How),
    /// It cuts at an UPDATE.
    Statement(How),
    /// It cuts at whatever comes.
    Anything(How),
    /// At a commit nothing moves any more, and then it goes on or is cut: before it is sent, or
    /// after that.
    Stalled(Stall),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    BeforeSent,
    AnswerLost,
    Late,
    HalfClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stall {
    BeforeSent,
    Answer,
}

/// The small ones, and how often each comes before all begin again.
const SMALL: [(usize, Loss); 14] = [
    (6, Loss::Commit(How::AnswerLost)),
    (3, Loss::Commit(How::BeforeSent)),
    (3, Loss::Commit(How::Late)),
    (1, Loss::Commit(How::HalfClose)),
    (1, Loss::Statement(How::AnswerLost)),
    (1, Loss::Statement(How::Late)),
    (1, Loss::Anything(How::BeforeSent)),
    (1, Loss::Stalled(Stall::BeforeSent)),
    (1, Loss::Stalled(Stall::Answer)),
    (4, Loss::Ended),
    (1, Loss::AllClosed),
    (1, Loss::AllReset),
    (2, Loss::AllInTheMiddle),
    (1, Loss::Refused),
];

/// What makes them.
pub(crate) struct Losses<'a> {
    server: &'a Server,
    bed: &'a Bed,
    proxy: &'a Proxy,
    random: Rng,
    conn: Option<Conn>,
    to_come: Vec<Loss>,
    planned: Vec<(Loss, Planned, Instant)>,
    met: BTreeMap<Loss, u32>,
}

impl<'a> Losses<'a> {
    pub(crate) fn new(server: &'a Server, bed: &'a Bed, proxy: &'a Proxy, random: Rng) -> Self {
        Self {
            server,
            bed,
            proxy,
            random,
            conn: None,
            to_come: Vec::new(),
            planned: Vec::new(),
            met: BTreeMap::new(),
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
        if self.to_come.is_empty() {
            let all = SMALL.iter();
            let all = all.flat_map(|(times, loss)| std::iter::repeat_n(*loss, *times));
            self.to_come.extend(all);
            self.random.shuffle(&mut self.to_come);
        }
        let Some(loss) = self.to_come.pop() else {
            return;
        };
        match loss {
            Loss::Great(great) => self.great(great),
            Loss::Commit(how) => self.cut(loss, When::commit(), how),
            Loss::Statement(how) => self.cut(loss, When::statement("UPDATE"), how),
            Loss::Anything(how) => self.cut(loss, When::anything(), how),
            Loss::Stalled(stall) => self.stall(loss, stall),
            Loss::Ended => self.end_a_session(),
            Loss::AllClosed => self.close_all(false),
            Loss::AllReset => self.close_all(true),
            Loss::AllInTheMiddle => self.close_in_the_middle(),
            Loss::Refused => {
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
                let mut witness = self
                    .connect()
                    .expect("a server that nothing has happened to");
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
                // PostgreSQL 18 that is told to stop while it recovers from that does not end (seen).
                eventually("all sessions end", || {
                    witness.batch_execute("SELECT 1").is_err()
                });
                eventually("the server is there again", || self.connect().is_some());
            }
        }
        self.conn = None;
        self.count(Loss::Great(great));
    }

    /// Plans a cut, unless there are many to come.
    fn cut(&mut self, loss: Loss, when: When, how: How) {
        self.count_cuts();
        if self.planned.len() < 4 {
            let delay = Duration::from_millis(self.random.u64(1..500));
            let cut = match how {
                How::BeforeSent => Cut::BeforeSent,
                How::AnswerLost => Cut::AnswerLost,
                How::Late => Cut::Late(Until::Passed(delay)),
                How::HalfClose => Cut::HalfClose,
            };
            let nth = self.random.u32(1..4);
            let planned = self.proxy.cut(when.nth(nth), cut);
            self.planned.push((loss, planned, Instant::now()));
        }
    }

    fn stall(&mut self, loss: Loss, stall: Stall) {
        let cut = match stall {
            Stall::BeforeSent => Cut::Stall,
            Stall::Answer => Cut::StallAnswer,
        };
        let planned = self.proxy.cut(When::commit(), cut);
        let begin = Instant::now();
        while planned.reached() == 0 && begin.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(self.random.u64(1..300)));
        if self.random.bool() {
            self.proxy.cut_all();
        }
        self.proxy.resume();
        if planned.reached() > 0 {
            self.count(loss);
        } else {
            self.planned.push((loss, planned, Instant::now()));
        }
    }

    /// Those that have been made. Others are still to come.
    fn count_cuts(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        for (loss, planned, since) in planned {
            if planned.reached() > 0 {
                self.count(loss);
            } else if since.elapsed() < Duration::from_secs(2) {
                // After that it never will be: another cut has come before it.
                self.planned.push((loss, planned, since));
            }
        }
    }

    /// What has not been met yet.
    pub(crate) fn missing(&mut self) -> Vec<impl fmt::Debug + use<>> {
        self.count_cuts();
        let small = SMALL.iter().map(|(_, loss)| *loss);
        let all = small.chain(GREAT.iter().copied().map(Loss::Great));
        all.filter(|loss| !self.met.contains_key(loss)).collect()
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
        *self.met.entry(loss).or_default() += 1;
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
        let met = self.met.iter();
        let met: Vec<_> = met
            .map(|(loss, count)| format!("{count} {loss:?}"))
            .collect();
        f.write_str(&met.join(", "))
    }
}
