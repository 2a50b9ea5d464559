//! What is stored: the mount's configuration, one metadata record per path, and one point per version's data, which
//! nobody lists and which lies beside what was written at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tresor_engine::{Happened, Point, View};
use tresor_model::{Fault, Map, Timestamp};
use tresor_record::{Part, Record};

/// How many versions are kept where nobody says.
const MAX_VERSIONS: u64 = 10;

/// The defaults of a mount.
#[derive(Record, Clone, Default)]
#[record(kind = "kv2-config", version = 2, previous = ConfigV1)]
pub(super) struct Config {
    pub(super) max_versions: u64,
    pub(super) cas_required: bool,
    /// Zero says nothing.
    pub(super) delete_version_after: Duration,
    /// No version is deleted by itself, whatever a path says.
    pub(super) never_deletes: bool,
    /// Every change of metadata must say which it follows.
    pub(super) metadata_cas_required: bool,
}

/// The defaults before changes of metadata could be checked.
#[derive(Record)]
#[record(kind = "kv2-config", version = 1)]
struct ConfigV1 {
    max_versions: u64,
    cas_required: bool,
    delete_version_after: Duration,
    never_deletes: bool,
}

impl From<ConfigV1> for Config {
    fn from(older: ConfigV1) -> Self {
        let ConfigV1 { max_versions, cas_required, delete_version_after, never_deletes } = older;
        Self { max_versions, cas_required, delete_version_after, never_deletes, metadata_cas_required: false }
    }
}

impl Config {
    /// How long a version lives that is written to a path; `None` is for ever. The shorter of the two lives holds.
    pub(super) fn life(&self, of_path: Option<Duration>) -> Option<Duration> {
        let lives = [Some(self.delete_version_after), of_path].into_iter().flatten();
        lives.filter(|life| !life.is_zero() && !self.never_deletes).min()
    }

    /// How many versions of a path are kept: the larger number holds.
    fn kept(&self, of_path: u64) -> u64 {
        match self.max_versions.max(of_path) {
            0 => MAX_VERSIONS,
            number => number,
        }
    }
}

/// What is known of a path.
#[derive(Record, Clone)]
#[record(kind = "kv2-metadata", version = 3, previous = MetadataV2)]
pub(super) struct Metadata {
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) current_version: u64,
    pub(super) oldest_version: u64,
    pub(super) max_versions: u64,
    pub(super) cas_required: bool,
    /// `None` takes the mount's.
    pub(super) delete_version_after: Option<Duration>,
    pub(super) custom_metadata: BTreeMap<String, String>,
    pub(super) versions: BTreeMap<u64, Version>,
    /// Every change of this must say which it follows.
    pub(super) metadata_cas_required: bool,
    /// How often this was written: 0 while only the data was.
    pub(super) metadata_version: u64,
}

/// What was known of a path before changes of that could be checked. Version 1 had its data elsewhere, and is refused.
#[derive(Record)]
#[record(kind = "kv2-metadata", version = 2)]
struct MetadataV2 {
    created: Timestamp,
    updated: Timestamp,
    current_version: u64,
    oldest_version: u64,
    max_versions: u64,
    cas_required: bool,
    delete_version_after: Option<Duration>,
    custom_metadata: BTreeMap<String, String>,
    versions: BTreeMap<u64, Version>,
}

impl From<MetadataV2> for Metadata {
    fn from(older: MetadataV2) -> Self {
        Self {
            created: older.created,
            updated: older.updated,
            current_version: older.current_version,
            oldest_version: older.oldest_version,
            max_versions: older.max_versions,
            cas_required: older.cas_required,
            delete_version_after: older.delete_version_after,
            custom_metadata: older.custom_metadata,
            versions: older.versions,
            metadata_cas_required: false,
            metadata_version: 0,
        }
    }
}

/// What is known of a version.
#[derive(Part, Clone, Copy)]
pub(super) struct Version {
    pub(super) created: Timestamp,
    /// When it was or will be deleted.
    pub(super) deleted: Option<Timestamp>,
    pub(super) destroyed: bool,
    /// Whether somebody deleted it: then it is gone, even for a node whose clock is behind the one that deleted it.
    pub(super) is_deleted: bool,
}

/// The data of a version.
#[derive(Record)]
#[record(kind = "kv2-version", version = 1)]
pub(super) struct Contents {
    pub(super) data: Map,
}

/// Whether a path can hold a secret.
pub(super) fn is_name(path: &str) -> bool {
    !path.is_empty() && !path.ends_with('/')
}

fn checked(path: &str) -> Result<&str, Fault> {
    if is_name(path) { Ok(path) } else { Err(Fault::invalid("cannot write to a path ending in '/'")) }
}

/// Where the data of a version lies.
fn contents(path: &str, number: u64, version: &Version) -> Point {
    Point { name: format!("versions/{path}/{number}"), made: version.created }
}

