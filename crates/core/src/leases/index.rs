//! The time-ordered index of what ends: a directory per second, a bare name per thing that ends then.
//!
//! Ends are whole seconds, rounded up, so that nothing ends before the time that was promised. A renewal moves an end in
//! steps that grow with the life it asks for ([`moved`]), so most renewals find that the end there is will do: whoever
//! renews often writes seldom. Entries are names that grow with time (`tokens::names`). Memory holds none of
//! this. Deliberately absent: what is done with what ended.

use std::time::Duration;

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

/// An end as it is promised and kept: the next whole second.
#[must_use]
pub(crate) fn rounded(end: Timestamp) -> Timestamp {
    Timestamp::from_seconds(end.plus(Duration::from_nanos(999_999_999)).seconds())
}

/// The part of its life by which a renewal moves an end at a time.
const STEPS_PER_LIFE: u32 = 64;

/// Where a renewal for `ttl` from `now` on moves an end to; `None` when the one there is will do: it is not before what
/// is promised, and later by less than a step. No step goes beyond `latest`, when there is such a time.
pub(crate) fn moved(
    end: Option<Timestamp>,
    now: Timestamp,
    ttl: Duration,
    latest: Option<Timestamp>,
) -> Option<Timestamp> {
    let promised = rounded(now.plus(ttl));
    let Some(end) = end else { return Some(promised) };
    let step = (ttl / STEPS_PER_LIFE).as_secs().max(1);
    if end >= promised {
        // A shorter life was asked for on purpose.
        return (end.since(promised).as_secs() >= step).then_some(promised);
    }
    let steps = promised.since(end).as_secs().div_ceil(step);
    let kept = end.plus(Duration::from_secs(step.saturating_mul(steps)));
    Some(latest.map_or(kept, |latest| kept.min(rounded(latest))).max(promised))
}

/// What is shown of a life that ends at `end`: never more than was granted last, though it may end a step later.
pub(crate) fn shown(end: Timestamp, granted: Duration, now: Timestamp) -> Duration {
    end.since(now).min(granted)
}

/// The directory of a second.
pub(crate) fn bucket_name(second: i64) -> String {
    format!("{:016x}/", second.max(0))
}

/// The second of a directory, however its name was cut out.
pub(crate) fn second_of(name: &str) -> Option<i64> {
    i64::from_str_radix(name.strip_suffix('/').unwrap_or(name), 16).ok()
}

/// Enters what ends at `end`.
pub(crate) fn enter(txn: &mut Txn, ends: &KeyPrefix, end: Timestamp, name: &str) -> Result<(), Fault> {
    let key = ends.below(&bucket_name(end.seconds())).and_then(|at| at.key(name)).map_err(Fault::internal)?;
    // What ends is refused whether or not it stands here, and tidying finds it.
    txn.enter_if_readable(&key);
    Ok(())
}

/// Takes it out again.
pub(crate) fn leave(txn: &mut Txn, ends: &KeyPrefix, end: Timestamp, name: &str) -> Result<(), Fault> {
    let key = ends.below(&bucket_name(end.seconds())).and_then(|at| at.key(name)).map_err(Fault::internal)?;
    txn.leave(&key);
    Ok(())
}

/// The first directory, when its time has come.
pub(crate) fn first_due(txn: &mut Txn, ends: &KeyPrefix, now: Timestamp) -> Result<Option<KeyPrefix>, Fault> {
    let (first, is_damaged) = txn.first_readable(ends).map_err(Fault::internal)?;
    if is_damaged {
        // What a damaged block leads to is found by tidying; what comes after it ends as ever.
        tracing::error!("a block of the index of ends cannot be read: tidy leases and tokens to find what it led to");
    }
    let Some(first) = first else { return Ok(None) };
    if second_of(&first).is_some_and(|second| second > now.seconds()) {
        return Ok(None);
    }
    ends.below(&first).map(Some).map_err(Fault::internal)
}

/// At most `limit` things that end in a second; `None` when the second cannot be read. Then it is set aside, and whoever
/// asked orders that what it led to is looked for.
pub(crate) fn page(
    txn: &mut Txn,
    bucket: &KeyPrefix,
    aside: &KeyPrefix,
    limit: usize,
    now: Timestamp,
) -> Result<Option<Vec<String>>, Fault> {
    match txn.list(bucket, None, limit) {
        Ok(names) => Ok(Some(names)),
        Err(error) if error.is_damage() => {
            let name = bucket.as_str().trim_end_matches('/').replace('/', "-");
            set_aside(txn, aside, &name, error.to_string(), now)?;
            txn.detach(bucket);
            Ok(None)
        }
        Err(error) => Err(Fault::internal(error)),
    }
}

/// An entry of the index that was set aside because what it leads to cannot be read.
#[derive(Record)]
#[record(kind = "set-aside", version = 1)]
pub struct SetAside {
    /// When.
    pub since: Timestamp,
    /// What is wrong.
    pub reason: String,
}

/// Sets an entry aside: it stays visible, and stands in nobody's way.
pub(crate) fn set_aside(
    txn: &mut Txn,
    aside: &KeyPrefix,
    name: &str,
    reason: String,
    now: Timestamp,
) -> Result<(), Fault> {
    tracing::error!(%reason, "a stored record cannot be read when its time has come: it is set aside");
    let key = aside.key(name).map_err(Fault::internal)?;
    txn.write(&key, &SetAside { since: now, reason }.encode()).map_err(Fault::internal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_renewed_end_is_never_before_the_promise_nor_a_step_after_it(
            lives in proptest::collection::vec((0_u64..4_000_000_000, 1_u64..3_000_000), 1..40),
            max in proptest::option::of(1_u64..5_000_000),
        ) {
            let latest = max.map(|max| Timestamp::from_seconds(1_000_000).plus(Duration::from_secs(max)));
            let (mut end, mut now) = (None, Timestamp::from_seconds(1_000_000));
            for (pass, ttl) in lives {
                now = now.plus(Duration::from_nanos(pass));
                let ttl = latest.map_or(Duration::from_secs(ttl), |latest| latest.since(now).min(Duration::from_secs(ttl)));
                let promised = rounded(now.plus(ttl));
                let before: Option<Timestamp> = end;
                let after = moved(end, now, ttl, latest).or(end).unwrap();
                let step = Duration::from_secs((ttl.as_secs() / 64).max(1));
                proptest::prop_assert!(after >= promised && after < promised.plus(step), "{after:?} {promised:?}");
                proptest::prop_assert!(latest.is_none_or(|latest| after <= rounded(latest)));
                proptest::prop_assert!(shown(after, ttl, now) == ttl);
                // What moves moves by a step at least, but for the last.
                if let Some(before) = before && after > before && latest.is_none_or(|latest| after < rounded(latest)) {
                    proptest::prop_assert!(after.since(before) >= step);
                }
                end = Some(after);
            }
        }
    }

    #[test]
    fn an_end_is_the_next_whole_second_and_never_before_the_promise() {
        for (promised, kept) in [(0, 0), (1, 1), (999_999_999, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            let end = rounded(Timestamp::from_nanos(promised));
            assert_eq!(end, Timestamp::from_seconds(kept));
            assert!(end >= Timestamp::from_nanos(promised));
        }
        let far = rounded(Timestamp::from_nanos(i64::MAX));
        assert_eq!(second_of(&bucket_name(far.seconds())), Some(far.seconds()));
        assert!(bucket_name(9) < bucket_name(10));
        assert_eq!(second_of("no number/"), None);
    }
}
