//! Writes dbop-core's table of PostgreSQL's messages in other languages: `just languages`.

use std::process::ExitCode;
use std::{fs, io};

use dbop_languages::catalog::{folders, read_all};
use dbop_languages::generate::Table;
use dbop_languages::{VERSIONS, messages};

fn main() -> io::Result<ExitCode> {
    let catalogs = read_all(&folders(), &VERSIONS)?;
    for version in VERSIONS {
        if !catalogs.iter().any(|catalog| catalog.version == version) {
            eprintln!("There are no catalogs of PostgreSQL {version}: nothing was written.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let table = Table::new(&catalogs, &messages());
    for problem in &table.problems {
        eprintln!("{problem}");
    }
    if !table.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../dbop-core/src/fault/postgres/languages.rs"
    );
    fs::write(path, table.source())?;
    eprintln!(
        "{} rows in {} languages",
        table.rows(),
        table.languages().len()
    );
    Ok(ExitCode::SUCCESS)
}
