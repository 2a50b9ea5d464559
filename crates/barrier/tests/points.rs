//! Records that no directory lists, names without records, and tallies: what they cost, when they conflict, and that
//! counts are exact.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_barrier::{Area, Barrier, CommitError, KeyPrefix, Lane, PointKey, SealedStore, StorageKey};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_model::ids::NamespaceId;
use tresor_storage::MemoryStore;

const ANY: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;

fn point(name: &str) -> PointKey {
    PointKey::new(&NamespaceId::root(), Area::Tokens, name).unwrap()
}

fn open() -> (Arc<MemoryStore>, Barrier) {
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), TestDoors::new(1).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    (store, prepared.store(first).now_or_never().unwrap().unwrap().1)
}

#[tokio::test]
async fn a_point_costs_one_record_and_is_in_no_listing() {
    let (store, barrier) = open();
    let before = store.dump().len();
    let mut txn = barrier.begin().unwrap();
    txn.write(&point("a/b"), b"1").unwrap();
    assert_eq!(&*txn.read(&point("a/b")).unwrap().unwrap(), b"1", "its own writes are seen");
    barrier.commit(txn).await.unwrap();
    assert_eq!(store.dump().len(), before + 1, "no block of a directory");
    let mut txn = barrier.begin().unwrap();
    let all = KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "").unwrap();
    assert!(txn.list(&all, None, 10).unwrap().is_empty());
    // A listed record of the same name is another record.
    let listed = StorageKey::new(&NamespaceId::root(), Area::Tokens, "a/b").unwrap();
    assert!(txn.read(&listed).unwrap().is_none());
    txn.delete(&point("a/b")).unwrap();
    assert!(!txn.contains(&point("a/b")).unwrap());
    barrier.commit(txn).await.unwrap();
    assert_eq!(store.dump().len(), before);
}

fn bare(name: &str) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Tokens, name).unwrap()
}

#[tokio::test]
async fn a_bare_name_costs_its_place_in_a_block_and_nothing_else() {
    let (store, barrier) = open();
    let before = store.dump().len();
    let below = KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "i/").unwrap();
    let mut txn = barrier.begin().unwrap();
    (0..90).for_each(|at| txn.enter(&bare(&format!("i/{at:02}"))));
    txn.leave(&bare("i/07"));
    assert_eq!(txn.list(&below, None, 100).unwrap().len(), 89, "its own names are seen");
    assert_eq!(barrier.commit(txn).await.unwrap().changed.len(), 90, "who follows is told of each");
    // The block of `i/`, and those of the directories that lead there.
    let blocks = store.dump().len() - before;
    assert!(blocks <= 4, "{blocks} blocks");
    let mut txn = barrier.begin().unwrap();
    assert_eq!(txn.list(&below, Some("87"), 100).unwrap(), ["88", "89"]);
    assert!(txn.read(&bare("i/08")).unwrap().is_none(), "there is no record");
    (0..90).for_each(|at| txn.leave(&bare(&format!("i/{at:02}"))));
    assert!(txn.list(&below, None, 100).unwrap().is_empty());
    barrier.commit(txn).await.unwrap();
    assert_eq!(store.dump().len(), before);
}

#[tokio::test]
async fn a_glance_finds_a_name_by_how_it_begins_and_is_not_relied_on() {
    let (_, barrier) = open();
    let below = KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "i/").unwrap();
    let mut txn = barrier.begin().unwrap();
    (0..5_000).for_each(|at| txn.enter(&bare(&format!("i/{at:04}-{}", at * 7))));
    barrier.commit(txn).await.unwrap();
    let mut reader = barrier.begin().unwrap();
    for at in [0, 1, 95, 96, 97, 2_500, 4_999] {
        let name = format!("{at:04}-{}", at * 7);
        assert_eq!(reader.glance(&below, &name[..5]).unwrap(), Some(name));
    }
    for absent in ["5000-", "0000-1", "/", "a"] {
        assert_eq!(reader.glance(&below, absent).unwrap(), None, "{absent}");
    }
    reader.enter(&bare("i/9999-own"));
    assert_eq!(reader.glance(&below, "9999-").unwrap().as_deref(), Some("9999-own"));
    reader.leave(&bare("i/0000-0"));
    assert_eq!(reader.glance(&below, "0000-").unwrap(), None);
    // Others enter beside what it saw: it stands all the same.
    let mut writer = barrier.begin().unwrap();
    writer.enter(&bare("i/2500-x"));
    barrier.commit(writer).await.unwrap();
    barrier.commit(reader).await.unwrap();
}

#[tokio::test]
async fn who_listed_bare_names_conflicts_with_who_entered_one() {
    let (_, barrier) = open();
    let below = KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "i/").unwrap();
    let mut reader = barrier.begin().unwrap();
    assert!(reader.list(&below, None, 1).unwrap().is_empty());
    reader.write(&point("m"), b"nothing below").unwrap();
    let mut writer = barrier.begin().unwrap();
    writer.enter(&bare("i/1"));
    barrier.commit(writer).await.unwrap();
    assert!(matches!(barrier.commit(reader).await, Err(CommitError::Conflict)));
}

