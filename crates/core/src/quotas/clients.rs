//! How many requests each client has made lately, for quotas on rates.
//!
//! A client is an address; of IPv6 the first 64 bits, since whoever has one such address has all of them. What is kept is
//! bounded whatever comes: a fixed number of places, of which a keyed mix of quota and address picks a set; in a full set
//! what ends soonest makes room, so who is shut out for long is forgotten last. Deliberately absent: a sweep (what is over
//! is overwritten), and any knowledge of paths.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tresor_env::Entropy;

/// How many sets of places there are.
const SETS: usize = 4096;
/// How many clients a set remembers.
const WAYS: usize = 16;

/// A bound on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Which quota it is.
    pub(crate) id: u64,
    /// How many requests there may be in an interval.
    pub(crate) requests: u64,
    /// How long an interval is.
    pub(crate) interval: Duration,
    /// How long a client that made too many is shut out; zero: until the interval ends.
    pub(crate) block: Duration,
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) is_allowed: bool,
    /// How many more there may be in this interval.
    pub(crate) remaining: u64,
    /// How long it takes until there may be more.
    pub(crate) until_more: Duration,
}

/// One client's use of one quota.
#[derive(Clone, Copy)]
struct Window {
    quota: u64,
    client: u128,
    began: Duration,
    taken: u64,
    /// Shut out until then.
    blocked_until: Duration,
    /// Nothing is to be remembered after that.
    ends: Duration,
}

/// The clients of a node; nothing is kept before there is a quota.
pub(crate) struct Clients {
    seed: [u64; 2],
    sets: OnceLock<Box<[Mutex<Vec<Window>>]>>,
}

impl Clients {
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        entropy.fill(&mut first);
        entropy.fill(&mut second);
        Self { seed: [u64::from_le_bytes(first), u64::from_le_bytes(second)], sets: OnceLock::new() }
    }

    /// Counts a request of a client against a rate; `now` is a moment of the monotonic clock.
    pub(crate) fn take(&self, rate: &Rate, address: IpAddr, now: Duration) -> Taken {
        let client = client(address);
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::new(Vec::new())).collect());
        // There is always one; without it nobody is shut out.
        let Some(set) = sets.get(self.set(rate.id, client)) else {
            return Taken { is_allowed: true, remaining: rate.requests, until_more: Duration::ZERO };
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Window { quota: rate.id, client, began: now, taken: 0, blocked_until: now, ends: now };
        let known = set.iter().position(|window| window.quota == rate.id && window.client == client);
        let at = known.unwrap_or_else(|| {
            if set.len() < WAYS {
                set.push(fresh);
                return set.len() - 1;
            }
            let soonest = set.iter().enumerate().min_by_key(|(_, window)| window.ends).map_or(0, |(at, _)| at);
            if let Some(place) = set.get_mut(soonest) {
                *place = fresh;
            }
            soonest
        });
        set.get_mut(at).unwrap_or(&mut fresh.clone()).take(rate, now)
    }

    /// Which set a client lies in: nobody outside can say which clients share one.
    fn set(&self, quota: u64, client: u128) -> usize {
        let [first, second] = self.seed;
        let (high, low) = halves(client);
        let mixed = mix(mix(high ^ first, low ^ second) ^ quota, first | 1);
        usize::try_from(mixed % SETS as u64).unwrap_or(0)
    }
}

impl Window {
    fn take(&mut self, rate: &Rate, now: Duration) -> Taken {
        let passed = now.saturating_sub(self.began);
        if passed >= rate.interval {
            let into = passed.as_nanos() % rate.interval.as_nanos().max(1);
            self.began = now.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)));
            self.taken = 0;
        }
        let until_next = (self.began + rate.interval).saturating_sub(now);
        if now < self.blocked_until {
            return Taken { is_allowed: false, remaining: 0, until_more: self.blocked_until.saturating_sub(now) };
        }
        let is_allowed = self.taken < rate.requests;
        if is_allowed {
            self.taken += 1;
        } else {
            self.blocked_until = now + rate.block;
        }
        let until_more = if is_allowed || rate.block.is_zero() { until_next } else { rate.block };
        self.ends = (self.began + rate.interval).max(self.blocked_until);
        Taken { is_allowed, remaining: rate.requests.saturating_sub(self.taken), until_more }
    }
}

