//! Whether clients are counted, and for how long that is kept: as it is stored, and how it is changed.
//!
//! Counting is switched on by an operator, as in the reference's community edition. Deliberately absent: who was counted.

use tresor_barrier::Txn;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_record::{Part, Record};
use tresor_wire::month::Month;

use super::stored;
use crate::keys;

/// How many months are kept where nobody says.
const RETENTION_MONTHS: u64 = 48;
/// The most months that may be kept.
const RETENTION_MONTHS_MAX: i64 = 60;
/// How many months a report is about where nobody says.
const REPORT_MONTHS: u64 = 12;

/// What the operator chose.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What is so by itself: nothing is counted.
    #[part(tag = 1)]
    Default,
    /// Clients are counted.
    #[part(tag = 2)]
    Enable,
    /// They are not.
    #[part(tag = 3)]
    Disable,
}

/// Whether clients are counted, and for how long that is kept.
#[derive(Record, Clone, Debug, PartialEq, Eq)]
#[record(kind = "client-counting", version = 1)]
pub struct CountingConfig {
    /// What the operator chose.
    pub choice: Choice,
    /// How many months are kept besides the one that goes on.
    pub retention_months: u64,
    /// How many months a report is about where nobody says.
    pub default_report_months: u64,
    /// How often it was switched on or off: what was counted before is not mixed with what is counted now.
    pub since: u64,
}

/// What is to be changed.
#[derive(Clone, Debug, Default)]
pub struct CountingWish {
    /// Whether clients are counted.
    pub choice: Option<Choice>,
    /// How many months are kept.
    pub retention_months: Option<i64>,
    /// How many months a report is about.
    pub default_report_months: Option<i64>,
}

impl Choice {
    /// Reads what is sent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "default" => Some(Self::Default),
            "enable" => Some(Self::Enable),
            "disable" => Some(Self::Disable),
            _ => None,
        }
    }

    /// As it is shown.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Default => "default-disabled",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

impl Default for CountingConfig {
    fn default() -> Self {
        let (retention_months, default_report_months) = (RETENTION_MONTHS, REPORT_MONTHS);
        Self { choice: Choice::Default, retention_months, default_report_months, since: 0 }
    }
}

impl CountingConfig {
    /// As it is stored; the defaults where nothing is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(txn: &mut Txn) -> Result<Self, Fault> {
        let stored =
            txn.read(&keys::client_counting().map_err(Fault::internal)?).map_err(tresor_engine::view::fault)?;
        stored.map_or_else(|| Ok(Self::default()), |bytes| Self::decode(&bytes).map_err(Fault::internal))
    }

    /// Whether clients are counted.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        matches!(self.choice, Choice::Enable)
    }

    /// Since which switching on clients are counted, if they are.
    pub(super) fn counting(&self) -> Option<u64> {
        self.is_enabled().then_some(self.since)
    }

    /// The first month that is kept.
    pub(super) fn kept_from(&self, now: Timestamp) -> Month {
        Month::of(now).before(u32::try_from(self.retention_months).unwrap_or(u32::MAX))
    }

    /// Stores what is wished for; gives what the operator should know.
    ///
    /// # Errors
    /// A refusal when it is out of range; a failure when the store fails.
    pub fn change(txn: &mut Txn, wish: &CountingWish, now: Timestamp) -> Result<Vec<&'static str>, Fault> {
        let before = Self::stored(txn)?;
        let mut config = before.clone();
        config.choice = wish.choice.unwrap_or(config.choice);
        if let Some(months) = wish.retention_months {
            if months < 0 {
                return Err(Fault::invalid("retention_months must be greater than or equal to 0"));
            }
            if months > RETENTION_MONTHS_MAX {
                return Err(Fault::invalid(format!(
                    "retention_months must not be greater than {RETENTION_MONTHS_MAX}"
                )));
            }
            config.retention_months = months.unsigned_abs();
        }
        if let Some(months) = wish.default_report_months {
            if !(1..=RETENTION_MONTHS_MAX).contains(&months) {
                return Err(Fault::invalid(format!("default_report_months must be from 1 to {RETENTION_MONTHS_MAX}")));
            }
            config.default_report_months = months.unsigned_abs();
        }
        if config.is_enabled() && config.retention_months == 0 {
            return Err(Fault::invalid("retention_months cannot be 0 while enabled"));
        }
        let mut warnings = Vec::new();
        if config.is_enabled() != before.is_enabled() {
            config.since = before.since.wrapping_add(1);
        }
        if before.is_enabled() && !config.is_enabled() {
            stored::discard(txn, Month::of(now), before.since)?;
            warnings.push("what was counted in this month is deleted, because counting was disabled");
        }
        txn.write(&keys::client_counting().map_err(Fault::internal)?, &config.encode())
            .map_err(tresor_engine::view::fault)?;
        Ok(warnings)
    }
}
