//! A line to one node for one kind of message: a bounded queue, and one connection that is made again when it is lost.
//!
//! Who asks waits for a place in the queue and for the answer, within its own deadline; a node that hangs holds up its
//! own line alone. Nothing is sent twice: what was on its way when a connection ended is lost, and who asked is told so.
//! Deliberately absent: trying again, which is for whoever knows what the message means.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tresor_env::net::Stream;

use crate::frame::{Frame, PROTOCOL};
use crate::lane::Lane;
use crate::members::NodeId;
use crate::peers::Shared;
use crate::pulse::Pulse;
use crate::stream::{Reading, Unread, Writing};
use crate::trouble::{AskError, Trouble};

/// Messages that wait for a connection or for their turn on it.
const QUEUE: usize = 64;

type Answer = Result<Bytes, AskError>;

/// A message, and who waits for its answer.
pub(crate) struct Ask {
    number: u64,
    message: Bytes,
    /// On the monotonic clock.
    until: Duration,
    answer: oneshot::Sender<Answer>,
}

/// The near end of a line.
pub(crate) struct Line {
    node: NodeId,
    lane: Lane,
    shared: Arc<Shared>,
    /// At which of the node's places it was found, or is to be looked for next; its lines share that.
    turn: Arc<AtomicUsize>,
    queue: mpsc::Sender<Ask>,
    next_number: AtomicU64,
    /// Why there is no connection now.
    trouble: Mutex<Option<Trouble>>,
    /// Numbers whose answer nobody waits for any more, while there is a connection.
    given_up: Mutex<Option<Vec<u64>>>,
    pulse: Pulse,
}

/// Gives a message up when whoever asked goes away.
struct Waits<'l> {
    line: &'l Line,
    number: u64,
    answered: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.answered
            && let Some(given_up) = &mut *self.line.given_up.lock().unwrap_or_else(PoisonError::into_inner)
        {
            given_up.push(self.number);
            self.line.pulse.wake.notify_one();
        }
    }
}

/// What became of a connection.
struct Ended {
    trouble: Trouble,
    /// It was of use, so the next one may be made at once.
    lasted: bool,
}

type Stream13 = TlsStream<Box<dyn Stream>>;
type Pending = Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>;