fn client(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

fn halves(number: u128) -> (u64, u64) {
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    (u64::try_from(number >> 64).unwrap_or(0), low)
}

/// The two halves of a product, one over the other.
fn mix(a: u64, b: u64) -> u64 {
    let (high, low) = halves(u128::from(a) * u128::from(b));
    high ^ low
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tresor_env::doubles::TestDoors;

    use super::*;

    const RATE: Rate = Rate { id: 1, requests: 3, interval: Duration::from_secs(10), block: Duration::ZERO };

    fn clients() -> Clients {
        Clients::new(&*TestDoors::new(1).doors.entropy)
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_client_has_so_many_requests_in_an_interval() {
        let clients = clients();
        let take = |at: u64| clients.take(&RATE, v4(1), Duration::from_secs(at));
        assert_eq!(
            [take(5), take(6), take(7)].map(|taken| (taken.is_allowed, taken.remaining)),
            [(true, 2), (true, 1), (true, 0)]
        );
        let refused = Taken { is_allowed: false, remaining: 0, until_more: Duration::from_secs(7) };
        assert_eq!(take(8), refused);
        assert!(clients.take(&RATE, v4(2), Duration::from_secs(8)).is_allowed, "another client");
        assert!(clients.take(&Rate { id: 2, ..RATE }, v4(1), Duration::from_secs(8)).is_allowed, "another quota");
        // The next interval begins where this one ends, not when somebody asks.
        assert_eq!(take(17).until_more, Duration::from_secs(8));
        assert!([take(18), take(19)].iter().all(|taken| taken.is_allowed) && !take(20).is_allowed);
    }

    #[test]
    fn who_made_too_many_is_shut_out_for_as_long_as_the_quota_says() {
        let (clients, rate) = (clients(), Rate { block: Duration::from_secs(60), ..RATE });
        let take = |at: u64| clients.take(&rate, v4(1), Duration::from_secs(at));
        assert!((0..3).all(|at| take(at).is_allowed));
        assert_eq!(take(3), Taken { is_allowed: false, remaining: 0, until_more: Duration::from_secs(60) });
        // Asking again while it lasts makes it no longer.
        assert_eq!(take(62).until_more, Duration::from_secs(1));
        assert!(take(63).is_allowed);
    }

    #[test]
    fn a_whole_network_of_addresses_that_one_machine_has_is_one_client() {
        let clients = clients();
        let of = |network: u16, host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host));
        assert!((0..3).all(|host| clients.take(&RATE, of(1, host), Duration::ZERO).is_allowed));
        assert!(!clients.take(&RATE, of(1, 9), Duration::ZERO).is_allowed);
        assert!(clients.take(&RATE, of(2, 9), Duration::ZERO).is_allowed);
        // One address in both spellings.
        let mapped = IpAddr::from(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert!((0..3).all(|_| clients.take(&RATE, mapped, Duration::ZERO).is_allowed));
        assert!(!clients.take(&RATE, Ipv4Addr::LOCALHOST.into(), Duration::ZERO).is_allowed);
    }

    #[test]
    fn whatever_comes_there_are_so_many_places_and_who_is_shut_out_longest_stays() {
        let clients = clients();
        let long = Rate { id: 2, requests: 1, block: Duration::from_secs(3600), ..RATE };
        assert!(clients.take(&long, v4(7), Duration::ZERO).is_allowed);
        assert!(!clients.take(&long, v4(7), Duration::ZERO).is_allowed);
        for number in 0..200_000 {
            assert!(clients.take(&RATE, v4(number), Duration::ZERO).is_allowed);
        }
        let kept: usize = clients.sets.get().unwrap().iter().map(|set| set.lock().unwrap().len()).sum();
        assert_eq!(kept, SETS * WAYS);
        assert!(!clients.take(&long, v4(7), Duration::from_secs(3599)).is_allowed);
    }
}
