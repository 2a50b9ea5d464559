//! The network door: listening for and opening byte streams.
//!
//! TLS stands above this door (in `tresor-server`), so the simulator replaces plain streams only. Deliberately
//! absent: name resolution policy and datagrams.

use std::io;
use std::net::SocketAddr;

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
}
