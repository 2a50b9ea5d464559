//! Other keys for namespaces that have a seal of their own: a new term of the ring, another root key, other shares.
//!
//! Another seal is written into the namespace's record in the place of the one that it was made of; the ring in memory follows
//! when that is there ([`Realms::follow`](super::realms::Realms)). The root key that opens it by then is laid ready before it
//! is written, since it is in nothing that is stored. Deliberately absent: who may (`shareholders`), and when a term is over
//! (`keyring`).

use tresor_barrier::{NextSeal, RealmSeal, RekeyError};
use tresor_model::Fault;
use tresor_model::ids::{NamespaceId, RealmId};

use super::realms::sealed;
use super::{NamespaceName, Spaces, change, read};
use crate::keyring;

impl Spaces {
    /// The namespaces that have a seal of their own and are open here: their ids.
    pub(crate) fn open_realms(&self) -> Result<Vec<NamespaceId>, Fault> {
        let every = self.every_sealable()?;
        Ok(every.into_iter().filter(|(space, _)| !space.is_sealed).map(|(space, _)| space.id.clone()).collect())
    }

    /// The realm of a namespace that has a seal of its own and is open here, and the seal.
    ///
    /// # Errors
    /// A refusal when it has none, or is sealed.
    pub(crate) fn own_seal(&self, namespace: &NamespaceId) -> Result<(RealmId, RealmSeal), Fault> {
        let space = self.of(namespace)?;
        if space.is_sealed {
            return Err(sealed().into());
        }
        let seal = space.record.as_ref().and_then(|record| record.seal.clone());
        namespace.realm().zip(seal).ok_or_else(|| Fault::invalid("namespace is not sealable"))
    }

    /// Stores another seal of a namespace; `make` is handed the one that there is.
    ///
    /// # Errors
    /// As [`Spaces::own_seal`]; a failure when it cannot be made or stored.
    pub(crate) async fn change_seal(
        &self,
        namespace: &NamespaceId,
        make: impl Fn(&RealmId, &RealmSeal) -> Result<NextSeal, RekeyError>,
    ) -> Result<(), Fault> {
        let space = self.of(namespace)?;
        let Some(known) = &space.record else { return Err(Fault::invalid("namespace is not sealable")) };
        let name = NamespaceName::parse(known.name()).map_err(Fault::internal)?;
        let at = change::key(&known.parent(), &name)?;
        self.change(|txn| {
            let (realm, _) = self.own_seal(namespace)?;
            let record = read(txn, &at)?.filter(|record| record.id == *namespace && !record.is_leaving());
            let record = record.ok_or_else(|| Fault::invalid("namespace is being deleted"))?;
            let seal = record.seal.as_ref().ok_or_else(|| Fault::invalid("namespace is not sealable"))?;
            let NextSeal { seal, root } = make(&realm, seal).map_err(keyring::fault)?;
            self.realms.expect(&realm, root);
            change::write(txn, &super::record::NamespaceRecord { seal: Some(seal), ..record })
        })
        .await
    }
}
