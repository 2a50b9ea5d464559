//! All that a handler may touch.
//!
//! Deliberately absent: the token, the core, the operating system.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tresor_env::{Clock, Doors, Entropy, Net, Outgoing, Surroundings, Workers};
use tresor_model::ids::{Accessor, MountAccessor, NamespaceId};
use tresor_model::{ByteStream, Fault, MountId, Operation, Request, Timestamp};
use tresor_secret::{SecretString, TokenSecret};

use crate::headers::Headers;
use crate::kept::{Keepers, KeptKey};
use crate::view::{View, Widened};

/// The context of one call of one handler.
pub struct Cx<'a> {
    /// The mount's part of the request's transaction.
    pub view: View<'a>,
    /// The request's time: one instant for everything that the request does.
    pub now: Timestamp,
    /// Unpredictable bytes.
    pub entropy: &'a dyn Entropy,
    /// Where slow work (password hashing) runs.
    pub workers: &'a dyn Workers,
    /// HTTP servers of others. Nothing that is asked of them is undone when the transaction is not committed, so what has
    /// an effect there is planned, and done outside the transaction.
    pub outgoing: &'a Arc<dyn Outgoing>,
    /// The network, for what speaks another protocol; as above.
    pub net: &'a Arc<dyn Net>,
    /// What the machine gives the server; see [`Cx::surroundings`].
    pub machine: Machine<'a>,
    /// Those who keep keys; see [`Cx::kept_key`].
    pub keepers: Keepers<'a>,
    /// How to wait outside a transaction; what time it is for the request says `now`.
    pub clock: &'a Arc<dyn Clock>,
    /// Who asks.
    pub caller: Caller<'a>,
    /// The mount that is asked.
    pub mount: &'a MountFacts,
    /// The operation after create and update were told apart.
    pub operation: Operation,
    /// The request's body, on the routes whose body is no JSON.
    pub upload: Option<ByteStream>,
    /// The headers of the request that the mount lets through to this engine.
    pub headers: Headers<'a>,
}

impl<'a> Cx<'a> {
    /// The ways to others.
    #[must_use]
    pub const fn ways(&self) -> Ways<'a> {
        Ways { outgoing: self.outgoing, net: self.net, machine: self.machine, keepers: self.keepers, clock: self.clock }
    }

    /// A key that somebody keeps outside of this server, where the mount was granted it: `KEEPER:KEY`, or the name of a managed key. Its
    /// keeper is asked when the key is used, so that belongs outside the transaction where it takes part in a change.
    ///
    /// # Errors
    /// A refusal when the mount may not use such a key; a failure when the store fails.
    pub fn kept_key(&mut self, reference: &str) -> Result<KeptKey, Fault> {
        self.keepers.key(self.view.granted_key(reference)?)
    }

    /// What the machine gives the server, for a mount of the root namespace: keys of its own must not be what somebody gets
    /// who operates another namespace and mounts an engine there.
    #[must_use]
    pub fn surroundings(&self) -> Option<&'a Arc<dyn Surroundings>> {
        self.mount.namespace.is_root().then_some(self.machine.0)
    }

    /// A password as a policy of the namespace wants it; see [`View::password`].
    ///
    /// # Errors
    /// A refusal when there is no such policy; a failure when the store fails.
    pub fn password(&mut self, policy: &str) -> Result<SecretString, Fault> {
        self.view.password(policy, self.entropy)
    }
}

/// The doors to others, for what is done there: an act takes them along.
#[derive(Clone, Copy)]
pub struct Ways<'a> {
    /// HTTP servers.
    pub outgoing: &'a Arc<dyn Outgoing>,
    /// The network.
    pub net: &'a Arc<dyn Net>,
    /// What the machine gives the server.
    pub machine: Machine<'a>,
    /// Those who keep keys.
    pub keepers: Keepers<'a>,
    /// How to wait.
    pub clock: &'a Arc<dyn Clock>,
}

