//! What the scheme of names costs, measured beside the two it was chosen over: names in the clear in ordered keys,
//! and names encrypted segment by segment, sorted after decryption.
//!
//! `cargo bench -p tresor-barrier --bench names -- --keys 1000000`; without arguments it runs small, to see that it
//! runs. Deliberately absent: the pipeline above (policies, audit), and any framework.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark prints, and ends when something fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tresor_barrier::{Area, Barrier, KeyPrefix, Progress, SealedStore, ShareCollector, StorageKey};
use tresor_crypto::aead::AeadKey;
use tresor_crypto::hash::HmacKey;
use tresor_crypto::shamir::Threshold;
use tresor_env::{Doors, Entropy, Timestamp};
use tresor_model::ids::NamespaceId;
use tresor_secret::{DataKey, UnsealShare};
use tresor_storage::{MemoryStore, Store};
use tresor_storage_file::{FIRST_INDEX_NAME, FileStore, Limits};

/// Writers that wait at the same time.
const WRITERS: usize = 256;
/// Bytes of every value.
const VALUE_BYTES: usize = 200;
/// Names of a page.
const PAGE: usize = 100;
/// Directories of the spread scenario.
const DIRECTORIES: usize = 1000;
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--keys");
    let keys = arguments.nth(1).map_or(4096, |number| number.parse().unwrap());
    println!("{keys} keys, values of {VALUE_BYTES} bytes, {WRITERS} writers at once, pages of {PAGE} names\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        print_heading();
        let ours = measure_file(keys, Shape::OneDirectory).await;
        let clear = measure_baseline(keys, &Clear);
        let encrypted = measure_baseline(keys, &Deterministic::new());
        measure_file(keys, Shape::Spread).await;
        measure_memory(keys, Shape::OneDirectory).await;
        measure_memory(keys, Shape::Spread).await;
        compare(&ours, &clear, &encrypted);
        println!("\none writer that waits for each commit (durable store): {:.0} keys/s", single_writer(keys).await);
    });
}

/// Where the keys lie.
#[derive(Clone, Copy)]
enum Shape {
    OneDirectory,
    Spread,
}

/// What one scenario came to.
#[derive(Default)]
struct Measured {
    title: &'static str,
    created_per_second: f64,
    /// The rate of the last tenth against that of the first.
    slowdown: f64,
    first_page: Duration,
    middle_page: Duration,
    deep_page: Duration,
    read: Duration,
    walk: Duration,
    bytes_per_key: f64,
    reopen: Duration,
    cold_page: Duration,
    resident_mebibytes: f64,
}

/// A number below `keys` for each number below it, in an order that no tree likes.
fn shuffled(at: usize, keys: usize) -> usize {
    (at * 7_368_787 + 11) % keys
}

fn name(number: usize) -> String {
    format!("customer-{number:07}")
}

fn directory(number: usize, shape: Shape) -> String {
    match shape {
        Shape::OneDirectory => "apps/".to_owned(),
        Shape::Spread => format!("apps/team-{:04}/", number % DIRECTORIES),
    }
}

fn key(number: usize, shape: Shape) -> StorageKey {
    let path = format!("{}{}", directory(number, shape), name(number));
    StorageKey::new(&NamespaceId::root(), Area::Logical, &path).unwrap()
}

fn prefix(shape: Shape) -> KeyPrefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Logical, &directory(0, shape)).unwrap()
}

/// `count` batches of writers; gives the time of each tenth.
async fn create(barrier: &Barrier, keys: usize, shape: Shape) -> Vec<Duration> {
    let value = vec![7_u8; VALUE_BYTES];
    let mut tenths = vec![Duration::ZERO; 10];
    let mut at = 0;
    while at < keys {
        let started = Instant::now();
        let end = (at + WRITERS).min(keys);
        let commits = (at..end).map(|number| {
            let mut txn = barrier.begin().unwrap();
            txn.write(&key(shuffled(number, keys), shape), &value).unwrap();
            barrier.commit(txn)
        });
        for outcome in futures_util::future::join_all(commits).await {
            outcome.unwrap();
        }
        tenths[(at * 10 / keys).min(9)] += started.elapsed();
        at = end;
    }
    tenths
}

