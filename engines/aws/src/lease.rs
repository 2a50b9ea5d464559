//! `config/lease`: how long users live.
//!
//! Deliberately absent: lives of keys that end by themselves, which are a role's.

use std::time::Duration;

use tresor_engine::{Cx, Data, Happened, Nothing, View};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_wire::duration::{parse_go, print_go};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use crate::Aws;

const NAME: &str = "config/lease";

/// How long users live; zero is as the mount says.
#[derive(Record, Default)]
#[record(kind = "aws-lease", version = 1)]
pub(crate) struct Lease {
    pub(crate) lease: Duration,
    pub(crate) lease_max: Duration,
}

impl Lease {
    pub(crate) fn load(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(NAME)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }
}

/// How long users live.
#[derive(Input)]
pub(crate) struct Write {
    /// How long a user lives without a renewal.
    #[input(default = "")]
    lease: String,
    /// How long it lives with all renewals.
    #[input(default = "")]
    lease_max: String,
}

/// How long users live.
#[derive(Output)]
pub(crate) struct Shown {
    /// How long a user lives without a renewal.
    lease: String,
    /// How long it lives with all renewals.
    lease_max: String,
}

fn duration(name: &str, text: &str) -> Result<Duration, Fault> {
    if text.is_empty() {
        return Err(Fault::invalid(format!("'{name}' is a required parameter")));
    }
    let seconds = || text.parse().ok().map(Duration::from_secs);
    parse_go(text).or_else(seconds).ok_or_else(|| Fault::invalid(format!("Invalid {name}: it is no duration")))
}

pub(crate) async fn read(_engine: &Aws, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Shown>>, Fault> {
    let lease = Lease::load(&mut cx.view)?;
    Ok(lease.map(|lease| Data(Shown { lease: print_go(lease.lease), lease_max: print_go(lease.lease_max) })))
}

pub(crate) async fn write(_engine: &Aws, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let (lease, lease_max) = (duration("lease", &input.lease)?, duration("lease_max", &input.lease_max)?);
    cx.view.write(NAME, &Lease { lease, lease_max }.encode())?;
    cx.view.tell(|| Happened::new("aws/config-write", NAME));
    Ok(Nothing)
}
