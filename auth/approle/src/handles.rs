//! Looking at secret ids and ending them, by themselves or by their accessors.
//!
//! Invariant: what is found is found below the role that the path names, so no role's path reaches another's (PWD-09).

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_engine::answer::OrNothing;
use tresor_engine::{Cx, Data, Keys, Nothing};
use tresor_model::{Fault, Refusal};
use tresor_secret::SecretString;
use tresor_wire::input::{Input, Limit};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::AppRole;
use crate::role::Role;
use crate::secret_id::{SECRET_IDS, SecretId};

/// What is shown as the end of what has none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A page of the accessors of a role.
#[derive(Input)]
pub(crate) struct Page {
    /// The role.
    #[input(path)]
    role_name: String,
    /// List accessors after this one.
    #[input(query)]
    after: Option<String>,
    /// How many accessors to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A secret id of a role.
#[derive(Input)]
pub(crate) struct ByItself {
    /// The role.
    #[input(path)]
    role_name: String,
    /// The secret id.
    #[input(secret, query)]
    secret_id: Option<SecretString>,
}

/// A secret id of a role by its handle.
#[derive(Input)]
pub(crate) struct ByAccessor {
    /// The role.
    #[input(path)]
    role_name: String,
    /// The handle of the secret id.
    #[input(query)]
    secret_id_accessor: Option<String>,
}

/// What is shown of a secret id: never itself.
#[derive(Output)]
pub(crate) struct SecretIdShown {
    /// Its handle.
    secret_id_accessor: String,
    /// How often it can still be used; 0 is no limit.
    secret_id_num_uses: u64,
    /// How long it was to live; 0 is no limit.
    secret_id_ttl: Duration,
    /// When it was made.
    creation_time: String,
    /// When it ends.
    expiration_time: String,
    /// When it was used last, where its uses are counted.
    last_updated_time: String,
    /// What goes with it.
    metadata: BTreeMap<String, String>,
    /// Addresses that it can be used from.
    cidr_list: Vec<String>,
    /// Addresses that its tokens can be used from.
    token_bound_cidrs: Vec<String>,
}

impl SecretId {
    fn show(self) -> SecretIdShown {
        SecretIdShown {
            secret_id_accessor: self.accessor,
            secret_id_num_uses: self.num_uses,
            secret_id_ttl: self.ttl,
            creation_time: rfc3339(self.created),
            expiration_time: self.ends.map_or_else(|| NEVER.to_owned(), rfc3339),
            last_updated_time: rfc3339(self.updated),
            metadata: self.metadata,
            cidr_list: self.cidrs,
            token_bound_cidrs: self.token_bound_cidrs,
        }
    }
}

pub(crate) async fn list(_method: &AppRole, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    let role = Role::known(&mut cx, &input.role_name)?;
    let directory = format!("{SECRET_IDS}{}/", role.number);
    Ok(Keys(cx.view.names(&directory, input.after.as_deref(), input.limit.0)?))
}

fn find(cx: &mut Cx<'_>, input: &ByItself) -> Result<Option<SecretId>, Fault> {
    let secret_id = input.secret_id.as_ref().filter(|secret_id| !secret_id.is_empty());
    let secret_id = secret_id.ok_or_else(|| Fault::invalid("missing secret_id"))?;
    let role = Role::known(cx, &input.role_name)?;
    SecretId::by_itself(cx, &role, secret_id)
}

/// What is there, or an answer without a body, as clients expect it.
pub(crate) async fn look_up(
    _method: &AppRole,
    mut cx: Cx<'_>,
    input: ByItself,
) -> Result<OrNothing<Data<SecretIdShown>>, Fault> {
    Ok(OrNothing(find(&mut cx, &input)?.map(|known| Data(known.show()))))
}

pub(crate) async fn destroy(_method: &AppRole, mut cx: Cx<'_>, input: ByItself) -> Result<Nothing, Fault> {
    if let Some(known) = find(&mut cx, &input)? {
        known.remove(&mut cx.view)?;
    }
    Ok(Nothing)
}

fn find_by_accessor(cx: &mut Cx<'_>, input: &ByAccessor, refusal: Refusal) -> Result<SecretId, Fault> {
    let accessor = input.secret_id_accessor.as_deref().filter(|accessor| !accessor.is_empty());
    let accessor = accessor.ok_or_else(|| Fault::invalid("missing secret_id_accessor"))?;
    let role = Role::known(cx, &input.role_name)?;
    SecretId::by_accessor(cx, &role, accessor)?.ok_or_else(|| refusal.into())
}

pub(crate) async fn look_up_accessor(
    _method: &AppRole,
    mut cx: Cx<'_>,
    input: ByAccessor,
) -> Result<Data<SecretIdShown>, Fault> {
    let refusal = Refusal::Absent("failed to find accessor entry for secret_id_accessor".into());
    Ok(Data(find_by_accessor(&mut cx, &input, refusal)?.show()))
}

pub(crate) async fn destroy_accessor(_method: &AppRole, mut cx: Cx<'_>, input: ByAccessor) -> Result<Nothing, Fault> {
    find_by_accessor(&mut cx, &input, Refusal::Foreign("invalid secret id accessor".into()))?.remove(&mut cx.view)?;
    Ok(Nothing)
}
