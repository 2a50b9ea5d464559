//! `config/connection`: which broker, by which user, and what its users are called.
//!
//! Nothing of it can be read back. What is not sent stays, but a password is sent to no other broker and for no other user
//! than it was given for. Deliberately absent: a client that is kept; one is made of what is stored whenever it is needed,
//! so none is older than the configuration.

use tresor_engine::{Cx, Happened, Nothing, View, Warned};
use tresor_env::outgoing::Base;
use tresor_model::Fault;
use tresor_record::Record;
use tresor_secret::SecretString;
use tresor_wire::input::Input;

use crate::RabbitMq;
use crate::broker::{Access, Broker};
use crate::creds;

const NAME: &str = "config/connection";

/// The configuration.
#[derive(Record)]
#[record(kind = "rabbitmq-connection", version = 1)]
pub(crate) struct Connection {
    pub(crate) access: Access,
    /// By which policy passwords are made; empty: the engine's own.
    pub(crate) password_policy: String,
    /// How users are called; empty: the engine's own.
    pub(crate) username_template: String,
}

impl Connection {
    pub(crate) fn load(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(NAME)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }
}

/// What to change; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The broker's management API, such as `http://localhost:15672`.
    connection_uri: Option<String>,
    /// A user of the broker with the tag `administrator`.
    username: Option<String>,
    /// Its password; needed again when the broker or the user changes.
    password: Option<SecretString>,
    /// Whether the broker is asked if these are right.
    #[input(default = "true")]
    verify_connection: bool,
    /// The policy that passwords are made by.
    password_policy: Option<String>,
    /// How the users are called.
    username_template: Option<String>,
}

/// Whether it is where a broker can be.
fn check_uri(uri: &str) -> Result<Base<'_>, Fault> {
    Base::parse(uri).ok_or_else(|| Fault::invalid("connection_uri must be http://HOST:PORT or https://HOST:PORT"))
}

pub(crate) async fn write(_engine: &RabbitMq, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let known = Connection::load(&mut cx.view)?;
    let sent = |text: Option<String>| text.filter(|text| !text.is_empty());
    let missing = |name: &str| Fault::invalid(format!("missing {name}"));
    let before = known.as_ref().map(|known| &known.access);
    let uri = sent(input.connection_uri).or_else(|| before.map(|before| before.uri.clone()));
    let uri = uri.ok_or_else(|| missing("connection_uri"))?;
    let username = sent(input.username).or_else(|| before.map(|before| before.username.clone()));
    let username = username.ok_or_else(|| missing("username"))?;
    let is_same = before.is_some_and(|before| before.uri == uri && before.username == username);
    let kept = before.filter(|_| is_same).map(|before| before.duplicate().password);
    let password = input.password.filter(|password| !password.expose().is_empty()).or(kept);
    let password = password.ok_or_else(|| missing("password"))?;
    let is_open = !check_uri(&uri)?.is_private();
    let access = Access { uri, username, password };
    let (policy, template) = known.map(|known| (known.password_policy, known.username_template)).unwrap_or_default();
    let connection = Connection {
        access,
        password_policy: input.password_policy.unwrap_or(policy),
        username_template: input.username_template.unwrap_or(template),
    };
    creds::template(&connection).and_then(|template| creds::username(&template, &mut cx, "role"))?;
    if input.verify_connection {
        Broker::new(cx.outgoing, &connection.access).verify().await?;
    }
    cx.view.write(NAME, &connection.encode())?;
    cx.view.tell(|| Happened::new("rabbitmq/config-write", NAME));
    let warning = "passwords go to this broker in the clear: its connection_uri is http://";
    Ok(Warned(Nothing, if is_open { vec![warning.to_owned()] } else { Vec::new() }))
}
