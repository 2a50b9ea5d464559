//! What an operation comes to in the reference model, and whether an answer agrees.
//!
//! [`explain`] gives every state that may follow; none when the answer cannot be explained from this state. Without
//! an answer it gives the states in which the operation had its effect. Deliberately absent: orders of operations
//! (`linear.rs`).

use std::collections::BTreeSet;

use serde_json::Value;
use tresor_harness::Answer;

use crate::model::{LIFE_MAX, Life, Moment, Mount, SECOND, Secret, Span, Standing, State, Token, User, place};
use crate::operation::{Act, Kind, Operation, TokenNumber};

/// One operation in one state.
struct Case<'a> {
    number: usize,
    operation: &'a Operation,
    moment: &'a Moment,
    answer: Option<&'a Answer>,
}

pub(crate) fn explain(
    state: &State,
    number: usize,
    operation: &Operation,
    moment: &Moment,
    answer: Option<&Answer>,
) -> Vec<State> {
    let case = Case { number, operation, moment, answer };
    if matches!(operation.act, Act::Login { .. }) {
        return case.login(state);
    }
    let mut after = Vec::new();
    match state.life(operation.by, moment) {
        Life::No => return case.refused(state, 403),
        Life::Maybe => after.extend(case.refused(state, 403)),
        Life::Yes => {}
    }
    let mut counted = state.clone();
    if let Some((fewest, most)) = counted.tokens.get_mut(&operation.by).and_then(|token| token.uses.as_mut()) {
        *fewest = fewest.saturating_sub(1);
        if answer.is_some() {
            *most = most.saturating_sub(1);
        }
    }
    if answer.is_none() && counted != *state {
        // A use is counted before anything else, and sticks whatever becomes of the rest.
        after.push(counted.clone());
    }
    if case.is_allowed(state) {
        after.extend(case.effect(state, counted));
    } else {
        after.extend(case.refused(&counted, 403));
    }
    after
}

