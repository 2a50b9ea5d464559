//! The PROXY protocol: a load balancer that passes on what it gets says first where that comes from.
//!
//! Both versions are read. A connection that begins with neither is one without a load balancer. Deliberately absent: what
//! version 2 may say besides addresses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use ipnet::IpNet;
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tresor_env::net::Stream;

/// Who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// What is done with others.
    pub unauthorized: Unauthorized,
    /// The load balancers.
    pub authorized: Vec<IpNet>,
}

/// What becomes of a connection from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// It is believed as well.
    Believed,
    /// What it says of itself is read and ignored.
    Ignored,
    /// It is closed.
    Refused,
}

/// More than any load balancer has to say.
const PREFACE_BYTES_MAX: usize = 2048;
const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads what a load balancer says before anything else: the stream behind it, and where it comes from.
pub(crate) async fn client_of(
    mut stream: Box<dyn Stream>,
    peer: SocketAddr,
    rules: &ProxyProtocol,
) -> io::Result<(Rewound, SocketAddr)> {
    let address = peer.ip().to_canonical();
    let is_authorized = rules.authorized.iter().any(|range| range.contains(&address));
    if !is_authorized && rules.unauthorized == Unauthorized::Refused {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is none of proxy_protocol_authorized_addrs"));
    }
    let mut held = Vec::new();
    let found = loop {
        match preface(&held)? {
            Preface::Whole { length, source } => break Some((length, source)),
            Preface::None => break None,
            Preface::Begun => {}
        }
        let mut bytes = [0; 256];
        let length = stream.read(&mut bytes).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(bytes.get(..length).unwrap_or_default());
    };
    let (at, source) = found.unwrap_or_default();
    let is_believed = is_authorized || rules.unauthorized == Unauthorized::Believed;
    let client = source.filter(|_| is_believed).unwrap_or(peer);
    Ok((Rewound { held, at, stream }, client))
}

#[derive(Debug, PartialEq)]
enum Preface {
    /// More is needed to know.
    Begun,
    /// This is something else.
    None,
    /// So long; nothing is said of who connected where the load balancer asks for itself.
    Whole { length: usize, source: Option<SocketAddr> },
}

fn preface(held: &[u8]) -> io::Result<Preface> {
    let may_be = |mark: &[u8]| held.iter().zip(mark).all(|(one, other)| one == other);
    if !may_be(VERSION_1) && !may_be(VERSION_2) {
        return Ok(Preface::None);
    }
    let result = HeaderResult::parse(held);
    if held.len() < VERSION_1.len() || (result.is_incomplete() && held.len() < PREFACE_BYTES_MAX) {
        return Ok(Preface::Begun);
    }
    let (length, source) = match result {
        HeaderResult::V1(Ok(header)) => (
            header.header.len(),
            match header.addresses {
                v1::Addresses::Tcp4(both) => Some((both.source_address, both.source_port).into()),
                v1::Addresses::Tcp6(both) => Some((both.source_address, both.source_port).into()),
                v1::Addresses::Unknown => None,
            },
        ),
        HeaderResult::V2(Ok(header)) => (
            header.header.len(),
            match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(both)) => Some((both.source_address, both.source_port).into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(both)) => Some((both.source_address, both.source_port).into()),
                _ => None,
            },
        ),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what it says by the PROXY protocol makes no sense",
            ));
        }
    };
    Ok(Preface::Whole { length, source })
}

