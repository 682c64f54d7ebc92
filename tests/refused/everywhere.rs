//! Both adapters, on connections from closures and from pools.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use dbop_diesel::FaultClass;
use dbop_tests::asynchronous::on_many_threads;
use dbop_tests::{Reluctant, eventually};
use diesel::connection::{Connection as _, SimpleConnection as _};

use crate::{Conn, from_async_closure, from_closure, from_deadpool, from_r2d2};

/// Something that happens while an operation waits.
pub(crate) type Happens = Arc<dyn Fn() + Send + Sync>;

/// A client that the server refuses, and what that has to be taken for.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) url: String,
    /// Nothing where no client can know: the same text has several, or it is the client's.
    pub(crate) code: &'static str,
    pub(crate) class: FaultClass,
}

impl Expected {
    pub(crate) const fn new(url: String, code: &'static str, class: FaultClass) -> Self {
        Self { url, code, class }
    }
}

static ALONE: Mutex<()> = Mutex::new(());

/// Keeps the other tests away from the server.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each is judged in each language, which `speak` makes the server speak. Returns how many different
/// texts the first one got.
pub(crate) fn each_is_judged_in(
    languages: &[&str],
    speak: impl Fn(&str),
    refused: &[Expected],
) -> usize {
    let mut spoken = BTreeSet::new();
    for (number, language) in languages.iter().enumerate() {
        speak(language);
        let refusal = Conn::establish(&refused[0].url).err();
        spoken.insert(refusal.expect("refused").to_string());
        // It tries again by itself until its time is up, so the other languages are for what matters.
        each_is_judged(refused, |expected| {
            number == 0 || expected.class == FaultClass::Permanent
        });
    }
    spoken.len()
}

/// What proxies say in front of a server: a code, a text, and what that has to be taken for. One of them
/// says nothing.
pub(crate) fn proxies_are_judged(url: &str, said: &[(&str, &str, FaultClass)]) {
    let silent = Reluctant::hang_up(url, u32::MAX);
    let proxies: Vec<_> = said
        .iter()
        .map(|(code, text, _)| Reluctant::start(url, u32::MAX, code, text))
        .collect();
    let classes = said.iter().map(|(.., class)| *class);
    let mut refused: Vec<_> = proxies
        .iter()
        .zip(classes)
        .map(|(proxy, class)| Expected::new(proxy.url().to_owned(), "", class))
        .collect();
    let hangs_up = Expected::new(silent.url().to_owned(), "", FaultClass::NotConnected);
    refused.push(hangs_up);
    each_is_judged(&refused, |_| true);
    assert!(proxies.iter().all(|proxy| proxy.refused() > 0));
}

fn each_is_judged(refused: &[Expected], by_r2d2: impl Fn(&Expected) -> bool) {
    thread::scope(|scope| {
        for expected in refused {
            let it = || expected.clone();
            if by_r2d2(expected) {
                scope.spawn(move || from_r2d2::connecting::it_is_judged(it()));
            }
            scope.spawn(move || from_closure::connecting::it_is_judged(it()));
            scope.spawn(move || {
                on_many_threads(from_async_closure::connecting::it_is_judged(it()));
            });
            scope.spawn(move || on_many_threads(from_deadpool::connecting::it_is_judged(it())));
        }
    });
}

/// `prepare` makes the server refuse, and returns what lets the operation in. A pool that tries again by
/// itself is left out, as it would be let in by its own attempt.
pub(crate) fn is_let_in_when(expected: &Expected, prepare: impl Fn() -> Happens) {
    from_closure::connecting::it_is_let_in_when(expected.clone(), prepare());
    on_many_threads(from_async_closure::connecting::it_is_let_in_when(
        expected.clone(),
        prepare(),
    ));
    on_many_threads(from_deadpool::connecting::it_is_let_in_when(
        expected.clone(),
        prepare(),
    ));
}

/// `prepare` makes the server refuse to write, and returns what makes it write again.
pub(crate) fn another_one_is_tried(expected: &Expected, prepare: impl Fn() -> Option<Happens>) {
    from_closure::connecting::another_one_is_tried(expected.clone(), prepare());
    from_r2d2::connecting::another_one_is_tried(expected.clone(), prepare());
    on_many_threads(from_async_closure::connecting::another_one_is_tried(
        expected.clone(),
        prepare(),
    ));
    on_many_threads(from_deadpool::connecting::another_one_is_tried(
        expected.clone(),
        prepare(),
    ));
}

/// `prepare` starts two servers, and returns what ends the first.
pub(crate) fn one_of_two_ends(prepare: impl Fn() -> ([String; 2], Happens)) {
    let (urls, end) = prepare();
    from_closure::nodes::one_of_them_ends(urls, end);
    let (urls, end) = prepare();
    from_r2d2::nodes::one_of_them_ends(urls, end);
    let (urls, end) = prepare();
    on_many_threads(from_async_closure::nodes::one_of_them_ends(urls, end));
    let (urls, end) = prepare();
    on_many_threads(from_deadpool::nodes::one_of_them_ends(urls, end));
}

/// The first of these takes no writes.
pub(crate) fn one_of_two_takes_no_writes(urls: &[String; 2]) {
    from_closure::nodes::one_of_them_takes_no_writes(urls.clone());
    from_r2d2::nodes::one_of_them_takes_no_writes(urls.clone());
    on_many_threads(from_async_closure::nodes::one_of_them_takes_no_writes(
        urls.clone(),
    ));
    on_many_threads(from_deadpool::nodes::one_of_them_takes_no_writes(
        urls.clone(),
    ));
}

/// An administrator changes something.
pub(crate) fn execute(admin: &Mutex<Conn>, sql: &str) {
    let mut admin = admin.lock().expect("no panic");
    admin.batch_execute(sql).expect("allowed to");
}

/// So many sessions, for which there is room as soon as those before have left.
pub(crate) fn fill(sessions: &Mutex<Vec<Conn>>, room: usize, url: &str) {
    let mut sessions = sessions.lock().expect("no panic");
    eventually("the server is full", || {
        sessions.extend(Conn::establish(url));
        sessions.len() == room
    });
}
