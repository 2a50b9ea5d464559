//! `aws`: access keys that exist as long as they are needed.
//!
//! AWS is asked by its own requests, which are signed here. Deliberately absent: an SDK of AWS.

mod creds;
mod iam;
mod lease;
mod limits;
mod machine;
mod query;
mod roles;
mod root;
mod rotate;
mod statics;
mod sts;
mod users;

use std::sync::Arc;

use tresor_engine::outside::Outside;
use tresor_engine::{
    Class, Cx, Descriptor, Engine, EngineFactory, Holding, Kind, Leased, MountFacts, Mounted, Nothing, Routes, View,
};
use tresor_model::Fault;

/// How to make an `aws` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "aws", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<Aws> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(Aws))
}

/// The engine.
pub(crate) struct Aws;

impl Engine for Aws {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "aws", class: Class::Secret, summary: "Access keys of AWS, as long as needed." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config/root", "By which keys AWS is asked, and where.")
            .read(root::read)
            .write(root::write)
            .at("config/rotate-root", "Makes a new key for the configured user, and deletes the old one.")
            .write(rotate::rotate)
            .at("config/lease", "How long users live.")
            .read(lease::read)
            .write(lease::write)
            .at("roles", "Lists the roles.")
            .list(roles::list)
            .at("roles/{name}", "Which kind of keys a role gives, and what these may.")
            .read(roles::read)
            .write(roles::write)
            .delete(roles::delete)
            .at("creds/{name}", "Keys by a role.")
            .generate(creds::creds)
            .write(creds::creds)
            .at("sts/{name}", "Keys by a role, of those that end by themselves.")
            .generate(creds::sts)
            .write(creds::sts)
            .at("static-roles", "Lists the static roles.")
            .list(statics::list)
            .at("static-roles/{name}", "A user of AWS whose key is made anew now and then.")
            .read(statics::read)
            .write(statics::write)
            .delete(statics::delete)
            .at("static-creds/{name}", "The key of a static role's user.")
            .read(statics::creds)
            .done()
    }

    async fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        creds::take_back(cx, lease).await
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("roles", "role/"), Holding::new("static_roles", "static-role/")];
        HELD
    }

    fn rotates_at(&self, _view: &mut View<'_>, name: &str) -> Result<Option<String>, Fault> {
        Ok(match name.strip_prefix(statics::WAKE) {
            Some(role) => Some(format!("static-roles/{role}")),
            None => (name == rotate::WAKE_DUE).then(|| "config/root".to_owned()),
        })
    }

    async fn awake<'a>(&'a self, cx: Cx<'a>, name: &'a str) -> Result<Outside<Nothing>, Fault> {
        match name.strip_prefix(statics::WAKE) {
            Some(role) => statics::awake(cx, role),
            None if name == rotate::WAKE_DUE => rotate::due(cx),
            None => rotate::awake(cx),
        }
    }
}
