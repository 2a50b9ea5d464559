//! Workflows: whatever somebody hands in is one or refused, and running one asks for what it says and no more often.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use tresor_env::doubles::SeededEntropy;
use tresor_env::{BoxFuture, Timestamp};
use tresor_model::{Fault, Map};
use tresor_profile::{Door, History, Made, REQUESTS_MAX, Run, Workflow};

pub(crate) const WORDS: &[&str] = &[
    "flow \"f\" {",
    "request \"r\" {",
    "request \"s\" {",
    "input {",
    "output {",
    "field \"string\" \"a\" {",
    "field \"int\" \"b\" {",
    "}",
    "\n",
    "operation = \"read\"",
    "operation = \"update\"",
    "path = \"a\"",
    "path = {",
    "token = \"\"",
    "data = {",
    "headers = {",
    "when = ",
    "allow_failure = true",
    "required = true",
    "default = ",
    "x = ",
    "eval_source = ",
    "eval_type = \"string\"",
    "\"response\"",
    "\"request\"",
    "\"input\"",
    "\"template\"",
    "\"cel\"",
    "flow_name = \"f\"",
    "response_name = \"r\"",
    "request_name = \"r\"",
    "field_selector = [\"data\", \"path\"]",
    "field_name = \"a\"",
    "template = \"{{ .input.a | sha256 }}\"",
    "expression = \"responses.f.r.data\"",
    "variables = [",
    "1",
    "true",
    "\"text\"",
    "[",
    "]",
    "{\"flow\":",
    "{\"f\":",
    ",",
    ":",
];

/// Answers with the path that it was asked for.
struct Echo(AtomicUsize);

impl Door for Echo {
    fn ask(&self, made: Made) -> BoxFuture<'_, Result<Map, Fault>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(Map::new().with("data", Map::new().with("path", made.path)))))
    }
}

/// A workflow, run with little input.
pub fn workflow(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(workflow) = Workflow::parse(text) else { return };
    let declared = workflow.profile.requests().len();
    assert!((1..=REQUESTS_MAX).contains(&declared));
    let Ok(input) = workflow.input(&Map::new().with("a", "x").with("b", 1)) else { return };
    let (door, entropy) = (Echo(AtomicUsize::new(0)), SeededEntropy::new(1));
    let run = Run { door: &door, machine: None, entropy: &entropy, now: Timestamp::EPOCH };
    let mut history = History::default();
    let outcome = workflow.run(&run, input.as_ref(), &mut history).now_or_never();
    drop(outcome.expect("nothing is waited for but the door"));
    assert!(door.0.load(Ordering::Relaxed) <= declared, "it asked more often than it says");
}
