//! `rabbitmq`: users of a broker that exist as long as their lease.
//!
//! The broker is asked over its management API. Deliberately absent: users that are there for good, and any way to read
//! the configured password back.

mod broker;
mod connection;
mod creds;
mod lease;
mod roles;

use std::sync::Arc;

use tresor_engine::{Class, Cx, Descriptor, Engine, EngineFactory, Holding, Kind, Leased, MountFacts, Mounted, Routes};
use tresor_model::Fault;

/// How to make a `rabbitmq` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "rabbitmq", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<RabbitMq> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(RabbitMq))
}

/// The engine.
pub(crate) struct RabbitMq;

impl Engine for RabbitMq {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "rabbitmq",
            class: Class::Secret,
            summary: "Users of a RabbitMQ broker, as long as needed.",
        }
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("roles", "role/")];
        HELD
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config/connection", "Which broker, by which user.")
            .write(connection::write)
            .at("config/lease", "How long users live.")
            .read(lease::read)
            .write(lease::write)
            .at("roles", "Lists the roles.")
            .list(roles::list)
            .at("roles/{name}", "What the users of a role may on the broker.")
            .read(roles::read)
            .write(roles::write)
            .delete(roles::delete)
            .at("creds/{name}", "Makes a user with the rights of a role.")
            .generate(creds::issue)
            .done()
    }

    async fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        creds::take_back(cx, lease).await
    }
}
