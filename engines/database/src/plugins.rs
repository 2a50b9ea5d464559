//! The kinds of server that there are, by the names that configurations say.
//!
//! Each is a folder or file beside this one that gives a [`Plugin`], and a variant of [`Target`]. Deliberately absent: plug-ins
//! that come at run time.

use tresor_model::Fault;

use crate::connection::Connection;
use crate::target::Target;
use crate::{Doors, influxdb, mysql, postgresql, redis};

/// A kind of server.
pub(crate) struct Plugin {
    /// What configurations call it, and its aliases.
    pub(crate) names: &'static [&'static str],
    /// What accounts are called when nobody says how: a template.
    pub(crate) username: &'static str,
    /// How long a name of an account can be. Where a server would cut a longer one, it would not be found again.
    pub(crate) name_bytes_max: usize,
    /// How a time is written in `{{expiration}}`, in the layout of Go's templates.
    pub(crate) expiration: &'static str,
    /// Whether accounts are made without statements.
    pub(crate) creation: Creation,
    /// What accounts can be let in by, as roles say it.
    pub(crate) credentials: &'static [&'static str],
    /// Details by which a connection reaches another server, or another account.
    pub(crate) reaches: &'static [&'static str],
    /// What it takes that is never shown, beside `password`.
    pub(crate) secrets: &'static [&'static str],
    /// The server that a connection leads to; text says what is wrong with its details.
    pub(crate) target: fn(&Connection, Doors) -> Result<Target, String>,
    /// What whoever configures it should know, by details that make a target.
    pub(crate) warnings: fn(&Connection) -> Vec<String>,
}

/// What makes an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// The statements of its role.
    Said,
    /// Those, and where there are none something usual.
    Usual,
}

/// All of them.
const PLUGINS: &[&Plugin] = &[&postgresql::PLUGIN, &mysql::PLUGIN, &mysql::LEGACY, &redis::PLUGIN, &influxdb::PLUGIN];

/// The names that configurations can say for a kind of server, aliases among them.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().flat_map(|plugin| plugin.names).copied()
}

impl Plugin {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        let found = PLUGINS.iter().copied().find(|plugin| plugin.names.contains(&name));
        found.ok_or_else(|| format!("plugin not found in the catalog: {name}"))
    }

    /// A name of an account, if it fits.
    pub(crate) fn fitting_name(&self, name: String) -> Result<String, Fault> {
        let fits = !name.is_empty() && name.len() <= self.name_bytes_max && !name.contains('\0');
        let refused = || {
            let max = self.name_bytes_max;
            Fault::invalid(format!("the name of an account has 1 to {max} bytes: let username_template truncate it"))
        };
        if fits { Ok(name) } else { Err(refused()) }
    }
}
