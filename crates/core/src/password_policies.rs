//! Password policies as they are stored: texts by name. Deliberately absent: what they mean.

use tresor_record::Record;

use crate::keys;
use crate::named::Named;

/// A policy.
#[derive(Record)]
#[record(kind = "password-policy", version = 1)]
pub struct PasswordPolicyRecord {
    /// Its text as it was sent.
    pub text: String,
}

/// The policies.
pub const POLICIES: Named<PasswordPolicyRecord> = Named::new(keys::password_policies);
