//! The endpoints that answer in every state of the node: initialising, unsealing, and being looked at.
//!
//! They need no token and leave no audit record (there may be no key to seal one with); this table is the golden
//! list of both. Deliberately absent: everything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{AlwaysRoute, Node};
use tresor_crypto::shamir::Threshold;
use tresor_engine::Place;
use tresor_model::{Fault, Map, Response, Shape, Verb};
use tresor_pgp::Recipient;
use tresor_secret::{SecretString, UnsealShare};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{EmptyInput, Fields, Input};
use tresor_wire::output::Output;

use crate::joining::{
    Addresses, Answer, Challenge, Join, Joined, Knock, Lost, Welcome, addresses, answer, challenge, join,
};
use crate::probes::{Health, HealthReport, Leader, read_health, read_leader};
use crate::sys::rekey::{given_out, recipients, spelled};

/// One row of the list: input and output are the handler's own types.
macro_rules! route {
    ($path:literal, $verb:ident, $summary:literal, $handler:ident: $input:ty => $output:ty) => {
        route!($path, $verb, $summary, on Asked, $handler: $input => $output)
    };
    ($path:literal, $verb:ident, $summary:literal, on $place:ident, $handler:ident: $input:ty => $output:ty) => {
        AlwaysRoute {
            path: $path,
            verb: Verb::$verb,
            summary: $summary,
            place: Place::$place,
            fields: <$input as Input>::SPEC,
            answer_fields: <$output as Output>::SPEC,
            answer: |node, body| {
                Box::pin(async move {
                    let output: Answered<$output> = $handler(node, decode::<$input>(body)?).await?.into();
                    Ok(output.into_response())
                })
            },
        }
    };
}

/// The list.
pub const ROUTES: &[AlwaysRoute] = &[
    route!("sys/init", Read, "Whether the server is initialised.", read_init: EmptyInput => InitStanding),
    route!("sys/init", Write, "Initialises the server.", init: Init => Initialised),
    route!("sys/seal-status", Read, "The state of the seal.", read_seal_status: EmptyInput => SealStatus),
    route!("sys/unseal", Write, "Enters one unseal share.", unseal: Unseal => SealStatus),
    route!("sys/health", Read, "The node's health, in its status code.", read_health: Health => HealthReport),
    route!("sys/leader", Read, "Which node is the active one.", read_leader: EmptyInput => Leader),
    route!(
        "sys/internal/ui/feature-flags", Read, "What a UI has to do otherwise than usually: nothing.",
        feature_flags: EmptyInput => FeatureFlags
    ),
    route!("sys/storage/raft/join", Write, "Lets this node join a cluster.", join: Join => Joined),
    route!(
        "sys/storage/raft/bootstrap/challenge", Write, "Shows a node what it has to prove to join.",
        on Leader, challenge: Knock => Challenge
    ),
    route!(
        "sys/storage/raft/bootstrap/addresses", Write, "Tells a member that finds nobody where the members are.",
        addresses: Lost => Addresses
    ),
    route!(
        "sys/storage/raft/bootstrap/answer", Write, "Lets a node join that proves that it could open the store.",
        on Leader, answer: Answer => Welcome
    ),
];

/// An answer without an envelope, and the status that a probe asked for.
pub(crate) struct Answered<T> {
    pub(crate) code: Option<u16>,
    pub(crate) report: T,
}

impl<T> From<T> for Answered<T> {
    fn from(report: T) -> Self {
        Self { code: None, report }
    }
}

impl<T: Output> Answered<T> {
    fn into_response(self) -> Response {
        let report = self.report.into_map();
        let shape = match self.code {
            Some(code) => Shape::Health { code, report },
            None => Shape::Flat(report),
        };
        Response { shape, ..Response::default() }
    }
}

/// The release date is not known to a build from source; clients want the key to be there.
pub(crate) const BUILD_DATE: &str = "2026-11-24T00:00:00Z";

fn decode<In: Input>(body: Map) -> Result<In, Fault> {
    let fields = Fields { path: std::collections::BTreeMap::new(), body, from_query: Vec::new() };
    In::decode(fields).map(|(input, _)| input).map_err(|error| Fault::invalid(error.to_string()))
}

/// Whether the server is initialised.
#[derive(Output)]
struct InitStanding {
    /// Whether it is.
    initialized: bool,
}

async fn read_init(node: &Node, _input: EmptyInput) -> Result<InitStanding, Fault> {
    Ok(InitStanding { initialized: node.standing()?.facts.initialized })
}

/// What a UI asks before anybody logs in, sealed or not.
#[derive(Output)]
struct FeatureFlags {
    /// The flags that are set.
    feature_flags: Vec<String>,
    /// The same, as the reference documents it.
    #[output(name = "feature-flags")]
    documented: Vec<String>,
}

async fn feature_flags(_node: &Node, _input: EmptyInput) -> Result<FeatureFlags, Fault> {
    Ok(FeatureFlags { feature_flags: Vec::new(), documented: Vec::new() })
}

