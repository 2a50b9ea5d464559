//! The stanzas `initialize`: requests that are made once, when the store is initialised by the server itself.
//!
//! A value may come from a variable or a file of the machine (`eval_source`), which is looked at when the request is made.
//! Deliberately absent: the other sources that such requests have elsewhere (answers of earlier ones, templates, expressions),
//! which are refused by name; and making the requests (`self_init.rs`).

use std::fmt;
use std::path::PathBuf;

use tresor_hcl::{Block, Object, Value, ValueKind};
use tresor_model::Verb;
use tresor_secret::SecretString;

use super::ConfigError;
use super::load::Source;

/// A request of a stanza.
#[derive(Clone)]
pub struct InitialRequest {
    /// The name of its stanza, and its own.
    pub name: String,
    /// What is asked.
    pub verb: Verb,
    /// What is asked of.
    pub path: String,
    /// By whom; by a root token that nobody sees when nothing is said.
    pub token: Option<Given>,
    /// What is sent.
    pub data: Vec<(String, Given)>,
    /// Whether the others are made even though this one fails.
    pub may_fail: bool,
}

/// A value that is sent.
#[derive(Clone)]
pub enum Given {
    /// Text, which may be a secret.
    Text(std::sync::Arc<SecretString>),
    /// A whole number.
    Integer(i64),
    /// Another number, as it is spelled.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// Nothing.
    Nothing,
    /// A list.
    List(Vec<Given>),
    /// Values by name.
    Map(Vec<(String, Given)>),
    /// What a variable says then.
    Variable(String),
    /// What a file holds then.
    File(PathBuf),
}

impl fmt::Debug for InitialRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitialRequest").field("name", &self.name).field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads one stanza.
pub(super) fn read_initialize(
    source: &mut Source<'_>,
    block: &Block<'_>,
    found: &mut Vec<InitialRequest>,
) -> Result<(), ConfigError> {
    let [stanza] = block.labels.as_slice() else {
        return Err(source.error(block.position, "`initialize` needs one name: initialize \"name\" { .. }"));
    };
    let requests = block.object.labelled_blocks("request").map_err(|error| source.wrong(&error))?;
    for item in block.object.items.iter().filter_map(|item| item.keys.first()) {
        if item.name != "request" {
            return Err(source.error(item.position, format!("`initialize` has requests, and no `{}`", item.name)));
        }
    }
    if requests.is_empty() {
        return Err(source.error(block.position, "`initialize` without a `request`"));
    }
    for request in requests {
        let [name] = request.labels.as_slice() else {
            return Err(source.error(request.position, "`request` needs one name: request \"name\" { .. }"));
        };
        for name in [stanza, name] {
            if !is_name(name) {
                let text = format!("`{name}` is no name here: letters, digits, `_` and `-`, and no digit or `-` first");
                return Err(source.error(request.position, text));
            }
        }
        let name = format!("{stanza}/{name}");
        if found.iter().any(|known| known.name == name) {
            return Err(source.error(request.position, format!("there are two requests `{name}`")));
        }
        found.push(read_request(source, &request, name)?);
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.bytes().all(is_inner) && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
}

fn read_request(source: &mut Source<'_>, block: &Block<'_>, name: String) -> Result<InitialRequest, ConfigError> {
    let (mut verb, mut path, mut token, mut data, mut may_fail) = (None, None, None, Vec::new(), false);
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "operation" => {
                let text = source.text("operation", &item.value)?;
                let known = operation(&text);
                let wrong = || source.error(item.value.position, format!("`operation` cannot be `{text}`"));
                verb = Some(known.ok_or_else(wrong)?);
            }
            "path" => path = Some(source.text("path", &item.value)?),
            "token" => token = Some(given(source, &item.value)?),
            "allow_failure" => may_fail = source.flag("allow_failure", &item.value)?,
            "data" => {
                let object = item.value.as_object("data").map_err(|error| source.wrong(&error))?;
                data = entries(source, object)?;
            }
            unknown => return Err(source.error(key.position, format!("`request` has no `{unknown}`"))),
        }
    }
    let missing = |key: &str| source.error(block.position, format!("`request` needs `{key}`"));
    Ok(InitialRequest {
        verb: verb.ok_or_else(|| missing("operation"))?,
        path: path.filter(|path| !path.is_empty()).ok_or_else(|| missing("path"))?,
        name,
        token,
        data,
        may_fail,
    })
}

fn operation(text: &str) -> Option<Verb> {
    Some(match text {
        "create" | "update" => Verb::Write,
        "read" => Verb::Read,
        "list" => Verb::List,
        "scan" => Verb::Scan,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        _ => return None,
    })
}

/// HCL says a value of a nested block in a list of one.
fn only(value: &Value) -> &Value {
    match &value.kind {
        ValueKind::List(items) => match items.as_slice() {
            [one] if matches!(one.kind, ValueKind::Object(_)) => one,
            _ => value,
        },
        _ => value,
    }
}

