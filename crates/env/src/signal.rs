//! A value that many wait for, and that wakes them in the order in which they came.
//!
//! tokio's `watch` wakes its waiters in a random order; where there are several, a seed would not fix what happens
//! next. Deliberately absent: closing. Who waits holds the signal.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A value to wait for.
#[derive(Default)]
pub struct Signal<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Signal<T> {
    /// Starts with a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// Looks at the value now.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the value, and wakes everybody who waits.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Completes with what is seen in the value, as soon as something is.
    pub async fn wait_for<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        self.wait_until(|| self.read(&mut look)).await
    }

    /// Completes with what is found, asking again after each change; the value is not held meanwhile, so that other
    /// locks may be taken.
    pub async fn wait_until<R>(&self, mut find: impl FnMut() -> Option<R>) -> R {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            if let Some(found) = find() {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_wake_in_the_order_in_which_they_came() {
        let (signal, order) = (Arc::new(Signal::new(0)), Arc::new(Mutex::new(Vec::new())));
        let tasks = crate::Tasks::new();
        for waiter in 0..20 {
            let (signal, order) = (Arc::clone(&signal), Arc::clone(&order));
            tasks.spawn(async move {
                signal.wait_for(|value| (*value > 0).then_some(())).await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push(waiter);
            });
        }
        tokio::task::yield_now().await;
        signal.update(|value| *value = 1);
        tokio::task::yield_now().await;
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), (0..20).collect::<Vec<_>>());
    }
}