impl Case<'_> {
    fn fits(&self, status: u16) -> bool {
        self.answer.is_none_or(|answer| answer.status == status)
    }

    /// The state stays, when the answer has this status.
    fn refused(&self, state: &State, status: u16) -> Vec<State> {
        if self.fits(status) { vec![state.clone()] } else { Vec::new() }
    }

    /// The state becomes another one, when the answer has this status.
    fn becomes(&self, status: u16, state: State) -> Vec<State> {
        if self.fits(status) { vec![state] } else { Vec::new() }
    }

    /// The state stays, when the answer shows exactly this.
    fn shows(&self, state: State, status: u16, agrees: impl FnOnce(&Answer) -> bool) -> Vec<State> {
        let fits = self.answer.is_none_or(|answer| answer.status == status && agrees(answer));
        if fits { vec![state] } else { Vec::new() }
    }

    fn is_allowed(&self, state: &State) -> bool {
        let Some(token) = state.tokens.get(&self.operation.by) else { return false };
        if token.policies.iter().any(|policy| policy == "root") {
            return true;
        }
        let has_any = token.policies.iter().any(|name| state.policies.contains_key(name));
        let grants = |mount: &str, capability: &str| state.grants(token, mount, capability);
        let exists = |mount: &str, key: &str| {
            let found = state.mounts.get(mount);
            found.is_some_and(|mount| mount.plain.contains_key(key) || mount.secrets.contains_key(key))
        };
        match &self.operation.act {
            Act::Get1 { mount, .. } | Act::Get2 { mount, .. } => grants(mount, "read"),
            Act::List { mount, .. } => grants(mount, "list"),
            Act::Put1 { mount, key, .. } | Act::Put2 { mount, key, .. } => {
                grants(mount, if exists(mount, key) || !state.mounts.contains_key(mount) { "update" } else { "create" })
            }
            Act::Delete1 { mount, .. } | Act::Delete2 { mount, .. } | Act::Forget2 { mount, .. } => {
                grants(mount, "delete")
            }
            Act::Undelete2 { mount, .. } | Act::Destroy2 { mount, .. } => grants(mount, "update"),
            Act::PutOwn { .. } | Act::GetOwn { .. } => has_any || token.policies.iter().any(|name| name == "default"),
            Act::CreateToken { .. } => has_any,
            _ => false,
        }
    }

    fn effect(&self, before: &State, mut state: State) -> Vec<State> {
        match &self.operation.act {
            Act::Put1 { .. } | Act::Get1 { .. } | Act::Delete1 { .. } => self.plain(state),
            Act::Put2 { .. }
            | Act::Get2 { .. }
            | Act::Delete2 { .. }
            | Act::Undelete2 { .. }
            | Act::Destroy2 { .. }
            | Act::Forget2 { .. } => self.versioned(state),
            Act::List { mount, kind } => match state.mounts.get(mount).filter(|found| found.kind == *kind) {
                None => self.refused(&state, 404),
                Some(found) => {
                    let names = found.names();
                    let status = if names.is_empty() { 404 } else { 200 };
                    self.shows(state, status, |answer| names.is_empty() || listed(answer) == names)
                }
            },
            Act::PutOwn { key, value } => {
                if let Some(token) = state.tokens.get_mut(&self.operation.by) {
                    token.own.insert(key.clone(), value.clone());
                }
                self.becomes(204, state)
            }
            Act::GetOwn { key } => {
                let known = state.tokens.get(&self.operation.by).and_then(|token| token.own.get(key)).cloned();
                self.shows_value(state, known, "/data/v")
            }
            Act::WriteUser { .. } | Act::DeleteUser { .. } => self.user(state),
            Act::WritePolicy { name, policy } => {
                state.policies.insert(name.clone(), policy.clone());
                self.becomes(204, state)
            }
            Act::DeletePolicy { name } => {
                state.policies.remove(name);
                self.becomes(204, state)
            }
            Act::ReadPolicy { name } => {
                let known = state.policies.get(name).map(crate::operation::PolicyText::text);
                self.shows_value(state, known, "/data/policy")
            }
            Act::CreateToken { .. }
            | Act::Renew { .. }
            | Act::Revoke { .. }
            | Act::RevokeOrphaning { .. }
            | Act::Lookup { .. } => self.token(before, state),
            Act::Seal => self.becomes(204, state),
            _ => self.system(state),
        }
    }

    fn shows_value(&self, state: State, known: Option<String>, pointer: &str) -> Vec<State> {
        match known {
            None => self.refused(&state, 404),
            Some(value) => self.shows(state, 200, |answer| answer.at(pointer) == &Value::from(value)),
        }
    }

    fn plain(&self, mut state: State) -> Vec<State> {
        let (Act::Put1 { mount, key, .. } | Act::Get1 { mount, key } | Act::Delete1 { mount, key }) =
            &self.operation.act
        else {
            return Vec::new();
        };
        let Some(found) = state.mounts.get_mut(mount) else { return self.refused(&state, 404) };
        match &self.operation.act {
            Act::Put1 { value, .. } => {
                found.plain.insert(key.clone(), value.clone());
                self.becomes(204, state)
            }
            Act::Delete1 { .. } => {
                found.plain.remove(key);
                self.becomes(204, state)
            }
            _ => {
                let known = found.plain.get(key).cloned();
                self.shows_value(state, known, "/data/v")
            }
        }
    }

    fn versioned(&self, mut state: State) -> Vec<State> {
        let (Act::Put2 { mount, key, .. }
        | Act::Get2 { mount, key }
        | Act::Delete2 { mount, key }
        | Act::Undelete2 { mount, key, .. }
        | Act::Destroy2 { mount, key, .. }
        | Act::Forget2 { mount, key }) = &self.operation.act
        else {
            return Vec::new();
        };
        let Some(found) = state.mounts.get_mut(mount) else { return self.refused(&state, 404) };
        let known = found.secrets.get_mut(key);
        match &self.operation.act {
            Act::Put2 { value, cas, .. } => {
                if cas.is_some_and(|cas| cas != known.as_ref().map_or(0, |secret| secret.current)) {
                    return self.refused(&state, 400);
                }
                let version = put(found.secrets.entry(key.clone()).or_default(), value);
                return self.shows(state, 200, |answer| answer.at("/data/version") == &Value::from(version));
            }
            Act::Get2 { .. } => {
                let current = known.and_then(|secret| {
                    secret.versions.get(&secret.current).map(|version| (secret.current, version.clone()))
                });
                return match current {
                    Some((number, (value, Standing::There))) => self.shows(state, 200, |answer| {
                        answer.at("/data/data/v") == &Value::from(value)
                            && answer.at("/data/metadata/version") == &Value::from(number)
                    }),
                    _ => self.refused(&state, 404),
                };
            }
            Act::Delete2 { .. } => change(known, None, |standing| {
                if *standing == Standing::There {
                    *standing = Standing::Deleted;
                }
            }),
            Act::Undelete2 { version, .. } => change(known, Some(*version), |standing| {
                if *standing == Standing::Deleted {
                    *standing = Standing::There;
                }
            }),
            Act::Destroy2 { version, .. } => change(known, Some(*version), |standing| *standing = Standing::Destroyed),
            _ => drop(found.secrets.remove(key)),
        }
        self.becomes(204, state)
    }

    fn user(&self, mut state: State) -> Vec<State> {
        let (Act::WriteUser { mount, user, .. } | Act::DeleteUser { mount, user }) = &self.operation.act else {
            return Vec::new();
        };
        let Some(found) = state.mounts.get_mut(&place(Kind::Userpass, mount)) else { return self.refused(&state, 404) };
        if let Act::WriteUser { password, policies, ttl, .. } = &self.operation.act {
            let written = User { password: password.clone(), policies: policies.clone(), ttl: *ttl };
            found.users.insert(user.clone(), written);
        } else {
            found.users.remove(user);
        }
        self.becomes(204, state)
    }

    fn login(&self, state: &State) -> Vec<State> {
        let Act::Login { mount, user, password } = &self.operation.act else { return Vec::new() };
        let Some(found) = state.mounts.get(&place(Kind::Userpass, mount)) else {
            // A request that was routed before the mount went away is told that nothing is there.
            return [self.refused(state, 403), self.refused(state, 404)].concat().into_iter().take(1).collect();
        };
        let Some(known) = found.users.get(user).filter(|known| known.password == *password) else {
            return self.refused(state, 400);
        };
        let mut policies = known.policies.clone();
        policies.push("default".to_owned());
        let (mount, user) = (Some(found.made), Some(user.clone()));
        let token = Token { mount, user, ..self.fresh(None, policies, known.ttl, 0, 0) };
        self.minted(state.clone(), token, known.ttl.min(found.max))
    }

    fn fresh(&self, parent: Option<TokenNumber>, policies: Vec<String>, wish: u64, explicit: u64, uses: u64) -> Token {
        Token {
            parent,
            mount: None,
            user: None,
            created: self.moment.span,
            end: None,
            granted: 0,
            wish,
            explicit,
            policies,
            uses: (uses > 0).then_some((uses, uses)),
            own: Default::default(),
        }
    }

    fn minted(&self, mut state: State, mut token: Token, life: u64) -> Vec<State> {
        token.end = Some(self.moment.span.after(life).rounded());
        token.granted = i64::try_from(life).unwrap_or(i64::MAX);
        // A token whose answer was lost is known to nobody: whether it was made cannot be seen, and would only double
        // the states.
        if self.answer.is_some() {
            state.tokens.insert(self.number, token);
        }
        self.shows(state, 200, |answer| answer.at("/auth/lease_duration") == &Value::from(life))
    }

    fn token(&self, before: &State, mut state: State) -> Vec<State> {
        match &self.operation.act {
            Act::CreateToken { policies, ttl, explicit, uses } => {
                let Some(parent) = before.tokens.get(&self.operation.by) else { return Vec::new() };
                let is_root = parent.policies.iter().any(|policy| policy == "root");
                let is_subset = policies.iter().all(|policy| parent.policies.contains(policy));
                if parent.uses.is_some() || !(is_root || is_subset) {
                    return self.refused(&state, 400);
                }
                let token = self.fresh(Some(self.operation.by), policies.clone(), *ttl, *explicit, *uses);
                let life = if *explicit == 0 { *ttl } else { *ttl.min(explicit) };
                self.minted(state, token, life.min(LIFE_MAX))
            }
            Act::Revoke { token } => {
                state.tokens.remove(token);
                self.becomes(204, state)
            }
            Act::RevokeOrphaning { token } => self.of_target(&state, *token, 400, |mut state| {
                state.tokens.remove(token);
                for other in state.tokens.values_mut().filter(|other| other.parent == Some(*token)) {
                    other.parent = None;
                }
                self.becomes(204, state)
            }),
            Act::Lookup { token } => self.of_target(&state, *token, 403, |state| {
                let token = state.tokens.get(token);
                let (end, granted) = (token.and_then(|token| token.end), token.map_or(0, |token| token.granted));
                let span = self.moment.span;
                self.shows(state, 200, |answer| {
                    let shown = answer.at("/data/ttl").as_i64().unwrap_or(-1);
                    end.is_none_or(|end| {
                        // However late it ends, no more is shown than was granted.
                        shown >= ((end.from - span.to).max(0) / SECOND).min(granted)
                            && shown <= (end.to - span.from) / SECOND
                    })
                })
            }),
            Act::Renew { token, increment } => {
                self.of_target(&state, *token, 400, |state| self.renewed(state, *token, *increment))
            }
            _ => Vec::new(),
        }
    }

    /// What becomes of a token that must be alive; dead it is refused with this status.
    fn of_target(
        &self,
        state: &State,
        token: TokenNumber,
        status: u16,
        alive: impl FnOnce(State) -> Vec<State>,
    ) -> Vec<State> {
        let life = state.life(token, self.moment);
        let mut after = if life < Life::Yes { self.refused(state, status) } else { Vec::new() };
        if life > Life::No {
            after.extend(alive(state.clone()));
        }
        after
    }

    fn renewed(&self, mut state: State, number: TokenNumber, increment: u64) -> Vec<State> {
        let Some(token) = state.tokens.get(&number) else { return Vec::new() };
        if token.end.is_none() {
            return self.refused(&state, 400);
        }
        let mount = token.mount.and_then(|made| state.mounts.values().find(|mount| mount.made == made));
        let max = mount.map_or(LIFE_MAX, |mount| mount.max);
        let mut wish = token.wish;
        if let (Some(mount), Some(name)) = (mount, &token.user) {
            // The user decides as it is now; a token of one who is gone, or has other policies, is not renewed.
            let of_token = token.policies.iter().filter(|name| *name != "default").collect::<BTreeSet<_>>();
            match mount.users.get(name) {
                Some(user) if user.policies.iter().collect::<BTreeSet<_>>() == of_token => wish = user.ttl,
                _ => return self.refused(&state, 400),
            }
        }
        let longest = if token.explicit == 0 { max } else { max.min(token.explicit) };
        let (span, cap) = (self.moment.span, token.created.after(longest));
        let wanted = span.after(if increment > 0 { increment } else { wish });
        // A process whose clock tells a time before the token's creation takes it for new.
        let fresh = span.after(longest);
        let end = Span {
            from: wanted.from.min(cap.from).min(fresh.from).max(span.from),
            to: wanted.to.min(cap.to).min(fresh.to).max(span.to),
        }
        .rounded();
        if let Some(token) = state.tokens.get_mut(&number) {
            // It ends less than a step after what is promised, and what was granted before may be what is shown.
            let longest = (end.to - span.from).max(0) / SECOND;
            token.end = Some(Span { from: end.from, to: end.to.saturating_add(longest / 64 * SECOND) });
            token.granted = token.granted.min((end.from - span.to).max(0) / SECOND);
        }
        self.shows(state, 200, |answer| {
            let shown = answer.at("/auth/lease_duration").as_i64().unwrap_or(-1);
            shown >= (end.from - span.to).max(0) / SECOND && shown <= (end.to - span.from) / SECOND
        })
    }

    fn system(&self, mut state: State) -> Vec<State> {
        match &self.operation.act {
            Act::Mount { path, kind } => {
                let at = place(*kind, path);
                if state.mounts.contains_key(&at) {
                    return self.refused(&state, 400);
                }
                state.mounts.insert(at, Mount::fresh(*kind, self.number));
                self.becomes(204, state)
            }
            Act::Unmount { path, kind } => {
                state.mounts.remove(&place(*kind, path));
                self.becomes(204, state)
            }
            Act::Tune { path, kind, max } => {
                let Some(found) = state.mounts.get_mut(&place(*kind, path)) else { return self.refused(&state, 400) };
                found.max = *max;
                self.becomes(204, state)
            }
            Act::Move { from, to } => {
                if !state.mounts.contains_key(from) || state.mounts.contains_key(to) {
                    return self.refused(&state, 400);
                }
                if let Some(moved) = state.mounts.remove(from) {
                    state.mounts.insert(to.clone(), moved);
                }
                self.becomes(200, state)
            }
            Act::ListMounts => {
                let ours = |name: &String| name.starts_with("canary");
                let known: BTreeSet<String> = state.mounts.keys().filter(|name| ours(name)).cloned().collect();
                self.shows(state, 200, |answer| {
                    keys_of(answer).into_iter().filter(ours).collect::<BTreeSet<_>>() == known
                })
            }
            Act::EnableDevice { path } => {
                if !state.devices.insert(path.clone()) {
                    return self.refused(&state, 400);
                }
                self.becomes(204, state)
            }
            Act::DisableDevice { path } => {
                state.devices.remove(path);
                self.becomes(204, state)
            }
            Act::ListDevices => {
                let known: BTreeSet<String> = state.devices.iter().map(|path| format!("{path}/")).collect();
                self.shows(state, 200, |answer| keys_of(answer) == known)
            }
            _ => Vec::new(),
        }
    }
}

fn put(secret: &mut Secret, value: &str) -> u64 {
    /// How many versions are kept.
    const KEPT: u64 = 10;
    secret.current += 1;
    secret.versions.insert(secret.current, (value.to_owned(), Standing::There));
    let oldest = secret.current.saturating_sub(KEPT);
    secret.versions.retain(|version, _| *version > oldest);
    secret.current
}

/// Changes what became of a version (`None`: the newest), when there is one.
fn change(secret: Option<&mut Secret>, version: Option<u64>, change: impl FnOnce(&mut Standing)) {
    let Some(secret) = secret else { return };
    let version = version.unwrap_or(secret.current);
    if let Some((_, standing)) = secret.versions.get_mut(&version) {
        change(standing);
    }
}

fn listed(answer: &Answer) -> BTreeSet<String> {
    let keys = answer.at("/data/keys").as_array().cloned().unwrap_or_default();
    keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn keys_of(answer: &Answer) -> BTreeSet<String> {
    answer.at("/data").as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}
