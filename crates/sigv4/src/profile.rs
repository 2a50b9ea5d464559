//! What the two files say that all of AWS's tools read: `config` and `credentials`, sections in brackets, and `name = value`.
//!
//! A profile is `[profile NAME]`, or `[default]`, in the one and `[NAME]` in the other; where both say something the credentials
//! count. Settings that say nothing about keys are passed over, and so is what is nested below a setting. Deliberately absent: where
//! the files are, and what follows from their settings ([`chain`](crate::chain)).

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::Keys;
use crate::chain::Wrong;

/// The profile that counts when none is named.
pub const DEFAULT: &str = "default";

/// The three settings that belong together: keys of one file have no token of the other one.
const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
/// The settings that count.
const SETTINGS: [&str; 19] = [
    KEYS[0],
    KEYS[1],
    KEYS[2],
    "credential_process",
    "credential_source",
    "duration_seconds",
    "external_id",
    "login_session",
    "mfa_serial",
    "region",
    "role_arn",
    "role_session_name",
    "source_profile",
    "sso_account_id",
    "sso_region",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    Config,
    Credentials,
}

/// What a profile says.
#[derive(Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Zeroizing<String>>,
    /// What one file says twice.
    repeated: Option<&'static str>,
}

/// The profiles of both files.
#[derive(Default)]
pub struct Shared {
    profiles: BTreeMap<String, Settings>,
}

impl Settings {
    /// A setting; an empty one is none.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Refuses a profile that a file says two things of.
    pub(crate) fn check(&self, profile: &str) -> Result<(), Wrong> {
        let repeated = |name| Wrong::Repeated { profile: profile.to_owned(), setting: name };
        self.repeated.map_or(Ok(()), |name| Err(repeated(name)))
    }

    /// Its access keys; `None` when it has neither half of them.
    pub(crate) fn keys(&self, profile: &str) -> Result<Option<Keys>, Wrong> {
        let copy = |text: &str| Zeroizing::new(text.to_owned());
        match (self.text(KEYS[0]), self.text(KEYS[1])) {
            (Some(id), Some(secret)) => Ok(Some(Keys::new(id, copy(secret), self.text(KEYS[2]).map(copy)))),
            (None, None) => Ok(None),
            _ => Err(Wrong::HalfKeys(profile.to_owned())),
        }
    }

    fn take(&mut self, name: &str, value: &str) {
        let Some(known) = SETTINGS.into_iter().find(|known| *known == name) else { return };
        if self.values.insert(known, Zeroizing::new(value.to_owned())).is_some() {
            self.repeated = Some(known);
        }
    }

    /// With what another file says, which counts more.
    fn overlay(&mut self, other: Self) {
        if KEYS.into_iter().any(|name| other.text(name).is_some()) {
            self.values.retain(|name, _| !KEYS.contains(name));
        }
        self.values.extend(other.values);
        self.repeated = self.repeated.or(other.repeated);
    }
}

impl Shared {
    /// Reads both files; one that is not there is empty.
    #[must_use]
    pub fn read(config: &str, credentials: &str) -> Self {
        let mut profiles = read(config, File::Config);
        for (name, settings) in read(credentials, File::Credentials) {
            profiles.entry(name).or_default().overlay(settings);
        }
        Self { profiles }
    }

    /// Whether one of the files has a profile of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Settings> {
        self.profiles.get(name)
    }
}

/// Whether a file of configuration has secrets in it, which are usually in the other one.
#[must_use]
pub fn has_secrets(config: &str) -> bool {
    read(config, File::Config).values().any(|settings| settings.text(KEYS[1]).is_some())
}

/// The profile that a section is about, and whether it is spelled out; `None` for other sections.
fn named(section: &str, file: File) -> Option<(&str, bool)> {
    let section = section.split(']').next().unwrap_or_default().trim();
    match (file, section.split_once(char::is_whitespace)) {
        (File::Credentials, _) => Some((section, true)),
        (File::Config, Some(("profile", name))) => Some((name.trim().trim_matches('"').trim_matches('\''), true)),
        (File::Config, None) if section == DEFAULT => Some((section, false)),
        (File::Config, _) => None,
    }
}

/// A value without a comment behind it.
fn without_comment(value: &str) -> &str {
    let end = value
        .match_indices(['#', ';'])
        .map(|(at, _)| at)
        .find(|at| value.get(..*at).is_some_and(|before| before.ends_with(char::is_whitespace)));
    end.and_then(|end| value.get(..end)).unwrap_or(value).trim()
}

