//! The network door: listening for and opening byte streams.
//!
//! TLS stands above this door (in `tresor-server`), so the simulator replaces plain streams only. Deliberately
//! absent: any policy of name resolution, and receiving datagrams.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A bound listener.
pub trait Listener: Send + Sync {
    /// The address that was really bound (the port is never 0).
    fn local_address(&self) -> SocketAddr;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the operating system says; the listener stays usable.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// A way to send datagrams to one peer.
pub trait Datagrams: Send + Sync {
    /// Sends one.
    ///
    /// # Errors
    /// What the operating system says; that it did not does not mean that the peer got it.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;
}

/// Listening and connecting.
pub trait Net: Send + Sync {
    /// Binds a TCP address such as `127.0.0.1:8200` or `[::]:8200`.
    ///
    /// # Errors
    /// What the operating system says.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

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

    /// Prepares to send datagrams to a UDP address.
    ///
    /// # Errors
    /// What the operating system says.
    fn datagrams_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>>;
}
