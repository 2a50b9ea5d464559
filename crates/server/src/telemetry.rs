//! Numbers are sent to collectors, each ten seconds, as long as the server runs.
//!
//! Nobody waits for a collector: what cannot be sent within a bound is lost, and so is the connection; the log says when
//! that begins and when it ends. Deliberately absent: what is sent (`tresor-metrics`), and keeping it for later.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tresor_core::Node;
use tresor_env::net::{Datagrams, Stream};
use tresor_env::{Doors, Tasks};
use tresor_metrics::Statsd;

use crate::config::{Collector, TelemetryConfig, Way};

/// How often.
const EVERY: Duration = Duration::from_secs(10);
/// How long sending all of it may take.
const SENDING_MAX: Duration = Duration::from_secs(5);
/// What fits into a datagram on every way.
const PACKET_BYTES_MAX: usize = 1400;

/// Sends to each collector from now on.
pub(crate) fn send(config: &TelemetryConfig, node: &Arc<Node>, doors: &Doors, tasks: &Tasks) {
    for collector in &config.collectors {
        let sender = Sender {
            lines: Statsd::new(collector.dialect.clone(), config.naming.clone()),
            collector: collector.clone(),
            doors: doors.clone(),
            open: None,
            is_failing: false,
        };
        tasks.spawn(sender.run(Arc::clone(node)));
    }
}

enum Open {
    Datagrams(Box<dyn Datagrams>),
    Stream(Box<dyn Stream>),
}

struct Sender {
    collector: Collector,
    lines: Statsd,
    doors: Doors,
    open: Option<Open>,
    is_failing: bool,
}

impl Sender {
    async fn run(mut self, node: Arc<Node>) {
        loop {
            match node.readings() {
                Ok(readings) => {
                    let packets = self.lines.packets(&readings, PACKET_BYTES_MAX);
                    let bound = self.doors.clock.sleep(SENDING_MAX);
                    let sent = tokio::select! {
                        sent = self.deliver(packets) => sent,
                        () = bound => Err(io::ErrorKind::TimedOut.into()),
                    };
                    self.tell(sent);
                }
                Err(fault) => tracing::warn!(%fault, "numbers cannot be read"),
            }
            self.doors.clock.sleep(EVERY).await;
        }
    }

    async fn deliver(&mut self, packets: Vec<String>) -> io::Result<()> {
        // Taken out: what failed or was given up in the middle is opened anew.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => connect(&self.doors, &self.collector).await?,
        };
        for packet in packets {
            match &mut open {
                Open::Datagrams(datagrams) => datagrams.send(packet.as_bytes()).await?,
                Open::Stream(stream) => stream.write_all(packet.as_bytes()).await?,
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn tell(&mut self, sent: io::Result<()>) {
        let address = self.collector.address.as_str();
        match sent {
            Err(error) if !self.is_failing => {
                tracing::warn!(collector = address, %error, "numbers cannot be sent to a collector");
                self.is_failing = true;
            }
            Err(_) => {}
            Ok(()) if self.is_failing => {
                tracing::info!(collector = address, "numbers are sent to a collector again");
                self.is_failing = false;
            }
            Ok(()) => {}
        }
    }
}

async fn connect(doors: &Doors, collector: &Collector) -> io::Result<Open> {
    let addresses = doors.net.resolve(&collector.address).await?;
    let address = addresses.first().copied().ok_or(io::ErrorKind::NotFound)?;
    Ok(match collector.way {
        Way::Datagrams => Open::Datagrams(doors.net.datagrams_to(address).await?),
        Way::Stream => Open::Stream(doors.net.connect(address).await?),
    })
}
