//! Every name below a directory, at any depth: what SCAN answers.
//!
//! Depth first, in the order of listings, a page at a time with others having their turn in between; the place to go on
//! from is a name, so a caller's pages are as one walk, whatever happens to the names in between. Deliberately absent:
//! the names of directories, which are the beginnings of others.

use tresor_model::Fault;

use crate::view::View;

/// How many names are read at a time.
const NAMES_MAX: usize = 256;

/// A directory on the way.
struct Level {
    directory: String,
    /// What was read of it and is not looked at yet.
    waiting: std::vec::IntoIter<String>,
    /// The name to read on after, while there may be more.
    rest: Option<Option<String>>,
}

impl Level {
    fn new(directory: String, after: Option<String>) -> Self {
        Self { directory, waiting: Vec::new().into_iter(), rest: Some(after) }
    }
}

/// The names below `directory` (empty, or ending in a slash), relative to it, after `after`, at most `limit`.
///
/// # Errors
/// As [`View::list`].
pub async fn names_below(
    view: &mut View<'_>,
    directory: &str,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    names_by(|below, after, most| view.list(&format!("{directory}{below}"), after, most), after, limit).await
}

/// The same of whatever lists: `list` is given a directory, the name to go on after and how many names are wanted.
///
/// # Errors
/// As `list`.
pub async fn names_by(
    mut list: impl FnMut(&str, Option<&str>, usize) -> Result<Vec<String>, Fault>,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut levels = levels_to(after.unwrap_or_default());
    while let Some(level) = levels.last_mut() {
        if found.len() >= limit {
            break;
        }
        match (level.waiting.next(), level.rest.take()) {
            (Some(name), rest) => {
                level.rest = rest;
                let name = format!("{}{name}", level.directory);
                if name.ends_with('/') {
                    levels.push(Level::new(name, None));
                } else {
                    found.push(name);
                }
            }
            (None, Some(after)) => {
                let names = list(&level.directory, after.as_deref(), NAMES_MAX)?;
                level.rest = names.last().filter(|_| names.len() == NAMES_MAX).map(|last| Some(last.clone()));
                level.waiting = names.into_iter();
                tresor_env::tasks::breathe().await;
            }
            (None, None) => drop(levels.pop()),
        }
    }
    Ok(found)
}

/// The directories that lead to a name, each with where to go on in it.
fn levels_to(after: &str) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut start = 0;
    for (slash, _) in after.match_indices('/') {
        let (directory, name) = (after.get(..start), after.get(start..=slash));
        levels.extend(directory.map(|directory| Level::new(directory.to_owned(), name.map(str::to_owned))));
        start = slash + 1;
    }
    let (directory, name) = after.split_at(start);
    let name = (!name.is_empty()).then(|| name.to_owned());
    levels.push(Level::new(directory.to_owned(), name));
    levels
}
