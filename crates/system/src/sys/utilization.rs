//! `sys/utilization-report`: how much there is in the whole cluster (SYS-17).
//!
//! Most numbers are kept anyway; what mounts keep is counted by names, within a budget, and no value is looked at. The first
//! names are those of the reference. Deliberately absent: telling anybody outside, prices, and reports of earlier times.

use std::collections::BTreeMap;

use tresor_core::mounts::Mount;
use tresor_core::mounts::record::StoredClass;
use tresor_core::quotas::About;
use tresor_core::{Space, holdings, password_policies, rotations};
use tresor_engine::{Cx, Data, Place, Routes, Warned, Widened};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;
use super::replication::DISABLED;

/// How many names and records are looked at in one report.
const LOOKED_AT_MAX: usize = 250_000;
/// How many mounts are listed one by one.
const LISTED_MAX: usize = 1_000;
/// The longest reason that reaches the log.
const MESSAGE_MAX: usize = 1_024;

/// Why the report is made.
#[derive(Input)]
pub(super) struct Why {
    /// A reason, for this server's log.
    #[input(query)]
    message: Option<String>,
}

/// How much there is.
#[derive(Output)]
pub(super) struct Report {
    /// Auth methods by type.
    auth_methods: Map,
    /// Secrets engines by type.
    secret_engines: Map,
    /// Secrets in mounts without versions.
    kvv1_secrets: u64,
    /// Secrets in mounts with versions.
    kvv2_secrets: u64,
    /// What is known of the versions of those, deleted and destroyed ones among them.
    kvv2_versions: u64,
    /// `total_lease_count_quotas`, and of the one on everything `name`, `capacity` and `count`.
    lease_count_quotas: Map,
    /// Tokens in use, by the type of the method that made them.
    leases_by_auth_method: Map,
    /// Leases in use, by the type of the engine that handed them out.
    leases_by_secret_engine: Map,
    /// Namespaces, the root namespace among them.
    namespaces: u64,
    /// Those of them that are sealed: of what is in them nothing is counted.
    sealed_namespaces: u64,
    /// No engine of today is about certificates: zeros.
    pki: Map,
    /// Nothing is replicated between clusters.
    replication_status: Map,
    /// Policies of all namespaces: `acl`, `password`, `rotation`.
    policies: Map,
    /// Quotas on rates.
    rate_limit_quotas: u64,
    /// Audit devices by type.
    audit_devices: Map,
    /// What mounts keep by type and kind, such as roles.
    holdings: Map,
    /// Mounts one by one, up to 1000: each with `path`, `type`, `leases`, and what it keeps, where that was counted.
    mounts: Vec<Body>,
    /// What opens the store.
    seal_type: &'static str,
    /// What it is stored in.
    storage_type: &'static str,
    /// The nodes of the cluster.
    nodes: u64,
    /// Whether all that mounts keep was counted.
    complete: bool,
}

/// The route.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("utilization-report", "How much there is in the whole cluster.")
        .in_root()
        .runs_on(Place::Leader)
        .read(read)
        .done()
}

/// Numbers by name.
type Numbers = BTreeMap<String, u64>;

fn shown(numbers: Numbers) -> Map {
    numbers.into_iter().map(|(name, number)| (name, Body::from(number))).collect()
}

