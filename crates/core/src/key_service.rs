//! Seals whose key never leaves a service: another server's transit engine, the key service of a cloud, a module.
//!
//! The key that wraps the root key lies in its slot, sealed by the service; the service sees that key and nothing else of the
//! store. A slot is made only of a key that the service was seen to open again. When the service seals by another version
//! than the slot was made with, the next one who looks makes the slot anew, so that old versions can go. Deliberately absent:
//! how services are asked (`tresor-server`), slots (`tresor-barrier`), and when to try again ([`opening`](crate::opening)).

use std::fmt;

use tresor_barrier::{SealedKey, StaticKey, StaticKeys, StoredKey};
use tresor_crypto::token_text::random_uuid;
use tresor_env::{BoxFuture, Entropy};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use crate::augmentation::Augmentation;
use crate::opening::{NotOpened, OpeningProblem};

/// A service that seals and opens by a key that never leaves it.
pub trait KeyService: Send + Sync {
    /// Its kind, the type of the seal's stanza.
    fn kind(&self) -> &'static str;

    /// Which of its keys is used: stored, logged and shown to operators.
    fn key_id(&self) -> &str;

    /// Seals a key; it opens under the same name only, where the service can bind to one.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>>;

    /// Opens what it sealed.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>>;

    /// Random bytes that the service makes.
    ///
    /// # Errors
    /// [`ServiceError`]; always, where it makes none for others.
    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        let _ = count;
        Box::pin(async { Err(ServiceError::Unprepared("it makes no random bytes for others".to_owned())) })
    }
}

/// What a service made of a key.
pub struct Sealed {
    /// The version of the service's key; empty where it does not say.
    pub version: String,
    /// What it made.
    pub sealed: Vec<u8>,
}

/// Why a service did not do what it was asked: texts for the log, without tokens or keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceError {
    /// What it is asked with cannot be read: a token, a certificate.
    Unprepared(String),
    /// It did not answer, or says that it failed.
    Unanswered(String),
    /// It says no.
    Refused(String),
    /// It answered something else than was asked for.
    Unexpected(&'static str),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprepared(text) => f.write_str(text),
            Self::Unanswered(text) => write!(f, "it does not answer: {text}"),
            Self::Refused(text) => write!(f, "it refuses: {text}"),
            Self::Unexpected(what) => write!(f, "it answered {what}"),
        }
    }
}

impl ServiceError {
    const fn problem(&self) -> OpeningProblem {
        match self {
            Self::Unprepared(_) => OpeningProblem::KeyUnreadable,
            Self::Unanswered(_) => OpeningProblem::ServiceAway,
            Self::Refused(_) | Self::Unexpected(_) => OpeningProblem::ServiceRefuses,
        }
    }
}

/// What it opened does not open the slot that it was sealed for.
const OTHER_KEY: ServiceError = ServiceError::Unexpected("with another key than the one that it had sealed");

/// What keys are wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To open what is stored.
    Opening,
    /// To have a slot from now on, whatever became of the one that there is.
    Slot,
}

/// What keys are made of.
#[derive(Clone, Copy)]
pub(crate) struct Randomness<'e> {
    pub(crate) entropy: &'e dyn Entropy,
    /// Where nothing is to be made without the seal's bytes.
    pub(crate) augmentation: Option<&'e Augmentation>,
}

/// The keys of the slots that a service sealed, and a new one where the slot is to be made anew.
pub(crate) async fn read(
    service: &dyn KeyService,
    stored: &[StoredKey],
    wanted: Wanted,
    made_of: Randomness<'_>,
) -> Result<StaticKeys, NotOpened> {
    let about = |error: &ServiceError| {
        let (kind, id) = (service.kind(), service.key_id());
        NotOpened::new(error.problem(), &format!("the key `{id}` of the seal `{kind}`: {error}"))
    };
    let mut failed = None;
    for key in stored.iter().filter(|key| key.sealed().service == service.kind()) {
        let opened = service.open(key.sealed()).await.and_then(|opened| key.opened_to(opened).ok_or(OTHER_KEY));
        match opened {
            Ok(kept) => return Ok(kept_or_anew(service, kept, made_of).await),
            Err(error) => failed = Some(about(&error)),
        }
    }
    match (wanted, failed) {
        (Wanted::Opening, Some(failed)) => Err(failed),
        (Wanted::Opening, None) => {
            let (kind, id) = (service.kind(), service.key_id());
            let text = format!(
                "the store has no key slot of the seal `{kind}` (`{id}`) yet: it gets one when it is next unsealed by shares"
            );
            Err(NotOpened::new(OpeningProblem::NoSlot, &text))
        }
        (Wanted::Slot, _) => {
            let current = fresh(service, made_of).await.map_err(|error| about(&error))?;
            Ok(StaticKeys { current, previous: None })
        }
    }
}

/// The key of a slot; with another one to take its place, when the service seals by another version by now.
async fn kept_or_anew(service: &dyn KeyService, kept: StaticKey, made_of: Randomness<'_>) -> StaticKeys {
    let name = |key: &StaticKey| key.sealed().map(|sealed| (sealed.key_id.clone(), sealed.version.clone()));
    match fresh(service, made_of).await {
        Ok(new) if name(&new) != name(&kept) => StaticKeys { current: new, previous: Some(kept) },
        Ok(_) => StaticKeys { current: kept, previous: None },
        Err(error) => {
            // The slot is as good as it was.
            tracing::warn!(
                key = service.key_id(),
                "the seal `{}` opens, and makes no new slot: {error}",
                service.kind()
            );
            StaticKeys { current: kept, previous: None }
        }
    }
}

/// A new key, sealed, that the service was seen to open.
async fn fresh(service: &dyn KeyService, made_of: Randomness<'_>) -> Result<StaticKey, ServiceError> {
    let Randomness { entropy, augmentation } = made_of;
    if let Some(augmentation) = augmentation {
        augmentation.stir().await?;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(&mut *bytes);
    let slot = random_uuid(entropy);
    let Sealed { version, sealed } = service.seal(&bytes, &slot).await?;
    let key = DataKey::new(*bytes);
    let (kind, key_id) = (service.kind().to_owned(), service.key_id().to_owned());
    let sealed = SealedKey { slot, service: kind, key_id, version, sealed };
    if !service.open(&sealed).await?.is_same(&key) {
        return Err(OTHER_KEY);
    }
    Ok(StaticKey::of_service(sealed, key))
}
