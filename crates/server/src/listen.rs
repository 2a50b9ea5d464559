//! Accepting connections: TLS, bounds, and a graceful end.
//!
//! A connection costs at most a slot of a bounded number and its time-outs: a client that sends nothing, half a
//! handshake or half a head is cut off. What goes on as a WebSocket keeps its slot, and stopping waits for none.
//! Deliberately absent: who is believed about addresses (`proxied`, `tresor_http`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Version;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::server::ResolvesServerCert;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tresor_env::net::{Listener as Bound, Stream};
use tresor_env::{Clock, Doors, Tasks};
use tresor_http::{Agreed, BODIES_BYTES_MAX, BodyBudget, Options, RequestLog, Serve, Talk};
use tresor_model::Connection;
use tresor_model::request::Withheld;

use crate::acme::{Keeper, Keepers};
use crate::activity::Activity;
use crate::config::{CertificateSource, Listener, Place};
use crate::patience::Patient;
use crate::proxied::{self, ProxyProtocol};
use crate::tls::{self, Certificate};

/// How many connections a listener holds at once.
const CONNECTIONS_MAX: usize = 8192;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 250;
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How many headers a request may have.
const HEADERS_MAX: usize = 100;
/// The longest that shutting down waits for requests that are being served.
const DRAIN_BOUND: Duration = Duration::from_secs(10);
/// How long accepting rests after it failed (for lack of descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How far the listeners have come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everybody is served.
    Open,
    /// Everybody is served, and asked to come again over another connection.
    Parting,
    /// No connection is taken any more, and what has no request to answer is closed.
    Closing,
}

/// The running listeners.
pub(crate) struct Listeners {
    phase: watch::Sender<Phase>,
    tasks: Arc<Tasks>,
    certificates: Vec<Arc<Certificate>>,
    keepers: Arc<Keepers>,
    doors: Doors,
    /// Where they really listen.
    pub(crate) places: Vec<Place>,
}

/// Listeners that are bound and serve nobody yet: who connects waits.
pub(crate) struct BoundListeners {
    bound: Vec<(Listener, Box<dyn Bound>, Option<Tls>)>,
    certificates: Vec<Arc<Certificate>>,
    keepers: Keepers,
    /// Where they really listen.
    pub(crate) places: Vec<Place>,
}

/// How a listener shakes hands.
struct Tls {
    acceptor: TlsAcceptor,
    /// Who shows an authority whose the names are, where its certificates come from one.
    keeper: Option<Arc<Keeper>>,
}

impl BoundListeners {
    /// Binds every listener.
    pub(crate) async fn bind(configured: &[Listener], doors: &Doors) -> Result<Self, String> {
        let keepers = Keepers::default();
        let mut listeners = Self { bound: Vec::new(), certificates: Vec::new(), keepers, places: Vec::new() };
        for listener in configured {
            let bound = match &listener.place {
                Place::Tcp(address) => doors.net.listen(*address).await,
                Place::Local(socket) => doors.net.listen_local(socket).await,
            };
            let bound = bound.map_err(|error| format!("cannot listen on {}: {error}", listener.place))?;
            let mut acceptor = None;
            if let Some(settings) = &listener.tls {
                let provider = tls::provider(settings);
                let mut keeper = None;
                let resolver: Arc<dyn ResolvesServerCert> = match &settings.source {
                    CertificateSource::Files(files) => {
                        let certificate = tls::certificate(files, &provider)?;
                        listeners.certificates.push(Arc::clone(&certificate));
                        certificate
                    }
                    CertificateSource::Acme(acme) => {
                        let ip = bound.local_address().ip();
                        let own = keeper.insert(Arc::new(Keeper::new(acme, ip, &provider, doors)));
                        listeners.keepers.add(Arc::clone(own));
                        Arc::<Keeper>::clone(own)
                    }
                };
                let acceptor_config = tls::configure(settings, provider, resolver)?;
                acceptor = Some(Tls { acceptor: TlsAcceptor::from(acceptor_config), keeper });
            }
            listeners.places.push(match &listener.place {
                Place::Tcp(_) => Place::Tcp(bound.local_address()),
                local @ Place::Local(_) => local.clone(),
            });
            listeners.bound.push((listener.clone(), bound, acceptor));
        }
        Ok(listeners)
    }

