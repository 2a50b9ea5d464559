//! How a test that walks over every endpoint asks one.
//!
//! Deliberately absent: what is to become of it.

use tresor_core::ListedRoute;
use tresor_model::Operation;

/// The method that an operation is asked by.
#[must_use]
pub const fn method(operation: Operation) -> &'static str {
    match operation {
        Operation::Read | Operation::Help | Operation::Subscribe => "GET",
        Operation::List => "LIST",
        Operation::Scan => "SCAN",
        Operation::Create | Operation::Update => "POST",
        Operation::Patch => "PATCH",
        Operation::Delete => "DELETE",
    }
}

/// A path that the route matches.
#[must_use]
pub fn example(route: &ListedRoute) -> String {
    let segments = route.pattern.split('/').map(|segment| match segment {
        rest if rest.contains("...") => "x/y",
        name if name.starts_with('{') => "x",
        literal => literal,
    });
    format!("{}{}", route.mount, segments.collect::<Vec<_>>().join("/"))
}
