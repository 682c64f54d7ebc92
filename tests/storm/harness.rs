//! The harness: cells of work and policies of retries, each pair for a few seconds.

#![allow(
    clippy::duplicate_mod,
    reason = "the clients' work is written once, for every backend and both adapters"
)]
#![allow(clippy::print_stdout, reason = "it tells what it has measured")]

use std::error::Error as StdError;
use std::process::Command;
use std::time::Duration;

use options::{Asked, Options};

pub(crate) mod backends;
mod cells;
pub(crate) mod chart;
mod client;
mod conduct;
mod options;
mod outage;
mod policies;
mod processes;
mod results;
pub(crate) mod tables;
mod tally;
mod verdicts;

/// What can go wrong is the end of the run.
pub(crate) type Outcome<T> = Result<T, Box<dyn StdError + Send + Sync>>;

/// Does what the arguments say; `--help` lists them.
///
/// # Errors
///
/// If the arguments are wrong, if a server does not answer, if a client is stuck, or if money was lost.
pub(crate) fn run(arguments: impl IntoIterator<Item = String>) -> Outcome<()> {
    match options::read(arguments)? {
        Asked::Help => println!("{}", options::HELP),
        Asked::List => list(),
        Asked::Render(options, folder) => tables::render(&options.out, &folder)?,
        Asked::Clients(job) => processes::answer(&job)?,
        Asked::Servers(urls, rest) => {
            for url in urls {
                on_server(&url, &rest)?;
            }
        }
        Asked::Expect(options) => println!("{:.0}", expected(&options)?.as_secs_f64()),
        Asked::Measure(options) => match options.outage {
            Some(length) => outage::measure(&options, length)?,
            None => measure(&options)?,
        },
    }
    Ok(())
}

fn list() {
    for cell in cells::CELLS {
        println!("cell    {:24}{}", cell.name, cell.about);
    }
    for policy in policies::POLICIES {
        println!("policy  {:24}{}", policy.name, policy.about);
    }
}

/// The beds find their server in the environment, so each server gets a process.
fn on_server(url: &str, rest: &[String]) -> Outcome<()> {
    let mut command = again()?;
    match url {
        "sqlite" => command.args(["--servers", url]),
        _ => command.env("DBOP_TEST_URL", url),
    };
    let status = command.args(rest).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the run on {url} has failed").into())
    }
}

/// This program once more. The benchmark program needs the word for the storms in front.
fn again() -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let word = std::env::args().nth(1);
    command.args(word.filter(|word| word == "contention"));
    Ok(command)
}

/// How long it takes to measure this, about.
fn expected(options: &Options) -> Outcome<Duration> {
    if let Some(length) = options.outage {
        return outage::expected(options, length);
    }
    let runs = options.cells()?.len() * options.clients.len() * options.policies()?.len();
    // The rows and the connections are new each time, and someone waits for a lock in the end.
    let each = options.seconds + Duration::from_millis(700);
    Ok(each * u32::try_from(runs * options.repeat)?)
}

fn measure(options: &Options) -> Outcome<()> {
    for cell in options.cells()? {
        for clients in &options.clients {
            for policy in options.policies()? {
                for number in 0..options.repeat {
                    let result = conduct::conduct(cell, policy, *clients, number, options)?;
                    match options.is_json {
                        true => println!("{}", serde_json::to_string(&result)?),
                        false => println!("{}", result.line()),
                    }
                    results::append(&options.out, &result)?;
                }
            }
        }
    }
    Ok(())
}
