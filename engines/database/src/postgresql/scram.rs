//! What a PostgreSQL server stores of a password, made here: so the server is never told the password itself, neither writes
//! it to its log, and spends no time on hashing it.
//!
//! RFC 5802 and 7677, in the form that `pg_authid.rolpassword` has. Deliberately absent: logging in, which is the driver's.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tresor_crypto::hash::{HmacKey, sha256};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

/// How often a password is hashed: what servers ask of themselves, unless `scram_iterations` says otherwise.
const ITERATIONS: u32 = 4096;

/// What makes the hash of one password at one place unlike that of the same password at another: 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Salt(pub(super) [u8; 16]);

impl Salt {
    /// The hash; it takes as long as it is meant to.
    pub(crate) fn hash(self, password: &SecretString) -> SecretString {
        SecretString::new(self.hashed(password.expose()))
    }

    fn hashed(self, password: &str) -> String {
        // As servers do: what cannot be prepared (RFC 4013) counts as it is.
        let prepared =
            Zeroizing::new(stringprep::saslprep(password).map_or_else(|_| password.to_owned(), Cow::into_owned));
        let salted = Zeroizing::new(stretched(prepared.as_bytes(), &self.0));
        let key = HmacKey::new(&*salted);
        let stored = sha256(&*Zeroizing::new(key.sign(b"Client Key")));
        let [salt, stored, server] =
            [&self.0[..], &stored, &key.sign(b"Server Key")].map(|bytes| STANDARD.encode(bytes));
        format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}")
    }
}

/// `Hi` of RFC 5802: the first block of PBKDF2 with HMAC-SHA256.
fn stretched(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let key = HmacKey::new(password);
    let mut last = Zeroizing::new(key.sign_parts(&[salt, &1_u32.to_be_bytes()]));
    let mut sum = *last;
    for _ in 1..ITERATIONS {
        *last = key.sign(&*last);
        sum.iter_mut().zip(last.iter()).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_published_exchange() {
        // RFC 7677, section 3: its `p` and `v` follow from these two keys.
        let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let expected = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(Salt(salt).hashed("pencil"), expected);
    }
}