impl<'a> Ways<'a> {
    /// Those of a node.
    #[must_use]
    pub const fn of(doors: &'a Doors) -> Self {
        Self {
            outgoing: &doors.outgoing,
            net: &doors.net,
            machine: Machine::new(&doors.surroundings),
            keepers: Keepers::new(&doors.custody),
            clock: &doors.clock,
        }
    }
}

/// What the machine gives the server, out of reach of mounts that are not to have it.
#[derive(Clone, Copy)]
pub struct Machine<'a>(&'a Arc<dyn Surroundings>);

impl<'a> Machine<'a> {
    /// Encloses it.
    #[must_use]
    pub const fn new(surroundings: &'a Arc<dyn Surroundings>) -> Self {
        Self(surroundings)
    }
}

/// Who asks, as far as engines may know.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The address the request came from.
    pub address: IpAddr,
    /// The handle of the caller's token; `None` on public and login routes, and for batch tokens.
    pub accessor: Option<&'a Accessor>,
    /// The namespace that the caller's token belongs to: the mount's, or one above it.
    pub home: Option<&'a NamespaceId>,
    /// Policies in effect, sorted; empty without a token. They are policies of that namespace.
    pub policies: &'a [String],
    /// Shown in audit records.
    pub display_name: &'a str,
    /// Storage name of what belongs to this very token (its cubbyhole); `None` without a token, and for batch tokens.
    pub token_key: Option<&'a str>,
    /// The caller's own token, for the server's token engine only.
    pub held: Held<'a>,
    /// Whether the caller has `sudo` on this path.
    pub has_sudo: bool,
    /// Whether the caller holds the policy `root`.
    pub is_root: bool,
}

/// The caller's token, out of reach of ordinary engines.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    token: Option<&'a TokenSecret>,
    request: Option<&'a Request>,
    is_refused: bool,
}

impl<'a> Held<'a> {
    /// Encloses the token.
    #[must_use]
    pub const fn new(token: Option<&'a TokenSecret>) -> Self {
        Self { token, request: None, is_refused: false }
    }

    /// Nothing, of a caller who showed a token that is none.
    #[must_use]
    pub const fn refused() -> Self {
        Self { token: None, request: None, is_refused: true }
    }

    /// Encloses the request that it came with, too.
    #[must_use]
    pub const fn with(self, request: &'a Request) -> Self {
        Self { request: Some(request), ..self }
    }

    /// The request as it came, for the system engine that makes others on behalf of whoever made it.
    #[must_use]
    pub const fn request(self, _right: Widened) -> Option<&'a Request> {
        self.request
    }

    /// Whether the caller showed a token that is none.
    #[must_use]
    pub const fn is_refused(self) -> bool {
        self.is_refused
    }

    /// The token, for a system engine.
    #[must_use]
    pub const fn token(self, _right: Widened) -> Option<&'a TokenSecret> {
        self.token
    }
}

/// What a mount is and how it was tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFacts {
    /// Its identity.
    pub id: MountId,
    /// Its handle.
    pub accessor: MountAccessor,
    /// The namespace it belongs to.
    pub namespace: NamespaceId,
    /// Where it is mounted, ending in a slash; auth mounts start with `auth/`.
    pub path: String,
    /// What it is, such as `kv`.
    pub kind: String,
    /// Options such as `version`.
    pub options: BTreeMap<String, String>,
    /// Default life of what it leads to.
    pub default_lease_ttl: Duration,
    /// Longest life of what it leads to.
    pub max_lease_ttl: Duration,
    /// Whether what it draws has to have random bytes of the server's seal in it, where the server is configured so.
    pub seal_entropy: bool,
    /// The managed keys that it may use, by their names.
    pub managed_keys: Vec<String>,
    /// The options that it had when its data had the shape that is being taken over; `None` when there is nothing to take
    /// over.
    pub former_options: Option<BTreeMap<String, String>>,
}
