//! Entering shares one by one: a state machine without any input or output of its own.
//!
//! Shares arrive from different people, hosts and terminals; the machine counts, recognises a share that is entered
//! twice, and combines when there are enough. Whether the result is right, only opening something with it can tell:
//! the owner of this machine resets it either way. Deliberately absent: what the key opens.

use tresor_crypto::shamir::{CombineError, combine};
use tresor_crypto::token_text::random_uuid;
use tresor_env::Entropy;
use tresor_secret::{DataKey, UnsealShare, ct_eq};

use crate::seal::SealFacts;

/// Bytes of the key that shares are of.
const KEY_BYTES: usize = 32;

/// A combined key, not yet known to be right.
pub struct UnsealKey(pub(crate) DataKey);

/// How far one is.
pub enum Progress {
    /// More shares are needed.
    Collecting {
        /// Distinct shares so far.
        progress: u8,
        /// Names the attempt.
        nonce: String,
    },
    /// There were enough.
    Complete(UnsealKey),
}

/// Why a share, or all of them, make no key; the texts are for whoever entered them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// There are no shares that could open.
    #[error(
        "there are no shares: the store was initialised without any, and `sys/rotate/recovery/init` makes the first ones"
    )]
    NoShares,
    /// Not as long as a share of this seal.
    #[error("invalid key: the share has the wrong length")]
    WrongLength,
    /// The shares do not go together.
    #[error("unseal failed, invalid key: {0}")]
    Uncombinable(CombineError),
}

/// The shares entered so far.
#[derive(Default)]
pub struct ShareCollector {
    shares: Vec<UnsealShare>,
    nonce: String,
}

impl ShareCollector {
    /// Takes one share.
    ///
    /// # Errors
    /// [`ShareError`]; after a wrong length the others are kept, after a failed combination none is.
    pub fn submit(
        &mut self,
        share: UnsealShare,
        facts: &SealFacts,
        entropy: &dyn Entropy,
    ) -> Result<Progress, ShareError> {
        if facts.threshold == 0 {
            return Err(ShareError::NoShares);
        }
        let expected = if facts.shares == 1 { KEY_BYTES } else { KEY_BYTES + 1 };
        if share.expose().len() != expected {
            return Err(ShareError::WrongLength);
        }
        if !self.knows(&share) {
            self.shares.push(share);
        }
        if self.nonce.is_empty() {
            self.nonce = random_uuid(entropy);
        }
        if self.shares.len() < usize::from(facts.threshold) {
            return Ok(Progress::Collecting { progress: self.progress(), nonce: self.nonce.clone() });
        }
        let combined = combine(&self.shares);
        self.reset();
        let key = combined.map_err(ShareError::Uncombinable)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(key.expose().as_slice()).map_err(|_| ShareError::WrongLength)?;
        Ok(Progress::Complete(UnsealKey(DataKey::new(bytes))))
    }

    /// How many distinct shares wait for others.
    #[must_use]
    pub fn progress(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Whether this share is among them; it takes as long whichever it is (TIM-03).
    #[must_use]
    pub fn knows(&self, share: &UnsealShare) -> bool {
        self.shares.iter().fold(false, |found, known| found | ct_eq(known.expose(), share.expose()))
    }

    /// Whether no share is waiting for others.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Forgets every share.
    pub fn reset(&mut self) {
        self.shares.clear();
        self.nonce.clear();
    }
}
