//! `database`: accounts at database servers, made when they are asked for and gone when their lease ends; and accounts that
//! stay, whose passwords are rotated.
//!
//! What is done at a server is planned, done and settled by the engine's contract (`tresor_engine::outside`): a crash in the
//! middle leaves no account without a lease, and no password that nobody knows. A lease names the configuration that it was
//! made by; that one is kept, hidden, while it has accounts. Deliberately absent: plug-ins as processes.

mod access;
mod account;
mod certificate;
mod config;
mod connection;
mod creds;
mod influxdb;
mod mysql;
mod plugins;
mod pool;
mod postgresql;
mod redis;
mod roles;
mod root;
mod settings;
mod statements;
mod static_roles;
mod target;
#[cfg(test)]
mod testing;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub use plugins::names as plugin_names;
use tresor_engine::{
    Class, Cx, Descriptor, Engine, EngineFactory, Holding, Kind, Leased, MountFacts, Mounted, Nothing, Outside, Routes,
    View,
};
use tresor_env::{Clock, Net, Outgoing};
use tresor_model::Fault;

/// How to make a `database` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "database", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<Database> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(Database::default()))
}

/// The engine.
#[derive(Default)]
pub(crate) struct Database {
    targets: connection::Targets,
}

impl Engine for Database {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "database",
            class: Class::Secret,
            summary: "Makes accounts at databases under leases, and rotates passwords of accounts that stay.",
        }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "Lists the connections.")
            .list(config::list)
            .at("config/{name}", "Shows, writes or deletes a connection to a database server.")
            .read(config::read)
            .write(config::write)
            .delete(config::delete)
            .exists(config::exists)
            .at("reset/{name}", "Closes what is open to a server, and begins anew.")
            .write(config::reset)
            .at("reload/{plugin_name}", "Does the same for every connection of a kind of server.")
            .write(config::reload)
            .at(
                "rotate-root/{name}",
                "Gives the account that a connection uses a password that only this server knows.",
            )
            .write(root::rotate)
            .at("roles", "Lists the roles.")
            .list(roles::list)
            .at("roles/{name}", "Shows, writes or deletes a role: what accounts are made like.")
            .read(roles::read)
            .write(roles::write)
            .delete(roles::delete)
            .exists(roles::exists)
            .at("creds/{name}", "Makes an account by a role.")
            .generate(creds::make)
            .at("static-roles", "Lists the static roles.")
            .list(static_roles::list)
            .at("static-roles/{name}", "Shows, writes or deletes a static role: an account whose password is rotated.")
            .read(static_roles::read)
            .write(static_roles::write)
            .delete(static_roles::delete)
            .exists(static_roles::exists)
            .at("static-creds/{name}", "Shows the password of a static role's account.")
            .read(static_roles::creds)
            .at("rotate-role/{name}", "Rotates the password of a static role's account now.")
            .write(static_roles::rotate)
            .done()
    }

    async fn renew<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>, ttl: Option<Duration>) -> Result<(), Fault> {
        account::renew(self, cx, lease, ttl).await
    }

    async fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        account::revoke(self, cx, lease).await
    }

    fn abandon(&self, view: &mut View<'_>, lease: Leased<'_>) -> Result<(), Fault> {
        account::abandon(self, view, lease)
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[
            Holding::new("connections", "config/"),
            Holding::new("roles", "role/"),
            Holding::new("static_roles", "static-role/"),
        ];
        HELD
    }

    fn rotates_at(&self, _view: &mut View<'_>, name: &str) -> Result<Option<String>, Fault> {
        Ok(match name.split_once('/') {
            Some(("static", role)) => Some(format!("static-roles/{role}")),
            Some(("root", connection)) => Some(format!("config/{connection}")),
            _ => None,
        })
    }

    async fn awake<'a>(&'a self, cx: Cx<'a>, name: &'a str) -> Result<Outside<Nothing>, Fault> {
        match name.split_once('/') {
            Some(("static", role)) => static_roles::due(self, cx, role),
            Some(("root", connection)) => root::due(self, cx, connection),
            _ => Ok(Outside::done(Nothing)),
        }
    }
}

/// The doors that targets are reached by.
#[derive(Clone)]
pub(crate) struct Doors {
    /// Connections.
    pub(crate) net: Arc<dyn Net>,
    /// How long they take.
    pub(crate) clock: Arc<dyn Clock>,
    /// HTTP servers.
    pub(crate) outgoing: Arc<dyn Outgoing>,
    /// Unpredictable, and told nobody: what hashes of passwords are salted by.
    pub(crate) seed: [u8; 32],
}

impl Doors {
    pub(crate) fn of(cx: &Cx<'_>) -> Self {
        let mut seed = [0; 32];
        cx.entropy.fill(&mut seed);
        Self { net: Arc::clone(cx.net), clock: Arc::clone(cx.clock), outgoing: Arc::clone(cx.outgoing), seed }
    }

    /// What comes of something within a time; `None` when it takes longer.
    pub(crate) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut end) = (pin!(work), self.clock.sleep(limit));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }
}

/// A name of a connection or role.
pub(crate) fn checked_name(name: &str) -> Result<&str, Fault> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let fits = name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.chars().all(|letter| is_word(letter) || matches!(letter, '-' | '.'));
    if fits { Ok(name) } else { Err(Fault::invalid("a name has letters, digits and `_`, and `-` and `.` within")) }
}
