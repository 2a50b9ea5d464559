//! An engine as its author writes it ([`Engine`]) and as the core holds it ([`Mounted`]).
//!
//! Deliberately absent: run-time plug-in loading, and any registry by side effect: the list of engines is a value
//! that the assembly hands to the node.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tresor_env::BoxFuture;
use tresor_model::{Fault, Map, Operation};
use tresor_secret::SecretString;
use tresor_wire::input::{Fields, PathParameters};

use crate::answer::{Answer, Nothing};
use crate::context::{Cx, MountFacts};
use crate::headers::HeaderUse;
use crate::holding::Holding;
use crate::outside::Outside;
use crate::reply::{Leased, Reply, TokenTerms};
use crate::route::{Match, RouteFacts, Routes};
use crate::view::{Point, View};

/// What kind of mount an engine makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A secrets engine.
    Secret,
    /// An auth method, mounted below `auth/`.
    Auth,
    /// A part of the server itself; never mounted by clients.
    System,
}

/// What an engine says of itself.
#[derive(Debug)]
pub struct Descriptor {
    /// Its type on the wire, such as `kv`.
    pub kind: &'static str,
    /// What kind of mount it makes.
    pub class: Class,
    /// One line of help.
    pub summary: &'static str,
}

/// Whose token is renewed.
pub struct Holder<'t> {
    /// What the login noted of the holder.
    pub metadata: &'t BTreeMap<String, String>,
    /// The policies of the token.
    pub policies: &'t [String],
    /// What the login kept to ask again with.
    pub kept: Option<&'t SecretString>,
}

/// The role that a login is about, whether or not it will succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRole {
    /// The method has no roles.
    Unsupported,
    /// It names none that there is.
    None,
    /// This one.
    Named(String),
}

impl Holder<'_> {
    /// Whether these are the token's policies, but for `default`.
    #[must_use]
    pub fn has(&self, policies: &[String]) -> bool {
        let sorted = |policies: &[String]| {
            let mut sorted: Vec<String> = policies.iter().filter(|name| *name != "default").cloned().collect();
            sorted.sort_unstable();
            sorted.dedup();
            sorted
        };
        sorted(self.policies) == sorted(policies)
    }
}

/// What an engine's author writes. Handlers are in the routes.
pub trait Engine: Send + Sync + Sized + 'static {
    /// Whether it has to do with headers: without that it is handed none and sets none, whatever its mount lets through.
    const HEADERS: HeaderUse = HeaderUse { reads: false, sets: false };

    /// What it is.
    fn descriptor() -> &'static Descriptor;

    /// Its routes: the same for every mount.
    fn routes() -> Routes<Self>;

    /// What to say of a path that no route matches, where clients are known to go wrong: it comes with the 404.
    fn hint(&self, _path: &str, _operation: Operation) -> Option<&'static str> {
        None
    }

    /// The name that whoever logs in claims, folded as the login folds it; `None` where there is nothing to guess.
    fn claimant(&self, _parameters: &PathParameters, _body: &Map) -> Option<String> {
        None
    }

    /// The role that a login is about, where this method has roles that quotas can be on.
    ///
    /// # Errors
    /// What the store says.
    fn login_role(&self, _view: &mut View<'_>, _parameters: &PathParameters, _body: &Map) -> Result<LoginRole, Fault> {
        Ok(LoginRole::Unsupported)
    }

    /// The role that a login was about, by what it noted of the holder; `None` where this method has no roles.
    fn holder_role<'m>(&self, _metadata: &'m BTreeMap<String, String>) -> Option<&'m str> {
        None
    }

    /// What a token of this mount is to be like from its renewal on, by what the login noted of its holder: as the role or
    /// user is now. `None`: as it was made. Refuses where the role or user is gone, or leads to other policies.
    fn renewal<'a>(
        &'a self,
        _cx: Cx<'a>,
        _holder: Holder<'a>,
    ) -> impl Future<Output = Result<Option<TokenTerms>, Fault>> + Send + 'a {
        std::future::ready(Ok(None))
    }

    /// Prepares the data of a fresh mount, within the transaction that creates it.
    ///
    /// # Errors
    /// A refusal keeps the mount from being made.
    fn prepare(&self, _cx: &mut Cx<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// The points that hang on a listed record: they are wiped with it when the mount
    /// is removed. An engine without points need not say so.
    ///
    /// # Errors
    /// What the store says.
    fn points(&self, _view: &mut View<'_>, _record: &str) -> Result<Vec<Point>, Fault> {
        Ok(Vec::new())
    }

    /// What it keeps, for reports of how much there is.
    fn holds(&self) -> &'static [Holding] {
        &[]
    }

    /// Where below the mount clients find what rotates by itself under a name that it set a time for; `None` where nothing does.
    ///
    /// # Errors
    /// What the store says.
    fn rotates_at(&self, _view: &mut View<'_>, _name: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    /// Takes over a record of the mount as it was before, when its data had another shape: what it says is to be found by
    /// this engine from then on.
    ///
    /// # Errors
    /// What the store says, or that the record is damaged.
    fn adopt(&self, _cx: &mut Cx<'_>, _name: &str, _value: &[u8]) -> Result<(), Fault> {
        Err(Fault::internal("this engine takes nothing over"))
    }

    /// Agrees to another life of what it handed out, from now on, or refuses. Without one it agrees that what it agreed to
    /// before holds, and asks nobody outside: most renewals find that the end there is will do. Called by the server; no
    /// request can name it.
    fn renew<'a>(
        &'a self,
        _cx: Cx<'a>,
        _lease: Leased<'a>,
        _ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), Fault>> + Send + 'a {
        std::future::ready(Ok(()))
    }

    /// Takes back what it handed out, by the recipe alone; what is gone already is taken back. A failure is tried
    /// again. Called by the server; no request can name it. What it writes stands together with the end of the lease.
    fn revoke<'a>(&'a self, _cx: Cx<'a>, _lease: Leased<'a>) -> impl Future<Output = Result<(), Fault>> + Send + 'a {
        std::future::ready(Err(Fault::internal("this engine hands nothing out")))
    }

    /// Lets go of what it keeps for the sake of what it handed out, which is forgotten by order: nobody will ask it to take
    /// that back. It asks nobody outside, where all of it may still be. What it writes stands together with the end of the
    /// lease, which a failure does not put off. Called by the server; no request can name it.
    ///
    /// # Errors
    /// What the store says.
    fn abandon(&self, _view: &mut View<'_>, _lease: Leased<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// Does what is due for a name that it set a time for ([`View::wake`]), on the node that leads. The time is over, and
    /// what this writes stands together with that. Where it plans something outside, it is called again after a while
    /// unless settling (or the note of a failure) sets another time or none: so what a crash left half done is done. A
    /// failure is tried again, later each time. Called by the server; no request can name it.
    fn awake<'a>(
        &'a self,
        _cx: Cx<'a>,
        _name: &'a str,
    ) -> impl Future<Output = Result<Outside<Nothing>, Fault>> + Send + 'a {
        std::future::ready(Ok(Outside::done(Nothing)))
    }
}

