//! Storms: many clients on a few rows, under one policy of retries after another. `run.sh` in this
//! folder starts the servers; `--help` says what can be asked for.

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
