//! `seal "pkcs11"`: which key of a hardware security module opens the store.
//!
//! What the environment says counts more than what the stanza says, as the reference has it. The PIN is a reference, read when it is
//! needed. Deliberately absent: how a module is asked (`key_services`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use tresor_hcl::{Block, Position};
use tresor_pkcs11::{HmacHash, KeyName, Mechanism, OaepHash, TokenConfig};

use super::ConfigError;
use super::load::Source;
use super::seal::{KeyPlace, Options};
use super::services::{Environment, in_variable};

/// The longest label of a token, as the standard has it.
const TOKEN_LABEL_BYTES_MAX: usize = 32;
/// The longest label of a key; it is stored, logged and shown.
const KEY_LABEL_BYTES_MAX: usize = 256;
/// The longest id of a key.
const KEY_ID_BYTES_MAX: usize = 128;

/// A `seal "pkcs11"` stanza.
#[derive(Clone, Debug)]
pub struct Pkcs11Config {
    /// The token and its keys.
    pub token: TokenConfig,
    /// What it is opened with.
    pub pin: KeyPlace,
}

impl Pkcs11Config {
    /// The token and its key, as operators know them.
    #[must_use]
    pub fn key_id(&self) -> String {
        let slot = || self.token.slot.map(|slot| format!("slot {slot}")).unwrap_or_default();
        let token = self.token.token_label.clone().unwrap_or_else(slot);
        let id = || format!("0x{}", hex::encode(self.token.key.id.as_deref().unwrap_or_default()));
        format!("{token}/{}", self.token.key.label.clone().unwrap_or_else(id))
    }
}

/// What the environment or the stanza says.
struct Given<'s, 'w, 'o, 'b, 'e> {
    source: &'s Source<'w>,
    options: &'o mut Options<'b>,
    environment: Environment<'e>,
}

impl Given<'_, '_, '_, '_, '_> {
    fn text(&mut self, name: &str, variable: &str) -> Result<Option<String>, ConfigError> {
        let own = self.options.text(self.source, name)?.map(|(text, _)| text);
        Ok((self.environment)(variable).filter(|text| !text.is_empty()).or(own))
    }

    fn flag(&mut self, name: &str, variable: &str) -> Result<bool, ConfigError> {
        match self.text(name, variable)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "f") => Ok(false),
            Some("true" | "1" | "t") => Ok(true),
            Some(_) => Err(self.wrong(format!("`{name}` is `true` or `false`"))),
        }
    }

    fn label(&mut self, name: &str, variable: &str, bytes_max: usize) -> Result<Option<String>, ConfigError> {
        let label = self.text(name, variable)?;
        if label.as_ref().is_some_and(|label| label.len() > bytes_max || label.chars().any(char::is_control)) {
            return Err(self.wrong(format!("`{name}` is a label of at most {bytes_max} bytes")));
        }
        Ok(label)
    }

    fn key(&mut self, (label, id): (&str, &str), variables: (&str, &str)) -> Result<Option<KeyName>, ConfigError> {
        let text = self.text(id, variables.1)?;
        let wrong = || self.wrong(format!("`{id}` is an id in hexadecimal digits, such as 0x3334"));
        let bytes = text.map(|text| {
            let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(&text);
            hex::decode(digits).ok().filter(|id| !id.is_empty() && id.len() <= KEY_ID_BYTES_MAX).ok_or_else(wrong)
        });
        let name = KeyName { id: bytes.transpose()?, label: self.label(label, variables.0, KEY_LABEL_BYTES_MAX)? };
        Ok(Some(name).filter(|name| *name != KeyName::default()))
    }

    fn wrong(&self, text: impl Into<String>) -> ConfigError {
        self.source.error(self.at(), text)
    }

    fn at(&self) -> Position {
        self.options.position
    }
}

