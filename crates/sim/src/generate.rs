//! What clients ask next: chosen by the seed, among few names, so that operations meet.
//!
//! Every name is a canary. Deliberately absent: what may be asked of whom; refusals are as welcome as successes.

use std::collections::BTreeMap;

use tresor_canary::canary;

use crate::model::{State, place};
use crate::operation::{Act, Kind, Operation, PolicyText};
use crate::random::Random;

/// The names that a run uses.
pub(crate) struct Names {
    pub(crate) plain: Vec<String>,
    pub(crate) versioned: Vec<String>,
    pub(crate) auth: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) users: Vec<String>,
    pub(crate) policies: Vec<String>,
    pub(crate) devices: Vec<String>,
    pub(crate) passwords: Vec<String>,
}

impl Names {
    pub(crate) fn new(seed: u64) -> Self {
        let some = |label: &str, count: u64| -> Vec<String> { (0..count).map(|at| canary(label, seed ^ at)).collect() };
        let mounts = |label: &str| some(label, 2).into_iter().map(|name| format!("{name}/")).collect();
        let mut keys = some("key", 2);
        keys.push(format!("{}/{}", canary("directory", seed), canary("leaf", seed)));
        Self {
            plain: mounts("plain"),
            versioned: mounts("versioned"),
            auth: mounts("auth").into_iter().take(1).collect::<Vec<String>>(),
            keys,
            users: some("user", 2),
            policies: some("policy", 3),
            devices: vec!["second".to_owned(), "third".to_owned()],
            // The same in every run, so that their hashes are made once.
            passwords: vec![canary("password", 1), canary("password", 2)],
        }
    }
}

/// Capabilities of generated policies.
const CAPABILITIES: [&[&str]; 5] = [
    &["create", "read", "update", "delete", "list"],
    &["read", "list"],
    &["create", "update"],
    &["update", "read", "delete"],
    &["deny"],
];
/// Lives of generated tokens, in seconds.
const LIVES: [u64; 5] = [1, 5, 60, 3600, 90_000];

pub(crate) struct Generator<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) names: &'a Names,
    /// The tokens whose texts clients have seen, dead ones among them.
    pub(crate) known: &'a BTreeMap<usize, String>,
    /// A state that the server may be in, to ask for things that exist.
    pub(crate) likely: &'a State,
    /// The number of the operation; also makes its value.
    pub(crate) number: usize,
}

