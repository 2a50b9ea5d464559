//! What engines that make credentials share: templates of names ([`template`]), and when something is
//! rotated ([`rotation`], [`schedule`]), with the settings for that ([`timing`]).
//!
//! Pure: time and entropy are arguments. Deliberately absent: storage, connections, passwords (the server makes
//! them by its policies), and what any target allows in a name.

pub mod layout;
pub mod rotation;
pub mod schedule;
pub mod template;
pub mod timing;

pub use rotation::Rotation;
pub use schedule::{Schedule, ScheduleError};
pub use template::{Fields, Moment, Template, TemplateError, Value};
pub use timing::{Timing, TimingError};
