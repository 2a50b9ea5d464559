//! Every endpoint that a node answers on, as it is declared: what tests walk, and what describes the API.
//!
//! Read from the tables that requests are routed by, so nothing that answers is missing from it. Deliberately absent:
//! handlers.

use std::collections::BTreeMap;

use tresor_engine::{Access, AnswersIn, Effect, Mounted, Place, Quorum};
use tresor_model::{Operation, Verb};
use tresor_wire::input::FieldSpec;
use tresor_wire::output::OutputSpec;

use crate::node::Node;

/// When an endpoint answers, and whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// In every state of the node, without a token and unaudited.
    Always,
    /// While the node is unsealed, to whom the declared access lets in, audited.
    Unsealed(Access),
}

/// One operation of one route of one mount.
#[derive(Clone, Debug)]
pub struct ListedRoute {
    /// Where it is mounted, ending in a slash; empty for what answers always.
    pub mount: String,
    /// The type of the mount.
    pub kind: String,
    /// The pattern below the mount.
    pub pattern: &'static str,
    /// The operation; writes of what answers always are updates.
    pub operation: Operation,
    /// When, and to whom.
    pub availability: Availability,
    /// What it does to the store.
    pub effect: Effect,
    /// On which node of a cluster it runs.
    pub place: Place,
    /// The fields that it takes.
    pub fields: &'static [FieldSpec],
    /// The fields of its answer's data.
    pub answer_fields: &'static [OutputSpec],
    /// Whether it leaves audit records.
    pub is_audited: bool,
    /// In which namespaces it answers.
    pub answers_in: AnswersIn,
}

impl Node {
    /// Every endpoint of every mount, and those that answer in every state; a sealed node has only the latter.
    #[must_use]
    pub fn routes(&self) -> Vec<ListedRoute> {
        let mut listed: Vec<ListedRoute> = self.registry.always.iter().map(always).collect();
        let Some(unsealed) = self.unsealed() else { return listed };
        for mount in unsealed.handles.spaces.root().mounts.table().iter() {
            if let Some(engine) = unsealed.handles.spaces.root().mounts.engine(mount) {
                listed.extend(routes_of(&mount.record.path, &*engine, &self.settings.open_to_shareholders));
            }
        }
        listed
    }
}

fn always(route: &crate::AlwaysRoute) -> ListedRoute {
    let (operation, effect) = match route.verb {
        Verb::Read => (Operation::Read, Effect::Reads),
        Verb::List => (Operation::List, Effect::Reads),
        Verb::Scan => (Operation::Scan, Effect::Reads),
        Verb::Help => (Operation::Help, Effect::Reads),
        Verb::Write => (Operation::Update, Effect::Writes),
        Verb::Patch => (Operation::Patch, Effect::Writes),
        Verb::Delete => (Operation::Delete, Effect::Writes),
    };
    ListedRoute {
        mount: String::new(),
        kind: "always".to_owned(),
        pattern: route.path,
        operation,
        availability: Availability::Always,
        effect,
        place: route.place,
        fields: route.fields,
        answer_fields: route.answer_fields,
        is_audited: false,
        answers_in: AnswersIn::Root,
    }
}

fn routes_of(path: &str, engine: &dyn Mounted, open: &[Quorum]) -> Vec<ListedRoute> {
    let kind = engine.descriptor().kind;
    let every = engine.every_route();
    // Sorted, so that the order of definition means nothing.
    let mut sorted = BTreeMap::new();
    for route in every {
        for (operation, facts) in &*route.operations {
            let listed = ListedRoute {
                mount: path.to_owned(),
                kind: kind.to_owned(),
                pattern: route.pattern,
                operation: *operation,
                availability: Availability::Unsealed(facts.access.where_open(open)),
                effect: facts.effect,
                place: facts.place,
                fields: facts.fields,
                answer_fields: facts.answer.fields,
                is_audited: true,
                answers_in: route.answers_in,
            };
            sorted.insert((route.pattern, *operation), listed);
        }
    }
    sorted.into_values().collect()
}
