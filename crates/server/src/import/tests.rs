//! What is planned and what is imported, from a fake of Google's secret manager into a destination in memory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tresor_env::BoxFuture;
use tresor_env::doubles::TestDoors;
use tresor_model::Map;
use tresor_wire::json::{JsonLimits, decode};

use super::destination::Current;
use super::*;
use crate::config::{Filter, SourceConfig};
use crate::key_services::json_body;

fn map_of(value: &Value) -> Map {
    decode(value.to_string().as_bytes(), &JsonLimits::default()).unwrap()
}

/// What a source has: a value, and labels.
type Secret = (Value, Vec<(String, String)>);

type Secrets = BTreeMap<String, Secret>;

/// A destination in memory: versions by name, and who writes before it is asked to.
#[derive(Clone, Default)]
struct Memory {
    versions: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    overtaken: Arc<Mutex<Vec<String>>>,
    is_missing: bool,
}

impl Destination for Memory {
    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        let checked = if self.is_missing { Err("it is missing".to_owned()) } else { Ok(()) };
        Box::pin(std::future::ready(checked))
    }

    fn read<'d>(&'d self, name: &'d str) -> BoxFuture<'d, Result<Current, String>> {
        let versions = self.versions.lock().unwrap().get(name).cloned().unwrap_or_default();
        let data = versions.last().filter(|last| !last.is_null()).map(map_of);
        Box::pin(std::future::ready(Ok(Current { version: versions.len() as u64, data })))
    }

    fn write<'d>(&'d self, name: &'d str, data: Map, follows: u64) -> BoxFuture<'d, Result<(), NotWritten>> {
        let mut all = self.versions.lock().unwrap();
        let versions = all.entry(name.to_owned()).or_default();
        if self.overtaken.lock().unwrap().iter().any(|known| known == name) {
            versions.push(json!({ "of": "somebody else" }));
        }
        if versions.len() as u64 != follows {
            return Box::pin(std::future::ready(Err(NotWritten::Changed)));
        }
        versions.push(serde_json::from_slice(&json_body(&data)).unwrap());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A fake of Google's secret manager with these secrets.
fn fake_secret_manager(doors: &TestDoors, secrets: &Arc<Mutex<Secrets>>) {
    let secrets = Arc::clone(secrets);
    doors.outgoing.answer(move |request| {
        let secrets = secrets.lock().unwrap();
        let url = request.url.as_str();
        if url.starts_with("http://machine/") {
            return Ok((200, json!({ "access_token": "t" }).to_string().into_bytes()));
        }
        let rest = url.strip_prefix("https://secretmanager.googleapis.com/v1/projects/p/secrets").unwrap();
        let said = match rest.strip_prefix('/').and_then(|rest| rest.strip_suffix("/versions/latest:access")) {
            None => {
                let one = |(name, (_, labels)): (&String, &Secret)| {
                    let labels: BTreeMap<_, _> = labels.iter().cloned().collect();
                    json!({ "name": format!("projects/p/secrets/{name}"), "labels": labels })
                };
                json!({ "secrets": secrets.iter().map(one).collect::<Vec<_>>() })
            }
            Some(name) => match &secrets[name].0 {
                Value::Null => return Ok((404, Vec::new())),
                value => json!({ "payload": { "data": STANDARD.encode(value.to_string()) } }),
            },
        };
        Ok((200, said.to_string().into_bytes()))
    });
}

struct Bench {
    run: Run,
    secrets: Arc<Mutex<Secrets>>,
    first: Memory,
    second: Memory,
    _doors: TestDoors,
}

fn mapping(destination: &str, priority: i64, filter: Filter) -> Mapping {
    let (name, source) = ("m".to_owned(), "cloud".to_owned());
    Mapping { name, source, destination: destination.to_owned(), priority, filter }
}

fn bench(secrets: &[(&str, Value)], first: Memory) -> Bench {
    let doors = TestDoors::new(1);
    let secrets: Secrets =
        secrets.iter().map(|(name, value)| ((*name).to_owned(), (value.clone(), Vec::new()))).collect();
    let secrets = Arc::new(Mutex::new(secrets));
    fake_secret_manager(&doors, &secrets);
    let config = SourceConfig::Gcp {
        project: Some("p".to_owned()),
        credentials: None,
        endpoint: "https://secretmanager.googleapis.com".to_owned(),
        machine: "http://machine".to_owned(),
    };
    let second = Memory::default();
    let destinations: BTreeMap<String, (Box<dyn Destination>, String)> = BTreeMap::from([
        ("first".to_owned(), (Box::new(first.clone()) as Box<dyn Destination>, "team/kv".to_owned())),
        ("second".to_owned(), (Box::new(second.clone()) as Box<dyn Destination>, "other".to_owned())),
    ]);
    let tagged = Filter::Metadata(BTreeMap::from([("team".to_owned(), "b".to_owned())]));
    let mappings = vec![mapping("second", 5, tagged), mapping("first", 1, Filter::Everything)];
    let sources = BTreeMap::from([("cloud".to_owned(), Source::new(config, &doors.doors))]);
    Bench { run: Run { sources, destinations, mappings }, secrets, first, second, _doors: doors }
}

impl Bench {
    /// How it ended, and all that was said.
    async fn does(&self, applies: bool, approval: Option<bool>) -> (Result<(), Stopped>, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut approve = || approval.unwrap_or(false);
        let mut streams = ImportStreams { output: &mut output, errors: &mut errors, approve: &mut approve };
        let done = self.run.carry_out(applies, approval.is_none(), &mut streams).await;
        (done, String::from_utf8([output, errors].concat()).unwrap())
    }

    fn versions(&self, name: &str) -> Vec<Value> {
        self.first.versions.lock().unwrap().get(name).cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn sys_32_a_plan_names_what_is_new_or_different_and_writes_nothing() {
    let known = Memory::default();
    known.versions.lock().unwrap().insert("same".to_owned(), vec![json!({ "a": "canary-1" })]);
    known.versions.lock().unwrap().insert("other".to_owned(), vec![json!({ "a": "canary-2" })]);
    known.versions.lock().unwrap().insert("deleted".to_owned(), vec![Value::Null]);
    let secrets = [
        ("deleted", json!({ "a": "canary-3" })),
        ("empty", Value::Null),
        ("fresh", json!({ "a": "canary-4" })),
        ("other", json!({ "a": "canary-5" })),
        ("same", json!({ "a": "canary-1" })),
    ];
    let bench = bench(&secrets, known);
    bench.secrets.lock().unwrap().get_mut("fresh").unwrap().1.push(("team".to_owned(), "b".to_owned()));
    let (done, said) = bench.does(false, None).await;
    assert_eq!(done, Ok(()));
    for line in [
        "Secrets to be imported to the destination \"first\":\n* deleted (different)\n* other (different)",
        "Secrets to be imported to the destination \"second\":\n* fresh (new)",
        "Secrets that have no value:\n* empty of \"cloud\"",
        "3 to import, 1 the same",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(bench.versions("other").len(), 1);
    assert!(bench.second.versions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sys_32_applying_imports_what_differs_once_and_nothing_the_second_time() {
    let bench = bench(&[("a", json!({ "x": "canary-1" })), ("b", json!({ "x": "canary-2" }))], Memory::default());
    let (done, _) = bench.does(true, Some(false)).await;
    assert_eq!(done, Err(Stopped::NotApproved));
    assert!(bench.versions("a").is_empty());
    let (done, said) = bench.does(true, Some(true)).await;
    assert!(done == Ok(()) && said.contains("Success! Imported 2 secrets.") && !said.contains("canary"), "{said}");
    assert_eq!(bench.versions("a"), [json!({ "x": "canary-1" })]);
    let (done, said) = bench.does(true, None).await;
    assert!(done == Ok(()) && said.contains("0 to import, 2 the same"), "{said}");
    assert_eq!(bench.versions("a").len(), 1);
    // What changed at the source is the next version.
    bench.secrets.lock().unwrap().get_mut("a").unwrap().0 = json!({ "x": "canary-3" });
    assert_eq!(bench.does(true, None).await.0, Ok(()));
    assert_eq!(bench.versions("a"), [json!({ "x": "canary-1" }), json!({ "x": "canary-3" })]);
}

#[tokio::test]
async fn sys_32_what_somebody_else_wrote_meanwhile_stays() {
    let overtaken = Memory { overtaken: Arc::new(Mutex::new(vec!["a".to_owned()])), ..Memory::default() };
    let bench = bench(&[("a", json!({ "x": "1" })), ("b", json!({ "x": "2" }))], overtaken);
    let (done, said) = bench.does(true, None).await;
    assert!(matches!(&done, Err(Stopped::Failed(text)) if text.contains("1 secrets were not imported")), "{done:?}");
    assert!(said.contains("a was written by somebody else meanwhile") && said.contains("Imported 1 secrets"), "{said}");
    assert_eq!(bench.versions("a"), [json!({ "of": "somebody else" })]);
    assert_eq!(bench.versions("b"), [json!({ "x": "2" })]);
}

#[tokio::test]
async fn sys_32_nothing_is_imported_where_something_is_missing_or_cannot_have_its_name() {
    let missing = Memory { is_missing: true, ..Memory::default() };
    let (done, said) = bench(&[("a", json!({ "x": "1" }))], missing).does(true, None).await;
    assert!(done == Err(Stopped::Unready) && said.contains("* team/kv: it is missing"), "{said}");
    for (name, expected) in [
        ("a/b", Some("a/b")),
        ("/prod/db/", Some("prod/db")),
        ("", None),
        ("/", None),
        ("a//b", None),
        ("a/../b", None),
        ("a\nb", None),
    ] {
        assert_eq!(checked_name(name).as_deref(), expected, "{name:?}");
    }
    assert_eq!(checked_name(&"x".repeat(NAME_BYTES_MAX + 1)), None);
}
