//! The `input` of a workflow: which fields whoever runs it sends, and what they must be.

use tresor_hcl::{Object, Value, ValueKind};
use tresor_model::{Body, Map, Number};
use tresor_wire::input::{CommaList, Form, LowerName, Seconds, SignedSeconds, StringList};

use crate::convert::finite;
use crate::error::{DocumentError, ProfileError, Trouble, ValueError};

/// How many fields there can be.
const FIELDS_MAX: usize = 64;

/// A field.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    form: FieldForm,
    default: Option<std::sync::Arc<Body>>,
    is_required: bool,
    allowed: std::sync::Arc<Vec<Body>>,
}

/// What a field must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldForm {
    Text,
    LowerText,
    Name,
    Integer,
    Float,
    Flag,
    Map,
    Pairs,
    Duration,
    SignedDuration,
    List,
    CommaTexts,
    CommaIntegers,
    Moment,
}

fn form(name: &str) -> Option<FieldForm> {
    Some(match name {
        "string" => FieldForm::Text,
        "lower_case_string" => FieldForm::LowerText,
        "name_string" => FieldForm::Name,
        "int" | "int64" => FieldForm::Integer,
        "float" => FieldForm::Float,
        "bool" => FieldForm::Flag,
        "map" => FieldForm::Map,
        "kv_pairs" => FieldForm::Pairs,
        "duration_second" => FieldForm::Duration,
        "signed_duration_second" => FieldForm::SignedDuration,
        "slice" => FieldForm::List,
        "comma_slice_string" | "string_slice" => FieldForm::CommaTexts,
        "comma_int_slice" => FieldForm::CommaIntegers,
        "time" => FieldForm::Moment,
        _ => return None,
    })
}

/// Reads the block.
pub(crate) fn read(object: &Object) -> Result<Vec<Field>, DocumentError> {
    let mut fields: Vec<Field> = Vec::new();
    for item in &object.items {
        let Some(key) = item.keys.first() else { continue };
        if key.name != "field" {
            return Err(DocumentError::at(key.position, format!("`input` has fields, and no `{}`", key.name)));
        }
        let labels: Vec<&str> = item.keys.iter().skip(1).map(|label| label.name.as_str()).collect();
        gather(&labels, &item.value, &mut fields)?;
    }
    Ok(fields)
}

/// However blocks are spelled: as lists, and in JSON with labels as keys.
fn gather(labels: &[&str], value: &Value, fields: &mut Vec<Field>) -> Result<(), DocumentError> {
    match &value.kind {
        ValueKind::List(items) => items.iter().try_for_each(|item| gather(labels, item, fields)),
        ValueKind::Object(object) => {
            // Of what a field says, its default and what is allowed alone can look like blocks.
            let is_inner = |item: &tresor_hcl::Item| {
                let is_value = |key: &tresor_hcl::Key| matches!(key.name.as_str(), "default" | "allowed_values");
                let is_block = |value: &Value| matches!(value.kind, ValueKind::Object(_));
                let looks_so = match &item.value.kind {
                    ValueKind::List(items) => !items.is_empty() && items.iter().all(is_block),
                    _ => is_block(&item.value),
                };
                looks_so && !item.keys.first().is_some_and(is_value)
            };
            if !object.items.is_empty() && object.items.iter().all(is_inner) && labels.len() < 2 {
                return object.items.iter().try_for_each(|item| {
                    let inner = item.keys.iter().map(|key| key.name.as_str());
                    let labels: Vec<&str> = labels.iter().copied().chain(inner).collect();
                    gather(&labels, &item.value, fields)
                });
            }
            let field = field(labels, object, value)?;
            if fields.iter().any(|known| known.name == field.name) {
                return Err(DocumentError::at(value.position, format!("there are two fields `{}`", field.name)));
            }
            if fields.len() == FIELDS_MAX {
                return Err(DocumentError::at(value.position, format!("there are more than {FIELDS_MAX} fields")));
            }
            fields.push(field);
            Ok(())
        }
        _ => Err(DocumentError::at(value.position, "`field` must be a block")),
    }
}

const KEYS: [&str; 8] = ["type", "name", "default", "description", "required", "deprecated", "query", "allowed_values"];

