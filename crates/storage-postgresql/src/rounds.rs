//! One question for all that want to know the same: who comes while one is under way waits for the next.
//!
//! Deliberately absent: what is asked, and keeping an answer for whoever comes after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as Plain, PoisonError};

use tokio::sync::Mutex;

use crate::trouble::Trouble;

/// The questions so far, by number.
#[derive(Default)]
pub(crate) struct Rounds {
    turn: Mutex<()>,
    begun: AtomicU64,
    answered: Plain<Option<(u64, Result<bool, Trouble>)>>,
}

impl Rounds {
    /// The answer to a question that was asked after this was called.
    pub(crate) async fn ask<F>(&self, question: impl FnOnce() -> F) -> Result<bool, Trouble>
    where
        F: Future<Output = Result<bool, Trouble>>,
    {
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        let _turn = self.turn.lock().await;
        let last = self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((number, answer)) = last
            && number >= needed
        {
            return answer;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = question().await;
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_comes_while_a_question_is_under_way_shares_the_next_one() {
        let (rounds, asked, gate) = (Rounds::default(), Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(0)));
        let question = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(true)
            }
        };
        let first = rounds.ask(question);
        let others = async {
            // The first one is under way by now.
            let both = async { tokio::join!(rounds.ask(question), rounds.ask(question)) };
            let let_go = async {
                tokio::task::yield_now().await;
                gate.add_permits(2);
            };
            tokio::join!(both, let_go).0
        };
        let (first, (second, third)) = tokio::join!(biased; first, others);
        assert_eq!((first, second, third), (Ok(true), Ok(true), Ok(true)));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        gate.add_permits(1);
        assert_eq!(rounds.ask(question).await, Ok(true));
        assert_eq!(asked.load(Ordering::SeqCst), 3, "an answer is good for nobody who comes after it");
    }
}
