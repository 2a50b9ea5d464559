//! A mount's window onto the request's transaction: there is no way to leave its prefix.
//!
//! The transaction is the barrier's own; a trait in between would be one more layer for one implementation.
//! Deliberately absent: commit. The pipeline commits, once.

use tresor_barrier::{BarrierError, KeyPrefix, Plaintext, PointKey, Txn};
use tresor_env::Entropy;
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::RecordError;
use tresor_secret::SecretString;

use crate::context::MountFacts;
use crate::happened::Happened;
use crate::kept::Granted;
use crate::retries::{Retries, RotationPolicy};

/// The part of the request's transaction below one prefix.
pub struct View<'a> {
    txn: &'a mut Txn,
    prefix: KeyPrefix,
    besides: Option<(&'a MountFacts, &'static dyn Besides)>,
}

/// When an engine is called for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Not any more.
    Never,
    /// From this time on.
    At(Timestamp),
    /// From this time on, or as soon as another process serves: something begins now that has to be finished.
    Unsettled(Timestamp),
}

/// What the server keeps for a mount besides its data, in the same transaction.
pub trait Besides: Send + Sync {
    /// Says when the mount's engine is called for this name.
    ///
    /// # Errors
    /// A refusal when it is no storage name; a failure when the store fails.
    fn wake(&self, txn: &mut Txn, mount: &MountFacts, name: &str, call: Call) -> Result<(), Fault>;

    /// When the engine is called for this name, if it is.
    ///
    /// # Errors
    /// As [`Besides::wake`].
    fn wakes_at(&self, txn: &mut Txn, mount: &MountFacts, name: &str) -> Result<Option<Timestamp>, Fault>;

    /// What a rotation policy of the mount's namespace says, if there is one of this name.
    ///
    /// # Errors
    /// A refusal when it is no storage name; a failure when the store fails.
    fn rotation_policy(&self, txn: &mut Txn, mount: &MountFacts, policy: &str)
    -> Result<Option<RotationPolicy>, Fault>;

    /// How far it has come for this name, where that rotates by a policy.
    ///
    /// # Errors
    /// As [`Besides::wake`].
    fn retries(&self, txn: &mut Txn, mount: &MountFacts, name: &str) -> Result<Option<Retries>, Fault>;

    /// Stores that.
    ///
    /// # Errors
    /// As [`Besides::wake`].
    fn set_retries(
        &self,
        txn: &mut Txn,
        mount: &MountFacts,
        name: &str,
        retries: Option<&Retries>,
    ) -> Result<(), Fault>;

    /// A password as a policy of the mount's namespace wants it; the empty name is the server's own policy.
    ///
    /// # Errors
    /// A refusal when there is no such policy; a failure when the store fails.
    fn password(
        &self,
        txn: &mut Txn,
        mount: &MountFacts,
        policy: &str,
        entropy: &dyn Entropy,
    ) -> Result<SecretString, Fault>;

    /// Where the key is that the mount was granted under this name.
    ///
    /// # Errors
    /// A refusal when it was granted none; a failure when the store fails.
    fn granted_key(&self, txn: &mut Txn, mount: &MountFacts, reference: &str) -> Result<Granted, Fault>;
}

/// A record that no listing shows and that costs no place in one, for what is found by who knows its name and when it was
/// made. Points have names of their own, and lie beside those that were made at the same time: many that are made one
/// after the other change few places of the store. They hang on listed records: an engine that has any says which
/// ([`crate::Engine::points`]).
#[derive(Clone)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// When it was made: the same whenever it is looked for.
    pub made: Timestamp,
}

/// What is made within so many nanoseconds lies side by side: few enough that the store takes them over together, while
/// it is busy.
const NEIGHBOURHOOD_NANOS: i64 = 1 << 26;

impl Point {
    fn key(&self, prefix: &KeyPrefix) -> Result<PointKey, Fault> {
        let moment = self.made.nanos().div_euclid(NEIGHBOURHOOD_NANOS);
        Ok(prefix.point(&self.name).map_err(fault)?.beside(&moment.to_string()))
    }
}

/// The right to reach the whole transaction. Made by the core for its own system engines only; the name is what a
/// reviewer greps for.
#[derive(Clone, Copy)]
pub struct Widened(());

impl Widened {
    /// Asserts that the caller is a system engine, whose records live outside any mount.
    #[must_use]
    pub const fn assertion() -> Self {
        Self(())
    }
}

impl<'a> View<'a> {
    /// A window onto `txn` below `prefix`.
    #[must_use]
    pub fn new(txn: &'a mut Txn, prefix: KeyPrefix) -> Self {
        Self { txn, prefix, besides: None }
    }

    /// The same, of a mount, with what the server keeps for it besides.
    #[must_use]
    pub fn of_mount(txn: &'a mut Txn, prefix: KeyPrefix, mount: &'a MountFacts, besides: &'static dyn Besides) -> Self {
        Self { txn, prefix, besides: Some((mount, besides)) }
    }