fn field(labels: &[&str], object: &Object, value: &Value) -> Result<Field, DocumentError> {
    let wrong = |text: String| DocumentError::at(value.position, text);
    for key in object.items.iter().filter_map(|item| item.keys.first()) {
        if !KEYS.contains(&key.name.as_str()) {
            return Err(DocumentError::at(key.position, format!("`field` has no `{}`", key.name)));
        }
    }
    let text = |key: &str| object.value(key).map(|value| value.as_string(key)).transpose();
    let flag = |key: &str| object.value(key).map(|value| value.as_bool(key)).transpose();
    let (kind, name) = match (text("type")?, text("name")?, labels) {
        (Some(kind), Some(name), []) => (kind, name),
        (Some(kind), None, [name]) => (kind, (*name).to_owned()),
        (None, Some(name), [kind]) => ((*kind).to_owned(), name),
        (None, None, [kind, name]) => ((*kind).to_owned(), (*name).to_owned()),
        _ => return Err(wrong("`field` needs a type and a name: field \"string\" \"name\" { .. }".into())),
    };
    if name.is_empty() || name.len() > 128 || name == "path" {
        return Err(wrong(format!("`{name}` cannot be the name of a field")));
    }
    let form = form(&kind).ok_or_else(|| wrong(format!("the field `{name}` cannot be of the type `{kind}`")))?;
    // What a field is about is for those who read the document.
    text("description")?;
    flag("deprecated")?;
    flag("query")?;
    let read = |value: &Value| {
        let body = literal(value).ok_or_else(|| wrong(format!("the field `{name}` has a value with a source")))?;
        form.read(&body).map_err(|reason| DocumentError::at(value.position, format!("the field `{name}` {reason}")))
    };
    let default = object.value("default").map(read).transpose()?.map(std::sync::Arc::new);
    let allowed = match object.value("allowed_values") {
        None => Vec::new(),
        Some(Value { kind: ValueKind::List(items), .. }) => items.iter().map(read).collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("`allowed_values` must be a list".into())),
    };
    Ok(Field {
        name: name.clone(),
        form,
        default,
        is_required: flag("required")?.unwrap_or(false),
        allowed: std::sync::Arc::new(allowed),
    })
}

/// A value as it stands in the document.
fn literal(value: &Value) -> Option<Body> {
    Some(match &value.kind {
        ValueKind::String(text) => Body::from(text.as_str()),
        ValueKind::Integer(number) => Body::from(*number),
        ValueKind::Float(number) => Body::Number(Number::parse(&number.to_string())?),
        ValueKind::Bool(flag) => Body::from(*flag),
        ValueKind::Null => Body::Null,
        ValueKind::List(items) => Body::List(items.iter().map(literal).collect::<Option<_>>()?),
        ValueKind::Object(object) if object.value("eval_source").is_some() => return None,
        ValueKind::Object(object) => {
            let entry = |item: &tresor_hcl::Item| Some((item.keys.first()?.name.clone(), literal(&item.value)?));
            Body::Map(object.items.iter().map(entry).collect::<Option<Map>>()?)
        }
    })
}

impl FieldForm {
    /// What was sent, as what it is to be.
    fn read(self, body: &Body) -> Result<Body, &'static str> {
        Ok(match self {
            Self::Text => Body::from(String::read(body)?),
            Self::LowerText => Body::from(LowerName::read(body)?.0),
            Self::Name => {
                let text = String::read(body)?;
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
                if !text.bytes().all(is_name) {
                    return Err("must be letters, digits, `-`, `_` and `.`");
                }
                Body::from(text)
            }
            Self::Integer => Body::from(i64::read(body)?),
            Self::Float => match body {
                Body::Number(number) => Body::Number(finite(number.as_str()).ok_or("is out of range")?),
                Body::String(text) => Body::Number(finite(text.as_str().trim()).ok_or("must be a number")?),
                _ => return Err("must be a number"),
            },
            Self::Flag => Body::from(bool::read(body)?),
            Self::Map => Body::Map(Map::read(body)?),
            Self::Pairs => {
                let pairs = std::collections::BTreeMap::<String, String>::read(body)?;
                Body::Map(pairs.into_iter().map(|(name, value)| (name, Body::from(value))).collect())
            }
            Self::Duration => Body::from(Seconds::read(body)?.0.as_secs()),
            Self::SignedDuration => {
                let signed = SignedSeconds::read(body)?.0;
                let seconds = i64::try_from(signed.length.as_secs()).map_err(|_| "is out of range")?;
                Body::from(if signed.negative { -seconds } else { seconds })
            }
            Self::List => match body {
                Body::List(_) => body.duplicate(),
                Body::Null | Body::Map(_) => return Err("must be a list"),
                one => Body::List(vec![one.duplicate()]),
            },
            Self::CommaTexts => Body::from(
                CommaList::read(body).map(|list| list.0).or_else(|_| StringList::read(body).map(|list| list.0))?,
            ),
            Self::CommaIntegers => {
                let texts = CommaList::read(body)?.0;
                let numbers = texts.iter().map(|text| text.trim().parse::<i64>().map_err(|_| "must be whole numbers"));
                Body::from(numbers.collect::<Result<Vec<i64>, _>>()?)
            }
            Self::Moment => {
                let text = String::read(body)?;
                tresor_wire::time::parse_rfc3339(&text).ok_or("must be a moment as in RFC 3339")?;
                Body::from(text)
            }
        })
    }
}

/// What was sent, as the fields want it; what no field takes is left out.
pub(crate) fn taken(fields: &[Field], sent: &Map) -> Result<Map, ProfileError> {
    let mut taken = Map::new();
    for field in fields {
        let wrong = |why| ProfileError {
            place: "input".into(),
            trouble: Trouble::Value { field: field.name.clone(), why: ValueError::Input(why) },
        };
        let value = match sent.get(&field.name).filter(|body| **body != Body::Null) {
            Some(body) => Some(field.form.read(body).map_err(wrong)?),
            None => field.default.as_ref().map(|default| default.duplicate()),
        };
        match value {
            Some(value) if field.allowed.is_empty() || field.allowed.contains(&value) => {
                taken.insert(field.name.clone(), value);
            }
            Some(_) => return Err(wrong("is none of the values that are allowed")),
            None if field.is_required => return Err(wrong("is required")),
            None => {}
        }
    }
    Ok(taken)
}
