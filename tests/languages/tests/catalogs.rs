//! The table against the catalogs that are on this machine.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use dbop_core::{Code, Dialect, ErrorKind, Fault, FaultClass, Reported, SqlState};
use dbop_languages::catalog::{Catalog, folders, read_all};
use dbop_languages::generate::{Table, Translation, first_line, translations};
use dbop_languages::{Domain, Message, Role, VERSIONS, messages, with_values};

/// dbop-core's table.
const SOURCE: &str = include_str!("../../../dbop-core/src/fault/postgres/languages.rs");

/// Values as they can be in a message: one that other messages could be made from, one with what
/// quotes, none, and one that is long.
const VALUES: [&str; 4] = [
    "deadlock detected",
    "o'b \"c\" »d« “e” %s*",
    "",
    "a_name_of_sixty_three_bytes_which_is_the_longest_that_there_is__",
];

/// Those of the host must be there, as its PostgreSQL is what the tests use; the newer ones only
/// where they have been fetched.
fn catalogs() -> &'static [Catalog] {
    static CATALOGS: OnceLock<Vec<Catalog>> = OnceLock::new();
    CATALOGS.get_or_init(|| {
        let catalogs = read_all(&folders(), &VERSIONS).expect("catalogs that can be read");
        for domain in [Domain::Server, Domain::Libpq] {
            let is_there =
                |catalog: &Catalog| (catalog.domain, catalog.version) == (domain, VERSIONS[0]);
            assert!(
                catalogs.iter().any(is_there),
                "no catalogs of {} in /usr/share/locale: its package and libpq5 bring them (some \
                 images of Debian leave them out)",
                VERSIONS[0],
            );
        }
        catalogs
    })
}

fn has(version: &str) -> bool {
    catalogs().iter().any(|catalog| catalog.version == version)
}

#[test]
fn the_table_is_what_the_generator_makes() {
    let table = Table::new(catalogs(), &messages());
    assert_eq!(table.problems, Vec::<String>::new());
    if VERSIONS.iter().all(|version| has(version)) {
        // Not assert_eq, which would print both.
        assert!(table.source("PostgreSQL") == SOURCE, "run `just languages`");
        return;
    }
    eprintln!(
        "Only rows are compared: there are no catalogs of {}.",
        VERSIONS[1]
    );
    for hash in table.hashes() {
        assert!(
            SOURCE.contains(&hash),
            "a row is missing: run `just languages`"
        );
    }
}

#[test]
fn every_message_is_in_a_catalog() {
    let originals: BTreeSet<_> = catalogs()
        .iter()
        .flat_map(|catalog| catalog.entries.iter().map(move |entry| (catalog, entry)))
        .flat_map(|(catalog, (forms, _))| {
            forms
                .iter()
                .map(|form| (catalog.domain == Domain::Libpq, first_line(form)))
        })
        .collect();
    let missing: Vec<_> = messages()
        .iter()
        .filter(|message| !originals.contains(&(message.domain == Domain::Libpq, message.english)))
        .map(|message| message.english)
        .collect();
    if has(VERSIONS[1]) {
        assert_eq!(missing, Vec::<&str>::new());
    } else {
        assert!(missing.len() < 20, "{missing:#?}");
    }
}

#[test]
fn every_translation_is_recognised() {
    let mut count = 0;
    for (catalog, translation) in all_translations() {
        let Message {
            role, code, class, ..
        } = translation.message;
        for value in VALUES {
            let text = with_values(&translation.format, value);
            let texts = match role {
                Role::Severity => continue,
                Role::Whole => vec![format!("ERROR:  {text}\nDETAIL:  x\n"), text],
                Role::Refusal => vec![format!("{text}Connection refused\n\tIs it?\n")],
            };
            for text in texts {
                // Of these the client always has a kind, unless there is a severity.
                if ["40001", "25006"].contains(&code) && !text.starts_with("ERROR:  ") {
                    if class == FaultClass::ConnectionLost {
                        let (_, class) = recognize(ErrorKind::SerializationFailure, &text);
                        assert_eq!(class, FaultClass::ConnectionLost, "{text}");
                    }
                    continue;
                }
                let expected = (state(code), class);
                let label = format!("{} {}: {text}", catalog.language, catalog.version);
                assert_eq!(recognize(ErrorKind::Unknown, &text), expected, "{label}");
                count += 1;
            }
        }
    }
    assert!(count > 5_000, "{count}");
}

