//! The tests that `README.md` and `EVIDENCE.md` name exist, and all scenarios are run.

use std::path::{Path, PathBuf};

const TARGETS: [&str; 6] = [
    "postgres/main.rs",
    "mysql/main.rs",
    "sqlite/main.rs",
    "asynchronous/postgres.rs",
    "asynchronous/mysql.rs",
    "asynchronous/sqlite.rs",
];

#[test]
fn every_test_that_is_named_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut elsewhere = Vec::new();
    for folder in [
        "mysql",
        "postgres",
        "sqlite",
        "soak",
        "galera",
        "group",
        "refused",
        "../dbop-core/src",
    ] {
        elsewhere.extend(files(&tests.join(folder)).iter().map(|file| read(file)));
    }
    let mut found = 0;
    let pages = ["README.md", "EVIDENCE.md"].map(|page| read(&tests.join(page)));
    for name in pages
        .iter()
        .flat_map(|page| page.split('`').skip(1).step_by(2))
    {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !file.contains('/') {
            // A test of one of the crates, or of one backend.
            let test = test.rsplit("::").next().unwrap_or(test);
            // What is not in lower case is a type of the API.
            let is_none = matches!(test, "" | "tests") || file.starts_with(char::is_uppercase);
            let is_test = |text: &String| text.contains(&format!("fn {test}("));
            let scenario = tests.join(format!("scenarios/{file}.rs"));
            let is_there =
                || elsewhere.iter().any(is_test) || scenario.exists() && is_test(&read(&scenario));
            assert!(is_none || is_there(), "{name}");
        } else if file.split('/').all(|part| part.chars().all(is_word)) && !file.ends_with('/') {
            let scenario = format!("scenarios/{file}.rs");
            let paths = [
                &scenario,
                &format!("{file}.rs"),
                file,
                &format!("../{file}"),
            ];
            let mut paths = paths.iter().map(|path| tests.join(path));
            let path = paths.find(|path| path.exists());
            let path = path.unwrap_or_else(|| panic!("{name}"));
            assert!(
                test.is_empty() || read(&path).contains(&format!("fn {test}(")),
                "{name}"
            );
            found += 1;
        }
    }
    assert!(found > 100, "only {found} names recognised");
}

/// A file that no list of modules contains is not even compiled.
#[test]
fn every_scenario_is_in_a_list() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = TARGETS.map(|target| read(&tests.join(target))).concat();
    for file in files(&tests.join("scenarios")) {
        let name = file.file_stem().expect("a name").to_string_lossy();
        let list = file.with_file_name("mod.rs");
        let list = if list.exists() {
            read(&list)
        } else {
            String::new()
        };
        let is_listed = |list: &str| list.contains(&format!("mod {name};"));
        let is_path = || {
            let path = file.strip_prefix(tests.join("scenarios")).expect("inside");
            let lists = files(&tests.join("scenarios"));
            let path = format!("\"../{}\"", path.display());
            lists.iter().any(|list| read(list).contains(&path))
        };
        assert!(
            name == "mod" || is_listed(&list) || is_listed(&targets) || is_path(),
            "{}",
            file.display()
        );
    }
}

/// The Rust files in a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text")
}