/// The points that hang on a record: the data of each version of a path.
pub(super) fn points(view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault> {
    let Some(path) = record.strip_prefix("metadata/") else { return Ok(Vec::new()) };
    let Some(metadata) = Metadata::load(view, path)? else { return Ok(Vec::new()) };
    Ok(metadata.versions.iter().map(|(number, version)| contents(path, *number, version)).collect())
}

impl Config {
    pub(super) fn load(view: &mut View<'_>) -> Result<Arc<Self>, Fault> {
        match view.read("config")? {
            Some(stored) => stored.record().map_err(Fault::internal),
            None => Ok(Arc::default()),
        }
    }

    pub(super) fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.write("config", &self.encode())
    }
}

impl Contents {
    pub(super) fn load(view: &mut View<'_>, path: &str, number: u64, version: &Version) -> Result<Map, Fault> {
        let bytes = view.read_point(&contents(checked(path)?, number, version))?;
        let bytes = bytes.ok_or_else(|| Fault::internal("the data of a version is missing"))?;
        Ok(Self::decode(&bytes).map_err(Fault::internal)?.data)
    }

    pub(super) fn remove(view: &mut View<'_>, path: &str, number: u64, version: &Version) -> Result<(), Fault> {
        view.delete_point(&contents(checked(path)?, number, version))
    }
}

impl Version {
    /// Whether its data may be shown.
    pub(super) fn is_readable(&self, now: Timestamp) -> bool {
        !self.destroyed && !self.is_deleted && self.deleted.is_none_or(|deleted| deleted > now)
    }
}

impl Metadata {
    pub(super) fn fresh(now: Timestamp) -> Self {
        Self {
            created: now,
            updated: now,
            current_version: 0,
            oldest_version: 0,
            max_versions: 0,
            cas_required: false,
            delete_version_after: None,
            custom_metadata: BTreeMap::new(),
            versions: BTreeMap::new(),
            metadata_cas_required: false,
            metadata_version: 0,
        }
    }

    pub(super) fn load(view: &mut View<'_>, path: &str) -> Result<Option<Arc<Self>>, Fault> {
        let Some(stored) = view.read(&["metadata/", checked(path)?].concat())? else { return Ok(None) };
        stored.record().map(Some).map_err(Fault::internal)
    }

    /// Whether anything is known of a path.
    pub(super) fn is_there(view: &mut View<'_>, path: &str) -> Result<bool, Fault> {
        view.contains(&["metadata/", checked(path)?].concat())
    }

    /// What is known of a path, to be changed: decoded for whoever changes it alone.
    pub(super) fn load_to_change(view: &mut View<'_>, path: &str) -> Result<Option<Self>, Fault> {
        let Some(stored) = view.read(&["metadata/", checked(path)?].concat())? else { return Ok(None) };
        Self::decode(&stored).map(Some).map_err(Fault::internal)
    }

    pub(super) fn store(&self, view: &mut View<'_>, path: &str) -> Result<(), Fault> {
        view.write(&format!("metadata/{}", checked(path)?), &self.encode())
    }

    /// What happened to versions of a path, asked for below `asked/`, with what is known of them now.
    pub(super) fn happened(&self, kind: &'static str, asked: &str, path: &str) -> Happened {
        let happened = Happened::new(kind, format!("{asked}/{path}"));
        happened.with("current_version", self.current_version).with("oldest_version", self.oldest_version)
    }

    /// Removes everything of a path.
    pub(super) fn remove(&self, view: &mut View<'_>, path: &str) -> Result<(), Fault> {
        for (number, version) in &self.versions {
            Contents::remove(view, path, *number, version)?;
        }
        view.delete(&format!("metadata/{}", checked(path)?))
    }

    /// Adds a version, drops those that are too many, and stores both records.
    pub(super) fn add_version(
        &mut self,
        view: &mut View<'_>,
        path: &str,
        config: &Config,
        data: Map,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let deleted = config.life(self.delete_version_after).map(|life| now.plus(life));
        let version = Version { created: now, deleted, destroyed: false, is_deleted: false };
        self.current_version += 1;
        self.updated = now;
        self.versions.insert(self.current_version, version);
        let point = contents(checked(path)?, self.current_version, &version);
        view.write_point(&point, &Contents { data }.encode())?;
        let kept = config.kept(self.max_versions);
        if self.current_version.saturating_sub(self.oldest_version) < kept {
            return self.store(view, path);
        }
        let too_old = self.current_version.saturating_sub(kept);
        while let Some(oldest) = self.versions.first_entry() {
            if *oldest.key() > too_old {
                break;
            }
            let (number, version) = oldest.remove_entry();
            Contents::remove(view, path, number, &version)?;
        }
        self.oldest_version = too_old + 1;
        self.store(view, path)
    }
}
