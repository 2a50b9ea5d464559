//! Step 4: where does the path lead?
//!
//! A path that leads nowhere goes on to the token check all the same: whoever has no valid token, or none whose
//! policies cover the path, learns nothing about what exists (LST-03).

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_engine::{Access, AnswersIn, Mounted, OperationFacts};
use tresor_model::{Operation, Refusal, Request, Verb};

use crate::mounts::record::StoredClass;
use crate::mounts::{Behind, Mount, PolicyPath};
use crate::namespaces::{Resolved, Space};
use crate::settings::Settings;
use crate::unsealed::Unsealed;

/// Where a path leads.
pub(crate) struct Routed {
    /// The namespace.
    pub(crate) space: Arc<Space>,
    /// The path that policies decide on.
    pub(crate) policy_path: PolicyPath,
    /// The mount, when there is one.
    pub(crate) mount: Option<Arc<Mount>>,
    /// The route, or why there is none.
    pub(crate) target: Result<Target, Refusal>,
    settings: Arc<Settings>,
}

/// The route that was found.
pub(crate) struct Target {
    pub(crate) engine: Arc<dyn Mounted>,
    pub(crate) route: usize,
    pub(crate) parameters: BTreeMap<&'static str, String>,
    /// What is left of the path below the mount.
    pub(crate) relative: String,
    /// The one spelling of it; `None` for a path that the engine only has a hint for.
    canonical: Option<String>,
    is_folded: bool,
    pub(crate) operations: Arc<BTreeMap<Operation, OperationFacts>>,
    pub(crate) tells_create: bool,
    pub(crate) mends_audit: bool,
}

impl Routed {
    /// What requests to this path are likely to conflict over: the path, or for the server's own tables, the mount.
    pub(crate) fn contended(&self) -> &str {
        match &self.mount {
            Some(mount) if mount.record.class == StoredClass::System => mount.record.id.as_str(),
            _ => &self.policy_path.text,
        }
    }

    /// Who may call what the verb asks for: without a route, only those whose policies cover the path.
    pub(crate) fn access(&self, verb: Verb) -> Access {
        let Ok(target) = &self.target else { return Access::Token };
        operation_candidates(verb)
            .iter()
            .find_map(|operation| target.operations.get(operation))
            .map_or(Access::Token, |facts| facts.access.where_open(&self.settings.open_to_shareholders))
    }
}

impl Routed {
    /// What traces say of a request to it: the mount's path and kind, and what is done.
    pub(crate) fn about(&self, verb: Verb) -> (String, String, &'static str) {
        let (path, kind) = self
            .mount
            .as_ref()
            .map_or_else(Default::default, |mount| (mount.record.path.clone(), mount.record.kind.clone()));
        let operation = operation_candidates(verb).first().copied().unwrap_or(Operation::Read);
        (path, kind, operation.name())
    }
}

/// The operations that a verb may turn out to be; the last one when nothing tells them apart.
pub(crate) const fn operation_candidates(verb: Verb) -> &'static [Operation] {
    match verb {
        Verb::Read => &[Operation::Read],
        Verb::List => &[Operation::List],
        Verb::Scan => &[Operation::Scan],
        Verb::Write => &[Operation::Update, Operation::Create],
        Verb::Patch => &[Operation::Patch],
        Verb::Delete => &[Operation::Delete],
        Verb::Help => &[Operation::Help],
    }
}

pub(super) fn route(unsealed: &Unsealed, goes_to: &Resolved, request: &Request) -> Routed {
    let (space, settings) = (Arc::clone(&goes_to.space), Arc::clone(&unsealed.handles.settings));
    let table = space.mounts.table();
    let asked = match request.verb {
        // LIST and SCAN always ask of a directory.
        verb if verb.is_of_directory() => request.path.clone().into_directory(),
        _ => request.path.clone(),
    };
    let nowhere = || Refusal::NoRoute(request.path.as_str().to_owned());
    let directory = |found: PolicyPath| if request.verb.is_of_directory() { found.into_directory() } else { found };
    // What was meant for a namespace that is missing is meant for none of these mounts.
    let found = if goes_to.is_missing { None } else { table.find(asked.as_str()) };
    let Some((mount, relative)) = found else {
        let policy_path = directory(PolicyPath::as_sent(asked.as_str()));
        return Routed { space, policy_path, mount: None, target: Err(nowhere()), settings };
    };
    let mount = Arc::clone(mount);
    let relative = mount.asked(relative, request.verb.is_of_directory());
    let target = engine(&space, &mount, nowhere)
        .and_then(|engine| target(engine, relative.to_owned(), request.verb, |there| settings.answers(there, &space)));
    let policy_path = match &target {
        Ok(Target { canonical: Some(canonical), is_folded, .. }) => PolicyPath::found(&mount, canonical, *is_folded),
        _ => PolicyPath::as_sent(asked.as_str()),
    };
    Routed { space, policy_path: directory(policy_path), mount: Some(mount), target, settings }
}

fn engine(space: &Space, mount: &Mount, nowhere: impl Fn() -> Refusal) -> Result<Arc<dyn Mounted>, Refusal> {
    match &mount.engine {
        Behind::Quarantined(reason) => {
            Err(Refusal::Unavailable(format!("mount {:?} could not be loaded: {reason}", mount.record.path).into()))
        }
        Behind::Moving => Err(Refusal::Unavailable(
            format!("mount {:?} is being moved to another namespace", mount.record.path).into(),
        )),
        Behind::Engine(_) | Behind::Server => space.mounts.engine(mount).ok_or_else(nowhere),
    }
}

fn target(
    engine: Arc<dyn Mounted>,
    relative: String,
    verb: Verb,
    answers: impl Fn(AnswersIn) -> bool,
) -> Result<Target, Refusal> {
    // Help on the mount itself is about the engine.
    let is_about_the_engine = verb == Verb::Help && relative.is_empty();
    let found = engine.find(&relative).filter(|_| !is_about_the_engine);
    let facts = found.as_ref().and_then(|found| engine.route(found.route));
    if let Some(there) = facts.map(|facts| facts.answers_in).filter(|there| !answers(*there)) {
        return Err(Refusal::Invalid(match there {
            AnswersIn::Sealable => "namespace is not sealable".into(),
            _ => "operation only available in root namespace".into(),
        }));
    }
    let operations = facts.map(|facts| Arc::clone(&facts.operations)).unwrap_or_default();
    let tells_create = facts.is_some_and(|facts| facts.tells_create);
    let mends_audit = facts.is_some_and(|facts| facts.mends_audit);
    // The engine may have a hint for a path that is none of its routes; execution asks it.
    let asked = operation_candidates(verb).first().copied().unwrap_or(Operation::Read);
    let is_hinted = || verb != Verb::Help && engine.hint(&relative, asked).is_some();
    let (route, parameters, canonical, is_folded) = match found {
        Some(found) => (found.route, found.parameters, Some(found.canonical), found.is_folded),
        None if is_about_the_engine || is_hinted() => (usize::MAX, BTreeMap::new(), None, false),
        None => return Err(Refusal::Absent("unsupported path".into())),
    };
    Ok(Target { engine, route, parameters, relative, canonical, is_folded, operations, tells_create, mends_audit })
}
