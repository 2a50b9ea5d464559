//! Keys of SoftHSM, a module in software: every mechanism, keys that are found, made and missing, PINs, and tokens that vanish.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tresor_crypto::public_key::{Curve, verifies};
use tresor_env::custody::{SignedHash, Signing};
use tresor_env_os::OsEntropy;
use tresor_pkcs11::{HmacHash, KeyName, MadeKey, Mechanism, Module, OaepHash, TokenConfig, TokenError};
use tresor_services::SoftHsm;
use tresor_services::softhsm::PIN;

const SECRET: [u8; 32] = [9; 32];

fn named(label: &str) -> KeyName {
    KeyName { label: Some(label.to_owned()), id: None }
}

fn config(hsm: &SoftHsm, label: &str) -> TokenConfig {
    TokenConfig {
        library: PathBuf::from(hsm.library()),
        slot: None,
        token_label: Some("tresor".to_owned()),
        key: named(label),
        mechanism: None,
        hmac_key: None,
        hmac_hash: HmacHash::default(),
        oaep_hash: OaepHash::Sha1,
        generates: false,
        made: None,
        seals_outside: false,
        begins_anew: true,
        writable: false,
    }
}

fn at(config: TokenConfig) -> Module {
    Module::new(config, &OsEntropy)
}

fn seal(module: &mut Module, bound_to: &[u8]) -> Result<(String, Vec<u8>), TokenError> {
    module.seal(PIN.as_bytes(), &SECRET, bound_to, &OsEntropy).map(|made| (made.version, made.sealed))
}

/// Seals, opens, and finds that neither damage nor another place is taken for what was sealed.
fn check(module: &mut Module, binds: bool) -> String {
    let (version, sealed) = seal(module, b"slot 1").unwrap();
    assert!(!sealed.windows(32).any(|window| window == SECRET), "{version}");
    assert_eq!(module.open(PIN.as_bytes(), &sealed, b"slot 1").unwrap().as_slice(), SECRET, "{version}");
    assert_eq!(module.open(PIN.as_bytes(), &sealed, b"slot 2").is_err(), binds, "{version}");
    let mut damaged = sealed.clone();
    // The last byte may be an empty field of its own: one in what came out.
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    let opened = module.open(PIN.as_bytes(), &damaged, b"slot 1");
    assert!(opened.is_err() || opened.unwrap().as_slice() != SECRET, "{version}");
    assert_eq!(module.open(PIN.as_bytes(), b"nonsense", b"slot 1").unwrap_err(), TokenError::Damaged);
    version
}

#[test]
fn a_secret_is_sealed_and_opened_by_every_mechanism_and_opens_nowhere_else() {
    SoftHsm::within("a_secret_is_sealed_and_opened_by_every_mechanism_and_opens_nowhere_else", "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "aes", "01").unwrap();
        hsm.make("tresor", "rsa:2048", "rsa", "02").unwrap();
        hsm.make("tresor", "GENERIC:64", "hmac", "03").unwrap();
        assert_eq!(check(&mut at(config(hsm, "aes")), true), "AES_GCM `aes` (id 0x01)");
        let rsa = check(&mut at(config(hsm, "rsa")), false);
        assert_eq!(rsa, "RSA_PKCS_OAEP sha1 `rsa` (id 0x02)");
        // Sealed outside of the token, it opens in it, and the other way round.
        let outside = TokenConfig { seals_outside: true, ..config(hsm, "rsa") };
        assert_eq!(check(&mut at(outside.clone()), false), rsa);
        let (_, sealed) = seal(&mut at(outside.clone()), b"s").unwrap();
        assert_eq!(at(config(hsm, "rsa")).open(PIN.as_bytes(), &sealed, b"s").unwrap().as_slice(), SECRET);
        let unknown = TokenConfig { oaep_hash: OaepHash::Sha224, ..outside };
        assert!(matches!(seal(&mut at(unknown), b"s").unwrap_err(), TokenError::Unable(_)));
        for hash in [HmacHash::Sha256, HmacHash::Sha384, HmacHash::Sha512] {
            let mechanism = Some(Mechanism::AesCbcPad(hash));
            let cbc = TokenConfig { mechanism, hmac_key: Some(named("hmac")), ..config(hsm, "aes") };
            let version = check(&mut at(cbc), true);
            assert!(version.starts_with("AES_CBC_PAD SHA") && version.ends_with("`aes` (id 0x01) `hmac` (id 0x03)"));
        }
        // The id alone, the slot alone, and both.
        let by_id = KeyName { label: None, id: Some(vec![1]) };
        let slot = Some(hsm.slot("tresor").unwrap());
        let by_slot = TokenConfig { slot, token_label: None, key: by_id, ..config(hsm, "") };
        assert_eq!(check(&mut at(by_slot), true), "AES_GCM `aes` (id 0x01)");
        assert_eq!(check(&mut at(TokenConfig { slot, ..config(hsm, "aes") }), true), "AES_GCM `aes` (id 0x01)");
    });
}

