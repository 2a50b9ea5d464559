//! `seal`: what opens the store by itself. Here, what all types have in common, and `static`: which key, and where it lies.
//!
//! Only the references are read here; the keys behind them are read when they are needed (`static_seal.rs`). A key that
//! stands in the file itself is taken, with a warning. Deliberately absent: what the services are that keep keys ([`services`](super::services)). An unknown type is
//! refused: ignoring it would leave data sealed in another way than its operator believes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tresor_core::SealChecks;
use tresor_hcl::{Block, Item, Position, Value};
use tresor_secret::SecretString;

use super::ConfigError;
use super::clouds::{AzureKeyVaultConfig, GcpKmsConfig, read_azurekeyvault, read_gcpckms};
use super::kmip::{KmipConfig, read_kmip};
use super::load::Source;
use super::modules::{Pkcs11Config, read_pkcs11};
use super::more_clouds::{AliCloudKmsConfig, OciKmsConfig, read_alicloudkms, read_ocikms};
use super::services::{AwsKmsConfig, Environment, SharedFiles, TransitConfig, read_awskms, read_transit};

/// The longest id of a key; it is stored, logged and shown.
const KEY_ID_BYTES_MAX: usize = 128;

/// The variable that names the type of seal.
pub(super) const SEAL_TYPE: &str = "VAULT_SEAL_TYPE";

/// A `seal` stanza.
#[derive(Clone, Debug)]
pub struct SealConfig {
    /// What opens the store.
    pub way: SealWay,
    /// When it is looked at while nobody needs it; never, without.
    pub checks: Option<SealChecks>,
    /// Whether its random bytes are mixed into the server's.
    pub augments_entropy: bool,
}

/// What opens the store by itself.
#[derive(Clone, Debug)]
pub enum SealWay {
    /// A key that lies with the machine.
    Static(StaticSealConfig),
    /// The transit engine of another server.
    Transit(TransitConfig),
    /// The key management service of AWS.
    AwsKms(Box<AwsKmsConfig>),
    /// A vault of keys in Microsoft's cloud.
    AzureKeyVault(AzureKeyVaultConfig),
    /// The key management service of Google's cloud.
    GcpKms(GcpKmsConfig),
    /// The key management service of Alibaba's cloud.
    AliCloudKms(AliCloudKmsConfig),
    /// The key management service of Oracle's cloud.
    OciKms(OciKmsConfig),
    /// A server of keys that speaks KMIP.
    Kmip(KmipConfig),
    /// A hardware security module.
    Pkcs11(Pkcs11Config),
}

impl SealWay {
    /// The type of the stanza.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Transit(_) => "transit",
            Self::AwsKms(_) => "awskms",
            Self::AzureKeyVault(_) => "azurekeyvault",
            Self::GcpKms(_) => "gcpckms",
            Self::AliCloudKms(_) => "alicloudkms",
            Self::OciKms(_) => "ocikms",
            Self::Kmip(_) => "kmip",
            Self::Pkcs11(_) => "pkcs11",
        }
    }

    /// The id of its key.
    #[must_use]
    pub fn key_id(&self) -> String {
        match self {
            Self::Static(seal) => seal.current.id.clone(),
            Self::Transit(seal) => seal.key_id(),
            Self::AwsKms(seal) => seal.key_id.clone(),
            Self::AzureKeyVault(seal) => seal.key_id(),
            Self::GcpKms(seal) => seal.key.clone(),
            Self::AliCloudKms(seal) => seal.key_id.clone(),
            Self::OciKms(seal) => seal.key_id.clone(),
            Self::Kmip(seal) => seal.key_id.clone(),
            Self::Pkcs11(seal) => seal.key_id(),
        }
    }

    /// Whether it makes random bytes for others.
    #[must_use]
    pub const fn gives_entropy(&self) -> bool {
        match self {
            Self::Transit(_) | Self::AwsKms(_) | Self::GcpKms(_) | Self::Pkcs11(_) => true,
            Self::Static(_) | Self::AzureKeyVault(_) | Self::AliCloudKms(_) | Self::OciKms(_) | Self::Kmip(_) => false,
        }
    }

    /// The files that are read for it.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Static(seal) => [Some(&seal.current), seal.previous.as_ref()]
                .into_iter()
                .flatten()
                .filter_map(|key| key.place.file())
                .collect(),
            Self::AzureKeyVault(seal) => seal.files(),
            Self::GcpKms(seal) => seal.credentials.iter().map(PathBuf::as_path).collect(),
            Self::AliCloudKms(seal) => seal.files(),
            Self::OciKms(seal) => seal.files(),
            Self::Kmip(seal) => seal.files(),
            Self::Pkcs11(seal) => seal.pin.file().into_iter().chain([seal.token.library.as_path()]).collect(),
            Self::AwsKms(seal) => seal.keys.shared.iter().flat_map(SharedFiles::paths).collect(),
            Self::Transit(seal) => seal.token.iter().filter_map(KeyPlace::file).chain(seal.tls.files()).collect(),
        }
    }
}

