//! What the tests of all kinds of servers say. Deliberately absent: servers, of which each kind has its own.

use tresor_secret::SecretString;

use crate::target::{NewAccount, Proof};

/// A text as a secret.
pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

/// An account that is to be made, whose password is this.
pub(crate) fn account(username: &str, password: &str) -> NewAccount {
    NewAccount {
        username: username.to_owned(),
        proof: Proof::Password(secret(password)),
        told: None,
        expiration: "2100-01-01 00:00:00+0000".into(),
    }
}

/// Statements as a role has them.
pub(crate) fn statements(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
