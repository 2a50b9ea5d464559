//! Rules about files: what each starts with, marks of unfinished work, paths of somebody's machine, manifests that
//! inherit the lints, documents that can be found.

use super::source::{self, Source};
use crate::workspace::Workspace;

/// Rust files that do not start by saying what they are for.
#[must_use]
pub fn without_purpose(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: does not start with `//!`: say in a sentence what the file is for", source.path))
        .collect()
}

/// Marks of unfinished work. (`todo!` and its like are clippy's.)
#[must_use]
pub fn unfinished(sources: &[Source]) -> Vec<String> {
    // Written in two parts, or this file would accuse itself.
    let marks = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK"), concat!("TO", "DO")];
    each_line(sources, |_, line| {
        let words = |mark: &str| line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == mark);
        marks.into_iter().find(|mark| words(mark)).map(|mark| format!("`{mark}`: finish it, or open an issue"))
    })
}

/// Paths that exist on one machine only.
#[must_use]
pub fn machine_paths(sources: &[Source]) -> Vec<String> {
    let everywhere = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let outside_tests = [concat!("/ho", "me/"), concat!("/t", "mp/")];
    each_line(sources, |source, line| {
        let in_tests: &[&str] = if source.is_test() { &[] } else { &outside_tests };
        // Behind a letter it is a part of a longer one, such as that of an endpoint.
        let begins = |(at, _): (usize, &str)| !line.get(..at).unwrap_or_default().ends_with(char::is_alphanumeric);
        let found = everywhere.iter().chain(in_tests).find(|path| line.match_indices(**path).any(begins))?;
        Some(format!("`{found}`: a path of one machine"))
    })
}

fn each_line(sources: &[Source], find: impl Fn(&Source, &str) -> Option<String>) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            if let Some(problem) = find(source, line) {
                broken.push(format!("{}:{}: {problem}", source.path, at + 1));
            }
        }
    }
    broken
}

/// The crates that exist for unsafe code, and have lints of their own.
const UNSAFE: &[&str] = &["crates/sha256", "crates/pages"];

/// Crates that do not inherit the workspace's lints, of which one forbids unsafe code.
///
/// # Errors
/// Text when a manifest cannot be read.
pub fn without_lints(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    let inheriting = workspace.members.iter().filter(|member| UNSAFE.iter().all(|own| !member.folder.ends_with(own)));
    for member in inheriting {
        let manifest = format!("{}/Cargo.toml", member.folder.display());
        if !workspace.read_text(&manifest)?.contains("[lints]\nworkspace = true") {
            broken.push(format!("{manifest}: `[lints] workspace = true` is missing"));
        }
    }
    if !workspace.read_text("Cargo.toml")?.contains("unsafe_code = \"forbid\"") {
        broken.push("Cargo.toml: the workspace does not forbid unsafe code".to_owned());
    }
    Ok(broken)
}

/// Documents that `docs/README.md` does not link, and links between documents that lead nowhere.
///
/// # Errors
/// Text when a document cannot be read.
pub fn unreachable_documents(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    let mut documents = source::paths(workspace, &["docs", "conformance", "fuzz"], "md")?;
    let index = "docs/README.md";
    if documents.iter().any(|document| document == index) {
        let text = workspace.read_text(index)?;
        let linked: Vec<String> = links(&text).map(|link| format!("docs/{link}")).collect();
        for document in documents.iter().filter(|document| document.starts_with("docs/") && *document != index) {
            if !linked.contains(document) {
                broken.push(format!("{document}: not linked from {index}"));
            }
        }
    } else if !documents.is_empty() && documents.iter().any(|document| document.starts_with("docs/")) {
        broken.push(format!("{index} is missing"));
    }
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned));
    for document in documents.iter().filter(|document| workspace.root.join(document).exists()) {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&workspace.read_text(document)?) {
            if !workspace.root.join(folder).join(link).exists() {
                broken.push(format!("{document}: the link to `{link}` leads nowhere"));
            }
        }
    }
    Ok(broken)
}

/// The files that a Markdown text links to, without anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?.trim();
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Vec<Source> {
        vec![Source::new("crates/x/src/lib.rs", text.to_owned())]
    }

    #[test]
    fn a_file_without_purpose_is_found() {
        assert_eq!(without_purpose(&one("fn main() {}")).len(), 1);
        assert!(without_purpose(&one("//! What it is for.\n")).is_empty());
    }

    #[test]
    fn marks_are_whole_words() {
        assert_eq!(unfinished(&one(&format!("// {}: later", concat!("TO", "DO")))).len(), 1);
        assert!(unfinished(&one("let hackles = todos;")).is_empty());
    }

    #[test]
    fn links_of_a_document_are_files() {
        let text = "[a](a.md) [b](https://x.y/z) [c](#here) [d](d/e.md#there)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["a.md", "d/e.md"]);
    }
}
