//! Who connects to the cluster port and does not belong there, and members that speak out of turn.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tresor_env::doubles::{Fabric, ManualClock, MemoryDisk, SeededEntropy, TestDoors};
use tresor_env::net::Stream;
use tresor_env::{BoxFuture, Clock, Doors, Net, Timestamp};

use crate::certificate::Identity;
use crate::frame::Frame;
use crate::pulse::Pulse;
use crate::stream::{Reading, Writing};
use crate::trouble::{Parting, Trouble};
use crate::{Declined, Handler, Lane, Member, Members, NodeId, NodeKey, Peers, Timing, tls};

const SERVER: u8 = 1;
const CLIENT: u8 = 2;

#[derive(Default)]
struct Counting(AtomicU32);

impl Handler for Counting {
    fn answer(&self, _from: NodeId, _lane: Lane, message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if message.starts_with(b"h") {
                std::future::pending::<()>().await;
            }
            Ok(message)
        })
    }
}

fn key(seed: u64) -> NodeKey {
    NodeKey::open(&MemoryDisk::new(), Path::new("/data"), &SeededEntropy::new(seed)).unwrap()
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::new([10, 0, 0, host].into(), 8201)
}

/// A node that listens, and knows one other.
struct Setting {
    clock: Arc<ManualClock>,
    net: Arc<dyn Net>,
    fabric: Fabric,
    handler: Arc<Counting>,
    member: NodeKey,
    config: ClientConfig,
    _server: Peers,
}

impl Setting {
    async fn new() -> Self {
        let test = TestDoors::new(1);
        let clock = test.clock.clone();
        let fabric = Fabric::new(clock.clone(), 1);
        let doors = Doors { net: fabric.host(at(SERVER).ip()), ..test.doors };
        let (server, member, handler) = (key(1), key(2), Arc::new(Counting::default()));
        let peers = Peers::new(&doors, &server, handler.clone(), Timing::default()).unwrap();
        peers.listen(at(SERVER)).await.unwrap();
        let known = Member { key: member.public(), addresses: vec!["10.0.0.9:1".to_owned()] };
        peers.set_members(Members::new([(NodeId(2), known)]).unwrap()).unwrap();
        let identity = Arc::new(Identity::new(&member, clock.clone()).unwrap());
        let config = tls::to_node(server.public(), &identity, &(clock.clone() as Arc<dyn Clock>)).unwrap();
        let net = fabric.host(at(CLIENT).ip());
        Self { clock, net, fabric, handler, member, config: (*config).clone(), _server: peers }
    }

    /// A handshake with this configuration, and the first frames.
    async fn greet(&self, config: ClientConfig) -> Result<Client, Trouble> {
        let stream = self.net.connect(at(SERVER)).await.unwrap();
        let name = ServerName::try_from("x.invalid").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let (reading, writing) = tokio::io::split(stream.map_err(|error| Trouble::of_io(&error))?);
        let mut client = Client { reading: Reading::new(reading), writing: Writing::new(writing) };
        client.send(&Frame::Hello(Lane::Urgent)).await;
        match client.next().await? {
            Frame::Welcome => Ok(client),
            other => panic!("{other:?}"),
        }
    }

    async fn member(&self) -> Client {
        self.greet(self.config.clone()).await.unwrap()
    }

    /// The member's configuration, changed.
    fn with(&self, change: impl FnOnce(&mut ClientConfig)) -> ClientConfig {
        let mut config = self.config.clone();
        change(&mut config);
        config
    }

    /// The member's configuration with another certificate.
    fn showing(&self, certified: CertifiedKey) -> ClientConfig {
        self.with(|config| config.client_auth_cert_resolver = Arc::new(Shows(Arc::new(certified))))
    }

    /// That this is refused in the handshake, for this reason, and nothing was answered.
    async fn assert_refused(&self, config: ClientConfig, reason: Trouble) {
        assert_eq!(self.greet(config).await.err(), Some(reason));
        assert_eq!(self.handler.0.load(Ordering::SeqCst), 0);
        drop(self.member().await);
    }
}

#[derive(Debug)]
struct ShowsNothing;

