//! Every engine and auth method that this release carries, as one value for the node.
//!
//! Adding one is adding its folder and one line here. Deliberately absent: loading anything at run time.

use tresor_core::node::SystemMount;
use tresor_core::{Handles, Registry};
use tresor_cubbyhole::Cubbyhole;
use tresor_engine::Instance;

/// What a server in recovery mode answers.
pub use tresor_system::recovery::answer as answer_in_recovery;

/// What the node is made of.
#[must_use]
pub fn registry() -> Registry {
    Registry {
        factories: vec![
            tresor_kv::FACTORY,
            tresor_aws::FACTORY,
            tresor_rabbitmq::FACTORY,
            tresor_database::FACTORY,
            tresor_ldap::FACTORY,
            tresor_ldap::OLDER_FACTORY,
            tresor_userpass::FACTORY,
            tresor_approle::FACTORY,
            tresor_github::FACTORY,
        ],
        server,
        always: tresor_system::ALWAYS,
        uploads: tresor_system::UPLOADS,
        opened: tresor_system::OPENED,
    }
}

/// The engines behind the server's own mounts.
fn server(handles: &Handles) -> Vec<SystemMount> {
    let mut engines = tresor_system::engines(handles, tresor_database::plugin_names().collect());
    engines.push(SystemMount { path: "cubbyhole/", engine: Instance::mount(Cubbyhole) });
    engines
}
