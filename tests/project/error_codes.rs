//! Of each error code that dbop-core knows, `EVIDENCE.md` says whether a server has produced it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

const SECTION: &str = "## Errors: provoked, raised, or only a row";

type Codes = BTreeSet<String>;

/// A file, by its path from the root of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).expect(start);
    rest.split_once(end).expect(end).0
}

fn range(text: &str, dots: &str) -> Option<RangeInclusive<u32>> {
    let text = text.trim();
    let (first, last) = text.split_once(dots).unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// The numbers in the patterns of a `match`.
fn of_patterns(arms: &str) -> impl Iterator<Item = String> {
    let lines = arms
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    let patterns = lines.filter_map(|line| Some(line.split_once("=>")?.0));
    let ranges = patterns.flat_map(|pattern| pattern.split('|'));
    let ranges = ranges.filter_map(|pattern| range(pattern, "..="));
    ranges.flatten().map(|number| number.to_string())
}

/// What is between these two texts in each line.
fn in_rows(rows: &str, start: &str, end: &str) -> impl Iterator<Item = String> {
    let rows = rows.lines().filter(|line| !line.trim().starts_with("//"));
    let rest = rows.filter_map(move |line| Some(line.rsplit_once(start)?.1));
    rest.filter_map(move |rest| Some(rest.split_once(end)?.0.to_owned()))
}

fn of_postgres() -> Codes {
    let names = read("dbop-core/src/fault/sqlstate.rs");
    let names = between(&names, "impl SqlState", "pub const fn new");
    let mut codes: Codes = in_rows(names, "Self(*b\"", "\")").collect();
    for file in ["messages", "others"] {
        let rows = read(&format!("dbop-core/src/fault/postgres/{file}.rs"));
        codes.extend(in_rows(&rows, "\", \"", "\", ").filter(|code| code.len() == 5));
    }
    codes
}

fn of_mysql() -> Codes {
    let class = read("dbop-core/src/fault/mysql.rs");
    let mut codes: Codes = of_patterns(between(&class, "match errno {", "1000..=1999")).collect();
    let rows = read("dbop-core/src/fault/mysql/messages.rs");
    codes.extend(in_rows(&rows, "Some(", ")"));
    codes
}

fn of_sqlite() -> Codes {
    let source = read("dbop-core/src/fault/sqlite.rs");
    let mut codes: Codes = of_patterns(between(&source, "match code {", "_ => Unknown")).collect();
    let rows = between(&source, "const TEXTS", "];");
    codes.extend(in_rows(rows, "\", ", ", "));
    codes
}

/// The rows of a server's table: the codes, how they came about, and by what or why not.
fn evidence(page: &str, server: &str) -> Vec<(Vec<String>, String, String)> {
    let (_, section) = page.split_once(SECTION).expect(SECTION);
    let (_, table) = section.split_once(server).expect(server);
    let table = table.split("\n#").next().unwrap_or(table);
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.trim_matches('|').split(" | ").collect::<Vec<_>>());
    let rows = cells
        .filter(|cells| cells[0].trim() != "codes")
        .map(|cells| {
            let [codes, how, reason] = cells[..] else {
                panic!("{cells:?}");
            };
            let codes = codes.split(',').flat_map(|code| match range(code, "-") {
                Some(range) if code.contains('-') => range.map(|it| it.to_string()).collect(),
                _ => vec![code.trim().to_owned()],
            });
            (codes.collect(), how.trim().to_owned(), reason.to_owned())
        });
    rows.collect()
}

/// A code of dbop-core's is in one row, and is in the tables of the tests if these are said to provoke it.
fn assert_told(server: &str, folder: &str, known: &Codes) {
    assert!(known.len() > 20, "only {known:?} recognised");
    let page = read("tests/EVIDENCE.md");
    let provoked = read(&format!("tests/scenarios/{folder}/provoked.rs"));
    let mut told = Codes::new();
    for (codes, how, reason) in evidence(&page, server) {
        let has_test = reason.contains('`');
        match how.as_str() {
            "provoked" | "raised" => assert!(has_test, "{server}, {codes:?}: no test"),
            how => assert_eq!(how, "only a row", "{server}, {codes:?}"),
        }
        for code in codes {
            let is_of_table = reason.contains(&format!("`{folder}/provoked`"));
            let is_there = provoked.contains(&format!("\"{code}\""));
            assert!(is_there || !is_of_table, "{server}: no row provokes {code}");
            assert!(told.insert(code.clone()), "{server}: {code} is told twice");
        }
    }
    let missing: Vec<_> = known.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "{server}: nothing is told of {missing:?}"
    );
    let unknown: Vec<_> = told.difference(known).collect();
    assert!(unknown.is_empty(), "{server}: dbop-core has no {unknown:?}");
}

#[test]
fn those_of_postgres_are_told() {
    assert_told("### PostgreSQL", "postgres", &of_postgres());
}

#[test]
fn those_of_mysql_and_mariadb_are_told() {
    assert_told("### MySQL and MariaDB", "mysql", &of_mysql());
}

#[test]
fn those_of_sqlite_are_told() {
    assert_told("### SQLite", "sqlite", &of_sqlite());
}
