//! One connection to a directory: what is asked is answered before the next thing is asked.
//!
//! A connection on which something went wrong but a refusal is not used again. Deliberately absent: tasks; whoever asks
//! reads the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tresor_env::Clock;
use tresor_env::net::Stream;
use tresor_secret::{SecretString, Wiped};

use crate::ber::{BOOLEAN, ENUMERATED, Header, INTEGER, OCTETS, Opened, SEQUENCE, SET, Writer};
use crate::error::DirectoryError;
use crate::filter::Filter;
use crate::message::{self, Answer, Entry, Outcome};

/// The longest message that is read.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many entries of an answer are kept.
const ENTRIES_MAX: usize = 10_000;
/// What makes a connection TLS.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// No attribute.
const NO_ATTRIBUTES: &str = "1.1";

/// Values of an attribute; they may be passwords.
pub type Values = Vec<Wiped<Vec<u8>>>;

/// How far below its base a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// At the base alone.
    Base,
    /// At everything below it, too.
    Subtree,
}

/// What is done to an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Values are added.
    Add,
    /// Values are removed; without any, all of them.
    Delete,
    /// These take the place of all others.
    Replace,
}

/// A change of one attribute of an entry.
#[derive(Clone)]
pub struct Modification {
    /// What is done.
    pub verb: Verb,
    /// The attribute.
    pub attribute: String,
    /// The values.
    pub values: Values,
}

/// Waits for something, so long and no longer.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    duration: Duration,
    work: impl Future<Output = Result<T, DirectoryError>>,
) -> Result<T, DirectoryError> {
    if duration.is_zero() {
        return work.await;
    }
    tokio::select! {
        biased;
        done = work => done,
        () = clock.sleep(duration) => Err(DirectoryError::TooSlow),
    }
}

/// A connection.
pub struct Connection {
    /// Gone once it cannot be used any more.
    stream: Option<Box<dyn Stream>>,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    last: u32,
}

impl Connection {
    pub(crate) const fn new(stream: Box<dyn Stream>, clock: Arc<dyn Clock>, request_timeout: Duration) -> Self {
        Self { stream: Some(stream), clock, request_timeout, last: 0 }
    }

    pub(crate) fn into_stream(self) -> Result<Box<dyn Stream>, DirectoryError> {
        self.stream.ok_or(DirectoryError::Broken(std::io::ErrorKind::NotConnected))
    }

    /// Whether it can be asked more.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.stream.is_some()
    }

    /// Proves who we are.
    ///
    /// # Errors
    /// As all of these: what the directory or the connection says. An empty password never reaches the directory, which
    /// would take it for no password and agree (PWD-06).
    pub async fn bind(&mut self, name: &str, password: &SecretString) -> Result<(), DirectoryError> {
        if password.is_empty() {
            return Err(DirectoryError::NoPassword);
        }
        let (mut writer, opened) = self.begin(0x60);
        writer.number(INTEGER, 3);
        writer.bytes(OCTETS, name.as_bytes());
        writer.bytes(0x80, password.expose().as_bytes());
        self.ask(writer, opened, message::BOUND).await.map(drop)
    }

    /// The entries that a filter finds; of their attributes those that are named, or none.
    ///
    /// # Errors
    /// As [`Connection::bind`].
    pub async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &Filter,
        attributes: &[&str],
    ) -> Result<Vec<Entry>, DirectoryError> {
        let (mut writer, opened) = self.begin(0x63);
        writer.bytes(OCTETS, base.as_bytes());
        writer.number(ENUMERATED, if scope == Scope::Base { 0 } else { 2 });
        // Aliases are not followed; sizes and times are bounded on this side.
        writer.number(ENUMERATED, 0);
        writer.number(INTEGER, 0);
        writer.number(INTEGER, 0);
        writer.bytes(BOOLEAN, &[0]);
        filter.write(&mut writer);
        let list = writer.open(SEQUENCE);
        for attribute in if attributes.is_empty() { &[NO_ATTRIBUTES] } else { attributes } {
            writer.bytes(OCTETS, attribute.as_bytes());
        }
        writer.close(&list);
        self.ask(writer, opened, message::SEARCHED).await
    }

    /// Makes an entry.
    ///
    /// # Errors
    /// As [`Connection::bind`].
    pub async fn add(&mut self, name: &str, attributes: &[(String, Values)]) -> Result<(), DirectoryError> {
        let (mut writer, opened) = self.begin(0x68);
        writer.bytes(OCTETS, name.as_bytes());
        let list = writer.open(SEQUENCE);
        for (attribute, values) in attributes {
            write_attribute(&mut writer, attribute, values);
        }
        writer.close(&list);
        self.ask(writer, opened, message::ADDED).await.map(drop)
    }

    /// Changes an entry: all of it, or nothing.
    ///
    /// # Errors
    /// As [`Connection::bind`].
    pub async fn modify(&mut self, name: &str, changes: &[Modification]) -> Result<(), DirectoryError> {
        let (mut writer, opened) = self.begin(0x66);
        writer.bytes(OCTETS, name.as_bytes());
        let list = writer.open(SEQUENCE);
        for change in changes {
            let item = writer.open(SEQUENCE);
            let verb = match change.verb {
                Verb::Add => 0,
                Verb::Delete => 1,
                Verb::Replace => 2,
            };
            writer.number(ENUMERATED, verb);
            write_attribute(&mut writer, &change.attribute, &change.values);
            writer.close(&item);
        }
        writer.close(&list);
        self.ask(writer, opened, message::MODIFIED).await.map(drop)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// As [`Connection::bind`].
    pub async fn delete(&mut self, name: &str) -> Result<(), DirectoryError> {
        self.last += 1;
        let mut writer = Writer::new();
        let opened = writer.open(SEQUENCE);
        writer.number(INTEGER, self.last);
        writer.bytes(0x4a, name.as_bytes());
        self.send_and_read(writer, &[opened], message::DELETED).await.map(drop)
    }

    /// Says that TLS begins.
    pub(crate) async fn start_tls(&mut self) -> Result<(), DirectoryError> {
        let (mut writer, opened) = self.begin(0x77);
        writer.bytes(0x80, START_TLS);
        self.ask(writer, opened, message::EXTENDED).await.map(drop)
    }

    /// Begins the next message.
    fn begin(&mut self, tag: u8) -> (Writer, [Opened; 2]) {
        self.last += 1;
        let mut writer = Writer::new();
        let outer = writer.open(SEQUENCE);
        writer.number(INTEGER, self.last);
        let inner = writer.open(tag);
        (writer, [inner, outer])
    }

    async fn ask(&mut self, writer: Writer, opened: [Opened; 2], end: u8) -> Result<Vec<Entry>, DirectoryError> {
        self.send_and_read(writer, &opened, end).await
    }

    async fn send_and_read(
        &mut self,
        mut writer: Writer,
        opened: &[Opened],
        end: u8,
    ) -> Result<Vec<Entry>, DirectoryError> {
        for opened in opened {
            writer.close(opened);
        }
        // Taken out while it is used: whoever stops waiting, or meets an error, leaves none behind.
        let stream = self.stream.take().ok_or(DirectoryError::Broken(std::io::ErrorKind::NotConnected))?;
        let mut exchange = Exchange { stream, id: self.last, end };
        let work = exchange.run(writer.done());
        let answered = within(self.clock.as_ref(), self.request_timeout, work).await;
        if answered.is_ok() || answered.as_ref().is_err_and(DirectoryError::is_refusal) {
            self.stream = Some(exchange.stream);
        }
        answered
    }
}

