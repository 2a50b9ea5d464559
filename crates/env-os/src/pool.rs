//! Threads that wait for the disk: each piece of work is handed to one that rests, or to a new one.
//!
//! The one that rested last is the next to work, because its caches are warm. Invariant: a thread is woken while nobody holds a
//! lock; on a busy core it runs at once, and would wait for that. Deliberately absent: a bound on what waits (callers have
//! theirs), and joining. Work that has begun is done to its end, unless the process ends before.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// What a thread does next.
type Work = Box<dyn FnOnce() + Send>;

/// At most so many threads; beyond, work waits for one.
const THREADS_MAX: usize = 512;
/// A thread that rests for so long ends.
const REST_MAX: Duration = Duration::from_secs(10);

/// The threads; a copy is the same ones.
#[derive(Clone)]
pub(crate) struct Pool {
    state: Arc<Mutex<State>>,
    /// What they are called.
    name: &'static str,
    /// How much they let others go first.
    niceness: i32,
}

#[derive(Default)]
struct State {
    resting: Vec<Arc<Seat>>,
    threads: usize,
    waiting: VecDeque<Work>,
}

/// A thread that rests.
struct Seat {
    thread: Thread,
    work: Mutex<Option<Work>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Threads of this name, which let others go first by so much.
    pub(crate) fn new(name: &'static str, niceness: i32) -> Self {
        Self { state: Arc::default(), name, niceness }
    }

    /// Begins to do something, and does not wait for it.
    pub(crate) fn begin(&self, work: Work) {
        let mut state = locked(&self.state);
        if let Some(seat) = state.resting.pop() {
            drop(state);
            *locked(&seat.work) = Some(work);
            seat.thread.unpark();
        } else if state.threads < THREADS_MAX {
            state.threads += 1;
            drop(state);
            self.start(work);
        } else {
            state.waiting.push_back(work);
        }
    }

    fn start(&self, work: Work) {
        // Taken back if there is no thread to give it to.
        let place = Arc::new(Mutex::new(Some(work)));
        let (pool, first) = (self.clone(), Arc::clone(&place));
        let started = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let taken = locked(&first).take();
            pool.work(taken);
        });
        if started.is_err() {
            let mut state = locked(&self.state);
            state.threads -= 1;
            let work = locked(&place).take();
            if state.threads > 0 {
                state.waiting.extend(work);
            } else {
                drop(state);
                // Late is better than never.
                work.into_iter().for_each(done);
            }
        }
    }

    /// What a thread does for its life.
    fn work(&self, mut next: Option<Work>) {
        if self.niceness > 0 {
            // Of this thread alone. Where that is refused it does its work like any other.
            let _ = setpriority_process(Some(gettid()), self.niceness);
        }
        let seat = Arc::new(Seat { thread: thread::current(), work: Mutex::default() });
        while let Some(work) = next.take().or_else(|| self.next(&seat)) {
            done(work);
        }
    }

    /// What a thread does next; nothing when it has rested for long enough.
    fn next(&self, seat: &Arc<Seat>) -> Option<Work> {
        {
            let mut state = locked(&self.state);
            if let Some(work) = state.waiting.pop_front() {
                return Some(work);
            }
            state.resting.push(Arc::clone(seat));
        }
        loop {
            thread::park_timeout(REST_MAX);
            if let Some(work) = locked(&seat.work).take() {
                return Some(work);
            }
            let mut state = locked(&self.state);
            // Who is not among them is about to be given something.
            if let Some(at) = state.resting.iter().position(|resting| Arc::ptr_eq(resting, seat)) {
                state.resting.remove(at);
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// Does something. Whoever waits for it sees by its own means that it panicked.
fn done(work: Work) {
    drop(catch_unwind(AssertUnwindSafe(work)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn all_work_is_done_and_the_same_thread_does_what_comes_one_by_one() {
        let (pool, (told, tells)) = (Pool::new("disk", 0), mpsc::sync_channel(128));
        let tell = |what: u32| {
            let told = told.clone();
            Box::new(move || told.send((what, thread::current().id())).unwrap())
        };
        pool.begin(Box::new(|| panic!("on purpose")));
        for what in 0..100 {
            pool.begin(tell(what));
        }
        let mut all: Vec<u32> = tells.iter().take(100).map(|(what, _)| what).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let threads = locked(&pool.state).threads;
        // Each rests before it is given the next.
        while locked(&pool.state).resting.len() < threads {
            thread::yield_now();
        }
        pool.begin(tell(1));
        let (_, first) = tells.recv().unwrap();
        while locked(&pool.state).resting.len() < threads {
            thread::yield_now();
        }
        pool.begin(tell(2));
        assert_eq!(tells.recv().unwrap(), (2, first));
        assert_eq!(locked(&pool.state).threads, threads);
    }
}
