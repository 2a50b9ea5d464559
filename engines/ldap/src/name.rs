//! Names of roles and sets, which have folders.
//!
//! Deliberately absent: their case, which routes fold.

use tresor_model::Fault;

/// How many folders deep a name can lie.
const DEPTH_MAX: usize = 16;

/// Whether something can have this name, made by whatever release.
pub(crate) fn is_name(name: &str) -> bool {
    name.split('/').all(|segment| !segment.is_empty()) && name.split('/').count() <= DEPTH_MAX
}

/// Refuses what is no name of something new.
pub(crate) fn check(name: &str) -> Result<(), Fault> {
    let is_plain = |segment: &str| {
        let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        segment.chars().all(is_letter) && !segment.starts_with('.') && !segment.ends_with(['.', '-'])
    };
    let text = "a name has letters, digits, `_`, `-` and `.`, and folders that end in a slash";
    if is_name(name) && name.split('/').all(is_plain) { Ok(()) } else { Err(Fault::invalid(text)) }
}

/// A folder as it is asked for, with its slash; empty is the outermost.
pub(crate) fn folder(name: &str) -> String {
    if name.is_empty() || name.ends_with('/') { name.to_owned() } else { format!("{name}/") }
}

/// What something is called within its folder.
pub(crate) fn within_folder(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_found_again_by_its_path() {
        for good in ["a", "team/a", "a.b/c_d-e", "1/2/3"] {
            assert!(check(good).is_ok() && is_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/..", "a b", "a/-", ".a", &"a/".repeat(17)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(is_name("of an older release") && !is_name("a/") && !is_name(""));
        assert_eq!((folder(""), folder("a"), folder("a/")), (String::new(), "a/".to_owned(), "a/".to_owned()));
        assert_eq!((within_folder("a/b"), within_folder("b")), ("b", "b"));
    }
}
