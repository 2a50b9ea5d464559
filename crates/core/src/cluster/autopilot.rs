//! What the leader makes of the nodes that it hears: who is healthy, who has been for long enough to vote, who is dead.
//!
//! Time is counted in looks, so that a clock that is set makes nobody dead. Deliberately absent: acting on it
//! ([`membership`](super::membership)), and the reference's upgrades by version.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tresor_barrier::Txn;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_record::Record;

use super::{Contact, Entry, Member};
use crate::keys;

/// How often the leader looks.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// What the operator decided; durations in seconds.
#[derive(Record, Clone, Debug, PartialEq, Eq)]
#[record(kind = "autopilot", version = 1)]
pub struct Autopilot {
    /// Whether nodes that are dead are removed.
    pub cleanup_dead_servers: bool,
    /// A node that has not been heard for longer is not healthy.
    pub last_contact_threshold: u64,
    /// A node that has not been heard for longer is dead.
    pub dead_server_last_contact_threshold: u64,
    /// A node that lacks more entries than these is not healthy.
    pub max_trailing_logs: u64,
    /// So many voters are left at least by a removal.
    pub min_quorum: u64,
    /// So long a node that joined must have been healthy before it votes.
    pub server_stabilization_time: u64,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: 10,
            dead_server_last_contact_threshold: 24 * 3600,
            max_trailing_logs: 1000,
            min_quorum: 3,
            server_stabilization_time: 10,
        }
    }
}

/// The fewest voters that a removal may ever leave.
const QUORUM_MIN: u64 = 3;
/// The shortest time after which a node may count as dead.
const DEAD_AFTER_MIN: u64 = 60;

impl Autopilot {
    /// As it is stored; the defaults where nothing is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(txn: &mut Txn) -> Result<Self, Fault> {
        let stored = txn.read(&keys::autopilot().map_err(Fault::internal)?).map_err(Fault::internal)?;
        stored.map_or_else(|| Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(Fault::internal))
    }

    /// Stores it.
    ///
    /// # Errors
    /// A refusal when it makes no sense; a failure when the store fails.
    pub fn store(&self, txn: &mut Txn) -> Result<(), Fault> {
        if self.cleanup_dead_servers && self.min_quorum < QUORUM_MIN {
            return Err(Fault::invalid("min_quorum must be at least 3 while cleanup_dead_servers is set"));
        }
        if self.cleanup_dead_servers && self.dead_server_last_contact_threshold < DEAD_AFTER_MIN {
            return Err(Fault::invalid("dead_server_last_contact_threshold must be at least 1m"));
        }
        txn.write(&keys::autopilot().map_err(Fault::internal)?, &self.encode()).map_err(Fault::internal)
    }
}

/// A node, as the leader judges it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Who it is.
    pub contact: Contact,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// How long ago it was heard, or how long this node has led without hearing it.
    pub silent_for: Duration,
    /// Up to which entry it has the log.
    pub matched: Entry,
    /// The level of the API that its release has, if that is known.
    pub version: Option<String>,
    /// Whether it is heard, and has nearly all of the log.
    pub is_healthy: bool,
    /// Whether it has been for long enough to vote.
    pub is_stable: bool,
    /// Since when it is healthy, as far as this node knows.
    pub stable_since: Option<Timestamp>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The nodes.
    pub servers: Vec<Server>,
    /// How many healthy voters may fail, so that a majority is left.
    pub failure_tolerance: usize,
}

/// So few of so many voters are healthy that they agree on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFew {
    healthy: usize,
    of: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} of the {} nodes that would have to agree are heard", self.healthy, self.of)
    }
}

/// What the leader saw since it leads.
#[derive(Default)]
pub(crate) struct Watch {
    term: u64,
    looks: u32,
    /// Since when a node is healthy, and since which look.
    healthy: BTreeMap<[u8; 32], (Timestamp, u32)>,
}

impl Watch {
    /// Looks again; once a second.
    pub(crate) fn look(&mut self, rules: &Autopilot, now: Timestamp, term: u64, last: u64, members: &[Member]) {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        self.looks = self.looks.saturating_add(1);
        let looks = self.looks;
        let judged = self.judge(rules, last, members);
        self.healthy
            .retain(|key, _| judged.servers.iter().any(|server| server.is_healthy && server.contact.key == *key));
        for server in judged.servers.into_iter().filter(|server| server.is_healthy) {
            self.healthy.entry(server.contact.key).or_insert((now, looks));
        }
    }

