//! What a key of a module made of a secret, as it is stored: which key, how, and what came out.

use tresor_record::Record;
use tresor_secret::Wiped;

use crate::keys::KeyName;
use crate::mechanism::Mechanism;

/// What was sealed, with all that opening it takes but the key.
#[derive(Record)]
#[record(kind = "pkcs11-sealed", version = 1)]
pub(crate) struct Envelope {
    /// The mechanism, by its name.
    pub(crate) mechanism: String,
    /// The key's label; empty where it has none.
    pub(crate) label: String,
    /// The key's id; empty where it has none.
    pub(crate) id: Wiped<Vec<u8>>,
    /// The label of the key that authenticated; empty where the mechanism does that.
    pub(crate) hmac_label: String,
    /// Its id.
    pub(crate) hmac_id: Wiped<Vec<u8>>,
    /// What the mechanism began with; empty where it needs nothing.
    pub(crate) nonce: Wiped<Vec<u8>>,
    /// What came out.
    pub(crate) ciphertext: Wiped<Vec<u8>>,
    /// What authenticates it, where the mechanism does not.
    pub(crate) code: Wiped<Vec<u8>>,
}

impl Envelope {
    pub(crate) fn mechanism(&self) -> Option<Mechanism> {
        Mechanism::parse_stored(&self.mechanism)
    }

    pub(crate) fn key(&self) -> KeyName {
        KeyName::of(&self.label, &self.id)
    }

    pub(crate) fn hmac_key(&self) -> KeyName {
        KeyName::of(&self.hmac_label, &self.hmac_id)
    }

    /// Which key did it and how.
    pub(crate) fn version(&self) -> String {
        let hmac = if self.hmac_label.is_empty() && self.hmac_id.is_empty() {
            String::new()
        } else {
            format!(" {}", self.hmac_key())
        };
        format!("{} {}{hmac}", self.mechanism, self.key())
    }

    /// What an HMAC is made of: everything but itself, and what it is bound to.
    pub(crate) fn authenticated(&self, bound_to: &[u8]) -> Vec<u8> {
        let parts =
            [self.mechanism.as_bytes(), self.label.as_bytes(), &self.id, &self.nonce, &self.ciphertext, bound_to];
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dos_02_whatever_is_stored_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(envelope.encode().to_vec(), bytes);
                let _ = (envelope.version(), envelope.mechanism());
            }
        }

        #[test]
        fn another_part_is_another_text_to_authenticate(
            one in proptest::collection::vec(any::<u8>(), 0..8), other in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let of = |nonce: &[u8], ciphertext: &[u8]| {
                let wiped = |bytes: &[u8]| Wiped::new(bytes.to_vec());
                Envelope {
                    mechanism: "m".to_owned(), label: "l".to_owned(), id: wiped(b""), hmac_label: String::new(),
                    hmac_id: wiped(b""), nonce: wiped(nonce), ciphertext: wiped(ciphertext), code: wiped(b""),
                }
                .authenticated(b"slot")
            };
            prop_assert_eq!(one == other, of(&one, &other) == of(&other, &one));
        }
    }
}
