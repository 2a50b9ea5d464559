//! The OpenAPI form of declared routes: what `sys/internal/specs/openapi` and `?help=1` show.
//!
//! Deliberately absent: which routes somebody sees, and anything that was written for the document alone.

use std::collections::BTreeSet;

use tresor_engine::answer::AnswerShape;
use tresor_engine::{Access, Effect, OperationFacts, RouteFacts};
use tresor_model::{Body, Map, Operation, Verb, map};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{FieldSpec, Kind, Place};
use tresor_wire::output::OutputSpec;

use crate::node::AlwaysRoute;

/// A document about these paths.
#[must_use]
pub fn document(paths: Map) -> Map {
    map! {
        "openapi" => "3.0.2",
        "info" => map! {
            "title" => "Tresor API",
            "description" => "HTTP API that gives you full access to Tresor. All API routes are prefixed with `/v1/`.",
            "version" => API_LEVEL,
            "license" => map! { "name" => "Apache-2.0", "url" => "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "paths" => paths,
    }
}

/// The path of a route below `at`, as the document names it.
#[must_use]
pub fn path(route: &RouteFacts, at: &str) -> String {
    format!("/{at}{}", route.shown_pattern().replace("...}", "}"))
}

/// A route below `at`, which may have parameters of its own.
#[must_use]
pub fn described(route: &RouteFacts, at: &str) -> Map {
    let mut described = map! { "description" => route.summary };
    let every = |access: Access| route.operations.values().all(|facts| facts.access == access);
    if every(Access::Sudo) {
        described.insert("x-vault-sudo", true);
    }
    if route.operations.values().all(|facts| matches!(facts.access, Access::Public | Access::Login)) {
        described.insert("x-vault-unauthenticated", true);
    }
    if route.tells_create {
        described.insert("x-vault-createSupported", true);
    }
    let pattern = route.shown_pattern().replace("...}", "}");
    let fields: Vec<&FieldSpec> = route.operations.values().flat_map(|facts| facts.fields).collect();
    let of_mount = parameters(at);
    let in_path = parameters(&pattern).into_iter().chain(of_mount).map(|name| {
        let field = fields.iter().find(|field| field.place == Place::Path && field.name == name);
        Body::from(map! {
            "name" => name,
            "in" => "path",
            "required" => true,
            "description" => field.map_or("Path where the mount is.", |field| field.description.trim()),
            "schema" => map! { "type" => "string" },
        })
    });
    let in_path: Vec<Body> = in_path.collect();
    if !in_path.is_empty() {
        described.insert("parameters", in_path);
    }
    for (operation, facts) in &*route.operations {
        let method = match operation {
            Operation::Read => "get",
            // Reading is described where there is both.
            Operation::List if !route.operations.contains_key(&Operation::Read) => "get",
            Operation::Create | Operation::Update => "post",
            Operation::Patch => "patch",
            Operation::Delete => "delete",
            _ => continue,
        };
        described.insert(method, of_operation(*operation, facts, route));
    }
    described
}

/// What answers in every state of the node at one path: its description, by routes that differ in the verb.
#[must_use]
pub fn described_always(routes: &[&AlwaysRoute]) -> Map {
    let summary = routes.first().map_or("", |route| route.summary);
    let mut described = map! { "description" => summary, "x-vault-unauthenticated" => true };
    for route in routes {
        let method = if route.verb == Verb::Read { "get" } else { "post" };
        let mut operation = map! {
            "summary" => route.summary,
            "operationId" => format!("{method}-{}", route.path.replace('/', "-")),
            "responses" => map! { "200" => answered(route.answer_fields) },
        };
        let fields: Vec<&FieldSpec> = route.fields.iter().collect();
        if route.verb == Verb::Read {
            let in_query = in_query(fields.into_iter());
            if !in_query.is_empty() {
                operation.insert("parameters", in_query);
            }
        } else if let Some(body) = in_body(&fields, "application/json") {
            operation.insert("requestBody", body);
        }
        described.insert(method, operation);
    }
    described
}

/// The body that is sent, if any is.
fn in_body(sent: &[&FieldSpec], media: &str) -> Option<Map> {
    let properties: Map = sent.iter().map(|field| (field.name.to_owned(), Body::from(property(field)))).collect();
    if properties.is_empty() {
        return None;
    }
    let required: Vec<String> = sent.iter().filter(|field| field.required).map(|field| field.name.to_owned()).collect();
    let mut schema = map! { "type" => "object", "properties" => properties };
    if !required.is_empty() {
        schema.insert("required", required);
    }
    Some(map! { "content" => map! { media => map! { "schema" => schema } } })
}

/// What is sent in the address.
fn in_query<'f>(sent: impl Iterator<Item = &'f FieldSpec>) -> Vec<Body> {
    sent.filter(|field| field.query)
        .map(|field| {
            Body::from(map! {
                "name" => field.name,
                "in" => "query",
                "description" => field.description.trim(),
                "schema" => schema(field.kind),
            })
        })
        .collect()
}

fn of_operation(operation: Operation, facts: &OperationFacts, route: &RouteFacts) -> Map {
    let mut described = map! {
        "summary" => route.summary,
        "operationId" => format!("{}-{}", operation.name(), route.shown_pattern().replace(['/', '{', '}', '.'], "-")),
        "responses" => map! { answer_code(facts) => answered(facts.answer.fields) },
    };
    let sent = facts.fields.iter().filter(|field| field.place != Place::Path);
    let has_body = matches!(operation, Operation::Create | Operation::Update | Operation::Patch);
    if has_body {
        let sent: Vec<&FieldSpec> = sent.filter(|field| field.place == Place::Body).collect();
        let media = if operation == Operation::Patch { "application/merge-patch+json" } else { "application/json" };
        if let Some(body) = in_body(&sent, media) {
            described.insert("requestBody", body);
        }
    } else {
        let mut in_query = in_query(sent);
        let lists = route.operations.contains_key(&Operation::List);
        if lists && matches!(operation, Operation::Read | Operation::List) {
            in_query.push(Body::from(map! {
                "name" => "list",
                "in" => "query",
                "required" => operation == Operation::List,
                "description" => "Must be set to `true` to list.",
                "schema" => map! { "type" => "string", "enum" => vec!["true".to_owned()] },
            }));
        }
        if !in_query.is_empty() {
            described.insert("parameters", in_query);
        }
    }
    described
}

fn answer_code(facts: &OperationFacts) -> &'static str {
    let has_nothing = facts.answer.shape == AnswerShape::Nothing;
    if facts.effect == Effect::Writes && has_nothing { "204" } else { "200" }
}

