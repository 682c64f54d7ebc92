//! The connection options that `docs/unknown-outcome.md` recommends are known to the clients, which
//! refuse others.

use super::money::balance;
use super::{Bed, Conn, Connection as _, MODE, scenario};

const PAGE: &str = include_str!("../../docs/unknown-outcome.md");

#[scenario]
async fn those_that_notice_a_dead_server() {
    let heading = match MODE {
        "sync" => "# PgConnection",
        _ => "# AsyncPgConnection",
    };
    let mut lines = PAGE.lines().skip_while(|line| !line.starts_with(heading));
    let example = lines.nth(1).expect("an example");
    let (_, options) = example.split_once('?').expect("options");
    assert!(options.contains("tcp_user_timeout="), "{options}");
    let bed = Bed::new();
    let url = format!("{}&{options}", bed.url());
    let mut conn = Conn::establish(&url).await.expect("they are known");
    assert_eq!(balance(&mut conn, 1).await, Ok(100));
}
