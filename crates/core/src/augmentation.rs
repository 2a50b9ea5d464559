//! Random bytes of the seal, mixed into the server's own (SEAL-31).
//!
//! A pool of 32 bytes is *stirred* with what the seal gives. Whatever the node draws from then on is the system's bytes, combined by
//! exclusive or with a stream that the pool leads to and that leads back to no pool: who knows one of the two sources knows
//! nothing. What has to have the seal's bytes in it asks for fresh ones first and is not done without them: keys of the store, and
//! requests to mounts that are configured so. Deliberately absent: a way on without the seal, and a store of its bytes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tresor_crypto::hash::HmacKey;
use tresor_env::{Clock, Doors, Entropy};
use tresor_model::{Fault, Refusal};
use zeroize::Zeroizing;

use crate::key_service::{KeyService, ServiceError};

/// How many bytes the seal is asked for to stir.
const STIRRED_BYTES: usize = 32;
/// The longest that the seal is waited for, those included who asked before.
const BOUND: Duration = Duration::from_secs(10);

/// The node's entropy, with that of its seal in it.
pub struct Augmentation {
    service: Arc<dyn KeyService>,
    /// The system's.
    own: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    /// Nothing before it was stirred.
    pool: Mutex<Option<Zeroizing<[u8; 32]>>>,
    /// One asks at a time; who waited for that is content with what was asked for after they came.
    turn: Semaphore,
    /// Held while it gives bytes to whoever asks for them.
    giving: Semaphore,
    begun: AtomicU64,
    done: AtomicU64,
}

impl fmt::Debug for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Augmentation").field("seal", &self.service.kind()).finish_non_exhaustive()
    }
}

impl Augmentation {
    /// That of a seal, over the entropy of these doors.
    #[must_use]
    pub fn new(service: Arc<dyn KeyService>, doors: &Doors) -> Self {
        Self {
            service,
            own: Arc::clone(&doors.entropy),
            clock: Arc::clone(&doors.clock),
            pool: Mutex::new(None),
            turn: Semaphore::new(1),
            giving: Semaphore::new(1),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Sees to it that what is drawn from now on has bytes in it that the seal gave after this was asked for.
    ///
    /// # Errors
    /// [`ServiceError`] when the seal gives none; nothing is to be drawn then.
    pub async fn stir(&self) -> Result<(), ServiceError> {
        self.in_time(async {
            let needed = self.begun.load(Ordering::Acquire) + 1;
            // Never closed.
            let _turn = self.turn.acquire().await.map_err(|_| ServiceError::Unexpected("after its end"))?;
            if self.done.load(Ordering::Acquire) >= needed {
                return Ok(());
            }
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let fresh = self.asked(STIRRED_BYTES).await?;
            self.take_in(&fresh);
            self.done.store(number, Ordering::Release);
            Ok(())
        })
        .await
    }

    /// The seal's own bytes, not mixed with anything; one after the other, so that who asks for many keeps no other user of the
    /// seal waiting but for one.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn bytes(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        self.in_time(async {
            // Never closed.
            let _given = self.giving.acquire().await.map_err(|_| ServiceError::Unexpected("after its end"))?;
            self.asked(count).await
        })
        .await
    }

    /// Bytes of the system alone.
    pub fn fill_by_system(&self, out: &mut [u8]) {
        self.own.fill(out);
    }

    /// What whoever asked is told when the seal gave nothing; the log says why.
    #[must_use]
    pub fn fault(&self, error: &ServiceError) -> Fault {
        let kind = self.service.kind();
        tracing::warn!(%error, key = self.service.key_id(), "the seal `{kind}` gives no random bytes, which were asked for");
        let text =
            format!("the seal `{kind}` gives no random bytes, and nothing is done without: the server's log says why");
        Refusal::Unavailable(text.into()).into()
    }

    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, ServiceError>>) -> Result<T, ServiceError> {
        tokio::select! {
            biased;
            done = asked => done,
            () = self.clock.sleep(BOUND) => Err(ServiceError::Unanswered("it took too long".to_owned())),
        }
    }

    async fn asked(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let bytes = self.service.random(count).await?;
        if bytes.len() != count {
            return Err(ServiceError::Unexpected("with another number of bytes than it was asked for"));
        }
        // The odds of that are those of guessing a key.
        if count >= STIRRED_BYTES && bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(ServiceError::Unexpected("with bytes that are not random"));
        }
        Ok(bytes)
    }

    fn take_in(&self, fresh: &[u8]) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pool.take().unwrap_or_default();
        *pool = Some(Zeroizing::new(HmacKey::new(&*before).sign_parts(&[b"stir", fresh])));
    }

    /// The key of a stream of its own; the pool is another one afterwards.
    fn stream(&self) -> Option<HmacKey> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let before = HmacKey::new(&**pool.as_ref()?);
        *pool = Some(Zeroizing::new(before.sign(b"next")));
        Some(HmacKey::new(&*Zeroizing::new(before.sign(b"stream"))))
    }
}