/// A `seal "static"` stanza.
#[derive(Clone, Debug)]
pub struct StaticSealConfig {
    /// The key that is to open the store.
    pub current: KeyReference,
    /// The one before, while keys are changed.
    pub previous: Option<KeyReference>,
}

/// A key: its id, and where it lies.
#[derive(Clone, Debug)]
pub struct KeyReference {
    /// What never names another key.
    pub id: String,
    /// Where it lies.
    pub place: KeyPlace,
}

/// Where a key lies; what stands in the configuration itself is not shown.
#[derive(Clone)]
pub enum KeyPlace {
    /// In a variable of the environment.
    Variable(String),
    /// In a file.
    File(PathBuf),
    /// In a file that the service manager hands to this service alone.
    Credential(String),
    /// In the configuration.
    Literal(Arc<SecretString>),
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "env://{name}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Credential(name) => write!(f, "credential://{name}"),
            Self::Literal(_) => f.write_str("the configuration"),
        }
    }
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl KeyPlace {
    /// The file that it is.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// Reads a reference; nothing when it names no place.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\0', '=']) && name != "." && name != "..";
        if let Some(name) = text.strip_prefix("env://") {
            is_name(name).then(|| Self::Variable(name.to_owned()))
        } else if let Some(path) = text.strip_prefix("file://") {
            (!path.is_empty() && !path.contains('\0')).then(|| Self::File(PathBuf::from(path)))
        } else if let Some(name) = text.strip_prefix("credential://") {
            is_name(name).then(|| Self::Credential(name.to_owned()))
        } else {
            Some(Self::Literal(Arc::new(SecretString::new(text.to_owned()))))
        }
    }
}

/// The options of a stanza; what nobody asks for is not known.
pub(super) struct Options<'b> {
    given: BTreeMap<&'b str, (&'b Value, Position)>,
    /// Where the stanza begins.
    pub(super) position: Position,
}

impl<'b> Options<'b> {
    /// What is said twice is refused: which of the two is meant nobody knows.
    pub(super) fn of(source: &Source<'_>, block: &Block<'b>) -> Result<Self, ConfigError> {
        let named = |item: &'b Item| item.keys.first().map(|key| (key.name.as_str(), (&item.value, key.position)));
        let mut given = BTreeMap::new();
        for (name, option) in block.object.items.iter().filter_map(named) {
            if given.insert(name, option).is_some() {
                return Err(source.error(option.1, format!("`{name}` is given twice")));
            }
        }
        Ok(Self { given, position: block.position })
    }

    /// A text that says something, and where it stands.
    pub(super) fn text(&mut self, source: &Source<'_>, name: &str) -> Result<Option<(String, Position)>, ConfigError> {
        let Some((value, _)) = self.given.remove(name) else { return Ok(None) };
        Ok(Some((source.text(name, value)?, value.position)).filter(|(text, _)| !text.is_empty()))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, source: &Source<'_>, name: &str) -> Result<Option<bool>, ConfigError> {
        self.given.remove(name).map(|(value, _)| source.flag(name, value)).transpose()
    }