fn rates(measured: &mut Measured, keys: usize, tenths: &[Duration]) {
    measured.created_per_second = keys as f64 / tenths.iter().sum::<Duration>().as_secs_f64();
    measured.slowdown = tenths[9].as_secs_f64() / tenths[0].as_secs_f64().max(f64::EPSILON);
}

fn timed(times: u32, mut work: impl FnMut(u32)) -> Duration {
    let started = Instant::now();
    (0..times).for_each(&mut work);
    started.elapsed() / times
}

/// Pages, point reads and a walk of everything.
fn read(measured: &mut Measured, barrier: &Barrier, keys: usize, shape: Shape) {
    let prefix = prefix(shape);
    let page = |after: Option<&str>| {
        let names = barrier.begin().unwrap().list(&prefix, after, PAGE).unwrap();
        assert!(!names.is_empty());
    };
    let deep = name(keys - DIRECTORIES.min(keys / 2) - 1);
    measured.first_page = timed(200, |_| page(None));
    measured.middle_page = timed(200, |_| page(Some(&name(keys / 2))));
    measured.deep_page = timed(200, |_| page(Some(&deep)));
    measured.read = timed(10_000, |at| {
        let number = shuffled(usize::try_from(at).unwrap() * 97 % keys, keys);
        assert!(barrier.begin().unwrap().read(&key(number, shape)).unwrap().is_some());
    });
    let started = Instant::now();
    let (mut txn, mut after, mut seen) = (barrier.begin().unwrap(), None::<String>, 0);
    loop {
        let names = txn.list(&prefix, after.as_deref(), 1000).unwrap();
        seen += names.len();
        let Some(last) = names.last() else { break };
        after = Some(last.clone());
    }
    measured.walk = started.elapsed();
    assert!(matches!(shape, Shape::Spread) || seen == keys, "{seen} of {keys} names were listed");
    measured.resident_mebibytes = resident_mebibytes();
}

async fn measure_memory(keys: usize, shape: Shape) {
    let title = match shape {
        Shape::OneDirectory => "memory, one directory",
        Shape::Spread => "memory, 1000 directories",
    };
    let mut measured = Measured { title, ..Measured::default() };
    let store = Arc::new(MemoryStore::new());
    let (_, barrier) = open_new(store, tresor_env_os::doors()).await;
    let tenths = create(&barrier, keys, shape).await;
    rates(&mut measured, keys, &tenths);
    read(&mut measured, &barrier, keys, shape);
    print_row(&measured);
}

