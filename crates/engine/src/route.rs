//! The route table of an engine: patterns, operations, and what each declares.
//!
//! Patterns are segments: a literal, `{name}` for one segment, or `{name...}` for the rest of the path (which keeps
//! its directory slash); one literal may follow the rest, as in `mounts/{path...:trimmed}/tune`. A literal beats a
//! parameter, a parameter beats the rest, and a rest with its literal beats a bare one.
//!
//! Where several spellings of a path name one thing, the route says so: `{name:folded}` is a name whose case and outer
//! blanks do not matter, `{name...:folded}` a rest of such names, `{path...:trimmed}` a rest whose outer slashes do not
//! matter, `{name...:trimmed:folded}` both, and a slash at the end of any other path means nothing. Parameters arrive canonical, and policies decide on the path rendered from them, so what is
//! authorized is what is touched (ACL-02, DR-02). Invariant: who may call, and whether it writes, are properties of
//! (route, operation), never of a second path pattern (ACL-09, DR-08).

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use tresor_env::BoxFuture;
use tresor_model::{Fault, Operation};
use tresor_wire::input::{FieldSpec, Fields, Input, PathParameters};

use crate::answer::{Answer, AnswerFacts, AnswerShape};
use crate::context::Cx;
use crate::place::{AnswersIn, Place};
use crate::reply::Reply;
use crate::spelling::{FOLDED, Spelling, TRIMMED, fold_name, rest_name};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Anybody; the answer is a token for those who prove who they are.
    Login,
    /// A valid token, whatever its policies; the handler answers about the caller only, or checks by itself.
    AnyToken,
    /// A token whose policies grant the operation on the path.
    Token,
    /// The same, about a wrapping token: the one that is named, or else the caller's. Who names none is told that.
    Wrapping,
    /// As with a token, with `sudo`.
    Sudo,
    /// The same, or anybody where the operator opened it to those who hold shares and perhaps no token.
    Shareholders(Quorum),
}

/// What enough of those who hold shares may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quorum {
    /// Change the shares.
    Rekey,
    /// Make a root token.
    GenerateRoot,
}

impl Access {
    /// Whether policies must grant `sudo` besides.
    #[must_use]
    pub const fn asks_for_sudo(self) -> bool {
        matches!(self, Self::Sudo | Self::Shareholders(_))
    }

    /// Who may call where the operator opened these.
    #[must_use]
    pub fn where_open(self, open: &[Quorum]) -> Self {
        match self {
            Self::Shareholders(quorum) if open.contains(&quorum) => Self::Public,
            Self::Shareholders(_) => Self::Sudo,
            other => other,
        }
    }
}

/// What an operation does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads only.
    Reads,
    /// May write.
    Writes,
}

/// What one operation of one route declares.
#[derive(Clone, Copy, Debug)]
pub struct OperationFacts {
    /// Who may call it.
    pub access: Access,
    /// What it does to the store.
    pub effect: Effect,
    /// On which node it runs.
    pub place: Place,
    /// Its input fields.
    pub fields: &'static [FieldSpec],
    /// Its answer.
    pub answer: AnswerFacts,
}

/// What one route declares.
#[derive(Debug)]
pub struct RouteFacts {
    /// The pattern.
    pub pattern: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Its operations; shared with every request to it.
    pub operations: Arc<BTreeMap<Operation, OperationFacts>>,
    /// Whether writes are told apart into create and update by an existence check.
    pub tells_create: bool,
    /// The pattern that policies decide by, when this one is an older spelling of it.
    pub decided_as: Option<&'static str>,
    /// In which namespaces it answers.
    pub answers_in: AnswersIn,
    /// Whether it is how an operator mends auditing: its records may use what is kept free for them when the local
    /// audit log is full.
    pub mends_audit: bool,
}

impl RouteFacts {
    /// The pattern as people read it: without the word on how a parameter is spelled.
    #[must_use]
    pub fn shown_pattern(&self) -> String {
        self.pattern.replace(FOLDED, "}").replace(TRIMMED, "...}")
    }
}

/// A route found for a path, with the values of its parameters.
#[derive(Debug)]
pub struct Match {
    /// Which route.
    pub route: usize,
    /// Parameters by name.
    pub parameters: PathParameters,
    /// The one spelling of the path below the mount: the pattern with its parameters.
    pub canonical: String,
    /// Whether names in it are folded, so that policies must not tell their case apart.
    pub is_folded: bool,
}