impl Entropy for Augmentation {
    fn fill(&self, out: &mut [u8]) {
        self.own.fill(out);
        let Some(stream) = self.stream() else { return };
        for (number, block) in (0_u64..).zip(out.chunks_mut(32)) {
            let mixed_in = Zeroizing::new(stream.sign(&number.to_be_bytes()));
            block.iter_mut().zip(mixed_in.iter()).for_each(|(byte, other)| *byte ^= other);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::atomic::AtomicUsize;

    use tresor_barrier::SealedKey;
    use tresor_env::BoxFuture;
    use tresor_env::doubles::TestDoors;
    use tresor_secret::DataKey;

    use super::*;
    use crate::key_service::Sealed;

    /// A seal that gives what it is told to.
    struct Gives {
        bytes: Mutex<Option<Vec<u8>>>,
        asked: AtomicUsize,
        hangs: bool,
    }

    impl Gives {
        fn new(bytes: Option<Vec<u8>>) -> Arc<Self> {
            Arc::new(Self { bytes: Mutex::new(bytes), asked: AtomicUsize::new(0), hangs: false })
        }
    }

    impl KeyService for Gives {
        fn kind(&self) -> &'static str {
            "fake"
        }

        fn key_id(&self) -> &'static str {
            "k"
        }

        fn seal<'k>(&'k self, _key: &'k [u8; 32], _name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
            panic!("nothing is sealed")
        }

        fn open<'k>(&'k self, _sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
            panic!("nothing is opened")
        }

        fn random(&self, _count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.hangs {
                return Box::pin(std::future::pending());
            }
            let bytes = self.bytes.lock().unwrap().clone().map(Zeroizing::new);
            Box::pin(async move {
                tokio::task::yield_now().await;
                bytes.ok_or_else(|| ServiceError::Unanswered("nobody is there".to_owned()))
            })
        }
    }

    /// A source that an attacker knows.
    struct Known;

    impl Entropy for Known {
        fn fill(&self, out: &mut [u8]) {
            out.fill(7);
        }
    }

    fn known_doors() -> Doors {
        Doors { entropy: Arc::new(Known), ..TestDoors::new(1).doors }
    }

    fn counted(last: u8) -> Vec<u8> {
        (last - 31..=last).collect()
    }

    fn drawn(augmented: &Augmentation, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        augmented.fill(&mut out);
        out
    }

    #[tokio::test]
    async fn who_knows_one_source_knows_nothing_of_what_both_lead_to() {
        let doors = known_doors();
        let augmented = Augmentation::new(Gives::new(Some(counted(40))), &doors);
        // Without the seal it is the system's alone.
        assert_eq!(drawn(&augmented, 5), [7; 5]);
        augmented.stir().await.unwrap();
        let (one, other) = (drawn(&augmented, 70), drawn(&augmented, 70));
        assert_ne!(one, other);
        assert!(!one.windows(8).any(|bytes| other.windows(8).any(|also| also == bytes)), "no part comes twice");
        // The seal gives the same again, and what is drawn is the system's all the same.
        let twin = Augmentation::new(Gives::new(Some(counted(40))), &TestDoors::new(2).doors);
        twin.stir().await.unwrap();
        assert_ne!(drawn(&twin, 70), one);
        // Other bytes of the seal lead elsewhere; each stirring counts.
        let elsewhere = Augmentation::new(Gives::new(Some(counted(41))), &doors);
        elsewhere.stir().await.unwrap();
        assert_ne!(drawn(&elsewhere, 70), one);
        let again = Augmentation::new(Gives::new(Some(counted(40))), &doors);
        again.stir().await.unwrap();
        again.stir().await.unwrap();
        assert_ne!(drawn(&again, 70), one);
    }

    #[tokio::test]
    async fn many_that_ask_at_once_are_content_with_what_is_asked_for_after_they_came() {
        let gives = Gives::new(Some(counted(40)));
        let augmented = Augmentation::new(Arc::<Gives>::clone(&gives), &known_doors());
        let stirred = futures_util::future::join_all((0..50).map(|_| augmented.stir())).await;
        assert!(stirred.iter().all(Result::is_ok));
        assert_eq!(gives.asked.load(Ordering::SeqCst), 2, "all but the first came while it was asked");
        augmented.stir().await.unwrap();
        assert_eq!(gives.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn dos_04_a_seal_that_gives_nothing_or_nonsense_or_hangs_is_an_error_in_time() {
        let doors = TestDoors::new(1);
        for (bytes, words) in [
            (None, "it does not answer: nobody is there"),
            (Some(vec![1; 5]), "it answered with another number of bytes than it was asked for"),
            (Some(vec![0; 32]), "it answered with bytes that are not random"),
        ] {
            let augmented = Augmentation::new(Gives::new(bytes), &doors.doors);
            assert_eq!(augmented.stir().await.unwrap_err().to_string(), words);
        }
        let hangs = Gives { bytes: Mutex::new(None), asked: AtomicUsize::new(0), hangs: true };
        let augmented = Augmentation::new(Arc::new(hangs), &doors.doors);
        let (one, other, ()) = tokio::join!(augmented.stir(), augmented.stir(), async {
            tokio::task::yield_now().await;
            doors.clock.advance(BOUND);
        });
        for stirred in [one, other] {
            assert_eq!(stirred.unwrap_err().to_string(), "it does not answer: it took too long");
        }
    }
}
