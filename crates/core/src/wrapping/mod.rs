//! Wrapped answers: what lies behind a wrapping token, and how it is opened once.
//!
//! A wrapping token is an orphan with one use, whose one policy lets it open what it wraps. The answer, spelled as it would have
//! left, lies in that token's cubbyhole, where old clients look for it; cubbyhole's own engine writes and reads it, so nothing
//! here knows how. Opening takes the answer and the token out in the transaction of the request that opens: of any number, on
//! any nodes and across a crash, one commits. Deliberately absent: when an answer is wrapped (`pipeline/wrap.rs`).

mod jwt;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tresor_barrier::{Barrier, Txn};
use tresor_engine::{Caller, Cx, Headers, Held, Reply, View};
use tresor_model::ids::{Accessor, NamespaceId};
use tresor_model::{Body, Fault, Map, Operation, Shape, Timestamp, WrapInfo};
use tresor_policy::WRAPPING_POLICY;
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::duration::print_go;
use tresor_wire::input::Fields;

use crate::leases::secrets::Means;
use crate::namespaces::{Space, Spaces, ids};
use crate::tokens::{FoundToken, NewToken, Tokens};
use jwt::{JwtKey, Unverified};

/// Where in the token's cubbyhole the answer lies, and under which field.
const AT: &str = "response";
/// The field of a request's body that names a wrapping token.
const NAMED_BY: &str = "token";

/// One text for every token behind which there is nothing, whatever it is.
#[must_use]
pub fn not_valid() -> Fault {
    Fault::invalid("wrapping token is not valid or does not exist")
}

/// Whether a request's body names a token, so that it is not about the caller's own.
pub(crate) fn is_named(body: &Map) -> bool {
    body.text(NAMED_BY).is_some_and(|text| !text.is_empty())
}

/// What a wrapped answer is to be.
pub struct Wish {
    /// The namespace whose answer it is.
    pub space: Arc<Space>,
    /// The path whose answer it is.
    pub path: String,
    /// How long it can be opened.
    pub ttl: Duration,
    /// Shown in audit records.
    pub display_name: String,
    /// The handle of a token in the answer.
    pub wrapped_accessor: Option<Accessor>,
}

/// Makes and opens wrapped answers.
pub struct Wrapping {
    spaces: Arc<Spaces>,
    tokens: Arc<Tokens>,
    jwt_key: JwtKey,
}

impl Wrapping {
    pub(crate) fn new(barrier: &Barrier, spaces: Arc<Spaces>, tokens: Arc<Tokens>) -> Self {
        Self { spaces, tokens, jwt_key: JwtKey::new(barrier) }
    }

