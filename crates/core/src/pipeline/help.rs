//! Help: what an engine's declarations say of a route, or of the engine and all of its routes.
//!
//! Deliberately absent: the OpenAPI document (a later issue makes it from the same declarations).

use tresor_engine::Reply;
use tresor_model::{Body, Map, Shape};

use super::route::Target;

/// The help on what was found.
pub(super) fn answer(target: &Target) -> Reply {
    let text = match target.engine.route(target.route) {
        Some(_) => of_route(target),
        None => of_engine(target),
    };
    let body = Map::new().with("help", text).with("see_also", Body::Null).with("openapi", Body::Null);
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
