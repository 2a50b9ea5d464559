//! `sys/policies/rotation`: how often what rotates by itself is tried again when that fails (POL-22).
//!
//! Deliberately absent: trying (`tresor_core::rotations`), and what rotates.

use tresor_core::rotations::POLICIES;
use tresor_engine::retries::RotationPolicy;
use tresor_engine::{Cx, Data, Keys, Nothing, Routes};
use tresor_model::Fault;
use tresor_wire::input::Input;
use tresor_wire::json::{JsonLimits, decode};
use tresor_wire::output::Output;

use super::Sys;
use super::named::{self, ByName};
use crate::pages::Page;

/// The most that either may be: more is meant to be for ever, which is having no policy.
const MOST: u64 = 1_000_000;

/// A rotation policy to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    name: String,
    /// How often it is tried again before it waits for the next time that it is due.
    max_retries_per_cycle: Option<i64>,
    /// How many of those times it is tried again before it is given up.
    max_retry_cycles: Option<i64>,
    /// Both as a document in JSON, which is an older way to send them.
    policy: Option<String>,
}

/// A rotation policy.
#[derive(Output)]
pub(super) struct PolicyShown {
    /// How often it is tried again before it waits for the next time that it is due.
    max_retries_per_cycle: u64,
    /// How many of those times it is tried again before it is given up.
    max_retry_cycles: u64,
}

/// The policies.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("policies/rotation", "Lists the rotation policies.")
        .list(list)
        .at("policies/rotation/{name}", "Shows, writes or deletes a rotation policy.")
        .read(read)
        .write(write)
        .delete(delete)
        .done()
}

pub(super) async fn list(_sys: &Sys, cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    named::list(&POLICIES, cx, &input)
}

pub(super) async fn read(_sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Data<PolicyShown>, Fault> {
    let RotationPolicy { max_retries_per_cycle, max_retry_cycles } = named::read(&POLICIES, cx, &input)?.into();
    Ok(Data(PolicyShown { max_retries_per_cycle, max_retry_cycles }))
}

pub(super) async fn write(_sys: &Sys, cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let (mut retries, mut cycles) = (input.max_retries_per_cycle, input.max_retry_cycles);
    if let Some(text) = input.policy.filter(|text| !text.is_empty()) {
        if retries.is_some() || cycles.is_some() {
            return Err(Fault::invalid("`policy` says both numbers: send it or them"));
        }
        let no_document = || Fault::invalid("`policy` is no object in JSON");
        let document = decode(text.as_bytes(), &JsonLimits::default()).map_err(|_| no_document())?;
        for (name, value) in document.iter() {
            let number = || value.as_i64().ok_or_else(|| Fault::invalid("a number of `policy` is no whole number"));
            match name {
                "max_retries_per_cycle" => retries = Some(number()?),
                "max_retry_cycles" => cycles = Some(number()?),
                _ => return Err(Fault::invalid("`policy` has `max_retries_per_cycle` and `max_retry_cycles`")),
            }
        }
    }
    let policy = RotationPolicy {
        max_retries_per_cycle: checked("max_retries_per_cycle", retries)?,
        max_retry_cycles: checked("max_retry_cycles", cycles)?,
    };
    named::write(&POLICIES, cx, &input.name, &policy.into())
}

fn checked(name: &str, sent: Option<i64>) -> Result<u64, Fault> {
    let sent = sent.ok_or_else(|| Fault::invalid(format!("{name} is required")))?;
    let number = u64::try_from(sent).ok().filter(|number| *number <= MOST);
    number.ok_or_else(|| Fault::invalid(format!("{name} must be from 0 to {MOST}")))
}

pub(super) async fn delete(_sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    named::delete(&POLICIES, cx, &input)
}
