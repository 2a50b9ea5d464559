//! Changing the shares, their number, and how many open: by enough of those that open now.
//!
//! The new shares are handed out once, by this node to whoever entered the last of the old ones, encrypted to their owners
//! where keys were given. When verification is asked for they open nothing before enough of them came back. What becomes
//! active does so in one batch, with another root key. Of a node that opens by itself, the root key alone can be changed so, too.
//! Deliberately absent: a rekey of one node; the shares are those of the store.

use std::collections::BTreeMap;

use tresor_barrier::{CommitError, NewShares, SealFacts, Txn};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_pgp::Recipient;
use tresor_record::Record;
use tresor_secret::{SecretBytes, UnsealShare};

use super::{Ballot, Shareholders};
use crate::keys;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The shares that open the store; of a node that opens by itself, the root key.
    Root,
    /// The shares that open the store of a node that opens by itself when it cannot.
    Recovery,
}

/// What is wished for.
pub struct RekeyWish {
    /// How many shares there are to be; nothing where only the root key changes.
    pub threshold: Option<Threshold>,
    /// To whom each is encrypted; to nobody when there are none.
    pub recipients: Vec<Recipient>,
    /// Whether the encrypted shares are kept in the store as well.
    pub backup: bool,
    /// Whether the new ones must come back before they open.
    pub require_verification: bool,
}

impl RekeyWish {
    /// As many shares as that, and nothing else.
    const fn of(threshold: Option<Threshold>) -> Self {
        Self { threshold, recipients: Vec::new(), backup: false, require_verification: false }
    }

    fn fingerprints(&self) -> Vec<String> {
        self.recipients.iter().map(Recipient::fingerprint).collect()
    }
}

/// A running attempt.
pub(super) struct Rekey {
    wish: RekeyWish,
    ballot: Ballot,
    verification: Option<Verification>,
}

/// New shares that were handed out and open nothing yet.
struct Verification {
    new: NewShares,
    ballot: Ballot,
}

impl Rekey {
    pub(super) fn is_current(&self, term: u64, now: Timestamp) -> bool {
        self.ballot.is_current(term, now)
    }
}

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RekeyStanding {
    /// Its name; empty while there is none.
    pub nonce: String,
    /// Whether there is one.
    pub is_started: bool,
    /// How many shares are to open.
    pub threshold: u8,
    /// How many there are to be.
    pub shares: u8,
    /// How many old ones were entered.
    pub progress: u8,
    /// How many old ones are needed.
    pub required: u8,
    /// To whom the new ones will be encrypted.
    pub fingerprints: Option<Vec<String>>,
    /// Whether they will be kept.
    pub backup: bool,
    /// Whether they must come back.
    pub verification_required: bool,
    /// The name of the attempt to verify them.
    pub verification_nonce: Option<String>,
}

/// How far a verification is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationStanding {
    /// Its name; empty while there is none.
    pub nonce: String,
    /// Whether there is one.
    pub is_started: bool,
    /// How many new shares are to open.
    pub threshold: u8,
    /// How many there are.
    pub shares: u8,
    /// How many came back.
    pub progress: u8,
}

/// What is handed out once enough shares were entered.
pub struct NewKeys {
    /// The name of the attempt.
    pub nonce: String,
    /// The shares, each encrypted to its owner where there are keys; none where only the root key changed.
    pub shares: Vec<SecretBytes>,
    /// To whom they were encrypted.
    pub fingerprints: Option<Vec<String>>,
    /// Whether they are kept.
    pub backup: bool,
    /// The name of the attempt to verify them, when that must be done first.
    pub verification_nonce: Option<String>,
}

/// Encrypted shares that are kept.
#[derive(Record)]
#[record(kind = "rekey-backup", version = 1)]
pub struct Backup {
    /// The attempt that made them.
    pub nonce: String,
    /// In hexadecimal, by fingerprint.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// What a share led to.
pub enum Entered<T> {
    /// More are needed.
    NotEnough,
    /// There were enough.
    Enough(T),
}

/// What is said where no attempt is.
const NONE: &str = "no rotation in progress; one ends when it is cancelled, after a day, and when another node leads";

impl Shareholders {
    /// How far the attempt is.
    ///
    /// # Errors
    /// When the store fails, or this node does not lead.
    pub fn rekey_standing(&self, target: Target) -> Result<RekeyStanding, Fault> {
        self.check(target)?;
        let required = self.required()?;
        let rekeys = self.rekeys()?;
        let Some(rekey) = rekeys.get(&target) else {
            return Ok(RekeyStanding { required, ..RekeyStanding::default() });
        };
        let fingerprints = rekey.wish.fingerprints();
        let (shares, threshold) = numbers(rekey.wish.threshold);
        Ok(RekeyStanding {
            nonce: rekey.ballot.nonce.clone(),
            is_started: true,
            threshold,
            shares,
            progress: rekey.ballot.shares.progress(),
            required,
            fingerprints: (!fingerprints.is_empty()).then_some(fingerprints),
            backup: rekey.wish.backup,
            verification_required: rekey.wish.require_verification,
            verification_nonce: rekey.verification.as_ref().map(|verification| verification.ballot.nonce.clone()),
        })
    }

