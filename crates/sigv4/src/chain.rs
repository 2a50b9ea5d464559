//! What a profile says about keys, followed to where they begin: keys of its own, or roles, each assumed by the keys of what
//! comes before it.
//!
//! A profile that begins with a role means it, whatever keys it has besides; one that another names as its source gives its own
//! keys first, and so does one that names itself. Deliberately absent: asking anybody, and what would start a program or want
//! somebody to be there: those are refused by name.

use std::fmt;

use crate::Keys;
use crate::profile::{Settings, Shared};
use crate::web_identity::{Role, SESSION};

/// How many roles may follow one another.
pub const ROLES_MAX: usize = 8;
/// How long a session may be asked for, in seconds.
const SESSION_SECONDS: std::ops::RangeInclusive<u32> = 900..=43_200;

/// Where the first keys come from.
pub enum Source {
    /// They stand in the files.
    Keys(Keys),
    /// The environment has them.
    Environment,
    /// The machine's metadata tells them.
    Machine,
    /// The container's agent tells them.
    Container,
    /// A role that the token in a file assumes.
    WebIdentity {
        /// The role.
        role: Role,
        /// The path of the file.
        token_file: String,
    },
}

/// A role that keys assume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedRole {
    /// Which, and what its session is called.
    pub role: Role,
    /// What the role may ask for, so that nobody else is taken for who it trusts.
    pub external_id: Option<String>,
    /// How long the keys are good for, in seconds.
    pub seconds: Option<u32>,
}

/// A profile, followed to its first keys.
pub struct Chain {
    /// The first keys.
    pub source: Source,
    /// The roles that are assumed one after the other.
    pub roles: Vec<AssumedRole>,
    /// The region of the profile that was asked for.
    pub region: Option<String>,
}

/// What is wrong with the files, for whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// One file says one thing twice.
    Repeated {
        /// The profile.
        profile: String,
        /// What is said.
        setting: &'static str,
    },
    /// An access key without its secret, or the other way around.
    HalfKeys(String),
    /// Nothing there leads to keys.
    NoKeys(String),
    /// A source that is not there.
    NoSource {
        /// Who names it.
        profile: String,
        /// What it names.
        source: String,
    },
    /// It does not say who assumes its role, or says two.
    Sources(String),
    /// It is its own source by way of others.
    Loop(String),
    /// Too many roles follow one another.
    TooLong(String),
    /// A setting whose value makes no sense.
    Value {
        /// The profile.
        profile: String,
        /// The setting.
        setting: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A way to keys that is not available here.
    Unavailable {
        /// The profile.
        profile: String,
        /// The setting.
        setting: &'static str,
        /// Why not.
        why: &'static str,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated { profile, setting } => write!(f, "the profile `{profile}` says `{setting}` twice"),
            Self::HalfKeys(profile) => {
                write!(f, "the profile `{profile}` has no aws_access_key_id with an aws_secret_access_key")
            }
            Self::NoKeys(profile) => write!(f, "the profile `{profile}` has neither keys nor a way to some"),
            Self::NoSource { profile, source } => {
                write!(f, "the profile `{profile}` has the source `{source}`, and there is no such profile")
            }
            Self::Sources(profile) => {
                write!(f, "the role of the profile `{profile}` needs either `source_profile` or `credential_source`")
            }
            Self::Loop(profile) => write!(f, "the profile `{profile}` is its own source by way of others"),
            Self::TooLong(profile) => write!(f, "the profile `{profile}` needs more than {ROLES_MAX} roles"),
            Self::Value { profile, setting, expected } => {
                write!(f, "`{setting}` of the profile `{profile}` has to be {expected}")
            }
            Self::Unavailable { profile, setting, why } => {
                write!(f, "the profile `{profile}` says `{setting}`, which is not available: {why}")
            }
        }
    }
}

impl std::error::Error for Wrong {}

/// By whom a role is assumed.
enum By<'s> {
    /// By keys of the same profile, or of what it names as the source of keys.
    Itself,
    /// By those of another profile.
    Profile(&'s str),
}

