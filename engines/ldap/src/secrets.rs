//! What is done with passwords besides sending them: copied where two need one, compared, shown to whoever may see them.

use tresor_secret::{SecretString, ct_eq};

/// One more of it.
pub(crate) fn copy(secret: &SecretString) -> SecretString {
    SecretString::new(shown(secret))
}

/// Whether both are the same.
pub(crate) fn is_same(one: &SecretString, other: &SecretString) -> bool {
    ct_eq(one.expose().as_bytes(), other.expose().as_bytes())
}

/// As whoever may see it is shown it.
pub(crate) fn shown(secret: &SecretString) -> String {
    secret.expose().clone()
}