pub(super) fn read_pkcs11(
    source: &mut Source<'_>,
    options: &mut Options<'_>,
    environment: Environment<'_>,
) -> Result<Pkcs11Config, ConfigError> {
    let own_pin = options.place(source, "pin")?;
    let pin = in_variable("VAULT_HSM_PIN", environment).or(own_pin);
    let mut given = Given { source, options, environment };
    let needed = |given: &Given<'_, '_, '_, '_, '_>, what: &str| given.wrong(format!("seal `pkcs11` needs {what}"));
    let library = given.text("lib", "VAULT_HSM_LIB")?.ok_or_else(|| needed(&given, "a `lib`"))?;
    let slot = given.text("slot", "VAULT_HSM_SLOT")?;
    let slot =
        slot.map(|text| number(&text).ok_or_else(|| given.wrong("`slot` is the number of a slot"))).transpose()?;
    let token_label = given.label("token_label", "VAULT_HSM_TOKEN_LABEL", TOKEN_LABEL_BYTES_MAX)?;
    if slot.is_none() && token_label.is_none() {
        return Err(needed(&given, "a `slot` or a `token_label`"));
    }
    let pin = pin.ok_or_else(|| needed(&given, "a `pin`"))?;
    let key = given.key(("key_label", "key_id"), ("VAULT_HSM_KEY_LABEL", "VAULT_HSM_KEY_ID"))?;
    let key = key.ok_or_else(|| needed(&given, "a `key_label` or a `key_id`"))?;
    let variables = ("VAULT_HSM_HMAC_KEY_LABEL", "VAULT_HSM_HMAC_KEY_ID");
    let hmac_key = given.key(("hmac_key_label", "hmac_key_id"), variables)?;
    let hmac_hash = match given.text("hmac_mechanism", "VAULT_HSM_HMAC_MECHANISM")? {
        None => HmacHash::default(),
        Some(text) => HmacHash::parse(&text).ok_or_else(|| {
            given.wrong("`hmac_mechanism` is CKM_SHA256_HMAC (0x0251), CKM_SHA384_HMAC or CKM_SHA512_HMAC")
        })?,
    };
    let oaep_hash = match given.text("rsa_oaep_hash", "VAULT_HSM_RSA_OAEP_HASH")? {
        None => OaepHash::default(),
        Some(text) => OaepHash::parse(&text)
            .ok_or_else(|| given.wrong("`rsa_oaep_hash` is sha1, sha224, sha256, sha384 or sha512"))?,
    };
    let mechanism = match given.text("mechanism", "VAULT_HSM_MECHANISM")? {
        None => None,
        Some(text) => Some(Mechanism::parse(&text, hmac_hash, oaep_hash).ok_or_else(|| {
            given.wrong("`mechanism` is CKM_AES_GCM (0x1087), CKM_AES_CBC_PAD (0x1085) or CKM_RSA_PKCS_OAEP (0x0009)")
        })?),
    };
    if matches!(mechanism, Some(Mechanism::AesCbcPad(_))) && hmac_key.is_none() {
        return Err(given.wrong("the mechanism CKM_AES_CBC_PAD needs a `hmac_key_label` or a `hmac_key_id`"));
    }
    let generates = given.flag("generate_key", "VAULT_HSM_GENERATE_KEY")?;
    let writable = given.flag("force_rw_session", "VAULT_HSM_FORCE_RW_SESSION")?;
    let seals_outside = given.flag("rsa_encrypt_local", "VAULT_HSM_RSA_ENCRYPT_LOCAL")?;
    if seals_outside && oaep_hash.outside().is_none() {
        return Err(given.wrong("`rsa_encrypt_local` takes a `rsa_oaep_hash` of sha1, sha256, sha384 or sha512"));
    }
    if seals_outside && given.flag("disable_software_encryption", "VAULT_HSM_DISABLE_SOFTWARE_ENCRYPTION")? {
        return Err(given.wrong("`rsa_encrypt_local` is what `disable_software_encryption` forbids"));
    }
    let begins_anew = !given.flag("disable_auto_reinit_on_error", "VAULT_HSM_DISABLE_AUTO_REINIT_ON_ERROR")?;
    // What is sealed says which key sealed it; and a module is asked one thing at a time.
    for (name, variable) in [
        ("default_key_label", "VAULT_HSM_DEFAULT_KEY_LABEL"),
        ("default_hmac_key_label", "VAULT_HSM_DEFAULT_HMAC_KEY_LABEL"),
        ("disable_software_encryption", "VAULT_HSM_DISABLE_SOFTWARE_ENCRYPTION"),
        ("max_parallel", "VAULT_HSM_MAX_PARALLEL"),
    ] {
        given.text(name, variable)?;
    }
    let library = PathBuf::from(library);
    let token = TokenConfig {
        library,
        slot,
        token_label,
        key,
        mechanism,
        hmac_key,
        hmac_hash,
        oaep_hash,
        generates,
        made: None,
        seals_outside,
        begins_anew,
        writable,
    };
    Ok(Pkcs11Config { token, pin })
}