impl Shared {
    /// Follows a profile to its first keys; `None` when nothing there is about keys, or there is no such profile.
    ///
    /// # Errors
    /// What is wrong with it, or with one that it leads to.
    pub fn chain(&self, name: &str) -> Result<Option<Chain>, Wrong> {
        let Some(first) = self.profile(name) else { return Ok(None) };
        let mut roles = Vec::new();
        let (mut seen, mut at, mut settings) = (vec![name], name, first);
        let source = loop {
            settings.check(at)?;
            if seen.len() > 1
                && let Some(keys) = settings.keys(at)?
            {
                break Some(Source::Keys(keys));
            }
            let Some((role, by)) = assumed(settings, at)? else { break source(settings, at)? };
            if roles.len() == ROLES_MAX {
                return Err(Wrong::TooLong(name.to_owned()));
            }
            roles.push(role);
            let next = match by {
                By::Itself => break source(settings, at)?,
                By::Profile(next) => next,
            };
            if seen.contains(&next) {
                return Err(Wrong::Loop(next.to_owned()));
            }
            let absent = || Wrong::NoSource { profile: at.to_owned(), source: next.to_owned() };
            settings = self.profile(next).ok_or_else(absent)?;
            at = next;
            seen.push(next);
        };
        roles.reverse();
        match source {
            Some(source) => Ok(Some(Chain { source, roles, region: region(first, name)? })),
            None if roles.is_empty() => Ok(None),
            None => Err(Wrong::NoKeys(at.to_owned())),
        }
    }
}

fn region(settings: &Settings, profile: &str) -> Result<Option<String>, Wrong> {
    let Some(region) = settings.text("region") else { return Ok(None) };
    if region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(Some(region.to_owned()));
    }
    Err(Wrong::Value { profile: profile.to_owned(), setting: "region", expected: "the name of a region" })
}

fn role(settings: &Settings, arn: &str) -> Role {
    Role { arn: arn.to_owned(), session: settings.text("role_session_name").unwrap_or(SESSION).to_owned() }
}

/// The role of a profile that keys assume, where it has one.
fn assumed<'s>(settings: &'s Settings, profile: &str) -> Result<Option<(AssumedRole, By<'s>)>, Wrong> {
    let (arn, token) = (settings.text("role_arn"), settings.text("web_identity_token_file"));
    let (Some(arn), None) = (arn, token) else { return Ok(None) };
    if settings.text("mfa_serial").is_some() {
        let why = "nobody is there who could enter what a second factor shows";
        return Err(Wrong::Unavailable { profile: profile.to_owned(), setting: "mfa_serial", why });
    }
    let by = match (settings.text("source_profile"), settings.text("credential_source")) {
        (Some(source), None) if source == profile => By::Itself,
        (Some(source), None) => By::Profile(source),
        (None, Some(_)) => By::Itself,
        _ => return Err(Wrong::Sources(profile.to_owned())),
    };
    let seconds = settings.text("duration_seconds").map(|text| {
        let seconds = text.parse().ok().filter(|seconds| SESSION_SECONDS.contains(seconds));
        let expected = "a number of seconds from 900 to 43200";
        seconds.ok_or_else(|| Wrong::Value { profile: profile.to_owned(), setting: "duration_seconds", expected })
    });
    let external_id = settings.text("external_id").map(str::to_owned);
    Ok(Some((AssumedRole { role: role(settings, arn), external_id, seconds: seconds.transpose()? }, by)))
}

