//! Where who was counted is stored: a directory per month, whose names say it all.
//!
//! A name begins with the time at which a client came first, so a batch of them meets in the last blocks of the directory, and
//! reading goes in order of time. Deliberately absent: records, and names of people.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tresor_barrier::Txn;
use tresor_engine::view::fault;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_wire::month::Month;

use super::config::CountingConfig;
use super::{AT_ONCE, CLIENTS_MAX, Client, Clients, Short};
use crate::cached::every_name;
use crate::keys;

/// How many names of one month are read at most: those of all clients, and of some that were written down twice.
const NAMES_MAX: usize = 2 * CLIENTS_MAX;
/// Digits of a time in seconds.
const TIME_DIGITS: usize = 10;
/// Characters of an id.
const ID_CHARACTERS: usize = 43;

impl Client {
    fn spelled(&self) -> String {
        let time = |at: Timestamp| format!("{:010x}", at.seconds().max(0));
        let id = URL_SAFE_NO_PAD.encode(&self.id);
        let (first, created) = (time(self.first), time(self.created));
        format!("{first}{created}{id}~{}~{}", self.namespace, self.accessor)
    }

    fn parse(name: &str) -> Option<Self> {
        let time = |from: usize| {
            let digits = name.get(from..from + TIME_DIGITS)?;
            i64::from_str_radix(digits, 16).ok().map(Timestamp::from_seconds)
        };
        let (first, created) = (time(0)?, time(TIME_DIGITS)?);
        let rest = name.get(2 * TIME_DIGITS..)?;
        let id = URL_SAFE_NO_PAD.decode(rest.get(..ID_CHARACTERS)?).ok().filter(|id| id.len() == 32)?;
        let (namespace, accessor) = rest.get(ID_CHARACTERS..)?.strip_prefix('~')?.split_once('~')?;
        Some(Self { id, namespace: NamespaceId::new(namespace), accessor: accessor.to_owned(), created, first })
    }
}

/// Calls for each client of a month that is stored, each once, in order of time.
pub(super) fn each(txn: &mut Txn, month: Month, mut take: impl FnMut(Client)) -> Result<(), Fault> {
    let (mut seen, mut read) = (BTreeSet::<Short>::new(), 0_usize);
    for directory in directories(txn)?.into_iter().filter(|directory| directory.month == month) {
        let place = keys::clients_of(&directory.name).map_err(fault)?;
        let mut after: Option<String> = None;
        loop {
            let names = txn.list(&place, after.as_deref(), AT_ONCE).map_err(fault)?;
            let is_last = names.len() < AT_ONCE;
            read = read.saturating_add(names.len());
            // A name that is none is left out: there is nobody behind it.
            for client in names.iter().filter_map(|name| Client::parse(name)) {
                if seen.insert(client.short()) {
                    take(client);
                }
            }
            after = names.into_iter().next_back();
            if is_last || read >= NAMES_MAX {
                break;
            }
        }
    }
    Ok(())
}

/// The clients of a month since counting was switched on so often.
struct Directory {
    name: String,
    month: Month,
}

fn called(month: Month, since: u64) -> String {
    format!("{month}.{since}")
}

/// The months of which something is stored, in order; what is to be forgotten is not among them.
pub(super) fn months(txn: &mut Txn) -> Result<BTreeSet<Month>, Fault> {
    Ok(directories(txn)?.into_iter().map(|directory| directory.month).collect())
}

fn directories(txn: &mut Txn) -> Result<Vec<Directory>, Fault> {
    let discarded = discarded(txn)?;
    let mut found = all_directories(txn)?;
    found.retain(|directory| !discarded.contains(&directory.name));
    Ok(found)
}

fn all_directories(txn: &mut Txn) -> Result<Vec<Directory>, Fault> {
    let place = keys::clients().map_err(fault)?;
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let names = txn.list(&place, after.as_deref(), AT_ONCE).map_err(fault)?;
        found.extend(names.iter().filter_map(|name| {
            let name = name.strip_suffix('/')?;
            let (month, _) = name.split_once('.')?;
            Some(Directory { name: name.to_owned(), month: Month::parse(month)? })
        }));
        if names.len() < AT_ONCE {
            return Ok(found);
        }
        after = names.into_iter().next_back();
    }
}

fn discarded(txn: &mut Txn) -> Result<BTreeSet<String>, Fault> {
    Ok(every_name(txn, &keys::discarded_clients().map_err(fault)?).map_err(fault)?.into_iter().collect())
}

