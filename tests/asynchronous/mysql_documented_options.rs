//! What `docs/unknown-outcome.md` says about keepalives has the effect that it names.

use std::time::Duration;

use dbop_tests::mysql::Bed as SyncBed;
use dbop_tests::proxy::Proxy;
use dbop_tests::socket::keepalives;
use diesel::Connection as _;
use diesel_async::AsyncConnection as _;

use super::money::balance;
use super::{Bed, Conn, SyncConn, run};

const PAGE: &str = include_str!("../../docs/unknown-outcome.md");

#[test]
fn that_which_notices_a_dead_server() {
    run(async {
        let row = PAGE
            .lines()
            .find(|line| line.starts_with("| `AsyncMysqlConnection`"));
        let mut parts = row.expect("a row").split('`').skip(3);
        let option = parts.next().expect("an option");
        assert!(option.starts_with('?'), "{option}");
        for (option, expected) in [("", None), (option, Some(Duration::from_secs(10)))] {
            let bed = Bed::new();
            let proxy = Proxy::start(bed.url());
            let url = format!("{}{option}", proxy.url());
            let mut conn = Conn::establish(&url).await.expect("it is known");
            assert_eq!(balance(&mut conn, 1).await, Ok(100));
            let idle = keepalives(proxy.port()).map(|keepalives| keepalives.idle);
            assert_eq!(idle, expected, "{option}");
        }
    });
}

/// Nothing in the URL is needed for it.
#[test]
fn the_c_library_has_them_on() {
    let bed = SyncBed::new();
    let proxy = Proxy::start(bed.url());
    let _conn = SyncConn::establish(proxy.url()).expect("the server answers");
    assert!(keepalives(proxy.port()).is_some());
}
