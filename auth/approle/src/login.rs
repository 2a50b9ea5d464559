//! Logging in: a claim for the core when role and secret id belong together, one refusal for everything else.

use std::net::IpAddr;

use ipnet::IpNet;
use tresor_engine::token_fields::ranges;
use tresor_engine::{Cx, Login};
use tresor_model::{Fault, Refusal};
use tresor_secret::SecretString;
use tresor_wire::input::Input;

use crate::AppRole;
use crate::issuing::lie_within;
use crate::role::Role;
use crate::secret_id::SecretId;

/// The one answer to every login with a secret id that does not succeed (PWD-11).
const REFUSED: &str = "invalid role or secret ID";

/// The id of a role as it is looked for; nothing is no id.
pub(crate) fn claimed(role_id: &str) -> Option<&str> {
    Some(role_id.trim()).filter(|role_id| !role_id.is_empty())
}

/// The id of a role, and a secret id.
#[derive(Input)]
pub(crate) struct Credentials {
    /// The id of the role.
    role_id: Option<String>,
    /// The secret id, where the role asks for one.
    #[input(secret)]
    secret_id: Option<SecretString>,
}

pub(crate) async fn login(_method: &AppRole, mut cx: Cx<'_>, input: Credentials) -> Result<Login, Fault> {
    let secret_id = input.secret_id.filter(|secret_id| !secret_id.expose().trim().is_empty());
    // Whoever sends no secret id is told so whether there is such a role or not.
    let is_sent = secret_id.is_some();
    let refused = || match is_sent {
        true => Fault::Refusal(Refusal::Unproven(REFUSED.into())),
        false => Fault::invalid("missing secret_id"),
    };
    let role_id = input.role_id.as_deref().and_then(claimed);
    let role_id = role_id.ok_or_else(|| Fault::invalid("missing role_id"))?;
    let (name, role) = Role::with_id(&mut cx, role_id)?.ok_or_else(refused)?;
    if !is_in(cx.caller.address, &role.login_ranges()?) {
        return Err(refused());
    }
    let mut terms = role.token.terms()?;
    let mut metadata = std::collections::BTreeMap::new();
    if role.binds_secret_id {
        let secret_id = secret_id.ok_or_else(refused)?;
        let known = find(&mut cx, &role, &secret_id)?.ok_or_else(refused)?;
        let allowed = known.login_ranges()?;
        // The role's ranges may have become narrower since it was made.
        if !lie_within(&allowed, &role.login_ranges()?) || !is_in(cx.caller.address, &allowed) {
            return Err(refused());
        }
        if !known.token_bound_cidrs.is_empty() {
            terms.bound_cidrs = ranges(&known.token_bound_cidrs)?;
        }
        metadata.clone_from(&known.metadata);
        use_up(&mut cx, known)?;
    }
    metadata.insert("role_name".to_owned(), name);
    Ok(Login {
        alias: role_id.to_owned(),
        display_name: String::new(),
        metadata,
        policies: role.token.policies.clone(),
        terms,
        kept: None,
        refusal: REFUSED,
    })
}

/// What a role knows of a secret id, which programs often send with a line's end.
fn find(cx: &mut Cx<'_>, role: &Role, sent: &SecretString) -> Result<Option<SecretId>, Fault> {
    SecretId::by_itself(cx, role, &SecretString::new(sent.expose().trim().to_owned()))
}

/// One use less, in the transaction that the token is made in: of logins that come together, no more succeed than it has
/// uses (PWD-13).
fn use_up(cx: &mut Cx<'_>, mut known: SecretId) -> Result<(), Fault> {
    match known.num_uses {
        0 => Ok(()),
        1 => known.remove(&mut cx.view),
        _ => {
            known.num_uses -= 1;
            known.updated = cx.now;
            known.store(cx)
        }
    }
}

fn is_in(address: IpAddr, ranges: &[IpNet]) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&address))
}
