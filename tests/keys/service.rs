//! A service whose work is done once, however often it is killed and asked again. The tests beside it do that.
//!
//! A request is a line: a key, two accounts, an amount, and perhaps for how many milliseconds it may wait for a
//! lock. The answer is a line as well: `done` or `replayed`, the key and a number that the work has made up, or
//! `under way`, or `failed` and why.

#![allow(clippy::print_stdout, reason = "a program that says where it listens")]

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use dbop_diesel::{Ledger, OperationError as _, Report, RetryPolicy, Runner, SupportedConnection};
use diesel::QueryResult;
use diesel::r2d2::{ConnectionManager, Pool, R2D2Connection};
use serde::{Deserialize, Serialize};

static LEDGER: Ledger = Ledger::new();

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL")?;
    match url.split_once("://") {
        #[cfg(feature = "postgres")]
        Some(("postgres", _)) => serve::<diesel::PgConnection>(&url),
        #[cfg(feature = "mysql")]
        Some(("mysql", _)) => serve::<diesel::MysqlConnection>(&url),
        #[cfg(feature = "sqlite")]
        None => serve::<diesel::SqliteConnection>(&url),
        _ => Err(format!("built without this backend: {url}").into()),
    }
}

fn serve<C>(url: &str) -> Result<(), Box<dyn Error>>
where
    C: R2D2Connection + SupportedConnection + 'static,
{
    // The database can be unreachable for a moment, also when the service starts.
    let pool: Pool<_> = Pool::builder()
        .max_size(8)
        .min_idle(Some(0))
        .connection_timeout(Duration::from_secs(5))
        .build_unchecked(ConnectionManager::<C>::new(url));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on http://{}", listener.local_addr()?);
    for client in listener.incoming() {
        let (client, pool) = (client?, pool.clone());
        // A client that has gone away is no matter of the service.
        thread::spawn(move || answer(client, &pool));
    }
    Ok(())
}

fn answer<C>(client: TcpStream, pool: &Pool<ConnectionManager<C>>) -> std::io::Result<()>
where
    C: R2D2Connection + SupportedConnection + 'static,
{
    let mut writer = client.try_clone()?;
    for line in BufReader::new(client).lines() {
        let answer = match Transfer::parse(&line?) {
            None => "failed: that is no request".to_owned(),
            Some(transfer) => described(&transfer.run(pool)),
        };
        writeln!(writer, "{answer}")?;
    }
    Ok(())
}

fn described(report: &Report<Receipt, diesel::result::Error>) -> String {
    match &report.result {
        Ok(Receipt { key, number }) if report.replayed => format!("replayed {key} {number}"),
        Ok(Receipt { key, number }) => format!("done {key} {number}"),
        Err(error) if error.dbop_error().is_some_and(|it| it.is_under_way()) => "under way".into(),
        Err(error) => format!("failed: {error}"),
    }
}

#[derive(Clone, Debug)]
struct Transfer {
    key: String,
    from: i32,
    to: i32,
    amount: i64,
    lock_timeout: Duration,
}

/// What the first caller is told, and each later one.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Receipt {
    key: String,
    number: i64,
}

impl Transfer {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            key: words.next()?.into(),
            from: words.next()?.parse().ok()?,
            to: words.next()?.parse().ok()?,
            amount: words.next()?.parse().ok()?,
            lock_timeout: Duration::from_millis(words.next().unwrap_or("2000").parse().ok()?),
        })
    }

    fn run<C>(&self, pool: &Pool<ConnectionManager<C>>) -> Report<Receipt, diesel::result::Error>
    where
        C: R2D2Connection + SupportedConnection + 'static,
    {
        let policy = RetryPolicy::new().with_max_delay(Duration::from_millis(100));
        Runner::new(policy)
            .operation("transfer")
            .lock_timeout(self.lock_timeout)
            .ledger(&LEDGER)
            .idempotency_key(&self.key)
            .request(format!("{} {} {}", self.from, self.to, self.amount))
            .answer()
            .run_on_report(pool, |conn: &mut C| self.work(conn))
    }

    fn work<C: SupportedConnection>(&self, conn: &mut C) -> QueryResult<Receipt> {
        let Self {
            key,
            from,
            to,
            amount,
            ..
        } = self;
        let random = RandomState::new().hash_one(key);
        let number = i64::try_from(random >> 1).expect("63 bits");
        // One by one, so that there is time in between.
        for sql in [
            format!("INSERT INTO journal (request, number) VALUES ('{key}', {number})"),
            format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {from}"),
            format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {to}"),
        ] {
            conn.batch_execute(&sql)?;
        }
        Ok(Receipt {
            key: key.clone(),
            number,
        })
    }
}