fn answered(fields: &[OutputSpec]) -> Map {
    let described = map! { "description" => "OK" };
    let properties: Map = fields
        .iter()
        .filter(|field| field.name != "*")
        .map(|field| {
            let described = schema(field.kind).with("description", field.description.trim());
            (field.name.to_owned(), Body::from(described))
        })
        .collect();
    if properties.is_empty() {
        return described;
    }
    let schema = map! { "type" => "object", "properties" => properties };
    described.with("content", map! { "application/json" => map! { "schema" => schema } })
}

fn property(field: &FieldSpec) -> Map {
    let described = schema(field.kind).with("description", field.description.trim());
    if field.secret { described.with("x-vault-displayAttrs", map! { "sensitive" => true }) } else { described }
}

fn schema(kind: Kind) -> Map {
    match kind {
        Kind::String | Kind::Any => map! { "type" => "string" },
        Kind::Integer => map! { "type" => "integer" },
        Kind::Number => map! { "type" => "number" },
        Kind::Boolean => map! { "type" => "boolean" },
        Kind::Duration => map! { "type" => "string", "format" => "seconds" },
        Kind::List => map! { "type" => "array", "items" => map! { "type" => "string" } },
        Kind::Map => map! { "type" => "object", "format" => "map" },
    }
}

/// The names between braces.
fn parameters(path: &str) -> BTreeSet<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}
