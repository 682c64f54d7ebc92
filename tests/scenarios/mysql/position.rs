//! How far a server is. `soak_mysql` and `galera` read on replicas that are behind.

use super::server::is_on;
use super::{Bed, read_position, scenario};

/// Without a binary log nothing is numbered, so no replica could be asked for it.
#[scenario]
async fn a_server_without_a_binary_log_says_that_it_has_no_position() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let is_logged = is_on(&mut conn, "log_bin").await;
    match read_position(&mut conn).await {
        Ok(position) => {
            assert!(is_logged, "{position}");
            let later = read_position(&mut conn).await.expect("a position");
            assert!(later.covers(&position), "{later} {position}");
        }
        Err(error) => {
            assert!(!is_logged, "{error}");
            assert!(error.to_string().contains("no position"), "{error}");
        }
    }
}
