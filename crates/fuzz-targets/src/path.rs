//! FZ-02: the request target. What is accepted is canonical, has one spelling, and is the name that is stored.

use tresor_barrier::{Area, StorageKey};
use tresor_model::path::{PATH_BYTES_MAX, PATH_SEGMENTS_MAX};
use tresor_model::{MountPath, NamespaceId, Path};

pub(crate) const WORDS: &[&str] =
    &["/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%252e", "%00", "%", "%zz", "a", "secret", "é", "%c3%a9", "%ff"];

/// A request target below `/v1/`, a mount path, a path in a body.
pub fn path(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let parsed = Path::parse(raw);
    assert_eq!(parsed.is_ok(), decoded(raw).is_some_and(|text| is_canonical(&text)), "accepted or refused wrongly");
    if let Ok(path) = parsed {
        check(&path);
        assert_eq!(Some(path.as_str()), decoded(raw).as_deref(), "decoded once and not otherwise changed");
        check(&path.into_directory());
    }
    if let Ok(path) = Path::from_decoded(raw) {
        assert_eq!(path.as_str(), raw);
        check(&path);
    }
    if let Ok(mount) = MountPath::parse(raw) {
        let inner = mount.as_str().strip_suffix('/').expect("a mount path ends in a slash");
        assert!(inner.split('/').all(|segment| !segment.is_empty()), "a mount path has no empty segment");
        assert!(is_canonical(inner));
        assert_eq!(MountPath::parse(mount.as_str()).as_ref(), Ok(&mount));
        assert!(mount.overlaps(&mount));
    }
}

/// Promises about every path that there is.
pub(crate) fn check(path: &Path) {
    let text = path.as_str();
    assert!(is_canonical(text), "not canonical");
    assert_eq!(Path::from_decoded(text).as_ref(), Ok(path));
    assert_eq!(Path::parse(&text.replace('%', "%25")).as_ref(), Ok(path), "the one other spelling names another one");
    assert_eq!(path.is_directory(), text.is_empty() || text.ends_with('/'));
    if let Ok(key) = StorageKey::new(&NamespaceId::root(), Area::Logical, path.trimmed()) {
        assert!(key.as_str().ends_with(&format!("/{}", path.trimmed())), "stored under another name");
    }
}

/// The rules, written down a second time.
fn is_canonical(text: &str) -> bool {
    let inner = text.strip_suffix('/').unwrap_or(text);
    inner.len() <= PATH_BYTES_MAX
        && inner.matches('/').count() < PATH_SEGMENTS_MAX
        && !text.starts_with('/')
        && !text.chars().any(char::is_control)
        && !text.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Percent-decoding, written down a second time.
fn decoded(raw: &str) -> Option<String> {
    let mut parts = raw.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
