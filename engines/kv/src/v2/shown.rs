//! What is shown of a path and of a version.
//!
//! Deliberately absent: the secret itself (`data`).

use std::collections::BTreeMap;

use tresor_model::{Body, Map, map};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::records::{Metadata, Version};

/// What is known of one version.
#[derive(Output)]
pub(super) struct VersionShown {
    /// When it was written.
    created_time: String,
    /// What people want to know of the path.
    custom_metadata: Option<BTreeMap<String, String>>,
    /// When it was or will be deleted; empty when it will not.
    deletion_time: String,
    /// Whether its data is gone for good.
    destroyed: bool,
    /// Its number.
    version: u64,
}

/// What is known of a path.
#[derive(Output)]
pub(super) struct MetadataShown {
    /// Whether every write must check and set.
    cas_required: bool,
    /// When it was written first.
    created_time: String,
    /// How often this was written: 0 while only the data was.
    current_metadata_version: u64,
    /// Its newest version.
    current_version: u64,
    /// What people want to know.
    custom_metadata: Option<BTreeMap<String, String>>,
    /// The life of versions; `0s` takes the mount's.
    delete_version_after: String,
    /// How many versions are kept; 0 takes the mount's.
    max_versions: u64,
    /// Whether every change of this must check and set.
    metadata_cas_required: bool,
    /// Its oldest version; 0 while none was dropped.
    oldest_version: u64,
    /// When it was changed last.
    updated_time: String,
    /// Every version by its number.
    versions: Map,
}

impl Version {
    fn deletion_time(&self) -> String {
        self.deleted.map(rfc3339).unwrap_or_default()
    }

    /// As shown in a path's metadata.
    fn show(&self) -> Map {
        map! {
            "created_time" => rfc3339(self.created),
            "deletion_time" => self.deletion_time(),
            "destroyed" => self.destroyed,
        }
    }
}

impl Metadata {
    /// One version, as shown beside its data.
    pub(super) fn show_version(&self, number: u64) -> Option<VersionShown> {
        let version = self.versions.get(&number)?;
        Some(VersionShown {
            created_time: rfc3339(version.created),
            custom_metadata: self.show_custom(),
            deletion_time: version.deletion_time(),
            destroyed: version.destroyed,
            version: number,
        })
    }

    fn show_custom(&self) -> Option<BTreeMap<String, String>> {
        (!self.custom_metadata.is_empty()).then(|| self.custom_metadata.clone())
    }

    /// As shown by itself.
    pub(super) fn show(&self) -> MetadataShown {
        let versions = self.versions.iter();
        MetadataShown {
            cas_required: self.cas_required,
            created_time: rfc3339(self.created),
            current_metadata_version: self.metadata_version,
            current_version: self.current_version,
            custom_metadata: self.show_custom(),
            delete_version_after: tresor_wire::duration::print_go(self.delete_version_after.unwrap_or_default()),
            max_versions: self.max_versions,
            metadata_cas_required: self.metadata_cas_required,
            oldest_version: self.oldest_version,
            updated_time: rfc3339(self.updated),
            versions: versions.map(|(number, version)| (number.to_string(), Body::from(version.show()))).collect(),
        }
    }
}