    /// Whatever is left nobody knows.
    pub(super) fn finish(self, source: &mut Source<'_>) {
        for (name, (_, position)) in self.given {
            source.unknown(name, position);
        }
    }

    fn duration(&mut self, source: &Source<'_>, name: &str, duration: &mut Duration) -> Result<(), ConfigError> {
        let Some((value, _)) = self.given.remove(name) else { return Ok(()) };
        *duration = source.duration(name, value)?;
        if duration.is_zero() {
            return Err(source.error(value.position, format!("`{name}` must be longer than nothing")));
        }
        Ok(())
    }

    /// Where a secret lies, or the secret itself.
    pub(super) fn place(&mut self, source: &Source<'_>, name: &str) -> Result<Option<KeyPlace>, ConfigError> {
        let Some((text, position)) = self.text(source, name)? else { return Ok(None) };
        let wrong = || {
            let text = format!("`{name}` is env://VARIABLE, file:///PATH, credential://NAME, or the secret itself");
            source.error(position, text)
        };
        KeyPlace::parse(&text).ok_or_else(wrong).map(Some)
    }
}

/// Reads a `seal` stanza; one that is disabled, or that asks for shares alone, is none.
pub(super) fn read_seal(
    source: &mut Source<'_>,
    block: &Block<'_>,
    environment: Environment<'_>,
) -> Result<Option<SealConfig>, ConfigError> {
    let [named] = *block.labels.as_slice() else {
        return Err(source.error(block.position, "`seal` takes one type"));
    };
    let mut options = Options::of(source, block)?;
    // What is disabled may be of a type that is not known here, but for what it was used.
    let is_disabled = options.flag(source, "disabled")?.unwrap_or(false);
    let mut checks = SealChecks::default();
    // As in the reference: what is disabled is of the type that was used until now, and the environment says which is to be.
    let kind = type_of(environment).filter(|_| !is_disabled);
    let kind = kind.as_deref().unwrap_or(named);
    let is_checked = options.flag(source, "health_check_enabled")?.unwrap_or(true);
    options.duration(source, "health_check_timeout", &mut checks.timeout)?;
    options.duration(source, "health_check_interval", &mut checks.interval)?;
    options.duration(source, "health_check_interval_unhealthy", &mut checks.interval_unhealthy)?;
    let read: ReadWay = match kind {
        "shamir" => return Ok(None),
        "static" => |source, options, _| read_static(source, options).map(SealWay::Static),
        "awskms" => {
            |source, options, environment| Ok(SealWay::AwsKms(Box::new(read_awskms(source, options, environment)?)))
        }
        "azurekeyvault" => {
            |source, options, environment| read_azurekeyvault(source, options, environment).map(SealWay::AzureKeyVault)
        }
        "gcpckms" => |source, options, environment| read_gcpckms(source, options, environment).map(SealWay::GcpKms),
        "alicloudkms" => {
            |source, options, environment| read_alicloudkms(source, options, environment).map(SealWay::AliCloudKms)
        }
        "ocikms" => |source, options, environment| read_ocikms(source, options, environment).map(SealWay::OciKms),
        "kmip" => |source, options, environment| read_kmip(source, options, environment).map(SealWay::Kmip),
        "pkcs11" => |source, options, environment| read_pkcs11(source, options, environment).map(SealWay::Pkcs11),
        "transit" => |source, options, environment| read_transit(source, options, environment).map(SealWay::Transit),
        other => {
            let text = format!("seal `{other}` is not available: {KINDS} are, and `shamir`, which every store has");
            return Err(source.error(block.position, text));
        }
    };
    if is_disabled {
        return Ok(None);
    }
    let way = read(source, &mut options, environment)?;
    options.finish(source);
    Ok(Some(SealConfig { way, checks: is_checked.then_some(checks), augments_entropy: false }))
}

