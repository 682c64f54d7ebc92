//! What `docs/unknown-outcome.md` says about keepalives has the effect that it names.

use std::fs::read_to_string;

use dbop_tests::asynchronous::eventually;
use dbop_tests::mysql::Bed as SyncBed;
use dbop_tests::proxy::Proxy;
use diesel::Connection as _;
use diesel_async::AsyncConnection as _;

use super::money::balance;
use super::{Bed, Conn, SyncConn, run};

const PAGE: &str = include_str!("../../docs/unknown-outcome.md");

/// The kernel's word for a connection whose keepalive timer runs (proc(5)). While something has been
/// sent and not acknowledged, another timer does.
const KEEPALIVE: &str = "02";

fn port(proxy: &Proxy) -> u16 {
    let (_, port) = proxy.url().rsplit_once(':').expect("a port");
    let (port, _) = port.split_once('/').expect("a database");
    port.parse().expect("a number")
}

/// The kernel's word for a connection that is open. Others to a port can be left over from somebody
/// who had it before.
const OPEN: &str = "01";

/// The timers of the open connections to this port.
fn timers(port: u16) -> Vec<String> {
    let table = read_to_string("/proc/net/tcp").expect("Linux");
    let remote = format!(":{port:04X}");
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_open = |row: &Vec<&str>| row.get(3) == Some(&OPEN);
    rows.filter(is_open)
        .filter(|row| row.get(2).is_some_and(|address| address.ends_with(&remote)))
        .filter_map(|row| row.get(5)?.split(':').next().map(str::to_owned))
        .collect()
}

#[test]
fn that_which_notices_a_dead_server() {
    run(async {
        let row = PAGE
            .lines()
            .find(|line| line.starts_with("| `AsyncMysqlConnection`"));
        let mut parts = row.expect("a row").split('`').skip(3);
        let option = parts.next().expect("an option");
        assert!(option.starts_with('?'), "{option}");
        for (option, expected) in [("", "00"), (option, KEEPALIVE)] {
            let bed = Bed::new();
            let proxy = Proxy::start(bed.url());
            let url = format!("{}{option}", proxy.url());
            let mut conn = Conn::establish(&url).await.expect("it is known");
            assert_eq!(balance(&mut conn, 1).await, Ok(100));
            let port = port(&proxy);
            eventually("as documented", || timers(port) == [expected]).await;
        }
    });
}

#[test]
fn the_c_library_has_them_on() {
    let bed = SyncBed::new();
    let proxy = Proxy::start(bed.url());
    let conn = SyncConn::establish(proxy.url()).expect("a connection");
    let port = port(&proxy);
    dbop_tests::eventually("on", || timers(port) == [KEEPALIVE]);
    drop(conn);
}
