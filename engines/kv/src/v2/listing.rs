//! Listing the paths of secrets, a directory or all below it, with what is known of each or without.

use tresor_engine::{Cx, Data, Keys};
use tresor_model::{Body, Fault, Map};
use tresor_wire::input::{Input, Limit};
use tresor_wire::output::Output;

use super::Kv2;
use super::records::{Metadata, is_name};

/// A page of a directory.
#[derive(Input)]
pub(super) struct Page {
    /// The directory.
    #[input(path)]
    path: String,
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// Names with what is known of them.
#[derive(Output)]
pub(super) struct Detailed {
    /// The names in order; those of directories end in a slash.
    keys: Vec<String>,
    /// What is known of each; nothing of directories.
    key_info: Map,
}

fn names(cx: &mut Cx<'_>, page: &Page) -> Result<Vec<String>, Fault> {
    cx.view.names(&format!("metadata/{}", page.path), page.after.as_deref(), page.limit.0)
}

pub(super) async fn list(_kv: &Kv2, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    names(&mut cx, &input).map(Keys)
}

pub(super) async fn list_detailed(_kv: &Kv2, mut cx: Cx<'_>, input: Page) -> Result<Option<Data<Detailed>>, Fault> {
    let keys = names(&mut cx, &input)?;
    detailed(&mut cx, &input.path, keys)
}

/// Every name below a directory, at any depth.
async fn every(cx: &mut Cx<'_>, page: &Page) -> Result<Vec<String>, Fault> {
    let directory = format!("metadata/{}", page.path);
    tresor_engine::scan::names_below(&mut cx.view, &directory, page.after.as_deref(), page.limit.0).await
}

pub(super) async fn scan(_kv: &Kv2, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    every(&mut cx, &input).await.map(Keys)
}

pub(super) async fn scan_detailed(_kv: &Kv2, mut cx: Cx<'_>, input: Page) -> Result<Option<Data<Detailed>>, Fault> {
    let keys = every(&mut cx, &input).await?;
    detailed(&mut cx, &input.path, keys)
}

/// Adds what is known of each name below a directory; nothing when there is none.
fn detailed(cx: &mut Cx<'_>, directory: &str, keys: Vec<String>) -> Result<Option<Data<Detailed>>, Fault> {
    let mut key_info = Map::new();
    for name in &keys {
        let known = if is_name(name) { Metadata::load(&mut cx.view, &format!("{directory}{name}"))? } else { None };
        key_info.insert(name.clone(), Body::from(known.map(|known| known.show().into_map()).unwrap_or_default()));
    }
    Ok((!keys.is_empty()).then_some(Data(Detailed { keys, key_info })))
}
