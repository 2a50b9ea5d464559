//! Whose requests are the first of a store: operators', or the server's own, which its configuration says.
//!
//! A server that initialises itself leaves a mark in the batch that makes the store, and takes it away when its requests are
//! made: a later process that finds it opens nothing, since which requests had their effect nobody knows. Deliberately absent:
//! the requests (`tresor-server`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use tresor_barrier::Txn;
use tresor_env::Timestamp;
use tresor_model::{Fault, Refusal};
use tresor_record::Record;
use tresor_secret::TokenSecret;

use crate::keys;
use crate::node::{Command, Node};

/// Whose requests are the first of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// Operators', who get the root token.
    Operators,
    /// The server's own, which its configuration says.
    Own,
}

/// How long the server's own root token lives at most: no crash leaves one for longer.
const OWN_TOKEN_TTL: Duration = Duration::from_secs(15 * 60);

/// The server's own first requests are not all made.
#[derive(Record)]
#[record(kind = "self-initialization", version = 1)]
struct SelfInitialization {
    begun: Timestamp,
}

impl First {
    /// How long the first token lives.
    pub(crate) fn token_ttl(self) -> Option<Duration> {
        (self == Self::Own).then_some(OWN_TOKEN_TTL)
    }

    /// Leaves the mark where the server initialises itself.
    pub(crate) fn mark(self, txn: &mut Txn, now: Timestamp) -> Result<(), Fault> {
        if self == Self::Operators {
            return Ok(());
        }
        let mark = SelfInitialization { begun: now }.encode();
        txn.write(&keys::self_initialization().map_err(Fault::internal)?, &mark).map_err(Fault::internal)
    }
}

impl Node {
    /// Initialises the store for the server's own first requests, without shares: the answer is a root token that ends by itself
    /// after some minutes. Until the node [has initialised itself](Self::has_initialized_itself) no later process opens the store.
    ///
    /// # Errors
    /// As initialising; and when the node does not open.
    pub async fn initialize_itself(&self) -> Result<TokenSecret, Fault> {
        self.initializes_itself.store(true, Ordering::SeqCst);
        let (threshold, root_token, first) = (None, None, First::Own);
        let made = self.ask(|answer| Command::Initialize { threshold, root_token, first, answer }).await?;
        if self.unsealed().is_none() {
            return Err(Fault::internal("the store was initialised, and its seal does not open it"));
        }
        Ok(made.root_token)
    }

    /// The server's own first requests are made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_initialized_itself(&self) -> Result<(), Fault> {
        let unsealed = self.unsealed().ok_or(Refusal::Sealed)?;
        let mut txn = unsealed.begin()?;
        txn.delete(&keys::self_initialization().map_err(Fault::internal)?).map_err(Fault::internal)?;
        unsealed.commit(txn).await.map_err(Fault::from)
    }

    /// Whether a process before this one began to initialise the server by itself, and did not end it.
    pub(crate) fn is_half_initialized(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let key = keys::self_initialization().map_err(Fault::internal)?;
        Ok(!self.initializes_itself.load(Ordering::SeqCst) && txn.contains(&key).map_err(Fault::internal)?)
    }
}
