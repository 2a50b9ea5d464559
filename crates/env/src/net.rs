//! The network door: listening for and opening byte streams.
//!
//! TLS stands above this door (in `tresor-server`), so the simulator replaces plain streams only. Deliberately
//! absent: any policy of name resolution, and receiving datagrams.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A bound listener.
pub trait Listener: Send + Sync {
    /// The address that was really bound (the port is never 0); of a socket in the file system, which has none, this machine with
    /// port 0, as whoever connects to one.
    fn local_address(&self) -> SocketAddr;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the operating system says; the listener stays usable.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// A socket in the file system that is listened at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSocket {
    /// Where it lies.
    pub path: PathBuf,
    /// Its permissions; without them, what the process's mask leaves.
    pub mode: Option<u32>,
    /// The number of the user that it belongs to; without it, the process's.
    pub user: Option<u32>,
    /// The number of its group.
    pub group: Option<u32>,
}

/// A way to send datagrams to one peer.
pub trait Datagrams: Send + Sync {
    /// Sends one.
    ///
    /// # Errors
    /// What the operating system says; that it did not does not mean that the peer got it.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;

    /// Whether the peer has read everything that was sent in datagrams that are not too short, or is gone, which the next one that is sent will say; `None` where
    /// nobody can know.
    fn is_read(&self) -> Option<bool> {
        None
    }
}

/// The shortest datagram to a socket in the file system of which [`Datagrams::is_read`] knows.
pub const LOCAL_DATAGRAM_BYTES_MIN: usize = 256;
/// The longest datagram that a socket in the file system is sent.
pub const LOCAL_DATAGRAM_BYTES_MAX: usize = 200 * 1024;
/// How many bytes of datagrams that were sent to a socket in the file system may wait to be read.
pub const LOCAL_DATAGRAMS_WAITING_MAX: u64 = 256 * 1024;

/// Listening and connecting.
pub trait Net: Send + Sync {
    /// Binds a TCP address such as `127.0.0.1:8200` or `[::]:8200`.
    ///
    /// # Errors
    /// What the operating system says.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Makes a socket in the file system and listens at it. One that nobody listens at any more is replaced; at its end it is
    /// removed.
    ///
    /// # Errors
    /// What the operating system says; `Unsupported` where there are none.
    fn listen_local<'a>(&'a self, socket: &'a LocalSocket) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let _ = socket;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Connects to a TCP address.
    ///
    /// # Errors
    /// What the operating system says.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// The addresses of a host and port such as `collector.example:5140`, in the order of preference.
    ///
    /// # Errors
    /// What the operating system says.
    fn resolve<'a>(&'a self, host_and_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Connects to a socket in the file system.
    ///
    /// # Errors
    /// What the operating system says.
    fn connect_local<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Prepares to send datagrams to a socket in the file system: [`LOCAL_DATAGRAM_BYTES_MAX`] each, of which
    /// [`LOCAL_DATAGRAMS_WAITING_MAX`] bytes wait to be read at most.
    ///
    /// # Errors
    /// What the operating system says; `Unsupported` where there are none.
    fn local_datagrams_to<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        let _ = path;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Prepares to send datagrams to a UDP address.
    ///
    /// # Errors
    /// What the operating system says.
    fn datagrams_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>>;
}