/// The client's language and the server's need not be the same.
#[test]
fn a_refusal_says_why_in_every_pair_of_languages() {
    let all: Vec<_> = all_translations().collect();
    let of = |role| {
        all.iter()
            .filter(move |(_, translation)| translation.message.role == role)
    };
    let mut severities: BTreeSet<_> = of(Role::Severity)
        .map(|(_, it)| it.format.as_str())
        .collect();
    severities.extend(["ERROR", "FATAL"]);
    let mut refusals: BTreeSet<_> = of(Role::Refusal)
        .map(|(_, it)| it.format.as_str())
        .collect();
    refusals.insert("connection to server at \"%s\" (%s), port %s failed: ");
    for refusal in &refusals {
        let refusal = with_values(refusal, "192.0.2.1");
        for (index, (_, translation)) in all.iter().enumerate() {
            let Message {
                role,
                domain,
                code,
                class,
                ..
            } = translation.message;
            if role != Role::Whole || domain != Domain::Server {
                continue;
            }
            let severity = severities
                .iter()
                .nth(index % severities.len())
                .expect("one");
            let said = with_values(&translation.format, "x");
            let text = format!("{refusal}{severity}:  {said}\n");
            assert_eq!(
                recognize(ErrorKind::Unknown, &text),
                (state(code), class),
                "{text}"
            );
            // The address that was tried first did not answer.
            let text = format!("{refusal}Connection refused\n\tIs it?\n{text}");
            assert_eq!(
                recognize(ErrorKind::Unknown, &text),
                (state(code), class),
                "{text}"
            );
        }
        for severity in &severities {
            let text = format!("{refusal}{severity}:  something new\n");
            let expected = (None, FaultClass::NotConnected);
            assert_eq!(recognize(ErrorKind::Unknown, &text), expected, "{text}");
        }
    }
}

/// Messages that are taken for others, in one language or all, but say the same or nearly so.
const ALIKE: [&str; 13] = [
    // Of older versions.
    "no pg_hba.conf entry for host \"%s\", user \"%s\", database \"%s\"",
    "no pg_hba.conf entry for replication connection from host \"%s\", user \"%s\"",
    "could not connect to server: %s",
    "could not translate host name \"%s\", service \"%s\" to address: %s",
    "Kerberos 4 authentication not supported",
    "could not load root certificate file \"%s\": %s",
    "database %u does not exist",
    "could not stat private key file \"%s\": %m",
    "could not load private SSL key \"%s\" from engine \"%s\": %s",
    "permission denied for aggregate %s",
    // A notice.
    "role \"%s\" does not exist, skipping",
    // Nothing but values, one of which is a message here.
    "%s",
    "%s.",
];

#[test]
fn no_other_message_is_taken_for_one_of_them() {
    let known: BTreeSet<_> = messages().iter().map(|message| message.english).collect();
    let mut count = 0;
    let mut taken = BTreeSet::new();
    for catalog in catalogs() {
        for (originals, translations) in &catalog.entries {
            if originals
                .iter()
                .any(|form| known.contains(first_line(form)))
            {
                continue;
            }
            let original = first_line(&originals[0]);
            for form in originals.iter().chain(translations) {
                for value in VALUES {
                    count += 1;
                    let (code, class) = recognize(ErrorKind::Unknown, &with_values(form, value));
                    let is_nothing = (code, class) == (None, FaultClass::Unknown);
                    let is_alike = ALIKE.contains(&original)
                        && (original.starts_with("%s")
                            || [FaultClass::Permanent, FaultClass::NotConnected].contains(&class));
                    // In some languages a column of a relation looks like a relation. One attempt more
                    // does no harm.
                    let exists = original.contains("already exists")
                        && class == FaultClass::SerializationFailure;
                    // PostgreSQL only warns, its relatives refuse with the same words.
                    let is_warning = original == "there is no transaction in progress"
                        && class == FaultClass::TransactionLost;
                    if !is_nothing && !is_alike && !exists && !is_warning {
                        taken.insert((original, &catalog.language, class.as_str()));
                    }
                }
            }
        }
    }
    assert!(count > 400_000, "{count}");
    assert!(taken.is_empty(), "{taken:#?}");
}

fn all_translations() -> impl Iterator<Item = (&'static Catalog, Translation)> {
    let messages = messages();
    catalogs().iter().flat_map(move |catalog| {
        let all = translations(catalog, &messages);
        all.into_iter()
            .map(move |translation| (catalog, translation))
    })
}

fn recognize(kind: ErrorKind, text: &str) -> (Option<Code>, FaultClass) {
    let fault = Fault::recognize(Dialect::Postgres, Reported::new(kind, text));
    (fault.code(), fault.class())
}

fn state(code: &str) -> Option<Code> {
    SqlState::new(code).map(Code::SqlState)
}