    /// Whether the change leads to other shares, rather than to another root key alone.
    ///
    /// # Errors
    /// A refusal when there is nothing of the kind to change.
    pub fn changes_shares(&self, target: Target) -> Result<bool, Fault> {
        self.check(target)?;
        Ok(target == Target::Recovery || !self.opens_by_itself())
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// A refusal when there is one already, when there are no shares that could be entered, or when the wish makes no sense.
    pub fn begin_rekey(&self, target: Target, wish: RekeyWish) -> Result<(), Fault> {
        self.check(target)?;
        self.must_have_shares()?;
        let rekey = self.wished(wish)?;
        let mut rekeys = self.rekeys()?;
        if rekeys.contains_key(&target) {
            return Err(Fault::invalid("rotation already in progress"));
        }
        let shares = numbers(rekey.wish.threshold).0;
        tracing::info!(nonce = rekey.ballot.nonce, shares, "a change of shares was begun");
        rekeys.insert(target, rekey);
        Ok(())
    }

    /// Makes the first shares of a store that was initialised without any: there are none to enter, so who asks must be known
    /// to be allowed to.
    ///
    /// # Errors
    /// A refusal when there are shares, or when the wish makes no sense.
    pub async fn first_shares(&self, wish: RekeyWish) -> Result<NewKeys, Fault> {
        let target = Target::Recovery;
        self.check(target)?;
        if self.required()? > 0 {
            return Err(Fault::invalid("there are shares already: their owners change them"));
        }
        let mut rekey = self.wished(wish)?;
        {
            // Of two who ask at once, one makes them; the other's would open nothing.
            let mut rekeys = self.rekeys()?;
            if rekeys.contains_key(&target) {
                return Err(Fault::invalid("rotation already in progress"));
            }
            let (wish, ballot) = (RekeyWish::of(rekey.wish.threshold), self.ballot()?);
            rekeys.insert(target, Rekey { wish, ballot, verification: None });
        }
        let made = self.make(target, &mut rekey).await;
        // What was made is answered, whoever leads by now.
        if let Ok(mut rekeys) = self.rekeys() {
            rekeys.remove(&target);
            if rekey.verification.is_some() {
                rekeys.insert(target, rekey);
            }
        }
        made
    }

    /// An attempt that nobody has taken part in.
    fn wished(&self, wish: RekeyWish) -> Result<Rekey, Fault> {
        if wish.backup && wish.recipients.is_empty() {
            let text = "cannot request a backup of the new keys without providing PGP keys for encryption";
            return Err(Fault::invalid(text));
        }
        let shares = usize::from(numbers(wish.threshold).0);
        if !wish.recipients.is_empty() && wish.recipients.len() != shares {
            return Err(Fault::invalid("incorrect number of PGP keys for rekey"));
        }
        Ok(Rekey { wish, ballot: self.ballot()?, verification: None })
    }

    /// Ends an attempt. Whoever is not known has to name it.
    ///
    /// # Errors
    /// A refusal when the name is wrong.
    pub fn cancel_rekey(&self, target: Target, nonce: Option<&str>) -> Result<(), Fault> {
        self.check(target)?;
        let mut rekeys = self.rekeys()?;
        if let (Some(rekey), Some(nonce)) = (rekeys.get(&target), nonce)
            && rekey.ballot.nonce != nonce
        {
            return Err(Fault::invalid("incorrect nonce supplied"));
        }
        rekeys.remove(&target);
        Ok(())
    }

    /// Enters one of the shares that open now; with the last one needed the new ones are made, and open unless they are to be
    /// verified.
    ///
    /// # Errors
    /// A refusal when there is no attempt, or when the share is none.
    pub async fn enter_rekey(
        &self,
        target: Target,
        nonce: &str,
        share: UnsealShare,
    ) -> Result<Entered<NewKeys>, Fault> {
        self.check(target)?;
        let facts = self.facts()?;
        let mut rekey = {
            let mut rekeys = self.rekeys()?;
            let rekey = rekeys.get_mut(&target).ok_or_else(|| Fault::invalid(NONE))?;
            if let Some(verification) = &rekey.verification {
                let nonce = &verification.ballot.nonce;
                return Err(Fault::invalid(format!(
                    "rotation already finished; verification must be performed; nonce for the verification operation is \
                     \"{nonce}\""
                )));
            }
            let Some(key) = rekey.ballot.take(nonce, share, &facts, &*self.means.entropy)? else {
                return Ok(Entered::NotEnough);
            };
            self.prove(&key)?;
            rekeys.remove(&target).ok_or_else(|| Fault::invalid(NONE))?
        };
        let made = self.make(target, &mut rekey).await;
        // What was not done may be tried again; what waits to be verified goes on.
        if made.is_err() || rekey.verification.is_some() {
            self.rekeys()?.entry(target).or_insert(rekey);
        }
        made.map(Entered::Enough)
    }

    /// How far the verification is.
    ///
    /// # Errors
    /// A refusal when there is no attempt.
    pub fn verification_standing(&self, target: Target) -> Result<VerificationStanding, Fault> {
        self.check(target)?;
        let rekeys = self.rekeys()?;
        let rekey = rekeys.get(&target).ok_or_else(|| Fault::invalid("no rekey configuration found"))?;
        let (shares, threshold) = numbers(rekey.wish.threshold);
        let ballot = rekey.verification.as_ref().map(|verification| &verification.ballot);
        Ok(VerificationStanding {
            nonce: ballot.map_or_else(String::new, |ballot| ballot.nonce.clone()),
            is_started: ballot.is_some(),
            threshold,
            shares,
            progress: ballot.map_or(0, |ballot| ballot.shares.progress()),
        })
    }

    /// Begins the verification anew, under another name.
    ///
    /// # Errors
    /// A refusal when there is none.
    pub fn restart_verification(&self, target: Target) -> Result<(), Fault> {
        self.check(target)?;
        let ballot = self.ballot()?;
        let mut rekeys = self.rekeys()?;
        let verification = rekeys.get_mut(&target).and_then(|rekey| rekey.verification.as_mut());
        verification.ok_or_else(|| Fault::invalid("no rotation verification in progress"))?.ballot = ballot;
        Ok(())
    }

    /// Enters one of the new shares; with the last one needed they open, and the old ones do not. Answers the name of the
    /// verification then.
    ///
    /// # Errors
    /// A refusal when there is no verification, or when what came back is not what was handed out.
    pub async fn enter_verification(
        &self,
        target: Target,
        nonce: &str,
        share: UnsealShare,
    ) -> Result<Entered<String>, Fault> {
        self.check(target)?;
        let fresh = self.ballot()?;
        let rekey = {
            let mut rekeys = self.rekeys()?;
            let rekey = rekeys.get_mut(&target).ok_or_else(|| Fault::invalid(NONE))?;
            let (shares, threshold) = numbers(rekey.wish.threshold);
            let facts = SealFacts { initialized: true, shares, threshold, without_people: Vec::new() };
            let verification = rekey.verification.as_mut();
            let verification = verification.ok_or_else(|| Fault::invalid("no rotation verification in progress"))?;
            let taken = verification.ballot.take(nonce, share, &facts, &*self.means.entropy);
            let Some(key) = taken? else { return Ok(Entered::NotEnough) };
            if !verification.new.are_of(&key) {
                verification.ballot = fresh;
                return Err(Fault::invalid("rotation verification failed; incorrect key shares supplied"));
            }
            rekeys.remove(&target).ok_or_else(|| Fault::invalid(NONE))?
        };
        let Some(verification) = &rekey.verification else { return Err(Fault::internal("nothing to verify")) };
        let done = self.let_open(&verification.new).await;
        if let Err(fault) = done {
            self.rekeys()?.entry(target).or_insert(rekey);
            return Err(fault);
        }
        Ok(Entered::Enough(nonce.to_owned()))
    }

    /// The encrypted shares that are kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn backup(&self, target: Target) -> Result<Option<Backup>, Fault> {
        let mut txn = self.means.barrier.begin().map_err(Fault::internal)?;
        let stored =
            txn.read(&keys::rekey_backup(&self.whose, target).map_err(Fault::internal)?).map_err(Fault::internal)?;
        stored.map(|bytes| Backup::decode(&bytes).map_err(Fault::internal)).transpose()
    }

