//! A server in recovery mode: nothing of it is served but what is stored, record by record, to whoever has a recovery token.
//!
//! For a store that a server cannot open any more, though its keys are right: nothing is loaded, no table, no audit device. The
//! token is made by those who hold enough shares, whose shares also open the barrier; it lives in memory, and another one ends
//! it. Deliberately absent: policies, audit devices (the log says what is read and changed), and standing by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tresor_barrier::{Barrier, CommitError, SealFacts, SealedStore, ShareCollector, Txn, UnsealError};
use tresor_crypto::token_text::{random_base62, random_uuid};
use tresor_env::Doors;
use tresor_model::{Fault, Refusal};
use tresor_secret::{SecretString, TokenSecret, UnsealShare};
use tresor_storage::Store;
use zeroize::Zeroizing;

use super::Ballot;
use super::generate_root::{Concealment, GenerationStanding, OTP_CHARACTERS, RANDOM_CHARACTERS};
use super::rekey::Entered;

/// What a recovery token begins with.
const PREFIX: &str = "hvr.";
/// There is one term only: nobody else leads.
const TERM: u64 = 0;

/// A server in recovery mode.
pub struct Recovery {
    store: SealedStore,
    doors: Doors,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attempt: Option<(Ballot, Concealment)>,
    open: Option<(Barrier, TokenSecret)>,
}

impl Recovery {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(store: Arc<dyn Store>, doors: Doors) -> Result<Self, Fault> {
        let store = SealedStore::open(store, doors.clone()).map_err(Fault::internal)?;
        Ok(Self { store, doors, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.doors.clock.wall();
        state.attempt.take_if(|(ballot, _)| !ballot.is_current(TERM, now));
        state
    }

    fn facts(&self) -> Result<SealFacts, Fault> {
        let facts = self.store.facts().map_err(Fault::internal)?;
        if facts.initialized { Ok(facts) } else { Err(Refusal::Uninitialized.into()) }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> tresor_model::Timestamp {
        self.doors.clock.wall()
    }

    /// A fresh one-time password.
    #[must_use]
    pub fn one_time_password(&self) -> SecretString {
        SecretString::new(random_base62(OTP_CHARACTERS, &*self.doors.entropy).to_string())
    }

    /// How far the attempt to make a token is.
    ///
    /// # Errors
    /// When the store cannot be read, or was never initialised.
    pub fn standing(&self) -> Result<GenerationStanding, Fault> {
        let required = self.facts()?.threshold;
        let state = self.state();
        Ok(match &state.attempt {
            None => GenerationStanding { required, ..GenerationStanding::default() },
            Some((ballot, concealment)) => GenerationStanding {
                nonce: ballot.nonce.clone(),
                is_started: true,
                progress: ballot.shares.progress(),
                required,
                fingerprint: concealment.fingerprint(),
            },
        })
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// A refusal when there is one already, or when the password cannot be as long as the token.
    pub fn begin(&self, concealment: Concealment) -> Result<(), Fault> {
        concealment.check(OTP_CHARACTERS)?;
        self.facts()?;
        let nonce = random_uuid(&*self.doors.entropy);
        let mut state = self.state();
        if state.attempt.is_some() {
            return Err(Fault::invalid("recovery token generation already in progress"));
        }
        tracing::info!(nonce, "a recovery token by shares was begun");
        let begun = self.doors.clock.wall();
        let ballot = Ballot { nonce, term: TERM, begun, shares: ShareCollector::default() };
        state.attempt = Some((ballot, concealment));
        Ok(())
    }

    /// Ends an attempt.
    pub fn cancel(&self) {
        self.state().attempt = None;
    }

    /// Enters a share; with the last one needed the barrier is open and the token is answered as it leaves the server.
    ///
    /// # Errors
    /// A refusal when there is no attempt, or when the shares open nothing.
    pub async fn enter(&self, nonce: &str, share: UnsealShare) -> Result<Entered<(SecretString, String)>, Fault> {
        let facts = self.facts()?;
        let (opened, concealment) = {
            let mut state = self.state();
            let (ballot, _) =
                state.attempt.as_mut().ok_or_else(|| Fault::invalid("no recovery token generation in progress"))?;
            let Some(key) = ballot.take(nonce, share, &facts, &*self.doors.entropy)? else {
                return Ok(Entered::NotEnough);
            };
            let opened = self.store.unseal_with(&key).map_err(|error| match error {
                UnsealError::WrongKey => Fault::invalid("unable to generate a recovery token: the shares open nothing"),
                other => Fault::internal(other),
            })?;
            let (_, concealment) = state.attempt.take().ok_or_else(|| Fault::internal("the attempt is gone"))?;
            (opened, concealment)
        };
        let random = random_base62(RANDOM_CHARACTERS, &*self.doors.entropy);
        let text = Zeroizing::new(format!("{PREFIX}{}", random.as_str()));
        let concealed = concealment.conceal(&text, &*self.doors.entropy)?;
        let token = TokenSecret::parse(&text).map_err(Fault::internal)?;
        let before = self.state().open.replace((opened.into_barrier(), token));
        if let Some((barrier, _)) = before {
            barrier.stop().await;
        }
        tracing::warn!(nonce, "a recovery token was made by shares: whoever has it reads and writes what is stored");
        Ok(Entered::Enough((concealed, concealment.fingerprint())))
    }

    /// The open barrier, for who has the token. No audit device records it, so the log says what is `asked` for.
    ///
    /// # Errors
    /// A refusal for everybody else.
    pub fn open(&self, token: Option<&TokenSecret>, asked: &str) -> Result<Barrier, Fault> {
        let state = self.state();
        let (barrier, own) = state.open.as_ref().ok_or_else(Fault::denied)?;
        let is_own = token.is_some_and(|token| token.is_same(own));
        if !is_own {
            return Err(Fault::denied());
        }
        tracing::info!(asked, "recovery: what is stored is asked for");
        Ok(barrier.clone())
    }

    /// Ends what was open.
    pub async fn close(&self) {
        let open = self.state().open.take();
        if let Some((barrier, _)) = open {
            barrier.stop().await;
        }
    }
}

/// Commits a change.
///
/// # Errors
/// When it cannot be stored.
pub async fn commit(barrier: &Barrier, txn: Txn) -> Result<(), Fault> {
    match barrier.commit(txn).await {
        Ok(_) => Ok(()),
        Err(CommitError::Conflict) => Err(Refusal::Unavailable("it was changed meanwhile, try again".into()).into()),
        Err(error) => Err(Fault::internal(error)),
    }
}
