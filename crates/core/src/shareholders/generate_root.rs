//! A root token for those who hold enough shares: when nobody has one any more, or nobody should have kept one.
//!
//! Those who hold the shares of a namespace's own seal make one of that namespace: it may do everything there and below, and is
//! no token anywhere else. It leaves the server combined with a one-time password that whoever asked for it has, or encrypted
//! to a key. Deliberately absent: the tokens of a server in recovery mode (`recovery.rs`), and of disaster recovery.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tresor_barrier::CommitError;
use tresor_crypto::token_text::random_base62;
use tresor_engine::view;
use tresor_env::{Entropy, Timestamp};
use tresor_model::{Fault, Refusal};
use tresor_pgp::Recipient;
use tresor_secret::{SecretString, TokenSecret, UnsealShare};
use zeroize::Zeroizing;

use super::rekey::Entered;
use super::{Ballot, Shareholders};
use crate::keys;
use crate::namespaces::ids;
use crate::tokens::NewToken;

/// What a token begins with, and what follows.
const PREFIX: &str = "hvs.";
pub(super) const RANDOM_CHARACTERS: usize = 24;
/// How long a one-time password is: as long as the token, where that does not name a namespace.
pub const OTP_CHARACTERS: usize = PREFIX.len() + RANDOM_CHARACTERS;

/// How the token is kept from everybody but whoever asked for it.
pub enum Concealment {
    /// Combined with a password, byte by byte.
    OneTimePassword(SecretString),
    /// Encrypted to a key.
    Recipient(Box<Recipient>),
}

impl Concealment {
    /// Refuses a password that is not as long as the token.
    pub(super) fn check(&self, characters: usize) -> Result<(), Fault> {
        match self {
            Self::OneTimePassword(password) if password.expose().len() != characters => {
                Err(Fault::invalid("OTP string has incorrect length"))
            }
            _ => Ok(()),
        }
    }

    /// A token as it leaves the server.
    pub(super) fn conceal(&self, token: &str, entropy: &dyn Entropy) -> Result<SecretString, Fault> {
        Ok(SecretString::new(match self {
            Self::OneTimePassword(password) => {
                let pad = password.expose().bytes();
                let bytes: Zeroizing<Vec<u8>> =
                    Zeroizing::new(token.bytes().zip(pad).map(|(byte, pad)| byte ^ pad).collect());
                STANDARD_NO_PAD.encode(&*bytes)
            }
            Self::Recipient(recipient) => {
                STANDARD.encode(recipient.encrypt(token.as_bytes(), entropy).map_err(Fault::internal)?)
            }
        }))
    }

    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::OneTimePassword(_) => String::new(),
            Self::Recipient(recipient) => recipient.fingerprint(),
        }
    }
}

/// A running attempt.
pub(super) struct Generation {
    ballot: Ballot,
    concealment: Concealment,
}

impl Generation {
    pub(super) fn is_current(&self, term: u64, now: Timestamp) -> bool {
        self.ballot.is_current(term, now)
    }
}

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationStanding {
    /// Its name; empty while there is none.
    pub nonce: String,
    /// Whether there is one.
    pub is_started: bool,
    /// How many shares were entered.
    pub progress: u8,
    /// How many are needed.
    pub required: u8,
    /// To whom the token will be encrypted; empty when it is combined with a password.
    pub fingerprint: String,
}

const NONE: &str =
    "no root generation in progress; one ends when it is cancelled, after a day, and when another node leads";

impl Shareholders {
    /// How long a one-time password is: as long as the token, which ends in what names its namespace.
    #[must_use]
    pub fn otp_characters(&self) -> usize {
        OTP_CHARACTERS + ids::within(&self.whose, String::new()).len()
    }

    /// A fresh one-time password.
    #[must_use]
    pub fn one_time_password(&self) -> SecretString {
        SecretString::new(random_base62(self.otp_characters(), &*self.means.entropy).to_string())
    }