/// How to initialise.
#[derive(Input)]
struct Init {
    /// How many shares to split the unseal key into.
    secret_shares: Option<u64>,
    /// How many of them open the seal.
    secret_threshold: Option<u64>,
    /// Keys to encrypt the shares to.
    pgp_keys: Option<Vec<String>>,
    /// Key to encrypt the root token to.
    root_token_pgp_key: Option<String>,
    /// How many shares there are beside a seal that opens by itself.
    recovery_shares: Option<u64>,
    /// How many of them open it.
    recovery_threshold: Option<u64>,
    /// Keys to encrypt those shares to.
    recovery_pgp_keys: Option<Vec<String>>,
    /// Kept for clients: a seal that opens by itself stores what it needs.
    stored_shares: Option<u64>,
}

impl Init {
    /// The shares that the seal has; none where it opens by itself and none are wanted yet.
    ///
    /// # Errors
    /// A refusal when the other kind's are asked for, or a split that makes no sense.
    fn threshold(&self, auto_seal: Option<&'static str>) -> Result<Option<Threshold>, Fault> {
        let is_auto = auto_seal.is_some();
        let given = |number: Option<u64>| number.is_some_and(|number| number > 0);
        let listed = |keys: Option<&[String]>| keys.is_some_and(|keys| !keys.is_empty());
        let other = match is_auto {
            true => [
                ("secret_shares", given(self.secret_shares)),
                ("secret_threshold", given(self.secret_threshold)),
                ("pgp_keys", listed(self.pgp_keys.as_deref())),
            ],
            false => [
                ("recovery_shares", given(self.recovery_shares)),
                ("recovery_threshold", given(self.recovery_threshold)),
                ("recovery_pgp_keys", listed(self.recovery_pgp_keys.as_deref())),
            ],
        };
        let foreign: Vec<&str> = other.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        if !foreign.is_empty() {
            let kind = auto_seal.unwrap_or(SHAMIR);
            return Err(Fault::invalid(format!("parameters {} not applicable to seal type {kind}", foreign.join(","))));
        }
        let (shares, threshold) = match is_auto {
            true => (self.recovery_shares, self.recovery_threshold),
            false => (self.secret_shares, self.secret_threshold),
        };
        if is_auto && shares == Some(0) && threshold.unwrap_or(0) == 0 {
            return Ok(None);
        }
        Threshold::of(shares.unwrap_or(0), threshold.unwrap_or(0)).map(Some).map_err(|error| {
            let about = if is_auto { "recovery configuration" } else { "seal configuration" };
            Fault::invalid(format!("invalid {about}: {error}"))
        })
    }
}

/// The word for what takes shares.
const SHAMIR: &str = "shamir";

/// What initialising gives out, once.
#[derive(Output)]
struct Initialised {
    /// The shares in hexadecimal.
    #[output(secret)]
    keys: Vec<String>,
    /// The same shares in base64.
    #[output(secret)]
    keys_base64: Vec<String>,
    /// The shares beside a seal that opens by itself, in hexadecimal.
    #[output(secret, optional)]
    recovery_keys: Option<Vec<String>>,
    /// The same shares in base64.
    #[output(secret, optional)]
    recovery_keys_base64: Option<Vec<String>>,
    /// The first token.
    #[output(secret)]
    root_token: String,
}

async fn init(node: &Node, input: Init) -> Result<Initialised, Fault> {
    let standing = node.standing()?;
    if standing.facts.initialized {
        return Err(Fault::invalid("Vault is already initialized"));
    }
    if standing.auto_seal.is_none() && input.stored_shares.is_some_and(|number| number > 0) {
        return Err(Fault::invalid("parameters stored_shares not applicable to seal type shamir"));
    }
    let threshold = input.threshold(standing.auto_seal)?;
    let keys = if standing.auto_seal.is_some() { &input.recovery_pgp_keys } else { &input.pgp_keys };
    let owners = recipients(keys.as_deref().unwrap_or_default(), node.now())?;
    if !owners.is_empty() && owners.len() != threshold.map_or(0, |threshold| usize::from(threshold.shares())) {
        return Err(Fault::invalid("incorrect number of PGP keys: there must be one for each share"));
    }
    let owner_of_token = recipients(input.root_token_pgp_key.as_slice(), node.now())?;
    // What cannot be encrypted to must be found out before there is anything that only this answer tells.
    for recipient in owners.iter().chain(&owner_of_token) {
        node.encrypt_to(recipient, b"")?;
    }
    let initialized = node.initialize(threshold, None).await?;
    let encrypt = |owner: &Recipient, plain: &[u8]| node.encrypt_to(owner, plain);
    let (hex, base64) = spelled(&given_out(&initialized.shares, &owners, encrypt)?);
    let root_token = match owner_of_token.first() {
        None => initialized.root_token.expose().to_owned(),
        Some(owner) => STANDARD.encode(node.encrypt_to(owner, initialized.root_token.expose().as_bytes())?),
    };
    Ok(if standing.auto_seal.is_some() {
        let (keys, keys_base64) = (Vec::new(), Vec::new());
        Initialised { keys, keys_base64, recovery_keys: Some(hex), recovery_keys_base64: Some(base64), root_token }
    } else {
        Initialised { keys: hex, keys_base64: base64, recovery_keys: None, recovery_keys_base64: None, root_token }
    })
}