fn read(text: &str, file: File) -> BTreeMap<String, Settings> {
    let mut profiles: BTreeMap<String, Settings> = BTreeMap::new();
    // What `[default]` says does not count beside `[profile default]`.
    let mut short_default = Settings::default();
    let mut place: Option<(String, bool)> = None;
    let mut setting_indent = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let inner = line.trim();
        if inner.is_empty() || inner.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if setting_indent.is_some_and(|of| indent > of) {
            continue;
        }
        if let Some(section) = inner.strip_prefix('[') {
            place = named(section, file).map(|(name, is_spelled_out)| (name.to_owned(), is_spelled_out));
            setting_indent = None;
            if let Some((name, true)) = &place {
                profiles.entry(name.clone()).or_default();
            }
            continue;
        }
        let (Some((name, is_spelled_out)), Some((key, value))) = (&place, inner.split_once('=')) else { continue };
        setting_indent = Some(indent);
        let settings = if *is_spelled_out { profiles.entry(name.clone()).or_default() } else { &mut short_default };
        settings.take(&key.trim().to_ascii_lowercase(), without_comment(value));
    }
    if !short_default.values.is_empty() {
        profiles.entry(DEFAULT.to_owned()).or_insert(short_default);
    }
    profiles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, secret and token, where there are some.
    fn found(shared: &Shared, name: &str) -> Result<Option<String>, Wrong> {
        let spelled = |keys: Keys| {
            let token = keys.session_token.map(|token| format!(" {}", token.expose())).unwrap_or_default();
            format!("{} {}{token}", keys.access_key, keys.secret_key.expose())
        };
        let Some(settings) = shared.profile(name) else { return Ok(None) };
        settings.check(name)?;
        settings.keys(name).map(|keys| keys.map(spelled))
    }

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "aws_access_key_id = nowhere\n\
                    # comment\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1/+ \nregion = x\n\
                    ; comment\n\n[ other ] \r\n aws_session_token = T\r\n aws_secret_access_key = S\r\n\
                    aws_access_key_id = B\r\n[half]\naws_access_key_id = C\n\
                    [twice]\naws_access_key_id = C\naws_access_key_id = D\naws_secret_access_key = s\n";
        let shared = Shared::read("", text);
        assert_eq!(found(&shared, "default"), Ok(Some("A s=1/+".to_owned())));
        assert_eq!(found(&shared, "other"), Ok(Some("B S T".to_owned())));
        assert_eq!(found(&shared, "none"), Ok(None));
        assert!(!shared.has("none") && shared.has("half"));
        assert_eq!(found(&shared, "half"), Err(Wrong::HalfKeys("half".to_owned())));
        let twice = Wrong::Repeated { profile: "twice".to_owned(), setting: "aws_access_key_id" };
        assert_eq!(found(&shared, "twice"), Err(twice));
        assert_eq!(found(&Shared::default(), "default"), Ok(None));
    }

    #[test]
    fn a_section_is_called_otherwise_in_each_file() {
        let config = "[default]\nregion = a\n[profile one]\nregion = b\n[two]\nregion = c\n[sso-session one]\nsso_region = d\n\
                      [profile \"three four\"]\nregion = e\n";
        let shared = Shared::read(config, "[two]\nregion = f\n[profile five]\nregion = g\n");
        let region = |name| shared.profile(name).and_then(|settings| settings.text("region"));
        assert_eq!((region("default"), region("one"), region("three four")), (Some("a"), Some("b"), Some("e")));
        assert_eq!(region("two"), Some("f"), "and not what the configuration says without `profile`");
        assert_eq!((region("profile five"), region("five")), (Some("g"), None));
        assert!(shared.profile("one").is_some_and(|settings| settings.text("sso_region").is_none()));
        // The longer name of the one that counts when none is named counts alone, wherever it stands.
        for config in [
            "[profile default]\nregion = long\n[default]\nregion = short\nrole_arn = x\n",
            "[default]\n\
                        region = short\nrole_arn = x\n[profile default]\nregion = long\n",
        ] {
            let shared = Shared::read(config, "");
            let settings = shared.profile(DEFAULT);
            assert_eq!(settings.and_then(|settings| settings.text("region")), Some("long"));
            assert_eq!(settings.and_then(|settings| settings.text("role_arn")), None);
        }
    }

    #[test]
    fn credentials_count_more_and_their_keys_stay_together() {
        let config = "[default]\naws_access_key_id = C\naws_secret_access_key = C\naws_session_token = C\nregion = c\n\
                      [profile p]\naws_access_key_id = P\naws_secret_access_key = P\n";
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key = A\n[p]\nregion = r\n";
        let shared = Shared::read(config, credentials);
        assert_eq!(found(&shared, "default"), Ok(Some("A A".to_owned())), "without a token that goes with other keys");
        assert_eq!(shared.profile("default").and_then(|settings| settings.text("region")), Some("c"));
        assert_eq!(found(&shared, "p"), Ok(Some("P P".to_owned())));
        assert!(has_secrets(config) && !has_secrets("[default]\nregion = x\n[p]\naws_secret_access_key = x\n"));
    }

    #[test]
    fn what_is_nested_or_a_comment_is_no_setting() {
        let config = "\u{feff}[profile p]\ns3 =\n  role_arn = nested\n  # [default]\n  [profile q]\n\
                      role_arn = arn:x # a comment\nexternal_id = a#b;c ; another\nROLE_SESSION_NAME = s\nregion =\n";
        let shared = Shared::read(config, "");
        let text = |name| shared.profile("p").and_then(|settings| settings.text(name));
        assert_eq!((text("role_arn"), text("external_id")), (Some("arn:x"), Some("a#b;c")));
        assert_eq!((text("role_session_name"), text("region")), (Some("s"), None));
        assert!(!shared.has("q"));
    }
}
