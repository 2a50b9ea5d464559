//! `creds` and `sts`: keys of users that exist as long as their lease, and keys that end by themselves.
//!
//! The claim is the intent: its recipe names the user and the keys that it was made with, so it can be taken back whatever
//! becomes of role, configuration and mount. Keys of STS have a lease that says when they end; there is nothing to take
//! back, and no way to prolong them. Deliberately absent: choosing between types, which the role does.

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::outside::{Failed, Outside, UnderLease};
use tresor_engine::{Cx, Data, Happened, LeaseClaim, Leased, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::SecretBytes;
use tresor_sigv4::Keys;
use tresor_wire::input::{Input, Seconds};
use tresor_wire::output::Output;

use crate::Aws;
use crate::lease::Lease;
use crate::limits;
use crate::machine::Machine;
use crate::query::{AwsError, Doors};
use crate::roles::{CredentialType, Role};
use crate::root::{Access, Naming, Root, plain};
use crate::sts::{Assumed, Session};
use crate::users::{self, NewUser, Removed};

/// What is handed out.
const KIND: &str = "access_keys";
/// How long keys of STS live when nobody says it.
const STS_TTL: Duration = Duration::from_secs(3600);
/// How long a user that was made may be unknown to a part of AWS.
const SPREADING_MAX: Duration = Duration::from_secs(300);

/// All that taking something back needs.
#[derive(Record)]
#[record(kind = "aws-recipe", version = 1)]
struct Recipe {
    /// The user that was made; none: the keys end by themselves.
    made: Option<Made>,
}

#[derive(Part)]
struct Made {
    user: String,
    access: Access,
}

/// Which keys.
#[derive(Input)]
pub(crate) struct Asked {
    /// The role.
    #[input(path)]
    name: String,
    /// Which of the role's roles of AWS is assumed, where it has several.
    #[input(query, default = "")]
    role_arn: String,
    /// How the session is called.
    #[input(query, default = "")]
    role_session_name: String,
    /// How long the keys live, where they end by themselves.
    #[input(query)]
    ttl: Option<Seconds>,
    /// What the second factor of the configured user shows now.
    #[input(query, default = "")]
    mfa_code: String,
}

/// Keys.
#[derive(Output)]
pub(crate) struct Shown {
    /// The access key.
    access_key: String,
    /// Its secret key.
    #[output(secret)]
    secret_key: String,
    /// What comes with keys that end by themselves.
    #[output(secret)]
    session_token: Option<String>,
    /// The older name of `session_token`.
    #[output(secret)]
    security_token: Option<String>,
    /// Whose the keys are, where AWS says it.
    #[output(optional)]
    arn: Option<String>,
    /// How many seconds are left of keys that end by themselves.
    #[output(optional)]
    ttl: Option<Duration>,
}

impl Shown {
    fn new(keys: &Keys, arn: Option<String>, ttl: Option<Duration>) -> Self {
        let token = || keys.session_token.as_ref().map(|token| token.expose().clone());
        Self {
            access_key: keys.access_key.clone(),
            secret_key: keys.secret_key.expose().clone(),
            session_token: token(),
            security_token: token(),
            arn,
            ttl,
        }
    }
}

type Issued = Outside<UnderLease<Data<Shown>>>;

/// From which path keys are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Creds,
    Sts,
}

pub(crate) async fn creds(_engine: &Aws, cx: Cx<'_>, asked: Asked) -> Result<Issued, Fault> {
    issue(cx, asked, Way::Creds)
}

pub(crate) async fn sts(_engine: &Aws, cx: Cx<'_>, asked: Asked) -> Result<Issued, Fault> {
    issue(cx, asked, Way::Sts)
}

/// Which of its types a role gives on a way.
fn chosen(role: &Role, way: Way) -> Result<CredentialType, Fault> {
    let chosen = match (role.credential_types.as_slice(), way) {
        ([one], _) => *one,
        (_, Way::Creds) => CredentialType::IamUser,
        (_, Way::Sts) => CredentialType::FederationToken,
    };
    let is_user = chosen == CredentialType::IamUser;
    if role.is_by_path && is_user != (way == Way::Creds) {
        let (name, path) = (chosen.as_str(), if way == Way::Sts { "sts" } else { "creds" });
        let text = "this is not allowed for legacy roles";
        return Err(Fault::invalid(format!(
            "attempted to retrieve {name} credentials through the {path} path; {text}"
        )));
    }
    Ok(chosen)
}

fn issue(mut cx: Cx<'_>, asked: Asked, way: Way) -> Result<Issued, Fault> {
    let role = Role::load(&mut cx.view, &asked.name)?;
    let role = role.ok_or_else(|| Fault::invalid(format!("Role {:?} not found", asked.name)))?;
    let root = Root::usable(&mut cx)?;
    let told = Told { asked: if way == Way::Sts { "sts" } else { "creds" }, role: asked.name.clone() };
    match chosen(&role, way)? {
        CredentialType::IamUser => user(cx, &root, role, told),
        kind => session(cx, &root, role, kind, asked, told),
    }
}