    /// What is to be thought of the nodes.
    pub(crate) fn judge(&self, rules: &Autopilot, last: u64, members: &[Member]) -> Judged {
        let stabilization = Duration::from_secs(rules.server_stabilization_time);
        let led_for = LOOK * self.looks;
        // A leader that has only begun has seen nobody for long; a cluster that is being built need not wait for it.
        let required = if led_for <= stabilization + stabilization / 10 { Duration::ZERO } else { stabilization };
        let server = |member: &Member| {
            let silent_for = if member.is_leader { Duration::ZERO } else { member.heard_ago.unwrap_or(led_for) };
            let matched = member.matched.unwrap_or_default();
            let is_heard = member.is_leader || member.heard_ago.is_some();
            let is_healthy = is_heard
                && silent_for <= Duration::from_secs(rules.last_contact_threshold)
                && (member.is_leader || last.saturating_sub(matched.index) <= rules.max_trailing_logs);
            let since = self.healthy.get(&member.contact.key).filter(|_| is_healthy);
            Server {
                contact: member.contact.clone(),
                is_voter: member.is_voter,
                is_leader: member.is_leader,
                silent_for,
                matched,
                version: member.version.clone(),
                is_healthy,
                is_stable: since.is_some_and(|(_, look)| LOOK * self.looks.saturating_sub(*look) >= required),
                stable_since: since.map(|(at, _)| *at),
            }
        };
        let mut servers: Vec<Server> = members.iter().map(server).collect();
        servers.sort_by(|a, b| a.contact.name.cmp(&b.contact.name));
        let voters = servers.iter().filter(|server| server.is_voter);
        let (count, healthy) =
            voters.fold((0, 0), |(count, healthy), voter| (count + 1, healthy + usize::from(voter.is_healthy)));
        let failure_tolerance = healthy.saturating_sub(count / 2 + 1);
        Judged { servers, failure_tolerance }
    }
}

impl Judged {
    /// Whether there is a majority of healthy voters among those of now and among those that are left without this one's
    /// vote: without both, a change would begin and not end. A node that has no vote is missed by nobody.
    pub(crate) fn can_do_without(&self, name: &str) -> Result<(), TooFew> {
        let is_it = |server: &&Server| server.contact.name == name;
        if !self.servers.iter().filter(is_it).any(|server| server.is_voter) {
            return Ok(());
        }
        let voters = || self.servers.iter().filter(|server| server.is_voter);
        for (of, without) in [(voters().count(), None), (voters().count().saturating_sub(1), Some(name))] {
            let healthy = voters().filter(|one| one.is_healthy && without != Some(one.contact.name.as_str())).count();
            if of > 0 && healthy <= of / 2 {
                return Err(TooFew { healthy, of });
            }
        }
        Ok(())
    }