/// An async handler; implemented for every matching `async fn`.
pub trait Handler<'a, E: 'a, In>: Send + Sync {
    /// What it gives back, declared by its type.
    type Answer: Answer;
    /// The future that the handler returns.
    type Future: Future<Output = Result<Self::Answer, Fault>> + Send + 'a;
    /// Calls the handler.
    fn call(&self, engine: &'a E, cx: Cx<'a>, input: In) -> Self::Future;
}

impl<'a, E: 'a, In, R, F, Fut> Handler<'a, E, In> for F
where
    F: Fn(&'a E, Cx<'a>, In) -> Fut + Send + Sync,
    Fut: Future<Output = Result<R, Fault>> + Send + 'a,
    R: Answer,
{
    type Answer = R;
    type Future = Fut;

    fn call(&self, engine: &'a E, cx: Cx<'a>, input: In) -> Fut {
        self(engine, cx, input)
    }
}

type Invoke<E> = Box<dyn for<'a> Fn(&'a E, Cx<'a>, Fields) -> BoxFuture<'a, Result<Reply, Fault>> + Send + Sync>;
type Exists<E> = Box<dyn for<'a> Fn(&'a E, Cx<'a>, &PathParameters) -> Result<bool, Fault> + Send + Sync>;

struct Route<E> {
    facts: RouteFacts,
    handlers: BTreeMap<Operation, Invoke<E>>,
    exists: Option<Exists<E>>,
}

#[derive(Default)]
struct Branch {
    /// Whether the parameter that leads here is folded.
    is_folded: bool,
    literals: BTreeMap<&'static str, Branch>,
    parameter: Option<(&'static str, Box<Branch>)>,
    rest: Option<Rest>,
    route: Option<usize>,
}

impl Branch {
    fn untouched(&self) -> bool {
        self.literals.is_empty() && self.parameter.is_none() && self.rest.is_none() && self.route.is_none()
    }
}

struct Rest {
    name: &'static str,
    spelling: Spelling,
    bare: Option<usize>,
    suffixes: BTreeMap<&'static str, usize>,
}

/// The routes of an engine `E`.
pub struct Routes<E> {
    routes: Vec<Route<E>>,
    root: Branch,
}

impl<E: Send + Sync + 'static> Default for Routes<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Send + Sync + 'static> Routes<E> {
    /// A table without routes.
    #[must_use]
    pub fn new() -> Self {
        Self { routes: Vec::new(), root: Branch::default() }
    }

    /// Opens a route; its operations follow. Routes open to [`Access::Token`] until said otherwise.
    ///
    /// # Panics
    /// When two routes have the same pattern or a parameter has two names at one place: a mistake of the engine's
    /// author that the first test of the engine shows.
    #[must_use]
    pub fn at(mut self, pattern: &'static str, summary: &'static str) -> RouteBuilder<E> {
        let index = self.routes.len();
        insert(&mut self.root, pattern, pattern, index);
        self.routes.push(Route {
            facts: RouteFacts {
                pattern,
                summary,
                operations: Arc::default(),
                tells_create: false,
                decided_as: None,
                answers_in: AnswersIn::Every,
                mends_audit: false,
            },
            handlers: BTreeMap::new(),
            exists: None,
        });
        RouteBuilder { routes: self, access: Access::Token, place: None }
    }

    /// Every route's declaration, in order of definition; a [`Match`] names them by index.
    pub fn facts(&self) -> impl Iterator<Item = &RouteFacts> {
        self.routes.iter().map(|route| &route.facts)
    }

    /// The route that a path below the mount leads to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Match> {
        let mut parameters = BTreeMap::new();
        let route = walk(&self.root, path, &mut parameters)?;
        let pattern = self.route(route).map_or("", |facts| facts.pattern);
        let decided_as = self.route(route).and_then(|facts| facts.decided_as).unwrap_or(pattern);
        let canonical = render(decided_as, &parameters);
        Some(Match { route, parameters, canonical, is_folded: pattern.contains(FOLDED) })
    }

    /// The declaration of a found route.
    #[must_use]
    pub fn route(&self, index: usize) -> Option<&RouteFacts> {
        self.routes.get(index).map(|route| &route.facts)
    }

    pub(crate) fn exists(
        &self,
        index: usize,
        engine: &E,
        cx: Cx<'_>,
        parameters: &PathParameters,
    ) -> Result<bool, Fault> {
        match self.routes.get(index).and_then(|route| route.exists.as_ref()) {
            Some(exists) => exists(engine, cx, parameters),
            None => Ok(true),
        }
    }