/// The state of the seal.
#[derive(Output)]
struct SealStatus {
    /// What kind of seal it is.
    #[output(name = "type")]
    kind: &'static str,
    /// Whether the server is initialised.
    initialized: bool,
    /// Whether it is sealed.
    sealed: bool,
    /// How many shares open it.
    #[output(name = "t")]
    threshold: u64,
    /// How many shares there are.
    #[output(name = "n")]
    shares: u64,
    /// How many were entered.
    progress: u64,
    /// Names the attempt while some are entered.
    nonce: String,
    /// The level of the API.
    version: &'static str,
    /// When it was released.
    build_date: &'static str,
    /// Whether the store's key slots are of another kind than the seal: the next unsealing changes them.
    migration: bool,
    /// Whether the seal opens by itself, and the shares are there for when it cannot.
    recovery_seal: bool,
    /// The kind of what takes the shares then.
    #[output(optional)]
    recovery_seal_type: Option<&'static str>,
    /// Where data is stored.
    storage_type: &'static str,
    /// The cluster's name, once unsealed.
    #[output(optional)]
    cluster_name: Option<String>,
    /// The cluster's id, once unsealed.
    #[output(optional)]
    cluster_id: Option<String>,
    /// The node was removed from its cluster; it joins again once its directory is empty.
    #[output(optional)]
    removed_from_cluster: Option<bool>,
    /// Why an unsealed node refuses requests: its audit log takes no records.
    #[output(optional)]
    audit_log: Option<String>,
    /// Why a sealed node did not open by itself.
    #[output(optional)]
    automatic_unseal: Option<String>,
}

/// What a node says whose audit log takes no records.
pub(crate) fn refused(reason: String) -> String {
    format!("does not accept records, requests are refused: {reason}")
}

async fn read_seal_status(node: &Node, _input: EmptyInput) -> Result<SealStatus, Fault> {
    let standing = node.standing()?;
    let (cluster_name, cluster_id) = standing.cluster.unzip();
    Ok(SealStatus {
        kind: standing.auto_seal.unwrap_or(SHAMIR),
        initialized: standing.facts.initialized,
        sealed: standing.sealed,
        threshold: u64::from(standing.facts.threshold),
        shares: u64::from(standing.facts.shares),
        progress: u64::from(standing.progress),
        nonce: standing.nonce,
        version: API_LEVEL,
        build_date: BUILD_DATE,
        migration: standing.migration,
        recovery_seal: standing.auto_seal.is_some(),
        recovery_seal_type: standing.auto_seal.map(|_| SHAMIR),
        storage_type: node.settings().storage_type,
        cluster_name,
        cluster_id,
        removed_from_cluster: standing.removed.then_some(true),
        audit_log: standing.audit_refusal.map(refused),
        automatic_unseal: standing.opening_problem.map(|problem| problem.to_string()),
    })
}

/// One share.
#[derive(Input)]
struct Unseal {
    /// The share, in hexadecimal or base64.
    key: Option<SecretString>,
    /// Forget the shares entered so far.
    #[input(default = "false")]
    reset: bool,
    /// The share is entered for a change of seals; it counts the same.
    #[input(default = "false")]
    migrate: bool,
}

async fn unseal(node: &Node, input: Unseal) -> Result<SealStatus, Fault> {
    if input.migrate {
        // Entering shares changes the kind of seal by itself, and the slot of one that does not open; being asked for it is
        // fine while there is something to do.
        let standing = node.standing()?;
        if standing.sealed && !standing.migration && standing.opening_problem.is_none() {
            return Err(Fault::invalid("there is no other seal to migrate from"));
        }
    }
    if input.reset {
        if !node.standing()?.sealed {
            return Err(Fault::invalid("vault is unsealed"));
        }
        node.reset_shares().await?;
    } else {
        let key = input.key.filter(|key| !key.is_empty());
        let key = key
            .ok_or_else(|| Fault::invalid("'key' must be specified in request body as JSON, or 'reset' set to true"))?;
        node.enter_share(parse_share(&key)?).await?;
    }
    read_seal_status(node, EmptyInput).await
}

/// A share in either of its spellings. Hexadecimal is tried first, as the reference does: every hexadecimal share
/// would also be well-formed base64.
///
/// # Errors
/// A fault of the caller when it is neither.
pub fn parse_share(text: &SecretString) -> Result<UnsealShare, Fault> {
    let text = text.expose().trim();
    hex::decode(text)
        .ok()
        .or_else(|| STANDARD.decode(text).ok())
        .map(UnsealShare::new)
        .ok_or_else(|| Fault::invalid("'key' must be a valid hex or base64 string"))
}
