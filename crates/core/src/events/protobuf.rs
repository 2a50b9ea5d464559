//! An event as the protobuf message `EventReceived`: what clients of the reference get that do not ask for JSON.
//!
//! The numbers of the fields are those of its published schema. Deliberately absent: reading, and every type of field but
//! texts and messages, since an event has no others.

use super::Told;

/// The message; `namespace` is the path of the event's, empty for the root namespace.
pub(super) fn event_received(told: &Told, namespace: &str) -> Vec<u8> {
    let (event, mount) = (&told.event, &told.event.mount);
    let mut metadata = Fields::default();
    for (name, value) in &event.metadata {
        // A value of `Struct` has the kind `string_value`.
        let value = Fields::default().text(3, value);
        metadata = metadata.message(1, Fields::default().text(1, name).message(2, value));
    }
    let data = Fields::default().text(1, &told.id).message(2, metadata);
    let plugin = Fields::default()
        .text(1, mount.class)
        .text(2, mount.accessor.as_str())
        .text(3, &mount.path)
        .text(4, &mount.plugin)
        .text(6, mount.version.as_deref().unwrap_or(""));
    Fields::default().message(1, data).text(2, namespace).text(3, event.kind).message(4, plugin).0
}

/// The fields of a message, as bytes.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    /// A text; an empty one is left out, as it says nothing.
    fn text(self, number: u8, text: &str) -> Self {
        if text.is_empty() { self } else { self.delimited(number, text.as_bytes()) }
    }

    fn message(self, number: u8, message: Self) -> Self {
        self.delimited(number, &message.0)
    }

    fn delimited(mut self, number: u8, bytes: &[u8]) -> Self {
        self.0.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            self.0.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        self.0.push(u8::try_from(length).unwrap_or(0));
        self.0.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use tresor_model::{Event, EventMount, MountAccessor, NamespaceId, Timestamp};

    use super::*;

    #[test]
    fn a_message_is_spelled_as_the_schema_says() {
        let mount = EventMount {
            namespace: NamespaceId::root(),
            class: "secret",
            accessor: MountAccessor::new("kv_1"),
            path: "kv/".to_owned(),
            plugin: "kv".to_owned(),
            version: Some("2".to_owned()),
        };
        let value = "x".repeat(200);
        let event = Event {
            kind: "kv-v2/delete",
            path: "kv/delete/a".to_owned(),
            mount,
            metadata: vec![("path", value)],
            audience: tresor_model::Audience::Everybody,
        };
        let told = Told { id: "id".to_owned(), at: Timestamp::EPOCH, event };
        let entry = [b"\x0a\x04path\x12\xcb\x01\x1a\xc8\x01".as_slice(), "x".repeat(200).as_bytes()].concat();
        let fields = [b"\x0a\xd4\x01".as_slice(), &entry].concat();
        let data = [b"\x0a\x02id\x12\xd7\x01".as_slice(), &fields].concat();
        let plugin = b"\x0a\x06secret\x12\x04kv_1\x1a\x03kv/\x22\x02kv\x32\x012";
        let expected = [b"\x0a\xde\x01".as_slice(), &data, b"\x12\x03ns/\x1a\x0ckv-v2/delete\x22\x1a", plugin].concat();
        assert_eq!(event_received(&told, "ns/"), expected);
    }
}
