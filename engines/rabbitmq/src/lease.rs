//! `config/lease`: how long users live.
//!
//! Deliberately absent: lives per role, which the reference does not have either.

use std::time::Duration;

use tresor_engine::{Cx, Data, Happened, Nothing, View};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_wire::input::{EmptyInput, Input, Seconds};
use tresor_wire::output::Output;

use crate::RabbitMq;

const NAME: &str = "config/lease";

/// How long users live; zero is as the mount says.
#[derive(Record, Default)]
#[record(kind = "rabbitmq-lease", version = 1)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
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
    #[input(default = "0")]
    ttl: Seconds,
    /// How long it lives with all renewals.
    #[input(default = "0")]
    max_ttl: Seconds,
}

/// How long users live.
#[derive(Output)]
pub(crate) struct Shown {
    /// How long a user lives without a renewal.
    ttl: Duration,
    /// How long it lives with all renewals.
    max_ttl: Duration,
}

pub(crate) async fn read(_engine: &RabbitMq, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Shown>>, Fault> {
    let lease = Lease::load(&mut cx.view)?;
    Ok(lease.map(|lease| Data(Shown { ttl: lease.ttl, max_ttl: lease.max_ttl })))
}

pub(crate) async fn write(_engine: &RabbitMq, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    cx.view.write(NAME, &Lease { ttl: input.ttl.0, max_ttl: input.max_ttl.0 }.encode())?;
    cx.view.tell(|| Happened::new("rabbitmq/config-write", NAME));
    Ok(Nothing)
}