    /// Forgets them.
    ///
    /// # Errors
    /// When the transaction takes no more.
    pub fn forget_backup(&self, txn: &mut Txn, target: Target) -> Result<(), Fault> {
        self.check(target)?;
        txn.delete(&keys::rekey_backup(&self.whose, target).map_err(Fault::internal)?).map_err(Fault::internal)
    }

    /// Another root key, for everybody who opens it now; no share changes.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn rotate_root(&self) -> Result<(), Fault> {
        self.store(None).await?;
        tracing::info!(namespace = %self.whose, "the root key was changed");
        Ok(())
    }

    fn check(&self, target: Target) -> Result<(), Fault> {
        if target == Target::Recovery && !self.opens_by_itself() {
            return Err(Fault::invalid("recovery keys not supported"));
        }
        Ok(())
    }

    async fn make(&self, target: Target, rekey: &mut Rekey) -> Result<NewKeys, Fault> {
        let nonce = rekey.ballot.nonce.clone();
        let Some(threshold) = rekey.wish.threshold else {
            self.rotate_root().await?;
            self.forget();
            return Ok(NewKeys {
                nonce,
                shares: Vec::new(),
                fingerprints: None,
                backup: false,
                verification_nonce: None,
            });
        };
        self.means.settings.stir().await?;
        let (new, shares) = self.means.barrier.new_shares(threshold);
        let handed_out = conceal(shares, &rekey.wish.recipients, &*self.means.entropy)?;
        let fingerprints = rekey.wish.fingerprints();
        if rekey.wish.backup {
            self.keep(target, &nonce, &fingerprints, &handed_out).await?;
        }
        let mut verification_nonce = None;
        if rekey.wish.require_verification {
            let ballot = self.ballot()?;
            verification_nonce = Some(ballot.nonce.clone());
            rekey.verification = Some(Verification { new, ballot });
        } else {
            self.let_open(&new).await?;
        }
        Ok(NewKeys {
            nonce,
            shares: handed_out,
            fingerprints: (!fingerprints.is_empty()).then_some(fingerprints),
            backup: rekey.wish.backup,
            verification_nonce,
        })
    }