/// Reads a `kms_library` stanza: a module's library, by the name that keys in it are written down with.
pub(super) fn read_kms_library(
    source: &mut Source<'_>,
    block: &Block<'_>,
    libraries: &mut BTreeMap<String, PathBuf>,
) -> Result<(), ConfigError> {
    if block.labels.as_slice() != ["pkcs11"] {
        return Err(source.error(block.position, "`kms_library` takes one type, which is `pkcs11`"));
    }
    let mut options = Options::of(source, block)?;
    let needed = |what: &str| source.error(block.position, format!("`kms_library` needs a `{what}`"));
    let (name, _) = options.text(source, "name")?.ok_or_else(|| needed("name"))?;
    let (library, _) = options.text(source, "library")?.ok_or_else(|| needed("library"))?;
    options.finish(source);
    if libraries.insert(name.to_lowercase(), PathBuf::from(library)).is_some() {
        return Err(source.error(block.position, format!("there are two `kms_library` of the name {name:?}")));
    }
    Ok(())
}

/// A number, in decimal or, after `0x`, in hexadecimal digits.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::{SealWay, parse};

    fn read(inside: &str, variables: &[(&str, &str)]) -> Result<Pkcs11Config, String> {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\nseal \"pkcs11\" {{\n{inside}\n}}\n"
        );
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let config = parse(&[(PathBuf::from("server.hcl"), text)], &set).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains("canary"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        match config.seal.unwrap().way {
            SealWay::Pkcs11(seal) => Ok(seal),
            other => panic!("{other:?}"),
        }
    }

    const LEAST: &str = "lib = \"/l.so\"\ntoken_label = \"t\"\npin = \"canary\"\nkey_label = \"k\"";

    #[test]
    fn a_seal_of_a_module_is_read_as_the_reference_spells_it_and_shows_no_pin() {
        let least = read(LEAST, &[]).unwrap();
        assert_eq!((least.key_id().as_str(), least.token.mechanism), ("t/k", None));
        let inside = r#"
            lib              = "/usr/lib/softhsm/libsofthsm2.so"
            slot             = "2305843009213693953"
            pin              = "canary"
            key_id           = "0x33343536"
            hmac_key_label   = "h"
            mechanism        = "0x1085"
            hmac_mechanism   = "0x0261"
            rsa_oaep_hash    = "sha1"
            generate_key     = "true"
            force_rw_session = "true"
            rsa_encrypt_local = true
            disable_auto_reinit_on_error = "true"
            max_parallel     = 1
            default_key_label = "before"
        "#;
        let seal = read(inside, &[]).unwrap();
        assert_eq!(seal.key_id(), "slot 2305843009213693953/0x33343536");
        assert_eq!(seal.token.mechanism, Some(Mechanism::AesCbcPad(HmacHash::Sha384)));
        assert!(seal.token.generates && seal.token.writable && seal.token.oaep_hash == OaepHash::Sha1);
        assert!(seal.token.seals_outside && !seal.token.begins_anew);
        assert!(!least.token.seals_outside && least.token.begins_anew);
    }

    #[test]
    fn libraries_of_modules_have_a_name_each() {
        let read = |stanzas: &str| {
            let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  tls_disable = true\n}}\n{stanzas}\n");
            let config = parse(&[(PathBuf::from("server.hcl"), text)], &|_| None);
            config.map(|config| config.kms_libraries).map_err(|error| error.to_string())
        };
        let stanza =
            |name: &str| format!("kms_library \"pkcs11\" {{\n  name = \"{name}\"\n  library = \"/{name}.so\"\n}}\n");
        let libraries = read(&format!("{}{}", stanza("One"), stanza("two"))).unwrap();
        let expected =
            [("one", "/One.so"), ("two", "/two.so")].map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        assert_eq!(libraries, expected.into());
        for (stanzas, words) in [
            (format!("{}{}", stanza("one"), stanza("ONE")), "there are two `kms_library` of the name \"ONE\""),
            ("kms_library \"moon\" {}".to_owned(), "`kms_library` takes one type"),
            ("kms_library \"pkcs11\" {}".to_owned(), "needs a `name`"),
            ("kms_library \"pkcs11\" {\n name = \"x\"\n}".to_owned(), "needs a `library`"),
        ] {
            assert!(read(&stanzas).unwrap_err().contains(words), "{stanzas}");
        }
    }

    #[test]
    fn the_environment_counts_more_than_the_stanza_of_a_module() {
        let variables = [
            ("VAULT_HSM_LIB", "/other.so"),
            ("VAULT_HSM_SLOT", "0x10"),
            ("VAULT_HSM_TOKEN_LABEL", "other"),
            ("VAULT_HSM_PIN", "file:///pin"),
            ("VAULT_HSM_KEY_LABEL", "other"),
            ("VAULT_HSM_MECHANISM", "CKM_RSA_PKCS_OAEP"),
            ("VAULT_HSM_RSA_OAEP_HASH", "sha512"),
            ("VAULT_HSM_GENERATE_KEY", "1"),
        ];
        for inside in [LEAST, ""] {
            let seal = read(inside, &variables).unwrap();
            assert_eq!((seal.key_id().as_str(), seal.pin.to_string().as_str()), ("other/other", "file:///pin"));
            assert_eq!((seal.token.library.as_path(), seal.token.slot), (std::path::Path::new("/other.so"), Some(16)));
            assert_eq!(seal.token.mechanism, Some(Mechanism::RsaOaep(OaepHash::Sha512)));
            assert!(seal.token.generates);
        }
    }

    #[test]
    fn a_seal_of_a_module_that_makes_no_sense_is_refused() {
        for (from, to, words) in [
            ("lib", "disabled = false #", "needs a `lib`"),
            ("token_label = \"t\"", "", "needs a `slot` or a `token_label`"),
            ("pin = \"canary\"", "", "needs a `pin`"),
            ("key_label = \"k\"", "", "needs a `key_label` or a `key_id`"),
            ("key_label", "slot = \"-1\"\nkey_label", "`slot` is the number of a slot"),
            ("key_label", "key_id = \"0xzz\"\nkey_label", "`key_id` is an id in hexadecimal digits"),
            ("key_label", "mechanism = \"CKM_RSA_PKCS\"\nkey_label", "`mechanism` is CKM_AES_GCM"),
            ("key_label", "mechanism = \"0x1085\"\nkey_label", "needs a `hmac_key_label`"),
            ("key_label", "hmac_mechanism = \"md5\"\nkey_label", "`hmac_mechanism` is CKM_SHA256_HMAC"),
            ("key_label", "rsa_oaep_hash = \"md5\"\nkey_label", "`rsa_oaep_hash` is sha1"),
            ("key_label", "generate_key = \"perhaps\"\nkey_label", "`generate_key` is `true` or `false`"),
            (
                "key_label",
                "rsa_encrypt_local = true\nrsa_oaep_hash = \"sha224\"\nkey_label",
                "`rsa_encrypt_local` takes a `rsa_oaep_hash`",
            ),
            (
                "key_label",
                "rsa_encrypt_local = true\ndisable_software_encryption = true\nkey_label",
                "`disable_software_encryption` forbids",
            ),
            ("\"t\"", "\"a label of more than thirty-two bytes\"", "`token_label` is a label"),
            ("\"canary\"", "\"credential://../canary\"", "`pin` is env://"),
        ] {
            let error = read(&LEAST.replace(from, to), &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{to}: {error}");
        }
    }
}