    /// The ports at which they really listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().filter_map(Place::tcp).collect()
    }

    /// Serves from now on.
    pub(crate) fn serve(
        self,
        serve: &Arc<dyn Serve>,
        doors: &Doors,
        own: &[(&'static str, String)],
        request_log: &RequestLog,
    ) -> Listeners {
        let (phase, phases) = watch::channel(Phase::Open);
        let listeners = Listeners {
            phase,
            tasks: Arc::new(Tasks::new()),
            certificates: self.certificates,
            keepers: Arc::new(self.keepers),
            doors: doors.clone(),
            places: self.places,
        };
        if !listeners.keepers.is_empty() {
            let (keepers, mut phases) = (Arc::clone(&listeners.keepers), phases.clone());
            listeners.tasks.spawn(async move {
                tokio::select! {
                    () = keepers.keep() => {}
                    () = told_to_stop(&mut phases) => {}
                }
            });
        }
        let proofs = listeners.keepers.is_by_http().then(|| Arc::<Keepers>::clone(&listeners.keepers) as _);
        for certificate in &listeners.certificates {
            if let Some(interval) = certificate.reload_interval() {
                let follow = follow(Arc::clone(certificate), interval, Arc::clone(&doors.clock), phases.clone());
                listeners.tasks.spawn(follow);
            }
        }
        for (mut listener, bound, tls) in self.bound {
            own.iter().for_each(|(name, value)| listener.headers.add_own(name, value));
            let shared = Arc::new(Shared {
                serve: Arc::clone(serve),
                doors: doors.clone(),
                options: Options {
                    body_bytes_max: listener.request_bytes_max,
                    bodies: BodyBudget::new(BODIES_BYTES_MAX.max(listener.request_bytes_max.saturating_mul(2))),
                    body_timeout: listener.body_timeout,
                    is_tls: tls.is_some(),
                    // Authorities ask in the clear.
                    proofs: Option::clone(&proofs).filter(|_| tls.is_none()),
                    opened: listener.opened.clone(),
                    headers: listener.headers,
                    json: listener.json,
                    is_host_required: true,
                    request_log: request_log.clone(),
                    forwarded_for: listener.forwarded_for,
                    chroot: listener.chroot,
                    numbers: listener.numbers,
                    origins: listener.origins,
                    ..Options::default()
                },
                header_timeout: listener.header_timeout,
                idle_timeout: listener.idle_timeout,
                write_timeout: listener.write_timeout,
                request_time_max: listener.request_time_max,
                withheld: listener.withheld,
                tls,
                proxy_protocol: listener.proxy_protocol,
                slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                phases: phases.clone(),
            });
            listeners.tasks.spawn(accept(bound, shared, Arc::downgrade(&listeners.tasks)));
        }
        listeners
    }
}

impl Listeners {
    /// Reads every certificate again, and tries again to get what was not to be had.
    pub(crate) fn reload_certificates(&self) {
        self.certificates.iter().for_each(|certificate| reload(certificate));
        self.keepers.try_again();
    }

    /// Serves on, and ends each connection with its next answer. (HTTP/2 ends its connections without a loss by itself.)
    pub(crate) fn part(&self) {
        self.phase.send_replace(Phase::Parting);
    }

    /// Takes no new connection, lets running requests end.
    pub(crate) async fn drain(self) {
        self.phase.send_replace(Phase::Closing);
        self.tasks.finish(self.doors.clock.sleep(DRAIN_BOUND)).await;
    }
}

fn reload(certificate: &Certificate) {
    match certificate.reload() {
        Ok(()) => tracing::info!("certificate reloaded"),
        Err(error) => tracing::error!(%error, "certificate cannot be reloaded; the old one stays"),
    }
}

/// Reads a certificate again whenever its files were replaced.
async fn follow(
    certificate: Arc<Certificate>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    mut phases: watch::Receiver<Phase>,
) {
    let mut known = certificate.seen();
    loop {
        tokio::select! {
            () = clock.sleep(interval) => {}
            () = told_to_stop(&mut phases) => return,
        }
        let seen = certificate.seen();
        // A file that is away is being replaced.
        if seen != known && seen.iter().all(Option::is_some) {
            reload(&certificate);
            known = seen;
        }
    }
}

struct Shared {
    serve: Arc<dyn Serve>,
    doors: Doors,
    options: Options,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    request_time_max: Option<Duration>,
    withheld: Withheld,
    tls: Option<Tls>,
    proxy_protocol: Option<ProxyProtocol>,
    slots: Arc<Semaphore>,
    phases: watch::Receiver<Phase>,
}

async fn accept(bound: Box<dyn Bound>, shared: Arc<Shared>, tasks: std::sync::Weak<Tasks>) {
    let mut phases = shared.phases.clone();
    loop {
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            () = told_to_stop(&mut phases) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(tasks) = tasks.upgrade() else { return };
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    if let Err(error) = connection(stream, peer, &shared).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    drop(slot);
                });
            }
            // One connection's failure, or a lack of descriptors: neither ends the listener (DOS-10).
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shared.doors.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Completes when the listeners are told to stop, or are gone.
async fn told_to_stop(phases: &mut watch::Receiver<Phase>) {
    drop(phases.wait_for(|phase| *phase == Phase::Closing).await);
}

