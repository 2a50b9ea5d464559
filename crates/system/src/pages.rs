//! Long listings, page by page: there may be a million names, and others have their turn between two pages.
//!
//! Deliberately absent: what is listed.

use tresor_barrier::Txn;
use tresor_engine::{Cx, Keys, Widened};
use tresor_model::Fault;
use tresor_wire::input::{Input, Limit};

/// How many names are read at a time.
const NAMES_MAX: usize = 256;

/// Which names of a listing are asked for.
#[derive(Input)]
pub(crate) struct Page {
    /// List names after this one.
    #[input(query)]
    pub(crate) after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    pub(crate) limit: Limit,
}

/// Everything that is asked for. `read` is given a place and how many names to look at; it answers with those that are
/// shown, and the place to go on from, `None` at the end.
pub(crate) async fn listed(
    mut cx: Cx<'_>,
    Page { mut after, limit }: Page,
    mut read: impl FnMut(&mut Txn, Option<&str>, usize) -> Result<(Vec<String>, Option<String>), Fault>,
) -> Result<Keys, Fault> {
    let (limit, mut every) = (limit.0.unwrap_or(usize::MAX), Vec::new());
    loop {
        let at_most = NAMES_MAX.min(limit - every.len());
        let (names, next) = read(cx.view.widen(Widened::assertion()), after.as_deref(), at_most)?;
        every.extend(names);
        if next.is_none() || every.len() >= limit {
            return Ok(Keys(every));
        }
        after = next;
        tresor_env::tasks::breathe().await;
    }
}
