//! `github`: people log in with a token of GitHub, and their organisation, teams and name there decide what they may.
//!
//! The token goes to the configured server and nowhere else, and is in no log and no error. It is kept, encrypted, with the
//! token that it led to, so that GitHub can be asked again when that is renewed, and nobody is shown it. Whatever GitHub
//! answers is read as bounded JSON. Deliberately absent: identity.

mod ask;
mod config;
mod login;
mod maps;

use std::sync::Arc;

use tresor_engine::{
    Access, Class, Cx, Descriptor, Engine, EngineFactory, Holder, Holding, Kind, MountFacts, Mounted, Routes,
    TokenTerms,
};
use tresor_model::Fault;

/// How to make a `github` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "github", class: Class::Auth, make, reshapes: EngineFactory::keeps_its_shape };

static KIND: Kind<GitHub> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(GitHub))
}

/// The method.
pub(crate) struct GitHub;

impl Engine for GitHub {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "github", class: Class::Auth, summary: "People log in with a token of GitHub." }
    }

    async fn renewal<'a>(&'a self, mut cx: Cx<'a>, holder: Holder<'a>) -> Result<Option<TokenTerms>, Fault> {
        login::renewal(&mut cx, &holder).await.map(Some)
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[Holding::new("teams", "team/"), Holding::new("users", "user/")];
        HELD
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "Which organisation may log in, and by which server.")
            .read(config::read)
            .write(config::write)
            .at("map/teams", "Lists the teams that have policies.")
            .read(maps::list::<maps::Teams>)
            .list(maps::list::<maps::Teams>)
            .at("map/teams/{key:folded}", "The policies of a team's members.")
            .read(maps::read::<maps::Teams>)
            .write(maps::write::<maps::Teams>)
            .delete(maps::delete::<maps::Teams>)
            .at("map/users", "Lists the users that have policies.")
            .read(maps::list::<maps::Users>)
            .list(maps::list::<maps::Users>)
            .at("map/users/{key:folded}", "The policies of a user.")
            .read(maps::read::<maps::Users>)
            .write(maps::write::<maps::Users>)
            .delete(maps::delete::<maps::Users>)
            .at("login", "Logs in with a token of GitHub.")
            .open_to(Access::Login)
            .write(login::login)
            .done()
    }
}