/// What those who listen are told of keys: by which path and role.
#[derive(Clone)]
struct Told {
    asked: &'static str,
    role: String,
}

impl Told {
    fn made(&self, view: &mut View<'_>) {
        view.tell(|| Happened::named("aws/creds-create", self.asked, &self.role));
    }

    /// The same of what could not be made.
    fn failed(self) -> impl Fn(&mut View<'_>, Timestamp, &Failed) -> Result<(), Fault> + Send + Sync + 'static {
        move |view, _now, _failed| {
            view.tell(|| Happened::named("aws/creds-create-fail", self.asked, &self.role).without_change());
            Ok(())
        }
    }
}

/// A user that exists as long as its lease.
fn user(mut cx: Cx<'_>, root: &Root, role: Role, told: Told) -> Result<Issued, Fault> {
    let lease = Lease::load(&mut cx.view)?.unwrap_or_default();
    let name = root.name(&cx, Naming::User, &told.role)?;
    let recipe = Recipe { made: Some(Made { user: name.clone(), access: root.access.duplicate() }) };
    let claim = LeaseClaim {
        kind: KIND,
        recipe: SecretBytes::new(recipe.encode().to_vec()),
        ttl: lease.lease,
        max_ttl: lease.lease_max,
        renewable: true,
    };
    let user = NewUser {
        name,
        path: if role.user_path.is_empty() { "/".to_owned() } else { role.user_path },
        boundary: role.permissions_boundary_arn,
        tags: role.iam_tags,
        arns: role.policy_arns,
        document: role.policy_document,
        document_name: told.role.clone(),
        groups: role.iam_groups,
    };
    let iam = root.access.iam(&doors(&cx), root.access.keys());
    // What former keys are not allowed to take back keeps nothing waiting of those that count.
    let target = root.access.access_key.clone();
    let act = async move { users::make(&iam, &user).await };
    let failed = told.clone().failed();
    let settle = move |view: &mut View<'_>, _now: Timestamp, keys: &Keys| {
        told.made(view);
        Ok(Data(Shown::new(keys, None, None)))
    };
    Ok(Outside::new(target, act, settle).if_failed(failed).with_lease(claim))
}

/// What is asked of STS.
enum Wanted {
    Assume { arn: String, session: String, external_id: String, tags: Vec<(String, String)> },
    Federate { name: String },
    Extend { serial: String, code: String },
}

/// How long keys of STS are to live.
fn sts_ttl(cx: &Cx<'_>, role: &Role, asked: Option<Seconds>) -> Duration {
    let default = if role.default_sts_ttl.is_zero() { STS_TTL } else { role.default_sts_ttl };
    let max = if role.max_sts_ttl.is_zero() { cx.mount.max_lease_ttl } else { role.max_sts_ttl };
    asked.map_or(default, |asked| asked.0).min(max)
}

/// Keys that end by themselves.
fn session(
    cx: Cx<'_>,
    root: &Root,
    role: Role,
    kind: CredentialType,
    asked: Asked,
    told: Told,
) -> Result<Issued, Fault> {
    let ttl = sts_ttl(&cx, &role, asked.ttl);
    let wanted = match kind {
        CredentialType::AssumedRole => {
            let session = match plain(&asked.role_session_name) {
                none if none.is_empty() => root.name(&cx, Naming::Session, &asked.name)?,
                session => session,
            };
            let tags = role.session_tags.into_iter().collect();
            let arn = assumed_arn(&role.role_arns, asked.role_arn, &asked.name)?;
            Wanted::Assume { arn, session, external_id: role.external_id, tags }
        }
        CredentialType::SessionToken => Wanted::Extend { serial: role.mfa_serial_number, code: asked.mfa_code },
        // Without a limit these keys would be as good as the configured ones.
        _ if role.policy_document.is_empty() && role.policy_arns.is_empty() && role.iam_groups.is_empty() => {
            let text =
                "must specify at least one of policy_arns or policy_document with federation_token credential_type";
            return Err(Fault::invalid(text));
        }
        _ => Wanted::Federate { name: root.name(&cx, Naming::Federated, &asked.name)? },
    };
    let claim = LeaseClaim {
        kind: KIND,
        recipe: SecretBytes::new(Recipe { made: None }.encode().to_vec()),
        ttl,
        max_ttl: ttl,
        renewable: false,
    };
    let (doors, seconds) = (doors(&cx), ttl.as_secs());
    let (iam, sts) = (root.access.iam(&doors, root.access.keys()), root.access.sts(&doors, root.access.keys()));
    let (document, arns, groups) = (role.policy_document, role.policy_arns, role.iam_groups);
    let act = async move {
        let limits = limits::collect(&iam, &document, &arns, &groups).await.map_err(nothing_left)?;
        let given = match &wanted {
            Wanted::Assume { arn, session, external_id, tags } => {
                let tags = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let role = Assumed { arn, session, external_id, tags };
                sts.assume_role(&role, &limits, Some(seconds)).await
            }
            Wanted::Federate { name } if !limits.document.is_empty() || !limits.arns.is_empty() => {
                sts.federation_token(name, &limits, seconds).await
            }
            Wanted::Federate { .. } => {
                return Err(Failed::nothing_done(Fault::invalid("the groups of the role have no policies")));
            }
            Wanted::Extend { serial, code } => sts.session_token(serial, code, seconds).await,
        };
        given.map_err(nothing_left)
    };
    let failed = told.clone().failed();
    let settle = move |view: &mut View<'_>, now: Timestamp, given: &Session| {
        told.made(view);
        let left = Duration::from_secs(given.expires.since(now).as_secs());
        Ok(Data(Shown::new(&given.keys, given.arn.clone(), Some(left))))
    };
    Ok(Outside::new("", act, settle).if_failed(failed).with_lease(claim))
}

