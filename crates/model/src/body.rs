//! The tree of values that requests and responses carry; its leaves zeroize when dropped.
//!
//! Invariants: `Debug` shows kinds, never contents; numbers keep the text that the client sent, so no digit is lost;
//! map keys are sorted, as the reference prints them. Deliberately absent: reading and writing JSON (`tresor-wire`),
//! and `Clone`: a copy of what may be a secret is made by the visible [`Body::duplicate`].

use std::collections::BTreeMap;
use std::fmt;

use tresor_secret::Wiped;

/// Text that may be a secret.
#[derive(PartialEq, Eq)]
pub struct Text(Wiped<String>);

impl Text {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Wiped::new(text.to_owned()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Wiped::new(text))
    }
}

/// A JSON number, kept as the text it was sent as.
#[derive(PartialEq, Eq)]
pub struct Number(Wiped<String>);

impl Number {
    /// Takes the text of a number that a JSON parser has already checked; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let starts_well = digits.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let all_well = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        (starts_well && all_well && text.parse::<f64>().is_ok()).then(|| Self(Wiped::new(text.to_owned())))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as a whole number, when it is one (`3`, also `3.0` and `3e2`) and fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Ok(whole) = self.0.parse::<i64>() {
            return Some(whole);
        }
        let float = self.as_f64();
        #[expect(clippy::cast_possible_truncation, reason = "range and fraction were checked")]
        let whole = (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(float as i64);
        whole
    }

    /// The nearest floating-point value.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}

/// One value.
#[derive(PartialEq, Eq)]
pub enum Body {
    /// `null`; in a request it means the same as an absent field.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    List(Vec<Body>),
    /// An object.
    Map(Map),
}

impl Body {
    /// A deep copy; visible by its name, because it doubles what may be a secret.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Bool(value) => Self::Bool(*value),
            Self::Number(number) => Self::Number(Number(number.0.clone())),
            Self::String(text) => Self::from(text.as_str()),
            Self::List(items) => Self::List(items.iter().map(Self::duplicate).collect()),
            Self::Map(map) => Self::Map(map.duplicate()),
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text.as_str()) } else { None }
    }

    /// The truth value of a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The whole number of a number.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_i64() } else { None }
    }

    /// The map of an object.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The items of an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The kind, for error messages: never the value.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

macro_rules! from_whole {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Body {
            fn from(value: $kind) -> Self {
                Self::Number(Number(Wiped::new(value.to_string())))
            }
        }
    )*};
}
from_whole!(i32, i64, u8, u16, u32, u64, usize);

impl From<bool> for Body {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::String(Text::from(text))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::String(Text::from(text))
    }
}

impl From<Text> for Body {
    fn from(text: Text) -> Self {
        Self::String(text)
    }
}

impl From<Map> for Body {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Body {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>> From<Option<T>> for Body {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An object: names to values, sorted by name.
#[derive(Default, PartialEq, Eq)]
pub struct Map(BTreeMap<String, Body>);

impl Map {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a name; an explicit `null` is given back as it is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Body> {
        self.0.get(name)
    }

    /// The value of a name, for changing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Body> {
        self.0.get_mut(name)
    }

    /// The text of a name that holds a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Body::as_str)
    }

    /// Sets a name, giving back what it replaced.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Body>) -> Option<Body> {
        self.0.insert(name.into(), value.into())
    }

    /// The same map with one more name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Body>) -> Self {
        self.insert(name, value);
        self
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) -> Option<Body> {
        self.0.remove(name)
    }

    /// Whether the name is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Body)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A deep copy; see [`Body::duplicate`].
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.iter().map(|(name, value)| (name.clone(), value.duplicate())).collect())
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map of {}", self.0.len())
    }
}

impl FromIterator<(String, Body)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Body)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl Extend<(String, Body)> for Map {
    fn extend<I: IntoIterator<Item = (String, Body)>>(&mut self, items: I) {
        self.0.extend(items);
    }
}

impl IntoIterator for Map {
    type Item = (String, Body);
    type IntoIter = std::collections::btree_map::IntoIter<String, Body>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Writes a [`Map`] as it will look: `map! { "keys" => names, "count" => 3 }`.
#[macro_export]
macro_rules! map {
    ($($name:expr => $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty map changes nothing")]
        let mut map = $crate::Map::new();
        $( map.insert($name, $value); )*
        map
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let body = Body::from(map! { "password" => "canary" });
        assert_eq!(format!("{body:?} {:?}", Body::from("canary")), "map string");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text = "123456789012345678901234567890.5e-3";
        assert_eq!(Number::parse(text).map(|number| number.as_str().to_owned()), Some(text.to_owned()));
        assert_eq!(Number::parse("3.0").and_then(|number| number.as_i64()), Some(3));
        assert!(Number::parse("nan").is_none());
        assert!(Number::parse("").is_none());
    }
}
