//! One run of a load against a running server, and what it came to.
//!
//! Deliberately absent: what is asked, and how the server was made ready.

use std::time::{Duration, Instant};

use crate::contender::Contender;
use crate::drive::drive;
use crate::loads::Prepared;
use crate::machine::Usage;

/// What one run of a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Answers per second.
    pub(crate) rate: f64,
    /// The same as a part of what the bare server gave a moment before.
    pub(crate) of_bare: f64,
    /// The median latency in milliseconds.
    pub(crate) p50: f64,
    /// The latency that 99 of 100 do not exceed, in milliseconds.
    pub(crate) p99: f64,
    /// CPU time of the server per answer, in microseconds.
    pub(crate) cpu_us: f64,
    /// How busy the server's core was with it, of 1.
    pub(crate) busy: f64,
    /// Memory at the end, in MiB.
    pub(crate) resident_mib: f64,
    /// Stored data at the end, in MiB.
    pub(crate) disk_mib: f64,
    /// Why there is no result.
    pub(crate) refused: Option<String>,
}

/// Lets so many clients ask, as fast as they get answers or at a pace of requests per second.
pub(crate) async fn measure(
    contender: &Contender,
    clients: usize,
    prepared: Prepared,
    duration: Duration,
    pace: Option<u64>,
) -> Result<Measured, String> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(contender.connect().await?);
    }
    let mut before = Usage::default();
    let seen = drive(connections, prepared, duration, pace, || {
        before = contender.usage()?;
        Ok(())
    })
    .await?;
    let ended = contender.usage()?;
    // What a server puts off (lines of its audit device, its index) is part of what the load costs.
    let after = until_idle(contender).await?;
    if seen.failures > 0 || seen.latencies.total() == 0 {
        let why = seen.first_failure.unwrap_or_else(|| "no answer".to_owned());
        return Ok(Measured { refused: Some(format!("{} failed: {why}", seen.failures)), ..Measured::default() });
    }
    #[expect(clippy::cast_precision_loss, reason = "shown rounded")]
    let answers = seen.latencies.total() as f64;
    let (cpu, took) = ((after.cpu - before.cpu).as_secs_f64(), seen.took.as_secs_f64());
    Ok(Measured {
        rate: answers / took,
        of_bare: 0.0,
        p50: seen.latencies.quantile(500),
        p99: seen.latencies.quantile(990),
        cpu_us: cpu * 1e6 / answers,
        busy: (ended.cpu - before.cpu).as_secs_f64() / took,
        resident_mib: after.resident_mib,
        disk_mib: contender.disk_mib(),
        refused: None,
    })
}

/// Waits until the server has nothing more to do, within bounds.
async fn until_idle(contender: &Contender) -> Result<Usage, String> {
    const BOUND: Duration = Duration::from_secs(20);
    const LOOK_EACH: Duration = Duration::from_millis(200);
    let (started, mut before) = (Instant::now(), contender.usage()?);
    loop {
        tokio::time::sleep(LOOK_EACH).await;
        let now = contender.usage()?;
        if now.cpu - before.cpu < LOOK_EACH / 10 || started.elapsed() > BOUND {
            return Ok(now);
        }
        before = now;
    }
}
