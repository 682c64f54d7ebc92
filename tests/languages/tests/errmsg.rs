//! The table of MySQL's and MariaDB's messages against those that are on this machine.

use std::collections::BTreeSet;

use dbop_core::{Code, Dialect, ErrorKind, Fault, FaultClass, Reported};
use dbop_languages::errmsg::{SERVERS, folder, messages, parse, read_all};
use dbop_languages::generate::{Table, translations};
use dbop_languages::with_values;

/// dbop-core's table.
const SOURCE: &str = include_str!("../../../dbop-core/src/fault/mysql/languages.rs");

/// Values as they can be in a message.
const VALUES: [&str; 4] = ["x", "", "o'b \"c\" %s*", "Connection was killed"];

/// That of the host must be there; the others only where they have been fetched.
fn servers() -> Vec<&'static str> {
    let there: Vec<_> = SERVERS
        .into_iter()
        .filter(|server| folder(server).exists())
        .collect();
    assert!(
        there.contains(&SERVERS[0]),
        "no messages of {} in {}: the package mariadb-server-core brings them",
        SERVERS[0],
        folder(SERVERS[0]).display(),
    );
    there
}

#[test]
fn the_table_is_what_the_generator_makes() {
    let mut table = Table::default();
    let servers = servers();
    for server in &servers {
        let messages = messages(server).expect("messages");
        let catalogs = read_all(server, &messages).expect("messages");
        table.add_all(&catalogs, &messages.into_values().collect::<Vec<_>>());
    }
    assert_eq!(table.problems, Vec::<String>::new());
    if servers.len() == SERVERS.len() {
        let is_same = table.source("MySQL and MariaDB") == SOURCE;
        assert!(is_same, "run `just languages`");
        return;
    }
    eprintln!("Only rows are compared: there are only {servers:?}.");
    for hash in table.hashes() {
        let is_there = SOURCE.contains(&hash);
        assert!(is_there, "a row is missing: run `just languages`");
    }
}

#[test]
fn every_translation_is_recognised_like_the_english_message() {
    let mut count = 0;
    for server in servers() {
        let messages = messages(server).expect("messages");
        let catalogs = read_all(server, &messages).expect("messages");
        let messages: Vec<_> = messages.into_values().collect();
        for catalog in catalogs {
            for translation in translations(&catalog, &messages) {
                for value in VALUES {
                    let text = with_values(&translation.format, value);
                    let english = with_values(translation.message.english, value);
                    let label = format!("{server}, {}: {text}", catalog.language);
                    let (code, class) = recognize(&text);
                    assert_eq!(class, recognize(&english).1, "{label}");
                    // Some languages have an older message, which is another one in English by now.
                    if class != FaultClass::Constraint {
                        let errno = translation.message.code.parse().map(Code::Errno);
                        assert_eq!(code, errno.ok(), "{label}");
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(count > 3_000, "{count}");
}

/// Those that decide about a retry, or about a login that is refused.
#[test]
fn the_messages_that_decide_are_in_the_table() {
    let known: BTreeSet<_> = messages(SERVERS[0])
        .expect("messages")
        .into_values()
        .map(|message| message.code)
        .collect();
    for code in [
        "1020", "1040", "1044", "1045", "1049", "1053", "1062", "1129", "1130", "1135", "1156",
        "1158", "1159", "1180", "1203", "1205", "1206", "1213", "1226", "1290", "1317", "1412",
        "1451", "1452", "1613", "1614", "1615", "1637", "1698", "1792", "1836", "1927", "1969",
        "4025", "4060", "4151",
    ] {
        assert!(known.contains(code), "{code}");
    }
}

#[test]
fn no_other_message_is_taken_for_one_of_them() {
    let mut taken = BTreeSet::new();
    let mut count = 0;
    for server in servers() {
        let messages = messages(server).expect("messages");
        for language in std::fs::read_dir(folder(server)).expect("a folder") {
            let language = language.expect("a folder").path();
            let Ok(bytes) = std::fs::read(language.join("errmsg.sys")) else {
                continue;
            };
            for (errno, format) in parse(&bytes).expect("messages") {
                if messages.contains_key(&errno) || errno >= 5000 || format.starts_with('%') {
                    continue;
                }
                for value in VALUES {
                    count += 1;
                    let (code, class) = recognize(&with_values(&format, value));
                    let is_nothing = (code, class) == (None, FaultClass::Unknown);
                    // An older form of a message that is in the table as 1586.
                    let is_older = (errno, class) == (1062, FaultClass::Constraint);
                    if !is_nothing && !is_older {
                        taken.insert((errno, format.clone(), class.as_str()));
                    }
                }
            }
        }
    }
    assert!(count > 100_000, "{count}");
    assert!(taken.is_empty(), "{taken:#?}");
}

fn recognize(text: &str) -> (Option<Code>, FaultClass) {
    let fault = Fault::recognize(Dialect::Mysql, Reported::new(ErrorKind::Unknown, text));
    (fault.code(), fault.class())
}
