//! Sockets of the system.

use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use tresor_env::BoxFuture;
use tresor_env::net::{Datagrams, Listener, LocalSocket, Net, Stream};

/// TCP, UDP and sockets in the file system.
pub struct OsNet;

struct OsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for OsListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer))
        })
    }
}

/// Who has no address: a process of this machine.
const THIS_MACHINE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct OsLocalListener {
    listener: UnixListener,
    path: PathBuf,
}

impl OsLocalListener {
    async fn bind(socket: &LocalSocket) -> io::Result<Self> {
        let path = &socket.path;
        // What a process left that was killed; one that is alive keeps its socket, and anything else its file.
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            std::fs::remove_file(path)?;
        }
        let bound = Self { listener: UnixListener::bind(path)?, path: path.clone() };
        if socket.user.is_some() || socket.group.is_some() {
            std::os::unix::fs::chown(path, socket.user, socket.group)?;
        }
        if let Some(mode) = socket.mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(bound)
    }
}

impl Listener for OsLocalListener {
    fn local_address(&self) -> SocketAddr {
        THIS_MACHINE
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, THIS_MACHINE))
        })
    }
}

impl Drop for OsLocalListener {
    fn drop(&mut self) {
        // Nobody to tell, and the next one that listens there replaces it.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Net for OsNet {
    fn listen_local<'a>(&'a self, socket: &'a LocalSocket) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(OsLocalListener::bind(socket).await?) as Box<dyn Listener>) })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Box::new(OsListener { listener, address }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, host_and_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(host_and_port).await?.collect()) })
    }

    fn connect_local<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>) })
    }

    fn local_datagrams_to<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            set_socket_send_buffer_size(&socket, LOCAL_SEND_BUFFER_BYTES)?;
            Ok(Box::new(OsLocalDatagrams(socket)) as Box<dyn Datagrams>)
        })
    }

    fn datagrams_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let own: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((own, 0)).await?;
            socket.connect(address).await?;
            Ok(Box::new(OsDatagrams(socket)) as Box<dyn Datagrams>)
        })
    }
}

struct OsDatagrams(UdpSocket);

impl Datagrams for OsDatagrams {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { self.0.send(datagram).await.map(drop) })
    }
}

/// What the system is asked for; it keeps twice as much ([`tresor_env::net::LOCAL_DATAGRAMS_WAITING_MAX`]), its own bookkeeping
/// included.
const LOCAL_SEND_BUFFER_BYTES: usize = 128 * 1024;

struct OsLocalDatagrams(UnixDatagram);

impl Datagrams for OsLocalDatagrams {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { self.0.send(datagram).await.map(drop) })
    }

    /// What was sent and not read counts against the sender's buffer. So a socket whose buffer is as small as can be is ready
    /// for more when nothing waits that is longer than [`tresor_env::net::LOCAL_DATAGRAM_BYTES_MIN`].
    fn is_read(&self) -> Option<bool> {
        set_socket_send_buffer_size(&self.0, 1).ok()?;
        let mut ready = [PollFd::new(&self.0, PollFlags::OUT)];
        let polled = poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let is_ready = ready[0].revents().contains(PollFlags::OUT);
        let is_restored = set_socket_send_buffer_size(&self.0, LOCAL_SEND_BUFFER_BYTES).is_ok();
        Some(polled.is_ok() && is_ready && is_restored)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixDatagram as Receiver;

    use tresor_env::net::{LOCAL_DATAGRAM_BYTES_MAX, LOCAL_DATAGRAM_BYTES_MIN, LOCAL_DATAGRAMS_WAITING_MAX};

    use super::*;

    #[tokio::test]
    async fn whether_local_datagrams_were_read_is_known_to_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let receiver = Receiver::bind(&path).unwrap();
        let datagrams = OsNet.local_datagrams_to(&path).await.unwrap();
        let mut taken = vec![0; LOCAL_DATAGRAM_BYTES_MAX];
        assert_eq!(datagrams.is_read(), Some(true));
        for length in [LOCAL_DATAGRAM_BYTES_MIN, 800, LOCAL_DATAGRAM_BYTES_MAX] {
            datagrams.send(&vec![7; length]).await.unwrap();
            assert_eq!(datagrams.is_read(), Some(false), "{length}");
            assert_eq!(receiver.recv(&mut taken).unwrap(), length);
            assert_eq!(datagrams.is_read(), Some(true), "{length}");
        }
        // As much as fits waits, and no more.
        let mut waiting = 0;
        loop {
            tokio::select! {
                biased;
                sent = datagrams.send(&[7; 30_000]) => sent.unwrap(),
                () = std::future::ready(()) => break,
            }
            waiting += 30_000;
        }
        assert!(waiting > 30_000 && waiting <= LOCAL_DATAGRAMS_WAITING_MAX, "{waiting}");
        for left in (0..waiting / 30_000).rev() {
            receiver.recv(&mut taken).unwrap();
            assert_eq!(datagrams.is_read(), Some(left == 0), "{left}");
        }
        datagrams.send(&[7; 30_000]).await.unwrap();
        drop(receiver);
        assert_eq!(datagrams.send(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(OsNet.local_datagrams_to(&path).await.is_err());
    }
}
