//! The public names of the published crates are those of `public_names/`, so that a change of them is
//! seen in review. rustdoc lists them: everything but what is hidden from the documentation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const CRATES: [&str; 3] = ["dbop-core", "dbop-diesel", "dbop-diesel-async"];

const WRITE: &str = "DBOP_WRITE_DOCS=1 cargo test -p dbop-tests --features sqlite --test project \
                     public_names";

#[test]
fn public_names_are_those_of_the_lists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.expect("it is in the target folder");
    document(target);
    let mut changes = String::new();
    for name in CRATES {
        let list = tests.join(format!("project/public_names/{name}.txt"));
        let names = names(&target.join("doc").join(name.replace('-', "_")));
        if std::env::var_os("DBOP_WRITE_DOCS").is_some() {
            let lines: String = names.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(&list, lines).expect("the list can be written");
            continue;
        }
        let listed = std::fs::read_to_string(&list).expect("the list is there");
        let listed: BTreeSet<String> = listed.lines().map(String::from).collect();
        for gone in listed.difference(&names) {
            _ = writeln!(changes, "{name}: - {gone}");
        }
        for new in names.difference(&listed) {
            _ = writeln!(changes, "{name}: + {new}");
        }
    }
    assert!(
        changes.is_empty(),
        "public names have changed:\n{changes}If that is meant, run\n{WRITE}"
    );
}

/// Documents the crates, with all their features.
fn document(target: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["doc", "--quiet", "--no-deps", "--all-features"]);
    cargo.args(CRATES.iter().flat_map(|name| ["--package", name]));
    cargo.arg("--target-dir").arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// The names of a crate by its documentation, as in `struct machine::Batch`. What it re-exports from
/// another crate is among them; what is not to be inlined is in a list of its own.
fn names(documentation: &Path) -> BTreeSet<String> {
    let read = |page| std::fs::read_to_string(documentation.join(page)).expect("the page is there");
    let (all, index) = (read("all.html"), read("index.html"));
    let items = values(&all, "<li><a href=\"").filter_map(item);
    let reexports = values(&index, "id=\"reexport.").map(|name| format!("use {name}"));
    let names: BTreeSet<_> = items.chain(reexports).collect();
    assert!(names.len() > 20, "rustdoc's pages are not understood");
    names
}

/// What comes after each place with this text, up to the next quotation mark.
fn values<'a>(page: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    let rests = page.split(before).skip(1);
    rests.filter_map(|rest| rest.split('"').next())
}

/// The item that a link such as `machine/struct.Batch.html` leads to.
fn item(link: &str) -> Option<String> {
    let (modules, page) = link.rsplit_once('/').unwrap_or(("", link));
    let (kind, name) = page.strip_suffix(".html")?.split_once('.')?;
    let mut path: Vec<&str> = modules.split('/').filter(|name| !name.is_empty()).collect();
    path.push(name);
    Some(format!("{kind} {}", path.join("::")))
}