async fn connection(mut stream: Box<dyn Stream>, mut peer: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    if let Some(rules) = &shared.proxy_protocol {
        let (behind, client) = tokio::select! {
            told = proxied::client_of(stream, peer, rules) => told?,
            () = shared.doors.clock.sleep(HANDSHAKE_TIMEOUT) => return Err(io::ErrorKind::TimedOut.into()),
        };
        (stream, peer) = (Box::new(behind), client);
    }
    match &shared.tls {
        None => serve(stream, peer, Vec::new(), shared).await,
        Some(tls) => {
            let shaken = tokio::select! {
                shaken = tls.shake_hands(stream) => shaken?,
                () = shared.doors.clock.sleep(HANDSHAKE_TIMEOUT) => return Err(io::ErrorKind::TimedOut.into()),
            };
            let Some(handshake) = shaken else { return Ok(()) };
            let chain = handshake.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|certificate| certificate.as_ref().to_vec()).collect();
            serve(handshake, peer, chain, shared).await
        }
    }
}

impl Tls {
    /// Shakes hands; nothing is left to serve when that was all that was wanted.
    async fn shake_hands(&self, stream: Box<dyn Stream>) -> io::Result<Option<TlsStream<Box<dyn Stream>>>> {
        match &self.keeper {
            None => self.acceptor.accept(stream).await.map(Some),
            Some(keeper) => keeper.shake_hands(stream, self.acceptor.config()).await,
        }
    }
}

