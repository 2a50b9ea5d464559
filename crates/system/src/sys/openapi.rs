//! `sys/internal/specs/openapi`: the API as a document, from the declarations that requests are routed by.
//!
//! Whoever asks sees the mounts that they may see, as in `sys/internal/ui/mounts`. Deliberately absent: anything that was
//! written for the document alone.

use std::collections::{BTreeMap, BTreeSet};

use tresor_core::mounts::Mount;
use tresor_engine::answer::{AnswerShape, Raw};
use tresor_engine::{Access, Cx, Effect, OperationFacts, RouteFacts};
use tresor_model::{Body, Fault, Map, Operation, map};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{FieldSpec, Input, Kind, Place};
use tresor_wire::json::encode_map;
use tresor_wire::output::OutputSpec;

use super::Sys;
use super::internal::is_visible;

/// How many mounts are described at most, one by one.
const MOUNTS_MAX: usize = 500;

/// How the document is to be.
#[derive(Input)]
pub(super) struct Wanted {
    /// Mounts of one kind are described once, with the mount's path as a parameter.
    #[input(query, default = "false")]
    generic_mount_paths: bool,
    /// Part of the reference's names for operations; there are none here.
    #[input(query)]
    context: Option<String>,
}

pub(super) async fn document(sys: &Sys, cx: Cx<'_>, input: Wanted) -> Result<Raw, Fault> {
    let _ = input.context;
    let space = sys.space(&cx)?;
    let permissions = sys.permissions(&cx, &space);
    let is_known = cx.caller.token_key.is_some();
    let table = space.mounts.table();
    let mut paths: BTreeMap<String, Map> = BTreeMap::new();
    let visible = table.iter().filter(|mount| is_visible(mount, is_known, &permissions));
    for mount in visible.take(MOUNTS_MAX) {
        let Some(engine) = space.mounts.engine(mount) else { continue };
        let at = if input.generic_mount_paths { generic(mount) } else { mount.record.path.clone() };
        for route in engine.every_route() {
            let shown = route.shown_pattern().replace("...}", "}");
            paths.entry(format!("/{at}{shown}")).or_insert_with(|| described(route, &at));
        }
    }
    let paths: Map = paths.into_iter().map(|(path, described)| (path, Body::from(described))).collect();
    let document = map! {
        "openapi" => "3.0.2",
        "info" => map! {
            "title" => "Tresor API",
            "description" => "HTTP API that gives you full access to Tresor. All API routes are prefixed with `/v1/`.",
            "version" => API_LEVEL,
            "license" => map! { "name" => "Apache-2.0", "url" => "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "paths" => paths,
    };
    let mut bytes = Vec::new();
    encode_map(&document, &mut bytes);
    Ok(Raw { content_type: "application/json", bytes })
}

/// The path of a mount whose place clients are to fill in; the server's own stay where they are.
fn generic(mount: &Mount) -> String {
    let record = &mount.record;
    let own = ["sys/", "cubbyhole/", "auth/token/"];
    match record.path.strip_suffix(record.path_in_class()) {
        Some(class) if !own.contains(&record.path.as_str()) => format!("{class}{{{}_mount_path}}/", record.kind),
        _ => record.path.clone(),
    }
}

/// The names between braces.
fn parameters(path: &str) -> BTreeSet<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

fn described(route: &RouteFacts, at: &str) -> Map {
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
        let properties: Map = sent.iter().map(|field| (field.name.to_owned(), Body::from(property(field)))).collect();
        if !properties.is_empty() {
            let required: Vec<String> =
                sent.iter().filter(|field| field.required).map(|field| field.name.to_owned()).collect();
            let mut schema = map! { "type" => "object", "properties" => properties };
            if !required.is_empty() {
                schema.insert("required", required);
            }
            let media = if operation == Operation::Patch { "application/merge-patch+json" } else { "application/json" };
            described.insert("requestBody", map! { "content" => map! { media => map! { "schema" => schema } } });
        }
    } else {
        let mut in_query: Vec<Body> = sent
            .filter(|field| field.query)
            .map(|field| {
                Body::from(map! {
                    "name" => field.name,
                    "in" => "query",
                    "description" => field.description.trim(),
                    "schema" => schema(field.kind),
                })
            })
            .collect();
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
