//! The state of a store as a stream, read in one transaction of a connection of its own, so that writes go on.
//!
//! Deliberately absent: how a stream is spelled.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_postgres::Statement;
use tresor_storage::machine::{Applied, Export, Position};
use tresor_storage::state::Chunks;
use tresor_storage::{RawKey, StoreError, Stored};

use crate::history::Moment;
use crate::link::Link;
use crate::readers::read_version;
use crate::settings::WRITE_MAX;
use crate::store::Inner;
use crate::trouble::Trouble;

/// The values of a store at one moment, in the order of their keys.
pub(crate) struct Exporting {
    store: Arc<Inner>,
    source: Arc<Source>,
    generation: i64,
    page: VecDeque<(RawKey, Stored)>,
    last: Vec<u8>,
    is_at_end: bool,
}

struct Source {
    link: Link,
    paging: Statement,
}

impl Exporting {
    pub(crate) fn begin(store: &Arc<Inner>) -> Result<Box<dyn Export>, StoreError> {
        let (lane, settings, owner) = (Arc::clone(&store.lane), Arc::clone(&store.settings), store.writer.owner());
        let begun = store.lane.wait(async move {
            let opening = async {
                let link = Link::open(&lane, &settings).await?;
                link.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                let looking = link.prepare(&settings.table.looking()).await?;
                let rows = link.rows(&looking, &[]).await?;
                let row = rows.first().ok_or_else(|| Trouble::Damaged("its state is gone".to_owned()))?;
                let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
                if row.try_get::<_, i64>(4).map_err(damaged)? != owner {
                    return Err(Trouble::Taken);
                }
                let version = read_version(row.try_get(3).map_err(damaged)?)?;
                let now = Moment { generation: row.try_get(2).map_err(damaged)?, version };
                let paging = link.prepare(&settings.table.paging()).await?;
                Ok((Source { link, paging }, now))
            };
            lane.within(WRITE_MAX, opening).await.unwrap_or_else(|| Err(Trouble::late()))
        });
        let (source, now) = begun.unwrap_or_else(|| Err(Trouble::late())).map_err(|trouble| store.told(trouble))?;
        let position = Position { term: 0, index: now.version.0 };
        let state = Applied { position, version: now.version, membership: Vec::new() };
        let values = Self {
            store: Arc::clone(store),
            source: Arc::new(source),
            generation: now.generation,
            page: VecDeque::new(),
            last: Vec::new(),
            is_at_end: false,
        };
        Ok(Box::new(Chunks::new(state, values)))
    }

    fn next_page(&mut self) -> Result<(), StoreError> {
        let (lane, source) = (Arc::clone(&self.store.lane), Arc::clone(&self.source));
        let (generation, last) = (self.generation, std::mem::take(&mut self.last));
        let paged = self.store.lane.wait(async move {
            let asked = async { source.link.rows(&source.paging, &[&generation, &last]).await };
            lane.within(WRITE_MAX, asked).await.unwrap_or_else(|| Err(Trouble::late()))
        });
        let read = paged.unwrap_or_else(|| Err(Trouble::late())).and_then(|rows| {
            let damaged = |error: tokio_postgres::Error| Trouble::Damaged(error.to_string());
            let value = |row: tokio_postgres::Row| {
                let key = RawKey::new(row.try_get(0).map_err(damaged)?);
                let key = key.ok_or_else(|| Trouble::Damaged("a key is too long or empty".to_owned()))?;
                let version = read_version(row.try_get(1).map_err(damaged)?)?;
                Ok((key, Stored { version, bytes: row.try_get(2).map_err(damaged)? }))
            };
            rows.into_iter().map(value).collect::<Result<VecDeque<_>, Trouble>>()
        });
        self.page = read.map_err(|trouble| self.store.told(trouble))?;
        match self.page.back() {
            Some((key, _)) => self.last = key.as_bytes().to_vec(),
            None => self.is_at_end = true,
        }
        Ok(())
    }
}

impl Iterator for Exporting {
    type Item = Result<(RawKey, Stored), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.is_at_end
            && let Err(error) = self.next_page()
        {
            self.is_at_end = true;
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}