/// STS keeps nothing that would have to be taken back.
fn nothing_left(error: AwsError) -> Failed {
    Failed::nothing_done(error.into())
}

/// Which of the roles of AWS is assumed.
fn assumed_arn(known: &[String], asked: String, role: &str) -> Result<String, Fault> {
    match (known, asked.as_str()) {
        ([one], "") => Ok(one.clone()),
        (_, "") => Err(Fault::invalid("did not supply a role_arn parameter and unable to determine one")),
        _ if known.contains(&asked) => Ok(asked),
        _ => Err(Fault::invalid(format!("role_arn {asked:?} not in allowed role arns for role {role:?}"))),
    }
}

/// What asking AWS takes, for an act.
pub(crate) fn doors(cx: &Cx<'_>) -> Doors {
    let machine =
        cx.surroundings().map(|around| Machine::new(Arc::clone(around), Arc::clone(cx.outgoing), Arc::clone(cx.clock)));
    Doors { outgoing: Arc::clone(cx.outgoing), clock: Arc::clone(cx.clock), machine: machine.map(Arc::new) }
}

/// Whether the keys that are configured now are of the account of those that something was made with. In doubt they are not:
/// a user that another account does not have is not gone.
async fn is_same_account(now: &Access, before: &Access, doors: &Doors) -> bool {
    let sts = now.sts(doors, now.keys());
    let Ok(account) = sts.account().await else { return false };
    let of_before = match before.sts(doors, before.keys()).account().await {
        Err(error) if error.is_about_keys() && !before.access_key.is_empty() => {
            sts.account_of(&before.access_key).await
        }
        told => told,
    };
    of_before.is_ok_and(|of_before| of_before == account)
}

/// Takes a user back: with the keys that are configured now, if these are what became of those that it was made with, and
/// then with those; and where those are refused, with keys of the same account that somebody wrote in their place.
pub(crate) async fn take_back(mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let recipe = Recipe::decode(lease.recipe.expose()).map_err(Fault::internal)?;
    let Some(Made { user, access }) = recipe.made else { return Ok(()) };
    let doors = doors(&cx);
    let removed = match Root::load(&mut cx.view)?.map(|root| root.access) {
        Some(now) if now.lineage == access.lineage => match users::remove(&now.iam(&doors, now.keys()), &user).await {
            // The endpoint may be another, too.
            Err(error) if now.access_key != access.access_key && error.is_about_keys() => {
                users::remove(&access.iam(&doors, access.keys()), &user).await
            }
            other => other,
        },
        now => {
            let removed = users::remove(&access.iam(&doors, access.keys()), &user).await;
            let is_refused = removed.as_ref().is_err_and(AwsError::is_about_keys);
            match now.filter(|_| is_refused) {
                Some(now) => match is_same_account(&now, &access, &doors).await {
                    true => users::remove(&now.iam(&doors, now.keys()), &user).await,
                    false => removed,
                },
                None => removed,
            }
        }
    };
    match removed {
        Ok(Removed::Before) if !lease.was_taken_back && cx.now.since(lease.issued) < SPREADING_MAX => {
            // It would be forgotten, and be there a moment later.
            Err(Fault::invalid(format!(
                "AWS does not know the user {user:?}, or not yet: asked again when it is older"
            )))
        }
        Ok(_) => Ok(()),
        // Wrong keys are wrong for everything that is to be taken back.
        Err(error) if error.is_about_keys() => Err(error.ours()),
        Err(error) => Err(error.into()),
    }
}
