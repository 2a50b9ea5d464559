//! Who let this node in, kept until the log names it: it may be started again before it has come that far.
//!
//! A file of contacts, one after the other, in the data directory. What cannot be read is none: the node is let in again.
//! Deliberately absent: proofs; they were verified before.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tresor_consensus::Contact;
use tresor_env::Disk;
use tresor_env::disk::Open;

/// The file.
const FILE: &str = "adopted";
/// What it is written to first.
const FILE_IN_THE_MAKING: &str = "adopted.new";
/// More than any list of nodes takes.
const BYTES_MAX: u64 = 1 << 20;

/// Those who let this node in.
pub(crate) struct Adopted {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    contacts: Mutex<Vec<Contact>>,
}

impl Adopted {
    pub(crate) fn open(disk: &Arc<dyn Disk>, directory: &Path) -> Self {
        let contacts = match read(&**disk, &directory.join(FILE)) {
            Ok(contacts) => contacts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the list of who let this node in cannot be read");
                Vec::new()
            }
        };
        Self { disk: Arc::clone(disk), directory: directory.to_owned(), contacts: Mutex::new(contacts) }
    }

    pub(crate) fn contacts(&self) -> Vec<Contact> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps these from now on; durable when this returns.
    pub(crate) fn keep(&self, contacts: Vec<Contact>) -> io::Result<()> {
        let (path, new) = (self.directory.join(FILE), self.directory.join(FILE_IN_THE_MAKING));
        let bytes: Vec<u8> = contacts.iter().flat_map(Contact::spelled).collect();
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(&new, Open::New)?;
        file.write_all_at(0, &bytes)?;
        file.sync()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_directory(&self.directory)?;
        *self.contacts.lock().unwrap_or_else(PoisonError::into_inner) = contacts;
        Ok(())
    }

    pub(crate) fn forget(&self) -> io::Result<()> {
        let had = std::mem::take(&mut *self.contacts.lock().unwrap_or_else(PoisonError::into_inner));
        if had.is_empty() {
            return Ok(());
        }
        match self.disk.remove(&self.directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<Contact>> {
    let file = disk.open(path, Open::Existing)?;
    let length = usize::try_from(file.length()?.min(BYTES_MAX)).unwrap_or_default();
    let mut bytes = vec![0; length];
    file.read_exact_at(0, &mut bytes)?;
    let (mut rest, mut contacts) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (contact, after) = Contact::read(rest).ok_or(io::ErrorKind::InvalidData)?;
        contacts.push(contact);
        rest = after;
    }
    Ok(contacts)
}
