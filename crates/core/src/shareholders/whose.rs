//! Whose shares they are: those of the store, or those of a namespace that has a seal of its own.
//!
//! All that differs between the two is here: what is known of the seal, what shares prove, where another one is stored.
//! Deliberately absent: the attempts, which are the same for both.

use std::sync::{Arc, Mutex, PoisonError};

use tresor_barrier::{NewShares, SealFacts, UnsealKey};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;

use super::Shareholders;
use crate::keyring;
use crate::namespaces::Space;

/// The attempts of those who hold the shares of a namespace's own seal, since it was opened.
pub(super) struct OfNamespace {
    epoch: u64,
    shareholders: Arc<Shareholders>,
}

impl Shareholders {
    /// Those of the store, for the root namespace; for another one those of its own seal.
    ///
    /// # Errors
    /// A refusal when it has none, or is sealed.
    pub fn of(self: &Arc<Self>, space: &Space) -> Result<Arc<Self>, Fault> {
        if space.is_root() {
            return Ok(Arc::clone(self));
        }
        let (_, seal) = self.means.spaces.own_seal(&space.id)?;
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        // What was begun before it was sealed is over.
        if let Some(known) = namespaces.get(&space.id).filter(|known| known.epoch == seal.epoch()) {
            return Ok(Arc::clone(&known.shareholders));
        }
        // Those of namespaces that are gone are forgotten.
        namespaces.retain(|namespace, _| self.means.spaces.with_id(namespace).is_some());
        let shareholders = Arc::new(Self {
            whose: space.id.clone(),
            means: self.means.clone(),
            rekeys: Mutex::default(),
            generation: Mutex::default(),
            namespaces: Mutex::default(),
        });
        let of = OfNamespace { epoch: seal.epoch(), shareholders: Arc::clone(&shareholders) };
        namespaces.insert(space.id.clone(), of);
        Ok(shareholders)
    }

    /// Forgets every attempt, those of namespaces included: this node does not lead any more.
    pub(crate) fn forget_all(&self) {
        self.forget();
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    const fn namespace(&self) -> &NamespaceId {
        &self.whose
    }

    pub(super) fn facts(&self) -> Result<SealFacts, Fault> {
        if self.whose.is_root() {
            return self.means.storage.facts();
        }
        self.means.spaces.own_seal(self.namespace())?.1.facts().map_err(Fault::internal)
    }

    /// Whether a key that lies with the machine opens it, too.
    pub(super) fn opens_by_itself(&self) -> bool {
        self.whose.is_root() && self.means.settings.auto_seal.is_some()
    }

    /// Whether these are the shares that open now.
    pub(super) fn prove(&self, key: &UnsealKey) -> Result<(), Fault> {
        let barrier = &self.means.barrier;
        let opens = if self.whose.is_root() {
            barrier.is_opened_by(key)
        } else {
            let (realm, seal) = self.means.spaces.own_seal(self.namespace())?;
            barrier.is_realm_opened_by(&realm, &seal, key)
        };
        if opens.map_err(Fault::internal)? {
            Ok(())
        } else {
            Err(Fault::invalid("root key verification failed: the shares do not open the store"))
        }
    }

    /// Stores another root key; and other shares, where some are given.
    pub(super) async fn store(&self, shares: Option<&NewShares>) -> Result<(), Fault> {
        self.means.settings.stir().await?;
        let (barrier, now) = (&self.means.barrier, self.means.clock.now());
        if !self.whose.is_root() {
            let rekeyed = self
                .means
                .spaces
                .change_seal(self.namespace(), |realm, seal| barrier.rekeyed_realm(realm, seal, shares, now));
            return rekeyed.await;
        }
        match shares {
            None => barrier.rotate_root(now).await,
            Some(new) => barrier.let_open(new, now).await,
        }
        .map_err(keyring::fault)
    }
}
