//! `roles`: what the users of a role may on the broker.
//!
//! Deliberately absent: any reading of the expressions in it, which are the broker's.

use std::collections::BTreeMap;

use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::{Body, Fault, Map};
use tresor_record::{Part, Record};
use tresor_wire::input::{Input, Limit};
use tresor_wire::json::{self, JsonLimits};
use tresor_wire::output::Output;

use crate::RabbitMq;
use crate::broker::is_segment;

const ROLES: &str = "role/";
/// Longer names has no role.
const NAME_BYTES_MAX: usize = 512;

/// What a user may in a virtual host, as expressions over names.
#[derive(Part)]
pub(crate) struct Permission {
    pub(crate) configure: String,
    pub(crate) write: String,
    pub(crate) read: String,
}

/// What a user may at an exchange, as expressions over routing keys.
#[derive(Part)]
pub(crate) struct TopicPermission {
    pub(crate) write: String,
    pub(crate) read: String,
}

/// A role: what its users may.
#[derive(Record)]
#[record(kind = "rabbitmq-role", version = 1)]
pub(crate) struct Rights {
    /// What they may manage, with commas.
    pub(crate) tags: String,
    pub(crate) vhosts: BTreeMap<String, Permission>,
    /// By virtual host, then by exchange.
    pub(crate) vhost_topics: BTreeMap<String, BTreeMap<String, TopicPermission>>,
}

impl Rights {
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&format!("{ROLES}{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }
}

fn is_name(name: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|letter| is_word(letter) || letter == '-' || letter == '.')
}

/// A role by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    pub(crate) name: String,
}

/// A page of the roles.
#[derive(Input)]
pub(crate) struct Page {
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A role to write.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    name: String,
    /// What its users may manage: tags of the broker, with commas.
    #[input(default = "")]
    tags: String,
    /// What they may in virtual hosts: JSON by virtual host, of `configure`, `write` and `read`.
    vhosts: Option<Body>,
    /// What they may at exchanges: JSON by virtual host and exchange, of `write` and `read`.
    vhost_topics: Option<Body>,
}

/// A role.
#[derive(Output)]
pub(crate) struct Shown {
    /// What its users may manage.
    tags: String,
    /// What they may in virtual hosts.
    vhosts: Map,
    /// What they may at exchanges.
    vhost_topics: Map,
}

/// An object, or its JSON in a text.
fn object(name: &str, sent: Option<Body>) -> Result<Map, Fault> {
    let wrong = |why: String| Fault::invalid(format!("failed to unmarshal {name}: {why}"));
    match sent {
        None | Some(Body::Null) => Ok(Map::new()),
        Some(Body::Map(map)) => Ok(map),
        Some(Body::String(text)) => {
            json::decode(text.as_str().as_bytes(), &JsonLimits::default()).map_err(|error| wrong(error.to_string()))
        }
        Some(_) => Err(wrong("it is no object".to_owned())),
    }
}

/// The entries of an object of objects, by names that can be parts of addresses.
fn entries<'m>(name: &'static str, map: &'m Map) -> impl Iterator<Item = Result<(&'m str, &'m Map), Fault>> {
    map.iter().map(move |(key, value)| match value.as_map() {
        Some(inner) if is_segment(key) => Ok((key, inner)),
        Some(_) => Err(Fault::invalid(format!("{name} has a name that cannot be one"))),
        None => Err(Fault::invalid(format!("failed to unmarshal {name}: an entry is no object"))),
    })
}

/// An expression; none grants nothing.
fn expression(name: &str, granted: &Map, field: &str) -> Result<String, Fault> {
    match granted.get(field) {
        None | Some(Body::Null) => Ok(String::new()),
        Some(Body::String(text)) => Ok(text.as_str().to_owned()),
        Some(_) => Err(Fault::invalid(format!("failed to unmarshal {name}: {field} is no text"))),
    }
}

fn permissions(sent: &Map) -> Result<BTreeMap<String, Permission>, Fault> {
    let read = |granted: &Map, field| expression("vhosts", granted, field);
    let permission = |entry: Result<(&str, &Map), Fault>| {
        let (vhost, granted) = entry?;
        let permission = Permission {
            configure: read(granted, "configure")?,
            write: read(granted, "write")?,
            read: read(granted, "read")?,
        };
        Ok((vhost.to_owned(), permission))
    };
    entries("vhosts", sent).map(permission).collect()
}

fn topics(sent: &Map) -> Result<BTreeMap<String, BTreeMap<String, TopicPermission>>, Fault> {
    const NAME: &str = "vhost_topics";
    let topic = |entry: Result<(&str, &Map), Fault>| {
        let (exchange, granted) = entry?;
        let permission =
            TopicPermission { write: expression(NAME, granted, "write")?, read: expression(NAME, granted, "read")? };
        Ok((exchange.to_owned(), permission))
    };
    let vhost = |entry: Result<(&str, &Map), Fault>| {
        let (vhost, exchanges) = entry?;
        Ok((vhost.to_owned(), entries(NAME, exchanges).map(topic).collect::<Result<_, Fault>>()?))
    };
    entries(NAME, sent).map(vhost).collect()
}

impl Rights {
    fn show(&self) -> Shown {
        let vhost = |granted: &Permission| {
            Map::new()
                .with("configure", granted.configure.as_str())
                .with("write", granted.write.as_str())
                .with("read", granted.read.as_str())
        };
        let topic = |granted: &TopicPermission| {
            Map::new().with("write", granted.write.as_str()).with("read", granted.read.as_str())
        };
        let exchanges = |exchanges: &BTreeMap<String, TopicPermission>| {
            exchanges.iter().map(|(name, granted)| (name.clone(), Body::from(topic(granted)))).collect::<Map>()
        };
        Shown {
            tags: self.tags.clone(),
            vhosts: self.vhosts.iter().map(|(name, granted)| (name.clone(), vhost(granted).into())).collect(),
            vhost_topics: self.vhost_topics.iter().map(|(name, of)| (name.clone(), exchanges(of).into())).collect(),
        }
    }
}

pub(crate) async fn list(_engine: &RabbitMq, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(ROLES, input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_engine: &RabbitMq, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    Ok(Rights::load(&mut cx.view, &input.name)?.map(|role| Data(role.show())))
}

pub(crate) async fn write(_engine: &RabbitMq, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    if !is_name(&input.name) {
        return Err(Fault::invalid("invalid role name"));
    }
    let vhosts = permissions(&object("vhosts", input.vhosts)?)?;
    let vhost_topics = topics(&object("vhost_topics", input.vhost_topics)?)?;
    if input.tags.is_empty() && vhosts.is_empty() {
        return Err(Fault::invalid("both tags and vhosts not specified"));
    }
    let is_new = Rights::load(&mut cx.view, &input.name)?.is_none();
    cx.view.write(&format!("{ROLES}{}", input.name), &Rights { tags: input.tags, vhosts, vhost_topics }.encode())?;
    let kind = if is_new { "rabbitmq/role-create" } else { "rabbitmq/role-update" };
    cx.view.tell(|| Happened::named(kind, "roles", &input.name));
    Ok(Nothing)
}

pub(crate) async fn delete(_engine: &RabbitMq, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let place = format!("{ROLES}{}", input.name);
    if is_name(&input.name) && cx.view.read(&place)?.is_some() {
        cx.view.delete(&place)?;
        cx.view.tell(|| Happened::named("rabbitmq/role-delete", "roles", &input.name));
    }
    Ok(Nothing)
}
