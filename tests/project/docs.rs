//! What the documentation quotes is what there is.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dbop_diesel::{Dialect, Ledger};

fn words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace("( ", "(")
}

/// A file, by its path from the root of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages with charts, which are in the folder in `docs/` of the same name.
const WITH_CHARTS: [&str; 2] = ["cost", "storms"];

/// The names of the pages in `docs/`, without `.md`.
fn pages() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        // Beside the pages there are the dashboard of one of them and the charts of others.
        let page = name.strip_suffix(".md");
        assert!(
            page.is_some() || name == "grafana-dashboard.json" || WITH_CHARTS.contains(&name),
            "{name}"
        );
        page.map(str::to_owned)
    };
    entries.filter_map(name).collect()
}

/// The targets of all links in a page, but those to the web.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let inline = page.split("](").skip(1);
    let inline = inline.filter_map(|rest| rest.split_once(')'));
    let definitions = page.lines().filter_map(|line| {
        let (_, target) = line.strip_prefix('[')?.split_once("]: ")?;
        Some(target)
    });
    inline
        .map(|(target, _)| target)
        .chain(definitions)
        .filter(|target| !target.starts_with("http"))
}

/// What a forge makes of a heading, to link to it.
fn anchors(page: &str) -> BTreeSet<String> {
    // Every second part is a block of code, where a line with a `#` is a comment.
    let texts = page.split("\n```").step_by(2);
    let headings = texts
        .flat_map(str::lines)
        .filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let text = text.replace(' ', "-");
        text.chars()
            .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect()
    };
    headings.map(anchor).collect()
}

/// All pages of the repository, by their paths from its root.
fn pages_everywhere() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
    ];
    // The checkout may belong to another user, as in a container.
    let git = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(files)
        .current_dir(&root)
        .output();
    match git {
        Ok(listed) if listed.status.success() => {
            let names = String::from_utf8(listed.stdout).expect("UTF-8");
            let names = names.split_terminator('\0').map(String::from);
            names.filter(|name| root.join(name).is_file()).collect()
        }
        _ => pages_below(&root, ""),
    }
}

/// Without git: those that are not in a hidden folder or in cargo's.
fn pages_below(root: &Path, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(folder)).expect("the folder is there") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = format!("{folder}{name}");
        // A link shows a folder a second time.
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(pages_below(root, &format!("{path}/")));
        } else if kind.is_file() && name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_page_about_unknown_outcomes_has_the_tables_for_migrations() {
    let page = words(&read("docs/unknown-outcome.md"));
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        let sql = Ledger::new().create_table(dialect);
        assert!(!sql.is_empty());
        assert!(page.contains(&words(&sql)), "{sql}");
    }
}

#[test]
fn the_page_about_keys_has_the_statements_that_forget() {
    let page = read("docs/idempotency.md");
    let week = Duration::from_secs(7 * 86_400);
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        let sql = Ledger::new().forget(dialect, week, 10_000);
        assert!(page.contains(&sql), "{sql}");
    }
}

#[test]
fn the_page_about_settings_has_the_table_of_the_readme() {
    let readme = read("README.md");
    let page = read("docs/settings.md");
    let is_of_the_table = |line: &&str| line.starts_with("| ") && line.matches('|').count() == 6;
    let rows: Vec<_> = readme.lines().filter(is_of_the_table).collect();
    assert_eq!(rows.len(), 11, "{rows:#?}");
    for row in rows {
        assert!(page.lines().any(|line| line == row), "{row}");
    }
}

#[test]
fn the_page_about_limits_names_the_tested_servers() {
    let page = words(&read("docs/limits.md"));
    let versions = read("tests/servers/versions");
    let servers = versions.lines().filter(|line| !line.starts_with('#'));
    let mut found = 0;
    for server in servers.filter(|line| !line.is_empty()) {
        let version = server.split_whitespace().nth(1).expect("a version");
        let tested = page.split("dbop is tested on").nth(1).expect("a sentence");
        let sentence = tested.split("Error codes").next().expect("its end");
        assert!(sentence.contains(version), "{server}: {sentence}");
        found += 1;
    }
    assert!(found > 2, "{versions}");
}

/// On docs.rs as well as here: each page is a module of dbop-diesel, and its examples are compiled
/// and run.
#[test]
fn every_page_is_a_guide_and_a_doctest() {
    let guide = read("dbop-diesel/src/guide.rs");
    let doctests = read("tests/support/lib.rs");
    for page in pages() {
        assert!(guide.contains(&format!("\"../docs/{page}.md\"")), "{page}");
        let include = format!("\"../../docs/{page}.md\"");
        assert!(doctests.contains(&include), "{page}");
    }
}

/// Each chart is shown: one that a later measurement does not make again is left over.
#[test]
fn every_chart_is_on_its_page() {
    for name in WITH_CHARTS {
        let page = read(&format!("docs/{name}.md"));
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        // Nothing need have been measured yet.
        for entry in std::fs::read_dir(docs.join(name)).into_iter().flatten() {
            let chart = entry.expect("an entry").file_name();
            let link = format!("({name}/{})", chart.to_str().expect("UTF-8"));
            assert!(page.contains(&link), "{link}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names = pages_everywhere();
    for expected in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/limits.md",
        "tests/README.md",
    ] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    let mut found = 0;
    for name in names {
        let page = read(&name);
        let folder = Path::new(&name).parent().expect("a folder");
        for link in links(&page) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = folder.join(path);
            let is_there = match (path, anchor) {
                (_, "") => root.join(target).exists(),
                ("", _) => anchors(&page).contains(anchor),
                _ => anchors(&read(target.to_str().expect("UTF-8"))).contains(anchor),
            };
            assert!(is_there, "{name}: {link}");
            found += 1;
        }
    }
    assert!(found > 40, "only {found} links recognised");
}