fn write_attribute(writer: &mut Writer, attribute: &str, values: &Values) {
    let opened = writer.open(SEQUENCE);
    writer.bytes(OCTETS, attribute.as_bytes());
    let set = writer.open(SET);
    for value in values {
        writer.bytes(OCTETS, value);
    }
    writer.close(&set);
    writer.close(&opened);
}

/// One thing that is asked, and all that comes back.
struct Exchange {
    stream: Box<dyn Stream>,
    id: u32,
    /// The tag of the message that ends it.
    end: u8,
}

fn broken(error: std::io::Error) -> DirectoryError {
    DirectoryError::Broken(error.kind())
}

impl Exchange {
    async fn run(&mut self, message: Wiped<Vec<u8>>) -> Result<Vec<Entry>, DirectoryError> {
        self.stream.write_all(&message).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let mut entries = Vec::new();
        loop {
            let bytes = self.read().await?;
            match message::read(&bytes) {
                // What nobody asked for: the directory says why it ends the connection.
                Some((0, Answer::End(..))) => return Err(broken(std::io::ErrorKind::ConnectionAborted.into())),
                Some((id, Answer::End(tag, outcome))) if id == self.id && tag == self.end => {
                    let is_done = outcome.code == Outcome::SUCCESS;
                    return if is_done { Ok(entries) } else { Err(DirectoryError::Refused(outcome)) };
                }
                Some((id, Answer::Entry(entry))) if id == self.id => {
                    entries.push(entry);
                    if entries.len() > ENTRIES_MAX {
                        return Err(DirectoryError::Nonsense("too many entries"));
                    }
                }
                Some((id, Answer::Elsewhere)) if id == self.id => {}
                _ => return Err(DirectoryError::Nonsense("an answer to something else")),
            }
        }
    }

    /// The next message.
    async fn read(&mut self) -> Result<Wiped<Vec<u8>>, DirectoryError> {
        let mut bytes = Wiped::new(vec![0; 2]);
        self.stream.read_exact(&mut bytes).await.map_err(broken)?;
        loop {
            match Header::of(&bytes) {
                Header::Short => {
                    let byte = self.stream.read_u8().await.map_err(broken)?;
                    bytes.push(byte);
                }
                Header::Complete { tag: SEQUENCE, header, content } if content <= MESSAGE_BYTES_MAX => {
                    bytes.resize(header + content, 0);
                    let rest = bytes.get_mut(header..).unwrap_or_default();
                    self.stream.read_exact(rest).await.map_err(broken)?;
                    return Ok(bytes);
                }
                Header::Complete { tag: SEQUENCE, .. } => return Err(DirectoryError::Nonsense("a message too large")),
                Header::Wrong | Header::Complete { .. } => return Err(DirectoryError::Nonsense("no message")),
            }
        }
    }
}
