//! A key in a hardware security module, through the module's own PKCS#11 library: a short secret sealed and opened by it, and what it
//! does for others.
//!
//! All calls block, for as long as the module likes, so they belong on a thread that nobody needs. Nothing is kept between two of
//! them but the library: each opens a session, logs in and closes it, so a token that was away is found when it is back. What was
//! sealed says which key did it and how, and opens by that key whatever is configured by then. Deliberately absent: threads,
//! limits of time, and where PINs lie.

mod keys;
mod library;
mod mechanism;
mod operations;
mod pins;
mod sealed;

use std::path::{Path, PathBuf};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use tresor_env::Entropy;
use tresor_record::Record as _;
use zeroize::Zeroizing;

pub use keys::KeyName;
pub use library::Library;
use library::State;
pub use mechanism::{HmacHash, Mechanism, OaepHash};
pub use operations::MadeKey;
use pins::{IN_TURN_MAX, TokenIdentity};
use sealed::Envelope;

/// How many random bytes a token is asked for at once; how many it gives the standard does not say.
const RANDOM_BYTES_MAX: usize = 1024;

/// Which token, and which of its keys.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The module's library.
    pub library: PathBuf,
    /// The slot that the token is in; found by its label, without.
    pub slot: Option<u64>,
    /// The token's label.
    pub token_label: Option<String>,
    /// The key that seals.
    pub key: KeyName,
    /// How; the best that key and token can do, without.
    pub mechanism: Option<Mechanism>,
    /// The key that authenticates, where the mechanism does not.
    pub hmac_key: Option<KeyName>,
    /// How it does.
    pub hmac_hash: HmacHash,
    /// The hash of RSA's padding.
    pub oaep_hash: OaepHash,
    /// Whether keys that are missing are made.
    pub generates: bool,
    /// What is made where a key is to be used for others; without it nothing is.
    pub made: Option<MadeKey>,
    /// Whether what is sealed by RSA is sealed outside of the token, by the public half that it shows: not all seal themselves.
    pub seals_outside: bool,
    /// Whether a library that lost its token is begun anew, once.
    pub begins_anew: bool,
    /// Whether sessions are such that could write, though nothing is written.
    pub writable: bool,
}

/// What a key of the module made of a secret.
pub struct Made {
    /// Which key, and how: the same as long as both stay.
    pub version: String,
    /// What came out.
    pub sealed: Vec<u8>,
}

/// Why a module did not do what it was asked; no PIN or secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its library cannot be loaded.
    #[error("the library cannot be loaded: {0}")]
    NoLibrary(String),
    /// The token is not there.
    #[error("there is no token {0}")]
    NoToken(String),
    /// Several tokens have that label.
    #[error("there are several tokens {0}: name the slot")]
    SeveralTokens(String),
    /// The PIN is wrong, or the token takes none any more.
    #[error(
        "it does not take the PIN ({0}); the same one is tried again only by another start, as tokens lock themselves"
    )]
    WrongPin(String),
    /// This PIN was refused before.
    #[error("the PIN was refused before, and is not tried again before another one lies there, or another start")]
    RefusedBefore,
    /// Others were refused before.
    #[error(
        "the token refused {} different PINs in turn: no other one is tried before one that it took logs in again, or another start",
        IN_TURN_MAX
    )]
    RefusedOthers,
    /// There is no such key.
    #[error("it has no key {0}")]
    NoKey(String),
    /// There are several.
    #[error("it has several keys {0}: name the id of one")]
    SeveralKeys(String),
    /// Key and token have no way in common that is known here.
    #[error("neither AES_GCM nor, with an HMAC key, AES_CBC_PAD can be used with the key {0}")]
    NoMechanism(String),
    /// AES in CBC mode alone authenticates nothing.
    #[error("the mechanism CKM_AES_CBC_PAD needs a key for an HMAC")]
    NoHmacKey,
    /// What is to be opened is none of what was sealed.
    #[error("what is stored was not sealed by a module, or is damaged")]
    Damaged,
    /// It opens to nothing: the key is another one, or it was moved.
    #[error("what is stored does not open: {0}")]
    NotOpened(String),
    /// The module or its token is away, or was while it was asked.
    #[error("{0}")]
    Away(String),
    /// The module says no.
    #[error("{0}")]
    Refused(String),
    /// The key, or its token, is not made for that.
    #[error("the key cannot {0}")]
    Unable(&'static str),
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match &error {
            Error::LibraryLoading(_) | Error::MissingSymbol(_) => Self::NoLibrary(error.to_string()),
            Error::Pkcs11(code, _) if is_away(*code) => Self::Away(said(&error)),
            _ => Self::Refused(said(&error)),
        }
    }
}

/// What the module said, by the names of its standard.
fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("C_{function:?}: {code:?}"),
        other => other.to_string(),
    }
}

/// Whether the same may do another time.
const fn is_away(code: RvError) -> bool {
    matches!(
        code,
        RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::HostMemory
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::FunctionCanceled
            | RvError::SlotIdInvalid
            | RvError::SessionClosed
            | RvError::SessionCount
            | RvError::SessionHandleInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::UserNotLoggedIn
            | RvError::CryptokiNotInitialized
            | RvError::ObjectHandleInvalid
            | RvError::KeyHandleInvalid
    )
}

