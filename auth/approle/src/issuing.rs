//! Making secret ids.

use std::time::Duration;

use ipnet::IpNet;
use tresor_crypto::token_text::random_uuid;
use tresor_engine::answer::Handled;
use tresor_engine::token_fields::ranges;
use tresor_engine::{Cx, Data};
use tresor_model::ids::Accessor;
use tresor_model::{Body, Fault};
use tresor_secret::SecretString;
use tresor_wire::input::{Cidrs, Input, Seconds};
use tresor_wire::output::Output;

use crate::role::Role;
use crate::roles::uses;
use crate::secret_id::{SecretId, fresh_accessor, hash};
use crate::{AppRole, metadata, sweep};

/// More bytes has no secret id.
const SECRET_ID_BYTES_MAX: usize = 4096;

/// What a secret id is to be like.
#[derive(Input)]
pub(crate) struct Wishes {
    /// A JSON object of strings, for the tokens' metadata.
    metadata: Option<Body>,
    /// Addresses that it can be used from.
    cidr_list: Option<Cidrs>,
    /// Addresses that its tokens can be used from.
    token_bound_cidrs: Option<Cidrs>,
    /// How often it can be used; at most what the role says.
    num_uses: Option<i64>,
    /// How long it lives; at most what the role says.
    ttl: Option<Seconds>,
}

/// A secret id to make.
#[derive(Input)]
pub(crate) struct Generate {
    /// The role.
    #[input(path)]
    role_name: String,
    /// What it is to be like.
    #[input(flatten)]
    wishes: Wishes,
}

/// A secret id that the caller chose.
#[derive(Input)]
pub(crate) struct Register {
    /// The role.
    #[input(path)]
    role_name: String,
    /// The secret id.
    #[input(secret)]
    secret_id: Option<SecretString>,
    /// What it is to be like.
    #[input(flatten)]
    wishes: Wishes,
}

/// A secret id that was made.
#[derive(Output)]
pub(crate) struct Made {
    /// The secret id.
    #[output(secret)]
    secret_id: Body,
    /// Its handle, which nobody can log in with.
    secret_id_accessor: String,
    /// How often it can be used; 0 is no limit.
    secret_id_num_uses: u64,
    /// How long it lives; 0 is no limit.
    secret_id_ttl: Duration,
}

pub(crate) async fn generate(_method: &AppRole, mut cx: Cx<'_>, input: Generate) -> Result<Handled<Data<Made>>, Fault> {
    let secret_id = SecretString::new(random_uuid(cx.entropy));
    make(&mut cx, &input.role_name, &secret_id, input.wishes)
}

pub(crate) async fn register(_method: &AppRole, mut cx: Cx<'_>, input: Register) -> Result<Handled<Data<Made>>, Fault> {
    let secret_id = input.secret_id.filter(|secret_id| !secret_id.is_empty());
    let secret_id = secret_id.ok_or_else(|| Fault::invalid("missing secret_id"))?;
    make(&mut cx, &input.role_name, &secret_id, input.wishes)
}

fn make(
    cx: &mut Cx<'_>,
    role_name: &str,
    secret_id: &SecretString,
    wishes: Wishes,
) -> Result<Handled<Data<Made>>, Fault> {
    let role = Role::known(cx, role_name)?;
    if !role.binds_secret_id {
        return Err(Fault::invalid("bind_secret_id is not set on the role"));
    }
    let text = secret_id.expose().as_str();
    if text.len() > SECRET_ID_BYTES_MAX || text.trim() != text {
        return Err(Fault::invalid("secret_id has more than 4096 bytes, or blanks at its ends"));
    }
    let num_uses = match wishes.num_uses {
        None => role.secret_id_num_uses,
        Some(sent) => uses("num_uses", sent)?,
    };
    if role.secret_id_num_uses > 0 && (num_uses == 0 || num_uses > role.secret_id_num_uses) {
        return Err(Fault::invalid("num_uses cannot be higher than the role's secret_id_num_uses"));
    }
    let ttl = wishes.ttl.map_or(role.secret_id_ttl, |sent| sent.0);
    if !role.secret_id_ttl.is_zero() && (ttl.is_zero() || ttl > role.secret_id_ttl) {
        return Err(Fault::invalid("ttl cannot be longer than the role's secret_id_ttl"));
    }
    // Nothing that a mount hands out lives longer than the mount says.
    let ttl = ttl.min(cx.mount.max_lease_ttl);
    let spelled = |sent: &Option<Cidrs>| sent.iter().flat_map(|sent| &sent.0).map(ToString::to_string).collect();
    let known = SecretId {
        hash: hash(&role, secret_id),
        role: role.number.clone(),
        accessor: fresh_accessor(cx),
        num_uses,
        ttl,
        created: cx.now,
        ends: (!ttl.is_zero()).then(|| cx.now.plus(ttl)),
        updated: cx.now,
        metadata: metadata::read(wishes.metadata.as_ref())?,
        cidrs: spelled(&wishes.cidr_list),
        token_bound_cidrs: spelled(&wishes.token_bound_cidrs),
    };
    let within = "must lie within those of the role";
    if !lie_within(&known.login_ranges()?, &role.login_ranges()?) {
        return Err(Fault::invalid(format!("the address ranges in cidr_list {within}")));
    }
    if !lie_within(&ranges(&known.token_bound_cidrs)?, &ranges(role.token.named_ranges())?) {
        return Err(Fault::invalid(format!("the address ranges in token_bound_cidrs {within}")));
    }
    // Found by itself before it is made, whether it has ended or not: then what is left of it goes first.
    if let Some(older) = SecretId::stored(cx, &role, &known.hash)? {
        if older.is_alive(cx.now) {
            return Err(Fault::invalid("SecretID is already registered"));
        }
        older.remove(&mut cx.view)?;
    }
    known.add(cx)?;
    sweep::now_and_then(cx)?;
    let handle = Accessor::new(known.accessor.as_str());
    let made = Made {
        secret_id: Body::from(text),
        secret_id_accessor: known.accessor,
        secret_id_num_uses: num_uses,
        secret_id_ttl: ttl,
    };
    Ok(Handled(Data(made), handle))
}

/// Whether each range lies in one of the others, of which none allow everything.
pub(crate) fn lie_within(ranges: &[IpNet], allowed: &[IpNet]) -> bool {
    allowed.is_empty() || ranges.iter().all(|range| allowed.iter().any(|allowed| allowed.contains(range)))
}
