//! The `socket` device: lines of JSON over TCP, UDP or a socket in the file system.
//!
//! A stream tells nothing of what its reader has read. So a peer that stalls keeps its connection and is offered the rest
//! of the line it stopped in; when a connection breaks, everything that may have been in its buffers is sent again over
//! the next one, and when the peer hangs up in good order, what was sent within the last seconds. UDP has no such
//! knowledge at all: a datagram that was sent counts as arrived, and a line that fits into none is sent as a line that says
//! so and shows how the other begins. Of datagrams to a socket in the file system it is known whether they were read, and the
//! next one that is taken proves that the reader did it ([`LocalDatagrams`](tresor_env::net::Datagrams::is_read)): what is not
//! proven is sent again when the reader is gone. Deliberately absent: TLS, and any reading.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tresor_env::net::{
    Datagrams, LOCAL_DATAGRAM_BYTES_MAX, LOCAL_DATAGRAM_BYTES_MIN, LOCAL_DATAGRAMS_WAITING_MAX, Stream,
};
use tresor_env::{BoxFuture, Doors};
use tresor_wire::json::encode_text;

use crate::broker::Options;
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::Lines;
use crate::sink::{AuditSink, SinkError, SinkKind, Undelivered};

/// What the buffers of both ends of a TCP connection may hold: the systems' largest by default, rounded up.
const TCP_WINDOW_BYTES: u64 = 12 << 20;
/// The same for a socket in the file system.
const LOCAL_WINDOW_BYTES: u64 = 1 << 20;
/// What was sent within this time before the peer hung up may have been too late.
const TOO_LATE: Duration = Duration::from_secs(5);
/// After so long without progress another connection is tried.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// The longest datagram; longer lines are cut, since they could never be sent.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// How much of a line that is cut is shown; escaped once more it fits into a datagram whatever it is.
const BEGINNING_BYTES: usize = 8 * 1024;

/// Makes `socket` devices.
#[derive(Clone, Copy, Default)]
pub struct SocketSinkKind;

impl SinkKind for SocketSinkKind {
    fn name(&self) -> &'static str {
        "socket"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &["address", "socket_type", "write_timeout"]
    }

    fn check(&self, config: &DeviceConfig, _: &Options) -> Result<(), AuditError> {
        Named::of(config).map(drop)
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, _: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        let Named { target, write_timeout } = Named::of(config)?;
        Ok(Arc::new(SocketSink::new(doors, target, write_timeout)))
    }
}

/// Where the options say that a device sends to.
struct Named {
    target: Target,
    write_timeout: Duration,
}

impl Named {
    fn of(config: &DeviceConfig) -> Result<Self, AuditError> {
        let address = config.option("address").unwrap_or_default();
        if address.is_empty() {
            return Err(AuditError::option("`address` is required"));
        }
        let target = match config.option("socket_type").unwrap_or("tcp") {
            "" | "tcp" => Target::Tcp(checked_address(address)?),
            "udp" => Target::Udp(checked_address(address)?),
            "unix" => Target::Local(PathBuf::from(address)),
            _ => return Err(AuditError::option("`socket_type` must be `tcp`, `udp` or `unix`")),
        };
        Ok(Self { target, write_timeout: config.write_timeout()? })
    }
}

/// A host and a port; whether the host has an address is asked when it is connected to.
fn checked_address(text: &str) -> Result<String, AuditError> {
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if has_port { Ok(text.to_owned()) } else { Err(AuditError::option("`address` must be a host and a port")) }
}

pub(crate) enum Target {
    Tcp(String),
    Udp(String),
    Local(PathBuf),
    /// The first of these that somebody listens at, for datagrams or for a stream.
    Syslog(Vec<PathBuf>),
}

enum Open {
    Stream(Connection),
    Datagrams(Box<dyn Datagrams>),
}

struct Connection {
    stream: Box<dyn Stream>,
    /// How much of the first record that is not taken yet was written.
    begun_bytes: usize,
    /// When it last took something.
    progress: Duration,
    /// What was taken lately: when, and how many bytes.
    lately: VecDeque<(Duration, u64)>,
}

pub(crate) struct SocketSink {
    doors: Doors,
    target: Target,
    write_timeout: Duration,
    /// Taken out by whoever uses it, so that nothing is locked meanwhile; what is not put back is closed.
    open: Mutex<Option<Open>>,
    /// How many lines were cut.
    cut_lines: AtomicU64,
    /// How many bytes of datagrams were sent of which it is not proven that they were read.
    unproven: AtomicU64,
}

impl AuditSink for SocketSink {
    fn deliver(&self, lines: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        Box::pin(async move {
            let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut open = match taken {
                Some(open) => open,
                None => self.connect().await.map_err(SinkError::from)?,
            };
            let (keep, outcome) = match &mut open {
                Open::Datagrams(datagrams) => self.send_each(&**datagrams, &lines).await,
                Open::Stream(connection) => self.write(connection, &lines).await,
            };
            if keep {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
            }
            outcome
        })
    }

