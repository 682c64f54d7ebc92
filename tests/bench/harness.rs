//! The harness: cases of work, each beside its partner, block after block.

#![allow(
    clippy::duplicate_mod,
    reason = "the clients' work is written once, for every backend and both adapters"
)]
#![allow(clippy::print_stdout, reason = "it tells what it has measured")]

use std::process::Command;

use crate::storm::{self, Outcome};
use options::{Asked, Options};

mod backends;
mod build;
mod cases;
mod chart;
mod compare;
mod interval;
mod options;
mod page;
mod processor;
pub(crate) mod record;
mod verdicts;

/// Does what the arguments say; `--help` lists them.
///
/// # Errors
///
/// If the arguments are wrong, if a server does not answer, if an operation fails, or if what it was to
/// write is not there.
pub(crate) fn run(arguments: impl IntoIterator<Item = String>) -> Outcome<()> {
    let mut arguments: Vec<String> = arguments.into_iter().collect();
    if let Some(port) = options::take_port(&mut arguments)? {
        return on_port(port, &arguments);
    }
    match options::read(arguments)? {
        Asked::Help => println!("{}", options::HELP),
        Asked::List => list(),
        Asked::Contention(arguments) => storm::run(arguments)?,
        Asked::Expect(options) => println!("{:.0}", compare::expected(&options)?.as_secs_f64()),
        Asked::Measure(options) => measure(&options)?,
        Asked::Render(results, docs) => page::render(&results, &docs)?,
    }
    Ok(())
}

fn list() {
    for case in cases::CASES {
        println!("{:14}{:14}{}", case.name, case.partner, case.about);
    }
}

/// The beds find their server in the environment, so another port is another process.
fn on_port(port: u16, arguments: &[String]) -> Outcome<()> {
    let url = std::env::var("DBOP_TEST_URL").map_err(|_| "--port needs a DBOP_TEST_URL")?;
    let status = Command::new(std::env::current_exe()?)
        .env("DBOP_TEST_URL", options::with_port(&url, port)?)
        .args(arguments)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the run on port {port} has failed").into())
    }
}

fn measure(options: &Options) -> Outcome<()> {
    for connections in &options.connections {
        let mut place = compare::Place::new(options, *connections)?;
        for pair in options.pairs_of_cases()? {
            let line = serde_json::to_string(&place.compare(pair, options)?)?;
            println!("{line}");
            if let Some(file) = &options.out {
                record::append(file, &line)?;
            }
        }
    }
    Ok(())
}
