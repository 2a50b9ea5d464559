//! Making very many tokens and leases, and how fast it goes from the first to the last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tresor_harness::ROOT;

use crate::server::{Server, resident_mebibytes};

/// Requests that wait at the same time.
const AT_ONCE: usize = 128;

/// How many, and in which steps it is told how it goes.
pub(crate) struct Load {
    pub(crate) total: usize,
    pub(crate) step: usize,
    pub(crate) until: Instant,
}

/// The processor time that this process took so far, in seconds.
pub(crate) fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

impl Load {
    /// Tokens and secrets in turn: each token is an orphan's child like others, each secret belongs to one of a few.
    pub(crate) async fn make_mixed(&self, server: &Server) {
        let mut owners = Vec::new();
        for _ in 0..AT_ONCE {
            owners.push(server.token(ROOT, "200h").await);
        }
        let before = server.store_bytes();
        let owners = &owners;
        let made = self
            .measure("tokens and leases", |at| async move {
                if at.is_multiple_of(2) {
                    drop(server.token(ROOT, "100h").await);
                } else {
                    let owner = owners.get(at % AT_ONCE).unwrap();
                    drop(server.secret("made", owner, "150h").await);
                }
            })
            .await;
        let bytes = server.store_bytes().saturating_sub(before);
        println!("{made} made; {} bytes of disk for each", bytes / u64::try_from(made.max(1)).unwrap());
    }

    /// Children of one token.
    pub(crate) async fn make_children(&self, server: &Server, parent: &str) {
        self.measure("descendants", |_| async { drop(server.token(parent, "50h").await) }).await;
    }

    /// One more step, after a restart.
    pub(crate) async fn make_some_more(&self, server: &Server) {
        let more = Self { total: self.step.min(self.total), step: self.step, until: crate::server::never() };
        more.measure("tokens after the restart", |_| async { drop(server.token(ROOT, "100h").await) }).await;
    }

    /// Does `work` so often, and prints each step.
    pub(crate) async fn measure<F: Future<Output = ()>>(&self, what: &str, work: impl Fn(usize) -> F) -> usize {
        let next = AtomicUsize::new(0);
        let mut done = 0;
        let mut rates = Vec::new();
        while done < self.total && Instant::now() < self.until {
            let end = (done + self.step).min(self.total);
            let (started, processor) = (Instant::now(), processor_seconds());
            let (next, work) = (&next, &work);
            let clients = (0..AT_ONCE).map(|_| async move {
                loop {
                    let at = next.load(Ordering::Relaxed);
                    if at >= end {
                        return;
                    }
                    next.store(at + 1, Ordering::Relaxed);
                    work(at).await;
                }
            });
            drop(futures_util::future::join_all(clients).await);
            let count = (end - done) as f64;
            let rate = count / started.elapsed().as_secs_f64();
            let micros = (processor_seconds() - processor) * 1e6 / count;
            done = end;
            rates.push(rate);
            println!(
                "{what}: {done:>8} made, {rate:6.0}/s, {micros:4.0} us of processor each, {:.0} MiB resident",
                resident_mebibytes()
            );
        }
        if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
            println!("{what}: the last step went at {:.0} % of the rate of the first", last / first * 100.0);
        }
        done
    }
}