    /// From now on the new shares open. Every other attempt was begun for the old ones.
    async fn let_open(&self, new: &NewShares) -> Result<(), Fault> {
        self.store(Some(new)).await?;
        self.forget();
        let (shares, threshold) = (new.threshold().shares(), new.threshold().threshold());
        tracing::info!(namespace = %self.whose, shares, threshold, "other shares open what is sealed");
        Ok(())
    }

    async fn keep(
        &self,
        target: Target,
        nonce: &str,
        fingerprints: &[String],
        shares: &[SecretBytes],
    ) -> Result<(), Fault> {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (fingerprint, share) in fingerprints.iter().zip(shares) {
            keys.entry(fingerprint.clone()).or_default().push(hex::encode(share.expose()));
        }
        let mut txn = self.means.barrier.begin().map_err(Fault::internal)?;
        let at = keys::rekey_backup(&self.whose, target).map_err(Fault::internal)?;
        txn.write(&at, &Backup { nonce: nonce.to_owned(), keys }.encode()).map_err(Fault::internal)?;
        match self.means.barrier.commit(txn).await {
            Ok(_) => Ok(()),
            Err(CommitError::Stopped) => Err(tresor_model::Refusal::Sealed.into()),
            Err(error) => Err(Fault::internal(error)),
        }
    }
}

fn numbers(threshold: Option<Threshold>) -> (u8, u8) {
    // What is stored by a key that lies with the machine counts as one share.
    threshold.map_or((1, 1), |threshold| (threshold.shares(), threshold.threshold()))
}

/// Shares as they leave the server: as they are, or each encrypted to its owner, in hexadecimal as people enter them.
///
/// # Errors
/// When encrypting fails.
pub(crate) fn conceal(
    shares: Vec<UnsealShare>,
    recipients: &[Recipient],
    entropy: &dyn tresor_env::Entropy,
) -> Result<Vec<SecretBytes>, Fault> {
    if recipients.is_empty() {
        return Ok(shares.into_iter().map(|share| SecretBytes::new(share.expose().to_vec())).collect());
    }
    let encrypt = |(share, recipient): (&UnsealShare, &Recipient)| {
        let text = zeroize::Zeroizing::new(hex::encode(share.expose()));
        recipient.encrypt(text.as_bytes(), entropy).map(SecretBytes::new).map_err(Fault::internal)
    };
    shares.iter().zip(recipients).map(encrypt).collect()
}
