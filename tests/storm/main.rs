//! Storms: many clients on a few rows, under one policy of retries after another. `tests/run.sh storm` starts the
//! servers and measures everything. `--help` says what can be asked for:
//!
//! ```sh
//! cargo run --release -p dbop-tests --features sqlite --example storm -- --help
//! ```
//!
//! On servers it needs their features too: `--features postgres,mysql,sqlite`.

use std::process::ExitCode;

#[path = "harness.rs"]
mod storm;

fn main() -> ExitCode {
    match storm::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storm: {error}");
            ExitCode::FAILURE
        }
    }
}
