//! Snapshots of what is stored: taken while everything goes on, and staged to take its place.
//!
//! What is stored is sealed, and stays so on its way: no key opens anything here. One key of the cluster's own seals a
//! snapshot's checksum, so a snapshot of another cluster, or one that somebody changed, is told from ours. Staging verifies
//! all of it and changes nothing; the node swaps it in once it is sealed ([`crate::Node`]). [`schedule`] takes them by
//! itself. Deliberately absent: the local audit log, which is no part of what is stored.

mod files;
pub mod schedule;

use std::sync::{Arc, Mutex, PoisonError};

use tresor_barrier::Barrier;
use tresor_crypto::hash::HmacKey;
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Timestamp};
use tresor_model::{ByteStream, Fault, Refusal};
use tresor_snapshot::{Header, Part, Reader, Writer, Wrong};
use tresor_storage::machine::{Export, Install};
use tresor_storage::state::Reading;
use tresor_storage::{RawKey, Store, StoreError, Stored, Version};

use self::schedule::{Scheduled, Told};
use crate::pipeline::uncertain;
use crate::unsealed::ClusterRecord;

/// Whether a snapshot that this cluster did not take is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// No.
    Refused,
    /// Yes: whoever asks knows that the shares of its cluster are needed afterwards.
    Taken,
}

/// A snapshot that was verified to its end, and changes nothing yet.
pub struct Staged {
    pub(crate) install: Box<dyn Install>,
}

/// Takes and stages snapshots.
pub struct Snapshots {
    barrier: Barrier,
    doors: Doors,
    cluster: ClusterRecord,
    /// Downloads hold it weakly: with the node's sealing it is gone.
    key: Arc<HmacKey>,
    staged: Mutex<Option<Staged>>,
    told: Told,
}

/// A snapshot that is being taken.
struct Taking {
    beginning: Option<Vec<u8>>,
    export: Box<dyn Export>,
    /// `None` at the end.
    writer: Option<Writer>,
}

impl Snapshots {
    pub(crate) fn new(barrier: &Barrier, doors: &Doors, cluster: &ClusterRecord) -> Self {
        let key = Arc::new(barrier.derive_hmac_key("snapshots"));
        Self {
            barrier: barrier.clone(),
            doors: doors.clone(),
            cluster: cluster.clone(),
            key,
            staged: Mutex::default(),
            told: Told::default(),
        }
    }

    /// Begins to take one; what is stored by now is in it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn take(&self, now: Timestamp) -> Result<ByteStream, Fault> {
        let barrier = self.barrier.clone();
        let export = run_blocking(&*self.doors.workers, move || barrier.export()).await.map_err(Fault::internal)?;
        let export = export.map_err(refusal)?;
        let (cluster_id, cluster_name) = (self.cluster.id.clone(), self.cluster.name.clone());
        let (writer, beginning) = Writer::begin(&Header { cluster_id, cluster_name, taken: now });
        let taking = Arc::new(Mutex::new(Taking { beginning: Some(beginning), export, writer: Some(writer) }));
        let (workers, key) = (Arc::clone(&self.doors.workers), Arc::downgrade(&self.key));
        Ok(ByteStream::new(move || {
            let (taking, workers, key) = (Arc::clone(&taking), Arc::clone(&workers), key.clone());
            Box::pin(async move {
                let next = move || {
                    let mut taking = taking.lock().unwrap_or_else(PoisonError::into_inner);
                    taking.next(&|digest| key.upgrade().map(|key| key.sign(digest)))
                };
                run_blocking(&*workers, next).await.map_err(Fault::internal)?
            })
        }))
    }

    /// Takes a whole snapshot in, verifies it to its end, and keeps it for the node to swap in.
    ///
    /// # Errors
    /// A refusal when it is damaged, cut off or another cluster's; nothing has changed then.
    pub async fn stage(&self, upload: ByteStream, foreign: Foreign) -> Result<(), Fault> {
        let staged = self.take_in(upload, &self.barrier, foreign, None).await?;
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
        Ok(())
    }

    /// Restores a snapshot of this cluster into another store, which is nobody's, and opens every value on its way; a
    /// barrier over what it became.
    ///
    /// # Errors
    /// When it could not be restored where it is needed.
    pub(crate) async fn rehearse(&self, file: ByteStream, scratch: Arc<dyn Store>) -> Result<Barrier, Fault> {
        let restored = self.barrier.over(scratch);
        let staged = self.take_in(file, &restored, Foreign::Refused, Some(restored.clone())).await?;
        let finished = run_blocking(&*self.doors.workers, move || staged.install.finish()).await;
        finished.map_err(Fault::internal)?.map_err(Fault::internal)?;
        Ok(restored)
    }

    /// Verifies a whole snapshot on its way into a store.
    async fn take_in(
        &self,
        mut upload: ByteStream,
        into: &Barrier,
        foreign: Foreign,
        opens: Option<Barrier>,
    ) -> Result<Staged, Fault> {
        let into = into.clone();
        let install = run_blocking(&*self.doors.workers, move || into.restore()).await.map_err(Fault::internal)?;
        let mut staging = Staging {
            reader: Reader::new(),
            state: Reading::new(None),
            install: install.map_err(refusal)?,
            own_id: self.cluster.id.clone(),
            foreign,
            has_slots: false,
            end: None,
            opens,
        };
        while let Some(bytes) = upload.part().await? {
            let taken = run_blocking(&*self.doors.workers, move || staging.take(&bytes).map(|()| staging)).await;
            staging = taken.map_err(Fault::internal)?.map_err(Fault::from)?;
        }
        staging.finish(&self.key)
    }

    /// What became of those that are taken by a schedule.
    #[must_use]
    pub fn scheduled(&self) -> Scheduled {
        self.told.read()
    }

    /// What was staged last, once.
    pub(crate) fn staged(&self) -> Option<Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Taking {
    fn next(&mut self, seal: &dyn Fn(&[u8; 32]) -> Option<[u8; 32]>) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(beginning) = self.beginning.take() {
            return Ok(Some(beginning));
        }
        let Some(writer) = &mut self.writer else { return Ok(None) };
        if let Some(chunk) = self.export.next().map_err(Fault::internal)? {
            return Ok(Some(writer.chunk(&chunk)));
        }
        let mut is_sealed = false;
        let end = self.writer.take().map(|writer| {
            writer.end(|digest| {
                let made = seal(digest);
                is_sealed = made.is_none();
                made.unwrap_or_default()
            })
        });
        if is_sealed { Err(Refusal::Sealed.into()) } else { Ok(end) }
    }
}

