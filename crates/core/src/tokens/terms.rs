//! How long a token lives: one place for the capping rules of creation and renewal (DR-16).
//!
//! A life is the wish, else the mount's default, capped by the mount's maximum, by the role's or user's maximum and
//! by the explicit maximum, all counted from creation. A periodic token lives one period at a time, for ever unless
//! there is an explicit maximum; a single period is no longer than the mount's maximum. Deliberately absent: "never"; only a root token has no end, and that is decided by
//! who mints it.

use std::time::Duration;

use tresor_model::Timestamp;

use crate::leases::index::rounded;

/// The limits that cap a life; zero durations mean "no such limit", except for the mount's two.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The mount's default life.
    pub mount_default: Duration,
    /// The mount's longest life.
    pub mount_max: Duration,
    /// The role's or user's longest life.
    pub max: Duration,
    /// The explicit longest life.
    pub explicit_max: Duration,
    /// The period.
    pub period: Duration,
}

/// A life that was decided on, and what had to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// From now to the end.
    pub ttl: Duration,
    /// The time that no renewal leads beyond; a periodic life has none.
    pub latest: Option<Timestamp>,
    /// Hints for the caller.
    pub warnings: Vec<String>,
}

/// Decides the life from `now` on of a token made at `created`.
#[must_use]
pub fn decide(wish: Option<Duration>, limits: &Limits, created: Timestamp, now: Timestamp) -> Life {
    let mut warnings = Vec::new();
    // What lives to a maximum lives to the end of that second, as every token does; so it can be renewed until then.
    let left = |longest: Duration| rounded(created.plus(longest)).since(now).min(longest);
    let mut latest: Option<Timestamp> = None;
    let wanted = if limits.period.is_zero() {
        wish.filter(|ttl| !ttl.is_zero()).unwrap_or(limits.mount_default)
    } else {
        limits.period
    };
    let mut ttl = wanted;
    if !limits.period.is_zero() {
        ttl = cap(
            ttl,
            limits.mount_max,
            "period of \"{wanted}\" exceeded the effective max_ttl of \"{longest}\"",
            limits.mount_max,
            &mut warnings,
        );
    } else {
        let mut longest = limits.mount_max;
        if !limits.max.is_zero() {
            longest = longest.min(limits.max);
        }
        latest = Some(rounded(created.plus(longest)));
        ttl = cap(
            ttl,
            left(longest),
            "TTL of \"{wanted}\" exceeded the effective max_ttl of \"{longest}\"",
            longest,
            &mut warnings,
        );
    }
    if !limits.explicit_max.is_zero() {
        let longest = limits.explicit_max;
        let end = rounded(created.plus(longest));
        latest = Some(latest.map_or(end, |latest| latest.min(end)));
        ttl = cap(
            ttl,
            left(longest),
            "TTL of \"{wanted}\" exceeded the explicit max_ttl of \"{longest}\"",
            longest,
            &mut warnings,
        );
    }
    Life { ttl, latest, warnings }
}

fn cap(ttl: Duration, left: Duration, template: &str, longest: Duration, warnings: &mut Vec<String>) -> Duration {
    if ttl <= left {
        return ttl;
    }
    let text = template
        .replace("{wanted}", &tresor_wire::duration::print_go(ttl))
        .replace("{longest}", &tresor_wire::duration::print_go(longest));
    warnings.push(format!("{text}; TTL value is capped accordingly"));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hours(count: u64) -> Duration {
        Duration::from_secs(count * 3600)
    }

    const LIMITS: Limits = Limits {
        mount_default: hours(768),
        mount_max: hours(768),
        max: Duration::ZERO,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };

    fn at(hour: u64) -> Timestamp {
        Timestamp::EPOCH.plus(hours(hour))
    }

    #[test]
    fn a_wish_is_capped_by_every_maximum_counted_from_creation() {
        let created = at(0);
        assert_eq!(decide(None, &LIMITS, created, created).ttl, hours(768));
        assert_eq!(decide(Some(hours(1)), &LIMITS, created, created).ttl, hours(1));
        assert_eq!(decide(Some(hours(1000)), &LIMITS, created, created).ttl, hours(768));
        assert_eq!(decide(Some(hours(5)), &LIMITS, created, at(766)).ttl, hours(2));
        let strict = Limits { explicit_max: hours(4), ..LIMITS };
        assert_eq!(decide(Some(hours(5)), &strict, created, at(3)).ttl, hours(1));
        assert_eq!(decide(Some(hours(5)), &strict, created, at(5)).ttl, Duration::ZERO);
    }

    #[test]
    fn a_maximum_reaches_to_the_end_of_its_second() {
        let created = at(0).plus(Duration::from_millis(400));
        let strict = Limits { explicit_max: hours(4), ..LIMITS };
        let late = created.plus(hours(4)).plus(Duration::from_millis(100));
        assert_eq!(decide(Some(hours(5)), &strict, created, late).ttl, Duration::from_millis(500));
        assert_eq!(decide(Some(hours(5)), &strict, created, at(4).plus(Duration::from_secs(1))).ttl, Duration::ZERO);
        let early = Timestamp::EPOCH;
        assert_eq!(
            decide(Some(hours(5)), &strict, at(1), early).ttl,
            hours(4),
            "a clock that was set back gives no more"
        );
    }

    #[test]
    fn a_period_outlives_the_mounts_maximum_but_not_the_explicit_one() {
        let created = at(0);
        let endless = Limits { period: hours(1_000_000), ..LIMITS };
        let life = decide(None, &endless, created, created);
        assert_eq!((life.ttl, life.warnings.len()), (hours(768), 1), "one period is capped");
        let periodic = Limits { period: hours(1), ..LIMITS };
        assert_eq!(decide(Some(hours(9)), &periodic, created, at(5000)).ttl, hours(1));
        let bounded = Limits { explicit_max: hours(2), ..periodic };
        assert_eq!(decide(None, &bounded, created, at(2)).ttl, Duration::ZERO);
    }
}