    /// From this time on the engine is called for `name` ([`crate::Engine::awake`]), once; a time that was set before for
    /// the same name counts no more.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn wake(&mut self, name: &str, at: Timestamp) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        besides.wake(self.txn, mount, name, Call::At(at))
    }

    /// Something is about to be done outside for `name`, which the engine finishes when it is called and does the same again
    /// for: that happens at this time, unless settling says otherwise, and at once when the process ends before.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn wake_unless_settled(&mut self, name: &str, at: Timestamp) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        besides.wake(self.txn, mount, name, Call::Unsettled(at))
    }

    /// The engine is not called for `name` any more.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn no_wake(&mut self, name: &str) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        besides.wake(self.txn, mount, name, Call::Never)
    }

    /// When the engine is called for `name`, if it is.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn wakes_at(&mut self, name: &str) -> Result<Option<Timestamp>, Fault> {
        let (mount, besides) = self.besides()?;
        besides.wakes_at(self.txn, mount, name)
    }

    /// A password as a policy of the namespace wants it; without a name, of 20 characters with at least one lower-case and
    /// one upper-case letter, a digit and a hyphen.
    ///
    /// # Errors
    /// A refusal when there is no such policy; a failure when the store fails.
    pub fn password(&mut self, policy: &str, entropy: &dyn Entropy) -> Result<SecretString, Fault> {
        let (mount, besides) = self.besides()?;
        besides.password(self.txn, mount, policy, entropy)
    }

    /// Where the key is that the mount was granted; for [`Cx::kept_key`](crate::Cx::kept_key) alone.
    pub(crate) fn granted_key(&mut self, reference: &str) -> Result<Granted, Fault> {
        let (mount, besides) = self.besides()?;
        besides.granted_key(self.txn, mount, reference)
    }

    /// What rotates by itself for `name` is tried again as this rotation policy of the namespace says, from the beginning; by
    /// the empty name for ever.
    ///
    /// # Errors
    /// A refusal when there is no such policy; a failure when the store fails.
    pub fn retry_by(&mut self, name: &str, policy: &str) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        self.check_rotation_policy(Some(policy))?;
        let retries = Retries::by(policy);
        besides.set_retries(self.txn, mount, name, Some(&retries).filter(|_| !policy.is_empty()))
    }

    /// Refuses a rotation policy that is not there; none, and the empty name, are fine.
    ///
    /// # Errors
    /// As [`View::retry_by`].
    pub fn check_rotation_policy(&mut self, policy: Option<&str>) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        match policy.filter(|policy| !policy.is_empty()) {
            Some(policy) if besides.rotation_policy(self.txn, mount, policy)?.is_none() => {
                Err(Fault::invalid(format!("rotation policy {policy:?} does not exist")))
            }
            _ => Ok(()),
        }
    }

    /// Whether what rotates by itself for `name` is not tried any more.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn is_orphaned(&mut self, name: &str) -> Result<bool, Fault> {
        Ok(self.retries(name)?.is_some_and(|retries| retries.orphaned.is_some()))
    }

    /// What rotates by itself for `name` is written anew: by this policy, or by the one that it had.
    ///
    /// # Errors
    /// As [`View::retry_by`].
    pub fn retry_anew(&mut self, name: &str, policy: Option<&str>) -> Result<(), Fault> {
        match policy {
            Some(policy) => self.retry_by(name, policy),
            None => self.rotated(name),
        }
    }

    /// How far it has come for `name`, where that rotates by a policy.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn retries(&mut self, name: &str) -> Result<Option<Retries>, Fault> {
        let (mount, besides) = self.besides()?;
        besides.retries(self.txn, mount, name)
    }

    /// What rotates by itself for `name` was rotated, or is to be tried anew: it begins from the beginning.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn rotated(&mut self, name: &str) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        let Some(mut retries) = besides.retries(self.txn, mount, name)? else { return Ok(()) };
        let before = retries.clone();
        retries.done();
        if retries == before { Ok(()) } else { besides.set_retries(self.txn, mount, name, Some(&retries)) }
    }

    /// A rotation for `name` failed, and the time at which it is tried again is set: where it rotates by a policy, that says
    /// whether it counts. `cycle` is when it would be due next.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn not_rotated(&mut self, name: &str, now: Timestamp, cycle: Timestamp) -> Result<(), Fault> {
        let (mount, besides) = self.besides()?;
        let Some(mut retries) = besides.retries(self.txn, mount, name)? else { return Ok(()) };
        if retries.orphaned.is_some() {
            // By order, and in vain again.
            return self.no_wake(name);
        }
        // Without its policy it is tried for ever.
        let Some(policy) = besides.rotation_policy(self.txn, mount, &retries.policy)? else { return Ok(()) };
        let earliest = besides.wakes_at(self.txn, mount, name)?.unwrap_or(now);
        let next = retries.failed(policy, now, earliest, cycle);
        besides.set_retries(self.txn, mount, name, Some(&retries))?;
        match next {
            Some(next) => self.wake(name, next),
            None => self.no_wake(name),
        }
    }

    /// Tells those who listen what happened, once this transaction is committed; nobody is told of one that is not. Where
    /// nobody listens, `happened` is not asked. It names things, and no value that is kept in them.
    pub fn tell(&mut self, happened: impl FnOnce() -> Happened) {
        if let (true, Some((mount, _))) = (self.txn.has_listeners(), self.besides) {
            self.txn.tell(happened().at(mount));
        }
    }

    fn besides(&self) -> Result<(&'a MountFacts, &'static dyn Besides), Fault> {
        self.besides.ok_or_else(|| Fault::internal("this window shows data only"))
    }

    /// The value stored under `name`, which may contain slashes.
    ///
    /// # Errors
    /// A refusal when `name` is no storage name; a failure when the store fails.
    pub fn read(&mut self, name: &str) -> Result<Option<Plaintext>, Fault> {
        let key = self.prefix.key(name).map_err(fault)?;
        self.txn.read(&key).map_err(fault)
    }

    /// Whether something is stored under `name`, without opening it.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn contains(&mut self, name: &str) -> Result<bool, Fault> {
        let key = self.prefix.key(name).map_err(fault)?;
        self.txn.contains(&key).map_err(fault)
    }

    /// Stores a value under `name`.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn write(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        let key = self.prefix.key(name).map_err(fault)?;
        self.txn.write(&key, value).map_err(fault)
    }

    /// Removes `name`; removing nothing is fine.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn delete(&mut self, name: &str) -> Result<(), Fault> {
        let key = self.prefix.key(name).map_err(fault)?;
        self.txn.delete(&key).map_err(fault)
    }

    /// The value of a *point*.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn read_point(&mut self, point: &Point) -> Result<Option<Plaintext>, Fault> {
        let key = point.key(&self.prefix)?;
        self.txn.read(&key).map_err(fault)
    }

    /// Stores a point.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn write_point(&mut self, point: &Point, value: &[u8]) -> Result<(), Fault> {
        let key = point.key(&self.prefix)?;
        self.txn.write(&key, value).map_err(fault)
    }

    /// Removes a point; removing nothing is fine.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn delete_point(&mut self, point: &Point) -> Result<(), Fault> {
        let key = point.key(&self.prefix)?;
        self.txn.delete(&key).map_err(fault)
    }

    /// The names directly below `directory` (empty, or ending in a slash), in order, after `after`, at most `limit`;
    /// deeper directories end in a slash.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn list(&mut self, directory: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, Fault> {
        let prefix = self.prefix.below(directory).map_err(fault)?;
        self.txn.list(&prefix, after, limit).map_err(fault)
    }

    /// The names directly below `directory`, as [`View::list`] gives them; without a limit, all of them.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn names(&mut self, directory: &str, after: Option<&str>, limit: Option<usize>) -> Result<Vec<String>, Fault> {
        self.list(directory, after, limit.unwrap_or(usize::MAX))
    }

    /// A narrower window, below one more directory (ending in a slash).
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn below(&mut self, directory: &str) -> Result<View<'_>, Fault> {
        let prefix = self.prefix.below(directory).map_err(fault)?;
        Ok(View { txn: self.txn, prefix, besides: self.besides })
    }

    /// The whole transaction, for a system engine.
    pub fn widen(&mut self, _right: Widened) -> &mut Txn {
        self.txn
    }
}