impl ResolvesClientCert for ShowsNothing {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

type Tls = TlsStream<Box<dyn Stream>>;

/// A client that writes what it likes.
struct Client {
    reading: Reading<tokio::io::ReadHalf<Tls>>,
    writing: Writing<tokio::io::WriteHalf<Tls>>,
}

impl Client {
    async fn send(&mut self, frame: &Frame) {
        assert!(self.writing.put(frame).await.unwrap());
        // It may be refused before it is read.
        drop(self.writing.send(&Pulse::default()).await);
    }

    async fn send_raw(&mut self, bytes: &[u8]) {
        self.writing.put_raw(bytes);
        drop(self.writing.send(&Pulse::default()).await);
    }

    async fn next(&mut self) -> Result<Frame, Trouble> {
        self.reading.next(Some(Lane::Urgent), &Pulse::default()).await.map_err(|unread| match unread {
            crate::stream::Unread::Ended(trouble) => trouble,
            crate::stream::Unread::Misread(parting) => Trouble::Parted(parting),
        })
    }

    async fn assert_parted(mut self, parting: Parting) {
        assert_eq!(self.next().await, Ok(Frame::Parting(parting)));
        assert!(matches!(self.next().await, Err(Trouble::Broken(_))));
    }
}

fn message(number: u64, body: &'static [u8]) -> Frame {
    Frame::Message { number, within_millis: 60_000, body: Bytes::from_static(body) }
}

#[tokio::test]
async fn without_a_certificate_or_with_a_strangers_the_handshake_fails() {
    let setting = Setting::new().await;
    let none = setting.with(|config| config.client_auth_cert_resolver = Arc::new(ShowsNothing));
    setting.assert_refused(none, Trouble::Handshake).await;
    let stranger = Identity::new(&key(3), setting.clock.clone()).unwrap();
    let config = setting.with(|config| config.client_auth_cert_resolver = Arc::new(stranger));
    setting.assert_refused(config, Trouble::NotAdmitted).await;
}

/// The certificate is no secret; the key is.
#[tokio::test]
async fn a_members_certificate_is_nothing_without_its_key() {
    let setting = Setting::new().await;
    let theirs = Identity::new(&setting.member, setting.clock.clone()).unwrap();
    let certificate = theirs.resolve(&[], &[]).unwrap().cert.clone();
    let config = setting.showing(CertifiedKey::new(certificate, key(3).signer()));
    setting.assert_refused(config, Trouble::Handshake).await;
}

#[tokio::test]
async fn a_certificate_that_somebody_else_signed_for_a_members_key_is_refused() {
    let setting = Setting::new().await;
    let issuer = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&issuer).unwrap();
    let issuer = rcgen::Issuer::new(params, issuer);
    let public = crate::certificate::signer(&setting.member);
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&public, &issuer).unwrap();
    for chain in [vec![leaf.der().clone()], vec![leaf.der().clone(), authority.der().clone()]] {
        let config = setting.showing(CertifiedKey::new(chain, setting.member.signer()));
        setting.assert_refused(config, Trouble::Handshake).await;
    }
}

#[tokio::test]
async fn a_certificate_of_other_days_is_refused_though_its_key_is_a_members() {
    let setting = Setting::new().await;
    for days in [-3, 3] {
        let then = setting.clock.wall().seconds() + days * 24 * 60 * 60;
        let then = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(then)));
        let identity = Identity::new(&setting.member, then).unwrap();
        let config = setting.with(|config| config.client_auth_cert_resolver = Arc::new(identity));
        setting.assert_refused(config, Trouble::FoundOutOfDate).await;
    }
}

