//! The tests that `README.md` names exist.

use std::path::Path;

#[test]
fn every_test_that_is_named_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(tests.join(path)).expect("the file is there");
    let readme = read("README.md");
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
        // A test of one of the crates.
        if !file.contains('/') && !tests.join(&path).exists() {
            continue;
        }
        assert!(read(&path).contains(&format!("fn {test}(")), "{name}");
        found += 1;
    }
    assert!(found > 80, "only {found} names recognised");
}