/// Keys that no other profile gives; `None` when the profile says nothing about any.
fn source(settings: &Settings, profile: &str) -> Result<Option<Source>, Wrong> {
    if let Some(named) = settings.text("credential_source") {
        let known = [("Environment", Source::Environment), ("Ec2InstanceMetadata", Source::Machine)];
        let known = known.into_iter().chain([("EcsContainer", Source::Container)]);
        let found = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(named));
        let expected = "`Environment`, `Ec2InstanceMetadata` or `EcsContainer`";
        let wrong = || Wrong::Value { profile: profile.to_owned(), setting: "credential_source", expected };
        return found.map(|(_, source)| Some(source)).ok_or_else(wrong);
    }
    if let Some(token_file) = settings.text("web_identity_token_file") {
        let expected = "there beside `web_identity_token_file`";
        let wrong = || Wrong::Value { profile: profile.to_owned(), setting: "role_arn", expected };
        let arn = settings.text("role_arn").ok_or_else(wrong)?;
        return Ok(Some(Source::WebIdentity { role: role(settings, arn), token_file: token_file.to_owned() }));
    }
    if let Some(keys) = settings.keys(profile)? {
        return Ok(Some(Source::Keys(keys)));
    }
    let program = ("credential_process", "no programs are started");
    let somebody = "nobody is there who could sign in";
    let people = ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name", "login_session"];
    let unavailable = [program].into_iter().chain(people.map(|setting| (setting, somebody)));
    match unavailable.into_iter().find(|(setting, _)| settings.text(setting).is_some()) {
        Some((setting, why)) => Err(Wrong::Unavailable { profile: profile.to_owned(), setting, why }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it begins, then each role, as one text.
    fn followed(config: &str, credentials: &str, name: &str) -> String {
        let chain = match Shared::read(config, credentials).chain(name) {
            Ok(Some(chain)) => chain,
            Ok(None) => return "nothing".to_owned(),
            Err(wrong) => return wrong.to_string(),
        };
        let source = match chain.source {
            Source::Keys(keys) => keys.access_key,
            Source::Environment => "environment".to_owned(),
            Source::Machine => "machine".to_owned(),
            Source::Container => "container".to_owned(),
            Source::WebIdentity { role, token_file } => format!("{}({}) by {token_file}", role.arn, role.session),
        };
        let roles = chain.roles.iter().map(|assumed| {
            let extra = [assumed.external_id.clone(), assumed.seconds.map(|seconds| seconds.to_string())];
            let extra: Vec<String> = extra.into_iter().flatten().collect();
            format!(" > {}({}){}", assumed.role.arn, assumed.role.session, extra.join(","))
        });
        source + &roles.collect::<String>()
    }

    const CREDENTIALS: &str = "[base]\naws_access_key_id = BASE\naws_secret_access_key = canary\n";

    #[test]
    fn roles_are_assumed_in_the_order_in_which_each_gives_the_keys_of_the_next() {
        let config = "[profile app]\nrole_arn = arn:app\nsource_profile = between\nrole_session_name = s\n\
                      external_id = x\nduration_seconds = 900\nregion = eu-west-1\n\
                      [profile between]\nrole_arn = arn:between\nsource_profile = base\nregion = eu-west-2\n\
                      [profile itself]\nrole_arn = arn:own\nsource_profile = itself\naws_access_key_id = OWN\n\
                      aws_secret_access_key = canary\n\
                      [profile both]\nrole_arn = arn:both\nsource_profile = base\naws_access_key_id = BOTH\n\
                      aws_secret_access_key = canary\n\
                      [profile of-both]\nrole_arn = arn:of-both\nsource_profile = both\n";
        let of = |name| followed(config, CREDENTIALS, name);
        assert_eq!(of("app"), "BASE > arn:between(tresor) > arn:app(s)x,900");
        assert_eq!(of("itself"), "OWN > arn:own(tresor)");
        assert_eq!(of("both"), "BASE > arn:both(tresor)", "the role of whoever is asked for counts more than its keys");
        assert_eq!(of("of-both"), "BOTH > arn:of-both(tresor)", "the keys of a source count more than its role");
        assert_eq!((of("base").as_str(), of("none").as_str()), ("BASE", "nothing"));
        let region = Shared::read(config, CREDENTIALS).chain("app").ok().flatten().and_then(|chain| chain.region);
        assert_eq!(region.as_deref(), Some("eu-west-1"), "which is not the source's");
        // A role may stand in the credentials, and the source in the configuration.
        let (config, credentials) =
            (CREDENTIALS.replace("[", "[profile "), "[r]\nrole_arn = a\nsource_profile = base\n");
        assert_eq!(followed(&config, credentials, "r"), "BASE > a(tresor)");
    }

    #[test]
    fn first_keys_are_those_of_the_source_that_is_named() {
        for (source, expected) in [
            ("credential_source = Environment", "environment > arn:r(tresor)"),
            ("credential_source = ec2instancemetadata", "machine > arn:r(tresor)"),
            ("credential_source = EcsContainer", "container > arn:r(tresor)"),
            ("web_identity_token_file = /token\nrole_session_name = s", "arn:r(s) by /token"),
            ("web_identity_token_file = /token\nsource_profile = base", "arn:r(tresor) by /token"),
        ] {
            assert_eq!(followed(&format!("[default]\nrole_arn = arn:r\n{source}\n"), CREDENTIALS, "default"), expected);
        }
        let config = "[profile web]\nrole_arn = arn:web\nweb_identity_token_file = /token\n\
                      [profile app]\nrole_arn = arn:app\nsource_profile = web\n[profile alone]\ncredential_source = Environment\n";
        assert_eq!(followed(config, "", "app"), "arn:web(tresor) by /token > arn:app(tresor)");
        assert_eq!(followed(config, "", "alone"), "environment");
        assert_eq!(followed("[default]\nregion = x\n", "", "default"), "nothing");
    }

    #[test]
    fn a_chain_that_goes_in_circles_or_on_and_on_is_refused() {
        let link = |name: usize, source: usize| {
            format!("[profile p{name}]\nrole_arn = arn:{name}\nsource_profile = p{source}\n")
        };
        let circle = [link(0, 1), link(1, 2), link(2, 1)].concat();
        assert_eq!(followed(&circle, "", "p0"), "the profile `p1` is its own source by way of others");
        let base = |number: usize| format!("[p{number}]\naws_access_key_id = A\naws_secret_access_key = s\n");
        let long = |count: usize| (0..count).map(|name| link(name, name + 1)).collect::<String>();
        assert!(followed(&long(ROLES_MAX), &base(ROLES_MAX), "p0").starts_with("A > arn:7(tresor) >"));
        let beyond = followed(&long(ROLES_MAX + 1), &base(ROLES_MAX + 1), "p0");
        assert_eq!(beyond, "the profile `p0` needs more than 8 roles");
    }

    #[test]
    fn what_makes_no_sense_or_wants_a_program_or_a_person_is_refused_by_name() {
        for (inside, expected) in [
            ("role_arn = r\n", "needs either `source_profile` or `credential_source`"),
            ("role_arn = r\nsource_profile = base\ncredential_source = Environment\n", "needs either"),
            ("role_arn = r\nsource_profile = nowhere\n", "has the source `nowhere`, and there is no such profile"),
            ("role_arn = r\nsource_profile = empty\n", "`empty` has neither keys nor a way to some"),
            ("role_arn = r\nsource_profile = p\n", "`p` has neither keys nor a way to some"),
            ("role_arn = r\nsource_profile = half\n", "`half` has no aws_access_key_id with"),
            ("role_arn = r\nsource_profile = twice\n", "`twice` says `aws_access_key_id` twice"),
            ("role_arn = r\nsource_profile = base\nduration_seconds = 899\n", "`duration_seconds` of the profile `p`"),
            ("role_arn = r\nsource_profile = base\nduration_seconds = 43201\n", "from 900 to 43200"),
            ("role_arn = r\nsource_profile = base\nduration_seconds = 1h\n", "from 900 to 43200"),
            ("role_arn = r\nsource_profile = base\nregion = a.example/\n", "the name of a region"),
            (
                "role_arn = r\nsource_profile = base\nmfa_serial = arn:mfa\n",
                "says `mfa_serial`, which is not available",
            ),
            ("role_arn = r\ncredential_source = Elsewhere\n", "`credential_source` of the profile `p` has to be"),
            ("web_identity_token_file = /t\n", "`role_arn` of the profile `p` has to be there"),
            ("credential_process = /bin/x canary\n", "says `credential_process`, which is not available: no programs"),
            ("sso_session = x\n", "says `sso_session`, which is not available: nobody is there"),
            ("sso_start_url = x\nsso_role_name = y\n", "says `sso_start_url`"),
            ("login_session = x\n", "says `login_session`"),
            ("role_arn = r\nsource_profile = program\n", "`program` says `credential_process`"),
        ] {
            let others = "[profile empty]\nregion = x\n[profile program]\ncredential_process = canary\n";
            let half = "[half]\naws_secret_access_key = canary\n\
                        [twice]\naws_access_key_id = a\naws_access_key_id = b\naws_secret_access_key = canary\n";
            let config = format!("[profile p]\n{inside}{others}");
            let said = followed(&config, &format!("{CREDENTIALS}{half}"), "p");
            assert!(said.contains(expected) && !said.contains("canary"), "{inside}: {said}");
        }
        // Who has keys besides needs neither.
        let keys =
            "[default]\ncredential_process = x\nsso_session = y\naws_access_key_id = A\naws_secret_access_key = s\n";
        assert_eq!(followed(keys, "", "default"), "A");
    }
}
