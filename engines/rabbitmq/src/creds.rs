//! `creds`: users that exist as long as their lease.
//!
//! The claim is the intent: its recipe names the user, the broker and who made it, so the user can be taken back whatever
//! becomes of role, connection and mount. Deliberately absent: undoing what a failed act began; the recipe does that.

use tresor_credential::{Moment, Template};
use tresor_crypto::token_text::random_base62;
use tresor_engine::outside::{Failed, Outside, UnderLease};
use tresor_engine::{Cx, Data, Happened, LeaseClaim, Leased};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_secret::{SecretBytes, SecretString};
use tresor_wire::output::Output;
use zeroize::Zeroizing;

use crate::RabbitMq;
use crate::broker::{Access, Broker, BrokerError, NewUser, is_segment};
use crate::connection::Connection;
use crate::lease::Lease;
use crate::roles::{ByName, Rights};

/// How users are called when nothing is configured.
const TEMPLATE: &str = r#"{{ printf "%s-%s" (.DisplayName) (uuid) }}"#;
/// What templates can name.
const FIELDS: [&str; 2] = ["DisplayName", "RoleName"];
/// How long a password is when no policy says so.
const PASSWORD_CHARS: usize = 36;
/// What is handed out.
const KIND: &str = "creds";

/// All that taking a user back needs.
#[derive(Record)]
#[record(kind = "rabbitmq-recipe", version = 1)]
struct Recipe {
    user: String,
    /// Where it was made, and by whom.
    access: Access,
}

/// A user.
#[derive(Output)]
pub(crate) struct Shown {
    /// What it is called.
    username: String,
    /// What it logs in with.
    #[output(secret)]
    password: String,
}

/// How users are called.
pub(crate) fn template(connection: &Connection) -> Result<Template, Fault> {
    let text = if connection.username_template.is_empty() { TEMPLATE } else { &connection.username_template };
    Template::parse(text, &FIELDS).map_err(|error| Fault::invalid(format!("invalid username template: {error}")))
}

/// A name for a new user.
pub(crate) fn username(template: &Template, cx: &mut Cx<'_>, role: &str) -> Result<Zeroizing<String>, Fault> {
    let fields = [("DisplayName", cx.caller.display_name), ("RoleName", role)];
    let rendered = template.render(&fields, Moment { now: cx.now, entropy: cx.entropy });
    let name = rendered.map_err(|error| Fault::invalid(format!("invalid username template: {error}")))?;
    if is_segment(&name) {
        Ok(name)
    } else {
        Err(Fault::invalid("the username template makes a name that cannot be one"))
    }
}

/// A failed act, by how far it came.
fn failed(error: BrokerError, has_user: bool) -> Failed {
    match (error.is_certain(), has_user) {
        (true, false) => Failed::nothing_done(error.into()),
        (true, true) => Failed::partly_done(error.into()),
        (false, _) => Failed::in_doubt(error.into()),
    }
}

pub(crate) async fn issue(
    _engine: &RabbitMq,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Outside<UnderLease<Data<Shown>>>, Fault> {
    let role = Rights::load(&mut cx.view, &input.name)?;
    let rights = role.ok_or_else(|| Fault::invalid(format!("unknown role: {}", input.name)))?;
    let connection = Connection::load(&mut cx.view)?.ok_or_else(|| Fault::invalid("no broker is configured"))?;
    let name = username(&template(&connection)?, &mut cx, &input.name)?.to_string();
    let password = match connection.password_policy.as_str() {
        "" => SecretString::new(random_base62(PASSWORD_CHARS, cx.entropy).to_string()),
        policy => cx.password(policy)?,
    };
    let lease = Lease::load(&mut cx.view)?.unwrap_or_default();
    let recipe = Recipe { user: name.clone(), access: connection.access.duplicate() };
    let claim = LeaseClaim {
        kind: KIND,
        recipe: SecretBytes::new(recipe.encode().to_vec()),
        ttl: lease.ttl,
        max_ttl: lease.max_ttl,
        renewable: true,
    };
    let broker = Broker::new(cx.outgoing, &connection.access);
    let user = NewUser { name, password, rights };
    let act = async move {
        broker.make(&user).await.map_err(|error| failed(error, false))?;
        broker.grant(&user).await.map_err(|error| failed(error, true))?;
        Ok(user)
    };
    let (made, failing) = (input.name.clone(), input.name);
    let planned = Outside::new(connection.access.uri, act, move |view, _now, user: &NewUser| {
        view.tell(|| Happened::named("rabbitmq/creds-create", "creds", &made));
        Ok(Data(Shown { username: user.name.clone(), password: user.password.expose().clone() }))
    });
    let planned = planned.if_failed(move |view, _now, _failed| {
        view.tell(|| Happened::named("rabbitmq/creds-create-fail", "creds", &failing).without_change());
        Ok(())
    });
    Ok(planned.with_lease(claim))
}

/// Deletes a user where it was made. Who made it may have another password since, or be another: so the broker is asked as
/// it is configured now, if it still is that one, and as it was then.
pub(crate) async fn take_back(mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let recipe = Recipe::decode(lease.recipe.expose()).map_err(Fault::internal)?;
    let now = Connection::load(&mut cx.view)?.map(|connection| connection.access);
    if let Some(access) = now.filter(|now| now.uri == recipe.access.uri) {
        match Broker::new(cx.outgoing, &access).delete(&recipe.user).await {
            // It may not know the one that is configured now, or not let it do this.
            Err(BrokerError::Unknown | BrokerError::Refused { status: 403, .. }) => {}
            other => return other.map_err(Fault::from),
        }
    }
    match Broker::new(cx.outgoing, &recipe.access).delete(&recipe.user).await {
        // A wrong manager is wrong for everything that is to be taken back.
        Err(error @ BrokerError::Unknown) => Err(error.ours()),
        other => other.map_err(Fault::from),
    }
}
