//! The checker of secrecy: nothing planted is in any byte that leaves the barrier.
//!
//! In the store, the local audit log and the log lines there may be no secret and no name; audit devices show names,
//! as in the reference, and no secret. Deliberately absent: answers, which are for whoever asked.

use tresor_canary::Canaries;

use crate::generate::Names;

pub(crate) struct Secrets {
    /// Values, tokens, passwords, texts of policies, and names.
    all: Canaries,
    /// The same without names.
    secret: Canaries,
}

impl Secrets {
    pub(crate) fn new(names: &Names) -> Self {
        let mut secrets = Self { all: Canaries::new(), secret: Canaries::new() };
        for password in &names.passwords {
            secrets.watch("a password", password);
        }
        let of_mounts = [names.plain.clone(), names.versioned.clone(), names.auth.clone()].concat();
        for (label, some) in [
            ("the path of a mount", of_mounts),
            ("the name of a secret", names.keys.clone()),
            ("the name of a user", names.users.clone()),
            ("the name of a policy", names.policies.clone()),
        ] {
            for name in some.iter().flat_map(|name| name.split('/')).filter(|part| !part.is_empty()) {
                secrets.all.watch(label, name.as_bytes());
            }
        }
        secrets
    }

    /// Looks for a secret from now on.
    pub(crate) fn watch(&mut self, label: &str, secret: &str) {
        self.all.watch(label, secret.as_bytes());
        self.secret.watch(label, secret.as_bytes());
    }

    /// What is wrong with the stored bytes and the log lines.
    pub(crate) fn check(&self, stored: &[(String, Vec<u8>)], log: &[u8]) -> Result<(), String> {
        let places = stored.iter().map(|(place, bytes)| (place.as_str(), bytes.as_slice()));
        for (place, bytes) in places.chain([("the log", log)]) {
            let watched = if place.starts_with("/audit/") { &self.secret } else { &self.all };
            if let Some(sighting) = watched.find(bytes) {
                let crate_sighting = format!("{} ({}) at byte {}", sighting.label, sighting.form, sighting.offset);
                return Err(format!("{place} contains {crate_sighting}"));
            }
        }
        Ok(())
    }
}
