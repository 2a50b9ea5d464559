//! From a document to a profile.
//!
//! Two kinds of documents: the stanzas `initialize` of a server's configuration, and workflows, which have blocks `flow`, and
//! perhaps an `input` and an `output`. Unknown keys are refused by name.

use std::collections::BTreeSet;
use std::fmt;

use tresor_hcl::{Block, Object, Value};
use tresor_model::Verb;

use crate::error::DocumentError;
use crate::given::{self, Given, Scope};
use crate::input::{self, Field};
use crate::{DOCUMENT_BYTES_MAX, REQUESTS_MAX};

/// What a profile is for; it decides what values may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first requests of a server, which may look at variables and files of the machine.
    Initialize,
    /// A workflow, which may look at what whoever runs it sends.
    Flow,
}

impl Kind {
    /// The word of its blocks.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Flow => "flow",
        }
    }

    pub(crate) const fn name_key(self) -> &'static str {
        match self {
            Self::Initialize => "initialize_name",
            Self::Flow => "flow_name",
        }
    }
}

/// Requests in order.
#[derive(Clone)]
pub struct Profile {
    pub(crate) kind: Kind,
    pub(crate) blocks: Vec<Requests>,
    made: Vec<(String, String)>,
}

/// The requests of a block.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) name: String,
    pub(crate) when: Option<Given>,
    pub(crate) requests: Vec<Asked>,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) operation: Given,
    pub(crate) path: Given,
    pub(crate) token: Option<Given>,
    pub(crate) data: Option<Given>,
    pub(crate) headers: Option<Given>,
    pub(crate) allow_failure: Option<Given>,
    pub(crate) when: Option<Given>,
}

/// A workflow.
#[derive(Clone)]
pub struct Workflow {
    /// Its requests.
    pub profile: Profile,
    pub(crate) input: Option<Vec<Field>>,
    pub(crate) output: Option<Given>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests", self.kind.word(), self.made.len())
    }
}

impl Profile {
    /// One without requests.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, blocks: Vec::new(), made: Vec::new() }
    }

    /// Reads a document that has its blocks and nothing else.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(kind: Kind, text: &str) -> Result<Self, DocumentError> {
        let mut profile = Self::new(kind);
        for block in tresor_hcl::parse(text)?.labelled_blocks(kind.word())? {
            profile.read(&block)?;
        }
        Ok(profile)
    }

    /// Whether it has no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// The requests, by block and name.
    #[must_use]
    pub fn requests(&self) -> &[(String, String)] {
        &self.made
    }

    /// Reads one more block.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(&mut self, block: &Block<'_>) -> Result<(), DocumentError> {
        self.read_with(block, None)
    }

    fn read_with(&mut self, block: &Block<'_>, input: Option<&BTreeSet<String>>) -> Result<(), DocumentError> {
        let word = self.kind.word();
        let [name] = block.labels.as_slice() else {
            let text = format!("`{word}` needs one name: {word} \"name\" {{ .. }}");
            return Err(DocumentError::at(block.position, text));
        };
        check_name(name, block)?;
        if self.blocks.iter().any(|known| known.name == *name) {
            return Err(DocumentError::at(
                block.position,
                format!("there are two blocks `{word}` of the name `{name}`"),
            ));
        }
        let mut when = None;
        for item in &block.object.items {
            let Some(key) = item.keys.first() else { continue };
            match key.name.as_str() {
                "request" => {}
                "when" => {
                    let scope = Scope { kind: self.kind, input, made: &self.made };
                    when = Some(given::given(given::only(&item.value), &scope)?);
                }
                other => {
                    return Err(DocumentError::at(key.position, format!("`{word}` has requests, and no `{other}`")));
                }
            }
        }
        let blocks = block.object.labelled_blocks("request")?;
        if blocks.is_empty() {
            return Err(DocumentError::at(block.position, format!("`{word}` without a `request`")));
        }
        let mut requests = Vec::new();
        for request in &blocks {
            let [own] = request.labels.as_slice() else {
                return Err(DocumentError::at(request.position, "`request` needs one name: request \"name\" { .. }"));
            };
            check_name(own, request)?;
            let made = ((*name).to_owned(), (*own).to_owned());
            if self.made.contains(&made) {
                return Err(DocumentError::at(request.position, format!("there are two requests `{name}/{own}`")));
            }
            if self.made.len() == REQUESTS_MAX {
                return Err(DocumentError::at(
                    request.position,
                    format!("there are more than {REQUESTS_MAX} requests"),
                ));
            }
            let scope = Scope { kind: self.kind, input, made: &self.made };
            requests.push(read_request(request, own, &scope)?);
            self.made.push(made);
        }
        self.blocks.push(Requests { name: (*name).to_owned(), when, requests });
        Ok(())
    }
}

