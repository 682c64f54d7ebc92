//! A proxy that understands what goes through it: it counts the round trips between a client and
//! its server, and cuts the wire at an exact point.
//!
//! ```no_run
//! use dbop_tests::proxy::{Cut, Proxy, When};
//!
//! let proxy = Proxy::start("postgres://postgres@127.0.0.1:5432/dbop");
//! let cut = proxy.cut(When::commit(), Cut::AnswerLost);
//! // A client of `proxy.url()` commits, and does not get to know it.
//! cut.wait_until_finished();
//! assert_eq!(proxy.cuts_made(), 1);
//! ```

use std::sync::Arc;

pub use dialog::{Action, Dialog, End, Request, Response, Turn};
pub use plan::{Cut, Planned, Until, When};

use door::Door;
use shared::Shared;

mod connection;
mod dialog;
mod door;
mod mysql;
mod pipe;
mod plan;
mod postgres;
mod shared;

/// Whose protocol a proxy understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's.
    Postgres,
    /// That of MySQL and MariaDB.
    Mysql,
}

/// A proxy on a port of its own. It talks without encryption and without compression. It lives on
/// threads of its own, so it does not matter whether the test is asynchronous. When it is dropped,
/// everything is closed.
///
/// # Exactness
///
/// What a cut promises, it keeps, or the drop of the proxy panics: an answer that came before a
/// [cut in the middle](Cut::MidStatement), a message that is none of the protocol.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    door: Door,
}

impl Proxy {
    /// One to the server of this URL, whose scheme tells the protocol.
    ///
    /// # Panics
    ///
    /// If the URL is not one of a server, with host and port, or there is no free port.
    #[must_use]
    pub fn start(server_url: &str) -> Self {
        let (scheme, rest) = server_url.split_once("://").expect("scheme://");
        let protocol = match scheme {
            "postgres" | "postgresql" => Protocol::Postgres,
            "mysql" => Protocol::Mysql,
            other => panic!("no protocol of a server: {other}"),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let shared = Arc::<Shared>::default();
        let door = Door::new(protocol, server, shared.clone());
        door.open();
        let at = if user.is_empty() { "" } else { "@" };
        let url = format!("{scheme}://{user}{at}{}{path}", door.address());
        Self { url, shared, door }
    }

    /// The URL of the server, but through the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port, on which nothing else listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.door.address().port()
    }

    /// How often a client has asked for something and the server has answered to the end, since the
    /// last [`reset`](Self::reset), logins not counted.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        self.shared.lock().round_trips
    }

    /// How much was sent in passing, while no client waits: what is the last word (`Terminate`,
    /// `COM_QUIT`), and statements that are closed (`COM_STMT_CLOSE`; a `Close` and its `Sync`).
    /// Some of it can come after a [`reset`](Self::reset) though it was sent before.
    #[must_use]
    pub fn asides(&self) -> u32 {
        self.shared.lock().asides
    }

    /// What clients have sent since the last [`reset`](Self::reset), logins and
    /// [asides](Self::asides) left out: `Query: BEGIN`, `COM_SET_OPTION`. A cut stands after its
    /// message.
    #[must_use]
    pub fn conversation(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// Forgets what was sent, and counts from zero again. Plans stay.
    pub fn reset(&self) {
        let mut state = self.shared.lock();
        state.lines.clear();
        (state.round_trips, state.asides) = (0, 0);
    }

    /// Plans a cut. If a message is one for several, the first plan is carried out.
    pub fn cut(&self, when: When, cut: Cut) -> Planned {
        Planned {
            number: self.shared.plan(when, cut),
            shared: self.shared.clone(),
        }
    }

    /// How many cuts clients could have noticed so far. A client that has noticed one finds it
    /// counted.
    #[must_use]
    pub fn cuts_made(&self) -> u32 {
        self.shared.lock().cuts
    }

    /// How many connections there have been so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Lets everything go on that has [stalled](Cut::Stall).
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Whether new connections are refused, as by a server that is down. The open ones stay.
    ///
    /// # Panics
    ///
    /// If nobody can listen any more.
    pub fn refuse(&self, refuses: bool) {
        if refuses {
            self.door.close();
        } else {
            self.door.open();
        }
    }

    /// Closes all connections that are open now.
    ///
    /// # Panics
    ///
    /// If that takes more than ten seconds.
    pub fn cut_all(&self) {
        self.shared.close_all();
    }

    /// Whether clients see a reset instead of an EOF when their connection is closed.
    pub fn reset_connections(&self, resets: bool) {
        self.shared.lock().resets = resets;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.door.close();
        self.shared.close_all();
        let is_well = self.door.join();
        let mishaps = std::mem::take(&mut self.shared.lock().mishaps);
        if !std::thread::panicking() {
            assert!(mishaps.is_empty(), "the proxy was not exact: {mishaps:?}");
            assert!(is_well, "a connection has panicked");
        }
    }
}
