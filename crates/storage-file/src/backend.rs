//! The engine's file, through the disk door: the simulator's disk works under it as well as a real one.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;
use tresor_env::DiskFile;

pub(crate) struct DoorBackend(Arc<dyn DiskFile>);

impl DoorBackend {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self(file)
    }
}

impl std::fmt::Debug for DoorBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorBackend")
    }
}

impl StorageBackend for DoorBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, bytes)
    }
}