/// A token of a module, by its library, which is loaded when it is first needed.
pub struct Module {
    config: TokenConfig,
    library: Library,
}

impl Module {
    /// A module of which nothing is asked yet.
    #[must_use]
    pub fn new(config: TokenConfig, entropy: &dyn Entropy) -> Self {
        Self { library: Library::of(&config.library, entropy), config }
    }

    /// Which library it is, by the one path that stands for all that lead to it.
    #[must_use]
    pub fn library(&self) -> &Path {
        self.library.path()
    }

    /// Seals a secret; it opens only with the same `bound_to`, where the mechanism can bind.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn seal(
        &mut self,
        pin: &[u8],
        secret: &[u8],
        bound_to: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Made, TokenError> {
        self.within(pin, |token| {
            let envelope = token.seal(secret, bound_to, entropy)?;
            Ok(Made { version: envelope.version(), sealed: envelope.encode().to_vec() })
        })
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(&mut self, pin: &[u8], sealed: &[u8], bound_to: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let envelope = Envelope::decode(sealed).map_err(|_| TokenError::Damaged)?;
        self.within(pin, |token| token.open(&envelope, bound_to))
    }

    /// Random bytes that the token makes.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn random(&mut self, pin: &[u8], count: usize) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.within(pin, |token| {
            let mut bytes = Zeroizing::new(vec![0; count]);
            for part in bytes.chunks_mut(RANDOM_BYTES_MAX) {
                token.session.generate_random_slice(part)?;
            }
            Ok(bytes)
        })
    }

    /// Does something in a session. A module that lost its token is begun anew, once: many find one only then.
    fn within<T>(&mut self, pin: &[u8], work: impl Fn(&Token<'_>) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let library = self.library.clone();
        let mut state = library.state();
        let was_ready = state.is_ready();
        match self.attempt(&mut state, pin, &work) {
            Err(TokenError::Away(_) | TokenError::NoToken(_)) if was_ready && self.config.begins_anew => {
                state.end();
                self.attempt(&mut state, pin, &work)
            }
            done => done,
        }
    }

    fn attempt<T>(
        &self,
        state: &mut State,
        pin: &[u8],
        work: impl Fn(&Token<'_>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let context = state.context()?;
        let slot = slot(&context, &self.config)?;
        let token = TokenIdentity::of(&context.get_token_info(slot)?);
        state.pins.check(&token, pin)?;
        let is_writable = self.config.writable || self.config.generates;
        let session = if is_writable { context.open_rw_session(slot)? } else { context.open_ro_session(slot)? };
        match log_in(&session, pin) {
            Ok(()) => state.pins.take(token, pin),
            Err(Error::Pkcs11(
                code @ (RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked),
                _,
            )) => {
                state.pins.refuse(token, pin);
                return Err(TokenError::WrongPin(format!("{code:?}")));
            }
            Err(other) => return Err(other.into()),
        }
        let done = work(&Token { context: &context, session: &session, slot, config: &self.config });
        // Closing the last session logs out as well; whether it does is of no matter here.
        drop(session.logout());
        done
    }
}

/// Logs in by this PIN and no other.
fn log_in(session: &Session, pin: &[u8]) -> Result<(), Error> {
    let pin = RawAuthPin::new(Box::new(pin.to_vec()));
    match session.login_with_raw(UserType::User, &pin) {
        // By whose PIN nobody knows; this one is not looked at before they are out.
        Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            session.logout()?;
            session.login_with_raw(UserType::User, &pin)
        }
        done => done,
    }
}

/// The slot of the token.
fn slot(context: &Pkcs11, config: &TokenConfig) -> Result<Slot, TokenError> {
    let label = |slot| Ok::<_, Error>(context.get_token_info(slot)?.label().trim_end().to_owned());
    match (config.slot, &config.token_label) {
        (Some(number), wanted) => {
            let (slot, name) = (Slot::try_from(number)?, || format!("in slot {number}"));
            let found = match label(slot) {
                Ok(found) => found,
                Err(Error::Pkcs11(RvError::SlotIdInvalid | RvError::TokenNotPresent, _)) => {
                    return Err(TokenError::NoToken(name()));
                }
                Err(other) => return Err(other.into()),
            };
            match wanted {
                Some(wanted) if *wanted != found => Err(TokenError::NoToken(format!("`{wanted}` {}", name()))),
                _ => Ok(slot),
            }
        }
        (None, wanted) => {
            let wanted = wanted.as_deref().unwrap_or_default();
            let mut found = Vec::new();
            for slot in context.get_slots_with_token()? {
                // One that is taken out meanwhile is none.
                if label(slot).is_ok_and(|label| label == wanted) {
                    found.push(slot);
                }
            }
            match found.as_slice() {
                [slot] => Ok(*slot),
                [] => Err(TokenError::NoToken(format!("`{wanted}`"))),
                _ => Err(TokenError::SeveralTokens(format!("`{wanted}`"))),
            }
        }
    }
}

/// A token with a session at it.
struct Token<'m> {
    context: &'m Pkcs11,
    session: &'m Session,
    slot: Slot,
    config: &'m TokenConfig,
}
