//! A role as it is stored, and the index of roles by the id that programs log in with.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tresor_crypto::hash::{sha256, to_hex};
use tresor_crypto::token_text::random_uuid;
use tresor_engine::token_fields::{TokenSettings, ranges};
use tresor_engine::{Cx, Point, View};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretBytes;

/// The directory of the roles.
pub(crate) const ROLES: &str = "role/";
/// More bytes have neither names nor ids.
const TEXT_BYTES_MAX: usize = 4096;

/// A role.
#[derive(Record)]
#[record(kind = "approle-role", version = 1)]
pub(crate) struct Role {
    /// What programs log in with.
    pub(crate) role_id: String,
    /// What its secret ids lie under: new for each role, whatever its name.
    pub(crate) number: String,
    /// What its secret ids are hashed with.
    pub(crate) hash_key: SecretBytes,
    pub(crate) token: TokenSettings,
    /// Whether a secret id is asked for.
    pub(crate) binds_secret_id: bool,
    /// Where logins may come from.
    pub(crate) secret_id_bound_cidrs: Vec<String>,
    /// How often a secret id can be used; 0 is no limit.
    pub(crate) secret_id_num_uses: u64,
    /// How long a secret id lives; 0 is no limit.
    pub(crate) secret_id_ttl: Duration,
    pub(crate) has_local_secret_ids: bool,
    /// Which settings were written by their older names; they are shown by those too.
    pub(crate) older_names: BTreeSet<String>,
}

/// Which role has an id.
#[derive(Record)]
#[record(kind = "approle-role-id", version = 1)]
struct RoleOfId {
    name: String,
}

/// Where the role of an id is found.
fn point_of_id(role_id: &str) -> Point {
    Point { name: format!("role-id/{}", to_hex(&sha256(role_id.as_bytes()))), made: Timestamp::EPOCH }
}

impl Role {
    /// A role that was just thought of.
    pub(crate) fn fresh(cx: &Cx<'_>) -> Self {
        let mut hash_key = vec![0; 32];
        cx.entropy.fill(&mut hash_key);
        Self {
            role_id: random_uuid(cx.entropy),
            number: random_uuid(cx.entropy),
            hash_key: SecretBytes::new(hash_key),
            token: TokenSettings::default(),
            binds_secret_id: true,
            secret_id_bound_cidrs: Vec::new(),
            secret_id_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            has_local_secret_ids: false,
            older_names: BTreeSet::new(),
        }
    }

    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(&format!("{ROLES}{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// The role that a request names, or `None` for a name that no role can have.
    pub(crate) fn named(cx: &mut Cx<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if is_name(name) { Self::load(&mut cx.view, name) } else { Ok(None) }
    }

    /// The role whose part a request changes.
    pub(crate) fn known(cx: &mut Cx<'_>, name: &str) -> Result<Self, Fault> {
        Self::named(cx, name)?.ok_or_else(|| Refusal::Absent(format!("role {name:?} does not exist").into()).into())
    }

    /// The name of the role that has an id.
    pub(crate) fn name_of(view: &mut View<'_>, role_id: &str) -> Result<Option<String>, Fault> {
        let Some(bytes) = view.read_point(&point_of_id(role_id))? else { return Ok(None) };
        RoleOfId::decode(&bytes).map(|record| Some(record.name)).map_err(Fault::internal)
    }

    /// The role that has an id, with its name.
    pub(crate) fn with_id(cx: &mut Cx<'_>, role_id: &str) -> Result<Option<(String, Self)>, Fault> {
        let Some(name) = Self::name_of(&mut cx.view, role_id)? else { return Ok(None) };
        Ok(Self::load(&mut cx.view, &name)?.map(|role| (name, role)))
    }

    /// Stores a role, under its id too.
    pub(crate) fn store(&self, cx: &mut Cx<'_>, name: &str, previous_id: Option<&str>) -> Result<(), Fault> {
        let is_bound =
            self.binds_secret_id || !self.secret_id_bound_cidrs.is_empty() || !self.token.named_ranges().is_empty();
        if !is_bound {
            return Err(Fault::invalid("at least one constraint should be enabled on the role"));
        }
        if previous_id != Some(self.role_id.as_str()) {
            if self.role_id.is_empty() || self.role_id.len() > TEXT_BYTES_MAX {
                return Err(Fault::invalid("role_id must have 1 to 4096 bytes"));
            }
            if cx.view.read_point(&point_of_id(&self.role_id))?.is_some() {
                return Err(Fault::invalid("role_id already in use"));
            }
            if let Some(previous) = previous_id {
                cx.view.delete_point(&point_of_id(previous))?;
            }
            cx.view.write_point(&self.id_point(), &RoleOfId { name: name.to_owned() }.encode())?;
        }
        cx.view.write(&format!("{ROLES}{name}"), &self.encode())
    }

    pub(crate) fn delete(&self, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
        cx.view.delete_point(&self.id_point())?;
        cx.view.delete(&format!("{ROLES}{name}"))
    }

    /// Where the role is found by its id.
    pub(crate) fn id_point(&self) -> Point {
        point_of_id(&self.role_id)
    }

    /// Where logins may come from; empty is everywhere.
    pub(crate) fn login_ranges(&self) -> Result<Vec<IpNet>, Fault> {
        ranges(&self.secret_id_bound_cidrs)
    }
}

/// Whether a role can be called so.
fn is_name(name: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.len() <= TEXT_BYTES_MAX
        && name.chars().all(|letter| is_word(letter) || letter == '-' || letter == '.')
}

/// A name that a role can have, or a refusal.
pub(crate) fn checked_name(name: &str) -> Result<&str, Fault> {
    if is_name(name) { Ok(name) } else { Err(Fault::invalid("invalid role name")) }
}
