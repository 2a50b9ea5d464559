//! An event as `CloudEvents` in JSON, with the names that clients of the reference know.
//!
//! Deliberately absent: the protobuf form (`protobuf`).

use tresor_model::{Map, map};
use tresor_wire::json::encode_map;
use tresor_wire::time::rfc3339;

use super::Told;

/// The text; `namespace` is the path of the event's, empty for the root namespace.
pub(super) fn cloud_event(told: &Told, source: &str, namespace: &str) -> String {
    let (event, mount) = (&told.event, &told.event.mount);
    let metadata: Map =
        event.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    let mut plugin = map! {
        "mount_class" => mount.class,
        "mount_accessor" => mount.accessor.as_str(),
        "mount_path" => mount.path.as_str(),
        "plugin" => mount.plugin.as_str(),
    };
    if let Some(version) = &mount.version {
        plugin.insert("version", version.as_str());
    }
    let mut data = map! {
        "event" => map! { "id" => told.id.as_str(), "metadata" => metadata },
        "event_type" => event.kind,
    };
    if !namespace.is_empty() {
        data.insert("namespace", namespace);
    }
    data.insert("plugin_info", plugin);
    let document = map! {
        "id" => told.id.as_str(),
        "source" => source,
        "specversion" => "1.0",
        "type" => "*",
        "data" => data,
        // As the reference spells it.
        "datacontentype" => "application/cloudevents",
        "time" => rfc3339(told.at),
    };
    let mut bytes = Vec::new();
    encode_map(&document, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
