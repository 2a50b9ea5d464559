//! Taking connections on the cluster port: who is no member is refused in the handshake, before anything is read of it.
//!
//! Strangers cost a bounded number of handshakes at once, of which the oldest makes room, and a line in the log each
//! second. Deliberately absent: what members then say (`serve.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tresor_env::Tasks;
use tresor_env::net::{Listener, Stream};

use crate::frame::{Frame, PROTOCOL};
use crate::lane::Lane;
use crate::members::NodeId;
use crate::peers::Shared;
use crate::pulse::Pulse;
use crate::serve::{self, Guest};
use crate::stream::{Reading, Unread, linger};
use crate::tls;
use crate::trouble::Trouble;

/// Connections at once of which it is not known yet who they are.
const HANDSHAKES_MAX: usize = 64;
/// How long nothing is accepted after that failed, which it does for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Of the connections refused within this time, one is told of, and how many.
const TOLD_EACH: Duration = Duration::from_secs(1);

/// Somebody's place; who takes it away drops the sender.
type Place = oneshot::Sender<()>;

#[derive(Default)]
struct Refusals {
    told: Option<Duration>,
    untold: u64,
}

/// Who is at the door, and who is in.
#[derive(Default)]
struct Hall {
    counter: Mutex<u64>,
    greeted: Mutex<BTreeMap<u64, Place>>,
    /// A node that connects again for the same kind of message has lost the connection before.
    seated: Mutex<BTreeMap<(NodeId, Lane), (u64, Place)>>,
    refusals: Mutex<Refusals>,
}

impl Hall {
    fn number(&self) -> u64 {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        *counter += 1;
        *counter
    }

    fn greet(&self) -> (u64, oneshot::Receiver<()>) {
        let (number, (place, lost)) = (self.number(), oneshot::channel());
        let mut greeted = self.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        greeted.insert(number, place);
        if greeted.len() > HANDSHAKES_MAX {
            greeted.pop_first();
        }
        (number, lost)
    }

    fn end_greeting(&self, number: u64) {
        self.greeted.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    fn seat(&self, node: NodeId, lane: Lane) -> (u64, oneshot::Receiver<()>) {
        let (number, (place, lost)) = (self.number(), oneshot::channel());
        self.seated.lock().unwrap_or_else(PoisonError::into_inner).insert((node, lane), (number, place));
        (number, lost)
    }

    fn leave(&self, node: NodeId, lane: Lane, number: u64) {
        let mut seated = self.seated.lock().unwrap_or_else(PoisonError::into_inner);
        if seated.get(&(node, lane)).is_some_and(|(seat, _)| *seat == number) {
            seated.remove(&(node, lane));
        }
    }

    fn refuse(&self, from: SocketAddr, trouble: Trouble, now: Duration) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.told.is_some_and(|told| now.saturating_sub(told) < TOLD_EACH) {
            refusals.untold += 1;
            return;
        }
        let more = std::mem::take(&mut refusals.untold);
        refusals.told = Some(now);
        drop(refusals);
        tracing::warn!(%from, reason = %trouble, more, "refused a connection to the cluster port");
    }
}

/// Accepts for as long as it is let.
pub(crate) async fn accept(shared: Arc<Shared>, config: Arc<ServerConfig>, listener: Box<dyn Listener>) {
    let (hall, guests) = (Arc::new(Hall::default()), Tasks::new());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let greeting = hall.greet();
                guests.spawn(receive(
                    Arc::clone(&shared),
                    Arc::clone(&hall),
                    Arc::clone(&config),
                    stream,
                    from,
                    greeting,
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the cluster port");
                shared.clock.sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn receive(
    shared: Arc<Shared>,
    hall: Arc<Hall>,
    config: Arc<ServerConfig>,
    stream: Box<dyn Stream>,
    from: SocketAddr,
    (number, crowded_out): (u64, oneshot::Receiver<()>),
) {
    let admitted = tokio::select! {
        biased;
        _ = crowded_out => Err(Trouble::Slow),
        admitted = admit(&shared, config, stream) => admitted,
        () = shared.clock.sleep(shared.timing.connect_within) => Err(Trouble::Slow),
    };
    hall.end_greeting(number);
    match admitted {
        Err(trouble) => hall.refuse(from, trouble, shared.clock.monotonic()),
        Ok((guest, stream)) => {
            let (node, lane) = (guest.node, guest.lane);
            let (seat, replaced) = hall.seat(node, lane);
            tracing::debug!(%node, ?lane, "a node has connected");
            let reason = serve::serve(&shared, &guest, stream, replaced).await;
            hall.leave(node, lane, seat);
            tracing::debug!(%node, ?lane, %reason, "a node's connection has ended");
        }
    }
}

/// The handshake, and what the connection is for.
async fn admit(
    shared: &Shared,
    config: Arc<ServerConfig>,
    stream: Box<dyn Stream>,
) -> Result<(Guest, serve::Stream13), Trouble> {
    let mut stream = match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            drop(stream.shutdown().await);
            linger(&mut stream, &*shared.clock).await;
            return Err(match Trouble::of_io(&error) {
                Trouble::WrongKey => Trouble::Stranger,
                trouble => trouble,
            });
        }
    };
    let session = stream.get_ref().1;
    // Whoever asks for no protocol is not refused by TLS.
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err(Trouble::Version);
    }
    let key = session.peer_certificates().and_then(|chain| tls::key_of(chain.first()?)).ok_or(Trouble::Stranger)?;
    let node = shared.members.read(|members| members.holder(&key)).ok_or(Trouble::Stranger)?;
    match Reading::new(&mut stream).next(None, &Pulse::default()).await {
        Ok(Frame::Hello(lane)) => Ok((Guest { node, key, lane }, stream)),
        Ok(_) | Err(Unread::Misread(_)) => Err(Trouble::Misread),
        Err(Unread::Ended(trouble)) => Err(trouble),
    }
}