#[tokio::test]
async fn who_read_a_point_conflicts_with_who_changed_it() {
    let (_, barrier) = open();
    let mut reader = barrier.begin().unwrap();
    assert!(reader.read(&point("n")).unwrap().is_none());
    reader.write(&point("m"), b"from n").unwrap();
    let mut writer = barrier.begin().unwrap();
    writer.write(&point("n"), b"1").unwrap();
    barrier.commit(writer).await.unwrap();
    assert!(matches!(barrier.commit(reader).await, Err(CommitError::Conflict)));
}

#[tokio::test]
async fn tallies_add_up_whatever_goes_on_at_once_and_keep_their_bounds_exactly() {
    let (store, barrier) = open();
    let before = store.dump().len();
    // A hundred transactions on one snapshot; at most 30 may count.
    let txns: Vec<_> = (0..100)
        .map(|at| {
            let mut txn = barrier.begin().unwrap();
            txn.count(&point("live"), "mount", 1, &(i64::MIN..=30));
            txn.write(&point(&format!("of/{at}")), b"x").unwrap();
            txn
        })
        .collect();
    let commits = txns.into_iter().map(|txn| barrier.commit(txn));
    let outcomes = futures_util::future::join_all(commits).await;
    let (stood, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((stood.len(), refused.len()), (30, 70));
    assert!(refused.iter().all(|outcome| matches!(outcome, Err(CommitError::OutOfBounds))));
    assert_eq!(store.dump().len(), before + 31, "what was refused wrote nothing");
    let mut txn = barrier.begin().unwrap();
    assert_eq!(txn.tally(&point("live")).unwrap(), BTreeMap::from([("mount".to_owned(), 30)]));
    // Down to nothing, and not below.
    txn.count(&point("live"), "mount", -30, &(0..=i64::MAX));
    assert!(txn.tally(&point("live")).unwrap().is_empty(), "its own changes are seen");
    let mut other = barrier.begin().unwrap();
    other.count(&point("live"), "mount", -1, &(0..=i64::MAX));
    barrier.commit(txn).await.unwrap();
    assert!(matches!(barrier.commit(other).await, Err(CommitError::OutOfBounds)));
    assert_eq!(store.dump().len(), before + 30, "an empty tally is no record");
}

#[tokio::test]
async fn a_number_beyond_its_bound_may_come_back() {
    let (_, barrier) = open();
    for (delta, bounds, stands) in
        [(5, ANY, true), (1, i64::MIN..=2, false), (-1, i64::MIN..=2, true), (-9, 0..=i64::MAX, false)]
    {
        let mut txn = barrier.begin().unwrap();
        txn.count(&point("n"), "", delta, &bounds);
        assert_eq!(barrier.commit(txn).await.is_ok(), stands, "{delta} within {bounds:?}");
    }
    assert_eq!(barrier.begin().unwrap().tally(&point("n")).unwrap()[""], 4);
}

#[tokio::test]
async fn a_transaction_that_conflicts_counts_nothing() {
    let (_, barrier) = open();
    let mut stale = barrier.begin().unwrap();
    stale.read(&point("n")).unwrap();
    stale.count(&point("t"), "", 1, &ANY);
    let mut first = barrier.begin().unwrap();
    first.write(&point("n"), b"1").unwrap();
    first.count(&point("t"), "", 1, &ANY);
    barrier.commit(first).await.unwrap();
    assert!(matches!(barrier.commit(stale).await, Err(CommitError::Conflict)));
    assert_eq!(barrier.begin().unwrap().tally(&point("t")).unwrap()[""], 1);
}

#[tokio::test]
async fn what_a_tally_holds_at_the_commit_is_taken_off_another() {
    let (store, barrier) = open();
    let before = store.dump().len();
    let add = |number: i64| {
        let mut txn = barrier.begin().unwrap();
        txn.count(&point("part"), "m", number, &ANY);
        txn.count(&point("whole"), "m", number, &ANY);
        txn
    };
    barrier.commit(add(3)).await.unwrap();
    let mut cut = barrier.begin().unwrap();
    cut.take_off(&point("part"), &point("whole"));
    cut.forget_tally(&point("part"));
    // Counted after the cut was begun, before it is committed.
    let mut more = add(4);
    more.count(&point("whole"), "n", 2, &ANY);
    barrier.commit(more).await.unwrap();
    barrier.commit(cut).await.unwrap();
    let mut txn = barrier.begin().unwrap();
    assert_eq!(txn.tally(&point("whole")).unwrap(), BTreeMap::from([("n".to_owned(), 2)]));
    assert!(txn.tally(&point("part")).unwrap().is_empty());
    assert_eq!(store.dump().len(), before + 1);
}

#[tokio::test]
async fn what_the_background_commits_beside_a_request_costs_no_batch_and_is_what_conflicts() {
    let (_, barrier) = open();
    let mut both = Vec::new();
    for value in [b"background", b"as request"] {
        let mut txn = barrier.begin().unwrap();
        assert!(!txn.contains(&point("same")).unwrap());
        txn.write(&point("same"), value).unwrap();
        both.push(txn);
    }
    let mut other = barrier.begin().unwrap();
    other.write(&point("other"), b"1").unwrap();
    let (request, background) = (both.pop().unwrap(), both.pop().unwrap());
    let (background, beside, request) = tokio::join!(
        barrier.commit_in(Lane::Background, background),
        barrier.commit_in(Lane::Background, other),
        barrier.commit(request),
    );
    assert!(matches!(background, Err(CommitError::Conflict)), "the request was there later, and goes first");
    assert_eq!(beside.unwrap().version, request.unwrap().version);
}

#[tokio::test]
async fn points_of_a_neighbourhood_lie_side_by_side_and_are_told_apart_by_name() {
    let (store, barrier) = open();
    let before = store.dump();
    let mut txn = barrier.begin().unwrap();
    for at in 0..64 {
        let name = point(&format!("a/{at}"));
        txn.write(&name.clone().beside(&format!("n{}", at % 4)), &[at]).unwrap();
        txn.write(&name, &[at + 100]).unwrap();
    }
    barrier.commit(txn).await.unwrap();
    let mut keys: Vec<Vec<u8>> = store.dump().into_iter().map(|(key, _)| key.as_bytes().to_vec()).collect();
    keys.retain(|key| !before.iter().any(|(known, _)| known.as_bytes() == key.as_slice()));
    let beside: Vec<&[u8]> = keys.iter().filter(|key| key[0] == 5).map(|key| &key[..9]).collect();
    assert_eq!((keys.len(), beside.len()), (128, 64));
    assert_eq!(beside.chunk_by(|one, other| one == other).count(), 4, "four runs in the order of the store");
    let mut txn = barrier.begin().unwrap();
    for at in 0..64_u8 {
        let name = point(&format!("a/{at}"));
        assert_eq!(&*txn.read(&name).unwrap().unwrap(), [at + 100]);
        assert_eq!(&*txn.read(&name.clone().beside(&format!("n{}", at % 4))).unwrap().unwrap(), [at]);
        assert!(txn.read(&name.beside("elsewhere")).unwrap().is_none());
    }
}

#[tokio::test]
async fn the_name_of_a_listed_number_stands_while_it_is_not_zero() {
    let (store, barrier) = open();
    let before = store.dump().len();
    let root = KeyPrefix::new(&NamespaceId::root(), Area::Core, "numbers/").unwrap();
    let names = ["a", "a/b", "c/d", "e"];
    let mut expected = [0_u64; 4];
    // Sixteen at once, some of which take away more than there is, and some of which conflict.
    for round in 0_i64..12 {
        let txns: Vec<_> = (0_i64..16)
            .map(|at| {
                let mut txn = barrier.begin().unwrap();
                let which = usize::try_from((round * 7 + at * 5) % 4).unwrap();
                let delta = (round * 3 + at * 11) % 5 - 2;
                let is_stale = at % 5 == 4;
                if is_stale {
                    txn.read(&point("seen")).unwrap();
                }
                txn.count_listed(&root.key(names[which]).unwrap(), delta);
                txn.write(&point(if at == 0 { "seen" } else { "own" }), b"x").unwrap();
                (txn, which, if is_stale { 0 } else { delta })
            })
            .collect();
        let (txns, told): (Vec<_>, Vec<_>) = txns.into_iter().map(|(txn, which, delta)| (txn, (which, delta))).unzip();
        drop(futures_util::future::join_all(txns.into_iter().map(|txn| barrier.commit(txn))).await);
        for (which, delta) in told {
            expected[which] = expected[which].saturating_add_signed(delta);
        }
        let mut txn = barrier.begin().unwrap();
        let mut listed = Vec::new();
        for directory in ["", "a/", "c/"] {
            let page = txn.list(&root.below(directory).unwrap(), None, 10).unwrap();
            listed.extend(page.iter().filter(|name| !name.ends_with('/')).map(|name| format!("{directory}{name}")));
        }
        listed.sort();
        let standing: Vec<_> =
            names.iter().zip(expected).filter(|(_, number)| *number > 0).map(|(name, _)| *name).collect();
        assert_eq!(listed, standing, "round {round}: {expected:?}");
        for (name, number) in names.iter().zip(expected) {
            assert_eq!(txn.listed(&root.key(name).unwrap()).unwrap(), number, "round {round}: {name}");
        }
    }
    assert!(expected.iter().any(|number| *number > 0));
    let mut txn = barrier.begin().unwrap();
    for name in names {
        txn.forget_listed(&root.key(name).unwrap());
    }
    txn.delete(&point("seen")).unwrap();
    txn.delete(&point("own")).unwrap();
    barrier.commit(txn).await.unwrap();
    assert_eq!(store.dump().len(), before, "nothing is left");
}
