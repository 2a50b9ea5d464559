//! The reference model: what a server is, as far as clients can tell; small, sequential and without a disk.
//!
//! Deliberately absent: what becomes of it by an operation (`explain.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::{Kind, PolicyText, TokenNumber};

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// The longest life where nobody says another, in seconds.
pub(crate) const LIFE_MAX: u64 = 768 * 3600;

/// Between two instants, both possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Span {
    /// So many seconds later.
    pub(crate) fn after(self, seconds: u64) -> Self {
        let nanos = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND);
        Self { from: self.from.saturating_add(nanos), to: self.to.saturating_add(nanos) }
    }
}

impl Span {
    /// An end as a server keeps it: the next whole second.
    pub(crate) fn rounded(self) -> Self {
        let up = |nanos: i64| nanos.saturating_add(SECOND - 1).div_euclid(SECOND).saturating_mul(SECOND);
        Self { from: up(self.from), to: up(self.to) }
    }
}

/// When an operation ran, in the server's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) span: Span,
    /// The latest time that any process of this server has told: what ended by then may be collected already, even
    /// when a later process tells an earlier time.
    pub(crate) latest: i64,
}

/// Whether a token is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    No,
    Maybe,
    Yes,
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    There,
    Deleted,
    Destroyed,
}

/// A secret with versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Secret {
    pub(crate) current: u64,
    pub(crate) versions: BTreeMap<u64, (String, Standing)>,
}

/// A user of an auth mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct User {
    pub(crate) password: String,
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: u64,
}

/// A mount and everything below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mount {
    pub(crate) kind: Kind,
    /// The operation that made it.
    pub(crate) made: usize,
    pub(crate) plain: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) users: BTreeMap<String, User>,
    /// Longest life of its tokens, in seconds.
    pub(crate) max: u64,
}

impl Mount {
    pub(crate) const fn fresh(kind: Kind, made: usize) -> Self {
        Self { kind, made, plain: BTreeMap::new(), secrets: BTreeMap::new(), users: BTreeMap::new(), max: LIFE_MAX }
    }

    /// What a listing shows.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let keys = self.plain.keys().chain(self.secrets.keys());
        keys.map(|key| key.split_once('/').map_or_else(|| key.clone(), |(first, _)| format!("{first}/"))).collect()
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) parent: Option<TokenNumber>,
    /// The auth mount that made it, by the operation that made that.
    pub(crate) mount: Option<usize>,
    /// The user who logged in there.
    pub(crate) user: Option<String>,
    pub(crate) created: Span,
    pub(crate) end: Option<Span>,
    /// The life that is shown at least, as far as the end is not nearer, in seconds.
    pub(crate) granted: i64,
    /// The life that was wished for, in seconds.
    pub(crate) wish: u64,
    /// The longest life, in seconds; 0 is none of its own.
    pub(crate) explicit: u64,
    pub(crate) policies: Vec<String>,
    /// The fewest and the most uses that are left.
    pub(crate) uses: Option<(u64, u64)>,
    pub(crate) own: BTreeMap<String, String>,
}

/// Everything that clients can tell of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    /// Secrets engines by path; auth mounts by `auth/` and path.
    pub(crate) mounts: BTreeMap<String, Mount>,
    pub(crate) policies: BTreeMap<String, PolicyText>,
    pub(crate) tokens: BTreeMap<TokenNumber, Token>,
    pub(crate) devices: BTreeSet<String>,
}

/// Where a mount of a kind lies in the model.
pub(crate) fn place(kind: Kind, path: &str) -> String {
    if kind == Kind::Userpass { format!("auth/{path}") } else { path.to_owned() }
}

impl State {
    /// A server that was just initialised: the root token and nothing else.
    pub(crate) fn initial() -> Self {
        let root = Token {
            parent: None,
            mount: None,
            user: None,
            created: Span { from: 0, to: 0 },
            end: None,
            granted: 0,
            wish: 0,
            explicit: 0,
            policies: vec!["root".to_owned()],
            uses: None,
            own: BTreeMap::new(),
        };
        Self {
            mounts: BTreeMap::new(),
            policies: BTreeMap::new(),
            tokens: BTreeMap::from([(0, root)]),
            devices: BTreeSet::new(),
        }
    }

    /// Whether a token is alive: itself, all its ancestors, and the mounts that made them.
    pub(crate) fn life(&self, token: TokenNumber, moment: &Moment) -> Life {
        let mut life = Life::Yes;
        let mut next = Some(token);
        while let Some(number) = next {
            let Some(token) = self.tokens.get(&number) else { return Life::No };
            life = life.min(self.own_life(token, moment));
            next = token.parent;
        }
        life
    }

    fn own_life(&self, token: &Token, moment: &Moment) -> Life {
        if token.mount.is_some_and(|made| !self.mounts.values().any(|mount| mount.made == made)) {
            return Life::No;
        }
        let by_time = match token.end {
            Some(end) if end.to <= moment.span.from => Life::No,
            Some(end) if end.from <= moment.span.to.max(moment.latest) => Life::Maybe,
            _ => Life::Yes,
        };
        let by_uses = match token.uses {
            Some((_, 0)) => Life::No,
            Some((0, _)) => Life::Maybe,
            _ => Life::Yes,
        };
        by_time.min(by_uses)
    }

    /// Whether the policies of a token grant a capability below a mount.
    pub(crate) fn grants(&self, token: &Token, mount: &str, capability: &str) -> bool {
        let known = token.policies.iter().filter_map(|name| self.policies.get(name));
        let mut rules = known.filter(|policy| policy.mount == mount).peekable();
        let mut granted = false;
        for rule in rules.by_ref() {
            if rule.capabilities.contains(&"deny") {
                return false;
            }
            granted |= rule.capabilities.contains(&capability);
        }
        granted
    }
}
