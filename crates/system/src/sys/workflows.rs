//! `sys/workflows`: workflows as they are kept. Deliberately absent: running them ([`running`]), and what texts mean
//! (`tresor-profile`).

mod running;

use tresor_core::workflows::{self, WorkflowRecord};
use tresor_engine::{Access, Cx, Data, Nothing, Routes, Widened};
use tresor_model::{Fault, Map};
use tresor_profile::Workflow;
use tresor_secret::SecretString;
use tresor_wire::input::{Input, Limit};
use tresor_wire::output::Output;

use super::Sys;
use crate::pages::Page;

/// How long the path of a workflow can be, and what it is said to be for.
const PATH_BYTES_MAX: usize = 512;
const DESCRIPTION_BYTES_MAX: usize = 4096;

/// The routes.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("workflows/manage", "Lists the workflows.")
        .list(list_top)
        .scan(scan_top)
        .at("workflows/manage/{path...}", "Shows, writes, deletes or lists workflows.")
        .list(list)
        .scan(scan)
        .read(read)
        .write(write)
        .delete(delete)
        .at("workflows/execute/{path...}", "Runs a workflow, as whoever asks.")
        .write(running::execute)
        .at("workflows/trace/{path...}", "Runs a workflow, as whoever asks, and shows its requests and their answers.")
        .write(running::trace)
        .at("workflows/unauthed-execute/{path...}", "Runs a workflow for somebody without a token.")
        .open_to(Access::Public)
        .write(running::execute_for_anybody)
        .done()
}

/// Which workflows are listed.
#[derive(Input)]
pub(super) struct Below {
    /// The directory to list, empty for the top.
    #[input(path)]
    path: String,
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A workflow by its path.
#[derive(Input)]
pub(super) struct ByPath {
    /// Its path.
    #[input(path)]
    path: String,
}

/// A workflow to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its path.
    #[input(path)]
    path: String,
    /// Its text, HCL or JSON: `flow` blocks, and perhaps `input` and `output`.
    workflow: Option<SecretString>,
    /// What it is for.
    description: Option<String>,
    /// The version that is to be replaced, -1 for none: the workflow is written if that is the one that is there.
    cas: Option<i64>,
    /// Whether `cas` must be sent with every change.
    #[input(default = "false")]
    cas_required: bool,
    /// Whether it can be run without a token, where the server's configuration allows that.
    #[input(default = "false")]
    allow_unauthenticated: bool,
}

/// A workflow.
#[derive(Output)]
pub(super) struct Shown {
    /// Its path.
    path: String,
    /// Its text as it was sent.
    workflow: String,
    /// What it is for.
    description: String,
    /// How often it was written.
    version: u64,
    /// Whether `cas` must be sent with every change.
    cas_required: bool,
    /// Whether it can be run without a token, where the server's configuration allows that.
    allow_unauthenticated: bool,
}

/// Workflows by their names.
#[derive(Output)]
pub(super) struct Listed {
    /// The names in order; those of directories end in a slash.
    keys: Vec<String>,
    /// What they are, without their texts.
    key_info: Map,
}

fn shown(path: String, record: WorkflowRecord) -> Shown {
    Shown {
        path,
        workflow: record.text,
        description: record.description,
        version: record.version,
        cas_required: record.needs_cas,
        allow_unauthenticated: record.is_public,
    }
}

pub(super) async fn list_top(sys: &Sys, cx: Cx<'_>, input: Page) -> Result<Option<Data<Listed>>, Fault> {
    list(sys, cx, Below { path: String::new(), after: input.after, limit: input.limit }).await
}

pub(super) async fn scan_top(sys: &Sys, cx: Cx<'_>, input: Page) -> Result<Option<Data<Listed>>, Fault> {
    scan(sys, cx, Below { path: String::new(), after: input.after, limit: input.limit }).await
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, input: Below) -> Result<Option<Data<Listed>>, Fault> {
    let (namespace, directory) = (cx.mount.namespace.clone(), directory(&input.path));
    let txn = cx.view.widen(Widened::assertion());
    let names = workflows::names(txn, &namespace, &directory, input.after.as_deref(), input.limit.0)?;
    listed(cx, &directory, names).await
}

