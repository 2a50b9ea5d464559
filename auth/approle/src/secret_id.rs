//! A secret id as it is stored, and how it is found: by itself or by its accessor, below its role.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tresor_crypto::hash::{HmacKey, to_hex};
use tresor_crypto::token_text::random_uuid;
use tresor_engine::token_fields::ranges;
use tresor_engine::{Cx, Point, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretString;

use crate::role::Role;
use crate::sweep;

/// The directory of the secret ids, by number of their role and accessor.
pub(crate) const SECRET_IDS: &str = "secret-id/";

/// What is known of a secret id: everything but itself.
#[derive(Record)]
#[record(kind = "approle-secret-id", version = 1)]
pub(crate) struct SecretId {
    /// The number of its role.
    pub(crate) role: String,
    pub(crate) accessor: String,
    /// Its keyed hash, spelled.
    pub(crate) hash: String,
    /// How often it can still be used; 0 is no limit.
    pub(crate) num_uses: u64,
    /// How long it was to live; 0 is no limit.
    pub(crate) ttl: Duration,
    pub(crate) created: Timestamp,
    /// When it ends.
    pub(crate) ends: Option<Timestamp>,
    pub(crate) updated: Timestamp,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Where it may be used from.
    pub(crate) cidrs: Vec<String>,
    /// Where its tokens may be used from.
    pub(crate) token_bound_cidrs: Vec<String>,
}

/// Which accessor belongs to a secret id.
#[derive(Record)]
#[record(kind = "approle-accessor", version = 1)]
struct AccessorOf {
    accessor: String,
}

/// The keyed hash of a secret id of a role.
pub(crate) fn hash(role: &Role, secret_id: &SecretString) -> String {
    let key = HmacKey::new(role.hash_key.expose());
    to_hex(&key.sign(secret_id.expose().as_bytes()))
}

/// A new accessor: a UUID that begins with the time, so that what is made together lies together.
pub(crate) fn fresh_accessor(cx: &Cx<'_>) -> String {
    let random = random_uuid(cx.entropy);
    let millis = format!("{:012x}", cx.now.nanos().max(0) / 1_000_000);
    let (first, second) = millis.split_at_checked(8).unwrap_or_default();
    let rest = random.split_at_checked(15).map_or("", |(_, rest)| rest);
    format!("{first}-{second}-7{rest}")
}

impl SecretId {
    /// Loads by the name below the directory: the role's number and the accessor.
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(&format!("{SECRET_IDS}{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// What is alive of a role by its accessor.
    pub(crate) fn by_accessor(cx: &mut Cx<'_>, role: &Role, accessor: &str) -> Result<Option<Self>, Fault> {
        // An accessor that is none is no storage name.
        let is_accessor = accessor.len() == 36 && accessor.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !is_accessor {
            return Ok(None);
        }
        let known = Self::load(&mut cx.view, &format!("{}/{accessor}", role.number))?;
        Ok(known.filter(|known| known.is_alive(cx.now)))
    }

    /// What is alive of a role by the secret id itself.
    pub(crate) fn by_itself(cx: &mut Cx<'_>, role: &Role, secret_id: &SecretString) -> Result<Option<Self>, Fault> {
        let known = Self::stored(cx, role, &hash(role, secret_id))?;
        Ok(known.filter(|known| known.is_alive(cx.now)))
    }

    /// What is stored of a role by the hash of a secret id, alive or not.
    pub(crate) fn stored(cx: &mut Cx<'_>, role: &Role, hash: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = cx.view.read_point(&point(&role.number, hash))? else { return Ok(None) };
        let accessor = AccessorOf::decode(&bytes).map_err(Fault::internal)?.accessor;
        Self::load(&mut cx.view, &format!("{}/{accessor}", role.number))
    }

    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.ends.is_none_or(|ends| ends > now)
    }

    /// Where it is found by itself.
    pub(crate) fn point(&self) -> Point {
        point(&self.role, &self.hash)
    }

    fn name(&self) -> String {
        format!("{SECRET_IDS}{}/{}", self.role, self.accessor)
    }

    /// Stores one that was just made.
    pub(crate) fn add(&self, cx: &mut Cx<'_>) -> Result<(), Fault> {
        let accessor = AccessorOf { accessor: self.accessor.clone() };
        cx.view.write_point(&self.point(), &accessor.encode())?;
        sweep::enter(&mut cx.view, self)?;
        self.store(cx)
    }

    /// Stores what became of it.
    pub(crate) fn store(&self, cx: &mut Cx<'_>) -> Result<(), Fault> {
        cx.view.write(&self.name(), &self.encode())
    }

    /// Removes it from wherever it stands.
    pub(crate) fn remove(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.delete_point(&self.point())?;
        sweep::leave(view, self)?;
        view.delete(&self.name())
    }

    /// Where it may be used from; empty is everywhere.
    pub(crate) fn login_ranges(&self) -> Result<Vec<IpNet>, Fault> {
        ranges(&self.cidrs)
    }
}

fn point(role: &str, hash: &str) -> Point {
    Point { name: format!("hash/{role}/{hash}"), made: Timestamp::EPOCH }
}