#[test]
fn what_one_key_sealed_opens_when_another_one_is_configured() {
    SoftHsm::within("what_one_key_sealed_opens_when_another_one_is_configured", "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "old", "01").unwrap();
        hsm.make("tresor", "rsa:2048", "new", "02").unwrap();
        let (before, sealed) = seal(&mut at(config(hsm, "old")), b"s").unwrap();
        let mut module = at(config(hsm, "new"));
        assert_eq!(module.open(PIN.as_bytes(), &sealed, b"s").unwrap().as_slice(), SECRET);
        assert_ne!(seal(&mut module, b"s").unwrap().0, before);
    });
}

#[test]
fn keys_that_are_missing_are_made_where_that_is_asked_for_and_never_leave() {
    SoftHsm::within("keys_that_are_missing_are_made_where_that_is_asked_for_and_never_leave", "tresor", |hsm| {
        let missing = seal(&mut at(config(hsm, "aes")), b"s").unwrap_err();
        assert_eq!(missing, TokenError::NoKey("`aes`".to_owned()));
        let made = TokenConfig { generates: true, ..config(hsm, "aes") };
        assert_eq!(check(&mut at(made.clone()), true), "AES_GCM `aes`");
        // It is there now.
        assert_eq!(check(&mut at(config(hsm, "aes")), true), "AES_GCM `aes`");
        let mechanism = Some(Mechanism::AesCbcPad(HmacHash::Sha256));
        let cbc = TokenConfig { mechanism, hmac_key: Some(named("hmac")), ..made.clone() };
        assert_eq!(check(&mut at(cbc), true), "AES_CBC_PAD SHA256_HMAC `aes` `hmac`");
        let mechanism = Some(Mechanism::RsaOaep(OaepHash::Sha1));
        let rsa = TokenConfig { mechanism, key: named("rsa"), ..made };
        assert_eq!(check(&mut at(rsa), false), "RSA_PKCS_OAEP sha1 `rsa`");
        let listed = hsm.objects("tresor").unwrap();
        assert!(listed.contains("AES length 32") && !listed.contains("Access:     none"), "{listed}");
        for label in ["aes", "hmac", "rsa"] {
            assert!(listed.contains(&format!("label:      {label}\n")), "{listed}");
        }
        assert!(listed.matches("never extractable").count() >= 3, "{listed}");
    });
}

