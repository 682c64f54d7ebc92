//! The member under test, and two others, which stay from one test to the next.

use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use dbop_diesel::{Code, Fault};
use dbop_tests::server::Signal;
use dbop_tests::{Number, Word, blocking, eventually, members, server_url};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{MysqlConnection, QueryResult, RunQueryDsl as _, sql_query};

/// Their names.
pub(crate) const OTHERS: [&str; 2] = ["second", "third"];

/// What asks a member for everything that was committed on another one before.
pub(crate) const IN_STEP: &str = "SET SESSION group_replication_consistency = 'BEFORE'";

/// How the question about a COMMIT may be asked: what the session is told first.
pub(crate) const QUESTIONS: &[&str] = &["SELECT 1", IN_STEP];

/// How many rows keep a member busy. A server that joins the group has to do all of it as well.
pub(crate) const LARGE: i64 = 1 << 14;

/// For how many keys two members compete.
pub(crate) const KEYS: u32 = 60;

/// A group that is in order, for this test alone or for several that change nothing of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    urls: [String; 2],
    _turn: Turn,
}

/// Which members take writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primaries {
    Single,
    Multi,
}

/// Whether this is how a group says that it did not commit a transaction, because of another one on another member.
pub(crate) fn is_refusal(fault: Fault) -> bool {
    let codes = [1030, 1180, 1213, 1242, 3101].map(|errno| Some(Code::Errno(errno)));
    fault.class().is_transient() && codes.contains(&fault.code())
}

fn connect(url: &str) -> QueryResult<MysqlConnection> {
    let conn = MysqlConnection::establish(url);
    conn.map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))
}

fn try_number(url: &str, what: &str) -> QueryResult<i64> {
    let row: Number = sql_query(format!("SELECT {what} AS n")).get_result(&mut connect(url)?)?;
    Ok(row.n)
}

/// A member is told something.
pub(crate) fn tell(url: &str, sql: &str) {
    let done = connect(url).and_then(|mut conn| conn.batch_execute(sql));
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

const MEMBERS: &str = "FROM performance_schema.replication_group_members WHERE member_state =";

/// How many members this one knows that are in this state.
fn count(url: &str, state: &str) -> i64 {
    try_number(url, &format!("(SELECT count(*) {MEMBERS} '{state}')")).unwrap_or(0)
}

fn is_in_state(url: &str, state: &str) -> bool {
    let own = format!("(SELECT count(*) {MEMBERS} '{state}' AND member_id = @@server_uuid)");
    answers(url, &own)
}

fn has_members(number: i64) -> bool {
    count(&server_url(), "ONLINE") == number
}

/// Whether a member says that this is so.
pub(crate) fn answers(url: &str, what: &str) -> bool {
    try_number(url, what) == Ok(1)
}

/// Whether a member takes writes.
fn takes_writes(url: &str) -> bool {
    answers(url, "@@GLOBAL.read_only = 0")
}

/// For how many seconds a member has agreed on nothing with the others.
fn silence(url: &str) -> i64 {
    let since = "(SELECT TIMESTAMPDIFF(SECOND, VARIABLE_VALUE, UTC_TIMESTAMP(6)) FROM performance_schema.global_status \
                 WHERE VARIABLE_NAME = 'Gr_last_consensus_end_timestamp')";
    try_number(url, since).expect("a member")
}

/// After so many seconds without a majority a member leaves the group.
const LEAVES_AFTER: &str = "SET GLOBAL group_replication_unreachable_majority_timeout =";

/// The first member waits for ever without a majority.
#[derive(Debug)]
pub(crate) struct Waits;

impl Drop for Waits {
    fn drop(&mut self) {
        tell(&server_url(), &format!("{LEAVES_AFTER} 2"));
    }
}

/// Makes the first member the group, if it has left it.
fn bootstrap() {
    let first = &server_url();
    if !is_in_state(first, "ONLINE") {
        tell(
            first,
            "STOP GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = ON; \
             START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = OFF; \
             SET GLOBAL offline_mode = OFF",
        );
    }
    eventually("the first member is the group", || takes_writes(first));
}

fn start_others() -> [String; 2] {
    std::thread::scope(|scope| {
        OTHERS
            .map(|name| scope.spawn(|| members::start(name)))
            .map(|started| started.join().expect("no panic"))
            .map(|started| started.unwrap_or_else(|log| panic!("{log}")))
    })
}

fn set_primaries(primaries: Primaries) {
    let first = &server_url();
    let is_single = answers(first, "@@group_replication_single_primary_mode");
    let call = match (is_single, primaries) {
        (true, Primaries::Multi) => "group_replication_switch_to_multi_primary_mode()",
        (false, Primaries::Single) => {
            "group_replication_switch_to_single_primary_mode(@@server_uuid)"
        }
        (true, Primaries::Single) => "group_replication_set_as_primary(@@server_uuid)",
        (false, Primaries::Multi) => return,
    };
    tell(first, &format!("SELECT {call}"));
    eventually("the first member takes writes", || takes_writes(first));
}

/// What the tests share.
struct Shared {
    /// How many use the group; -1: one does alone.
    users: i32,
    urls: Option<[String; 2]>,
    primaries: Primaries,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    users: 0,
    urls: None,
    primaries: Primaries::Single,
});