/// The type that the environment names; what could be more than a type is none that there is.
fn type_of(environment: Environment<'_>) -> Option<String> {
    let kind = environment(SEAL_TYPE).filter(|kind| !kind.is_empty())?;
    Some(if kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) { kind } else { "?".to_owned() })
}

/// The stanza that the environment stands for, where no file has one that counts.
pub(super) fn of_environment(environment: Environment<'_>) -> Option<String> {
    type_of(environment).map(|kind| format!("seal \"{kind}\" {{}}"))
}

/// Reads an `entropy` stanza: where it stands.
pub(super) fn read_entropy(source: &mut Source<'_>, block: &Block<'_>) -> Result<Position, ConfigError> {
    if block.labels.as_slice() != ["seal"] {
        return Err(source.error(block.position, "`entropy` takes one source, which is `seal`"));
    }
    let mut options = Options::of(source, block)?;
    match options.text(source, "mode")? {
        Some((mode, _)) if mode == "augmentation" => {}
        Some((_, at)) => return Err(source.error(at, "`mode` of `entropy` is `augmentation`")),
        None => return Err(source.error(block.position, "`entropy \"seal\"` needs a `mode`, which is `augmentation`")),
    }
    options.finish(source);
    Ok(block.position)
}

/// Has random bytes of the seal mixed into the server's; refused where they would silently not be.
pub(super) fn augment(seal: Option<&mut SealConfig>) -> Result<(), String> {
    match seal {
        Some(seal) if seal.way.gives_entropy() => {
            seal.augments_entropy = true;
            Ok(())
        }
        Some(seal) => {
            let kind = seal.way.kind();
            Err(format!("seal `{kind}` gives no random bytes: `pkcs11`, `transit`, `awskms` and `gcpckms` do"))
        }
        None => Err("`entropy \"seal\"` needs a `seal` that gives random bytes".to_owned()),
    }
}