impl Workflow {
    /// Reads a workflow, in HCL or JSON.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError { position: None, text: "the workflow is too long".into() });
        }
        let document = tresor_hcl::parse(text)?;
        for key in document.items.iter().filter_map(|item| item.keys.first()) {
            if !matches!(key.name.as_str(), "input" | "flow" | "output") {
                return Err(DocumentError::at(key.position, format!("a workflow has no `{}`", key.name)));
            }
        }
        let input = single(&document, "input")?.map(input::read).transpose()?;
        let names = input.as_ref().map(|fields| fields.iter().map(|field| field.name.clone()).collect::<BTreeSet<_>>());
        let mut profile = Profile::new(Kind::Flow);
        for block in document.labelled_blocks("flow")? {
            profile.read_with(&block, names.as_ref())?;
        }
        if profile.is_empty() {
            return Err(DocumentError { position: None, text: "a workflow has at least one `flow`".into() });
        }
        let scope = Scope { kind: Kind::Flow, input: names.as_ref(), made: &profile.made };
        let output = single(&document, "output")?.map(|object| read_output(object, &scope)).transpose()?;
        Ok(Self { profile, input, output })
    }
}

/// The one block of a name that has no labels.
fn single<'d>(document: &'d Object, name: &'d str) -> Result<Option<&'d Object>, DocumentError> {
    let mut found = None;
    for item in document.items_named(name) {
        let value: &Value = given::only(&item.value);
        if item.keys.len() > 1 {
            return Err(DocumentError::at(value.position, format!("`{name}` has no name")));
        }
        if found.is_some() {
            return Err(DocumentError::at(value.position, format!("there is one `{name}` at most")));
        }
        found = Some(value.as_object(name)?);
    }
    Ok(found)
}

fn read_output(object: &Object, scope: &Scope<'_>) -> Result<Given, DocumentError> {
    let mut data = Given::Map(Vec::new());
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        match key.name.as_str() {
            "data" => data = given::given(given::only(&item.value), scope)?,
            // What a workflow says goes to browsers and proxies as what the server says.
            "headers" => return Err(DocumentError::at(key.position, "`output` cannot set headers of the answer")),
            other => return Err(DocumentError::at(key.position, format!("`output` has no `{other}`"))),
        }
    }
    Ok(data)
}

fn check_name(name: &str, block: &Block<'_>) -> Result<(), DocumentError> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if begins && name.len() <= 64 && name.bytes().all(is_inner) {
        return Ok(());
    }
    let text = format!("`{name}` is no name here: at most 64 letters, digits, `_` and `-`, and no digit or `-` first");
    Err(DocumentError::at(block.position, text))
}

fn read_request(block: &Block<'_>, name: &str, scope: &Scope<'_>) -> Result<Asked, DocumentError> {
    let (mut operation, mut path, mut token, mut data, mut headers) = (None, None, None, None, None);
    let (mut allow_failure, mut when) = (None, None);
    for item in &block.object.items {
        let Some(key) = item.keys.first() else { continue };
        let value = given::only(&item.value);
        let slot = match key.name.as_str() {
            "operation" => &mut operation,
            "path" => &mut path,
            "token" => &mut token,
            "data" => &mut data,
            "headers" => &mut headers,
            "allow_failure" => &mut allow_failure,
            "when" => &mut when,
            unknown => return Err(DocumentError::at(key.position, format!("`request` has no `{unknown}`"))),
        };
        let is_map = matches!(key.name.as_str(), "data" | "headers");
        let read = given::given(value, scope)?;
        let fits = match &read {
            Given::From(_) => true,
            Given::Map(_) => is_map,
            Given::List(_) => false,
            _ => !is_map,
        };
        if !fits {
            let what = if is_map { "a map" } else { "a single value" };
            return Err(DocumentError::at(value.position, format!("`{}` must be {what}", key.name)));
        }
        if key.name == "operation"
            && let Given::Text(text) = &read
            && verb(text.expose()).is_none()
        {
            return Err(DocumentError::at(value.position, format!("`operation` cannot be `{}`", text.expose())));
        }
        *slot = Some(read);
    }
    let missing = |key: &str| DocumentError::at(block.position, format!("`request` needs `{key}`"));
    Ok(Asked {
        name: name.to_owned(),
        operation: operation.ok_or_else(|| missing("operation"))?,
        path: path.ok_or_else(|| missing("path"))?,
        token,
        data,
        headers,
        allow_failure,
        when,
    })
}

/// The verb of an operation, in the words of policies.
pub(crate) fn verb(text: &str) -> Option<Verb> {
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