    pub(crate) fn invoke<'a>(
        &'a self,
        index: usize,
        operation: Operation,
        engine: &'a E,
        cx: Cx<'a>,
        fields: Fields,
    ) -> Option<BoxFuture<'a, Result<Reply, Fault>>> {
        let handlers = &self.routes.get(index)?.handlers;
        Some(handlers.get(&operation)?(engine, cx, fields))
    }
}

/// A pattern with the values of its parameters.
fn render(pattern: &str, parameters: &BTreeMap<&'static str, String>) -> String {
    let segments = pattern.split('/').map(|segment| {
        let inner = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        let name = inner.and_then(|inner| inner.split([':', '.']).next());
        name.and_then(|name| parameters.get(name)).map_or(segment, String::as_str)
    });
    segments.collect::<Vec<_>>().join("/")
}

fn insert(branch: &mut Branch, rest: &'static str, pattern: &'static str, index: usize) {
    let (segment, deeper) = match rest.split_once('/') {
        Some((segment, deeper)) => (segment, Some(deeper)),
        None => (rest, None),
    };
    if let Some((name, spelling)) = rest_name(segment) {
        let rest = branch.rest.get_or_insert_with(|| Rest { name, spelling, bare: None, suffixes: BTreeMap::new() });
        assert!(rest.name == name, "route `{pattern}`: `{name}` is called `{}` elsewhere", rest.name);
        assert!(rest.spelling == spelling, "route `{pattern}`: `{name}` is spelled otherwise elsewhere");
        let before = match deeper {
            None => rest.bare.replace(index),
            Some(suffix) => rest.suffixes.insert(suffix, index),
        };
        assert!(before.is_none(), "route `{pattern}` is defined twice");
        return;
    }
    let next = if segment.is_empty() {
        &mut *branch
    } else if let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        let (name, is_folded) = inner.strip_suffix(":folded").map_or((inner, false), |name| (name, true));
        let (known, next) = branch.parameter.get_or_insert_with(|| (name, Box::default()));
        assert!(*known == name, "route `{pattern}`: `{name}` is called `{known}` elsewhere");
        assert!(
            !is_folded || next.untouched() || next.is_folded,
            "route `{pattern}`: `{name}` is not folded elsewhere"
        );
        next.is_folded = is_folded;
        &mut **next
    } else {
        branch.literals.entry(segment).or_default()
    };
    if let Some(deeper) = deeper {
        insert(next, deeper, pattern, index);
    } else {
        assert!(next.route.is_none(), "route `{pattern}` is defined twice");
        next.route = Some(index);
    }
}