/// Reads what is particular to a type.
type ReadWay = fn(&mut Source<'_>, &mut Options<'_>, Environment<'_>) -> Result<SealWay, ConfigError>;

/// The types that there are.
const KINDS: &str =
    "`static`, `transit`, `pkcs11`, `kmip`, `awskms`, `azurekeyvault`, `gcpckms`, `ocikms` and `alicloudkms`";

fn read_static(source: &mut Source<'_>, options: &mut Options<'_>) -> Result<StaticSealConfig, ConfigError> {
    let at = options.position;
    let mut reference = |which: &str| {
        let (id, key) =
            (options.text(source, &format!("{which}_key_id"))?, options.text(source, &format!("{which}_key"))?);
        let ((id, id_at), (key, key_at)) = match (id, key) {
            (None, None) => return Ok(None),
            (Some(id), Some(key)) => (id, key),
            (id, _) => {
                let missing = if id.is_none() { format!("{which}_key_id") } else { format!("{which}_key") };
                return Err(source.error(at, format!("seal `static` needs a `{missing}`")));
            }
        };
        if id.len() > KEY_ID_BYTES_MAX || id.chars().any(char::is_control) {
            let text = format!("`{which}_key_id` is a name of at most {KEY_ID_BYTES_MAX} bytes");
            return Err(source.error(id_at, text));
        }
        let text = format!(
            "`{which}_key` is env://VARIABLE, file:///PATH, credential://NAME, or, which is not advised, the key itself"
        );
        let place = KeyPlace::parse(&key).ok_or_else(|| source.error(key_at, text))?;
        if matches!(place, KeyPlace::Literal(_)) {
            let (file, line) = (source.file.display().to_string(), key_at.line);
            source.warnings.push(format!(
                "{file}:{line}: `{which}_key` is the key itself: whoever reads this file opens every copy of the store"
            ));
        }
        Ok(Some(KeyReference { id, place }))
    };
    let current = reference("current")?;
    let previous = reference("previous")?;
    let needed = "seal `static` needs a `current_key_id` and a `current_key`";
    let current = current.ok_or_else(|| source.error(at, needed))?;
    if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
        let text = "`previous_key_id` and `current_key_id` must differ: an id never names another key";
        return Err(source.error(at, text));
    }
    Ok(StaticSealConfig { current, previous })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(seal: &str) -> Result<ServerConfig, String> {
        let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{seal}\n");
        parse(&[(PathBuf::from("server.hcl"), text)], &|_| None).map_err(|error| error.to_string())
    }

    fn static_seal(config: ServerConfig) -> StaticSealConfig {
        match config.seal.unwrap().way {
            SealWay::Static(seal) => seal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_named_and_its_place_is_read_as_the_reference_spells_it() {
        let config = read(
            r#"seal "static" {
              current_key_id  = "b"
              current_key     = "file:///keys/b"
              previous_key_id = "a"
              previous_key    = "env://KEY_A"
            }"#,
        );
        let seal = static_seal(config.unwrap());
        assert_eq!((seal.current.id.as_str(), format!("{}", seal.current.place)), ("b", "file:///keys/b".to_owned()));
        let previous = seal.previous.unwrap();
        assert_eq!((previous.id.as_str(), format!("{}", previous.place)), ("a", "env://KEY_A".to_owned()));
        let config = read(r#"seal "static" { current_key_id = "b", current_key = "credential://unseal" }"#).unwrap();
        assert_eq!(format!("{:?}", static_seal(config.clone()).current.place), "credential://unseal");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn a_key_in_the_file_itself_is_taken_with_a_warning_and_never_shown() {
        let key = "542a91c2aff86797e8dfa16adf86dcbea5706410791b319798936a1b08e4ef8b";
        let text = format!("seal \"static\" {{\n  current_key_id = \"x\"\n  current_key = \"{key}\"\n}}");
        let config = read(&text).unwrap();
        assert!(matches!(&config.warnings[..], [warning] if warning.starts_with("server.hcl:7: `current_key` is")));
        assert!(!format!("{config:?}").contains(key));
        assert!(config.seal.is_some());
    }

    #[test]
    fn a_stanza_that_asks_for_nothing_is_none() {
        for text in [
            "",
            "seal \"shamir\" {}",
            "seal \"static\" { disabled = \"true\" }",
            "seal \"static\" {\n current_key_id = \"x\"\n current_key = \"env://X\"\n disabled = true\n}",
        ] {
            assert!(read(text).unwrap().seal.is_none(), "{text}");
        }
    }

    #[test]
    fn entropy_of_the_seal_is_asked_for_by_name_and_only_of_one_that_gives_some() {
        let seal =
            "seal \"transit\" {\n address = \"https://a\"\n key_name = \"k\"\n mount_path = \"t\"\n token = \"x\"\n}\n";
        let entropy = "entropy \"seal\" {\n  mode = \"augmentation\"\n}\n";
        for text in [format!("{seal}{entropy}"), format!("{entropy}{seal}")] {
            assert!(read(&text).unwrap().seal.unwrap().augments_entropy);
        }
        assert!(!read(seal).unwrap().seal.unwrap().augments_entropy);
        let own = "seal \"static\" {\n current_key_id = \"x\"\n current_key = \"env://X\"\n}\n";
        for (text, words) in [
            (entropy.to_owned(), "`entropy \"seal\"` needs a `seal`"),
            (format!("{own}{entropy}"), "seal `static` gives no random bytes"),
            (format!("{seal}{entropy}{entropy}"), "only one `entropy`"),
            (format!("{seal}entropy \"seal\" {{}}"), "needs a `mode`"),
            (format!("{seal}entropy \"seal\" {{\n mode = \"x\"\n}}"), "is `augmentation`"),
            (format!("{seal}entropy \"moon\" {{\n mode = \"augmentation\"\n}}"), "is `seal`"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_stanza_that_makes_no_sense_is_refused_without_its_keys() {
        for (inside, words) in [
            ("", "needs a `current_key_id` and a `current_key`"),
            ("current_key_id = \"x\"", "needs a `current_key`"),
            ("current_key = \"canary\"", "needs a `current_key_id`"),
            ("current_key_id = \"\"\ncurrent_key = \"canary\"", "needs a `current_key_id`"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key = \"canary\"", "`previous_key_id`"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key_id = \"y\"", "`previous_key`"),
            (
                "current_key_id = \"x\"\ncurrent_key = \"env://X\"\nprevious_key_id = \"x\"\nprevious_key = \"env://Y\"",
                "must differ",
            ),
            ("current_key_id = \"a\\nb\"\ncurrent_key = \"env://X\"", "`current_key_id` is a name"),
            ("current_key_id = \"x\"\ncurrent_key = \"env://\"", "`current_key` is env://"),
            ("current_key_id = \"x\"\ncurrent_key = \"credential://../key\"", "`current_key` is env://"),
            ("current_key_id = \"x\"\ncurrent_key = [\"canary\"]", "`current_key` must be a string"),
            (
                "current_key_id = \"x\"\ncurrent_key = \"env://X\"\n  current_key = \"canary\"",
                "server.hcl:8:3: `current_key` is given twice",
            ),
        ] {
            let error = read(&format!("seal \"static\" {{\n{inside}\n}}")).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{inside}: {error}");
        }
        assert!(read("seal \"ovhcloud\" {}").unwrap_err().contains("`ovhcloud` is not available"));
        let twice = "seal \"static\" {\n current_key_id = \"x\"\n current_key = \"env://X\"\n}\n";
        assert!(read(&format!("{twice}{twice}")).unwrap_err().contains("only one `seal`"));
    }

    #[test]
    fn the_environment_tells_what_type_opens_the_store_and_all_of_it() {
        let read = |seal: &str, variables: &[(&str, &str)]| {
            let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{seal}\n");
            let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
            Ok::<_, String>(config.seal.map(|seal| (seal.way.kind(), seal.way.key_id(), seal.checks.is_some())))
        };
        let awskms = ("VAULT_SEAL_TYPE", "awskms");
        let all = [awskms, ("VAULT_AWSKMS_SEAL_KEY_ID", "k"), ("AWS_REGION", "eu-central-1")];
        let found = Some(("awskms", "k".to_owned(), true));
        // With no stanza, one of shares alone, and one that was used until now.
        let static_seal = "current_key_id = \"x\"\n current_key = \"env://X\"\n";
        for seal in [
            String::new(),
            "seal \"shamir\" {}".to_owned(),
            format!("seal \"static\" {{\n {static_seal} disabled = true\n}}"),
        ] {
            assert_eq!(read(&seal, &all), Ok(found.clone()), "{seal}");
        }
        // What a stanza says besides its type stays.
        let seal =
            "seal \"transit\" {\n kms_key_id = \"own\"\n region = \"eu-west-1\"\n health_check_enabled = false\n}";
        assert_eq!(read(seal, &[awskms]), Ok(Some(("awskms", "own".to_owned(), false))));
        for (kind, nothing) in [("", None), ("shamir", None)] {
            assert_eq!(read("", &[("VAULT_SEAL_TYPE", kind)]), Ok(nothing), "{kind}");
        }
        let refused = read("", &[("VAULT_SEAL_TYPE", "static")]).unwrap_err();
        assert!(refused.starts_with("VAULT_SEAL_TYPE:1:15: seal `static` needs"), "{refused}");
        for unknown in ["abacus", "static\" {}\n"] {
            let refused = read("", &[("VAULT_SEAL_TYPE", unknown)]).unwrap_err();
            assert!(refused.contains("is not available") && !refused.contains('{'), "{refused}");
        }
    }
}
