//! A token as an answer shows it to whoever gets it.

use tresor_model::{Auth, Timestamp};
use tresor_secret::TokenSecret;

use super::FoundToken;

/// The `auth` block of an answer about a token.
#[must_use]
pub fn auth_block(token: Option<TokenSecret>, found: &FoundToken, now: Timestamp) -> Auth {
    let record = &found.record;
    Auth {
        client_token: token,
        accessor: record.accessor.clone(),
        policies: record.policies.clone(),
        token_policies: record.policies.clone(),
        identity_policies: Vec::new(),
        metadata: (!record.metadata.is_empty()).then(|| record.metadata.clone()),
        lease_duration: record.remaining(now).unwrap_or_default(),
        renewable: record.renewable,
        entity_id: String::new(),
        token_type: record.token_type(),
        orphan: record.ancestors.is_empty(),
        num_uses: found.uses_on_wire(),
    }
}