async fn open_new(store: Arc<dyn Store>, doors: Doors) -> (UnsealShare, Barrier) {
    let sealed = SealedStore::open(store, doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    let (mut shares, barrier) = prepared.store(first).await.unwrap();
    (shares.remove(0), barrier)
}

async fn measure_file(keys: usize, shape: Shape) -> Measured {
    let title = match shape {
        Shape::OneDirectory => "durable, one directory",
        Shape::Spread => "durable, 1000 directories",
    };
    let mut measured = Measured { title, ..Measured::default() };
    let folder = tempfile::tempdir().unwrap();
    let doors = tresor_env_os::doors();
    let store = Arc::new(FileStore::open(&doors, folder.path(), Limits::default()).unwrap());
    let (share, barrier) = open_new(store, doors.clone()).await;
    let tenths = create(&barrier, keys, shape).await;
    rates(&mut measured, keys, &tenths);
    read(&mut measured, &barrier, keys, shape);
    drop(barrier);
    // The committer's task ends with its queue; the file is free when it has.
    let started = loop {
        let started = Instant::now();
        if let Ok(store) = FileStore::open(&doors, folder.path(), Limits::default()) {
            break (started, store);
        }
        tokio::task::yield_now().await;
    };
    let sealed = SealedStore::open(Arc::new(started.1), doors.clone()).unwrap();
    let facts = sealed.facts().unwrap();
    let Ok(Progress::Complete(unseal)) = ShareCollector::default().submit(share, &facts, &*doors.entropy) else {
        unreachable!("one share of one is enough")
    };
    let barrier = sealed.unseal_with(&unseal).unwrap().into_barrier();
    measured.reopen = started.0.elapsed();
    let started = Instant::now();
    barrier.begin().unwrap().list(&prefix(shape), Some(&name(keys / 3)), PAGE).unwrap();
    measured.cold_page = started.elapsed();
    measured.bytes_per_key = file_bytes(&folder.path().join(FIRST_INDEX_NAME)) / keys as f64;
    print_row(&measured);
    measured
}

async fn single_writer(keys: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let doors = tresor_env_os::doors();
    let store = Arc::new(FileStore::open(&doors, folder.path(), Limits::default()).unwrap());
    let (_, barrier) = open_new(store, doors).await;
    let count = (keys / 500).clamp(100, 2000);
    let started = Instant::now();
    for number in 0..count {
        let mut txn = barrier.begin().unwrap();
        txn.write(&key(shuffled(number, count), Shape::OneDirectory), &[7; VALUE_BYTES]).unwrap();
        barrier.commit(txn).await.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Another way to keep names, on the same engine with the same durability; values are sealed all the same.
trait Baseline {
    fn title(&self) -> &'static str;
    /// The key of a name.
    fn key(&self, name: &str) -> Vec<u8>;
    /// A page of names after one of them.
    fn page(&self, table: &redb::ReadOnlyTable<&'static [u8], &'static [u8]>, after: Option<&str>) -> Vec<String>;
}

/// Names in the clear, in order.
struct Clear;

impl Baseline for Clear {
    fn title(&self) -> &'static str {
        "baseline: names in the clear"
    }

    fn key(&self, name: &str) -> Vec<u8> {
        format!("root/logical/apps/{name}").into_bytes()
    }

    fn page(&self, table: &redb::ReadOnlyTable<&'static [u8], &'static [u8]>, after: Option<&str>) -> Vec<String> {
        let start = after.map_or_else(|| self.key(""), |after| [self.key(after), vec![0]].concat());
        let entries = table.range::<&[u8]>(start.as_slice()..).unwrap().take(PAGE);
        entries.map(|entry| String::from_utf8_lossy(entry.unwrap().0.value()).into_owned()).collect()
    }
}

/// Each name encrypted so that the same one gives the same bytes: to list in order, everything is decrypted.
struct Deterministic {
    seal: AeadKey,
    nonces: HmacKey,
}

/// Gives the bytes that it was made of.
struct Fixed([u8; 32]);

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
    }
}

impl Deterministic {
    fn new() -> Self {
        Self { seal: AeadKey::new(&DataKey::new([3; 32])), nonces: HmacKey::new(&[4; 32]) }
    }
}

impl Baseline for Deterministic {
    fn title(&self) -> &'static str {
        "baseline: encrypted, then sorted"
    }

    fn key(&self, name: &str) -> Vec<u8> {
        self.seal.seal(1, b"apps/", name.as_bytes(), &Fixed(self.nonces.sign(name.as_bytes())))
    }

    fn page(&self, table: &redb::ReadOnlyTable<&'static [u8], &'static [u8]>, after: Option<&str>) -> Vec<String> {
        let entries = table.range::<&[u8]>(..).unwrap();
        let open = |sealed: &[u8]| String::from_utf8(self.seal.open(b"apps/", sealed).unwrap().to_vec()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| open(entry.unwrap().0.value())).collect();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        names.sort_unstable();
        names.truncate(PAGE);
        names
    }
}

