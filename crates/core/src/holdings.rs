//! How much the engine of a mount keeps, of each kind that it declares: names are counted, and no value is looked at.
//!
//! Counting is bounded: who asks gives a budget that all that is looked at is taken off. Deliberately absent: numbers that are
//! kept up to date, which each write would have to pay for.

use std::collections::BTreeMap;

use tresor_barrier::Txn;
use tresor_engine::{Holding, Mounted, View};
use tresor_model::Fault;

use crate::mounts::Mount;
use crate::namespaces::Space;

/// How many names are read at a time.
const NAMES_MAX: usize = 256;

/// How much there is of each kind, by its name. `None`: the budget did not do, or the engine is not there.
///
/// # Errors
/// When the store fails.
pub async fn counted(
    txn: &mut Txn,
    space: &Space,
    mount: &Mount,
    budget: &mut usize,
) -> Result<Option<BTreeMap<&'static str, u64>>, Fault> {
    let Some(engine) = space.mounts.engine(mount) else { return Ok(None) };
    let mut view = View::new(txn, mount.contents.clone());
    let mut found = BTreeMap::new();
    for holding in engine.holds() {
        let Some((number, points)) = below(&mut view, &*engine, holding, budget).await? else { return Ok(None) };
        found.insert(holding.name, number);
        found.extend(holding.points.map(|name| (name, points)));
    }
    Ok(Some(found))
}

async fn below(
    view: &mut View<'_>,
    engine: &dyn Mounted,
    holding: &Holding,
    budget: &mut usize,
) -> Result<Option<(u64, u64)>, Fault> {
    let (mut number, mut points) = (0, 0);
    let mut waiting = vec![(holding.directory.to_owned(), None::<String>)];
    while let Some((directory, after)) = waiting.pop() {
        let names = view.list(&directory, after.as_deref(), NAMES_MAX)?;
        // A directory that holds nothing has been looked at all the same.
        let Some(left) = budget.checked_sub(names.len().max(1)) else { return Ok(None) };
        *budget = left;
        if let Some(last) = names.last().filter(|_| names.len() == NAMES_MAX) {
            waiting.push((directory.clone(), Some(last.clone())));
        }
        for name in names {
            let name = format!("{directory}{name}");
            if name.ends_with('/') {
                waiting.push((name, None));
                continue;
            }
            number += 1;
            if holding.points.is_some() {
                let Some(left) = budget.checked_sub(1) else { return Ok(None) };
                *budget = left;
                points += u64::try_from(engine.points(view, &name)?.len()).unwrap_or(u64::MAX);
            }
        }
        tresor_env::tasks::breathe().await;
    }
    Ok(Some((number, points)))
}