/// What was counted in a month counts no more, and is taken away.
pub(super) fn discard(txn: &mut Txn, month: Month, since: u64) -> Result<(), Fault> {
    txn.enter(&keys::discarded_clients().and_then(|at| at.key(&called(month, since))).map_err(fault)?);
    Ok(())
}

/// Takes away some of what is to be forgotten; whether there was any.
pub(super) fn forget_some(txn: &mut Txn, now: Timestamp) -> Result<bool, Fault> {
    let (kept_from, discarded) = (CountingConfig::stored(txn)?.kept_from(now), discarded(txn)?);
    let is_over = |directory: &Directory| directory.month < kept_from || discarded.contains(&directory.name);
    if let Some(directory) = all_directories(txn)?.into_iter().find(is_over) {
        let place = keys::clients_of(&directory.name).map_err(fault)?;
        let names = txn.list(&place, None, AT_ONCE).map_err(fault)?;
        for name in &names {
            txn.leave(&place.key(name).map_err(fault)?);
        }
        return Ok(!names.is_empty());
    }
    // Nothing is left of them.
    for name in &discarded {
        txn.leave(&keys::discarded_clients().and_then(|at| at.key(name)).map_err(fault)?);
    }
    Ok(!discarded.is_empty())
}

impl Clients {
    /// Takes in who is stored of this month and the one before, unless that was done since this node leads.
    pub(super) fn load(&self, txn: &mut Txn, now: Timestamp) -> Result<(), Fault> {
        let counting = {
            let table = self.table();
            if table.is_loaded || table.counting.is_none() {
                return Ok(());
            }
            table.counting
        };
        let this = Month::of(now);
        let mut stored = Vec::new();
        for month in [this.before(1), this] {
            each(txn, month, |client| stored.push((month, client.short())))?;
        }
        let mut table = self.table();
        if table.counting == counting {
            for (month, client) in stored {
                table.known.entry(month).or_default().insert(client);
                table.waiting.remove(&(month, client));
            }
            table.is_loaded = true;
        }
        Ok(())
    }

    /// Writes down some of those who wait; who that was, if anybody.
    pub(super) fn write_down(&self, txn: &mut Txn) -> Result<Option<Vec<(Month, Short)>>, Fault> {
        // Whoever switches it off meanwhile makes this come to nothing.
        let Some(since) = CountingConfig::stored(txn)?.counting() else { return Ok(None) };
        let table = self.table();
        if !table.is_loaded || table.counting != Some(since) || table.waiting.is_empty() {
            return Ok(None);
        }
        let mut written = Vec::new();
        for ((month, short), client) in table.waiting.iter().take(AT_ONCE) {
            let place = keys::clients_of(&called(*month, since)).map_err(fault)?;
            txn.enter(&place.key(&client.spelled()).map_err(fault)?);
            written.push((*month, *short));
        }
        Ok(Some(written))
    }

    /// They are stored.
    pub(super) fn are_stored(&self, written: &[(Month, Short)]) {
        let mut table = self.table();
        for client in written {
            table.waiting.remove(client);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    #[test]
    fn a_name_says_all_of_a_client_and_lies_in_order_of_time() {
        let client = |first: i64| Client {
            id: vec![0xff; 32],
            namespace: NamespaceId::new("aB3xYzrEaLm1"),
            accessor: "auth_userpass_1a2b3c4d.aB3xYzrEaLm1".to_owned(),
            created: Timestamp::from_seconds(1_790_000_000),
            first: Timestamp::from_seconds(first),
        };
        for first in [0, 1_796_083_199, i64::from(u32::MAX) + 5] {
            assert_eq!(Client::parse(&client(first).spelled()), Some(client(first)));
        }
        assert!(client(1_796_083_199).spelled() < client(1_796_083_200).spelled());
        let nowhere = Client { accessor: String::new(), ..client(1) };
        assert_eq!(Client::parse(&nowhere.spelled()), Some(nowhere));
    }

    #[test]
    fn what_is_no_name_of_a_client_is_none() {
        let whole = Client {
            id: vec![7; 32],
            namespace: NamespaceId::root(),
            accessor: "a".to_owned(),
            created: Timestamp::EPOCH,
            first: Timestamp::EPOCH,
        }
        .spelled();
        for end in 0..whole.len() - 2 {
            assert_eq!(Client::parse(&whole[..end]), None, "{end}");
        }
        for other in [whole.replacen('0', "x", 1), whole.replace('~', "-"), format!("ä{whole}"), "é".repeat(80)] {
            assert_eq!(Client::parse(&other), None, "{other}");
        }
    }
}
