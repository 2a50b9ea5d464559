//! `ldap`: accounts of a directory that are made for a while, rotated, and lent.
//!
//! Three kinds of account: those that are made for whoever asks and removed when their lease ends (`role`, `creds`); those
//! that are there, whose passwords the engine changes in time (`static_role`); and those of a library, which are borrowed
//! (`library`, `loan`). Every effect on the directory is planned first (`rotating`, `creds`). Deliberately absent: logging in
//! with a directory, which is an auth method's, and connections that are kept: whoever acts opens one.

mod account;
mod config;
mod creds;
mod directory;
mod ldif;
mod library;
mod loan;
mod name;
mod role;
mod root;
mod rotating;
mod secrets;
mod static_role;
mod verifying;

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::outside::Outside;
use tresor_engine::{
    Class, Cx, Descriptor, Engine, EngineFactory, Holding, Kind, Leased, MountFacts, Mounted, Nothing, Routes, View,
};
use tresor_model::Fault;

/// How to make an `ldap` mount.
pub const FACTORY: EngineFactory =
    EngineFactory { kind: "ldap", class: Class::Secret, make, reshapes: EngineFactory::keeps_its_shape };

/// The same by its older name.
pub const OLDER_FACTORY: EngineFactory = EngineFactory { kind: "openldap", ..FACTORY };

static KIND: Kind<Ldap> = Kind::new();

fn make(_facts: &MountFacts) -> Result<Arc<dyn Mounted>, Fault> {
    Ok(KIND.mount(Ldap))
}

/// The engine.
pub(crate) struct Ldap;

impl Engine for Ldap {
    fn descriptor() -> &'static Descriptor {
        &Descriptor {
            kind: "ldap",
            class: Class::Secret,
            summary: "Accounts of an LDAP directory, made for a while, rotated, or lent.",
        }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("config", "Which directory, how it is reached, and as whom the engine acts there.")
            .read(config::read)
            .write(config::write)
            .delete(config::delete)
            .exists(config::exists)
            .at("rotate-root", "Gives the engine's own account another password, which nobody knows.")
            .write(root::rotate)
            .at("static-role/{name...:folded}", "Accounts whose passwords are rotated in time.")
            .read(static_role::read)
            .write(static_role::write)
            .delete(static_role::delete)
            .list(static_role::list)
            .exists(static_role::exists)
            .at("static-cred/{name...:folded}", "The password of a static role.")
            .read(static_role::credentials)
            .at("rotate-role/{name...:folded}", "Rotates the password of a static role now.")
            .write(static_role::rotate)
            .at("role/{name...:folded}", "What accounts are like that are made for whoever asks.")
            .read(role::read)
            .write(role::write)
            .delete(role::delete)
            .list(role::list)
            .exists(role::exists)
            .at("creds/{name...:folded}", "Makes an account by a dynamic role.")
            .generate(creds::make)
            .at("library/{name...:folded}", "A set of accounts that are lent.")
            .read(library::read)
            .write(library::write)
            .delete(library::delete)
            .list(library::list)
            .exists(library::exists)
            .at("library/{name...:folded}/check-out", "Borrows an account of a set.")
            .write(loan::check_out)
            .at("library/{name...:folded}/check-in", "Brings back what the caller borrowed.")
            .write(loan::check_in)
            .at("library/{name...:folded}/status", "Which accounts of a set are lent.")
            .read(library::status)
            .at("library/manage/{name...:folded}/check-in", "Brings back what anybody borrowed.")
            .write(loan::manage_check_in)
            .done()
    }

    fn holds(&self) -> &'static [Holding] {
        const HELD: &[Holding] = &[
            Holding::new("roles", "role/"),
            Holding::new("static_roles", "static/"),
            Holding::new("sets", "library/"),
        ];
        HELD
    }

    fn rotates_at(&self, view: &mut View<'_>, name: &str) -> Result<Option<String>, Fault> {
        if name == root::WAKE {
            return Ok(Some("config".to_owned()));
        }
        let account = account::Account::load(view, name)?;
        Ok(account.and_then(|account| match account.keeper {
            account::Keeper::Role(role) => Some(format!("static-role/{role}")),
            account::Keeper::Set(_) => None,
        }))
    }

    async fn awake<'a>(&'a self, mut cx: Cx<'a>, name: &'a str) -> Result<Outside<Nothing>, Fault> {
        if name == root::WAKE { root::awake(&mut cx) } else { rotating::awake(&mut cx, name) }
    }

    async fn renew<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>, _ttl: Option<Duration>) -> Result<(), Fault> {
        if lease.kind == loan::KIND { loan::renew(cx, &lease) } else { creds::renew(cx, &lease) }
    }

    async fn revoke<'a>(&'a self, cx: Cx<'a>, lease: Leased<'a>) -> Result<(), Fault> {
        if lease.kind == loan::KIND { loan::revoke(cx, lease).await } else { creds::revoke(cx, lease).await }
    }
}

/// For the fuzzer.
#[cfg(feature = "fuzz")]
pub mod fuzz {
    /// What LDIF does, without its values: how many attributes or steps each entry has.
    #[must_use]
    pub fn shape(text: &str, value: &str) -> Option<Vec<usize>> {
        let entropy = tresor_env::doubles::SeededEntropy::new(1);
        let moment = tresor_credential::Moment { now: tresor_env::Timestamp::EPOCH, entropy: &entropy };
        let changes = crate::ldif::changes(text, &[("Username", value)], moment).ok()?;
        let size = |change: &crate::ldif::Change| match &change.deed {
            crate::ldif::Deed::Add(attributes) => attributes.len(),
            crate::ldif::Deed::Modify(steps) => steps.len(),
            crate::ldif::Deed::Delete => 0,
        };
        Some(changes.iter().map(size).collect())
    }
}
