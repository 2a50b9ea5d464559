//! What is encrypted here, GnuPG decrypts; and a key that GnuPG would not encrypt to is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_env::Timestamp;
use tresor_env::doubles::SeededEntropy;
use tresor_pgp::{KeyError, Recipient};

/// A home of GnuPG with keys of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(["--faked-system-time", "20260601T120000"]).arg("--homedir").arg(self.path()).args(arguments);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn key(&self, name: &str) -> Vec<u8> {
        self.gpg(&["--export", name], b"")
    }

    fn fingerprint(&self, name: &str) -> String {
        let listed = String::from_utf8(self.gpg(&["--with-colons", "--list-keys", name], b"")).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_lowercase()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.path()).args(["--kill", "all"]).status();
    }
}

/// The noon of the first of June 2026, and so many days later.
fn days_later(days: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_315_200 + 60 + days * 86_400)
}

#[test]
fn gpg_decrypts_what_is_encrypted_to_keys_of_several_kinds() {
    let home = Home::new();
    for (name, kind) in [("rsa@example.com", "rsa2048"), ("curve@example.com", "future-default")] {
        home.gpg(&["--quick-generate-key", name, kind, "default", "never"], b"");
        if kind == "rsa2048" {
            let fingerprint = home.fingerprint(name);
            home.gpg(&["--quick-add-key", &fingerprint, "rsa2048", "encr", "never"], b"");
        }
        for spelled in
            [STANDARD.encode(home.key(name)), String::from_utf8(home.gpg(&["--armor", "--export", name], b"")).unwrap()]
        {
            let recipient = Recipient::parse(&spelled, days_later(0)).unwrap();
            assert_eq!(recipient.fingerprint(), home.fingerprint(name));
            let sealed = recipient.encrypt(b"6b65792d7368617265", &SeededEntropy::new(1)).unwrap();
            assert_eq!(home.gpg(&["--decrypt"], &sealed), b"6b65792d7368617265", "{name}");
        }
    }
}

#[test]
fn a_key_that_is_not_valid_now_is_refused() {
    let home = Home::new();
    home.gpg(&["--quick-generate-key", "short@example.com", "future-default", "default", "10d"], b"");
    let short = STANDARD.encode(home.key("short@example.com"));
    assert!(Recipient::parse(&short, days_later(9)).is_ok());
    assert!(matches!(Recipient::parse(&short, days_later(10)), Err(KeyError::Unusable)));
    // Signs, and encrypts nothing.
    home.gpg(&["--quick-generate-key", "signs@example.com", "ed25519", "sign", "never"], b"");
    let signs = STANDARD.encode(home.key("signs@example.com"));
    assert!(matches!(Recipient::parse(&signs, days_later(0)), Err(KeyError::NoneForEncryption)));
    // A subkey of its own that ends before the key does.
    let fingerprint = home.fingerprint("signs@example.com");
    home.gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "5d"], b"");
    let signs = STANDARD.encode(home.key("signs@example.com"));
    assert!(Recipient::parse(&signs, days_later(4)).is_ok());
    assert!(matches!(Recipient::parse(&signs, days_later(5)), Err(KeyError::NoneForEncryption)));
    // Revoked.
    home.gpg(&["--quick-generate-key", "gone@example.com", "future-default", "default", "never"], b"");
    let fingerprint = home.fingerprint("gone@example.com");
    let made = home.path().join("openpgp-revocs.d").join(format!("{}.rev", fingerprint.to_uppercase()));
    let revocation = std::fs::read_to_string(made).unwrap().replace(":-----BEGIN", "-----BEGIN");
    assert!(Recipient::parse(&STANDARD.encode(home.key("gone@example.com")), days_later(0)).is_ok());
    home.gpg(&["--import"], revocation.as_bytes());
    let gone = STANDARD.encode(home.key("gone@example.com"));
    assert!(matches!(Recipient::parse(&gone, days_later(0)), Err(KeyError::Unusable)));
}

#[test]
fn what_is_no_key_and_what_was_changed_is_refused() {
    for text in ["", "!", "AAAA", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----"] {
        assert!(Recipient::parse(text, days_later(0)).is_err(), "{text}");
    }
    let home = Home::new();
    home.gpg(&["--quick-generate-key", "a@example.com", "future-default", "default", "never"], b"");
    let whole = home.key("a@example.com");
    // The binding of the subkey is the last packet: a flipped bit of its signature leaves nothing that encrypts.
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(Recipient::parse(&STANDARD.encode(&changed), days_later(0)).is_err());
    for length in (0..whole.len()).step_by(7) {
        let cut = whole.get(..length).unwrap();
        assert!(Recipient::parse(&STANDARD.encode(cut), days_later(0)).is_err(), "{length}");
    }
}
