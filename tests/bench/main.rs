//! What an operation costs, beside the same work in Diesel's own words. `tests/run.sh bench` starts the
//! servers, measures everything and renders `docs/cost.md`. `--help` says what can be asked for:
//!
//! ```sh
//! cargo run --release -p dbop-tests --features sqlite --example bench -- --help
//! ```
//!
//! On servers it needs their features too: `--features postgres,mysql,sqlite`.

#![allow(
    clippy::duplicate_mod,
    reason = "the clients' work is written once, for every backend and both adapters"
)]

use std::process::ExitCode;

#[path = "harness.rs"]
mod bench;
#[path = "../storm/harness.rs"]
mod storm;

fn main() -> ExitCode {
    match bench::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