    fn unconfirmed_bytes_max(&self) -> u64 {
        match self.target {
            Target::Tcp(_) => TCP_WINDOW_BYTES,
            Target::Local(_) => LOCAL_WINDOW_BYTES,
            Target::Udp(_) => 0,
            Target::Syslog(_) => match &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(Open::Stream(_)) => LOCAL_WINDOW_BYTES,
                Some(Open::Datagrams(_)) | None => self.unproven.load(Ordering::Relaxed),
            },
        }
    }

    /// There is nothing to ask the peer for.
    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn probe(&self, line: Arc<Lines>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move { self.deliver(line).await.map_err(|undelivered| undelivered.error) })
    }

    /// A peer that hangs up in good order after we did has read everything: its system would say otherwise.
    fn farewell(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let taken = {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.take_if(|open| matches!(open, Open::Stream(_)))
            };
            let Some(Open::Stream(mut connection)) = taken else { return false };
            let is_whole = connection.begun_bytes == 0;
            let parting = async {
                connection.stream.shutdown().await?;
                let mut ignored = [0; 256];
                while connection.stream.read(&mut ignored).await? > 0 {}
                Ok(())
            };
            self.within(parting, "the peer did not hang up").await.is_ok() && is_whole
        })
    }

    fn cut_lines(&self) -> u64 {
        self.cut_lines.load(Ordering::Relaxed)
    }

    /// A connection is nothing that rotates.
    fn reopen(&self) {}
}

