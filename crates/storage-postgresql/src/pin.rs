//! One state of the store that is read in one transaction, while another process goes on writing.
//!
//! A process that stands by knows nothing of what is overwritten, so what it loads when it is opened is read here. It is held
//! for a while and no longer, because the server keeps for it what it would clear away. Deliberately absent: any use on the
//! process that writes, which has what it overwrites in memory.

use std::time::Duration;

use tresor_storage::RawKey;

use crate::history::Moment;
use crate::lane::Lane;
use crate::link::Link;
use crate::readers::{Found, Reader, Sought};
use crate::settings::{READ_MAX, Settings};
use crate::trouble::Trouble;
use crate::writer::Claim;

/// For how long it is held.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(30);

/// A state that stays readable.
pub(crate) struct Pin {
    pub(crate) moment: Moment,
    /// When it began, by the monotonic clock.
    pub(crate) since: Duration,
    reader: Reader,
}

impl Pin {
    /// The store as it is now. In the lane.
    pub(crate) async fn begin(lane: &Lane, settings: &Settings) -> Result<Self, Trouble> {
        let begun = lane.within(READ_MAX, async {
            let since = lane.doors.clock.monotonic();
            let link = Link::open(lane, settings).await?;
            link.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let looking = link.prepare(&settings.table.looking()).await?;
            let rows = link.rows(&looking, &[]).await?;
            let row = rows.first().ok_or_else(|| Trouble::Damaged("its state is gone".to_owned()))?;
            let moment = Claim::read(row)?.now;
            Ok(Self { moment, since, reader: Reader::over(link, settings).await? })
        });
        begun.await.unwrap_or_else(|| Err(Trouble::late()))
    }

    /// What a key holds in it. In the lane.
    pub(crate) async fn find(&self, lane: &Lane, key: &RawKey, sought: Sought) -> Result<Found, Trouble> {
        let found = lane.within(READ_MAX, self.reader.find(self.moment.generation, key, sought));
        found.await.unwrap_or_else(|| Err(Trouble::late()))
    }
}
