//! The fields of a body, to walk through: the pipeline's own, or the bytes of a record, without building a tree of them.
//!
//! Deliberately absent: looking up a name, and any change.

use tresor_model::{Body, Map};

use crate::codec::EncodedMap;

/// The fields of a request or an answer; strings inside are secret unless the mount declares their name public.
pub enum Fields<'a> {
    /// The pipeline's own.
    Borrowed(&'a Map),
    /// In a record that was read back from the log.
    Encoded(EncodedMap<'a>),
}

impl<'a> Fields<'a> {
    pub(crate) const fn as_map(&self) -> MapRef<'_> {
        match self {
            Self::Borrowed(map) => MapRef::Borrowed(map),
            Self::Encoded(map) => MapRef::Encoded(*map),
        }
    }
}

impl<'a> From<&'a Map> for Fields<'a> {
    fn from(map: &'a Map) -> Self {
        Self::Borrowed(map)
    }
}

/// A value of a body.
pub(crate) enum ValueRef<'a> {
    Null,
    Bool(bool),
    /// A number's text.
    Number(&'a [u8]),
    /// A text, which in a record is not checked to be one.
    String(&'a [u8]),
    List(ListRef<'a>),
    Map(MapRef<'a>),
}

/// Names and values in their order.
#[derive(Clone, Copy)]
pub(crate) enum MapRef<'a> {
    Borrowed(&'a Map),
    Encoded(EncodedMap<'a>),
}

/// Values in their order.
#[derive(Clone, Copy)]
pub(crate) enum ListRef<'a> {
    Borrowed(&'a [Body]),
    /// The items stand one behind the other, as the values of a map do.
    Encoded(EncodedMap<'a>),
}

impl<'a> From<&'a Body> for ValueRef<'a> {
    fn from(body: &'a Body) -> Self {
        match body {
            Body::Null => Self::Null,
            Body::Bool(value) => Self::Bool(*value),
            Body::Number(number) => Self::Number(number.as_str().as_bytes()),
            Body::String(text) => Self::String(text.as_str().as_bytes()),
            Body::List(items) => Self::List(ListRef::Borrowed(items)),
            Body::Map(map) => Self::Map(MapRef::Borrowed(map)),
        }
    }
}

impl<'a> MapRef<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Borrowed(map) => map.len(),
            Self::Encoded(map) => map.len(),
        }
    }

    pub(crate) fn each(self, visit: &mut dyn FnMut(&'a [u8], ValueRef<'a>)) {
        match self {
            Self::Borrowed(map) => map.iter().for_each(|(name, value)| visit(name.as_bytes(), value.into())),
            Self::Encoded(map) => map.each_field(visit),
        }
    }
}

impl<'a> ListRef<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Borrowed(items) => items.len(),
            Self::Encoded(items) => items.len(),
        }
    }

    pub(crate) fn each(self, visit: &mut dyn FnMut(ValueRef<'a>)) {
        match self {
            Self::Borrowed(items) => items.iter().for_each(|item| visit(item.into())),
            Self::Encoded(items) => items.each_item(visit),
        }
    }
}
