use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use dbop_core::FaultClass as C;
use diesel::result::DatabaseErrorKind;

use super::*;

type AnyError = Box<dyn StdError + Send + Sync>;

fn judged(dialect: Dialect, error: impl Into<AnyError>) -> (FaultClass, Advice) {
    let (fault, advice) = of_closure(error.into()).fault(dialect);
    (fault.class(), advice)
}

fn class_of(error: impl Into<AnyError> + Debug) -> FaultClass {
    let shown = format!("{error:?}");
    let (class, advice) = judged(Dialect::Postgres, error);
    assert_eq!(advice, Advice::Judge, "{shown}");
    class
}

fn bad(text: &str) -> ConnectionError {
    ConnectionError::BadConnection(text.to_owned())
}

fn database(kind: DatabaseErrorKind, text: &str) -> DieselError {
    DieselError::DatabaseError(kind, Box::new(text.to_owned()))
}

/// As a TLS setup of one's own makes it of tokio-postgres' errors, with and without their causes.
#[test]
#[rustfmt::skip] // One row, one line.
fn a_connect_error_that_a_setup_function_made_keeps_its_meaning() {
    for (text, class) in [
        ("error connecting to server", C::NotConnected),
        ("error connecting to server: Connection refused (os error 111)", C::NotConnected),
        ("error performing TLS handshake: unexpected EOF", C::NotConnected),
        ("error performing TLS handshake: server does not support TLS", C::Permanent),
        ("db error: FATAL: sorry, too many clients already", C::ServerUnavailable),
        ("FATAL: sorry, too many clients already", C::ServerUnavailable),
        ("db error: FATAL: the database system is starting up\nDETAIL: Wait.", C::ServerUnavailable),
        ("db error: FATAL: password authentication failed for user \"app\"", C::Permanent),
        ("db error: FATAL: database \"app\" does not exist", C::Permanent),
        ("db error", C::NotConnected),
        ("invalid connection string: unexpected EOF", C::Permanent),
        ("error communicating with the server: Connection reset by peer (os error 104)", C::NotConnected),
        ("FATAL: terminating connection due to administrator command", C::NotConnected),
        ("connection to server at \"127.0.0.1\", port 5432 failed: fe_sendauth: no password supplied\n", C::Permanent),
        ("db error: FATAL: SSL connection is required. Please specify SSL options and retry.", C::Permanent),
        ("something that no table has", C::NotConnected),
    ] {
        assert_eq!(class_of(bad(text)), class, "{text}");
        assert_eq!(class_of(text), class, "{text}");
        assert_eq!(class_of(io::Error::other(bad(text))), class, "{text}");
        assert_eq!(class_of(Arc::new(bad(text))), class, "{text}");
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn so_does_one_of_mysql() {
    for (text, class) in [
        ("Server error: `ERROR 08004 (1040): Too many connections'", C::ServerUnavailable),
        ("Server error: `ERROR 28000 (1045): Access denied for user 'app'@'localhost' (using password: YES)'",
         C::Permanent),
        ("Input/output error: Input/output error: Connection refused (os error 111)", C::NotConnected),
        ("Server error: `ERROR 28000 (1045): Benutzer 'app'@'localhost' hat keine Zugriffsberechtigung (verwendetes Passwort: JA)'",
         C::Permanent),
        ("Host 'client' is blocked because of many connection errors; unblock with 'mysqladmin flush-hosts'",
         C::Permanent),
        ("Can't connect to remote MySQL server for client connected to '127.0.0.1:6446'", C::NotConnected),
        ("Lost connection to server at 'handshake: reading initial communication packet', system error: 104",
         C::NotConnected),
        ("Server error: `ERROR 08S01 (1927): Connection killed by MaxScale'", C::NotConnected),
        ("Received error packet before completion of TLS handshake. The authenticity of the following error \
          cannot be verified: 1130 - Le hôte '127.0.0.1' n'est pas authorisé à se connecter à ce serveur MySQL",
         C::Permanent),
    ] {
        assert_eq!(judged(Dialect::Mysql, bad(text)).0, class, "{text}");
    }
}

#[test]
fn what_nothing_is_known_about_is_not_connected() {
    assert_eq!(class_of("not today"), C::NotConnected);
    assert_eq!(
        class_of(io::Error::from(io::ErrorKind::NotFound)),
        C::NotConnected
    );
    let odd = database(DatabaseErrorKind::Unknown, "the node is on holiday");
    assert_eq!(
        class_of(ConnectionError::CouldntSetupConfiguration(odd)),
        C::NotConnected
    );
}

#[test]
fn what_is_known_to_be_permanent_stays_so() {
    let wrong_url = ConnectionError::InvalidConnectionUrl("postgres:".to_owned());
    assert_eq!(class_of(wrong_url), C::Permanent);
    assert_eq!(class_of(DieselError::NotFound), C::Permanent);
    let taken = database(DatabaseErrorKind::UniqueViolation, "duplicate key");
    assert_eq!(class_of(taken), C::Constraint);
    let refused = database(DatabaseErrorKind::Unknown, "role \"app\" does not exist");
    assert_eq!(
        class_of(ConnectionError::CouldntSetupConfiguration(refused)),
        C::Permanent
    );
    let own = ConnectError::permanent("no DATABASE_URL");
    assert_eq!(class_of(own), C::Permanent);
}

#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the tenant's database")]
struct Tenant(#[source] AnyError);

#[test]
fn what_is_of_a_known_type_counts_before_the_texts_around_it() {
    let tenant = |error: AnyError| Tenant(error);
    assert_eq!(
        class_of(tenant(
            bad("FATAL: the database system is starting up").into()
        )),
        C::ServerUnavailable
    );
    assert_eq!(
        class_of(tenant(ConnectError::permanent("no such tenant").into())),
        C::Permanent
    );
    assert_eq!(class_of(tenant("who knows".into())), C::NotConnected);
    let inner = Tenant(Box::new(io::Error::other(DieselError::NotFound)));
    assert_eq!(class_of(tenant(inner.into())), C::Permanent);
}

#[test]
fn a_pool_that_has_waited_is_not_asked_again() {
    for text in POOL_TIMEOUTS {
        let expected = (C::NotConnected, Advice::Never);
        assert_eq!(judged(Dialect::Mysql, text), expected);
        assert_eq!(judged(Dialect::Mysql, Tenant(text.into())), expected);
    }
    let error = ConnectError::pool_timeout("timeout");
    assert_eq!(
        judged(Dialect::Sqlite, error),
        (C::NotConnected, Advice::Never)
    );
    let text = "timed out waiting for connection: unable to open database file: /nonexistent/x.db";
    assert_eq!(
        judged(Dialect::Sqlite, text),
        (C::NotConnected, Advice::Judge)
    );
}

/// What a classifier sees.
#[test]
fn the_message_is_the_servers_own() {
    let message = |error: AnyError| of_closure(error).message();
    let full = "sorry, too many clients already";
    for error in [
        AnyError::from(full),
        bad("db error: FATAL: sorry, too many clients already").into(),
        io::Error::other(bad("FATAL: sorry, too many clients already")).into(),
        Tenant(database(DatabaseErrorKind::Unknown, full).into()).into(),
        ConnectionError::CouldntSetupConfiguration(database(DatabaseErrorKind::Unknown, full))
            .into(),
        ConnectError::with_text(full, "a pool").into(),
        Tenant(ConnectError::with_text(full, "a pool").into()).into(),
    ] {
        assert_eq!(message(error), full);
    }
    assert_eq!(message(Tenant("on holiday".into()).into()), "on holiday");
    assert_eq!(message(DieselError::NotFound.into()), "");
    let server = "Server error: `ERROR 08004 (1040): Too many connections'";
    assert_eq!(message(bad(server).into()), "Too many connections");
}

/// A pool is often a static.
#[cfg(feature = "sqlite")]
#[test]
fn a_source_behind_a_pointer_is_a_source() {
    use std::sync::LazyLock;

    use diesel::{Connection as _, QueryResult, SqliteConnection};

    static CONNECT: LazyLock<fn() -> diesel::ConnectionResult<SqliteConnection>> =
        LazyLock::new(|| || SqliteConnection::establish(":memory:"));
    let runner = crate::Runner::default();
    let nothing = |_conn: &mut SqliteConnection| QueryResult::Ok(7);
    assert_eq!(runner.run_on(&CONNECT, nothing), Ok(7));
    assert_eq!(runner.run_on(&Arc::new(*CONNECT), nothing), Ok(7));
    assert_eq!(runner.run_on(&&*CONNECT, nothing), Ok(7));
}

/// A pool that is full has waited for its own connections, one that has room for the server.
#[cfg(all(feature = "r2d2", feature = "sqlite"))]
#[test]
fn r2d2_without_a_cause_has_waited_for_the_server_if_it_has_room() {
    use diesel::r2d2::{ConnectionManager, Pool};

    let manager = ConnectionManager::<diesel::SqliteConnection>::new(":memory:");
    let pool = Pool::builder().max_size(1).build_unchecked(manager);
    let held = pool.get().expect("a connection");
    for (has_room, advice) in [(true, Advice::Judge), (false, Advice::Never)] {
        let timeout = std::time::Duration::from_millis(1);
        let error = pool.get_timeout(timeout).err().expect("it is lent");
        let (fault, judged) = of_r2d2(error, has_room).fault(Dialect::Sqlite);
        assert_eq!((fault.class(), judged), (C::NotConnected, advice));
    }
    let now = std::time::Instant::now;
    let request = Request::new(&now).with_within(Some(std::time::Duration::from_millis(1)));
    let full = pool.connect(&request).err().expect("it is full");
    assert_eq!(full.fault(Dialect::Sqlite).1, Advice::Never);
    drop(held);
}