#[test]
fn what_is_not_one_token_or_one_key_is_refused_by_name() {
    SoftHsm::within("what_is_not_one_token_or_one_key_is_refused_by_name", "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "twice", "01").unwrap();
        hsm.make("tresor", "AES:32", "twice", "02").unwrap();
        let of = |config| seal(&mut at(config), b"s").unwrap_err().to_string();
        assert_eq!(of(config(hsm, "twice")), "it has several keys `twice`: name the id of one");
        let one = KeyName { id: Some(vec![2]), ..named("twice") };
        assert_eq!(check(&mut at(TokenConfig { key: one, ..config(hsm, "") }), true), "AES_GCM `twice` (id 0x02)");
        let other = || Some("other".to_owned());
        assert_eq!(of(TokenConfig { token_label: other(), ..config(hsm, "twice") }), "there is no token `other`");
        let slot = Some(hsm.slot("tresor").unwrap());
        let elsewhere = TokenConfig { slot, token_label: other(), ..config(hsm, "twice") };
        assert!(of(elsewhere).starts_with("there is no token `other` in slot"));
        let nowhere = TokenConfig { slot: Some(4_000_000_000), ..config(hsm, "twice") };
        assert_eq!(of(nowhere), "there is no token in slot 4000000000");
        hsm.add("tresor").unwrap();
        assert_eq!(of(config(hsm, "twice")), "there are several tokens `tresor`: name the slot");
        let cbc = TokenConfig { slot, mechanism: Some(Mechanism::AesCbcPad(HmacHash::Sha256)), ..config(hsm, "twice") };
        let key = KeyName { id: Some(vec![2]), label: None };
        assert_eq!(of(TokenConfig { key, ..cbc }), "the mechanism CKM_AES_CBC_PAD needs a key for an HMAC");
        let library = PathBuf::from("/nowhere/lib.so");
        assert!(of(TokenConfig { library, ..config(hsm, "twice") }).starts_with("the library cannot be loaded"));
        // A library that is none of a module.
        let library = PathBuf::from("libc.so.6");
        assert!(of(TokenConfig { library, ..config(hsm, "twice") }).starts_with("the library cannot be loaded"));
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_another_one_at_once() {
    SoftHsm::within("a_wrong_pin_is_tried_once_and_another_one_at_once", "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "aes", "01").unwrap();
        let mut module = at(config(hsm, "aes"));
        let wrong = |module: &mut Module, pin: &[u8]| module.seal(pin, &SECRET, b"s", &OsEntropy).err().unwrap();
        let first = wrong(&mut module, b"canary-wrong");
        assert!(matches!(first, TokenError::WrongPin(_)) && !first.to_string().contains("canary"), "{first}");
        assert_eq!(wrong(&mut module, b"canary-wrong"), TokenError::RefusedBefore);
        check(&mut module, true);
        assert!(matches!(wrong(&mut module, b""), TokenError::WrongPin(_)));
    });
}

#[test]
fn wrong_pins_in_turn_are_not_sent_until_the_token_locks_itself() {
    SoftHsm::within("wrong_pins_in_turn_are_not_sent_until_the_token_locks_itself", "tresor", |hsm| {
        let mut module = at(config(hsm, "none"));
        let mut random = |pin: &[u8]| module.random(pin, 8).map(drop);
        let wrong = |tried: Result<(), TokenError>| matches!(tried, Err(TokenError::WrongPin(_)));
        random(PIN.as_bytes()).unwrap();
        assert!(wrong(random(b"stale-pin-a")) && wrong(random(b"stale-pin-b")));
        for pin in [b"stale-pin-a", b"stale-pin-b", b"stale-pin-a"] {
            assert_eq!(random(pin), Err(TokenError::RefusedBefore));
        }
        assert_eq!(random(b"stale-pin-c"), Err(TokenError::RefusedOthers));
        // Who has the right one is not shut out by that, and makes the token forget what it counted.
        random(PIN.as_bytes()).unwrap();
        assert!(wrong(random(b"stale-pin-c")));
        assert_eq!(random(b"stale-pin-a"), Err(TokenError::RefusedBefore));
    });
}

#[test]
fn a_right_pin_that_comes_after_two_wrong_ones_waits_for_another_start() {
    SoftHsm::within("a_right_pin_that_comes_after_two_wrong_ones_waits_for_another_start", "tresor", |hsm| {
        let mut module = at(config(hsm, "none"));
        for pin in [b"stale-pin-a", b"stale-pin-b"] {
            assert!(matches!(module.random(pin, 8), Err(TokenError::WrongPin(_))));
        }
        // Who it is that has it makes no difference, nor whether the library is begun anew meanwhile.
        drop(module);
        let mut another = at(TokenConfig { slot: Some(hsm.slot("tresor").unwrap()), ..config(hsm, "none") });
        assert_eq!(another.random(PIN.as_bytes(), 8).unwrap_err(), TokenError::RefusedOthers);
    });
}

#[test]
fn one_library_by_several_paths_is_one() {
    SoftHsm::within("one_library_by_several_paths_is_one", "tresor", |hsm| {
        let path = PathBuf::from(hsm.library());
        let real = path.canonicalize().unwrap();
        assert_ne!(real, path, "Debian has a link there");
        let mut one = at(config(hsm, "none"));
        let mut other = at(TokenConfig { library: real, ..config(hsm, "none") });
        assert!(matches!(one.random(b"stale-pin-a", 8).unwrap_err(), TokenError::WrongPin(_)));
        assert_eq!(other.random(b"stale-pin-a", 8).unwrap_err(), TokenError::RefusedBefore);
        assert!(other.random(PIN.as_bytes(), 8).is_ok());
        assert_eq!(one.library(), other.library());
    });
}

#[test]
fn a_library_that_somebody_else_began_is_not_used_without_knowing_what_they_know() {
    let name = "a_library_that_somebody_else_began_is_not_used_without_knowing_what_they_know";
    SoftHsm::within(name, "tresor", |hsm| {
        let others = Pkcs11::new(hsm.library()).unwrap();
        others.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let mut module = at(config(hsm, "none"));
        let refused = module.random(PIN.as_bytes(), 8).unwrap_err();
        assert!(matches!(refused, TokenError::NoLibrary(_)), "{refused}");
        others.finalize().unwrap();
        assert!(module.random(PIN.as_bytes(), 8).is_ok());
    });
}

#[test]
fn a_wrong_pin_is_wrong_where_somebody_else_is_logged_in() {
    SoftHsm::within("a_wrong_pin_is_wrong_where_somebody_else_is_logged_in", "tresor", |hsm| {
        let mut module = at(config(hsm, "none"));
        assert!(module.random(PIN.as_bytes(), 8).is_ok());
        let others = Pkcs11::new(hsm.library()).unwrap();
        let slot = Slot::try_from(hsm.slot("tresor").unwrap()).unwrap();
        let session = others.open_ro_session(slot).unwrap();
        let pin = AuthPin::new(PIN.to_owned().into());
        session.login(UserType::User, Some(&pin)).unwrap();
        assert!(matches!(module.random(b"wrong-pin", 8), Err(TokenError::WrongPin(_))));
        // The right one works there, too.
        drop(session.login(UserType::User, Some(&pin)));
        assert!(module.random(PIN.as_bytes(), 8).is_ok());
    });
}

#[test]
fn a_token_that_vanished_is_used_again_when_it_is_back() {
    SoftHsm::within("a_token_that_vanished_is_used_again_when_it_is_back", "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "aes", "01").unwrap();
        let mut module = at(config(hsm, "aes"));
        let (_, sealed) = seal(&mut module, b"s").unwrap();
        hsm.remove(true).unwrap();
        let away = module.open(PIN.as_bytes(), &sealed, b"s").unwrap_err();
        assert!(matches!(away, TokenError::Away(_) | TokenError::NoToken(_)), "{away}");
        hsm.remove(false).unwrap();
        assert_eq!(module.open(PIN.as_bytes(), &sealed, b"s").unwrap().as_slice(), SECRET);
    });
}

