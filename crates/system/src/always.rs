//! The endpoints that answer in every state of the node: initialising, unsealing, and being looked at.
//!
//! They need no token and leave no audit record (there may be no key to seal one with); this table is the golden
//! list of both. Deliberately absent: everything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{AlwaysRoute, Condition, Node};
use tresor_crypto::shamir::Threshold;
use tresor_model::{Fault, Map, Response, Shape, Verb};
use tresor_secret::{SecretString, UnsealShare};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{EmptyInput, Fields, Input};
use tresor_wire::output::Output;

/// One row of the list: input and output are the handler's own types.
macro_rules! route {
    ($path:literal, $verb:ident, $summary:literal, $handler:ident: $input:ty => $output:ty) => {
        AlwaysRoute {
            path: $path,
            verb: Verb::$verb,
            summary: $summary,
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
];

/// An answer without an envelope, and the status that a probe asked for.
struct Answered<T> {
    code: Option<u16>,
    report: T,
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

/// The code of an unsealed node whose audit log takes no records.
const AUDIT_REFUSES: u32 = 503;

/// The release date is not known to a build from source; clients want the key to be there.
const BUILD_DATE: &str = "2026-11-24T00:00:00Z";

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
    /// Only for seals that open by themselves.
    recovery_shares: Option<u64>,
    /// Only for seals that open by themselves.
    recovery_threshold: Option<u64>,
    /// Only for seals that open by themselves.
    stored_shares: Option<u64>,
}

/// What initialising gives out, once.
#[derive(Output)]
struct Initialised {
    /// The shares in hexadecimal.
    #[output(secret)]
    keys: Vec<String>,
    /// The same shares in base64.
    #[output(secret)]
    keys_base64: Vec<String>,
    /// The first token.
    #[output(secret)]
    root_token: String,
}

async fn init(node: &Node, input: Init) -> Result<Initialised, Fault> {
    if node.standing()?.facts.initialized {
        return Err(Fault::invalid("Vault is already initialized"));
    }
    if input.pgp_keys.is_some_and(|keys| !keys.is_empty())
        || input.root_token_pgp_key.is_some_and(|key| !key.is_empty())
    {
        return Err(Fault::invalid("encrypting shares to PGP keys is not available"));
    }
    let recovery = [input.recovery_shares, input.recovery_threshold, input.stored_shares];
    if recovery.into_iter().flatten().any(|number| number > 0) {
        return Err(Fault::invalid("recovery and stored shares are not applicable to the shamir seal"));
    }
    let count = |number: Option<u64>| u8::try_from(number.unwrap_or(0)).unwrap_or(0);
    let threshold = Threshold::new(count(input.secret_shares), count(input.secret_threshold))
        .map_err(|error| Fault::invalid(error.to_string()))?;
    let initialized = node.initialize(threshold, None).await?;
    Ok(Initialised {
        keys: initialized.shares.iter().map(|share| hex::encode(share.expose())).collect(),
        keys_base64: initialized.shares.iter().map(|share| STANDARD.encode(share.expose())).collect(),
        root_token: initialized.root_token.expose().to_owned(),
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
    /// Whether seals are being changed.
    migration: bool,
    /// Whether the shares recover instead of opening.
    recovery_seal: bool,
    /// Where data is stored.
    storage_type: &'static str,
    /// The cluster's name, once unsealed.
    #[output(optional)]
    cluster_name: Option<String>,
    /// The cluster's id, once unsealed.
    #[output(optional)]
    cluster_id: Option<String>,
    /// Why an unsealed node refuses requests: its audit log takes no records.
    #[output(optional)]
    audit_log: Option<String>,
}

/// What a node says whose audit log takes no records.
fn refused(reason: String) -> String {
    format!("does not accept records, requests are refused: {reason}")
}

async fn read_seal_status(node: &Node, _input: EmptyInput) -> Result<SealStatus, Fault> {
    let standing = node.standing()?;
    let (cluster_name, cluster_id) = standing.cluster.unzip();
    Ok(SealStatus {
        kind: "shamir",
        initialized: standing.facts.initialized,
        sealed: standing.sealed,
        threshold: u64::from(standing.facts.threshold),
        shares: u64::from(standing.facts.shares),
        progress: u64::from(standing.progress),
        nonce: standing.nonce,
        version: API_LEVEL,
        build_date: BUILD_DATE,
        migration: false,
        recovery_seal: false,
        storage_type: node.settings().storage_type,
        cluster_name,
        cluster_id,
        audit_log: standing.audit_refusal.map(refused),
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
    /// Only for a change of seals.
    #[input(default = "false")]
    migrate: bool,
}

async fn unseal(node: &Node, input: Unseal) -> Result<SealStatus, Fault> {
    if input.migrate {
        return Err(Fault::invalid("there is no other seal to migrate from"));
    }
    if input.reset {
        node.reset_shares().await?;
    } else {
        let key = input.key.filter(|key| !key.expose().is_empty());
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

/// Which code each condition is to answer with.
#[derive(Input)]
struct Health {
    /// A standby is as good as an active node.
    #[input(query, default = "false")]
    #[expect(dead_code, reason = "checked for probes that send it; this node is never a standby")]
    standbyok: bool,
    /// A performance standby is as good as an active node.
    #[input(query, default = "false")]
    #[expect(dead_code, reason = "checked for probes that send it; this node is never a standby")]
    perfstandbyok: bool,
    /// Code of an active node.
    #[input(query, default = "200")]
    activecode: u32,
    /// Code of a standby.
    #[input(query, default = "429")]
    #[expect(dead_code, reason = "checked for probes that send it; this node is never a standby")]
    standbycode: u32,
    /// Code of a sealed node.
    #[input(query, default = "503")]
    sealedcode: u32,
    /// Code of an uninitialised node.
    #[input(query, default = "501")]
    uninitcode: u32,
    /// Code of a secondary for disaster recovery.
    #[input(query, default = "472")]
    #[expect(dead_code, reason = "checked for probes that send it; this node is never a standby")]
    drsecondarycode: u32,
    /// Code of a performance standby.
    #[input(query, default = "473")]
    #[expect(dead_code, reason = "checked for probes that send it; this node is never a standby")]
    performancestandbycode: u32,
}

/// How the node is doing.
#[derive(Output)]
struct HealthReport {
    /// Whether the server is initialised.
    initialized: bool,
    /// Whether it is sealed.
    sealed: bool,
    /// Whether another node is the active one; a sealed node says so too.
    standby: bool,
    /// Whether it answers reads for an active node.
    performance_standby: bool,
    /// Kept for clients; unknown while sealed.
    replication_performance_mode: &'static str,
    /// Kept for clients; unknown while sealed.
    replication_dr_mode: &'static str,
    /// The node's time, in seconds since the Unix epoch.
    server_time_utc: i64,
    /// The level of the API.
    version: &'static str,
    /// Kept for clients.
    enterprise: bool,
    /// The cluster's name, once unsealed.
    #[output(optional)]
    cluster_name: Option<String>,
    /// The cluster's id, once unsealed.
    #[output(optional)]
    cluster_id: Option<String>,
    /// Why an unsealed node is not well: its audit log takes no records.
    #[output(optional)]
    audit_log: Option<String>,
    /// Why an unsealed node is not well: its store takes no writes. It is read, so the code is that of its state.
    #[output(optional)]
    storage: Option<&'static str>,
}

async fn read_health(node: &Node, codes: Health) -> Result<Answered<HealthReport>, Fault> {
    let standing = node.standing()?;
    let code = if !standing.facts.initialized {
        codes.uninitcode
    } else if standing.sealed {
        codes.sealedcode
    } else if standing.audit_refusal.is_some() {
        // Every request would be refused, whatever code an active node is to have.
        AUDIT_REFUSES
    } else {
        codes.activecode
    };
    let code = u16::try_from(code).ok().filter(|code| (200..=599).contains(code));
    let code = code.ok_or_else(|| Fault::invalid("status codes lie between 200 and 599"))?;
    let replication = if standing.sealed { "unknown" } else { "disabled" };
    let (cluster_name, cluster_id) = standing.cluster.unzip();
    let report = HealthReport {
        initialized: standing.facts.initialized,
        sealed: standing.sealed,
        standby: standing.sealed,
        performance_standby: false,
        replication_performance_mode: replication,
        replication_dr_mode: replication,
        server_time_utc: node.now().seconds(),
        version: API_LEVEL,
        enterprise: false,
        cluster_name,
        cluster_id,
        audit_log: standing.audit_refusal.map(refused),
        storage: match standing.storage {
            Condition::Writable => None,
            Condition::LowSpace { .. } => Some("is read-only: its disk has too little free space"),
            Condition::Behind => Some("cannot write its index, tries again each second, and soon takes no writes"),
            Condition::Damaged => Some("is read-only: a page of its index is damaged, the server's log says where"),
            Condition::Stopped => Some("is read-only: its disk failed, and the server must be restarted"),
        },
    };
    Ok(Answered { code: Some(code), report })
}

/// Which node is the active one; without a cluster there is none to name.
#[derive(Output)]
struct Leader {
    /// Whether there can be standbys.
    ha_enabled: bool,
    /// Whether it is this node.
    is_self: bool,
    /// Since when.
    active_time: &'static str,
    /// Its API.
    leader_address: &'static str,
    /// Its cluster port.
    leader_cluster_address: &'static str,
    /// Whether this node answers reads for it.
    performance_standby: bool,
    /// Kept for clients.
    performance_standby_last_remote_wal: u64,
}

async fn read_leader(_node: &Node, _input: EmptyInput) -> Result<Leader, Fault> {
    Ok(Leader {
        ha_enabled: false,
        is_self: false,
        active_time: "0001-01-01T00:00:00Z",
        leader_address: "",
        leader_cluster_address: "",
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
    })
}
