//! One connection of a member: its messages are answered side by side, as many as its bound on unanswered bytes allows;
//! beyond it nothing more is read.
//!
//! A message whose sender gave it up, or whose time has passed, is dropped where it stands. Deliberately absent: any
//! order among messages.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_rustls::server::TlsStream;
use tresor_env::Tasks;
use tresor_env::net::Stream;

use crate::certificate::LIFE;
use crate::frame::Frame;
use crate::key::PublicKey;
use crate::lane::Lane;
use crate::members::NodeId;
use crate::peers::{LINGER, Shared};
use crate::pulse::Pulse;
use crate::stream::{Reading, Unread, Writing};
use crate::trouble::{Parting, Trouble};

/// Answers that wait to be written.
const ANSWERS: usize = 64;
/// What a message counts at least, so that empty ones have a bound too.
const MESSAGE_BYTES_MIN: usize = 1024;

pub(crate) type Stream13 = TlsStream<Box<dyn Stream>>;

/// Who has connected, and for what.
pub(crate) struct Guest {
    pub(crate) node: NodeId,
    pub(crate) key: PublicKey,
    pub(crate) lane: Lane,
}

/// What the tasks that answer share.
struct Desk {
    shared: Arc<Shared>,
    node: NodeId,
    lane: Lane,
    /// Dropping the sender stops the work.
    in_work: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
    /// Nothing new is answered any more.
    is_parting: AtomicBool,
    answers: mpsc::Sender<Frame>,
}

/// Serves a connection to its end, and says why it ended.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    guest: &Guest,
    stream: Stream13,
    replaced: oneshot::Receiver<()>,
) -> Trouble {
    let (read_half, write_half) = tokio::io::split(stream);
    let (mut reading, mut writing) = (Reading::new(read_half), Writing::new(write_half));
    let (pulse, tasks) = (Pulse::default(), Tasks::new());
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let (node, lane) = (guest.node, guest.lane);
    let desk = Arc::new(Desk {
        shared: Arc::clone(shared),
        node,
        lane,
        in_work: Mutex::default(),
        is_parting: AtomicBool::new(false),
        answers,
    });
    let since = shared.clock.monotonic();
    let end = tokio::select! {
        biased;
        _ = replaced => Unread::Misread(Parting::Replaced),
        () = removed(guest, &desk) => Unread::Misread(Parting::Removed),
        end = read_messages(&desk, &mut reading, &pulse, &tasks) => end,
        trouble = write_answers(&mut writing, &mut answered, &pulse) => Unread::Ended(trouble),
        end = pulse.keep(&*shared.clock, &shared.timing, Unread::Ended, || {
            let age = shared.clock.monotonic().saturating_sub(since);
            (age >= LIFE).then_some(Unread::Misread(Parting::TooOld))
        }) => end,
    };
    drop(tasks);
    match end {
        Unread::Ended(trouble) => trouble,
        Unread::Misread(parting) => {
            if !writing.torn {
                let said = async {
                    if writing.put(&Frame::Parting(parting)).await.is_ok() && writing.send(&pulse).await.is_ok() {
                        drop(writing.shut().await);
                    }
                };
                tokio::select! {
                    biased;
                    () = said => reading.linger(&*shared.clock).await,
                    () = shared.clock.sleep(LINGER) => {}
                }
            }
            Trouble::Parted(parting)
        }
    }
}

/// Completes when the guest is no member any more and is to go: at once, unless requests of its are in work. One of them may
/// be what removed it, so what it asked as a member it may be told for a moment still.
async fn removed(guest: &Guest, desk: &Desk) {
    let shared = &desk.shared;
    shared.members.wait_for(|now| (now.holder(&guest.key) != Some(guest.node)).then_some(())).await;
    desk.is_parting.store(true, Ordering::Relaxed);
    let is_in_work = !desk.in_work.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    if is_in_work && desk.lane == Lane::Requests {
        shared.clock.sleep(LINGER).await;
    }
}

async fn read_messages(
    desk: &Arc<Desk>,
    reading: &mut Reading<impl AsyncRead + Unpin>,
    pulse: &Pulse,
    tasks: &Tasks,
) -> Unread {
    let room = Arc::new(Semaphore::new(desk.lane.unanswered_bytes_max()));
    loop {
        let read = async {
            let length = reading.measure(Some(desk.lane), pulse).await?;
            let counted = u32::try_from(length.max(MESSAGE_BYTES_MIN)).unwrap_or(u32::MAX);
            let taken = match Arc::clone(&room).try_acquire_many_owned(counted) {
                Ok(taken) => taken,
                Err(_) => {
                    pulse.be_deaf(true);
                    let taken = Arc::clone(&room).acquire_many_owned(counted).await;
                    pulse.be_deaf(false);
                    taken.map_err(|_| Trouble::Ended)?
                }
            };
            Ok((reading.take(length, pulse).await?, taken))
        };
        match read.await {
            Ok((Frame::Message { .. }, _)) if desk.is_parting.load(Ordering::Relaxed) => {}
            Ok((Frame::Message { number, within_millis, body }, taken)) => {
                let (stop, stopped) = oneshot::channel();
                let before = desk.in_work.lock().unwrap_or_else(PoisonError::into_inner).insert(number, stop);
                if before.is_some() {
                    return Unread::Misread(Parting::Misread);
                }
                let within = Duration::from_millis(within_millis.into());
                tasks.spawn(Arc::clone(desk).answer(number, within, body, stopped, taken));
            }
            Ok((Frame::GivenUp { number }, _)) => {
                drop(desk.in_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&number));
            }
            Ok((Frame::Alive, _)) => {}
            Ok(_) => return Unread::Misread(Parting::Misread),
            Err(end) => return end,
        }
    }
}

impl Desk {
    async fn answer(
        self: Arc<Self>,
        number: u64,
        within: Duration,
        body: Bytes,
        stopped: oneshot::Receiver<()>,
        taken: OwnedSemaphorePermit,
    ) {
        let work = AssertUnwindSafe(self.shared.handler.answer(self.node, self.lane, body)).catch_unwind();
        let answer = tokio::select! {
            biased;
            _ = stopped => None,
            answer = work => Some(match answer {
                Ok(Ok(body)) if body.len() <= self.lane.message_bytes_max() => Frame::Answer { number, body },
                _ => Frame::Declined { number },
            }),
            () = self.shared.clock.sleep(within) => None,
        };
        self.in_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some(frame) = answer {
            // The connection may have ended.
            drop(self.answers.send(frame).await);
        }
        drop(taken);
    }
}

async fn write_answers(
    writing: &mut Writing<impl AsyncWrite + Unpin>,
    answered: &mut mpsc::Receiver<Frame>,
    pulse: &Pulse,
) -> Trouble {
    let mut next = Some(Frame::Welcome);
    loop {
        let written = async {
            while let Some(frame) = next.take() {
                if writing.put(&frame).await? {
                    next = answered.try_recv().ok();
                }
            }
            if pulse.take_due() {
                writing.put(&Frame::Alive).await?;
            }
            writing.send(pulse).await
        };
        let written: std::io::Result<()> = written.await;
        if let Err(error) = written {
            return Trouble::of_io(&error);
        }
        tokio::select! {
            biased;
            () = pulse.wake.notified() => {}
            frame = answered.recv() => match frame {
                Some(frame) => next = Some(frame),
                None => return Trouble::Ended,
            },
        }
    }
}