fn length(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// What is added up over all mounts.
struct Sum {
    auth_methods: Numbers,
    secret_engines: Numbers,
    by_auth_method: Numbers,
    by_secret_engine: Numbers,
    held: BTreeMap<String, Numbers>,
    kv: [u64; 3],
    mounts: Vec<Body>,
    budget: usize,
    left_out: Vec<String>,
}

impl Sum {
    const fn new() -> Self {
        Self {
            auth_methods: Numbers::new(),
            secret_engines: Numbers::new(),
            by_auth_method: Numbers::new(),
            by_secret_engine: Numbers::new(),
            held: BTreeMap::new(),
            kv: [0; 3],
            mounts: Vec::new(),
            budget: LOOKED_AT_MAX,
            left_out: Vec::new(),
        }
    }

    async fn add_space(&mut self, sys: &Sys, cx: &mut Cx<'_>, space: &Space) -> Result<(), Fault> {
        let live = sys.handles.tokens.live(cx.view.widen(Widened::assertion()), &space.id)?;
        for mount in space.mounts.table().iter() {
            self.add(cx, space, mount, &live).await?;
        }
        Ok(())
    }

    async fn add(
        &mut self,
        cx: &mut Cx<'_>,
        space: &Space,
        mount: &Mount,
        live: &BTreeMap<MountId, u64>,
    ) -> Result<(), Fault> {
        let record = &mount.record;
        let leases = live.get(&record.id).copied().unwrap_or(0);
        let (mounts, by_type) = match record.class {
            StoredClass::Auth => (&mut self.auth_methods, &mut self.by_auth_method),
            _ => (&mut self.secret_engines, &mut self.by_secret_engine),
        };
        *mounts.entry(record.kind.clone()).or_default() += 1;
        *by_type.entry(record.kind.clone()).or_default() += leases;
        let path = format!("{}{}", space.path, record.path);
        let txn = cx.view.widen(Widened::assertion());
        let held = holdings::counted(txn, space, mount, &mut self.budget).await?;
        if held.is_none() {
            self.left_out.push(path.clone());
        }
        let held = held.unwrap_or_default();
        if record.kind == "kv" {
            let of = |name: &str| held.get(name).copied().unwrap_or(0);
            let has_versions = record.options.get("version").is_some_and(|version| version == "2");
            let [one, two, versions] = &mut self.kv;
            *(if has_versions { two } else { one }) += of("secrets");
            *versions += of("versions");
        }
        for (name, number) in &held {
            let of_kind = self.held.entry(record.kind.clone()).or_default();
            *of_kind.entry((*name).to_owned()).or_default() += number;
        }
        if self.mounts.len() < LISTED_MAX {
            let mut one = map! { "path" => path, "type" => record.kind.as_str(), "leases" => leases };
            for (name, number) in held {
                one.insert(name, number);
            }
            self.mounts.push(Body::from(one));
        }
        Ok(())
    }
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: Why) -> Result<Warned<Data<Report>>, Fault> {
    if let Some(message) = input.message.filter(|message| !message.is_empty()) {
        if message.len() > MESSAGE_MAX {
            return Err(Fault::invalid(format!("`message` is longer than {MESSAGE_MAX} bytes")));
        }
        tracing::info!(?message, "a utilization report is made");
    }
    let (now, handles) = (cx.now, &sys.handles);
    let (every, mut sum) = (handles.spaces.every(), Sum::new());
    let mut policies = [0_u64; 3];
    for space in every.iter().filter(|space| !space.is_sealed) {
        sum.add_space(sys, &mut cx, space).await?;
        let txn = cx.view.widen(Widened::assertion());
        let [acl, password, rotation] = &mut policies;
        *acl += length(space.policies.table().policies("", now).count());
        *password += length(password_policies::POLICIES.names(txn, &space.id, None, None)?.len());
        *rotation += length(rotations::POLICIES.names(txn, &space.id, None, None)?.len());
        tresor_env::tasks::breathe().await;
    }
    let [acl, password, rotation] = policies;
    let [kvv1_secrets, kvv2_secrets, kvv2_versions] = sum.kv;
    let txn = cx.view.widen(Widened::assertion());
    let mut audit_devices = Numbers::new();
    for device in handles.audits.devices(txn)? {
        *audit_devices.entry(device.kind.clone()).or_default() += 1;
    }
    let quotas = handles.quotas.stored(txn)?;
    let mut lease_count_quotas = map! { "total_lease_count_quotas" => length(quotas.len()) };
    let on_everything = quotas.into_values().find(|quota| quota.about == About::Namespace(NamespaceId::root()));
    if let Some(quota) = on_everything {
        let count = handles.tokens.counted(txn, &quota)?;
        let shown = map! { "name" => quota.name, "capacity" => quota.max_leases, "count" => count };
        lease_count_quotas.insert("global_lease_count_quota", shown);
    }
    let warning = (!sum.left_out.is_empty()).then(|| {
        let some = sum.left_out.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!(
            "what {} mounts keep was not counted, as it is too much or their engine is not there: {some}",
            sum.left_out.len()
        )
    });
    let report = Report {
        auth_methods: shown(sum.auth_methods),
        secret_engines: shown(sum.secret_engines),
        kvv1_secrets,
        kvv2_secrets,
        kvv2_versions,
        lease_count_quotas,
        leases_by_auth_method: shown(sum.by_auth_method),
        leases_by_secret_engine: shown(sum.by_secret_engine),
        namespaces: length(every.len()),
        sealed_namespaces: length(every.iter().filter(|space| space.is_sealed).count()),
        pki: map! { "total_issuers" => 0, "total_roles" => 0 },
        replication_status: map! {
            "dr_primary" => false,
            "dr_state" => DISABLED,
            "pr_primary" => false,
            "pr_state" => DISABLED,
        },
        policies: map! { "acl" => acl, "password" => password, "rotation" => rotation },
        rate_limit_quotas: length(handles.rates.stored(txn)?.len()),
        audit_devices: shown(audit_devices),
        holdings: sum.held.into_iter().map(|(kind, held)| (kind, Body::from(shown(held)))).collect(),
        mounts: sum.mounts,
        seal_type: handles.settings.auto_seal.as_ref().map_or(SHAMIR, |seal| seal.kind()),
        storage_type: handles.settings.storage_type,
        nodes: length(handles.cluster.members().len()).max(1),
        complete: sum.left_out.is_empty(),
    };
    Ok(Warned(Data(report), warning.into_iter().collect()))
}

/// The seal that shares open.
const SHAMIR: &str = "shamir";
