use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// A server that refuses its first clients, with an error as a real one sends it, and then lets
/// everybody through to the server behind it. For what no test can bring a shared server to:
/// starting up, being full.
#[derive(Debug)]
pub struct Reluctant {
    url: String,
    address: SocketAddr,
    refused: Arc<AtomicU32>,
    closes: Arc<AtomicBool>,
    listens: Option<JoinHandle<()>>,
}

impl Reluctant {
    /// One in front of the server of this URL that refuses so many clients with this error, whose
    /// code is a SQLSTATE or a number.
    ///
    /// # Panics
    ///
    /// If there is no free port, or the URL has none.
    #[must_use]
    pub fn start(server_url: &str, times: u32, code: &str, message: &str) -> Self {
        let refusal = match server_url.starts_with("mysql") {
            true => Refusal::Mysql(mysql_error(code.parse().expect("a number"), message)),
            false => Refusal::Postgres(postgres_error(code, message)),
        };
        Self::refusing(server_url, times, refusal)
    }

    /// One that hangs up on its first clients without a word, as a proxy does that has no server.
    ///
    /// # Panics
    ///
    /// If there is no free port, or the URL has none.
    #[must_use]
    pub fn hang_up(server_url: &str, times: u32) -> Self {
        Self::refusing(server_url, times, Refusal::Silence)
    }

    fn refusing(server_url: &str, times: u32, refusal: Refusal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (head, rest) = server_url.split_once('@').expect("user@host");
        let (server, path) = rest.split_once('/').expect("a database");
        let refused = Arc::<AtomicU32>::default();
        let closes = Arc::<AtomicBool>::default();
        let (count, is_closed) = (Arc::clone(&refused), Arc::clone(&closes));
        let server = server.to_owned();
        let listens = thread::spawn(move || {
            for client in listener.incoming() {
                if is_closed.load(Ordering::Relaxed) {
                    break;
                }
                let client = client.expect("a client");
                // A client may go away at any time.
                _ = if count.load(Ordering::Relaxed) < times {
                    count.fetch_add(1, Ordering::Relaxed);
                    refusal.tell(client)
                } else {
                    let server = TcpStream::connect(&server).expect("the server listens");
                    let_through(&client, &server)
                };
            }
        });
        Self {
            url: format!("{head}@{address}/{path}"),
            address,
            refused,
            closes,
            listens: Some(listens),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many clients it has refused.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Reluctant {
    fn drop(&mut self) {
        self.closes.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(listens) = self.listens.take() {
            let is_well = listens.join().is_ok();
            assert!(is_well || thread::panicking(), "it has panicked");
        }
    }
}

enum Refusal {
    Postgres(Vec<u8>),
    Mysql(Vec<u8>),
    Silence,
}

impl Refusal {
    fn tell(&self, mut client: TcpStream) -> io::Result<()> {
        match self {
            Self::Silence => return Ok(()),
            Self::Mysql(error) => client.write_all(error)?,
            Self::Postgres(error) => {
                while is_about_encryption(&startup(&mut client)?) {
                    client.write_all(b"N")?;
                }
                client.write_all(error)?;
            }
        }
        client.shutdown(Shutdown::Write)?;
        // What is closed with something unread is reset, which takes the error along.
        thread::spawn(move || io::copy(&mut client, &mut io::sink()));
        Ok(())
    }
}

fn startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length).saturating_sub(4) as usize];
    client.read_exact(&mut message)?;
    Ok(message)
}

/// `SSLRequest` and `GSSENCRequest`.
fn is_about_encryption(message: &[u8]) -> bool {
    [80_877_103_u32, 80_877_104]
        .iter()
        .any(|code| message == code.to_be_bytes())
}

fn postgres_error(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

/// In place of the greeting: before it, no SQLSTATE is sent.
fn mysql_error(errno: u16, message: &str) -> Vec<u8> {
    let length = u8::try_from(message.len() + 3).expect("a short message");
    let head = [&[length, 0, 0, 0, 0xff][..], &errno.to_le_bytes()].concat();
    [&head, message.as_bytes()].concat()
}

fn let_through(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            _ = io::copy(&mut from, &mut to);
            _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
