//! Filters for whoever is told of something else than requests: the language of the devices' filters, about other properties.
//!
//! Deliberately absent: what the properties are, which whoever asks says.

use std::borrow::Cow;

use crate::expression::{Expression, Found, Selector, Subject};

/// An expression about properties.
pub struct Filter(Expression);

impl Filter {
    /// Reads an expression about properties with these names.
    ///
    /// # Errors
    /// Where it cannot be understood, and why, for whoever wrote it.
    pub fn parse(text: &str, names: &'static [&'static str]) -> Result<Self, String> {
        Expression::parse(text, Subject::Properties(names)).map(Self).map_err(|error| error.to_string())
    }

    /// Whether it says yes, where `property` says what the names lead to; what is not there is empty.
    pub fn holds<'a>(&self, property: &dyn Fn(&'static str) -> Cow<'a, str>) -> bool {
        self.0.holds(&|selector| match selector {
            Selector::Property(name) => Found::Text(property(name)),
            Selector::Pointer(_) => Found::NOTHING,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: &[&str] = &["data_path", "operation", "source_plugin_mount"];

    #[test]
    fn a_filter_speaks_of_the_properties_that_it_is_given_and_of_no_others() {
        let property = |name| match name {
            "data_path" => "secret/data/foo".into(),
            "source_plugin_mount" => "secret/".into(),
            _ => Cow::Borrowed(""),
        };
        let says = |text: &str| Filter::parse(text, NAMES).unwrap().holds(&property);
        assert!(says("data_path == secret/data/foo and operation != \"data-write\""));
        assert!(says("source_plugin_mount == secret") && !says("data_path == secret/data/fo"));
        let refused = Filter::parse("mount_type == kv", NAMES).err().unwrap();
        assert_eq!(refused, "at character 1: `mount_type` is none of data_path, operation, source_plugin_mount");
    }
}