fn entries(source: &Source<'_>, object: &Object) -> Result<Vec<(String, Given)>, ConfigError> {
    let entry = |item: &tresor_hcl::Item| match item.keys.as_slice() {
        [key] => Ok((key.name.clone(), given(source, only(&item.value))?)),
        _ => Err(source.error(item.value.position, "what is sent has names without labels")),
    };
    object.items.iter().map(entry).collect()
}

fn given(source: &Source<'_>, value: &Value) -> Result<Given, ConfigError> {
    Ok(match &value.kind {
        ValueKind::String(text) => Given::Text(std::sync::Arc::new(SecretString::new(text.clone()))),
        ValueKind::Integer(number) => Given::Integer(*number),
        ValueKind::Float(number) => Given::Float(*number),
        ValueKind::Bool(flag) => Given::Flag(*flag),
        ValueKind::Null => Given::Nothing,
        ValueKind::List(items) => Given::List(items.iter().map(|item| given(source, item)).collect::<Result<_, _>>()?),
        ValueKind::Object(object) if object.value("eval_source").is_some() => from_machine(source, value, object)?,
        ValueKind::Object(object) => Given::Map(entries(source, object)?),
    })
}

fn from_machine(source: &Source<'_>, value: &Value, object: &Object) -> Result<Given, ConfigError> {
    let text = |key: &str| object.value(key).map(|value| source.text(key, value)).transpose();
    let needs = |key: &str| source.error(value.position, format!("`eval_source` needs `{key}`"));
    if text("eval_type")?.is_some_and(|kind| kind != "string") {
        return Err(source.error(value.position, "`eval_type` is \"string\" here"));
    }
    match text("eval_source")?.unwrap_or_default().as_str() {
        "env" => Ok(Given::Variable(text("env_var")?.ok_or_else(|| needs("env_var"))?)),
        "file" => Ok(Given::File(text("path")?.ok_or_else(|| needs("path"))?.into())),
        other => {
            let text = format!("`eval_source` is \"env\" or \"file\" here, not \"{other}\"");
            Err(source.error(value.position, text))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::path::Path;

    use super::*;
    use crate::config::{ServerConfig, parse};

    fn read(stanzas: &str) -> Result<ServerConfig, ConfigError> {
        let base = "storage \"inmem\" {}\nlistener \"tcp\" { tls_disable = true }\n".to_owned();
        parse(&[(PathBuf::from("a.hcl"), base), (PathBuf::from("b.hcl"), stanzas.to_owned())], &|_| None)
    }

    #[test]
    fn requests_come_in_order_with_what_they_send() {
        let config = read(
            r#"initialize "identity" {
                 request "mount" {
                   operation = "update"
                   path = "sys/auth/userpass"
                   data = { "type" = "userpass" options = { a = 1 b = [true, "x"] } }
                 }
                 request "admin" {
                   operation = "create"
                   path = "auth/userpass/users/admin"
                   data = {
                     password = { eval_type = "string" eval_source = "env" env_var = "ADMIN" }
                     other = { eval_source = "file" path = "/run/secret" }
                   }
                   allow_failure = true
                 }
               }
               initialize "more" { request "mount" { operation = "list" path = "sys/policies/acl" token = "t" } }"#,
        )
        .unwrap();
        let names: Vec<&str> = config.initialize.iter().map(|request| request.name.as_str()).collect();
        assert_eq!(names, ["identity/mount", "identity/admin", "more/mount"]);
        assert!(
            config.initialize[1].may_fail
                && matches!(&config.initialize[1].data[0].1, Given::Variable(name) if name == "ADMIN")
        );
        assert!(matches!(&config.initialize[1].data[1].1, Given::File(path) if path == Path::new("/run/secret")));
        assert!(matches!(&config.initialize[0].data[1].1, Given::Map(entries) if entries.len() == 2));
        assert!(config.initialize[2].token.is_some() && config.initialize[2].verb == Verb::List);
        assert!(!format!("{:?}", config.initialize).contains("ADMIN"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let request = |inside: &str| format!("initialize \"a\" {{ request \"b\" {{ {inside} }} }}");
        for (stanzas, words) in [
            ("initialize \"a\" {}".to_owned(), "without a `request`"),
            ("initialize \"a\" { other = 1 }".to_owned(), "no `other`"),
            ("initialize \"1a\" { request \"b\" { operation = \"read\" path = \"x\" } }".to_owned(), "no name here"),
            (request("path = \"x\""), "needs `operation`"),
            (request("operation = \"read\""), "needs `path`"),
            (request("operation = \"brew\" path = \"x\""), "cannot be `brew`"),
            (request("operation = \"read\" path = \"x\" datum = 1"), "has no `datum`"),
            (request("operation = \"read\" path = \"x\" token = { eval_source = \"cel\" }"), "not \"cel\""),
            (request("operation = \"read\" path = \"x\" token = { eval_source = \"env\" }"), "needs `env_var`"),
        ] {
            let error = read(&stanzas).err().unwrap();
            assert!(error.text.contains(words) && error.position.is_some(), "{stanzas}: {error}");
        }
        let twice = request("operation = \"read\" path = \"x\"").repeat(2);
        assert!(read(&twice).err().unwrap().text.contains("two requests"));
    }
}
