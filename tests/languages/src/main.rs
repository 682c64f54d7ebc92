//! Writes dbop-core's tables of the databases' messages in other languages: `just languages`.

use std::process::ExitCode;
use std::{fs, io};

use dbop_languages::catalog::{folders, read_all};
use dbop_languages::errmsg::SERVERS;
use dbop_languages::generate::Table;
use dbop_languages::{VERSIONS, errmsg, messages};

fn main() -> io::Result<ExitCode> {
    let catalogs = read_all(&folders(), &VERSIONS)?;
    for version in VERSIONS {
        if !catalogs.iter().any(|catalog| catalog.version == version) {
            eprintln!("There are no catalogs of {version}: nothing was written.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let postgres = Table::new(&catalogs, &messages());
    let mut mysql = Table::default();
    for server in SERVERS {
        let messages = errmsg::messages(server)?;
        let catalogs = errmsg::read_all(server, &messages)?;
        mysql.add_all(&catalogs, &messages.into_values().collect::<Vec<_>>());
    }
    let mut status = ExitCode::SUCCESS;
    for (table, whose, file) in [
        (postgres, "PostgreSQL", "postgres"),
        (mysql, "MySQL and MariaDB", "mysql"),
    ] {
        for problem in &table.problems {
            eprintln!("{problem}");
            status = ExitCode::FAILURE;
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dbop-core/src/fault");
        if table.problems.is_empty() {
            fs::write(format!("{folder}/{file}/languages.rs"), table.source(whose))?;
        }
        let (rows, languages) = (table.rows(), table.languages().len());
        eprintln!("{whose}: {rows} rows in {languages} languages");
    }
    Ok(status)
}