impl Generator<'_> {
    fn one(&mut self, of: &[String]) -> String {
        self.random.pick(of).cloned().unwrap_or_default()
    }

    fn life(&mut self) -> u64 {
        self.random.pick(&LIVES).copied().unwrap_or(60)
    }

    fn value(&self) -> String {
        canary("value", u64::try_from(self.number).unwrap_or(0))
    }

    fn token(&mut self) -> usize {
        let known: Vec<usize> = self.known.keys().copied().filter(|number| *number != 0).collect();
        self.random.pick(&known).copied().unwrap_or(0)
    }

    pub(crate) fn operation(&mut self, subject: Option<usize>) -> Operation {
        let number = subject.unwrap_or_else(|| self.random.below(100));
        let act = match number {
            0..38 => self.secret(),
            38..44 => self.own(),
            44..64 => self.of_tokens(),
            64..74 => self.of_users(),
            74..82 => self.of_policies(),
            82..97 => self.of_mounts(),
            _ => self.of_devices(),
        };
        let is_for_all = number < 44 || matches!(act, Act::CreateToken { .. });
        let by = if is_for_all && self.random.chance(50) { self.token() } else { 0 };
        let act = self.within_reach(by, act);
        Operation { by, act }
    }

    /// A child's policies are some of its parent's.
    fn within_reach(&mut self, by: usize, act: Act) -> Act {
        match act {
            Act::CreateToken { policies, ttl, explicit, uses } if by != 0 => {
                let parent = self.likely.tokens.get(&by).map(|token| token.policies.clone()).unwrap_or_default();
                let mut own: Vec<String> = parent.into_iter().filter(|name| name != "default").collect();
                own.sort_unstable();
                let policies = if own.is_empty() { policies } else { own };
                Act::CreateToken { policies, ttl, explicit, uses }
            }
            other => other,
        }
    }

    fn secret(&mut self) -> Act {
        let (plain, versioned, keys) = (&self.names.plain, &self.names.versioned, &self.names.keys);
        let key = self.one(keys);
        let value = self.value();
        if self.random.chance(40) {
            let mount = self.one(plain);
            return match self.random.below(10) {
                0..4 => Act::Put1 { mount, key, value },
                4..7 => Act::Get1 { mount, key },
                7..9 => Act::Delete1 { mount, key },
                _ => Act::List { mount, kind: Kind::Kv1 },
            };
        }
        let mount = self.one(versioned);
        let found = self.likely.mounts.get(&mount).and_then(|mount| mount.secrets.get(&key));
        let current = found.map_or(0, |secret| secret.current);
        let version = current.max(1);
        match self.random.below(12) {
            0..3 => Act::Put2 { mount, key, value, cas: None },
            3..5 => Act::Put2 { mount, key, value, cas: Some(current) },
            5..8 => Act::Get2 { mount, key },
            8 => Act::Delete2 { mount, key },
            9 => Act::Undelete2 { mount, key, version },
            10 if self.random.chance(50) => Act::Destroy2 { mount, key, version },
            10 => Act::Forget2 { mount, key },
            _ => Act::List { mount, kind: Kind::Kv2 },
        }
    }

    fn own(&mut self) -> Act {
        let key = self.one(&self.names.keys);
        if self.random.chance(50) { Act::PutOwn { key, value: self.value() } } else { Act::GetOwn { key } }
    }

    fn of_tokens(&mut self) -> Act {
        let token = self.token();
        if token == 0 || self.random.chance(45) {
            let mut policies = vec![self.one(&self.names.policies), self.one(&self.names.policies)];
            policies.sort_unstable();
            policies.dedup();
            let explicit = if self.random.chance(30) { self.life() } else { 0 };
            let uses = if self.random.chance(20) { 2 } else { 0 };
            return Act::CreateToken { policies, ttl: self.life(), explicit, uses };
        }
        match self.random.below(10) {
            0..3 => Act::Renew { token, increment: if self.random.chance(50) { self.life() } else { 0 } },
            3..5 => Act::Revoke { token },
            5 => Act::RevokeOrphaning { token },
            _ => Act::Lookup { token },
        }
    }

    fn of_users(&mut self) -> Act {
        let (mount, user) = (self.one(&self.names.auth), self.one(&self.names.users));
        let password = self.one(&self.names.passwords);
        match self.random.below(10) {
            0..4 => {
                let policies = vec![self.one(&self.names.policies)];
                Act::WriteUser { mount, user, password, policies, ttl: self.life() }
            }
            4 => Act::DeleteUser { mount, user },
            _ => Act::Login { mount, user, password },
        }
    }

    fn of_policies(&mut self) -> Act {
        let name = self.one(&self.names.policies);
        match self.random.below(10) {
            0..6 => {
                let mounts = [self.names.plain.clone(), self.names.versioned.clone()].concat();
                let capabilities = self.random.pick(&CAPABILITIES).map_or(Vec::new(), |some| some.to_vec());
                let comment = canary("text", u64::try_from(self.number).unwrap_or(0));
                Act::WritePolicy { name, policy: PolicyText { mount: self.one(&mounts), capabilities, comment } }
            }
            6..8 => Act::DeletePolicy { name },
            _ => Act::ReadPolicy { name },
        }
    }

    fn of_mounts(&mut self) -> Act {
        let kind = self.random.pick(&[Kind::Kv1, Kind::Kv2, Kind::Userpass]).copied().unwrap_or(Kind::Kv1);
        let of_kind = match kind {
            Kind::Kv1 => &self.names.plain,
            Kind::Kv2 => &self.names.versioned,
            Kind::Userpass => &self.names.auth,
        };
        let path = self.one(of_kind);
        let is_there = self.likely.mounts.contains_key(&place(kind, &path));
        match self.random.below(12) {
            0..4 if !is_there => Act::Mount { path, kind },
            0..2 => Act::Unmount { path, kind },
            2..4 => Act::Mount { path, kind },
            4..7 if kind != Kind::Userpass => {
                let other = of_kind.iter().find(|name| **name != path).cloned().unwrap_or_default();
                Act::Move { from: path, to: other }
            }
            4..7 => Act::Tune { path, kind, max: 3600 },
            7..9 => Act::Tune { path, kind, max: 7200 },
            _ => Act::ListMounts,
        }
    }

    fn of_devices(&mut self) -> Act {
        let path = self.one(&self.names.devices);
        match self.random.below(4) {
            0 | 1 => Act::EnableDevice { path },
            2 => Act::DisableDevice { path },
            _ => Act::ListDevices,
        }
    }
}
