//! `sys/config/ui/custom-messages`, and those of them that pages show: `sys/internal/ui/authenticated-messages` to whoever is logged
//! in, `sys/internal/ui/unauthenticated-messages` to everybody.
//!
//! What is shown in a namespace are its own messages and those of the namespaces above it. A link is an address of the web and
//! nothing else: a page would run what `javascript:` leads to. Deliberately absent: a page of this server's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::custom_messages::{self as stored, CustomMessage};
use tresor_engine::{Cx, Data, Nothing, Widened};
use tresor_model::{Body, Fault, Map, Timestamp, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::{Output, Shown};
use tresor_wire::time::{parse_rfc3339, rfc3339};

use super::Sys;

/// Which of them.
#[derive(Input)]
pub(super) struct Which {
    /// Only those that are shown now, or only the others.
    #[input(query)]
    active: Option<bool>,
    /// Only those that are shown after a login, or only the others.
    #[input(query)]
    authenticated: Option<bool>,
    /// Only those of this kind: `banner` or `modal`.
    #[input(query, name = "type", default = "")]
    kind: String,
}

/// A message by its id.
#[derive(Input)]
pub(super) struct ById {
    /// Its id.
    #[input(path)]
    id: String,
}

/// A message to add, or to put in the place of another.
#[derive(Input)]
pub(super) struct Write {
    /// The id of the one that it takes the place of.
    #[input(path, default = "")]
    id: String,
    /// Its title.
    #[input(default = "")]
    title: String,
    /// Its text in base64.
    #[input(default = "")]
    message: String,
    /// `banner` or `modal`.
    #[input(name = "type", default = "banner")]
    kind: String,
    /// Whether it is shown after a login, instead of before.
    #[input(default = "true")]
    authenticated: bool,
    /// Where it leads: one address by its title.
    link: Option<Map>,
    /// What a page wants to know besides.
    options: Option<Map>,
    /// From when it is shown.
    #[input(default = "")]
    start_time: String,
    /// Until when.
    #[input(default = "")]
    end_time: String,
}

/// A message.
#[derive(Output)]
pub(super) struct MessageShown {
    /// Its id.
    id: String,
    /// Whether it is shown now.
    active: bool,
    /// Its title.
    title: String,
    /// Its text in base64.
    message: String,
    /// `banner` or `modal`.
    #[output(name = "type")]
    kind: &'static str,
    /// Whether it is shown after a login.
    authenticated: bool,
    /// Where it leads.
    link: Option<Map>,
    /// What a page wants to know besides.
    options: Map,
    /// From when it is shown.
    start_time: String,
    /// Until when.
    end_time: Option<String>,
}

/// Several messages.
#[derive(Output)]
pub(super) struct Listed {
    /// Their ids.
    #[output(optional)]
    keys: Option<Vec<String>>,
    /// Each by its id.
    #[output(optional)]
    key_info: Option<Map>,
}

impl Listed {
    fn new(found: Vec<(String, Map)>) -> Self {
        if found.is_empty() {
            return Self { keys: None, key_info: None };
        }
        let keys = found.iter().map(|(id, _)| id.clone()).collect();
        let info = found.into_iter().map(|(id, facts)| (id, Body::from(facts))).collect();
        Self { keys: Some(keys), key_info: Some(info) }
    }
}

impl Write {
    fn parse(self) -> Result<CustomMessage, Fault> {
        if self.title.is_empty() {
            return Err(Fault::invalid("missing required field \"title\""));
        }
        let titles = self.link.iter().flat_map(Map::iter).map(|(title, _)| title).chain([self.title.as_str()]);
        if titles.into_iter().any(|title| title.contains(char::is_control)) {
            return Err(Fault::invalid("a title has no control characters"));
        }
        if self.message.is_empty() {
            return Err(Fault::invalid("missing required field \"message\""));
        }
        let text = STANDARD.decode(&self.message).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let start = parse_rfc3339(&self.start_time);
        let end = match self.end_time.as_str() {
            "" => None,
            text => Some(parse_rfc3339(text).ok_or_else(|| Fault::invalid("end_time is no time in RFC 3339"))?),
        };
        let start = start.ok_or_else(|| Fault::invalid("start_time is missing, or no time in RFC 3339"))?;
        if end.is_some_and(|end| end <= start) {
            return Err(Fault::invalid("end_time must be after start_time"));
        }
        Ok(CustomMessage {
            text: text.ok_or_else(|| Fault::invalid("message is not the base64 of a text"))?,
            is_modal: is_modal(&self.kind)?,
            is_authenticated: self.authenticated,
            link: link(self.link.unwrap_or_default())?,
            options: self.options.unwrap_or_default(),
            title: self.title,
            start,
            end,
        })
    }
}

fn is_modal(kind: &str) -> Result<bool, Fault> {
    match kind {
        "banner" => Ok(false),
        "modal" => Ok(true),
        _ => Err(Fault::invalid("type must be \"banner\" or \"modal\"")),
    }
}

/// One address by its title.
fn link(sent: Map) -> Result<std::collections::BTreeMap<String, String>, Fault> {
    if sent.len() > 1 {
        return Err(Fault::invalid("link must have one title and its address"));
    }
    let address = |(title, value): (String, Body)| match value.as_str() {
        // Whoever shows it puts it between quotes.
        Some(text)
            if text.contains(|letter: char| {
                letter.is_whitespace() || letter.is_control() || "\"'<>`".contains(letter)
            }) =>
        {
            Err(Fault::invalid("the address of a link has no blanks, quotes or control characters"))
        }
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => Ok((title, text.to_owned())),
        _ => Err(Fault::invalid("the address of a link must begin with https:// or http://")),
    };
    sent.into_iter().map(address).collect()
}

const fn kind(message: &CustomMessage) -> &'static str {
    if message.is_modal { "modal" } else { "banner" }
}

