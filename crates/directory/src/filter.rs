//! What a search looks for, as a tree that is spelled in bytes: no text, so nothing to escape or to inject into.
//!
//! Deliberately absent: the filters that nobody asks for yet (or, not, substrings, greater, approximate).

use crate::ber::{OCTETS, Writer};

/// What an entry must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// It has the attribute.
    Present(String),
    /// The attribute has the value.
    Equal(String, String),
    /// All of these hold.
    All(Vec<Filter>),
}

impl Filter {
    /// Every entry.
    #[must_use]
    pub fn any() -> Self {
        Self::Present("objectClass".to_owned())
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Present(attribute) => writer.bytes(0x87, attribute.as_bytes()),
            Self::Equal(attribute, value) => {
                let opened = writer.open(0xa3);
                writer.bytes(OCTETS, attribute.as_bytes());
                writer.bytes(OCTETS, value.as_bytes());
                writer.close(&opened);
            }
            Self::All(filters) => {
                let opened = writer.open(0xa0);
                for filter in filters {
                    filter.write(writer);
                }
                writer.close(&opened);
            }
        }
    }
}
