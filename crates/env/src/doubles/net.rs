//! A network inside the process: listeners by address, connections as in-memory duplex pipes.
//!
//! Deliberately absent: hosts, delay and loss, which a network of hosts has (`Fabric`).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::BoxFuture;
use crate::net::{Datagrams, Listener, Net, Stream};

type Incoming = (Box<dyn Stream>, SocketAddr);
type Listening<K> = Arc<Mutex<BTreeMap<K, mpsc::Sender<Incoming>>>>;

/// Bytes that a pipe holds before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// The in-process network.
#[derive(Default)]
pub struct MemoryNet {
    listeners: Listening<SocketAddr>,
    local: Listening<PathBuf>,
    receivers: Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>,
    local_receivers: Mutex<BTreeMap<PathBuf, mpsc::Sender<Vec<u8>>>>,
    next_port: Mutex<u16>,
}

impl MemoryNet {
    /// A network without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self {
            listeners: Arc::default(),
            local: Arc::default(),
            receivers: Arc::default(),
            local_receivers: Mutex::default(),
            next_port: Mutex::new(40_000),
        }
    }

    /// Listens on a socket in a file system that is not there: connections arrive at the receiver.
    pub fn listen_locally(&self, path: impl Into<PathBuf>) -> mpsc::Receiver<(Box<dyn Stream>, SocketAddr)> {
        let (sender, receiver) = mpsc::channel(128);
        self.local.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), sender);
        receiver
    }

    /// Receives the datagrams that are sent to an address; more than it holds are refused.
    pub fn receive_datagrams(&self, address: SocketAddr) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(1024);
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);
        receiver
    }

    /// Receives the datagrams that are sent to a socket in a file system that is not there, until it is dropped; as many
    /// as this may wait.
    pub fn receive_local_datagrams(&self, path: impl Into<PathBuf>, waiting_max: usize) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(waiting_max);
        self.local_receivers.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), sender);
        receiver
    }

    async fn connect_to(&self, sender: Option<mpsc::Sender<Incoming>>) -> io::Result<Box<dyn Stream>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let sender = sender.ok_or_else(refused)?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.fresh_port());
        sender.send((Box::new(far), peer)).await.map_err(|_| refused())?;
        Ok(Box::new(near) as Box<dyn Stream>)
    }

    fn fresh_port(&self) -> u16 {
        let mut next = self.next_port.lock().unwrap_or_else(PoisonError::into_inner);
        *next = next.checked_add(1).unwrap_or(40_000);
        *next
    }
}

struct MemoryListener {
    address: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    listeners: Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Incoming>>>>,
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

impl Listener for MemoryListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            // One acceptor per listener: the lock is never contended.
            let received = self.incoming.lock().await.recv().await;
            received.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
        })
    }
}

impl Net for MemoryNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut address = address;
            if address.port() == 0 {
                address.set_port(self.fresh_port());
            }
            let (sender, receiver) = mpsc::channel(128);
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            if listeners.contains_key(&address) {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            listeners.insert(address, sender);
            let listener = MemoryListener {
                address,
                incoming: tokio::sync::Mutex::new(receiver),
                listeners: Arc::clone(&self.listeners),
            };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let sender = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
            self.connect_to(sender).await
        })
    }

    /// This network has no names.
    fn resolve<'a>(&'a self, host_and_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let address = host_and_port.parse().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(vec![address])
        })
    }

    fn connect_local<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let sender = self.local.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
            self.connect_to(sender).await
        })
    }

    fn local_datagrams_to<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let receivers = self.local_receivers.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = receivers.get(path).filter(|sender| !sender.is_closed()).cloned();
            let sender = sender.ok_or(io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(MemoryLocalDatagrams(sender)) as Box<dyn Datagrams>)
        })
    }

    fn datagrams_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            Ok(Box::new(MemoryDatagrams { address, receivers: Arc::clone(&self.receivers) }) as Box<dyn Datagrams>)
        })
    }
}

struct MemoryDatagrams {
    address: SocketAddr,
    receivers: Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>,
}

impl Datagrams for MemoryDatagrams {
    /// What nobody receives is refused, as a host that is there does.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            let receiver = receivers.get(&self.address).ok_or(io::ErrorKind::ConnectionRefused)?;
            receiver.try_send(datagram.to_vec()).map_err(|_| io::ErrorKind::ConnectionRefused.into())
        })
    }
}

struct MemoryLocalDatagrams(mpsc::Sender<Vec<u8>>);

impl Datagrams for MemoryLocalDatagrams {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let sent = self.0.send(datagram.to_vec()).await;
            sent.map_err(|_| io::ErrorKind::ConnectionRefused.into())
        })
    }

    /// Of one whose receiver is gone nothing waits any more, as in the system's sockets.
    fn is_read(&self) -> Option<bool> {
        Some(self.0.is_closed() || self.0.capacity() == self.0.max_capacity())
    }
}