/// The right to use the group.
#[derive(Debug)]
struct Turn;

impl Turn {
    /// Waits for it, and sees to it that the group is in order.
    fn take(primaries: Primaries, is_alone: bool) -> (Self, [String; 2]) {
        blocking(|| {
            loop {
                let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
                let joins = shared.users > 0 && !is_alone && shared.primaries == primaries;
                if joins || shared.users == 0 {
                    if shared.users == 0 {
                        shared.prepare(primaries);
                    }
                    shared.users = if is_alone { -1 } else { shared.users + 1 };
                    let urls = shared.urls.clone().expect("two URLs");
                    return (Self, urls);
                }
                drop(shared);
                sleep(Duration::from_millis(20));
            }
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.users = (shared.users - 1).max(0);
    }
}

impl Shared {
    /// Puts the group in order, whatever the test before has left.
    fn prepare(&mut self, primaries: Primaries) {
        bootstrap();
        match &self.urls {
            Some(urls) if has_members(3) && urls.iter().all(|url| is_in_state(url, "ONLINE")) => {}
            _ => self.urls = Some(start_others()),
        }
        eventually("three members", || has_members(3));
        set_primaries(primaries);
        self.primaries = primaries;
    }
}

impl Cluster {
    /// For tests that change nothing of the group, several at a time: all members take writes. The URL is that of
    /// another member than the one under test.
    pub(crate) fn of_two_nodes() -> (Self, String) {
        let (turn, urls) = Turn::take(Primaries::Multi, false);
        let second = urls[0].clone();
        (Self { urls, _turn: turn }, second)
    }

    /// For one test.
    pub(crate) fn alone(primaries: Primaries) -> Self {
        let (turn, urls) = Turn::take(primaries, true);
        Self { urls, _turn: turn }
    }

    /// Where the second and the third member are.
    pub(crate) const fn others(&self) -> &[String; 2] {
        &self.urls
    }

    /// Makes the second member the primary.
    pub(crate) fn move_primary(&self) {
        let second = &self.urls[0];
        let id: Word = connect(second)
            .and_then(|mut conn| sql_query("SELECT @@server_uuid AS s").get_result(&mut conn))
            .expect("the second member answers");
        let call = format!("SELECT group_replication_set_as_primary('{}')", id.s);
        tell(&server_url(), &call);
        eventually("the primary has moved", || takes_writes(second));
    }

    /// Starts one of the others anew.
    pub(crate) fn start(&self, name: &str) {
        members::start(name).unwrap_or_else(|log| panic!("{log}"));
    }

    /// Starts both of them anew.
    pub(crate) fn start_both(&self) {
        start_others();
    }

    /// Waits until the group has so many members.
    pub(crate) fn wait_for_members(&self, number: i64) {
        eventually("the members have found each other", || has_members(number));
    }

    /// Makes the first member the group, when it has noticed that the others are gone.
    pub(crate) fn force(&self) {
        let first = &server_url();
        eventually("the others are gone", || count(first, "UNREACHABLE") == 2);
        tell(
            first,
            "SET @members = @@group_replication_local_address; \
             SET GLOBAL group_replication_force_members = @members; \
             SET GLOBAL group_replication_force_members = ''",
        );
        self.wait_for_members(1);
    }

    /// Lets the first member wait for ever without a majority, as by default, until what is returned is dropped.
    pub(crate) fn wait_without_a_majority(&self) -> Waits {
        tell(&server_url(), &format!("{LEAVES_AFTER} 0"));
        Waits
    }

    /// Waits until the first member has agreed on nothing with the others for longer than it ever takes.
    pub(crate) fn wait_for_silence(&self) {
        let first = &server_url();
        eventually("the others are silent", || silence(first) > 6);
    }

    /// Waits until three members agree again.
    pub(crate) fn wait_for_agreement(&self) {
        let first = &server_url();
        eventually("the members agree", || has_members(3) && silence(first) < 1);
    }

    /// Kills both others.
    pub(crate) fn kill_others() {
        for name in OTHERS {
            members::signal(name, Signal::KILL);
        }
    }
}

/// Members that are halted: they work again when this is dropped.
#[derive(Debug)]
pub(crate) struct Halted(Vec<&'static str>);

impl Halted {
    /// Halts these members.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        for name in names {
            members::signal(name, Signal::STOP);
        }
        Self(names.to_vec())
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        for name in &self.0 {
            members::signal(name, Signal::CONT);
        }
        // They can find themselves expelled later, so the next test gets new ones.
        SHARED.lock().unwrap_or_else(PoisonError::into_inner).urls = None;
    }
}
