//! Help: what an engine's declarations say of a route, or of the engine and all of its routes.
//!
//! With it comes the OpenAPI document of the same routes, whose paths begin below the mount. Deliberately absent: anything
//! about other mounts, or about what is stored.

use tresor_engine::{Reply, RouteFacts};
use tresor_model::{Body, Map, Shape};

use super::route::Target;
use crate::openapi;

/// The help on what was found.
pub(super) fn answer(target: &Target) -> Reply {
    let about = |route: &RouteFacts| (openapi::path(route, ""), Body::from(openapi::described(route, "")));
    let (text, paths): (String, Map) = match target.engine.route(target.route) {
        Some(route) => (of_route(target), std::iter::once(about(route)).collect()),
        None => (of_engine(target), target.engine.every_route().into_iter().map(about).collect()),
    };
    let body = Map::new().with("help", text).with("see_also", Body::Null).with("openapi", openapi::document(paths));
    Reply { shape: Shape::Flat(body), ..Reply::default() }
}

fn of_route(target: &Target) -> String {
    let summary = target.engine.route(target.route).map_or("", |facts| facts.summary);
    let mut text = format!("{summary}\n");
    for (operation, facts) in &*target.operations {
        text.push_str(&format!("\n{}\n", operation.name()));
        for field in facts.fields {
            text.push_str(&format!("    {}: {}\n", field.name, field.description.trim()));
        }
    }
    text
}

fn of_engine(target: &Target) -> String {
    let mut text = format!("## DESCRIPTION\n\n{}\n\n## PATHS\n", target.engine.descriptor().summary);
    for route in target.engine.every_route() {
        text.push_str(&format!("\n    {}\n        {}\n", route.shown_pattern(), route.summary));
    }
    text
}
