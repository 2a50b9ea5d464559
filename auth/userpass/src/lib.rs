//! `userpass`: people log in with a name and a password that this method itself keeps.
//!
//! Names are folded in the path (case and outer blanks do not matter), so what policies see is what is stored.
//! Passwords are stored as bcrypt hashes. Whether a name exists cannot be told from the answer nor from the time:
//! an unknown name is checked against a hash that nothing opens (PWD-01). Deliberately absent: identity, and
//! counting wrong passwords, which the core does.

mod login;
mod password;
mod users;

use std::sync::Arc;

use tresor_engine::{
    Access, Class, Cx, Descriptor, Engine, EngineFactory, Holder, Holding, Kind, MountFacts, Mounted, Routes,
    TokenTerms,
};
use tresor_model::{Fault, Map};
use tresor_wire::input::PathParameters;

/// How to make a `userpass` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "userpass", class: Class::Auth, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<Userpass> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(Userpass))
}

/// The method.
pub(crate) struct Userpass;

impl Engine for Userpass {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "userpass", class: Class::Auth, summary: "Users log in with a name and a password." }
    }

    fn claimant(&self, parameters: &PathParameters, _body: &Map) -> Option<String> {
        parameters.get("username").cloned()
    }

    async fn renewal<'a>(&'a self, mut cx: Cx<'a>, holder: Holder<'a>) -> Result<Option<TokenTerms>, Fault> {
        let Some(name) = holder.metadata.get("username") else { return Ok(None) };
        let user = users::User::load(&mut cx.view, name)?;
        let user = user.ok_or_else(|| Fault::invalid("user no longer exists, not renewing"))?;
        if !holder.has(&user.token.policies) {
            return Err(Fault::invalid("policies have changed, not renewing"));
        }
        user.token.terms().map(Some)
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("users", "user/")];
        HELD
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("users", "Lists the users.")
            .list(users::list)
            .at("users/{username:folded}", "Shows, writes or deletes a user.")
            .read(users::read)
            .write(users::write)
            .delete(users::delete)
            .exists(users::exists)
            .at("users/{username:folded}/password", "Changes a user's password.")
            .write(users::write_password)
            .at("users/{username:folded}/policies", "Changes a user's policies.")
            .write(users::write_policies)
            .at("login/{username:folded}", "Logs in with name and password.")
            .open_to(Access::Login)
            .write(login::login)
            .done()
    }
}