fn shown(id: String, message: &CustomMessage, now: Timestamp) -> MessageShown {
    let link: Map = message.link.iter().map(|(title, at)| (title.clone(), Body::from(at.as_str()))).collect();
    MessageShown {
        id,
        active: message.is_active(now),
        title: message.title.clone(),
        message: STANDARD.encode(&message.text),
        kind: kind(message),
        authenticated: message.is_authenticated,
        link: (!link.is_empty()).then_some(link),
        options: message.options.duplicate(),
        start_time: rfc3339(message.start),
        end_time: message.end.map(rfc3339),
    }
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, input: Which) -> Result<Option<Data<Listed>>, Fault> {
    let wanted = match input.kind.as_str() {
        "" => None,
        text => Some(is_modal(text)?),
    };
    let (now, namespace) = (cx.now, cx.mount.namespace.clone());
    let is_wanted = |message: &CustomMessage| {
        wanted.is_none_or(|is_modal| message.is_modal == is_modal)
            && input.active.is_none_or(|active| message.is_active(now) == active)
            && input.authenticated.is_none_or(|authenticated| message.is_authenticated == authenticated)
    };
    let all = stored::all(cx.view.widen(Widened::assertion()), &namespace)?;
    let found = all.into_iter().filter(|(_, message)| is_wanted(message)).map(|(id, message)| {
        let facts = map! {
            "title" => message.title.as_str(), "type" => kind(&message), "authenticated" => message.is_authenticated,
            "active" => message.is_active(now), "start_time" => rfc3339(message.start),
            "end_time" => message.end.map(rfc3339).into_body(),
        };
        (id, facts)
    });
    let found: Vec<(String, Map)> = found.collect();
    Ok((!found.is_empty()).then(|| Data(Listed::new(found))))
}

pub(super) async fn add(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Data<MessageShown>, Fault> {
    let message = input.parse()?;
    let (now, namespace, entropy) = (cx.now, cx.mount.namespace.clone(), cx.entropy);
    let id = stored::add(cx.view.widen(Widened::assertion()), &namespace, &message, entropy)?;
    Ok(Data(shown(id, &message, now)))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ById) -> Result<Option<Data<MessageShown>>, Fault> {
    let (now, namespace) = (cx.now, cx.mount.namespace.clone());
    let found = stored::read(cx.view.widen(Widened::assertion()), &namespace, &input.id)?;
    Ok(found.map(|message| Data(shown(input.id, &message, now))))
}

pub(super) async fn write(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Option<Data<MessageShown>>, Fault> {
    let (id, message) = (input.id.clone(), input.parse()?);
    let (now, namespace) = (cx.now, cx.mount.namespace.clone());
    let txn = cx.view.widen(Widened::assertion());
    if stored::read(txn, &namespace, &id)?.is_none() {
        return Ok(None);
    }
    stored::write(txn, &namespace, &id, &message)?;
    Ok(Some(Data(shown(id, &message, now))))
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ById) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    stored::delete(cx.view.widen(Widened::assertion()), &namespace, &input.id)?;
    Ok(Nothing)
}

pub(super) async fn after_login(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Listed>, Fault> {
    of_a_page(sys, cx, true)
}

pub(super) async fn before_login(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Listed>, Fault> {
    of_a_page(sys, cx, false)
}

fn of_a_page(sys: &Sys, mut cx: Cx<'_>, is_authenticated: bool) -> Result<Data<Listed>, Fault> {
    let (now, space) = (cx.now, sys.space(&cx)?);
    let txn = cx.view.widen(Widened::assertion());
    let mut found = Vec::new();
    for namespace in &space.line {
        // What a sealed namespace says is under its own keys.
        if sys.handles.spaces.is_sealed(namespace) {
            continue;
        }
        for (id, message) in stored::all(txn, namespace)? {
            if message.is_active(now) && message.is_authenticated == is_authenticated {
                let mut facts = shown(id.clone(), &message, now).into_map();
                facts.remove("active");
                found.push((id, facts));
            }
        }
    }
    Ok(Data(Listed::new(found)))
}
