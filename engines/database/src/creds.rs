//! `creds/NAME`: an account, made now, under a lease.

use std::sync::Arc;
use std::time::Duration;

use tresor_credential::{Moment, Template, layout};
use tresor_crypto::token_text::random_base62;
use tresor_engine::outside::{Left, UnderLease};
use tresor_engine::{Cx, Data, Happened, LeaseClaim, MountFacts, Outside};
use tresor_env::tasks::{NotComputed, run_computing};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;
use tresor_secret::{SecretBytes, SecretString};
use tresor_wire::output::Output;

use crate::account::{Account, KIND};
use crate::certificate::{Issued, Maker, Order};
use crate::config::{ByName, ID_LENGTH};
use crate::connection::{Connection, account_name, copied};
use crate::plugins::{Creation, Plugin};
use crate::roles::Role;
use crate::settings::{Common, FIELDS};
use crate::statements::{are_blank, put_in};
use crate::target::{NewAccount, Proof, Target, Trouble};
use crate::{Database, Doors, checked_name};

/// An account is let in for so much longer than its lease lasts, so that clocks may differ.
const GRACE: Duration = Duration::from_secs(5);

/// An account.
#[derive(Output)]
pub(crate) struct Made {
    /// Its name.
    username: String,
    /// Its password, where it is let in by one.
    #[output(secret, optional)]
    password: Option<String>,
    /// Its certificate, where it is let in by that, in PEM.
    #[output(optional)]
    client_certificate: Option<String>,
    /// The key of that, in PEM.
    #[output(secret, optional)]
    private_key: Option<String>,
    /// The type of that: `rsa`, `ec` or `ed25519`.
    #[output(optional)]
    private_key_type: Option<&'static str>,
}

impl Made {
    fn of(account: &NewAccount) -> Self {
        let (password, issued) = match &account.proof {
            Proof::Password(password) => (Some(password.expose().clone()), None),
            Proof::Certificate(issued) => (None, Some(issued)),
        };
        Self {
            username: account.username.clone(),
            password,
            client_certificate: issued.map(|issued| issued.certificate.clone()),
            private_key: issued.map(|issued| issued.key.expose().clone()),
            private_key_type: issued.map(|issued| issued.key_type),
        }
    }
}

/// When an account that is to live so long ends by itself at its server.
pub(crate) fn expiration(plugin: &Plugin, now: Timestamp, ttl: Duration) -> Result<String, Fault> {
    let text = layout::print(now.plus(ttl).plus(GRACE), plugin.expiration);
    text.ok_or_else(|| Fault::internal("a time that cannot be written"))
}

/// How long an account lives at first.
fn life(role: &Role, mount: &MountFacts) -> Duration {
    let or = |given: Duration, usual| if given.is_zero() { usual } else { given };
    let max = or(role.max_ttl, mount.max_lease_ttl).min(mount.max_lease_ttl);
    or(role.default_ttl, mount.default_lease_ttl).min(max)
}

/// A certificate that holds as long as its account, made where nobody waits for the core that it keeps busy.
async fn issue(cx: &Cx<'_>, maker: Maker, name: String, lives: Duration) -> Result<Issued, Fault> {
    let mut serial = [0; 16];
    cx.entropy.fill(&mut serial);
    let order = Order { name, now: cx.now, until: cx.now.plus(lives).plus(GRACE), serial };
    let issued = run_computing(cx.workers, move || maker.issue(&order)).await.map_err(|error| match error {
        NotComputed::Busy => Refusal::Unavailable("too many certificates at once, try again".into()).into(),
        NotComputed::Panicked => Fault::internal(error),
    })?;
    issued.map_err(Fault::internal)
}

