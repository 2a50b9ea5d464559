//! Numbers about a server: cells that count and time as things happen, and the texts that collectors read or are sent.
//!
//! A cell is a few atomics; whoever reads it does the work. What it says of late is the difference to what it was when it
//! was read some seconds ago, so nothing runs while nobody reads. Deliberately absent: which numbers there are, clocks
//! (moments arrive as arguments), and labels that nobody bounds: [`Labelled`] has a fixed number of them.

mod cells;
mod labelled;
mod naming;
mod prometheus;
mod statsd;

pub use cells::{Counter, CounterReading, Timer, TimerReading};
pub use labelled::{LABELS_MAX, Labelled};
pub use naming::Naming;
pub use prometheus::text;
pub use statsd::{Dialect, Statsd};

/// What is read of one number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// What is so now.
    Gauge(f64),
    /// What happened so far.
    Counter(CounterReading),
    /// How long something took, in milliseconds.
    Timer(TimerReading),
}

/// One number, with its name and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its name, with dots between its parts.
    pub name: String,
    /// What tells it from others of the same name.
    pub labels: Vec<(&'static str, String)>,
    /// What it is.
    pub value: Value,
}

impl Reading {
    /// A number without labels.
    #[must_use]
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), labels: Vec::new(), value }
    }

    /// What is so now. (Numbers of a server are far below what a float counts exactly.)
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many of anything")]
    pub fn gauge(name: impl Into<String>, value: u64) -> Self {
        Self::new(name, Value::Gauge(value as f64))
    }

    /// The same number with one more label.
    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }
}
