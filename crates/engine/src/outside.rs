//! Effects at somebody else's server: planned within a transaction, done without one, settled within another.
//!
//! A transaction is done again when it conflicts, and lost in a crash; what was done at a database stays. So a handler does
//! not act, it *plans*: it writes what has to be known if the server ends in the middle of it (its own intent, or the recipe
//! of a [`LeaseClaim`]), and answers with an [`Outside`]. The core commits that, then runs the *act*, once, without any
//! transaction, under a deadline, on the node that leads; then it *settles* within a transaction of its own, which makes the
//! answer. Invariants: an act begins only after its intent is committed; an answer leaves only after settling is committed;
//! what comes to neither is taken back by the recipe. Deliberately absent: trying an act again; whoever asked may.

use std::marker::PhantomData;

use tresor_env::BoxFuture;
use tresor_model::fault::Side;
use tresor_model::{Fault, Timestamp};

use crate::answer::Answer;
use crate::reply::{LeaseClaim, Reply};
use crate::view::View;

/// Why an act failed, and what it left behind at the target.
pub struct Failed {
    /// What whoever asked is told: a refusal where the target or its configuration is to blame, with its own words.
    pub fault: Fault,
    /// What it left behind.
    pub left: Left,
}

/// What a failed act left behind at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Certainly nothing: it was never asked to make anything, or undid all of it by itself.
    Nothing,
    /// Something, perhaps, and what is asked of the target from now on comes after it: it is taken back.
    Something,
    /// Nobody knows, and it may come true later: it is taken back, and later once more.
    Doubt,
}

impl Failed {
    /// The target was never asked to make anything, or undid all of it.
    #[must_use]
    pub const fn nothing_done(fault: Fault) -> Self {
        Self { fault, left: Left::Nothing }
    }

    /// The target answered, and what it has made so far has to go.
    #[must_use]
    pub const fn partly_done(fault: Fault) -> Self {
        Self { fault, left: Left::Something }
    }

    /// The target did not answer.
    #[must_use]
    pub const fn in_doubt(fault: Fault) -> Self {
        Self { fault, left: Left::Doubt }
    }

    /// Whether the target is to blame as a whole, and not what was asked of it: it does not answer.
    #[must_use]
    pub fn is_the_targets(&self) -> bool {
        self.left == Left::Doubt || is_unreachable(&self.fault)
    }
}

/// Whether a fault says that a target does not answer ([`Fault::upstream`]).
#[must_use]
pub fn is_unreachable(fault: &Fault) -> bool {
    matches!(fault, Fault::Failure(failure) if failure.side == Side::Upstream)
}

/// Who does not say is in doubt.
impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::in_doubt(fault)
    }
}

/// Makes the answer, within a transaction; done again when that conflicts.
pub type Settle = Box<dyn Fn(&mut View<'_>, Timestamp) -> Result<Reply, Fault> + Send + Sync>;
/// Notes that the act failed, within a transaction; done again when that conflicts.
pub type NoteFailure = Box<dyn Fn(&mut View<'_>, Timestamp, &Failed) -> Result<(), Fault> + Send + Sync>;

/// What the pipeline is given of an [`Outside`].
pub struct Plan {
    /// The act; it gives what settles it.
    pub act: BoxFuture<'static, Result<Settle, Failed>>,
    /// What is noted when it fails.
    pub failed: Option<NoteFailure>,
    /// What is handed out, if anything is, and how it is taken back.
    pub lease: Option<LeaseClaim>,
    /// Whom it asks, in the engine's words; what may be asked of one target at a time is bounded, mount by mount.
    pub target: String,
}

/// An answer that comes after something was done outside the server; or at once, where nothing had to be done.
pub struct Outside<A>(What, PhantomData<fn() -> A>);

pub(crate) enum What {
    Planned(Box<Plan>),
    Done(Box<Reply>),
}

impl<A: Answer> Outside<A> {
    /// Plans to act at a target (the name of a connection, say), and then to settle.
    ///
    /// `settle` may be called more than once, each time on what is stored then; only what its last call writes stays.
    pub fn new<T: Send + Sync + 'static>(
        target: impl Into<String>,
        act: impl Future<Output = Result<T, Failed>> + Send + 'static,
        settle: impl Fn(&mut View<'_>, Timestamp, &T) -> Result<A, Fault> + Send + Sync + 'static,
    ) -> Self {
        let act = async move {
            let done = act.await?;
            let settle: Settle = Box::new(move |view, now| settle(view, now, &done).map(Answer::into_reply));
            Ok(settle)
        };
        let plan = Plan { act: Box::pin(act), failed: None, lease: None, target: target.into() };
        Self(What::Planned(Box::new(plan)), PhantomData)
    }

    /// Nothing has to be done outside.
    #[must_use]
    pub fn done(answer: A) -> Self {
        Self(What::Done(Box::new(answer.into_reply())), PhantomData)
    }

    /// What is written when the act fails, for who has an intent of their own; whoever asked is told why it failed.
    #[must_use]
    pub fn if_failed(
        mut self,
        note: impl Fn(&mut View<'_>, Timestamp, &Failed) -> Result<(), Fault> + Send + Sync + 'static,
    ) -> Self {
        if let What::Planned(plan) = &mut self.0 {
            plan.failed = Some(Box::new(note));
        }
        self
    }

    /// What the act hands out is under a lease from the settling on. Until then the claim's recipe is the intent: it takes
    /// back what was left behind by an act that failed, or that nobody knows the end of.
    #[must_use]
    pub fn with_lease(self, claim: LeaseClaim) -> Outside<UnderLease<A>> {
        let what = match self.0 {
            What::Planned(mut plan) => {
                plan.lease = Some(claim);
                What::Planned(plan)
            }
            What::Done(mut reply) => {
                reply.lease = Some(claim);
                What::Done(reply)
            }
        };
        Outside(what, PhantomData)
    }

    pub(crate) fn into_what(self) -> What {
        self.0
    }
}

/// Says of an answer that it shows what is handed out under a lease.
pub struct UnderLease<A>(PhantomData<fn() -> A>, Never);

enum Never {}

impl<A: Answer> UnderLease<A> {
    pub(crate) fn reply(&self) -> Reply {
        match self.1 {}
    }
}
