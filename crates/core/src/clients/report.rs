//! How many clients there were: in a stretch of months, by namespace, by the mount that they logged in at, and who was new.
//!
//! One month is in memory at a time. A client that came by several mounts is counted where it came first, as in the reference.
//! Deliberately absent: how that is shown.

use std::collections::{BTreeMap, BTreeSet};

use tresor_barrier::Txn;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_wire::month::Month;

use super::{Client, Clients, Short, stored};

/// How many clients there were in each namespace, by the accessors of mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<NamespaceId, BTreeMap<String, u64>>);

/// The clients of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfMonth {
    /// Which.
    pub month: Month,
    /// All of them.
    pub all: Tally,
    /// Those who had not come in an earlier month of the stretch.
    pub new: Tally,
}

/// The clients of a stretch of months.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Each once.
    pub total: Tally,
    /// Of each month of which something is known, in order.
    pub months: Vec<OfMonth>,
    /// Whether there were more in a month than are told apart, as far as this process knows.
    pub is_overfull: bool,
}

impl Tally {
    fn add(&mut self, client: &Client) {
        let mounts = self.0.entry(client.namespace.clone()).or_default();
        let number = mounts.entry(client.accessor.clone()).or_default();
        *number = number.saturating_add(1);
    }

    /// How many there are.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.0.values().map(Self::clients_of).sum()
    }

    /// How many there are in a namespace.
    #[must_use]
    pub fn clients_of(mounts: &BTreeMap<String, u64>) -> u64 {
        mounts.values().sum()
    }

    /// The namespaces, those with the most clients first.
    #[must_use]
    pub fn by_size(&self) -> Vec<(&NamespaceId, &BTreeMap<String, u64>)> {
        let mut namespaces: Vec<_> = self.0.iter().collect();
        namespaces.sort_by_key(|(id, mounts)| (std::cmp::Reverse(Self::clients_of(mounts)), (*id).clone()));
        namespaces
    }
}

/// Puts months together, which come in order.
#[derive(Default)]
struct Together {
    activity: Activity,
    seen: BTreeSet<Short>,
}

impl Together {
    fn take(&mut self, month: Month, clients: &[Client]) {
        let (mut all, mut new) = (Tally::default(), Tally::default());
        for client in clients {
            all.add(client);
            if self.seen.insert(client.short()) {
                new.add(client);
                self.activity.total.add(client);
            }
        }
        self.activity.months.push(OfMonth { month, all, new });
    }
}

impl Clients {
    /// How many clients there were from one month to another, both included. On the node that leads that is up to this moment.
    ///
    /// # Errors
    /// When the store fails.
    pub fn activity(&self, txn: &mut Txn, from: Month, to: Month) -> Result<Activity, Fault> {
        let mut together = Together::default();
        for month in self.months(txn, from, to)? {
            let clients = self.of(txn, month)?;
            together.take(month, &clients);
        }
        together.activity.is_overfull = self.table().overfull.is_some_and(|month| from <= month && month <= to);
        Ok(together.activity)
    }

    /// The clients from one month to another, each once, as they came first; nothing when there are more than `most`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn listed(&self, txn: &mut Txn, from: Month, to: Month, most: usize) -> Result<Option<Vec<Client>>, Fault> {
        let (mut seen, mut found) = (BTreeSet::<Short>::new(), Vec::new());
        for month in self.months(txn, from, to)? {
            for client in self.of(txn, month)? {
                if seen.insert(client.short()) {
                    if found.len() == most {
                        return Ok(None);
                    }
                    found.push(client);
                }
            }
        }
        Ok(Some(found))
    }

    /// Whether anything is stored, of whatever month.
    ///
    /// # Errors
    /// When the store fails.
    pub fn has_any(&self, txn: &mut Txn) -> Result<bool, Fault> {
        Ok(!stored::months(txn)?.is_empty())
    }

    /// The months in a stretch of which something is known.
    fn months(&self, txn: &mut Txn, from: Month, to: Month) -> Result<BTreeSet<Month>, Fault> {
        let mut months = stored::months(txn)?;
        months.extend(self.table().waiting.keys().map(|(month, _)| *month));
        months.retain(|month| from <= *month && *month <= to);
        Ok(months)
    }

    /// The clients of a month in order of time, those included who wait to be written down.
    fn of(&self, txn: &mut Txn, month: Month) -> Result<Vec<Client>, Fault> {
        let mut clients = Vec::new();
        stored::each(txn, month, |client| clients.push(client))?;
        let known: BTreeSet<Short> = clients.iter().map(Client::short).collect();
        let waiting = self.table();
        let waiting = waiting.waiting.range((month, Short::default())..=(month, [u8::MAX; 16]));
        clients.extend(waiting.filter(|((_, short), _)| !known.contains(short)).map(|(_, client)| client.clone()));
        clients.sort_by_key(|client| (client.first, client.short()));
        Ok(clients)
    }
}

/// When a stretch of months begins and when it ends, as it is shown: its last moment is still in it.
#[must_use]
pub fn bounds(from: Month, to: Month) -> (Timestamp, Timestamp) {
    (from.begins(), Timestamp::from_seconds(to.ends().seconds().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    fn client(number: u8, namespace: &str, accessor: &str) -> Client {
        Client {
            id: vec![number; 32],
            namespace: NamespaceId::new(namespace),
            accessor: accessor.to_owned(),
            created: Timestamp::EPOCH,
            first: Timestamp::EPOCH,
        }
    }

    fn numbers(tally: &Tally) -> Vec<(String, String, u64)> {
        let of = |(namespace, mounts): (&NamespaceId, &BTreeMap<String, u64>)| {
            let namespace = namespace.to_string();
            mounts.iter().map(|(mount, number)| (namespace.clone(), mount.clone(), *number)).collect::<Vec<_>>()
        };
        tally.by_size().into_iter().flat_map(of).collect()
    }

    #[test]
    fn sys_16_a_client_counts_once_a_month_and_once_in_all_where_it_came_first() {
        let mut together = Together::default();
        let months = ["2026-10", "2026-11", "2026-12"].map(|month| Month::parse(month).unwrap());
        let [a, b, c] = [client(1, "x", "up"), client(2, "root", "up"), client(3, "x", "role")];
        together.take(months[0], &[a.clone(), b.clone()]);
        together.take(months[1], &[client(1, "x", "role"), c.clone()]);
        together.take(months[2], &[]);
        let Activity { total, months, .. } = together.activity;
        let row = |namespace: &str, mount: &str, number| (namespace.to_owned(), mount.to_owned(), number);
        assert_eq!(numbers(&total), [row("x", "role", 1), row("x", "up", 1), row("root", "up", 1)]);
        assert_eq!(total.clients(), 3);
        assert_eq!(numbers(&months[0].all), numbers(&months[0].new));
        assert_eq!(numbers(&months[1].all), [row("x", "role", 2)]);
        assert_eq!(numbers(&months[1].new), [row("x", "role", 1)]);
        assert_eq!((months[2].all.clients(), months[2].new.clients()), (0, 0));
    }

    #[test]
    fn a_stretch_of_months_ends_in_its_last_second() {
        let (from, to) = (Month::parse("2025-12").unwrap(), Month::parse("2026-02").unwrap());
        let (begins, ends) = bounds(from, to);
        let shown = [begins, ends].map(tresor_wire::time::rfc3339);
        assert_eq!(shown, ["2025-12-01T00:00:00Z", "2026-02-28T23:59:59Z"]);
    }
}
