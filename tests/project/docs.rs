//! What the documentation quotes is what there is.

use std::path::Path;

use dbop_diesel::{Dialect, Ledger};

fn words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace("( ", "(")
}

#[test]
fn the_page_about_unknown_outcomes_has_the_tables_for_migrations() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/unknown-outcome.md");
    let page = words(&std::fs::read_to_string(page).expect("the page is there"));
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let sql = Ledger::create_table(dialect);
        assert!(!sql.is_empty());
        assert!(page.contains(&words(sql)), "{sql}");
    }
}
