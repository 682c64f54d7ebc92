//! The layers of an error, and what their texts quote.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;
use std::sync::Arc;

use diesel::ConnectionError;
use diesel::result::Error as DieselError;

type Layer = dyn StdError + 'static;

/// The error and everything inside it, but not what is inside one of dbop's own: that happened to
/// another operation, and its connection may have been another one.
pub(crate) fn layers(error: &Layer) -> impl Iterator<Item = &Layer> {
    successors(Some(error), |&error| match error.is::<dbop_core::Error>() {
        true => None,
        false => hidden_in(error).or_else(|| error.source()),
    })
}

/// What `source()` skips: `io::Error::other`, `Arc` and `Box` pass on the source of what they hold.
fn hidden_in(error: &Layer) -> Option<&Layer> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner: &(dyn StdError + Send + Sync + 'static) = error.get_ref()?;
        return Some(inner);
    }
    if let Some(error) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**error);
    }
    held::<DieselError>(error)
        .or_else(|| held::<ConnectionError>(error))
        .or_else(|| held::<io::Error>(error))
        .or_else(|| held::<dbop_core::Error>(error))
}

fn held<E: StdError + 'static>(error: &Layer) -> Option<&Layer> {
    if let Some(error) = error.downcast_ref::<Arc<E>>() {
        return Some(&**error);
    }
    let error: &E = error.downcast_ref::<Box<E>>()?;
    Some(error)
}

/// What a text may quote: the text itself, then what is left without what client libraries, pools
/// and migrations put around it.
pub(crate) fn quoted_in(text: &str) -> impl Iterator<Item = &str> {
    successors(Some(text), |&text| unwrapped(text))
}

fn unwrapped(text: &str) -> Option<&str> {
    const PREFIXES: [&str; 4] = [
        // r2d2 and deadpool.
        "timed out waiting for connection: ",
        "Error occurred while creating a new object: ",
        "Error occurred while recycling an object: ",
        // tokio-postgres.
        "db error: ",
    ];

    PREFIXES
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .or_else(|| of_mysql_async(text))
        .or_else(|| of_libmariadb(text))
        .or_else(|| of_migration(text))
        .or_else(|| of_tokio_postgres(text))
}

/// The message in "Server error: `ERROR 08004 (1040): Too many connections'", and the text in
/// mysql_async's other errors.
fn of_mysql_async(text: &str) -> Option<&str> {
    if let Some(server) = text.strip_prefix("Server error: `ERROR ") {
        let (_, message) = server.strip_suffix('\'')?.split_once("): ")?;
        return Some(message);
    }
    text.strip_prefix("Driver error: `")?.strip_suffix('\'')
}

/// What the server has said before there was TLS, behind its number. An attacker who forges this message
/// gains no more than by cutting the connection.
fn of_libmariadb(text: &str) -> Option<&str> {
    let received = "Received error packet before completion of TLS handshake. \
                    The authenticity of the following error cannot be verified: ";
    let (_, message) = text.strip_prefix(received)?.split_once(" - ")?;
    Some(message)
}

/// diesel_migrations puts the name of the migration in front, and has no `source()`.
fn of_migration(text: &str) -> Option<&str> {
    let (_, message) = text.strip_prefix("Failed to run ")?.split_once(" with: ")?;
    Some(message)
}

/// The message in "FATAL: sorry, too many clients already", which can have details and a hint on
/// lines of their own. The severity is in the server's language, in no language with small letters.
fn of_tokio_postgres(text: &str) -> Option<&str> {
    const LONGEST_SEVERITY: usize = 40;

    let (severity, message) = text.split_once(": ")?;
    let is_severity = severity.len() <= LONGEST_SEVERITY
        && !severity.contains(|c: char| c.is_lowercase() || c.is_numeric());
    let end = ["\nDETAIL: ", "\nHINT: "]
        .iter()
        .filter_map(|label| message.find(label))
        .min()
        .unwrap_or(message.len());
    is_severity.then(|| &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip] // One row, one line.
    fn what_is_around_a_message_is_taken_off() {
        for (text, message) in [
            ("no money", "no money"),
            ("db error: FATAL: sorry, too many clients already", "sorry, too many clients already"),
            ("FATAL: sorry, too many clients already", "sorry, too many clients already"),
            ("db error: ВАЖНО: слишком много", "слишком много"),
            ("ERROR: deadlock detected\nDETAIL: Process 1\nHINT: See", "deadlock detected"),
            ("ERROR: deadlock detected\nHINT: See", "deadlock detected"),
            ("timed out waiting for connection: unable to open database file", "unable to open database file"),
            ("Error occurred while creating a new object: db error: FATAL: x y", "x y"),
            ("Server error: `ERROR 08004 (1040): Too many connections'", "Too many connections"),
            ("Received error packet before completion of TLS handshake. The authenticity of the following error \
              cannot be verified: 1040 - Too many connections", "Too many connections"),
            ("Driver error: `Connection to the server is closed.'", "Connection to the server is closed."),
            ("Failed to run 1_t with: database is locked", "database is locked"),
            ("Order 7: deadlock detected", "Order 7: deadlock detected"),
            ("", ""),
        ] {
            assert_eq!(quoted_in(text).last(), Some(message), "{text}");
            assert_eq!(quoted_in(text).next(), Some(text));
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Box<dyn StdError + Send + Sync>);

    #[test]
    fn what_hides_its_contents_is_opened() {
        let diesel = || DieselError::NotFound;
        let errors: [Box<dyn StdError + Send + Sync>; 7] = [
            Box::new(diesel()),
            Box::new(Arc::new(diesel())),
            Box::new(Box::new(diesel())),
            Box::new(io::Error::other(diesel())),
            Box::new(Arc::new(io::Error::other(Arc::new(diesel())))),
            Box::new(Outer(Box::new(io::Error::other(Outer(Box::new(
                Arc::new(diesel()),
            )))))),
            Box::new(Arc::<dyn StdError + Send + Sync>::from(
                Box::new(diesel()) as Box<dyn StdError + Send + Sync>
            )),
        ];
        for error in &errors {
            let found = layers(&**error).find_map(|layer| layer.downcast_ref::<DieselError>());
            assert_eq!(found, Some(&DieselError::NotFound), "{error:?}");
        }
    }

    /// The answer of another operation's COMMIT was lost, not that of this one.
    #[test]
    fn what_another_operation_died_of_is_not_found() {
        let own = || dbop_core::Error::no_connection(DieselError::BrokenTransactionManager.into());
        let errors: [Box<dyn StdError + Send + Sync>; 3] = [
            Box::new(own()),
            Box::new(Outer(Box::new(own()))),
            Box::new(io::Error::other(Arc::new(own()))),
        ];
        for error in &errors {
            let found = layers(&**error).find_map(|layer| layer.downcast_ref::<DieselError>());
            assert_eq!(found, None, "{error:?}");
        }
    }
}
