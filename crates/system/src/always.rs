//! The endpoints that answer in every state of the node: initialising, unsealing, and being looked at.
//!
//! They need no token and leave no audit record (there may be no key to seal one with); this table is the golden
//! list of both. Deliberately absent: everything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{AlwaysRoute, Node, SealStanding};
use tresor_crypto::shamir::Threshold;
use tresor_env::BoxFuture;
use tresor_model::{Fault, Map, Response, Shape, Verb, map};
use tresor_secret::{SecretString, UnsealShare};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{Fields, Input};

type Answer<'a> = BoxFuture<'a, Result<Response, Fault>>;

/// The list.
pub const ROUTES: &[AlwaysRoute] = &[
    AlwaysRoute { path: "sys/init", verb: Verb::Read, summary: "whether the server is initialised", answer: read_init },
    AlwaysRoute { path: "sys/init", verb: Verb::Write, summary: "initialise the server", answer: init },
    AlwaysRoute {
        path: "sys/seal-status",
        verb: Verb::Read,
        summary: "the state of the seal",
        answer: read_seal_status,
    },
    AlwaysRoute { path: "sys/unseal", verb: Verb::Write, summary: "enter one unseal share", answer: unseal },
    AlwaysRoute {
        path: "sys/health",
        verb: Verb::Read,
        summary: "the node's health, in its status code",
        answer: read_health,
    },
    AlwaysRoute { path: "sys/leader", verb: Verb::Read, summary: "which node is the active one", answer: read_leader },
];

/// The release date is not known to a build from source; clients want the key to be there.
const BUILD_DATE: &str = "2026-11-24T00:00:00Z";

fn flat(report: Map) -> Result<Response, Fault> {
    Ok(Response { shape: Shape::Flat(report), ..Response::default() })
}

fn decode<In: Input>(body: Map) -> Result<In, Fault> {
    let fields = Fields { path: std::collections::BTreeMap::new(), body, from_query: Vec::new() };
    In::decode(fields).map(|(input, _)| input).map_err(|error| Fault::invalid(error.to_string()))
}

fn read_init(node: &Node, _body: Map) -> Answer<'_> {
    Box::pin(async move { flat(map! { "initialized" => node.standing()?.facts.initialized }) })
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

fn init(node: &Node, body: Map) -> Answer<'_> {
    Box::pin(async move {
        if node.standing()?.facts.initialized {
            return Err(Fault::invalid("Vault is already initialized"));
        }
        let input: Init = decode(body)?;
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
        let hexed: Vec<String> = initialized.shares.iter().map(|share| hex::encode(share.expose())).collect();
        let based: Vec<String> = initialized.shares.iter().map(|share| STANDARD.encode(share.expose())).collect();
        flat(map! {
            "keys" => hexed,
            "keys_base64" => based,
            "root_token" => initialized.root_token.expose(),
        })
    })
}

fn read_seal_status(node: &Node, _body: Map) -> Answer<'_> {
    Box::pin(async move { flat(seal_status(node, &node.standing()?)) })
}

fn seal_status(node: &Node, standing: &SealStanding) -> Map {
    let mut status = map! {
        "type" => "shamir",
        "initialized" => standing.facts.initialized,
        "sealed" => standing.sealed,
        "t" => u64::from(standing.facts.threshold),
        "n" => u64::from(standing.facts.shares),
        "progress" => u64::from(standing.progress),
        "nonce" => standing.nonce.as_str(),
        "version" => API_LEVEL,
        "build_date" => BUILD_DATE,
        "migration" => false,
        "recovery_seal" => false,
        "storage_type" => node.settings().storage_type,
    };
    if let Some((name, id)) = &standing.cluster {
        status.insert("cluster_name", name.as_str());
        status.insert("cluster_id", id.as_str());
    }
    status
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

fn unseal(node: &Node, body: Map) -> Answer<'_> {
    Box::pin(async move {
        let input: Unseal = decode(body)?;
        if input.migrate {
            return Err(Fault::invalid("there is no other seal to migrate from"));
        }
        if input.reset {
            node.reset_shares().await?;
        } else {
            let key = input.key.filter(|key| !key.expose().is_empty());
            let key = key.ok_or_else(|| {
                Fault::invalid("'key' must be specified in request body as JSON, or 'reset' set to true")
            })?;
            node.enter_share(parse_share(&key)?).await?;
        }
        flat(seal_status(node, &node.standing()?))
    })
}

/// A share in either of its spellings. Hexadecimal is tried first, as the reference does: every hexadecimal share
/// would also be well-formed base64.
pub(crate) fn parse_share(text: &SecretString) -> Result<UnsealShare, Fault> {
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

fn read_health(node: &Node, body: Map) -> Answer<'_> {
    Box::pin(async move {
        let codes: Health = decode(body)?;
        let standing = node.standing()?;
        let code = if !standing.facts.initialized {
            codes.uninitcode
        } else if standing.sealed {
            codes.sealedcode
        } else {
            codes.activecode
        };
        let code = u16::try_from(code).ok().filter(|code| (200..=599).contains(code));
        let code = code.ok_or_else(|| Fault::invalid("status codes lie between 200 and 599"))?;
        let replication = if standing.sealed { "unknown" } else { "disabled" };
        let mut report = map! {
            "initialized" => standing.facts.initialized,
            "sealed" => standing.sealed,
            "standby" => standing.sealed,
            "performance_standby" => false,
            "replication_performance_mode" => replication,
            "replication_dr_mode" => replication,
            "server_time_utc" => node.now().seconds(),
            "version" => API_LEVEL,
            "enterprise" => false,
        };
        if let Some((name, id)) = &standing.cluster {
            report.insert("cluster_name", name.as_str());
            report.insert("cluster_id", id.as_str());
        }
        Ok(Response { shape: Shape::Health { code, report }, ..Response::default() })
    })
}

fn read_leader(_node: &Node, _body: Map) -> Answer<'_> {
    Box::pin(async move {
        flat(map! {
            "ha_enabled" => false,
            "is_self" => false,
            "active_time" => "0001-01-01T00:00:00Z",
            "leader_address" => "",
            "leader_cluster_address" => "",
            "performance_standby" => false,
            "performance_standby_last_remote_wal" => 0,
        })
    })
}