    /// The live token of one of these namespaces that a text is, or a wrapping token that it is as JWT.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub(crate) fn look_up(
        &self,
        txn: &mut Txn,
        homes: &[NamespaceId],
        token: &TokenSecret,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(jwt) = Unverified::parse(token) else { return self.tokens.find(txn, homes, token, now) };
        let found = self.tokens.find(txn, homes, &jwt.token, now)?.filter(|found| found.record.is_wrapping());
        match found {
            Some(found) if self.jwt_key.verifies(&jwt)? => Ok(Some(found)),
            _ => Ok(None),
        }
    }

    /// How a wrapped answer is opened, with its token as JWT that says where that is.
    ///
    /// # Errors
    /// A refusal when it would be longer than a token can be.
    pub(crate) fn as_jwt(&self, info: WrapInfo, address: &str) -> Result<WrapInfo, Fault> {
        let token = self.jwt_key.spell(&info, address)?;
        Ok(WrapInfo { token, ..info })
    }

    /// The coordinates of the point by which anybody verifies wrapping tokens as JWT, on P-521.
    ///
    /// # Errors
    /// Never in practice.
    pub fn public_key(&self) -> Result<(&[u8], &[u8]), Fault> {
        Ok(self.jwt_key.key()?.coordinates())
    }

    /// Refuses what is no life for a wrapping token.
    pub(crate) fn check(space: &Space, ttl: Duration) -> Result<(), Fault> {
        let table = space.mounts.table();
        let max = table.at("auth/token/").map(|mount| mount.facts.max_lease_ttl).unwrap_or_default();
        if ttl < Duration::from_secs(1) {
            return Err(Fault::invalid("requested wrap ttl is less than a second"));
        }
        if ttl > max {
            return Err(Fault::invalid(format!("requested wrap ttl is longer than {}", print_go(max))));
        }
        Ok(())
    }

    /// Puts an answer behind a new token.
    ///
    /// # Errors
    /// As making a token.
    pub async fn wrap(&self, mut means: Means<'_>, answer: SecretString, wish: Wish) -> Result<WrapInfo, Fault> {
        let mount = wish.space.mounts.table().at("auth/token/").map(|mount| mount.record.id.clone());
        let new = NewToken {
            id: None,
            namespace: wish.space.id.clone(),
            parent: None,
            policies: vec![WRAPPING_POLICY.to_owned()],
            metadata: std::collections::BTreeMap::new(),
            display_name: wish.display_name,
            path: wish.path.clone(),
            mount: mount.ok_or_else(|| Fault::internal("the token store is not mounted"))?,
            ttl: Some(wish.ttl),
            renewal_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            explicit_max_ttl: wish.ttl,
            period: Duration::ZERO,
            num_uses: 1,
            renewable: false,
            bound_cidrs: Vec::new(),
            kept: None,
        };
        let (token, found) = self.tokens.mint(means.txn, new, means.now, means.entropy)?;
        let content = Map::new().with(AT, answer.expose().as_str());
        self.cubbyhole(&mut means, &found.hash, Operation::Create, content).await?;
        Ok(WrapInfo {
            token,
            accessor: found.record.accessor.clone(),
            ttl: wish.ttl,
            created: means.now,
            creation_path: wish.path,
            wrapped_accessor: wish.wrapped_accessor,
        })
    }

    /// The wrapping token of one of these namespaces with this text; it may have been used by the very request that asks.
    ///
    /// # Errors
    /// A refusal when it is none, or was used by somebody else.
    pub fn find(
        &self,
        txn: &mut Txn,
        homes: &[NamespaceId],
        token: &TokenSecret,
        caller: Option<&str>,
        now: Timestamp,
    ) -> Result<FoundToken, Fault> {
        let found = self.look_up(txn, homes, token, now)?;
        let found = found.filter(|found| found.record.is_wrapping());
        found.filter(|found| !found.is_used_up() || caller == Some(&found.hash)).ok_or_else(not_valid)
    }

    /// Takes an answer out, and its token with it.
    ///
    /// # Errors
    /// A refusal when nothing is behind the token; a failure when the store fails.
    pub async fn open(&self, mut means: Means<'_>, found: &FoundToken) -> Result<SecretString, Fault> {
        let reply = self.cubbyhole(&mut means, &found.hash, Operation::Read, Map::new()).await?;
        let Shape::Enveloped(content) = reply.shape else { return Err(not_valid()) };
        let Some(answer) = content.get(AT).and_then(Body::as_str) else { return Err(not_valid()) };
        let answer = SecretString::new(answer.to_owned());
        self.cubbyhole(&mut means, &found.hash, Operation::Delete, Map::new()).await?;
        self.tokens.revoke(means.txn, found, means.now)?;
        Ok(answer)
    }

    /// Asks cubbyhole's engine about the answer in the cubbyhole of this token.
    async fn cubbyhole(
        &self,
        means: &mut Means<'_>,
        token: &str,
        operation: Operation,
        body: Map,
    ) -> Result<Reply, Fault> {
        let missing = || Fault::internal("cubbyhole is not mounted");
        let space = self.spaces.of(&ids::home(token))?;
        let mount = space.mounts.table().at("cubbyhole/").cloned().ok_or_else(missing)?;
        let engine = space.mounts.engine(&mount).ok_or_else(missing)?;
        let found = engine.find(AT).ok_or_else(missing)?;
        let cx = Cx {
            view: View::new(means.txn, mount.contents.clone()),
            now: means.now,
            entropy: means.entropy,
            workers: means.workers,
            outgoing: means.ways.outgoing,
            net: means.ways.net,
            machine: means.ways.machine,
            keepers: means.ways.keepers,
            clock: means.ways.clock,
            caller: Caller {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                accessor: None,
                home: None,
                policies: &[],
                display_name: "",
                token_key: Some(token),
                held: Held::new(None),
                has_sudo: false,
                is_root: false,
            },
            mount: &mount.facts,
            operation,
            upload: None,
            headers: Headers::NONE,
        };
        let fields = Fields { path: found.parameters, body, from_query: Vec::new() };
        engine.invoke(found.route, operation, cx, fields).ok_or_else(missing)?.await
    }
}
