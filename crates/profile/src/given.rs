//! Values as a document gives them: what they are, or where they come from.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_cel::{Program, Source as CelSource};
use tresor_credential::Template;
use tresor_hcl::{Object, Value, ValueKind};
use tresor_secret::SecretString;

use crate::document::Kind;
use crate::error::DocumentError;

/// A value that is sent, or decides.
#[derive(Clone)]
pub(crate) enum Given {
    /// Text, which may be a secret.
    Text(Arc<SecretString>),
    Integer(i64),
    Float(f64),
    Flag(bool),
    Nothing,
    List(Vec<Given>),
    Map(Vec<(String, Given)>),
    /// What comes of a source.
    From(Arc<From>),
}

/// A source, and what its value is turned into.
pub(crate) struct From {
    pub(crate) source: Source,
    pub(crate) wanted: Wanted,
}

/// Where a value comes from.
pub(crate) enum Source {
    /// A variable of the process; whether it must be there.
    Variable {
        name: String,
        must_be_there: bool,
    },
    /// A file of the machine.
    File(PathBuf),
    /// What was asked.
    Request(Step),
    /// What was answered.
    Response(Step),
    /// What whoever runs it sent.
    Input(String),
    Template {
        template: Template,
        data: Vec<(String, Given)>,
    },
    Cel(Box<Program>),
}

/// A request that was made before, and what of it.
pub(crate) struct Step {
    pub(crate) block: String,
    pub(crate) request: String,
    pub(crate) selector: Vec<Selector>,
}

/// The way to a field.
pub(crate) enum Selector {
    Name(String),
    Index(usize),
}

/// What a value is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Text,
    Integer,
    Float,
    Flag,
    Texts,
    Map,
    Anything,
}

/// What values of a place in a document may name.
pub(crate) struct Scope<'s> {
    pub(crate) kind: Kind,
    /// The fields of the input, where there is one.
    pub(crate) input: Option<&'s BTreeSet<String>>,
    /// The requests before.
    pub(crate) made: &'s [(String, String)],
}

impl Scope<'_> {
    /// What templates and programs know.
    fn roots(&self) -> Vec<&'static str> {
        let input = self.input.map(|_| "input");
        ["requests", "responses"].into_iter().chain(input).collect()
    }
}

/// HCL says a value of a nested block in a list of one.
pub(crate) fn only(value: &Value) -> &Value {
    match &value.kind {
        ValueKind::List(items) => match items.as_slice() {
            [one] if matches!(one.kind, ValueKind::Object(_)) => one,
            _ => value,
        },
        _ => value,
    }
}

/// Values by name.
pub(crate) fn entries(object: &Object, scope: &Scope<'_>) -> Result<Vec<(String, Given)>, DocumentError> {
    let entry = |item: &tresor_hcl::Item| match item.keys.as_slice() {
        [key] => Ok((key.name.clone(), given(item_value(item), scope)?)),
        _ => Err(DocumentError::at(item.value.position, "what is sent has names without labels")),
    };
    object.items.iter().map(entry).collect()
}

fn item_value(item: &tresor_hcl::Item) -> &Value {
    only(&item.value)
}

/// A value.
pub(crate) fn given(value: &Value, scope: &Scope<'_>) -> Result<Given, DocumentError> {
    Ok(match &value.kind {
        ValueKind::String(text) => Given::Text(Arc::new(SecretString::new(text.clone()))),
        ValueKind::Integer(number) => Given::Integer(*number),
        ValueKind::Float(number) => Given::Float(*number),
        ValueKind::Bool(flag) => Given::Flag(*flag),
        ValueKind::Null => Given::Nothing,
        ValueKind::List(items) => Given::List(items.iter().map(|item| given(item, scope)).collect::<Result<_, _>>()?),
        ValueKind::Object(object) if object.value("eval_source").is_some() => {
            Given::From(Arc::new(Reader { object, value, scope }.read()?))
        }
        ValueKind::Object(object) if object.value("eval_type").is_some() => {
            return Err(DocumentError::at(value.position, "`eval_type` needs `eval_source`"));
        }
        ValueKind::Object(object) => Given::Map(entries(object, scope)?),
    })
}

struct Reader<'r> {
    object: &'r Object,
    value: &'r Value,
    scope: &'r Scope<'r>,
}