#[tokio::test]
async fn another_version_of_the_protocol_or_of_tls_is_refused_by_name() {
    let setting = Setting::new().await;
    let speaking = |names: &[&[u8]]| {
        setting.with(|config| config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect())
    };
    setting.assert_refused(speaking(&[b"tresor-peers/2"]), Trouble::Version).await;
    setting.assert_refused(speaking(&[b"h2", b"http/1.1"]), Trouble::Version).await;
    // TLS itself takes who names none.
    setting.assert_refused(speaking(&[]), Trouble::Broken(std::io::ErrorKind::UnexpectedEof)).await;
    drop(setting.greet(speaking(&[b"tresor-peers/2", b"tresor-peers/1"])).await.unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let old = old.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    setting.assert_refused(old, Trouble::Handshake).await;
}

#[tokio::test]
async fn no_session_is_resumed() {
    let setting = Setting::new().await;
    let config = setting.with(|config| config.resumption = rustls::client::Resumption::default());
    for _ in 0..3 {
        let client = setting.greet(config.clone()).await.unwrap();
        let (reading, writing) = (client.reading.into_inner(), client.writing.into_inner());
        let stream = reading.unsplit(writing);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn what_is_no_tls_is_refused_and_whoever_says_nothing_makes_room_for_members() {
    let setting = Setting::new().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(setting.net.connect(at(SERVER)).await.unwrap());
        tokio::task::yield_now().await;
    }
    drop(setting.member().await);
    assert!(setting.fabric.connections() < 80, "{} strangers", setting.fabric.connections());
    let mut http = setting.net.connect(at(SERVER)).await.unwrap();
    http.write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    http.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() < 16, "{answer:?}");
    drop(setting.member().await);
    // Half a handshake ends by itself.
    setting.clock.advance(Timing::default().connect_within + Duration::from_millis(1));
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    assert_eq!(setting.fabric.connections(), 0);
    drop(idle);
}

#[tokio::test]
async fn a_member_that_speaks_out_of_turn_is_told_so_and_cut_off() {
    let setting = Setting::new().await;
    for frame in [
        Frame::Hello(Lane::Bulk),
        Frame::Welcome,
        Frame::Answer { number: 1, body: Bytes::new() },
        Frame::Parting(Parting::TooOld),
    ] {
        let mut client = setting.member().await;
        client.send(&frame).await;
        client.assert_parted(Parting::Misread).await;
    }
    for raw in [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 99], &[0, 0, 0, 2, 7, 7], &[0, 0, 0, 3, 3, 0, 0]] {
        let mut client = setting.member().await;
        client.send_raw(raw).await;
        client.assert_parted(Parting::Misread).await;
    }
    // A number that is in use.
    let mut client = setting.member().await;
    client.send(&message(7, b"h")).await;
    client.send(&message(7, b"h")).await;
    client.assert_parted(Parting::Misread).await;
    assert!(setting.handler.0.load(Ordering::SeqCst) <= 1);
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_by_its_length() {
    let setting = Setting::new().await;
    for length in [Lane::Urgent.message_bytes_max() + 14, usize::try_from(u32::MAX).unwrap()] {
        let mut client = setting.member().await;
        let mut head = BytesMut::new();
        head.put_u32(u32::try_from(length).unwrap());
        client.send_raw(&head).await;
        client.assert_parted(Parting::TooLong).await;
    }
    // Before the lane is told nothing is longer than a few bytes.
    let stream = setting.net.connect(at(SERVER)).await.unwrap();
    let connector = TlsConnector::from(Arc::new(setting.config.clone()));
    let mut stream = connector.connect(ServerName::try_from("x.invalid").unwrap(), stream).await.unwrap();
    stream.write_all(&[0, 0, 0, 200, 1]).await.unwrap();
    assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_node_that_connects_again_replaces_what_it_had() {
    let setting = Setting::new().await;
    let first = setting.member().await;
    let mut second = setting.member().await;
    first.assert_parted(Parting::Replaced).await;
    second.send(&message(1, b"e")).await;
    assert_eq!(second.next().await, Ok(Frame::Answer { number: 1, body: Bytes::from_static(b"e") }));
    // A message that is given up is not answered, and its number is free.
    second.send(&message(2, b"h")).await;
    second.send(&Frame::GivenUp { number: 2 }).await;
    second.send(&Frame::GivenUp { number: 99 }).await;
    second.send(&message(3, b"e")).await;
    assert_eq!(second.next().await, Ok(Frame::Answer { number: 3, body: Bytes::from_static(b"e") }));
}