fn walk(branch: &Branch, path: &str, parameters: &mut BTreeMap<&'static str, String>) -> Option<usize> {
    if path.is_empty()
        && let Some(route) = branch.route
    {
        return Some(route);
    }
    if !path.is_empty() {
        let (segment, deeper) = path.split_once('/').unwrap_or((path, ""));
        if let Some(next) = branch.literals.get(segment)
            && let Some(found) = walk(next, deeper, parameters)
        {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some((name, next)) = &branch.parameter
            && let Some(found) = walk(next, deeper, parameters)
        {
            let value = if next.is_folded { fold_name(segment) } else { segment.to_owned() };
            parameters.insert(name, value);
            return Some(found);
        }
    }
    let rest = branch.rest.as_ref()?;
    let suffixed =
        path.strip_suffix('/').unwrap_or(path).rsplit_once('/').and_then(|(head, suffix)| {
            rest.suffixes.get(suffix).filter(|_| !head.is_empty()).map(|route| (head, *route))
        });
    let (value, route) = suffixed.or_else(|| rest.bare.map(|route| (path, route)))?;
    parameters.insert(rest.name, rest.spelling.of(value));
    Some(route)
}

/// Adds operations to the route that was opened last.
pub struct RouteBuilder<E> {
    routes: Routes<E>,
    access: Access,
    place: Option<Place>,
}

impl<E: Send + Sync + 'static> RouteBuilder<E> {
    /// Who may call the operations that follow.
    #[must_use]
    pub fn open_to(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// On which node the operations that follow run, where that does not follow from what they do to the store.
    #[must_use]
    pub fn runs_on(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Answers GET.
    #[must_use]
    pub fn read<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Read, Effect::Reads, handler)
    }

    /// Answers GET by making something: credentials that are made when they are asked for.
    #[must_use]
    pub fn generate<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Read, Effect::Writes, handler)
    }

    /// Answers LIST.
    #[must_use]
    pub fn list<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::List, Effect::Reads, handler)
    }

    /// Answers SCAN: every name below, at any depth.
    #[must_use]
    pub fn scan<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Scan, Effect::Reads, handler)
    }

    /// Answers POST and PUT; without [`RouteBuilder::exists`] every write is an update.
    #[must_use]
    pub fn write<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + Clone + 'static,
    {
        self.operation(Operation::Create, Effect::Writes, handler.clone()).operation(
            Operation::Update,
            Effect::Writes,
            handler,
        )
    }

    /// Answers POST and PUT of something that only reads, such as a look-up whose input is a secret.
    #[must_use]
    pub fn ask<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Update, Effect::Reads, handler)
    }

    /// Answers PATCH.
    #[must_use]
    pub fn patch<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Patch, Effect::Writes, handler)
    }

    /// Answers DELETE.
    #[must_use]
    pub fn delete<In, H>(self, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        self.operation(Operation::Delete, Effect::Writes, handler)
    }

    /// Tells creating from updating for this route's writes, by the path alone.
    #[must_use]
    pub fn exists(
        mut self,
        check: impl for<'a> Fn(&'a E, Cx<'a>, &PathParameters) -> Result<bool, Fault> + Send + Sync + 'static,
    ) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.exists = Some(Box::new(check));
            route.facts.tells_create = true;
        }
        self
    }

    /// Says that this route is about the whole server, and answers in the root namespace only (NS-14).
    #[must_use]
    pub fn in_root(mut self) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.facts.answers_in = AnswersIn::Root;
        }
        self
    }

    /// Says that this route is about the keys of the root namespace, or of one that has a seal of its own, and answers there.
    #[must_use]
    pub fn in_sealable(mut self) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.facts.answers_in = AnswersIn::Sealable;
        }
        self
    }

    /// Says the same of a route that also answers in the namespace that administrates the server, where one does.
    #[must_use]
    pub fn in_administration(mut self) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.facts.answers_in = AnswersIn::Administration;
        }
        self
    }

    /// Says that this route is an older spelling of another pattern, with the same parameters: policies decide on that
    /// one, so that neither opens what the other closes (NS-03).
    #[must_use]
    pub fn decided_as(mut self, pattern: &'static str) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.facts.decided_as = Some(pattern);
        }
        self
    }

    /// Lets this route's records use what the local audit log keeps free.
    #[must_use]
    pub fn mends_audit(mut self) -> Self {
        if let Some(route) = self.routes.routes.last_mut() {
            route.facts.mends_audit = true;
        }
        self
    }

    /// Opens the next route.
    #[must_use]
    pub fn at(self, pattern: &'static str, summary: &'static str) -> Self {
        self.routes.at(pattern, summary)
    }

    /// The finished table.
    #[must_use]
    pub fn done(self) -> Routes<E> {
        self.routes
    }

    fn operation<In, H>(mut self, operation: Operation, effect: Effect, handler: H) -> Self
    where
        In: Input + Send + 'static,
        H: for<'a> Handler<'a, E, In> + 'static,
    {
        let answer = <H as Handler<'static, E, In>>::Answer::FACTS;
        // A token that is made or renewed is a write.
        assert!(answer.shape != AnswerShape::Token || effect == Effect::Writes, "a token comes out of what only reads");
        assert!(!answer.leases || effect == Effect::Writes, "a lease comes out of what only reads");
        assert!(!answer.acts || effect == Effect::Writes, "something is done outside by what only reads");
        let place = self.place.unwrap_or(Place::of(effect));
        let facts = OperationFacts { access: self.access, effect, place, fields: In::SPEC, answer };
        let typed = Typed { handler, input: PhantomData::<fn() -> In> };
        if let Some(route) = self.routes.routes.last_mut() {
            Arc::make_mut(&mut route.facts.operations).insert(operation, facts);
            route
                .handlers
                .insert(operation, Box::new(move |engine, cx, fields| typed.decode_and_call(engine, cx, fields)));
        }
        self
    }
}

struct Typed<H, In> {
    handler: H,
    input: PhantomData<fn() -> In>,
}

impl<H, In: Input + Send + 'static> Typed<H, In> {
    fn decode_and_call<'a, E: Send + Sync + 'a>(
        &self,
        engine: &'a E,
        cx: Cx<'a>,
        fields: Fields,
    ) -> BoxFuture<'a, Result<Reply, Fault>>
    where
        H: Handler<'a, E, In>,
    {
        let in_path: Vec<&'static str> = fields.path.keys().copied().collect();
        match In::decode(fields) {
            Err(error) => Box::pin(std::future::ready(Err(Fault::invalid(error.to_string())))),
            Ok((input, unrecognized)) => {
                let answer = self.handler.call(engine, cx, input);
                Box::pin(async move {
                    let mut reply = answer.await?.into_reply();
                    if reply.says_something() {
                        reply.warnings.extend(unrecognized_warnings(&in_path, &unrecognized));
                    }
                    Ok(reply)
                })
            }
        }
    }
}

