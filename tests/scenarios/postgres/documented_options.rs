//! The connection options that `docs/unknown-outcome.md` recommends have the effect that it names, in
//! the units that each client counts in.

use std::time::Duration;

use dbop_tests::proxy::Proxy;
use dbop_tests::socket::{Keepalives, keepalives};

use super::money::balance;
use super::{Bed, Conn, Connection as _, MODE, scenario};

const PAGE: &str = include_str!("../../../docs/unknown-outcome.md");

/// What gives up a dead server in about the 25 seconds of the page.
const NOTICES: Keepalives = Keepalives {
    idle: Duration::from_secs(10),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::from_secs(25),
};

#[scenario]
async fn those_that_notice_a_dead_server() {
    let heading = match MODE {
        "sync" => "# PgConnection",
        _ => "# AsyncPgConnection",
    };
    let mut lines = PAGE.lines().skip_while(|line| !line.starts_with(heading));
    let example = lines.nth(1).expect("an example");
    let (_, options) = example.split_once('?').expect("options");
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let url = format!("{}&{options}", proxy.url());
    let mut conn = Conn::establish(&url).await.expect("they are known");
    assert_eq!(balance(&mut conn, 1).await, Ok(100));
    assert_eq!(keepalives(proxy.port()), Some(NOTICES));
}