async fn serve(
    stream: impl Stream + 'static,
    peer: SocketAddr,
    certificates: Vec<Vec<u8>>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let facts = Connection {
        peer_address: peer.ip().to_canonical(),
        peer_port: peer.port(),
        client_certificates: Arc::new(certificates),
        request_time_max: shared.request_time_max,
        withheld: shared.withheld,
        passed_on_by: None,
    };
    let activity = Arc::new(Activity::new(Arc::clone(&shared.doors.clock)));
    let agreed: Arc<Mutex<Option<Talk>>> = Arc::default();
    let service = service_fn(|request| {
        let (shared, facts, begun) = (Arc::clone(shared), facts.clone(), Activity::begin(&activity));
        let agreed = Arc::clone(&agreed);
        async move {
            let _begun = begun;
            let is_http_1 = request.version() <= Version::HTTP_11;
            let mut answer =
                tresor_http::handle(&*shared.serve, &*shared.doors.clock, facts, &shared.options, request).await;
            if let Some(talk) = answer.extensions_mut().remove::<Agreed>().and_then(|agreed| agreed.take()) {
                *agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(talk);
            } else if is_http_1 && *shared.phases.borrow() != Phase::Open {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.idle_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(60)));
    let stream = Patient::new(stream, Arc::clone(&shared.doors.clock), shared.write_timeout);
    let mut phases = shared.phases.clone();
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut head_is_late = shared.doors.clock.sleep(shared.header_timeout);
    let mut may_be_idle = shared.doors.clock.sleep(shared.idle_timeout);
    let (mut is_first, mut is_stopping) = (true, false);
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            // The protocol's own time-outs begin only when its first bytes told which protocol it is.
            () = &mut head_is_late, if is_first => {
                if !activity.has_begun() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                is_first = false;
            }
            // Of HTTP/1 the protocol's own time-out thinks, of HTTP/2 only this.
            () = &mut may_be_idle, if !is_stopping => {
                let left = activity.idle_at_the_earliest(shared.idle_timeout);
                if left.is_zero() {
                    connection.as_mut().graceful_shutdown();
                    is_stopping = true;
                } else {
                    may_be_idle = shared.doors.clock.sleep(left);
                }
            }
            () = told_to_stop(&mut phases), if !is_stopping => {
                connection.as_mut().graceful_shutdown();
                is_stopping = true;
            }
        }
    };
    ended.map_err(io::Error::other)?;
    let talk = agreed.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(talk) = talk {
        // In the connection's own task and place, for as long as both ends want.
        talk.run(&*shared.doors.clock, told_to_stop(&mut phases)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use tokio::io::{AsyncWriteExt, ReadBuf};
    use tresor_audit::{Audited, Exempt};
    use tresor_env::BoxFuture;
    use tresor_env::doubles::TestDoors;
    use tresor_http::Outcome;
    use tresor_model::{Ending, Fault, Message, MessageStream, Messages, Request, RequestId, Response, Shape};

    use super::*;
    use crate::config::IDLE_TIMEOUT;

    /// Refuses everything; paths that end in `slow` only when told to.
    struct Refusing(Arc<Semaphore>);

    impl Serve for Refusing {
        fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
            Box::pin(async move {
                if request.path.as_str().ends_with("slow") {
                    self.0.acquire().await.unwrap().forget();
                }
                Audited::exempt(Err(Fault::denied()), Exempt::NeverAdmitted)
            })
        }

        fn next_request_id(&self) -> RequestId {
            RequestId::new("one")
        }
    }

    /// What the server has sent when there is nothing more to do for any task.
    async fn received(stream: &mut (dyn Stream + '_)) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..500 {
            let mut chunk = [0; 4096];
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = std::future::poll_fn(|cx| {
                let poll = std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buffer);
                std::task::Poll::Ready(poll.is_ready())
            });
            if read.await {
                all.extend_from_slice(buffer.filled());
            }
            tokio::task::yield_now().await;
        }
        all
    }

    /// The kinds of the HTTP/2 frames in these bytes.
    fn kinds(mut bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
            kinds.push(*kind);
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            bytes = rest.get(length..).unwrap_or_default();
        }
        kinds
    }

    /// HEADERS that end a stream: `GET` of a path without a body.
    fn get(stream: u8, path: &str) -> Vec<u8> {
        let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend_from_slice(path.as_bytes());
        block.extend_from_slice(&[0x41, 1, b'h']);
        let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 0x05, 0, 0, 0, stream];
        frame.extend_from_slice(&block);
        frame
    }

    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;

    #[tokio::test]
    async fn dos_02_an_idle_http2_connection_is_ended_and_one_that_waits_for_an_answer_is_not() {
        let doors = TestDoors::new(1);
        let may_answer = Arc::new(Semaphore::new(0));
        let configured = Listener { request_bytes_max: 1024, ..Listener::at("127.0.0.1:0".parse().unwrap()) };
        let serve: Arc<dyn Serve> = Arc::new(Refusing(Arc::clone(&may_answer)));
        let bound = BoundListeners::bind(&[configured], &doors.doors).await.unwrap();
        let listeners = bound.serve(&serve, &doors.doors, &[], &RequestLog::default());
        let mut stream = doors.doors.net.connect(listeners.places[0].tcp().unwrap()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.write_all(&get(1, "/v1/a")).await.unwrap();
        assert!(kinds(&received(&mut *stream).await).contains(&HEADERS), "no answer");

        doors.clock.advance(IDLE_TIMEOUT - Duration::from_secs(1));
        assert!(!kinds(&received(&mut *stream).await).contains(&GOAWAY), "ended too early");
        stream.write_all(&get(3, "/v1/slow")).await.unwrap();
        assert_eq!(received(&mut *stream).await, b"");
        for _ in 0..3 {
            doors.clock.advance(IDLE_TIMEOUT);
            assert!(!kinds(&received(&mut *stream).await).contains(&GOAWAY), "ended while a request was served");
        }
        may_answer.add_permits(1);
        assert!(kinds(&received(&mut *stream).await).contains(&HEADERS), "no answer");

        doors.clock.advance(IDLE_TIMEOUT - Duration::from_secs(1));
        assert!(!kinds(&received(&mut *stream).await).contains(&GOAWAY), "ended too early");
        doors.clock.advance(Duration::from_secs(1));
        assert!(kinds(&received(&mut *stream).await).contains(&GOAWAY), "an idle connection stays");
    }

    /// Tells nothing, for ever.
    struct Silent;

    impl Messages for Silent {
        fn next(&mut self) -> BoxFuture<'_, Message> {
            Box::pin(std::future::pending())
        }

        fn cut(&self) -> BoxFuture<'static, Ending> {
            Box::pin(std::future::pending())
        }
    }

    /// Answers whoever takes messages.
    struct Telling;

    impl Serve for Telling {
        fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
            let shape =
                if request.takes_messages { Shape::Messages(MessageStream::new(Silent)) } else { Shape::Nothing };
            let answer = Response { shape, ..Response::default() };
            Box::pin(std::future::ready(Audited::exempt(Ok(answer), Exempt::NeverAdmitted)))
        }

        fn next_request_id(&self) -> RequestId {
            RequestId::new("one")
        }
    }

    #[tokio::test]
    async fn who_listens_is_asked_whether_they_are_there_and_let_go_when_they_do_not_say() {
        const PING: [u8; 2] = [0x89, 0];
        const MASKED_PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
        let doors = TestDoors::new(1);
        let configured = Listener { request_bytes_max: 1024, ..Listener::at("127.0.0.1:0".parse().unwrap()) };
        let serve: Arc<dyn Serve> = Arc::new(Telling);
        let bound = BoundListeners::bind(&[configured], &doors.doors).await.unwrap();
        let listeners = bound.serve(&serve, &doors.doors, &[], &RequestLog::default());
        let mut stream = doors.doors.net.connect(listeners.places[0].tcp().unwrap()).await.unwrap();
        let offer = "GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(offer.as_bytes()).await.unwrap();
        let head = received(&mut *stream).await;
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        // As long as they answer, no time-out of requests counts.
        for _ in 0..10 {
            doors.clock.advance(Duration::from_secs(30));
            assert_eq!(received(&mut *stream).await, PING);
            stream.write_all(&MASKED_PONG).await.unwrap();
            assert_eq!(received(&mut *stream).await, b"");
        }
        doors.clock.advance(Duration::from_secs(30));
        assert_eq!(received(&mut *stream).await, PING);
        doors.clock.advance(Duration::from_secs(30));
        assert_eq!(received(&mut *stream).await, b"");
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let has_ended = std::future::poll_fn(|cx| {
            let poll = std::pin::Pin::new(&mut *stream).poll_read(cx, &mut buffer);
            std::task::Poll::Ready(poll.is_ready())
        });
        assert!(has_ended.await && buffer.filled().is_empty(), "it stays");
    }
}