impl Reader<'_> {
    fn read(&self) -> Result<From, DocumentError> {
        let wanted = match self.optional("eval_type")?.as_deref() {
            None | Some("any" | "interface{}") => Wanted::Anything,
            Some("string") => Wanted::Text,
            Some("int") => Wanted::Integer,
            Some("float64") => Wanted::Float,
            Some("bool") => Wanted::Flag,
            Some("[]string") => Wanted::Texts,
            Some("map" | "map[string]any" | "map[string]interface{}") => Wanted::Map,
            Some(other) => return self.wrong(format!("`eval_type` cannot be `{other}`")),
        };
        let kind = self.text("eval_source")?;
        let (source, keys): (_, &[&str]) = match kind.as_str() {
            "env" if self.scope.kind == Kind::Initialize => {
                let must_be_there = match self.object.value("require_present") {
                    // A variable that nobody set is hardly meant to be nothing.
                    None => true,
                    Some(value) => value.as_bool("require_present")?,
                };
                (Source::Variable { name: self.text("env_var")?, must_be_there }, &["env_var", "require_present"])
            }
            "file" if self.scope.kind == Kind::Initialize => (Source::File(self.text("path")?.into()), &["path"]),
            "request" => {
                let step = self.step("request_name")?;
                (Source::Request(step), &["initialize_name", "flow_name", "request_name", "field_selector"])
            }
            "response" => {
                let step = self.step("response_name")?;
                (Source::Response(step), &["initialize_name", "flow_name", "response_name", "field_selector"])
            }
            "input" if self.scope.kind == Kind::Flow => {
                let name = self.text("field_name")?;
                if self.scope.input.is_none_or(|fields| !fields.contains(&name)) {
                    return self.wrong(format!("`input` has no field `{name}`"));
                }
                (Source::Input(name), &["field_name"])
            }
            "template" => (self.template()?, &["template", "data"]),
            "cel" => (self.cel()?, &["expression", "variables"]),
            "env" | "file" => return self.wrong(format!("`eval_source` cannot be \"{kind}\" in a workflow")),
            other => return self.wrong(format!("`eval_source` cannot be \"{other}\" here")),
        };
        for key in self.object.items.iter().filter_map(|item| item.keys.first()) {
            let name = key.name.as_str();
            if !keys.contains(&name) && !matches!(name, "eval_source" | "eval_type") {
                return Err(DocumentError::at(key.position, format!("the source \"{kind}\" has no `{name}`")));
            }
        }
        Ok(From { source, wanted })
    }

    fn wrong<T>(&self, text: String) -> Result<T, DocumentError> {
        Err(DocumentError::at(self.value.position, text))
    }

    fn optional(&self, key: &str) -> Result<Option<String>, DocumentError> {
        let text = self.object.value(key).map(|value| match value.kind {
            ValueKind::Object(_) | ValueKind::List(_) => {
                Err(DocumentError::at(value.position, format!("`{key}` of a source must be a text")))
            }
            _ => Ok(value.as_string(key)?),
        });
        text.transpose()
    }

    fn text(&self, key: &str) -> Result<String, DocumentError> {
        match self.optional(key)?.filter(|text| !text.is_empty()) {
            Some(text) => Ok(text),
            None => self.wrong(format!("`eval_source` needs `{key}`")),
        }
    }

    /// A request that is made before.
    fn step(&self, name_key: &str) -> Result<Step, DocumentError> {
        let block = self.text(self.scope.kind.name_key())?;
        let request = self.text(name_key)?;
        if !self.scope.made.iter().any(|(made, name)| *made == block && *name == request) {
            return self.wrong(format!("no request `{block}/{request}` is made before this one"));
        }
        let selector = match self.object.value("field_selector") {
            None => Vec::new(),
            Some(value) => match &value.kind {
                ValueKind::List(items) => items.iter().map(selector).collect::<Result<_, _>>()?,
                _ => vec![selector(value)?],
            },
        };
        Ok(Step { block, request, selector })
    }

    fn template(&self) -> Result<Source, DocumentError> {
        let text = self.text("template")?;
        let data = match self.object.value("data") {
            Some(value) => entries(only(value).as_object("data")?, self.scope)?,
            None => Vec::new(),
        };
        let mut roots = self.scope.roots();
        roots.extend(data.iter().map(|(name, _)| name.as_str()));
        match Template::parse_nested(&text, &roots) {
            Ok(template) => Ok(Source::Template { template, data }),
            Err(error) => self.wrong(error.to_string()),
        }
    }

    fn cel(&self) -> Result<Source, DocumentError> {
        let mut source = CelSource { variables: Vec::new(), expression: self.text("expression")? };
        let listed = self.object.value("variables").map(|value| match &value.kind {
            ValueKind::List(items) => Ok(items.iter().collect::<Vec<_>>()),
            ValueKind::Object(_) => Ok(vec![value]),
            _ => Err(DocumentError::at(value.position, "`variables` must be a list of maps")),
        });
        for variable in listed.transpose()?.unwrap_or_default() {
            let object = variable.as_object("variables")?;
            let text = |key: &str| match object.value(key) {
                Some(value) => Ok(value.as_string(key)?),
                None => Err(DocumentError::at(variable.position, format!("a variable needs `{key}`"))),
            };
            if object.items.len() != 2 {
                return Err(DocumentError::at(variable.position, "a variable has `name` and `expression` alone"));
            }
            source.variables.push((text("name")?, text("expression")?));
        }
        match Program::parse(&source, &self.scope.roots()) {
            Ok(program) => Ok(Source::Cel(Box::new(program))),
            Err(error) => self.wrong(format!("CEL: {error}")),
        }
    }
}

fn selector(value: &Value) -> Result<Selector, DocumentError> {
    match &value.kind {
        ValueKind::String(name) => Ok(Selector::Name(name.clone())),
        ValueKind::Integer(index) => {
            let wrong = || DocumentError::at(value.position, "an index of `field_selector` is below zero");
            Ok(Selector::Index(usize::try_from(*index).map_err(|_| wrong())?))
        }
        _ => Err(DocumentError::at(value.position, "`field_selector` must be a name, or a list of names and indices")),
    }
}
