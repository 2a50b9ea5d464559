//! Files of shared credentials: sections in brackets, and `name = value`.
//!
//! Of a section only three names count; the same name twice, or a key without its other half, is an error. Deliberately
//! absent: nested values and every other setting of a profile, which keys do not need.

use zeroize::Zeroizing;

use crate::Keys;

/// The profile that counts when none is named.
pub const DEFAULT: &str = "default";

/// The keys of the profile of that name; `None` when there is no such profile.
///
/// # Errors
/// What is wrong with the profile.
pub fn find(text: &str, name: &str) -> Result<Option<Keys>, &'static str> {
    let (mut is_in, mut is_there) = (false, false);
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            is_in = section == name;
            is_there |= is_in;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_in) else { continue };
        let place = match key.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        if place.replace(Zeroizing::new(value.trim().to_owned())).is_some() {
            return Err("its profile says one thing twice");
        }
    }
    let there = |value: Option<Zeroizing<String>>| value.filter(|value| !value.is_empty());
    match (there(id), there(secret)) {
        (Some(id), Some(secret)) => Ok(Some(Keys::new(&id, secret, there(token)))),
        (None, None) if !is_there => Ok(None),
        _ => Err("its profile has no aws_access_key_id with an aws_secret_access_key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, secret and token, where there are some.
    fn found(text: &str, name: &str) -> Result<Option<String>, &'static str> {
        let spelled = |keys: Keys| {
            let token = keys.session_token.map(|token| format!(" {}", token.expose())).unwrap_or_default();
            format!("{} {}{token}", keys.access_key, keys.secret_key.expose())
        };
        find(text, name).map(|keys| keys.map(spelled))
    }

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "aws_access_key_id = nowhere\n\
                    # comment\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1/+ \nregion = x\n\
                    ; comment\n\n[ other ] \r\n aws_session_token = T\r\n aws_secret_access_key = S\r\n\
                    aws_access_key_id = B\r\n[half]\naws_access_key_id = C\n\
                    [twice]\naws_access_key_id = C\naws_access_key_id = D\naws_secret_access_key = s\n";
        assert_eq!(found(text, "default"), Ok(Some("A s=1/+".to_owned())));
        assert_eq!(found(text, "other"), Ok(Some("B S T".to_owned())));
        assert_eq!(found(text, "none"), Ok(None));
        assert!(found(text, "half").is_err_and(|why| why.contains("no aws_access_key_id")));
        assert!(found(text, "twice").is_err_and(|why| why.contains("twice")));
        assert_eq!(found("", "default"), Ok(None));
    }
}