/// Why a part of a snapshot was not taken.
enum Refused {
    Wrong(Wrong),
    OfState(Wrong),
    Foreign(String),
    Unopened(Version),
    Store(StoreError),
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong(wrong) => Self::invalid(format!("the snapshot is refused, {wrong}; nothing has changed")),
            Refused::OfState(wrong) => {
                Self::invalid(format!("the state in the snapshot is refused, {wrong} of it; nothing has changed"))
            }
            Refused::Foreign(of) => Self::invalid(format!(
                "the snapshot is of another cluster ({of}): after it only the shares of that one unseal; use the \
                 snapshot-force API if that is what you want"
            )),
            Refused::Unopened(version) => Self::invalid(format!(
                "the snapshot is refused: a value in it, of version {}, is not what was sealed",
                version.0
            )),
            Refused::Store(error) => refusal(error),
        }
    }
}

/// What the store says, as the caller is told.
pub(crate) fn refusal(error: StoreError) -> Fault {
    let io = |kind| matches!(&error, StoreError::Io { source, .. } if source.kind() == kind);
    if io(std::io::ErrorKind::Unsupported) {
        return Fault::invalid("snapshots are not available with this storage");
    }
    if io(std::io::ErrorKind::ResourceBusy) {
        return Refusal::Unavailable("another snapshot is being restored".into()).into();
    }
    match error {
        StoreError::LowSpace { .. } | StoreError::NoSpace { .. } => {
            Refusal::Unavailable("there is too little free space for a second state beside the one in use".into())
                .into()
        }
        // Nothing has changed.
        StoreError::Elsewhere { .. } | StoreError::VersionGap { .. } => {
            Refusal::Unavailable("another node leads now, and the snapshot was not restored: try again".into()).into()
        }
        StoreError::Uncertain { .. } => uncertain(),
        other => Fault::internal(other),
    }
}

/// A snapshot on its way in.
struct Staging {
    reader: Reader,
    /// Verifies the state beside the store, which does so too, but tells at its own end only.
    state: Reading,
    install: Box<dyn Install>,
    own_id: String,
    foreign: Foreign,
    has_slots: bool,
    end: Option<([u8; 32], [u8; 32])>,
    /// Opens every value, where one wants to be sure of more than that they are what was written.
    opens: Option<Barrier>,
}

impl Staging {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let Self { reader, state, install, own_id, foreign, has_slots, end, opens } = self;
        reader.take(bytes, |part| {
            match part {
                Part::Header(header) => {
                    if header.cluster_id != *own_id && *foreign == Foreign::Refused {
                        return Err(Refused::Foreign(format!("{}, {}", header.cluster_name, header.cluster_id)));
                    }
                }
                Part::Chunk(chunk) => {
                    let mut unopened = None;
                    let see = |key: RawKey, stored: Stored| {
                        *has_slots |= tresor_barrier::is_slots(&key);
                        if opens.as_ref().is_some_and(|barrier| barrier.check(&key, &stored.bytes).is_err()) {
                            unopened = Some(stored.version);
                        }
                        Ok::<(), Wrong>(())
                    };
                    state.take(&chunk, see).map_err(Refused::OfState)?;
                    if let Some(version) = unopened {
                        return Err(Refused::Unopened(version));
                    }
                    install.take(chunk).map_err(Refused::Store)?;
                }
                Part::End { digest, seal } => *end = Some((digest, seal)),
            }
            Ok(())
        })
    }

    fn finish(self, key: &HmacKey) -> Result<Staged, Fault> {
        self.reader.finish().map_err(Refused::Wrong)?;
        self.state.finish().map_err(Refused::OfState)?;
        let cut_off = || Fault::invalid("the snapshot is refused: it is cut off; nothing has changed");
        let (digest, seal) = self.end.ok_or_else(cut_off)?;
        if !self.has_slots {
            return Err(Fault::invalid("the snapshot is refused: nothing in it can be unsealed; nothing has changed"));
        }
        if self.foreign == Foreign::Refused && !key.verifies(&digest, &seal) {
            return Err(Fault::invalid(
                "the snapshot is refused: it says that it is of this cluster, and does not bear its seal; nothing has \
                 changed",
            ));
        }
        Ok(Staged { install: self.install })
    }
}