/// What callers are told of fields that nobody took; those that the path names too were not ignored but replaced.
fn unrecognized_warnings(in_path: &[&'static str], unrecognized: &[String]) -> Vec<String> {
    let (replaced, ignored): (Vec<&str>, Vec<&str>) =
        unrecognized.iter().map(String::as_str).partition(|name| in_path.contains(name));
    let warning = |text: &str, names: &[&str]| (!names.is_empty()).then(|| format!("{text}: [{}]", names.join(" ")));
    warning("Endpoint ignored these unrecognized parameters", &ignored)
        .into_iter()
        .chain(warning(
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path",
            &replaced,
        ))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn table() -> Routes<()> {
        Routes::<()>::new()
            .at("config", "")
            .at("users", "")
            .at("users/{name:folded}", "")
            .at("users/{name:folded}/password", "")
            .at("data/{path...}", "")
            .at("mounts/{path...:trimmed}", "")
            .at("mounts/{path...:trimmed}/tune", "")
            .at("sets/{name...:folded}", "")
            .at("sets/{name...:folded}/lend", "")
            .done()
    }

    fn pattern_of(path: &str) -> Option<(&'static str, BTreeMap<&'static str, String>)> {
        let routes = table();
        let found = routes.find(path)?;
        Some((routes.route(found.route)?.pattern, found.parameters))
    }

    #[test]
    fn acl_02_every_spelling_of_a_path_has_one_canonical_form() {
        for (canonical, spellings) in [
            ("users/bob", ["users/bob", "users/BOB", "users/ Bob ", "users/bob/"].as_slice()),
            ("users/bob/password", &["users/bob/password", "users/ BoB/password/"]),
            ("config", &["config", "config/"]),
            ("mounts/a/b", &["mounts/a/b", "mounts//a/b", "mounts/a/b/", "mounts//a/b//"]),
            ("mounts/a/tune", &["mounts/a/tune", "mounts//a//tune", "mounts/a/tune/"]),
            ("data/", &["data", "data/"]),
            ("sets/a/b", &["sets/a/b", "sets/A/ b "]),
            ("sets/a/b/lend", &["sets/a/b/lend", "sets/ A/B/lend/"]),
        ] {
            for spelling in spellings {
                assert_eq!(table().find(spelling).unwrap().canonical, canonical, "{spelling}");
            }
        }
        // Where the end of a path is a name of its own, its slashes are part of it.
        for own in ["data/a", "data/a/", "data//a", "data/A", "data/a//b"] {
            assert_eq!(table().find(own).unwrap().canonical, own);
        }
        assert_ne!(table().find("sets/a/").unwrap().canonical, table().find("sets/a").unwrap().canonical);
        assert!(table().find("users/bob").unwrap().is_folded && table().find("sets/a").unwrap().is_folded);
        assert!(!table().find("config").unwrap().is_folded);
    }

    #[test]
    fn a_literal_beats_a_parameter_and_a_parameter_beats_the_rest() {
        assert_eq!(pattern_of("config").unwrap().0, "config");
        assert_eq!(pattern_of("users/").unwrap().0, "users");
        assert_eq!(pattern_of("users/bob").unwrap().1["name"], "bob");
        assert_eq!(pattern_of("users/bob/password").unwrap().0, "users/{name:folded}/password");
        assert_eq!(pattern_of("users/ BOB").unwrap().1["name"], "bob");
        assert_eq!(pattern_of("data/a/b/").unwrap().1["path"], "a/b/");
        assert_eq!(pattern_of("data/a//b").unwrap().1["path"], "a//b");
        assert_eq!(pattern_of("data").unwrap().1["path"], "");
        assert_eq!(pattern_of("mounts/a/b/tune").unwrap().0, "mounts/{path...:trimmed}/tune");
        assert_eq!(pattern_of("mounts/a/b/tune").unwrap().1["path"], "a/b");
        assert_eq!(pattern_of("mounts/tune").unwrap().0, "mounts/{path...:trimmed}");
        assert!(pattern_of("users//password").is_none());
        assert!(pattern_of("nothing").is_none());
    }
}
