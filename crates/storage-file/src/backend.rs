//! The engine's view of its file: pages with checksums, through the disk door.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::pages::Pages;

pub(crate) struct DoorBackend(Arc<Pages>);

impl DoorBackend {
    pub(crate) fn new(pages: Arc<Pages>) -> Self {
        Self(pages)
    }
}

impl std::fmt::Debug for DoorBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorBackend")
    }
}

impl StorageBackend for DoorBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.noting(self.0.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.noting(self.0.read(offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.noting(self.0.set_length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.noting(self.0.sync())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.noting(self.0.write(offset, bytes))
    }
}