pub(super) async fn scan(_sys: &Sys, mut cx: Cx<'_>, input: Below) -> Result<Option<Data<Listed>>, Fault> {
    let (namespace, directory) = (cx.mount.namespace.clone(), directory(&input.path));
    let txn = cx.view.widen(Widened::assertion());
    let names = workflows::every(txn, &namespace, &directory, input.after.as_deref(), input.limit.0).await?;
    listed(cx, &directory, names).await
}

fn directory(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { String::new() } else { format!("{path}/") }
}

async fn listed(mut cx: Cx<'_>, directory: &str, names: Vec<String>) -> Result<Option<Data<Listed>>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let mut key_info = Map::new();
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.ends_with('/')) {
        let txn = cx.view.widen(Widened::assertion());
        if let Some(record) = workflows::read(txn, &namespace, &format!("{directory}{name}"))? {
            let info = Map::new()
                .with("path", format!("{directory}{name}"))
                .with("description", record.description)
                .with("version", record.version)
                .with("cas_required", record.needs_cas)
                .with("allow_unauthenticated", record.is_public);
            key_info.insert(name.clone(), info);
        }
        if index % 64 == 63 {
            tresor_env::tasks::breathe().await;
        }
    }
    Ok((!names.is_empty()).then_some(Data(Listed { keys: names, key_info })))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ByPath) -> Result<Option<Data<Shown>>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let record = workflows::read(cx.view.widen(Widened::assertion()), &namespace, &input.path)?;
    Ok(record.map(|record| Data(shown(input.path, record))))
}

pub(super) async fn write(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Data<Shown>, Fault> {
    check_path(&input.path)?;
    let text = input.workflow.filter(|text| !text.expose().is_empty());
    let text = text.ok_or_else(|| Fault::invalid("missing workflow"))?.expose().clone();
    Workflow::parse(&text).map_err(|error| Fault::invalid(format!("invalid workflow: {error}")))?;
    let description = input.description.unwrap_or_default();
    if description.len() > DESCRIPTION_BYTES_MAX {
        return Err(Fault::invalid(format!("`description` is longer than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    let namespace = cx.mount.namespace.clone();
    let txn = cx.view.widen(Widened::assertion());
    let before = workflows::read(txn, &namespace, &input.path)?;
    check_version(before.as_ref(), input.cas, input.cas_required)?;
    let record = WorkflowRecord {
        text,
        description,
        version: before.map_or(0, |before| before.version) + 1,
        needs_cas: input.cas_required,
        is_public: input.allow_unauthenticated,
    };
    workflows::write(txn, &namespace, &input.path, &record)?;
    Ok(Data(shown(input.path, record)))
}

/// One spelling for each workflow, which is the one that policies decide on.
fn check_path(path: &str) -> Result<(), Fault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::invalid(format!("the path of a workflow has at most {PATH_BYTES_MAX} bytes")));
    }
    if path.ends_with('/') || path.trim() != path || path.to_lowercase() != path {
        return Err(Fault::invalid(
            "the path of a workflow is in lower case, without blanks around it or a slash at its end",
        ));
    }
    Ok(())
}

/// Whether whoever writes has seen what they replace.
fn check_version(before: Option<&WorkflowRecord>, cas: Option<i64>, is_required: bool) -> Result<(), Fault> {
    let wrong = |text: &'static str| Err(Fault::invalid(text));
    match (cas, before) {
        (None, before) if is_required || before.is_some_and(|before| before.needs_cas) => {
            wrong("check-and-set parameter required for this call")
        }
        (Some(-1), Some(_)) => wrong("check-and-set parameter set to -1 on existing entry"),
        (Some(-1), None) | (None, _) => Ok(()),
        (Some(_), None) => wrong("check-and-set parameter other than -1 on non-existent entry"),
        (Some(cas), Some(before)) if u64::try_from(cas) != Ok(before.version) => {
            wrong("check-and-set parameter did not match the current version")
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ByPath) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    workflows::delete(cx.view.widen(Widened::assertion()), &namespace, &input.path)?;
    Ok(Nothing)
}
