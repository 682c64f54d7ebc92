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