/// An engine as the core holds it: the type is gone, the declarations stay.
pub trait Mounted: Send + Sync {
    /// What it is.
    fn descriptor(&self) -> &'static Descriptor;
    /// Whether it has to do with headers.
    fn header_use(&self) -> HeaderUse;
    /// The route that a path below the mount leads to.
    fn find(&self, path: &str) -> Option<Match>;
    /// The declaration of a found route.
    fn route(&self, index: usize) -> Option<&RouteFacts>;
    /// All declarations.
    fn every_route(&self) -> Vec<&RouteFacts>;
    /// Whether what a write addresses is there already.
    ///
    /// # Errors
    /// What the engine or the store says.
    fn exists(&self, index: usize, cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault>;
    /// Calls the handler; `None` when the route has no such operation.
    fn invoke<'a>(
        &'a self,
        index: usize,
        operation: Operation,
        cx: Cx<'a>,
        fields: Fields,
    ) -> Option<BoxFuture<'a, Result<Reply, Fault>>>;
    /// What to say of a path that no route matches.
    fn hint(&self, path: &str, operation: Operation) -> Option<&'static str>;
    /// The name that whoever logs in claims.
    fn claimant(&self, parameters: &PathParameters, body: &Map) -> Option<String>;
    /// The role that a login is about.
    ///
    /// # Errors
    /// What the engine or the store says.
    fn login_role(&self, view: &mut View<'_>, parameters: &PathParameters, body: &Map) -> Result<LoginRole, Fault>;
    /// The role that a login was about, by what it noted.
    fn holder_role<'m>(&self, metadata: &'m BTreeMap<String, String>) -> Option<&'m str>;
    /// What a token of this mount is to be like from its renewal on.
    fn renewal<'a>(&'a self, cx: Cx<'a>, holder: Holder<'a>) -> BoxFuture<'a, Result<Option<TokenTerms>, Fault>>;
    /// Prepares the data of a fresh mount.
    ///
    /// # Errors
    /// What the engine or the store says.
    fn prepare(&self, cx: &mut Cx<'_>) -> Result<(), Fault>;
    /// The points that hang on a listed record.
    ///
    /// # Errors
    /// What the store says.
    fn points(&self, view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault>;
    /// What it keeps.
    fn holds(&self) -> &'static [Holding];
    /// Where below the mount clients find what rotates by itself under a name.
    ///
    /// # Errors
    /// What the store says.
    fn rotates_at(&self, view: &mut View<'_>, name: &str) -> Result<Option<String>, Fault>;
    /// Takes over a record of the mount as it was before.
    ///
    /// # Errors
    /// What the store says, or that the record is damaged.
    fn adopt(&self, cx: &mut Cx<'_>, name: &str, value: &[u8]) -> Result<(), Fault>;
    /// Asks the engine to agree to another life of what it handed out, or that the one it has still holds.
    fn renew<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), Fault>>;
    /// Asks the engine to take back what it handed out.
    fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> BoxFuture<'a, Result<(), Fault>>;
    /// Tells the engine that what it handed out is forgotten by order.
    ///
    /// # Errors
    /// What the store says.
    fn abandon(&self, view: &mut View<'_>, lease: Leased<'_>) -> Result<(), Fault>;
    /// Calls the engine for a name that it set a time for.
    fn awake<'a>(&'a self, cx: Cx<'a>, name: &'a str) -> BoxFuture<'a, Result<Reply, Fault>>;
}

/// An engine together with its routes.
pub struct Instance<E> {
    engine: E,
    routes: Arc<Routes<E>>,
}

impl<E: Engine> Instance<E> {
    /// Builds the routes and takes the type away: for what is mounted once.
    pub fn mount(engine: E) -> Arc<dyn Mounted> {
        Arc::new(Self { engine, routes: Arc::new(E::routes()) })
    }
}

/// A type of engine of which there may be very many mounts: they share one table of routes, made with the first.
pub struct Kind<E>(OnceLock<Arc<Routes<E>>>);

impl<E: Engine> Kind<E> {
    /// Before there is any mount.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Takes the type away.
    pub fn mount(&self, engine: E) -> Arc<dyn Mounted> {
        let routes = Arc::clone(self.0.get_or_init(|| Arc::new(E::routes())));
        Arc::new(Instance { engine, routes })
    }
}

impl<E: Engine> Default for Kind<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Engine> Mounted for Instance<E> {
    fn descriptor(&self) -> &'static Descriptor {
        E::descriptor()
    }

    fn header_use(&self) -> HeaderUse {
        E::HEADERS
    }

    fn find(&self, path: &str) -> Option<Match> {
        self.routes.find(path)
    }

    fn route(&self, index: usize) -> Option<&RouteFacts> {
        self.routes.route(index)
    }

    fn every_route(&self) -> Vec<&RouteFacts> {
        self.routes.facts().collect()
    }

    fn exists(&self, index: usize, cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
        self.routes.exists(index, &self.engine, cx, parameters)
    }

    fn invoke<'a>(
        &'a self,
        index: usize,
        operation: Operation,
        cx: Cx<'a>,
        fields: Fields,
    ) -> Option<BoxFuture<'a, Result<Reply, Fault>>> {
        self.routes.invoke(index, operation, &self.engine, cx, fields)
    }

    fn hint(&self, path: &str, operation: Operation) -> Option<&'static str> {
        self.engine.hint(path, operation)
    }

    fn claimant(&self, parameters: &PathParameters, body: &Map) -> Option<String> {
        self.engine.claimant(parameters, body)
    }

    fn login_role(&self, view: &mut View<'_>, parameters: &PathParameters, body: &Map) -> Result<LoginRole, Fault> {
        self.engine.login_role(view, parameters, body)
    }

    fn holder_role<'m>(&self, metadata: &'m BTreeMap<String, String>) -> Option<&'m str> {
        self.engine.holder_role(metadata)
    }

    fn renewal<'a>(&'a self, cx: Cx<'a>, holder: Holder<'a>) -> BoxFuture<'a, Result<Option<TokenTerms>, Fault>> {
        Box::pin(self.engine.renewal(cx, holder))
    }

    fn prepare(&self, cx: &mut Cx<'_>) -> Result<(), Fault> {
        self.engine.prepare(cx)
    }

    fn points(&self, view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault> {
        self.engine.points(view, record)
    }

    fn holds(&self) -> &'static [Holding] {
        self.engine.holds()
    }

    fn rotates_at(&self, view: &mut View<'_>, name: &str) -> Result<Option<String>, Fault> {
        self.engine.rotates_at(view, name)
    }

    fn adopt(&self, cx: &mut Cx<'_>, name: &str, value: &[u8]) -> Result<(), Fault> {
        self.engine.adopt(cx, name, value)
    }

    fn renew<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.engine.renew(cx, lease, ttl))
    }

    fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.engine.revoke(cx, lease))
    }

    fn abandon(&self, view: &mut View<'_>, lease: Leased<'_>) -> Result<(), Fault> {
        self.engine.abandon(view, lease)
    }

    fn awake<'a>(&'a self, cx: Cx<'a>, name: &'a str) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move { Ok(self.engine.awake(cx, name).await?.into_reply()) })
    }
}

/// How the core makes an instance for a mount: one per mountable type.
#[derive(Clone, Copy)]
pub struct EngineFactory {
    /// The type on the wire.
    pub kind: &'static str,
    /// What kind of mount it makes.
    pub class: Class,
    /// Makes the instance.
    ///
    /// # Errors
    /// A refusal when the mount's options make no sense.
    pub make: fn(&MountFacts) -> Result<Arc<dyn Mounted>, Fault>,
    /// Whether the data of a mount has to take another shape when the mount becomes what the second says.
    ///
    /// # Errors
    /// A refusal when it cannot become that.
    pub reshapes: fn(&MountFacts, &MountFacts) -> Result<bool, Fault>,
}

impl EngineFactory {
    /// For [`EngineFactory::reshapes`], where data has one shape.
    ///
    /// # Errors
    /// Never.
    pub const fn keeps_its_shape(_before: &MountFacts, _after: &MountFacts) -> Result<bool, Fault> {
        Ok(false)
    }
}
