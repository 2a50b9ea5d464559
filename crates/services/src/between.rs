//! A wire to a server that can be cut at a certain word: what was asked is done, and nobody hears that it is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What happens to an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Wire {
    /// It passes.
    #[default]
    Whole,
    /// Once this was asked, its answer gets lost, and the connection is closed.
    CutsAfter(String),
    /// Once this was asked, nothing is heard any more.
    HoldsAfter(String),
}

/// A wire to a server of this machine, until it is dropped.
pub struct Between {
    port: u16,
    ours: Arc<Ours>,
}

/// What whoever passes something on looks at.
#[derive(Default)]
struct Ours {
    wire: Mutex<Wire>,
    /// Whether an answer is held.
    is_holding: AtomicBool,
    is_over: AtomicBool,
}

impl Between {
    /// Lays one to a port.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn to(server: u16) -> Result<Self, String> {
        // Chosen and held at once: another test may take a port that is only known to be free.
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let ours = Arc::<Ours>::default();
        let shared = Arc::clone(&ours);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let shared = Arc::clone(&shared);
                thread::spawn(move || join(&client, &server, &shared));
            }
        });
        Ok(Self { port, ours })
    }

    /// Where it begins, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on everything passes.
    pub fn mend(&self) {
        self.set(Wire::Whole);
    }

    /// Lets a question with this word come to the server, and cuts the connection in the place of the answer.
    pub fn cut_after(&self, word: &str) {
        self.set(Wire::CutsAfter(word.to_owned()));
    }

    /// Lets a question with this word come to the server, and nothing come back.
    pub fn hold_after(&self, word: &str) {
        self.set(Wire::HoldsAfter(word.to_owned()));
    }

    /// Whether that question came, and its answer is held.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.ours.is_holding.load(Ordering::Relaxed)
    }

    fn set(&self, wire: Wire) {
        self.ours.is_holding.store(false, Ordering::Relaxed);
        *self.ours.wire.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.ours.is_over.store(true, Ordering::Relaxed);
        // Who waits for the next connection is woken by one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// One question and one answer after the other, until either end is closed.
fn join(client: &TcpStream, server: &TcpStream, ours: &Ours) {
    let mut chunk = [0_u8; 16 * 1024];
    let waits = Some(Duration::from_millis(2));
    if client.set_read_timeout(waits).is_err() || server.set_read_timeout(waits).is_err() {
        return;
    }
    let mut asked = Vec::new();
    while !ours.is_over.load(Ordering::Relaxed) {
        match pass(client, server, &mut chunk) {
            Some(0) => {}
            Some(length) => asked.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            None => break,
        }
        let mut from_server = server;
        let length = match from_server.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if is_later(&error) => continue,
            Err(_) => break,
        };
        let now = ours.wire.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_asked = |word: &str| String::from_utf8_lossy(&asked).contains(word);
        match &now {
            Wire::CutsAfter(word) if was_asked(word) => break,
            Wire::HoldsAfter(word) if was_asked(word) => {
                ours.is_holding.store(true, Ordering::Relaxed);
                continue;
            }
            _ => {}
        }
        asked.clear();
        let mut to_client = client;
        if to_client.write_all(chunk.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

/// What there is now passes: how much; `None` when the end has come.
fn pass(mut from: &TcpStream, mut to: &TcpStream, chunk: &mut [u8]) -> Option<usize> {
    match from.read(chunk) {
        Ok(0) => None,
        Ok(length) => to.write_all(chunk.get(..length)?).ok().map(|()| length),
        Err(error) => is_later(&error).then_some(0),
    }
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
