//! Waiting for something that another thread does under a mutex.

use crate::held::check_before_waiting;
use crate::mutex::MutexGuard;
use crate::ranks::Rank;
use std::time::Duration;

/// What threads wait on that hold a mutex of some rank.
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Gives up the mutex, waits to be notified, and takes the mutex again.
    ///
    /// # Panics
    ///
    /// In a debug build, if the thread has taken something under the mutex that it does not give up.
    #[track_caller]
    pub fn wait<R: Rank, T>(&self, guard: &mut MutexGuard<'_, R, T>) {
        check_before_waiting::<R>();
        self.0.wait(&mut guard.guard);
    }

    /// The same for no longer than that. Returns whether the time was over.
    #[track_caller]
    pub fn wait_for<R: Rank, T>(&self, guard: &mut MutexGuard<'_, R, T>, timeout: Duration) -> bool {
        check_before_waiting::<R>();
        self.0.wait_for(&mut guard.guard, timeout).timed_out()
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
