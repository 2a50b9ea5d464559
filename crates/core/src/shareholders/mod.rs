//! What enough of those who hold shares may do while the node serves: change the shares, and make a root token.
//!
//! They come one after the other, from different places, so how far they are is kept in the memory of the node that leads, and
//! nowhere else: another leader, sealing, a day, or being cancelled ends it, and the shares that were entered are gone. A share
//! counts only for the attempt that it names. Whether shares are right is proven by opening the root key. Deliberately absent:
//! unsealing, which a node does by itself ([`node`](crate::node)).

mod generate_root;
pub mod recovery;
mod rekey;
mod whose;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_barrier::{Barrier, SealFacts, ShareCollector, UnsealKey};
use tresor_crypto::token_text::random_uuid;
use tresor_env::{Entropy, SteadyClock, Timestamp};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Refusal};
use tresor_secret::UnsealShare;

pub use self::generate_root::{Concealment, GenerationStanding, OTP_CHARACTERS};
pub use self::rekey::{Backup, Entered, NewKeys, RekeyStanding, RekeyWish, Target, VerificationStanding};
use self::{generate_root::Generation, rekey::Rekey};
use crate::cluster::{Cluster, Standing};
use crate::namespaces::Spaces;
use crate::settings::Settings;
use crate::storage::Storage;
use crate::tokens::Tokens;

/// An attempt that takes longer is over.
const ATTEMPT_BOUND: Duration = Duration::from_secs(24 * 3600);

/// What the attempts need of the node.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) barrier: Barrier,
    pub(crate) storage: Arc<Storage>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) clock: SteadyClock,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) spaces: Arc<Spaces>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) settings: Arc<Settings>,
}

/// The attempts of an unsealed node: of those who hold shares of the store, or of a namespace's own seal.
pub struct Shareholders {
    /// Whose shares they are; those of the root namespace are the store's.
    whose: NamespaceId,
    means: Means,
    rekeys: Mutex<BTreeMap<Target, Rekey>>,
    generation: Mutex<Option<Generation>>,
    /// Those of namespaces with seals of their own.
    namespaces: Mutex<BTreeMap<NamespaceId, whose::OfNamespace>>,
}

/// One attempt: its name, when and under which leader it was begun, and who agreed.
struct Ballot {
    nonce: String,
    term: u64,
    begun: Timestamp,
    shares: ShareCollector,
}

impl Ballot {
    fn is_current(&self, term: u64, now: Timestamp) -> bool {
        self.term == term && now.since(self.begun) < ATTEMPT_BOUND
    }

    /// Takes a share; gives what enough of them were put together to.
    fn take(
        &mut self,
        nonce: &str,
        share: UnsealShare,
        facts: &SealFacts,
        entropy: &dyn Entropy,
    ) -> Result<Option<UnsealKey>, Fault> {
        if nonce != self.nonce {
            return Err(Fault::invalid("incorrect nonce supplied"));
        }
        if self.shares.knows(&share) {
            return Err(Fault::invalid("given key has already been provided during this operation"));
        }
        match self.shares.submit(share, facts, entropy) {
            Ok(tresor_barrier::Progress::Collecting { .. }) => Ok(None),
            Ok(tresor_barrier::Progress::Complete(key)) => Ok(Some(key)),
            Err(error) => Err(Fault::invalid(error.to_string())),
        }
    }
}

impl Shareholders {
    pub(crate) fn new(means: Means) -> Self {
        Self {
            whose: NamespaceId::root(),
            means,
            rekeys: Mutex::new(BTreeMap::new()),
            generation: Mutex::new(None),
            namespaces: Mutex::new(BTreeMap::new()),
        }
    }

    /// Forgets every attempt: this node does not lead any more, or the shares are other ones.
    pub(crate) fn forget(&self) {
        self.rekeys.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The attempts to change shares that are not over.
    fn rekeys(&self) -> Result<MutexGuard<'_, BTreeMap<Target, Rekey>>, Fault> {
        let (term, now) = (self.term()?, self.means.clock.now());
        let mut rekeys = self.rekeys.lock().unwrap_or_else(PoisonError::into_inner);
        rekeys.retain(|_, rekey| rekey.is_current(term, now));
        Ok(rekeys)
    }

    /// The attempt to make a root token, unless it is over.
    fn generation(&self) -> Result<MutexGuard<'_, Option<Generation>>, Fault> {
        let (term, now) = (self.term()?, self.means.clock.now());
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        generation.take_if(|generation| !generation.is_current(term, now));
        Ok(generation)
    }

    fn ballot(&self) -> Result<Ballot, Fault> {
        let nonce = random_uuid(&*self.means.entropy);
        Ok(Ballot { nonce, term: self.term()?, begun: self.means.clock.now(), shares: ShareCollector::default() })
    }

    /// Refuses what shares are needed for where there are none.
    fn must_have_shares(&self) -> Result<(), Fault> {
        if self.required()? == 0 {
            return Err(Fault::invalid(tresor_barrier::ShareError::NoShares.to_string()));
        }
        Ok(())
    }

    /// The term in which this node leads.
    fn term(&self) -> Result<u64, Fault> {
        match self.means.cluster.standing() {
            Standing::Leads { term } => Ok(term),
            Standing::Follows(_) | Standing::Leaderless => Err(Refusal::Elsewhere.into()),
        }
    }

    /// How many shares are needed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn required(&self) -> Result<u8, Fault> {
        Ok(self.facts()?.threshold)
    }
}
