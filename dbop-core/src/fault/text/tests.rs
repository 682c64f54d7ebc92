use super::*;

const FORMATS: [(&str,); 14] = [
    ("savepoint \"%s\" does not exist",),
    ("*is locked",),
    ("row %1$s of %2$ld",),
    ("abcd*bcde",),
    ("open*",),
    ("open a *",),
    ("open a door",),
    ("four*x*y",),
    ("five*x*y*zz",),
    ("»*« wurde gesperrt",),
    ("abc",),
    ("%s%s ends here",),
    ("\"*\" and *last",),
    ("none",),
];

static TABLE: Table = table!(FORMATS);

fn format_of(text: &str) -> Option<&'static str> {
    let found = TABLE.find(text)?;
    Some(FORMATS[usize::from(found.meaning)].0)
}

#[test]
fn a_text_belongs_to_the_format_that_says_the_most() {
    for (text, format) in [
        ("savepoint \"a\" does not exist", 0),
        ("savepoint \"\" does not exist", 0),
        ("savepoint \"a\" does not exist\" does not exist", 0),
        ("table is locked", 1),
        ("row 1 of 2", 2),
        ("is locked", 1),
        ("abcdbcde", 3),
        ("abcd-bcde", 3),
        ("open", 4),
        ("open b", 4),
        ("open a ", 5),
        ("open a window", 5),
        ("open a door", 6),
        ("fourxy", 7),
        ("four-x-x-y", 7),
        ("five-y-x-y-x-zz", 8),
        ("»ü« wurde gesperrt", 9),
        ("abc", 10),
        (" ends here", 11),
        ("\"a\" and the last", 12),
        ("none", 13),
    ] {
        assert_eq!(format_of(text), Some(FORMATS[format].0), "{text}");
    }
}

#[test]
fn other_texts_belong_to_none() {
    for text in [
        "",
        "«ü« wurde gesperrt",
        "« wurde gesperrt",
        "a",
        "ab",
        "abcd",
        "abcde",
        "abcdbcd",
        "savepoint \"a\" does not exist.",
        "Savepoint \"a\" does not exist",
        "is locked!",
        "fouryx",
        "five-y-x-zz",
        "five-x-y-z",
        "nonea",
        "non",
        "\"a\" an last",
    ] {
        assert_eq!(format_of(text), None, "{text}");
    }
}

#[test]
fn what_follows_a_format_is_its_rest() {
    let rest = |text: &str| TABLE.find(text).map(|found| found.rest);
    assert_eq!(rest("open a window"), Some(7));
    assert_eq!(rest("open"), Some(4));
}

#[test]
fn of_several_names_the_first_one_of_the_list_counts() {
    let names = ["dbop_alive", "dbop_", "SAVEPOINT", "'dbop"];
    for (text, expected) in [
        ("SAVEPOINT dbop_alive", Some(0)),
        ("dbop_x and SAVEPOINT", Some(1)),
        ("no SAVEPOINT", Some(2)),
        ("'dbop'", Some(3)),
        ("dbo", None),
        ("", None),
    ] {
        assert_eq!(name_in(&names, text), expected, "{text}");
    }
}

/// Formats of which only a part between two values is long enough, as in translations.
const AROUND: [&str; 5] = [
    "\"%s\" 릴레이션 %s",
    "\"%s\" 릴레이션 %s 없음%s!",
    "\"%s) は %s 列%s。",
    "\"%s é=%s/",
    "\"%s\" 릴레이션 %s.",
];

/// A table of them, made as the generated ones are.
fn around() -> Table {
    let mut parts = vec![Part::new(0, 0); 64];
    let (mut rows, mut used) = (Vec::new(), 3);
    for (meaning, format) in (0..).zip(AROUND) {
        let compiled = compile(format, meaning, &mut parts, used);
        let (row, side, next) = compiled.expect("it has a part");
        assert!(matches!(side, Side::Inside), "{format}");
        rows.push(row);
        used = next;
    }
    rows.sort_by_key(Row::order);
    Table::new([&[], &[], &[], rows.leak()], parts.leak())
}

#[test]
fn a_format_is_found_by_a_part_between_two_values() {
    let table = around();
    for (text, expected) in [
        ("\"a\" 릴레이션 b", Some(0)),
        ("\"\" 릴레이션 ", Some(0)),
        ("\"a\" 릴레이션 \" 릴레이션 c", Some(0)),
        // The one that says more.
        ("\"a\" 릴레이션 b 없음c!", Some(1)),
        ("\"a\" 릴레이션 b 없음c", Some(0)),
        ("\"a\" 릴레이션 b.", Some(4)),
        ("\"é\") は b 列c。", Some(2)),
        ("\"é) は  列。", Some(2)),
        ("\"é) は 列。", None),
        ("\"a é=b/", Some(3)),
        // Without its first byte, its last one, or a part in between.
        ("a\" 릴레이션 b", None),
        ("x\"a\" 릴레이션 b", None),
        ("\"a é=b", None),
        ("\"a) は b。", None),
        ("\"a) は b 列c", None),
        ("\"a\" 릴레이션", None),
        ("\"é", None),
        ("\"a\" relation b", None),
    ] {
        let found = table.find(text).map(|found| found.meaning);
        assert_eq!(found, expected, "{text}");
    }
    // Where the last part ends before the value behind it.
    let text = "\"a\" 릴레이션 b";
    let found = table.find(text).expect("it fits");
    assert_eq!(&text[found.rest..], "b");
}

#[test]
fn a_whole_text_is_known_by_its_meaning() {
    assert!(TABLE.is_whole("open a door", 6));
    assert!(!TABLE.is_whole("open a door", 10));
    assert!(!TABLE.is_whole("open a dooR", 6));
    assert!(!TABLE.is_whole("abc", 6));
    assert!(TABLE.is_whole("abc", 10));
}
