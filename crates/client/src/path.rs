//! Logical paths as URL paths: each segment is encoded alone, so that any key survives the way.

/// Encodes the segments of a logical path; slashes, also doubled ones, stay.
///
/// # Errors
/// For a `.` or `..` segment: URL rules would silently turn it into another path, perhaps another mount.
pub fn encode_path(path: &str) -> Result<String, String> {
    let mut encoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if segment == "." || segment == ".." {
            return Err(format!("path `{path}` has a relative segment `{segment}`"));
        }
        if index > 0 {
            encoded.push('/');
        }
        encode_into(&mut encoded, segment, b"-_.~!$&'()*+,;=:@");
    }
    Ok(encoded)
}

/// Encodes a query parameter.
pub(crate) fn encode_parameter(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text, b"-_.~/:,");
    encoded
}

fn encode_into(encoded: &mut String, text: &str, kept: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn odd_keys_survive() {
        assert_eq!(encode_path("secret/a b%20\"?#/http://x").unwrap(), "secret/a%20b%2520%22%3F%23/http://x");
        assert_eq!(encode_path("secret/ü").unwrap(), "secret/%C3%BC");
    }

    #[test]
    fn relative_segments_are_refused() {
        assert!(encode_path("secret/../sys/seal").is_err());
        assert!(encode_path("./x").is_err());
        assert!(encode_path("secret/..x").is_ok());
    }
}
