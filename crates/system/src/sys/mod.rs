//! `sys/`: the table of its routes; one file per resource.

mod audit;
mod auth;
mod autopilot;
mod capabilities;
mod internal;
mod leases;
mod mounts;
mod nodes;
mod policies;
mod quotas;
mod raft;
mod rates;
mod remount;
mod seal;
mod snapshots;
mod storage;
mod tune;

use tresor_core::Handles;
use tresor_engine::{Access, Class, Descriptor, Engine, Place, Routes};

/// The paths where what is written is no JSON.
pub const UPLOADS: &[&str] = &["sys/storage/raft/snapshot", "sys/storage/raft/snapshot-force"];

/// The engine behind `sys/`.
pub(crate) struct Sys {
    handles: Handles,
}

impl Sys {
    pub(crate) fn new(handles: &Handles) -> Self {
        Self { handles: handles.clone() }
    }
}

impl Engine for Sys {
    fn descriptor() -> &'static Descriptor {
        &Descriptor { kind: "system", class: Class::System, summary: "The system backend controls the server itself." }
    }

    fn routes() -> Routes<Self> {
        Routes::new()
            .at("seal", "Seals the server.")
            .open_to(Access::Sudo)
            .runs_on(Place::Asked)
            .write(seal::seal)
            .at("step-down", "Lets another node lead.")
            .open_to(Access::Sudo)
            .runs_on(Place::Leader)
            .write(nodes::step_down)
            .at("ha-status", "The nodes of the cluster, and when each was last heard.")
            .open_to(Access::Token)
            .runs_on(Place::Leader)
            .read(nodes::ha_status)
            .at("storage/raft/configuration", "The members of the cluster.")
            .runs_on(Place::Leader)
            .read(raft::configuration)
            .at("storage/raft/autopilot/configuration", "What the leader does about nodes that joined, or are dead.")
            .read(autopilot::read)
            .write(autopilot::write)
            .at("storage/raft/autopilot/state", "What the leader makes of each node.")
            .runs_on(Place::Leader)
            .read(autopilot::state)
            .at("storage/raft/remove-peer", "Removes a node from the cluster.")
            .write(raft::remove_peer)
            .at("storage/raft/promote", "Gives a node a vote.")
            .write(raft::promote)
            .at("storage/raft/demote", "Takes a node's vote; it goes on getting what is stored.")
            .write(raft::demote)
            .at(snapshots::PATH, "Takes a snapshot of what is stored, or restores one.")
            .open_to(Access::Token)
            .read(snapshots::take)
            .write(snapshots::restore)
            .at(snapshots::PATH_OF_FORCE, "Restores a snapshot, be it of another cluster.")
            .write(snapshots::restore_any)
            .at("mounts", "Lists the secrets engines.")
            .open_to(Access::Token)
            .read(mounts::list)
            .at("mounts/{path...:trimmed}", "Enables, shows or disables a secrets engine.")
            .read(mounts::read)
            .write(mounts::enable)
            .delete(mounts::disable)
            .at("mounts/{path...:trimmed}/tune", "Shows or changes how a secrets engine is tuned.")
            .read(tune::read_mount)
            .write(tune::write_mount)
            .at("auth", "Lists the auth methods.")
            .read(auth::list)
            .at("auth/{path...:trimmed}", "Enables, shows or disables an auth method.")
            .open_to(Access::Sudo)
            .read(auth::read)
            .write(auth::enable)
            .delete(auth::disable)
            .at("auth/{path...:trimmed}/tune", "Shows or changes how an auth method is tuned.")
            .open_to(Access::Sudo)
            .read(tune::read_auth)
            .write(tune::write_auth)
            .at("remount", "Moves a mount.")
            .open_to(Access::Sudo)
            .write(remount::remount)
            .at("remount/status/{migration_id}", "Shows how far a move is.")
            .open_to(Access::Token)
            .read(remount::status)
            .at("policy", "Lists the policies.")
            .read(policies::list_legacy)
            .list(policies::list_legacy)
            .at("policy/{name:folded}", "Shows, writes or deletes a policy.")
            .read(policies::read_legacy)
            .write(policies::write)
            .delete(policies::delete)
            .at("policies/acl", "Lists the policies.")
            .list(policies::list)
            .read(policies::list)
            .at("policies/acl/{name:folded}", "Shows, writes or deletes a policy.")
            .read(policies::read)
            .write(policies::write)
            .delete(policies::delete)
            .at("audit", "Lists the audit devices.")
            .open_to(Access::Sudo)
            .read(audit::list)
            .mends_audit()
            .at("audit/{path...:trimmed}", "Enables or disables an audit device.")
            .open_to(Access::Sudo)
            .write(audit::enable)
            .delete(audit::disable)
            .mends_audit()
            .at("audit-status", "How far behind the audit devices are, and why.")
            .open_to(Access::Token)
            .runs_on(Place::Asked)
            .read(audit::status)
            .mends_audit()
            .at("storage-status", "Whether the store takes writes, and what was found when it was looked through.")
            .open_to(Access::Token)
            .runs_on(Place::Asked)
            .read(storage::status)
            .at("audit-hash/{path...:trimmed}", "Hashes a text as an audit device does.")
            .open_to(Access::Token)
            .ask(audit::hash)
            .at("capabilities", "What a token may do on paths.")
            .ask(capabilities::of_token)
            .at("capabilities-self", "What the caller may do on paths.")
            .ask(capabilities::of_caller)
            .at("capabilities-accessor", "What the token of an accessor may do on paths.")
            .ask(capabilities::of_accessor)
            .at("leases", "Lists the leases that could not be revoked.")
            .open_to(Access::Sudo)
            .read(leases::irrevocable)
            .at("leases/count", "Counts leases by mount.")
            .read(leases::count)
            .at("leases/lookup", "Shows a lease.")
            .open_to(Access::Token)
            .ask(leases::lookup)
            .open_to(Access::Sudo)
            .list(leases::list_all)
            .at("leases/lookup/{prefix...}", "Lists leases below a part of their ids.")
            .open_to(Access::Sudo)
            .list(leases::list)
            .at("leases/tidy", "Revokes leases whose token is gone.")
            .write(leases::tidy)
            .at("leases/revoke-prefix/{prefix...}", "Revokes the leases below a part of their ids.")
            .open_to(Access::Sudo)
            .write(leases::revoke_prefix)
            .at("leases/revoke-force/{prefix...}", "Revokes leases, and forgets those where that fails.")
            .open_to(Access::Sudo)
            .write(leases::revoke_force)
            .at("leases/renew", "Renews a lease.")
            .open_to(Access::Token)
            .write(leases::renew)
            .at("leases/renew/{url_lease_id...}", "Renews a lease.")
            .write(leases::renew_in_path)
            .at("leases/revoke", "Revokes a lease.")
            .write(leases::revoke)
            .at("leases/revoke/{url_lease_id...}", "Revokes a lease.")
            .write(leases::revoke_in_path)
            .at("renew", "An older spelling of leases/renew.")
            .decided_as("leases/renew")
            .write(leases::renew)
            .at("renew/{url_lease_id...}", "An older spelling of leases/renew.")
            .decided_as("leases/renew/{url_lease_id...}")
            .write(leases::renew_in_path)
            .at("revoke", "An older spelling of leases/revoke.")
            .decided_as("leases/revoke")
            .write(leases::revoke)
            .at("revoke/{url_lease_id...}", "An older spelling of leases/revoke.")
            .decided_as("leases/revoke/{url_lease_id...}")
            .write(leases::revoke_in_path)
            .at("revoke-prefix/{prefix...}", "An older spelling of leases/revoke-prefix.")
            .open_to(Access::Sudo)
            .decided_as("leases/revoke-prefix/{prefix...}")
            .write(leases::revoke_prefix)
            .at("revoke-force/{prefix...}", "An older spelling of leases/revoke-force.")
            .open_to(Access::Sudo)
            .decided_as("leases/revoke-force/{prefix...}")
            .write(leases::revoke_force)
            .at("quotas/lease-count", "Lists the lease-count quotas.")
            .open_to(Access::Token)
            .list(quotas::list)
            .at("quotas/lease-count/{name}", "Shows, writes or removes a lease-count quota.")
            .read(quotas::read)
            .write(quotas::write)
            .delete(quotas::delete)
            .at("quotas/rate-limit", "Lists the quotas on rates.")
            .list(rates::list)
            .at("quotas/rate-limit/{name}", "Shows, writes or removes a quota on a rate.")
            .read(rates::read)
            .write(rates::write)
            .delete(rates::delete)
            .at("quotas/config", "What is true of all quotas on rates.")
            .read(rates::read_config)
            .write(rates::write_config)
            .at("internal/ui/mounts", "The mounts that the caller may see.")
            .open_to(Access::Public)
            .read(internal::mounts)
            .at("internal/ui/mounts/{path...:trimmed}", "The mount that a path leads to.")
            .open_to(Access::AnyToken)
            .read(internal::mount_of)
            .done()
    }
}
