//! `approle`: programs log in with the id of a role and a secret id that was made for it.
//!
//! A secret id is one record, below its role and by its accessor, which begins with the time: so what is made together
//! lies together, listing reads names only, and an accessor without its secret id cannot be. The secret id itself is
//! nowhere: a point named by its keyed hash leads to the accessor. What a role made lies under the number that the role
//! was given when it was made, so whoever makes a role of the same name later finds nothing of the one before, and
//! deleting a role ends all of its secret ids with one write. What has ended stands in one directory in order of time, and
//! is taken away a few at a time by those who make new ones, or by tidying; validity never depends on that, nothing
//! runs for it, and nothing of it is in memory. Deliberately absent: identity.

mod handles;
mod issuing;
mod login;
mod metadata;
mod role;
mod roles;
mod secret_id;
mod settings;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_engine::{
    Access, Class, Cx, Descriptor, Engine, EngineFactory, Holder, Holding, Kind, LoginRole, MountFacts, Mounted, Point,
    Routes, TokenTerms, View,
};
use tresor_model::{Fault, Map};
use tresor_wire::input::PathParameters;

/// How to make an `approle` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "approle", class: Class::Auth, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<AppRole> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(AppRole))
}

/// The method.
pub(crate) struct AppRole;

impl Engine for AppRole {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "approle",
            class: Class::Auth,
            summary: "Programs log in with the id of a role and a secret id.",
        }
    }

    fn claimant(&self, _parameters: &PathParameters, body: &Map) -> Option<String> {
        body.text("role_id").and_then(login::claimed).map(str::to_owned)
    }

    fn login_role(&self, view: &mut View<'_>, _parameters: &PathParameters, body: &Map) -> Result<LoginRole, Fault> {
        let Some(role_id) = body.text("role_id").and_then(login::claimed) else { return Ok(LoginRole::None) };
        Ok(role::Role::name_of(view, role_id)?.map_or(LoginRole::None, LoginRole::Named))
    }

    fn holder_role<'m>(&self, metadata: &'m BTreeMap<String, String>) -> Option<&'m str> {
        metadata.get("role_name").map(String::as_str)
    }

    async fn renewal<'a>(&'a self, mut cx: Cx<'a>, holder: Holder<'a>) -> Result<Option<TokenTerms>, Fault> {
        let Some(name) = self.holder_role(holder.metadata) else { return Ok(None) };
        let role = role::Role::load(&mut cx.view, name)?;
        let role = role.ok_or_else(|| Fault::invalid(format!("role {name:?} does not exist during renewal")))?;
        role.token.terms().map(Some)
    }

    fn routes() -> Routes<Self> {
        let routes = Routes::new()
            .at("role", "Lists the roles.")
            .list(roles::list)
            .at("role/{role_name:folded}", "Shows, writes or deletes a role.")
            .read(roles::read)
            .write(roles::write)
            .delete(roles::delete)
            .exists(roles::exists)
            .at("role/{role_name:folded}/role-id", "Shows or sets the id that programs log in with.")
            .read(roles::read_id)
            .write(roles::write_id)
            .at("role/{role_name:folded}/local-secret-ids", "Whether secret ids stay in this cluster.")
            .read(roles::read_local_secret_ids)
            .at("role/{role_name:folded}/secret-id", "Makes a secret id; lists the accessors of those there are.")
            .write(issuing::generate)
            .list(handles::list)
            .at("role/{role_name:folded}/custom-secret-id", "Registers a secret id that the caller chose.")
            .write(issuing::register)
            .at("role/{role_name:folded}/secret-id/lookup", "Shows what is known of a secret id.")
            .ask(handles::look_up)
            .at("role/{role_name:folded}/secret-id/destroy", "Ends a secret id.")
            .write(handles::destroy)
            .delete(handles::destroy)
            .at("role/{role_name:folded}/secret-id-accessor/lookup", "Shows what is known of a secret id.")
            .ask(handles::look_up_accessor)
            .at("role/{role_name:folded}/secret-id-accessor/destroy", "Ends a secret id.")
            .write(handles::destroy_accessor)
            .delete(handles::destroy_accessor)
            .at("tidy/secret-id", "Takes away what is left of secret ids that ended.")
            .write(sweep::tidy)
            .at("login", "Logs in with a role's id and a secret id.")
            .open_to(Access::Login)
            .write(login::login);
        settings::routes(routes).done()
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("roles", "role/"), Holding::new("secret_ids", "secret-id/")];
        HELD
    }

    fn points(&self, view: &mut View<'_>, record: &str) -> Result<Vec<Point>, Fault> {
        if let Some(name) = record.strip_prefix(role::ROLES) {
            return Ok(role::Role::load(view, name)?.map(|role| role.id_point()).into_iter().collect());
        }
        let Some(name) = record.strip_prefix(secret_id::SECRET_IDS) else { return Ok(Vec::new()) };
        Ok(secret_id::SecretId::load(view, name)?.map(|known| known.point()).into_iter().collect())
    }
}