/// What an error of the barrier means for the request: a name that cannot be stored is the caller's fault, a failing
/// store is ours, and one that is not reached may be asked again.
pub fn fault(error: BarrierError) -> Fault {
    match error {
        BarrierError::Key(key) => Fault::invalid(key.to_string()),
        // The store tells the log why, once.
        error if error.is_elsewhere() => Refusal::Elsewhere.into(),
        error if error.is_unreachable() => Refusal::Unavailable(UNREACHABLE.into()).into(),
        other => Fault::internal(other),
    }
}

/// What clients are told while the server that keeps the store is not reached.
const UNREACHABLE: &str = "storage is not reached at the moment: try again";
/// The same of a write that came to nothing.
pub const NOT_WRITTEN: &str = "nothing was written: storage is not reached at the moment";

/// Whether storage is not reached: trying again later will do.
#[must_use]
pub fn is_storage_unreachable(fault: &Fault) -> bool {
    match fault {
        Fault::Refusal(Refusal::Unavailable(text)) => *text == UNREACHABLE || *text == NOT_WRITTEN,
        Fault::Refusal(_) => false,
        Fault::Failure(failure) => failure.cause.downcast_ref().is_some_and(BarrierError::is_unreachable),
    }
}

/// Whether something lies in a namespace that is sealed: it can be neither read nor written.
#[must_use]
pub fn is_sealed(fault: &Fault) -> bool {
    let Fault::Failure(failure) = fault else { return false };
    matches!(failure.cause.downcast_ref(), Some(BarrierError::SealedRealm))
}

/// Whether something stored is damaged, so that trying again will not help.
#[must_use]
pub fn is_damage(fault: &Fault) -> bool {
    let Fault::Failure(failure) = fault else { return false };
    let cause = &failure.cause;
    cause.downcast_ref().is_some_and(BarrierError::is_damage) || cause.is::<RecordError>()
}
