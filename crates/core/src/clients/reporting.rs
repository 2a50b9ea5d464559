//! Whom nodes that stand by have served: they tell the leader, until it says that it is stored.
//!
//! Deliberately absent: anything that a request waits for.

use std::time::Duration;

use tresor_record::Record;
use tresor_wire::month::Month;

use super::{AT_ONCE, Client, Clients, Short};
use crate::cluster::{About, Message, Standing};
use crate::role::Role;
use crate::unsealed::Unsealed;

/// How long the leader has to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Whom a node has served.
#[derive(Record)]
#[record(kind = "clients of a node", version = 1)]
struct Report {
    since: u64,
    clients: Vec<Client>,
}

/// Which of them are stored, one by one; nothing where the leader cannot say.
#[derive(Record)]
#[record(kind = "stored clients", version = 1)]
struct Taken {
    stored: Option<Vec<bool>>,
}

/// On a node that stands by: tells the leader, who says what of it is stored. It is called each second.
pub(crate) async fn keep_up(unsealed: &Unsealed) {
    let (clients, cluster) = (&unsealed.handles.clients, &unsealed.handles.cluster);
    // Without a log nothing is served here.
    if !cluster.has_log() || !matches!(cluster.standing(), Standing::Follows(_)) {
        return;
    }
    let Some((report, told)) = clients.report() else { return };
    let answered = cluster.ask_leader(About::Clients, report.encode(), ANSWERS_WITHIN).await;
    // Nobody leads at the moment, or somebody of another release.
    let Ok(Ok(Taken { stored: Some(stored) })) = answered.map(|answer| Taken::decode(&answer)) else { return };
    let stored: Vec<_> =
        told.into_iter().zip(stored).filter(|(_, is_stored)| *is_stored).map(|(told, _)| told).collect();
    clients.are_stored(&stored);
}

/// Takes what another node reports, on the node that leads.
pub(crate) fn take_report(unsealed: Option<&Unsealed>, message: &[u8]) -> Message {
    let taken = unsealed.zip(Report::decode(message).ok()).and_then(|(unsealed, report)| {
        let leads =
            matches!(unsealed.duties.role(), Role::Active { .. }) && unsealed.handles.cluster.standing().leads();
        leads.then(|| unsealed.handles.clients.take(report)).flatten()
    });
    Taken { stored: taken }.encode()
}

impl Clients {
    /// Who is not known to be stored, some of them.
    fn report(&self) -> Option<(Report, Vec<(Month, Short)>)> {
        let table = self.table();
        let since = table.counting.filter(|_| !table.waiting.is_empty())?;
        let (told, clients) = table.waiting.iter().take(AT_ONCE).map(|(at, client)| (*at, client.clone())).unzip();
        Some((Report { since, clients }, told))
    }

    /// Counts whom another node has served; which of them are stored.
    fn take(&self, report: Report) -> Option<Vec<bool>> {
        let mut table = self.table();
        if !table.is_loaded || table.counting != Some(report.since) {
            return None;
        }
        let this = table.month?;
        let taken = report.clients.into_iter().take(AT_ONCE).map(|client| {
            let (month, short) = (Month::of(client.first), client.short());
            // What is older than is kept in memory is not waited for.
            if month < this.before(1) {
                return true;
            }
            table.note(month, client);
            !table.waiting.contains_key(&(month, short))
        });
        Some(taken.collect())
    }
}