/// A stream whose first bytes were read already.
pub(crate) struct Rewound {
    held: Vec<u8>,
    /// How many of them are gone.
    at: usize,
    stream: Box<dyn Stream>,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.held.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let now = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..now).unwrap_or_default());
        self.at += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.1.1.1:9";

    /// What is read of a connection that begins so, and where it comes from; each piece arrives by itself.
    fn read(pieces: &[&[u8]], unauthorized: Unauthorized, authorized: &str) -> io::Result<(Vec<u8>, String)> {
        let rules = ProxyProtocol { unauthorized, authorized: vec![authorized.parse().unwrap()] };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bytes: Box<dyn AsyncRead + Send + Unpin> = Box::new(tokio::io::empty());
        for piece in pieces.iter().rev() {
            bytes = Box::new(io::Cursor::new(piece.to_vec()).chain(bytes));
        }
        runtime.block_on(async {
            let stream = Box::new(tokio::io::join(bytes, tokio::io::sink()));
            let (mut stream, client) = client_of(stream, PEER.parse().unwrap(), &rules).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            Ok((rest, client.to_string()))
        })
    }

    const LINE: &[u8] = b"PROXY TCP4 1.2.3.4 10.0.0.1 5678 8200\r\n";
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [VERSION_2, &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn both_versions_say_where_a_connection_comes_from() {
        let from = |pieces: &[&[u8]]| read(pieces, Unauthorized::Believed, "10.0.0.0/8").unwrap();
        let here = |client: &str| (HEAD.to_vec(), client.to_owned());
        assert_eq!(from(&[&[LINE, HEAD].concat()]), here("1.2.3.4:5678"));
        assert_eq!(from(&[&LINE[..3], &LINE[3..], HEAD]), here("1.2.3.4:5678"));
        assert_eq!(from(&[b"PROXY UNKNOWN\r\n", HEAD]), here(PEER));
        assert_eq!(from(&[b"PROXY TCP6 2001:db8::1 ::1 5678 8200\r\n", HEAD]), here("[2001:db8::1]:5678"));
        let four = [1, 2, 3, 4, 10, 0, 0, 1, 22, 46, 32, 8];
        assert_eq!(from(&[&binary(1, 0x11, &four), HEAD]), here("1.2.3.4:5678"));
        assert_eq!(from(&[&binary(0, 0x11, &four), HEAD]), here(PEER), "the load balancer asks for itself");
        let whole = binary(1, 0x11, &four);
        assert_eq!(from(&[&whole[..13], &whole[13..20], &whole[20..], HEAD]), here("1.2.3.4:5678"));
        // Without one, nothing is taken away; `POST`, `PUT` and HTTP/2 begin like one.
        for head in
            [HEAD, b"POST / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\0\x01", b"P"]
        {
            let read = read(&[head], Unauthorized::Believed, "10.0.0.0/8");
            let is_whole = |(rest, client): (Vec<u8>, String)| rest == head && client == PEER;
            assert!(read.map_or(head == b"P", is_whole), "{head:?}");
        }
    }

    #[test]
    fn dos_10_who_is_not_authorized_is_not_believed_and_nonsense_ends_its_own_connection() {
        let from = |unauthorized, bytes: &[u8]| read(&[bytes, HEAD], unauthorized, "192.0.2.0/24");
        assert_eq!(from(Unauthorized::Ignored, LINE).unwrap(), (HEAD.to_vec(), PEER.to_owned()));
        assert_eq!(from(Unauthorized::Refused, LINE).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(from(Unauthorized::Refused, b"").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        for wrong in [&b"PROXY TCP4 1.2.3.4 x 1 2\r\n"[..], b"PROXY \r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n"] {
            assert!(from(Unauthorized::Believed, wrong).is_err(), "{wrong:?}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 5000]].concat();
        assert!(from(Unauthorized::Believed, &endless).is_err());
    }

    proptest! {
        #[test]
        fn fz_15_any_beginning_is_a_preface_a_connection_or_an_error(
            mark in prop::sample::select(vec![VERSION_1, VERSION_2, b"".as_slice(), b"PROXY TCP4 1.2.3.4 "]),
            rest in prop::collection::vec(any::<u8>(), 0..300), is_believed in any::<bool>(),
        ) {
            let bytes = [mark, &rest].concat();
            let unauthorized = if is_believed { Unauthorized::Believed } else { Unauthorized::Ignored };
            if let Ok((left, client)) = read(&[&bytes], unauthorized, "192.0.2.0/24") {
                prop_assert!(bytes.ends_with(&left));
                prop_assert!(is_believed || client == PEER);
                prop_assert!(left.len() < bytes.len() || client == PEER);
            }
        }
    }
}