    /// How far the attempt is.
    ///
    /// # Errors
    /// When the store fails, or this node does not lead.
    pub fn generation_standing(&self) -> Result<GenerationStanding, Fault> {
        let required = self.required()?;
        let generation = self.generation()?;
        let Some(generation) = &*generation else {
            return Ok(GenerationStanding { required, ..GenerationStanding::default() });
        };
        Ok(GenerationStanding {
            nonce: generation.ballot.nonce.clone(),
            is_started: true,
            progress: generation.ballot.shares.progress(),
            required,
            fingerprint: generation.concealment.fingerprint(),
        })
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// A refusal when there is one already, or when the password cannot be as long as the token.
    pub fn begin_generation(&self, concealment: Concealment) -> Result<(), Fault> {
        concealment.check(self.otp_characters())?;
        self.must_have_shares()?;
        let ballot = self.ballot()?;
        let mut generation = self.generation()?;
        if generation.is_some() {
            return Err(Fault::invalid("root generation already in progress"));
        }
        tracing::info!(nonce = ballot.nonce, namespace = %self.whose, "a root token by shares was begun");
        *generation = Some(Generation { ballot, concealment });
        Ok(())
    }

    /// Ends an attempt. Whoever is not known has to name it.
    ///
    /// # Errors
    /// A refusal when the name is wrong.
    pub fn cancel_generation(&self, nonce: Option<&str>) -> Result<(), Fault> {
        let mut running = self.generation()?;
        if let (Some(generation), Some(nonce)) = (&*running, nonce)
            && generation.ballot.nonce != nonce
        {
            return Err(Fault::invalid("incorrect nonce supplied"));
        }
        *running = None;
        Ok(())
    }

    /// Enters a share; with the last one needed the token is made, and answered as it leaves the server, with the fingerprint of
    /// whom it was encrypted to.
    ///
    /// # Errors
    /// A refusal when there is no attempt, or when the share is none.
    pub async fn enter_generation(
        &self,
        nonce: &str,
        share: UnsealShare,
    ) -> Result<Entered<(SecretString, String)>, Fault> {
        let facts = self.facts()?;
        let generation = {
            let mut running = self.generation()?;
            let generation = running.as_mut().ok_or_else(|| Fault::invalid(NONE))?;
            let Some(key) = generation.ballot.take(nonce, share, &facts, &*self.means.entropy)? else {
                return Ok(Entered::NotEnough);
            };
            self.prove(&key)?;
            running.take().ok_or_else(|| Fault::invalid(NONE))?
        };
        if let Err(fault) = self.means.settings.stir().await {
            // What was not done may be tried again.
            self.generation()?.get_or_insert(generation);
            return Err(fault);
        }
        let random = random_base62(RANDOM_CHARACTERS, &*self.means.entropy);
        let end = ids::within(&self.whose, String::new());
        let text = Zeroizing::new(format!("{PREFIX}{}{end}", random.as_str()));
        let concealed = generation.concealment.conceal(&text, &*self.means.entropy)?;
        self.mint(TokenSecret::parse(&text).map_err(Fault::internal)?).await?;
        tracing::info!(nonce, namespace = %self.whose, "a root token was made by shares");
        Ok(Entered::Enough((concealed, generation.concealment.fingerprint())))
    }

    async fn mint(&self, id: TokenSecret) -> Result<(), Fault> {
        let home = &self.whose;
        let table = self.means.spaces.of(home)?.mounts.table();
        let mount = table.at("auth/token/").ok_or_else(|| Fault::internal("there is no token store"))?;
        let mut txn = self.means.barrier.begin().map_err(view::fault)?;
        // A namespace that is deleted meanwhile gets none: nobody would take it away any more.
        let relied_on = keys::mount(home, &mount.record.id).map_err(Fault::internal)?;
        if !txn.contains(&relied_on).map_err(view::fault)? {
            return Err(Refusal::Absent("namespace not found".into()).into());
        }
        let new = NewToken {
            id: Some(id),
            namespace: home.clone(),
            parent: None,
            policies: vec!["root".to_owned()],
            metadata: BTreeMap::new(),
            // As the reference tells those of a namespace from the server's own in a record.
            display_name: if home.is_root() { "root".to_owned() } else { format!("{home}_root") },
            path: "auth/token/root".to_owned(),
            mount: mount.record.id.clone(),
            ttl: None,
            renewal_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            explicit_max_ttl: Duration::ZERO,
            period: Duration::ZERO,
            num_uses: 0,
            renewable: false,
            bound_cidrs: Vec::new(),
            kept: None,
        };
        self.means.tokens.mint(&mut txn, new, self.means.clock.now(), &*self.means.entropy)?;
        match self.means.barrier.commit(txn).await {
            Ok(_) => Ok(()),
            Err(CommitError::Stopped) => Err(Refusal::Sealed.into()),
            Err(CommitError::Conflict) => {
                Err(Refusal::Unavailable("the token store was changed meanwhile: begin again".into()).into())
            }
            Err(error) => Err(Fault::internal(error)),
        }
    }
}
