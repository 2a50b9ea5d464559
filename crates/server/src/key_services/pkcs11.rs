//! `seal "pkcs11"`: a hardware security module keeps the key, and is asked by its own library, in this process.
//!
//! Its calls block for as long as they like. So each is made on a thread that nobody else needs, one at a time, and whoever asked
//! goes away when it takes too long; whoever asks meanwhile is told so. A call that never comes back holds that one thread and
//! nothing else. Deliberately absent: what the calls are (`tresor-pkcs11`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_env::tasks::run_blocking;
use tresor_env::{BoxFuture, Clock, Doors, Workers};
use tresor_pkcs11::{Module, TokenError};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::{Reach, key_of};
use crate::config::{Pkcs11Config, ServiceTls};

/// How long a module may take for what it is asked, logging in included.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long what is asked waits for what was asked before.
const TURN_MAX: Duration = Duration::from_secs(2);

/// A token of a module, which is asked on threads of its own, with a bound.
pub(crate) struct Hsm {
    /// Held by whoever has the turn, and by nobody else.
    module: Arc<Mutex<Module>>,
    turn: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    workers: Arc<dyn Workers>,
}

/// Whose turn it is at each library of this process: there is one of each, whoever asks it and for what.
static TURNS: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());

impl Hsm {
    pub(crate) fn new(module: Module, doors: &Doors) -> Self {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(module.library().to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Self {
            module: Arc::new(Mutex::new(module)),
            turn: Arc::clone(turn),
            clock: Arc::clone(&doors.clock),
            workers: Arc::clone(&doors.workers),
        }
    }

    /// Asks, in its turn; the error is that there was no answer in time.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        pin: Zeroizing<String>,
        work: impl FnOnce(&mut Module, &[u8]) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<Result<T, TokenError>, ServiceError> {
        let late = |what: &str| ServiceError::Unanswered(what.to_owned());
        let turn = tokio::select! {
            biased;
            turn = Arc::clone(&self.turn).acquire_owned() => turn.map_err(|_| late("it is asked no more"))?,
            () = self.clock.sleep(TURN_MAX) => return Err(late("what it was asked before has not come back")),
        };
        let module = Arc::clone(&self.module);
        let asked = run_blocking(&*self.workers, move || {
            // Given back when it comes back, whether or not anybody still waits.
            let _turn = turn;
            work(&mut module.lock().unwrap_or_else(PoisonError::into_inner), pin.as_bytes())
        });
        tokio::select! {
            biased;
            done = asked => done.map_err(|panicked| ServiceError::Refused(panicked.to_string())),
            () = self.clock.sleep(TIME_MAX) => Err(late("it took too long")),
        }
    }
}

/// A hardware security module that keeps the key of the seal.
pub(super) struct Pkcs11 {
    config: Pkcs11Config,
    reach: Reach,
    key_id: String,
    hsm: Hsm,
}

impl Pkcs11 {
    pub(super) fn new(config: Pkcs11Config, doors: Doors) -> Self {
        Self {
            key_id: config.key_id(),
            hsm: Hsm::new(Module::new(config.token.clone(), &*doors.entropy), &doors),
            reach: Reach { doors, tls: ServiceTls::default(), host: String::new() },
            config,
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Module, &[u8]) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let pin = self.reach.secret(&self.config.pin).await?;
        self.hsm.ask(pin, work).await?.map_err(|error| blame(&error))
    }
}

/// Whose fault it is.
pub(crate) fn blame(error: &TokenError) -> ServiceError {
    let text = error.to_string();
    match error {
        TokenError::NoLibrary(_) | TokenError::Damaged => ServiceError::Unprepared(text),
        TokenError::NoToken(_) | TokenError::Away(_) => ServiceError::Unanswered(text),
        TokenError::WrongPin(_)
        | TokenError::RefusedBefore
        | TokenError::RefusedOthers
        | TokenError::SeveralTokens(_)
        | TokenError::NoKey(_)
        | TokenError::SeveralKeys(_)
        | TokenError::NoMechanism(_)
        | TokenError::NoHmacKey
        | TokenError::NotOpened(_)
        | TokenError::Unable(_)
        | TokenError::Refused(_) => ServiceError::Refused(text),
    }
}

/// What is sealed is bound to.
fn bound_to(slot: &str) -> Vec<u8> {
    format!("tresor key slot {slot}").into_bytes()
}

impl KeyService for Pkcs11 {
    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let (key, bound_to) = (Zeroizing::new(*key), bound_to(name));
            let entropy = Arc::clone(&self.reach.doors.entropy);
            let made = self.ask(move |module, pin| module.seal(pin, &*key, &bound_to, &*entropy)).await?;
            Ok(Sealed { version: made.version, sealed: made.sealed })
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let (bytes, bound_to) = (sealed.sealed.clone(), bound_to(&sealed.slot));
            key_of(&self.ask(move |module, pin| module.open(pin, &bytes, &bound_to)).await?)
        })
    }

    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        Box::pin(self.ask(move |module, pin| module.random(pin, count)))
    }
}