impl Line {
    /// A line, and what is to be driven by [`Line::drive`].
    pub(crate) fn new(
        shared: Arc<Shared>,
        node: NodeId,
        lane: Lane,
        turn: Arc<AtomicUsize>,
    ) -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (queue, asked) = mpsc::channel(QUEUE);
        let line = Self {
            node,
            lane,
            shared,
            turn,
            queue,
            next_number: AtomicU64::new(1),
            trouble: Mutex::new(Some(Trouble::NotYet)),
            given_up: Mutex::new(None),
            pulse: Pulse::default(),
        };
        (Arc::new(line), asked)
    }

    /// Why there is no connection now.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_trouble(&self, trouble: Option<Trouble>) -> Option<Trouble> {
        std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), trouble)
    }

    /// Sends a message and waits for its answer.
    pub(crate) async fn ask(&self, message: Bytes, within: Duration) -> Answer {
        let (length, max) = (message.len(), self.lane.message_bytes_max());
        if length > max {
            return Err(AskError::TooLong { length, max });
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let clock = &self.shared.clock;
        let ask = Ask { number, message, until: clock.monotonic() + within, answer };
        let mut waits = Waits { line: self, number, answered: false };
        let asked = async {
            match self.queue.send(ask).await {
                Ok(()) => answered.await.unwrap_or(Err(AskError::Lost(Trouble::Ended))),
                Err(_) => Err(AskError::Unreachable(Trouble::Ended)),
            }
        };
        tokio::select! {
            biased;
            answer = asked => {
                waits.answered = true;
                answer
            }
            () = clock.sleep(within) => Err(self.trouble().map_or(AskError::TimedOut, AskError::Unreachable)),
        }
    }

    /// Connects, talks, and connects again, for as long as the line is there.
    pub(crate) async fn drive(self: Arc<Self>, config: Arc<ClientConfig>, mut asked: mpsc::Receiver<Ask>) {
        let mut failures = 0;
        loop {
            let first = if self.lane.is_kept_open() {
                None
            } else {
                let Some(ask) = asked.recv().await else { return };
                Some(ask)
            };
            let turn = self.turn.load(Ordering::Relaxed);
            let lasted = match self.connect(&config, turn).await {
                Ok(stream) => {
                    self.set_trouble(None);
                    tracing::debug!(node = %self.node, lane = ?self.lane, "connected to a node");
                    let Ended { trouble, lasted } = self.talk(stream, first, &mut asked).await;
                    self.set_trouble(Some(trouble));
                    if trouble != Trouble::Renewed {
                        tracing::warn!(node = %self.node, lane = ?self.lane, reason = %trouble, "lost a node");
                    }
                    lasted
                }
                Err(trouble) => {
                    if self.set_trouble(Some(trouble)) != Some(trouble) {
                        tracing::warn!(node = %self.node, lane = ?self.lane, reason = %trouble, "cannot reach a node");
                    }
                    let waiting = std::iter::from_fn(|| asked.try_recv().ok());
                    first.into_iter().chain(waiting).for_each(|ask| {
                        // Whoever asked may be gone.
                        drop(ask.answer.send(Err(AskError::Unreachable(trouble))));
                    });
                    // Unless another line did.
                    let next = turn.wrapping_add(1);
                    let _ = self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
                    false
                }
            };
            failures = if lasted { 0 } else { failures + 1 };
            self.back_off(failures).await;
        }
    }

    /// Waits before the next attempt, longer each time; shorter when the membership changes, perhaps the node's address.
    async fn back_off(&self, failures: u32) {
        if failures == 0 {
            return;
        }
        let timing = &self.shared.timing;
        let longest = timing.back_off_min.saturating_mul(1 << (failures - 1).min(10)).min(timing.back_off_max);
        let mut drawn = [0; 4];
        self.shared.entropy.fill(&mut drawn);
        // Between a half and all of it, so that nodes that lost each other at once do not meet again and again.
        let half = longest / 2;
        let wait = half + half.mul_f64(f64::from(u32::from_be_bytes(drawn)) / f64::from(u32::MAX));
        let before = self.shared.members.read(Arc::clone);
        let changed = self.shared.members.wait_for(|now| (!Arc::ptr_eq(now, &before)).then_some(()));
        tokio::select! {
            biased;
            () = self.shared.clock.sleep(wait) => {}
            () = changed => {}
        }
    }

    /// Connects to one of the places where the node may be: where it was found before, or the next one.
    async fn connect(&self, config: &Arc<ClientConfig>, turn: usize) -> Result<Stream13, Trouble> {
        let connected = async {
            let addresses = self.shared.members.read(|members| Some(members.member(self.node)?.addresses.clone()));
            let addresses = addresses.ok_or(Trouble::Ended)?;
            let address = addresses.get(turn % addresses.len().max(1)).cloned().unwrap_or_default();
            let net = &self.shared.net;
            let addresses = net.resolve(&address).await.map_err(|error| Trouble::Address(error.kind()))?;
            let mut trouble = Trouble::Address(io::ErrorKind::NotFound);
            for address in addresses {
                match net.connect(address).await {
                    Ok(stream) => return self.greet(stream, config).await,
                    Err(error) => trouble = Trouble::Connect(error.kind()),
                }
            }
            Err(trouble)
        };
        tokio::select! {
            biased;
            connected = connected => connected,
            () = self.shared.clock.sleep(self.shared.timing.connect_within) => Err(Trouble::Slow),
        }
    }

    /// Proves who this is and has the other one prove who it is; only its welcome says that it takes messages.
    async fn greet(&self, stream: Box<dyn Stream>, config: &Arc<ClientConfig>) -> Result<Stream13, Trouble> {
        // No name is sent or verified.
        let name = ServerName::try_from("node.invalid").map_err(|_| Trouble::Handshake)?;
        let connector = TlsConnector::from(Arc::clone(config));
        let mut stream = connector.connect(name, stream).await.map_err(|error| Trouble::of_io(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(Trouble::Version);
        }
        let mut writing = Writing::new(&mut stream);
        let said = match writing.put(&Frame::Hello(self.lane)).await {
            Ok(_) => writing.send(&self.pulse).await,
            Err(error) => Err(error),
        };
        // Even if it could not be said, there may be something to read, which says why.
        let mut reading = Reading::new(&mut stream);
        let heard = reading.next(None, &self.pulse).await;
        match (heard, said) {
            (Ok(Frame::Welcome), Ok(())) => Ok(stream),
            (Ok(Frame::Parting(parting)), _) => Err(Trouble::Parted(parting)),
            (Err(Unread::Ended(trouble)), _) => Err(trouble),
            (_, Err(error)) => Err(Trouble::of_io(&error)),
            (Ok(_) | Err(Unread::Misread(_)), _) => Err(Trouble::Misread),
        }
    }

    /// Sends what is asked and gives out what is answered, until the connection ends; then nothing is pending.
    async fn talk(&self, stream: Stream13, first: Option<Ask>, asked: &mut mpsc::Receiver<Ask>) -> Ended {
        let (read_half, write_half) = tokio::io::split(stream);
        let (mut reading, mut writing) = (Reading::new(read_half), Writing::new(write_half));
        let pending = Pending::default();
        let retiring = AtomicBool::new(false);
        let mut beats = 0_u32;
        let made = self.shared.identity.made();
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        let trouble = tokio::select! {
            biased;
            trouble = self.hear(&mut reading, &pending) => trouble,
            trouble = self.say(&mut writing, first, asked, &pending, &retiring) => trouble,
            trouble = self.pulse.keep(&*self.shared.clock, &self.shared.timing, |trouble| trouble, || {
                beats += 1;
                if self.shared.identity.made() != made && !retiring.swap(true, Ordering::Relaxed) {
                    self.pulse.wake.notify_one();
                }
                None
            }) => trouble,
        };
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if trouble == Trouble::Renewed {
            // Whether it hears of it or not.
            drop(writing.shut().await);
        }
        for answer in pending.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
            drop(answer.send(Err(AskError::Lost(trouble))));
        }
        Ended { trouble, lasted: beats > 0 || trouble == Trouble::Renewed }
    }

    async fn hear(&self, reading: &mut Reading<impl tokio::io::AsyncRead + Unpin>, pending: &Pending) -> Trouble {
        loop {
            let (number, answer) = match reading.next(Some(self.lane), &self.pulse).await {
                Ok(Frame::Answer { number, body }) => (number, Ok(body)),
                Ok(Frame::Declined { number }) => (number, Err(AskError::Declined)),
                Ok(Frame::Alive) => continue,
                Ok(Frame::Parting(parting)) => return Trouble::Parted(parting),
                Ok(_) | Err(Unread::Misread(_)) => return Trouble::Misread,
                Err(Unread::Ended(trouble)) => return trouble,
            };
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            let was_full = pending.len() >= self.lane.unanswered_max();
            // An answer to what was given up is late, not wrong.
            if let Some(waiting) = pending.remove(&number) {
                drop(waiting.send(answer));
            }
            if was_full || pending.is_empty() {
                self.pulse.wake.notify_one();
            }
        }
    }

    async fn say(
        &self,
        writing: &mut Writing<impl tokio::io::AsyncWrite + Unpin>,
        first: Option<Ask>,
        asked: &mut mpsc::Receiver<Ask>,
        pending: &Pending,
        retiring: &AtomicBool,
    ) -> Trouble {
        let mut next = first;
        loop {
            let said = async {
                while let Some(ask) = next.take() {
                    if self.put(writing, ask, pending).await? && self.may_ask(pending, retiring) {
                        next = asked.try_recv().ok();
                    }
                }
                self.put_given_up(writing, pending).await?;
                if self.pulse.take_due() {
                    writing.put(&Frame::Alive).await?;
                }
                writing.send(&self.pulse).await
            };
            let said: io::Result<()> = said.await;
            if let Err(error) = said {
                return Trouble::of_io(&error);
            }
            if retiring.load(Ordering::Relaxed) && pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Trouble::Renewed;
            }
            tokio::select! {
                biased;
                () = self.pulse.wake.notified() => {}
                ask = asked.recv(), if self.may_ask(pending, retiring) => match ask {
                    Some(ask) => next = Some(ask),
                    None => return Trouble::Ended,
                },
            }
        }
    }

    fn may_ask(&self, pending: &Pending, retiring: &AtomicBool) -> bool {
        !retiring.load(Ordering::Relaxed)
            && pending.lock().unwrap_or_else(PoisonError::into_inner).len() < self.lane.unanswered_max()
    }

    /// A message, unless nobody waits for it any more; tells whether more may be put.
    async fn put(
        &self,
        writing: &mut Writing<impl tokio::io::AsyncWrite + Unpin>,
        ask: Ask,
        pending: &Pending,
    ) -> io::Result<bool> {
        let left = ask.until.saturating_sub(self.shared.clock.monotonic());
        if ask.answer.is_closed() || left.is_zero() {
            return Ok(true);
        }
        let within_millis = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        pending.lock().unwrap_or_else(PoisonError::into_inner).insert(ask.number, ask.answer);
        writing.put(&Frame::Message { number: ask.number, within_millis, body: ask.message }).await
    }

    async fn put_given_up(
        &self,
        writing: &mut Writing<impl tokio::io::AsyncWrite + Unpin>,
        pending: &Pending,
    ) -> io::Result<()> {
        let given_up = match &mut *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(given_up) => std::mem::take(given_up),
            None => return Ok(()),
        };
        for number in given_up {
            let removed = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            if removed.is_some() {
                writing.put(&Frame::GivenUp { number }).await?;
            }
        }
        Ok(())
    }
}