impl SocketSink {
    pub(crate) fn new(doors: &Doors, target: Target, write_timeout: Duration) -> Self {
        Self {
            doors: doors.clone(),
            target,
            write_timeout,
            open: Mutex::default(),
            cut_lines: AtomicU64::new(0),
            unproven: AtomicU64::new(0),
        }
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>, late: &'static str) -> io::Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.doors.clock.sleep(self.write_timeout) => Err(io::Error::new(io::ErrorKind::TimedOut, late)),
        }
    }

    async fn connect(&self) -> io::Result<Open> {
        let net = &*self.doors.net;
        let connecting = async {
            match &self.target {
                Target::Local(path) => Ok(self.stream(net.connect_local(path).await?)),
                Target::Tcp(address) => {
                    let mut last = io::Error::from(io::ErrorKind::NotFound);
                    for address in net.resolve(address).await? {
                        match net.connect(address).await {
                            Ok(stream) => return Ok(self.stream(stream)),
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                }
                Target::Udp(address) => {
                    let first = net.resolve(address).await?.into_iter().next();
                    let address = first.ok_or(io::Error::from(io::ErrorKind::NotFound))?;
                    Ok(Open::Datagrams(net.datagrams_to(address).await?))
                }
                Target::Syslog(places) => {
                    let mut last = io::Error::from(io::ErrorKind::NotFound);
                    for path in places {
                        match net.local_datagrams_to(path).await {
                            Ok(datagrams) => return Ok(Open::Datagrams(datagrams)),
                            Err(error) => last = error,
                        }
                        if let Ok(stream) = net.connect_local(path).await {
                            return Ok(self.stream(stream));
                        }
                    }
                    Err(last)
                }
            }
        };
        self.within(connecting, "the peer did not take the connection in time").await
    }

    fn stream(&self, stream: Box<dyn Stream>) -> Open {
        let progress = self.doors.clock.monotonic();
        Open::Stream(Connection { stream, begun_bytes: 0, progress, lately: VecDeque::new() })
    }

    /// Sends each line in a datagram of its own; whether the socket is kept, and what was not taken.
    async fn send_each(&self, datagrams: &dyn Datagrams, lines: &Lines) -> (bool, Result<(), Undelivered>) {
        let is_local = matches!(self.target, Target::Syslog(_));
        let bytes_max = if is_local { LOCAL_DATAGRAM_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        // What was read by now, if the peer is there to take another one: a peer that is gone leaves nothing unread, either.
        let before = self.unproven.load(Ordering::Relaxed);
        let mut provable = if datagrams.is_read() == Some(false) { 0 } else { before };
        for (taken, record) in lines.iter().enumerate() {
            for line in record.split_inclusive(|byte| *byte == b'\n') {
                let line = if is_local { line.strip_suffix(b"\n").unwrap_or(line) } else { line };
                let is_cut = line.len() > bytes_max;
                let mut datagram = if is_cut { Cow::Owned(cut(line)) } else { Cow::Borrowed(line) };
                if is_local && datagram.len() < LOCAL_DATAGRAM_BYTES_MIN {
                    // Blanks at the end mean nothing, and nobody knows of what is shorter whether it was read.
                    datagram.to_mut().resize(LOCAL_DATAGRAM_BYTES_MIN, b' ');
                }
                match self.within(datagrams.send(&datagram), "the peer does not take datagrams").await {
                    Ok(()) => {}
                    // One that stands still has what it was sent.
                    Err(error) if is_local && error.kind() == io::ErrorKind::TimedOut => {
                        return (true, Err(Undelivered { taken, doubtful_bytes: 0, error: error.into() }));
                    }
                    Err(error) => {
                        let doubtful_bytes = self.unproven.swap(0, Ordering::Relaxed);
                        let taken = if doubtful_bytes > 0 { 0 } else { taken };
                        return (false, Err(Undelivered { taken, doubtful_bytes, error: error.into() }));
                    }
                }
                self.cut_lines.fetch_add(u64::from(is_cut), Ordering::Relaxed);
                if is_local {
                    let sent = u64::try_from(line.len().max(datagram.len()) + 1).unwrap_or(u64::MAX);
                    let known = self.unproven.load(Ordering::Relaxed) - std::mem::take(&mut provable);
                    // More than this cannot wait to be read.
                    self.unproven.store(known.saturating_add(sent).min(LOCAL_DATAGRAMS_WAITING_MAX), Ordering::Relaxed);
                }
            }
        }
        (true, Ok(()))
    }

    /// Writes the lines; whether the connection is kept, and what was not taken.
    async fn write(&self, connection: &mut Connection, lines: &Lines) -> (bool, Result<(), Undelivered>) {
        if let Some(end) = hung_up(&mut *connection.stream).await {
            let doubtful_bytes = match end {
                Ok(()) => connection.taken_lately(self.doors.clock.monotonic()),
                Err(_) => self.unconfirmed_bytes_max(),
            };
            let error = SinkError("the peer closed the connection".into());
            return (false, Err(Undelivered { taken: 0, doubtful_bytes, error }));
        }
        let bytes = lines.bytes();
        let mut at = connection.begun_bytes;
        loop {
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else {
                connection.begun_bytes = 0;
                connection.note(self.doors.clock.monotonic(), bytes.len());
                return (true, Ok(()));
            };
            match self.within(connection.stream.write(rest), "the peer does not read").await {
                Ok(written) if written > 0 => {
                    at += written;
                    connection.progress = self.doors.clock.monotonic();
                }
                Ok(_) => return (false, Err(self.broken(SinkError("the peer closed the connection".into())))),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let now = self.doors.clock.monotonic();
                    if now.saturating_sub(connection.progress) > STALLED_MAX {
                        return (false, Err(self.broken(error.into())));
                    }
                    let (taken, taken_bytes) = lines.whole_within(at);
                    connection.begun_bytes = at - taken_bytes;
                    connection.note(now, taken_bytes);
                    return (true, Err(Undelivered { taken, doubtful_bytes: 0, error: error.into() }));
                }
                Err(error) => return (false, Err(self.broken(error.into()))),
            }
        }
    }

    /// Everything that may have been on the way is offered again.
    fn broken(&self, error: SinkError) -> Undelivered {
        Undelivered { taken: 0, doubtful_bytes: self.unconfirmed_bytes_max(), error }
    }
}

impl Connection {
    fn note(&mut self, now: Duration, bytes: usize) {
        self.lately.push_back((now, u64::try_from(bytes).unwrap_or(u64::MAX)));
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Duration) {
        while self.lately.front().is_some_and(|(then, _)| now.saturating_sub(*then) > TOO_LATE) {
            self.lately.pop_front();
        }
    }

    fn taken_lately(&mut self, now: Duration) -> u64 {
        self.forget_old(now);
        self.lately.iter().map(|(_, bytes)| *bytes).sum()
    }
}

/// What stands for a line that is too long: how long it was, and how it begins; behind the same header, if it has one.
fn cut(line: &[u8]) -> Vec<u8> {
    let beginning = String::from_utf8_lossy(line.get(..BEGINNING_BYTES).unwrap_or(line));
    let header = beginning.strip_prefix('<').and_then(|rest| rest.split_once("]: ")).map(|(header, _)| header);
    let mut marked = header.map_or_else(Vec::new, |header| format!("<{header}]: ").into_bytes());
    marked.extend_from_slice(format!(r#"{{"type":"cut","line_bytes":{},"beginning":"#, line.len()).as_bytes());
    encode_text(&beginning, &mut marked);
    marked.extend_from_slice(b"}\n");
    marked
}

/// How the peer has ended the connection, if it has: in good order or not. What it says otherwise is ignored.
async fn hung_up(stream: &mut dyn Stream) -> Option<io::Result<()>> {
    let mut ignored = [0; 256];
    std::future::poll_fn(|cx| {
        for _ in 0..16 {
            let mut buffer = ReadBuf::new(&mut ignored);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Some(Ok(()))),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Ready(None),
            }
        }
        Poll::Ready(None)
    })
    .await
}