/// What a server is told in place of a password, if that is so; computed where nobody waits for the core that it keeps busy.
async fn told(cx: &Cx<'_>, target: &Target, password: &SecretString) -> Result<Option<SecretString>, Fault> {
    let Some(salt) = target.salt() else { return Ok(None) };
    let password = copied(password);
    let hash = run_computing(cx.workers, move || salt.hash(&password)).await.map_err(|error| match error {
        NotComputed::Busy => Refusal::Unavailable("too many passwords at once, try again".into()).into(),
        NotComputed::Panicked => Fault::internal(error),
    })?;
    Ok(Some(hash))
}

pub(crate) async fn make(
    engine: &Database,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Outside<UnderLease<Data<Made>>>, Fault> {
    let name = checked_name(&input.name)?;
    let role = Role::load(&mut cx.view, name)?;
    let role = role.ok_or_else(|| Fault::invalid(format!("unknown role: {name}")))?;
    let connection = Connection::named(&mut cx.view, &role.db_name)?;
    connection.allows(name)?;
    let plugin = connection.plugin()?;
    if plugin.creation == Creation::Said && are_blank(&role.creation) {
        return Err(Fault::invalid("empty creation statements"));
    }
    role.credential.is_taken_by(plugin)?;
    let certificates = role.certificates()?;
    if certificates.is_some() && put_in(&role.creation, "password") {
        return Err(Fault::invalid("creation_statements put in a password, and accounts are let in by certificates"));
    }
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let fields = [("DisplayName", cx.caller.display_name), ("RoleName", name)];
    let moment = Moment { now: cx.now, entropy: cx.entropy };
    // A certificate names its account.
    let names = match role.credential.names() {
        Some(text) => Template::parse(text, FIELDS).map_err(|error| error.to_string()),
        None => settings.usernames(plugin),
    };
    let username = names.map_err(Fault::invalid)?.render(&fields, moment);
    let username = plugin.fitting_name(username.map_err(|error| Fault::invalid(error.to_string()))?.to_string())?;
    let lives = life(&role, cx.mount);
    // It cannot be made to hold longer.
    let renewable = certificates.is_none();
    let proof = match certificates {
        Some(certificates) => Proof::Certificate(issue(&cx, certificates, username.clone(), lives).await?),
        None => Proof::Password(cx.password(&role.credential.password_policy(&connection.password_policy)?)?),
    };
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let target_name = connection.target();
    if target.is_self_managed() {
        return Err(Fault::invalid("nobody who could make accounts is configured: the connection is self_managed"));
    }
    let told = match &proof {
        Proof::Password(password) => told(&cx, &target, password).await?,
        Proof::Certificate(_) => None,
    };
    let account =
        NewAccount { expiration: expiration(plugin, cx.now, lives)?, username: username.clone(), proof, told };
    let number = random_base62(ID_LENGTH, cx.entropy).to_string();
    let noted = account_name(&connection.id, &number);
    let recipe = Account {
        connection: connection.name.clone(),
        id: connection.id.clone(),
        number,
        username,
        revocation: role.revocation,
        renewal: role.renewal,
    };
    let claim = LeaseClaim {
        kind: KIND,
        recipe: SecretBytes::new(recipe.encode().to_vec()),
        ttl: role.default_ttl,
        max_ttl: role.max_ttl,
        renewable,
    };
    cx.view.write(&noted, &[])?;
    let (creation, rollback) = (role.creation, role.rollback);
    let act = async move {
        target.create(&account, &creation, &rollback).await.map_err(Trouble::of_creation)?;
        Ok(account)
    };
    let (made, failing) = (name.to_owned(), name.to_owned());
    let planned = Outside::new(target_name, act, move |view, _now, account: &NewAccount| {
        view.tell(|| Happened::named("database/creds-create", "creds", &made));
        Ok(Data(Made::of(account)))
    });
    let forgotten = Arc::<str>::from(noted);
    Ok(planned
        .if_failed(move |view, _now, failed| {
            view.tell(|| Happened::named("database/creds-create-fail", "creds", &failing).without_change());
            // Otherwise the recipe takes away what there may be, and the note with it.
            if failed.left == Left::Nothing { view.delete(&forgotten) } else { Ok(()) }
        })
        .with_lease(claim))
}
