//! Cases for policies, in a file: what somebody with some policies can and cannot do. What `policy test` runs.
//!
//! ```hcl
//! policies = ["app.hcl", "team.hcl"]
//!
//! case "the app reads its own secrets" {
//!   policies = ["app"]
//!   path     = "secret/data/app/db"
//!   can      = ["read"]
//!   cannot   = ["update", "delete"]
//! }
//! ```
//!
//! A policy is called as its file without the ending. A case may have `parameters`, `wrap_ttl`, `event_type` (for `subscribe`),
//! `at` (the time, for what expires) and `entity`, whose `id`, `name` and `metadata` fill in templates. Deliberately absent: files; whoever runs the
//! cases reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_hcl::{Block, Object, Position, Value, ValueKind};
use tresor_model::{Body, Map, Operation, Timestamp};

use crate::decision::{AskedPath, Holder, PolicySet, Request};
use crate::parameters::Parameters;
use crate::parse::Policy;
use crate::template::Identity;

/// A file of cases.
pub struct Cases {
    /// The files of the policies, as they are written.
    pub files: Vec<String>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
pub struct Case {
    /// What it is called.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// The policies of it; all of them when it names none.
    pub policies: Option<Vec<String>>,
    path: String,
    can: Vec<Operation>,
    cannot: Vec<Operation>,
    parameters: Map,
    wrap_ttl_seconds: Option<u64>,
    entity: Option<Identity>,
    at: Option<Timestamp>,
    event_type: Option<String>,
}

/// A case that does not hold.
pub struct Broken {
    /// What was asked.
    pub operation: Operation,
    /// Whether it was to be allowed.
    pub expected: bool,
    /// Why it is what it is.
    pub why: String,
}

/// Why a text is no file of cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// No document.
    #[error("{0}")]
    Syntax(#[from] tresor_hcl::ParseError),
    /// A value of the wrong kind.
    #[error("{0}")]
    Wrong(#[from] tresor_hcl::AccessError),
    /// Something that a case cannot have, or lacks.
    #[error("{position}: {reason}")]
    Invalid {
        /// What.
        reason: String,
        /// Where.
        position: Position,
    },
}

fn invalid<T>(position: Position, reason: impl Into<String>) -> Result<T, CaseError> {
    Err(CaseError::Invalid { reason: reason.into(), position })
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// [`CaseError`] with line and column.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let document = tresor_hcl::parse(text)?;
        for item in &document.items {
            if let Some(key) = item.keys.first().filter(|key| !matches!(key.name.as_str(), "policies" | "case")) {
                return invalid(key.position, format!("unknown key `{}`", key.name));
            }
        }
        let files = match document.value("policies") {
            Some(value) => value.as_string_list("policies")?,
            None => return invalid(Position { line: 1, column: 1 }, "`policies` names no file"),
        };
        let blocks = document.labelled_blocks("case")?;
        let cases = blocks.iter().map(case).collect::<Result<_, _>>()?;
        Ok(Self { files, cases })
    }
}

fn case(block: &Block<'_>) -> Result<Case, CaseError> {
    let mut case = Case {
        name: block.labels.join(" "),
        position: block.position,
        policies: None,
        path: String::new(),
        can: Vec::new(),
        cannot: Vec::new(),
        parameters: Map::new(),
        wrap_ttl_seconds: None,
        entity: None,
        at: None,
        event_type: None,
    };
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        let (name, value) = (key.name.as_str(), &item.value);
        match name {
            "policies" => case.policies = Some(value.as_string_list(name)?),
            "path" => value.as_string(name)?.trim_start_matches('/').clone_into(&mut case.path),
            "can" => case.can = operations(name, value)?,
            "cannot" => case.cannot = operations(name, value)?,
            "parameters" => case.parameters = parameters(value.as_object(name)?)?,
            "wrap_ttl" => case.wrap_ttl_seconds = Some(crate::parse::seconds(name, value).map_err(|_| wrong(value))?),
            "at" => {
                let at = tresor_wire::time::parse_rfc3339(&value.as_string(name)?);
                case.at = Some(at.ok_or_else(|| wrong(value))?);
            }
            "event_type" => case.event_type = Some(value.as_string(name)?),
            "entity" => case.entity = Some(entity(value.as_object(name)?)?),
            other => return invalid(key.position, format!("unknown key `{other}`")),
        }
    }
    if case.path.is_empty() {
        return invalid(block.position, "a case needs a `path`");
    }
    if case.can.is_empty() && case.cannot.is_empty() {
        return invalid(block.position, "a case needs `can` or `cannot`");
    }
    Ok(case)
}

fn wrong(value: &Value) -> CaseError {
    CaseError::Invalid { reason: "neither a time nor a duration".to_owned(), position: value.position }
}

fn operations(key: &str, value: &Value) -> Result<Vec<Operation>, CaseError> {
    let words = value.as_string_list(key)?;
    words
        .iter()
        .map(|word| match Operation::parse(word) {
            Some(operation) => Ok(operation),
            None => invalid(value.position, format!("unknown operation `{word}`")),
        })
        .collect()
}

fn parameters(object: &Object) -> Result<Map, CaseError> {
    let mut sent = Map::new();
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        let body = match &item.value.kind {
            ValueKind::List(_) => Body::from(item.value.as_string_list(&key.name)?),
            _ => Body::from(item.value.as_string(&key.name)?),
        };
        sent.insert(key.name.clone(), body);
    }
    Ok(sent)
}

fn entity(object: &Object) -> Result<Identity, CaseError> {
    let mut identity = Identity::default();
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "id" => identity.id = item.value.as_string("id")?,
            "name" => identity.name = item.value.as_string("name")?,
            "metadata" => {
                for pair in &item.value.as_object("metadata")?.items {
                    let Some(name) = pair.keys.first() else { continue };
                    identity.metadata.insert(name.name.clone(), pair.value.as_string(&name.name)?);
                }
            }
            other => return invalid(key.position, format!("unknown key `{other}`")),
        }
    }
    Ok(identity)
}

impl Case {
    /// What does not hold, with all policies by name.
    ///
    /// # Errors
    /// The name of a policy that there is not.
    pub fn run(&self, policies: &BTreeMap<String, Arc<Policy>>, now: Timestamp) -> Result<Vec<Broken>, String> {
        let chosen: Vec<Arc<Policy>> = match &self.policies {
            None => policies.values().cloned().collect(),
            Some(names) => names
                .iter()
                .map(|name| policies.get(name).cloned().ok_or_else(|| name.clone()))
                .collect::<Result<_, _>>()?,
        };
        let holder = Holder { identity: self.entity.as_ref(), now: self.at.unwrap_or(now) };
        let set = PolicySet::compile(&chosen, &holder);
        let mut broken = Vec::new();
        for (operations, expected) in [(&self.can, true), (&self.cannot, false)] {
            for operation in operations {
                let directory = format!("{}/", self.path.trim_end_matches('/'));
                let path = if operation.is_of_directory() { &directory } else { &self.path };
                let explanation = set.explain(&Request {
                    path: AskedPath::exact(path),
                    operation: *operation,
                    parameters: Some(Parameters { sent: &self.parameters, from_query: &[], fields: &[] }),
                    wrap_ttl_seconds: self.wrap_ttl_seconds,
                    is_protected: false,
                    event_type: self.event_type.as_deref(),
                });
                if explanation.decision.allowed_with_sudo().is_some() != expected {
                    let why = explanation.sentence(*operation, path);
                    broken.push(Broken { operation: *operation, expected, why });
                }
            }
        }
        Ok(broken)
    }
}
