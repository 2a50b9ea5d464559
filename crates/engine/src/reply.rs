//! What the pipeline is given: a shape, and perhaps a claim that the core turns into a token or a lease.
//!
//! Handlers give back the types of [`crate::answer`], which become this. Deliberately absent: tokens, lease ids, HTTP
//! statuses.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tresor_model::ids::Accessor;
use tresor_model::response::TokenType;
use tresor_model::{Auth, LeaseTerms, Shape, Timestamp, WrapInfo};
use tresor_secret::{SecretBytes, SecretString};

use crate::outside::Plan;

/// The answer of a handler.
#[derive(Default)]
pub struct Reply {
    /// The body.
    pub shape: Shape,
    /// Hints for the caller.
    pub warnings: Vec<String>,
    /// A claim that somebody proved who they are; the core mints the token.
    pub login: Option<Login>,
    /// A duration that the caller is advised to refresh within, without a lease (KV version 1).
    pub advice: Option<LeaseTerms>,
    /// Something that was handed out and must be taken back; the core makes a lease of it.
    pub lease: Option<LeaseClaim>,
    /// What is to be done outside the server first; it makes the answer, and this reply says nothing but hints.
    pub outside: Option<Box<Plan>>,
    /// A token block made by the core's own token engine; engines outside the core leave it empty.
    pub auth: Option<Auth>,
    /// The handle of what the answer shows, for whoever has it wrapped.
    pub handle: Option<Accessor>,
    /// The answer is to be wrapped, or refused.
    pub must_be_wrapped: bool,
    /// How an answer that was wrapped before is opened.
    pub wrap_info: Option<WrapInfo>,
    /// What the node has to do after the answer is recorded.
    pub afterwards: Option<Afterwards>,
    /// Headers that the engine sets, names in lower case; the mount decides which of them leave.
    pub headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// Whether there is a body that hints can stand in; an answer without one stays without one.
    #[must_use]
    pub const fn says_something(&self) -> bool {
        let says_nothing = matches!(self.shape, Shape::Nothing | Shape::Absent(None));
        !says_nothing
            || !self.warnings.is_empty()
            || self.login.is_some()
            || self.auth.is_some()
            || self.wrap_info.is_some()
            || self.outside.is_some()
    }
}

/// What an engine handed out, and how it is taken back: all that revoking needs, whatever becomes of the role or the
/// configuration that it was made by.
pub struct LeaseClaim {
    /// What was handed out, in the engine's own words.
    pub kind: &'static str,
    /// What the engine needs to take it back, in its own bytes.
    pub recipe: SecretBytes,
    /// The life that is wished for; zero takes the mount's.
    pub ttl: Duration,
    /// The longest life with all renewals; zero takes the mount's.
    pub max_ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// A lease, as the engine that made it is asked about it.
#[derive(Clone, Copy)]
pub struct Leased<'a> {
    /// What was handed out.
    pub kind: &'a str,
    /// What the engine kept to take it back.
    pub recipe: &'a SecretBytes,
    /// When it was handed out.
    pub issued: Timestamp,
    /// The engine has taken it back already, and that could not be stored because something else changed meanwhile: nothing that
    /// is gone by now is missing.
    pub was_taken_back: bool,
}

/// What a system route asks of the node once its transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Seal the node, once the answer is recorded.
    Seal,
    /// Seal the node, once the answer is recorded, and let the staged snapshot take the place of what is stored.
    Restore,
    /// Let another node lead, once the answer is recorded.
    StepDown,
    /// Ask engines to take these leases back, as was ordered, and answer when they did.
    TakeBack(Vec<String>),
    /// Answer when what lies below this prefix of lease ids is revoked, as was ordered.
    AwaitRevoked(String),
}

/// What an auth method found out about the caller.
pub struct Login {
    /// The name under which the method knows the caller; also the future identity alias.
    pub alias: String,
    /// Shown in audit records and token look-ups.
    pub display_name: String,
    /// What the method says of the caller; shown as `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Policies of the caller, before `default` is added.
    pub policies: Vec<String>,
    /// Wishes for the token; the core caps them.
    pub terms: TokenTerms,
    /// What the method asks again with when the token is renewed (`Engine::renewal`): kept with the token, shown to nobody, and
    /// gone with it. Batch tokens, which nobody renews, keep nothing.
    pub kept: Option<SecretString>,
    /// What the method says when it refuses: said by the core too when it refuses, so that nobody learns from the
    /// answer that the rest was right.
    pub refusal: &'static str,
}

/// The wishes that auth method roles and users carry for the tokens that they lead to; zero means unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTerms {
    /// Life at the start.
    pub ttl: Duration,
    /// Life with all renewals.
    pub max_ttl: Duration,
    /// Life with all renewals, fixed at creation.
    pub explicit_max_ttl: Duration,
    /// Renewable for ever, by so much each time.
    pub period: Duration,
    /// How often it may be used.
    pub num_uses: u64,
    /// Addresses that it may be used from.
    pub bound_cidrs: Vec<IpNet>,
    /// It may be used from the address that logs in and from no other.
    pub binds_address: bool,
    /// Do not add the policy `default`.
    pub no_default_policy: bool,
    /// The kind asked for; `None` takes the mount's.
    pub token_type: Option<TokenType>,
}
