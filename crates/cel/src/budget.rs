//! What a program may take: steps, and bytes of what it makes. What it made and let go of counts as well, so what it holds at
//! one time is never more.

use crate::error::Problem;

/// What is left to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    steps: u64,
    bytes: u64,
}

/// How many bytes are looked at in a step.
const BYTES_PER_STEP: usize = 64;
/// What a value takes besides what it holds.
pub(crate) const VALUE_BYTES: usize = 48;

impl Budget {
    /// So many steps, so many bytes.
    #[must_use]
    pub const fn new(steps: u64, bytes: u64) -> Self {
        Self { steps, bytes }
    }

    /// Takes one step.
    pub(crate) fn step(&mut self) -> Result<(), Problem> {
        self.steps(1)
    }

    /// Takes steps.
    pub(crate) fn steps(&mut self, steps: u64) -> Result<(), Problem> {
        self.steps = self.steps.checked_sub(steps).ok_or(Problem::TooManySteps)?;
        Ok(())
    }

    /// Looks at so many bytes.
    pub(crate) fn look(&mut self, bytes: usize) -> Result<(), Problem> {
        self.steps(1 + (bytes / BYTES_PER_STEP) as u64)
    }

    /// Makes so many bytes: asked before they are made.
    pub(crate) fn make(&mut self, bytes: usize) -> Result<(), Problem> {
        self.look(bytes)?;
        self.bytes = self.bytes.checked_sub(bytes as u64).ok_or(Problem::TooMuch)?;
        Ok(())
    }

    /// Makes a list or map of so many.
    pub(crate) fn make_items(&mut self, items: usize) -> Result<(), Problem> {
        self.make(items.saturating_add(1).saturating_mul(VALUE_BYTES))
    }
}

/// What a program may take where nobody says otherwise: some tenths of a second at most, and 8 MiB.
impl Default for Budget {
    fn default() -> Self {
        Self::new(1_000_000, 8 * 1024 * 1024)
    }
}