    /// Who is to be removed now, if anybody: one at a time, and never one whose absence would leave too few voters, or too
    /// few of them healthy.
    pub(crate) fn dead(&self, rules: &Autopilot) -> Option<&Server> {
        if !rules.cleanup_dead_servers {
            return None;
        }
        let dead_after = Duration::from_secs(rules.dead_server_last_contact_threshold);
        let voters = || self.servers.iter().filter(|server| server.is_voter);
        let left = voters().count().saturating_sub(1);
        let healthy = voters().filter(|server| server.is_healthy).count();
        let may_lose_voter = left as u64 >= rules.min_quorum.max(QUORUM_MIN) && healthy > left / 2;
        self.servers.iter().find(|server| {
            !server.is_leader
                && !server.is_healthy
                && server.silent_for > dead_after
                && (!server.is_voter || may_lose_voter)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn member(number: u8, is_voter: bool, heard_ago: Option<Duration>, matched: u64) -> Member {
        let contact = Contact {
            name: format!("n{number}"),
            key: [number; 32],
            cluster_address: String::new(),
            api_address: String::new(),
        };
        let matched = Some(Entry { term: 1, index: matched });
        Member { contact, is_voter, is_leader: number == 0, heard_ago, matched, version: None }
    }

    fn cluster(voters: u8, silent: &[(u8, Duration)]) -> Vec<Member> {
        let heard = |number| silent.iter().find(|(one, _)| *one == number).map_or(Duration::ZERO, |(_, ago)| *ago);
        (0..voters).map(|number| member(number, true, Some(heard(number)), 100)).collect()
    }

    fn dead(members: &[Member], rules: &Autopilot) -> Option<String> {
        Some(Watch::default().judge(rules, 100, members).dead(rules)?.contact.name.clone())
    }

    #[test]
    fn a_dead_node_is_removed_as_long_as_enough_voters_are_left_and_healthy() {
        let rules = Autopilot::default();
        assert_eq!(dead(&cluster(5, &[(4, HOUR * 25)]), &rules).as_deref(), Some("n4"));
        assert_eq!(dead(&cluster(5, &[(4, HOUR * 23)]), &rules), None, "not long enough");
        assert_eq!(dead(&cluster(4, &[(3, HOUR * 25)]), &rules).as_deref(), Some("n3"));
        assert_eq!(dead(&cluster(3, &[(2, HOUR * 25)]), &rules), None, "three voters are left alone");
        // Two of those that would be left are not healthy either, so two healthy ones would have to agree for four.
        let many = [(4, HOUR * 25), (3, HOUR), (2, HOUR)];
        assert_eq!(dead(&cluster(5, &many), &rules), None, "too few are healthy");
        let off = Autopilot { cleanup_dead_servers: false, ..rules.clone() };
        assert_eq!(dead(&cluster(5, &[(4, HOUR * 25)]), &off), None);
        let large = Autopilot { min_quorum: 5, ..rules.clone() };
        assert_eq!(dead(&cluster(5, &[(4, HOUR * 25)]), &large), None);
        let mut with_learner = cluster(3, &[]);
        with_learner.push(member(7, false, Some(HOUR * 25), 0));
        assert_eq!(dead(&with_learner, &rules).as_deref(), Some("n7"), "one without a vote is missed by no majority");
        // A node that this leader never heard is dead only after it has led for that long.
        let unheard = [cluster(4, &[]), vec![member(9, true, None, 0)]].concat();
        assert_eq!(dead(&unheard, &rules), None);
        let watch = Watch { looks: 24 * 3600 + 1, ..Watch::default() };
        assert_eq!(watch.judge(&rules, 100, &unheard).dead(&rules).unwrap().contact.name, "n9");
    }

    #[test]
    fn a_vote_is_taken_only_while_those_with_and_those_without_it_can_agree() {
        let rules = Autopilot::default();
        let asked = |members: &[Member], name| Watch::default().judge(&rules, 100, members).can_do_without(name);
        let gone = |number| (number, HOUR);
        assert_eq!(asked(&cluster(5, &[gone(4), gone(3)]), "n2"), Err(TooFew { healthy: 2, of: 4 }));
        assert_eq!(asked(&cluster(5, &[gone(4), gone(3)]), "n0"), Err(TooFew { healthy: 2, of: 4 }), "the leader, too");
        assert_eq!(asked(&cluster(5, &[gone(4), gone(3)]), "n4"), Ok(()), "it is what helps");
        assert_eq!(asked(&cluster(3, &[gone(2)]), "n1"), Err(TooFew { healthy: 1, of: 2 }));
        assert_eq!(asked(&cluster(3, &[gone(2)]), "n2"), Ok(()));
        assert_eq!(asked(&cluster(2, &[gone(1)]), "n1"), Err(TooFew { healthy: 1, of: 2 }), "nobody agrees to that");
        assert_eq!(asked(&cluster(2, &[]), "n0"), Ok(()));
        let mut with_learner = cluster(3, &[gone(2)]);
        with_learner.push(member(7, false, None, 0));
        assert_eq!(asked(&with_learner, "n7"), Ok(()));
        assert_eq!(asked(&with_learner, "stranger"), Ok(()), "who that is, is said elsewhere");
    }

    #[test]
    fn a_node_is_stable_when_it_was_healthy_for_long_enough_and_at_once_while_its_leader_is_young() {
        let (rules, now) = (Autopilot::default(), Timestamp::EPOCH);
        let mut watch = Watch::default();
        let joined = |heard, matched| [cluster(3, &[]), vec![member(7, false, heard, matched)]].concat();
        let is_stable = |watch: &Watch, members: &[Member]| watch.judge(&rules, 2000, members).servers[3].is_stable;
        let healthy = joined(Some(Duration::ZERO), 1500);
        watch.look(&rules, now, 1, 2000, &healthy);
        assert!(is_stable(&watch, &healthy), "the leader has only begun");
        for _ in 0..20 {
            watch.look(&rules, now, 1, 2000, &joined(Some(Duration::ZERO), 900));
        }
        assert!(!is_stable(&watch, &healthy), "it lacked too much until now");
        for look in 0..12 {
            watch.look(&rules, now, 1, 2000, &healthy);
            assert_eq!(is_stable(&watch, &healthy), look >= 10, "look {look}");
        }
        watch.look(&rules, now, 1, 2000, &joined(Some(HOUR), 1500));
        assert!(!is_stable(&watch, &healthy), "it was not heard");
    }

    #[test]
    fn as_many_may_fail_as_leave_a_majority() {
        let rules = Autopilot::default();
        let tolerance = |members: &[Member]| Watch::default().judge(&rules, 100, members).failure_tolerance;
        assert_eq!(tolerance(&cluster(1, &[])), 0);
        assert_eq!(tolerance(&cluster(3, &[])), 1);
        assert_eq!(tolerance(&cluster(3, &[(2, HOUR)])), 0);
        assert_eq!(tolerance(&cluster(5, &[])), 2);
        assert_eq!(tolerance(&cluster(5, &[(1, HOUR), (2, HOUR), (3, HOUR)])), 0);
    }
}