#[test]
fn random_bytes_are_those_of_the_token() {
    SoftHsm::within("random_bytes_are_those_of_the_token", "tresor", |hsm| {
        let mut module = at(config(hsm, "none"));
        let (one, other) = (module.random(PIN.as_bytes(), 3000).unwrap(), module.random(PIN.as_bytes(), 3000).unwrap());
        assert_eq!((one.len(), other.len()), (3000, 3000));
        assert!(one[..32] != one[1024..1056] && one[..32] != other[..32] && one.iter().any(|byte| *byte != 0));
        hsm.remove(true).unwrap();
        assert!(module.random(PIN.as_bytes(), 32).is_err());
        hsm.remove(false).unwrap();
        assert!(module.random(PIN.as_bytes(), 32).is_ok());
    });
}

#[test]
fn keys_that_are_used_for_others_are_made_once_and_sign_and_encrypt_as_their_type_does() {
    let name = "keys_that_are_used_for_others_are_made_once_and_sign_and_encrypt_as_their_type_does";
    SoftHsm::within(name, "tresor", |hsm| {
        let pin = PIN.as_bytes();
        let hashes = [SignedHash::Sha256, SignedHash::Sha384, SignedHash::Sha512];
        let made = |label: &str, made| at(TokenConfig { generates: true, made: Some(made), ..config(hsm, label) });
        for (label, kind) in [
            ("rsa", MadeKey::Rsa(2048)),
            ("p256", MadeKey::Ec(Curve::P256)),
            ("p384", MadeKey::Ec(Curve::P384)),
            ("p521", MadeKey::Ec(Curve::P521)),
        ] {
            let mut bare = at(config(hsm, label));
            assert_eq!(bare.look(pin).unwrap_err(), TokenError::NoKey(format!("`{label}`")));
            let mut module = made(label, kind);
            for (hash, pss) in hashes.into_iter().flat_map(|hash| [(hash, false), (hash, true)]) {
                let how = Signing { hash, pss };
                let signature = module.sign(pin, how, b"message").unwrap();
                // What was made is there for everybody.
                let public = bare.public(pin).unwrap();
                assert!(verifies(&public, how, b"message", &signature), "{label} {how:?}");
                assert!(!verifies(&public, how, b"another", &signature), "{label} {how:?}");
            }
            bare.look(pin).unwrap();
        }
        let mut rsa = at(config(hsm, "rsa"));
        let sealed = rsa.encrypt(pin, b"text", &OsEntropy).unwrap();
        assert_eq!(rsa.decrypt(pin, &sealed).unwrap().as_slice(), b"text");
        let mut curve = at(config(hsm, "p256"));
        assert_eq!(curve.encrypt(pin, b"text", &OsEntropy).unwrap_err(), TokenError::Unable("encrypt"));
        assert_eq!(curve.decrypt(pin, b"text").unwrap_err(), TokenError::Unable("decrypt"));
        let mut aes = made("aes", MadeKey::Aes(32));
        let sealed = aes.encrypt(pin, b"text", &OsEntropy).unwrap();
        assert_ne!(sealed, aes.encrypt(pin, b"text", &OsEntropy).unwrap());
        assert_eq!(aes.decrypt(pin, &sealed).unwrap().as_slice(), b"text");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(aes.decrypt(pin, &damaged).is_err(), "{at}");
        }
        assert_eq!(aes.decrypt(pin, b"short").unwrap_err(), TokenError::Damaged);
        let listed = hsm.objects("tresor").unwrap();
        for (label, count) in [("rsa", 2), ("p256", 2), ("p384", 2), ("p521", 2), ("aes", 1)] {
            assert_eq!(listed.matches(&format!("label:      {label}\n")).count(), count, "{listed}");
        }
    });
}

#[test]
fn two_who_use_one_library_do_not_end_it_for_each_other_and_share_what_is_known_of_pins() {
    let name = "two_who_use_one_library_do_not_end_it_for_each_other_and_share_what_is_known_of_pins";
    SoftHsm::within(name, "tresor", |hsm| {
        hsm.make("tresor", "AES:32", "aes", "01").unwrap();
        let (mut one, mut other) = (at(config(hsm, "aes")), at(config(hsm, "aes")));
        let (_, sealed) = seal(&mut one, b"s").unwrap();
        assert_eq!(other.open(PIN.as_bytes(), &sealed, b"s").unwrap().as_slice(), SECRET);
        drop(one);
        assert_eq!(other.open(PIN.as_bytes(), &sealed, b"s").unwrap().as_slice(), SECRET);
        assert!(matches!(other.random(b"wrong-pin", 8).unwrap_err(), TokenError::WrongPin(_)));
        let mut third = at(config(hsm, "aes"));
        assert_eq!(third.random(b"wrong-pin", 8).unwrap_err(), TokenError::RefusedBefore);
        assert!(third.random(PIN.as_bytes(), 8).is_ok());
    });
}
