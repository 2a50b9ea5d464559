//! How often `apply` allocates: at most a few times a batch and once a record, whatever the values' sizes. Nothing of a
//! batch is copied on its way into the memory table but what the log writes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;

use allocation_counter::measure;
use tresor_env::doubles::TestDoors;
use tresor_storage::suite::key;
use tresor_storage::{Batch, Store, Version};
use tresor_storage_file::{FileStore, Limits, Sizes};

/// What a batch may cost beside its records: the simulated disk is a part of it.
const BATCH_MAX: u64 = 40;

#[test]
fn a_batch_allocates_a_bounded_number_of_times_for_each_record() {
    let doors = TestDoors::new(1);
    // So large that nothing is taken over meanwhile, and no segment is made.
    let segments = Sizes { first: 16 << 20, max: 16 << 20 };
    let limits = Limits { segments, generation_bytes: 1 << 30, generation_bytes_min: 1 << 30, ..Limits::default() };
    let store = FileStore::open(&doors.doors, Path::new("data"), limits).unwrap();
    let mut version = 0;
    let mut apply = |records: u64, bytes: usize, from: u64| {
        version += 1;
        let writes = (0..records).map(|at| (key(&format!("{}", from + at)), Some(vec![7; bytes]))).collect();
        let batch = Batch::new(Version(version), writes);
        measure(|| store.apply(batch).unwrap()).count_total
    };
    apply(600, 100, 0);
    for (records, bytes) in [(1, 100), (64, 100), (512, 100), (64, 4096)] {
        let fresh = apply(records, bytes, 10_000 * records + bytes as u64);
        let again = apply(records, bytes, 0);
        println!("{records} records of {bytes} bytes: {fresh} allocations, {again} when they are written over");
        assert!(fresh <= records + BATCH_MAX, "{records} records of {bytes} bytes: {fresh}");
        assert!(again <= records + BATCH_MAX, "{records} records of {bytes} bytes, written over: {again}");
    }
}