fn measure_baseline(keys: usize, scheme: &dyn Baseline) -> Measured {
    let mut measured = Measured { title: scheme.title(), ..Measured::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FIRST_INDEX_NAME);
    let database = redb::Builder::new().set_cache_size(64 * 1024 * 1024).create(&file).unwrap();
    let entropy = tresor_env_os::OsEntropy;
    let sealing = AeadKey::new(&DataKey::new([5; 32]));
    let mut tenths = vec![Duration::ZERO; 10];
    let mut at = 0;
    while at < keys {
        let started = Instant::now();
        let end = (at + WRITERS).min(keys);
        let mut write = database.begin_write().unwrap();
        write.set_durability(Durability::Immediate).unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for number in at..end {
                let at = scheme.key(&name(shuffled(number, keys)));
                let sealed = sealing.seal(1, &at, &[7; VALUE_BYTES], &entropy);
                table.insert(at.as_slice(), sealed.as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
        tenths[(at * 10 / keys).min(9)] += started.elapsed();
        at = end;
    }
    rates(&mut measured, keys, &tenths);
    let table = || database.begin_read().unwrap().open_table(TABLE).unwrap();
    let times = if scheme.page(&table(), None).len() == PAGE && keys > 100_000 { 3 } else { 20 };
    let deep = name(keys - DIRECTORIES.min(keys / 2) - 1);
    measured.first_page = timed(times, |_| drop(scheme.page(&table(), None)));
    measured.middle_page = timed(times, |_| drop(scheme.page(&table(), Some(&name(keys / 2)))));
    measured.deep_page = timed(times, |_| drop(scheme.page(&table(), Some(&deep))));
    measured.read = timed(10_000, |at| {
        let at = scheme.key(&name(shuffled(usize::try_from(at).unwrap() * 97 % keys, keys)));
        let table = table();
        let sealed = table.get(at.as_slice()).unwrap().unwrap();
        sealing.open(&at, sealed.value()).unwrap();
    });
    measured.resident_mebibytes = resident_mebibytes();
    drop(database);
    let started = Instant::now();
    drop(Database::open(&file).unwrap());
    measured.reopen = started.elapsed();
    measured.bytes_per_key = file_bytes(&file) / keys as f64;
    print_row(&measured);
    measured
}

fn file_bytes(file: &Path) -> f64 {
    std::fs::metadata(file).unwrap().len() as f64
}

fn resident_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn print_heading() {
    let columns = "keys/s | last tenth/first | first page µs | middle µs | deep µs | read µs | all names s";
    println!("| scheme | {columns} | bytes/key | reopen ms | cold page µs | RSS MiB |");
    println!("|---{}|", "|---".repeat(11));
}

/// One row, as soon as it is known: a full run takes minutes.
fn print_row(one: &Measured) {
    println!(
        "| {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.1} | {:.2} | {:.0} | {:.1} | {:.0} | {:.0} |",
        one.title,
        one.created_per_second,
        one.slowdown,
        micros(one.first_page),
        micros(one.middle_page),
        micros(one.deep_page),
        micros(one.read),
        one.walk.as_secs_f64(),
        one.bytes_per_key,
        one.reopen.as_secs_f64() * 1e3,
        micros(one.cold_page),
        one.resident_mebibytes,
    );
}

fn compare(ours: &Measured, clear: &Measured, encrypted: &Measured) {
    println!("\nours against names in the clear, one directory, durable:");
    println!("  creation {:.2} times as fast", ours.created_per_second / clear.created_per_second);
    println!("  a middle page takes {:.2} times as long", micros(ours.middle_page) / micros(clear.middle_page));
    println!("  a read takes {:.2} times as long", micros(ours.read) / micros(clear.read));
    println!("  the file is {:.2} times as large", ours.bytes_per_key / clear.bytes_per_key);
    println!("ours against encrypting each name and sorting:");
    println!("  creation {:.2} times as fast", ours.created_per_second / encrypted.created_per_second);
    println!("  a middle page takes {:.6} times as long", micros(ours.middle_page) / micros(encrypted.middle_page));
}
