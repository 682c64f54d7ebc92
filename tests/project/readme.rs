//! The tests that `README.md` names exist.

use std::path::Path;

#[test]
fn every_test_that_is_named_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(tests.join(path)).expect("the file is there");
    let readme = read("README.md");
    let mut elsewhere = Vec::new();
    for folder in [
        "mysql",
        "postgres",
        "sqlite",
        "soak",
        "galera",
        "../dbop-core/src",
    ] {
        collect(&tests.join(folder), &mut elsewhere);
    }
    let mut found = 0;
    for name in readme.split('`').skip(1).step_by(2) {
        let Some((file, test)) = name.split_once("::") else {
            continue;
        };
        let path = if file.contains('/') {
            format!("{file}.rs")
        } else {
            format!("scenarios/{file}.rs")
        };
        // A test of one of the crates, or of one backend.
        if !file.contains('/') && !tests.join(&path).exists() {
            let test = test.rsplit("::").next().unwrap_or(test);
            // What is not in lower case is a type of the API.
            let is_none = test == "tests" || file.starts_with(|first: char| first.is_uppercase());
            let is_test = |text: &String| text.contains(&format!("fn {test}("));
            assert!(is_none || elsewhere.iter().any(is_test), "{name}");
            continue;
        }
        assert!(read(&path).contains(&format!("fn {test}(")), "{name}");
        found += 1;
    }
    assert!(found > 80, "only {found} names recognised");
}

/// The texts of the Rust files in a folder and the folders in it.
fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).expect("a text"));
        }
    }
}
