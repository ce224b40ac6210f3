//! How long an operation waits for a KMS.
//!
//! A deadline is a moment and not a length of time: what an operation asks for is passed on through decorators and
//! routers, tried again, and asked for twice where an object has two layers, and a length would begin anew at each of
//! these. And it is the operation's that a thread is doing, as what the thread may wait for is
//! ([`waits`](crate::waits)), and no parameter of calls: what is waited for beside calls (the same key, which somebody
//! else is just asking for) ends at the same moment, and a KMS of this process, which takes microseconds, has nothing
//! to do with it. Whoever hands a call to another thread hands the deadline over as well ([`Deadline::begin`]).
//!
//! ```
//! use kmsfs_kms::deadline::{self, Deadline};
//! use std::time::Duration;
//!
//! assert!(deadline::current().is_none(), "whoever says nothing waits for as long as it takes");
//! let second = Duration::from_secs(1);
//! {
//!     let _running = Deadline::after(second).begin();
//!     let _later = Deadline::after(2 * second).begin();
//!     let left = deadline::current().expect("it has begun").left();
//!     assert!(left <= second, "nobody gives himself more time than there is");
//! }
//! assert!(deadline::current().is_none());
//! ```

use crate::{Code, Error};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// How long whoever uses a mount is kept waiting for a KMS, from when it is first needed until the operation fails.
pub const LIMIT: Duration = Duration::from_secs(8);

/// The moment at which a call that has not been answered is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// A deadline is this thread's until this is dropped; then the one is that was before.
#[must_use]
pub struct Running {
    before: Option<Deadline>,
    /// Of a thread.
    stays: PhantomData<*const ()>,
}

thread_local! {
    static CURRENT: Cell<Option<Deadline>> = const { Cell::new(None) };
}

/// The deadline of what this thread is doing; `None` if there is none, and it waits for as long as it takes.
pub fn current() -> Option<Deadline> {
    CURRENT.get()
}

impl Deadline {
    /// So much later than now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Makes it this thread's, unless that has an earlier one.
    pub fn begin(self) -> Running {
        let before = CURRENT.get();
        CURRENT.set(Some(before.map_or(self, |before| before.min(self))));
        Running { before, stays: PhantomData }
    }

    /// The moment, for whatever waits until one.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// How long it is until then; nothing, if it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// What a call fails with that was given up: an outage, which says nothing of who may use a key.
pub fn missed() -> Error {
    Error::new(Code::DependencyTimeout, "The KMS did not answer in time.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn the_earlier_one_counts_and_the_one_before_comes_back() {
        let (soon, late) = (Deadline::after(Duration::from_secs(1)), Deadline::after(Duration::from_secs(9)));
        let outer = late.begin();
        {
            let _inner = soon.begin();
            assert_eq!(current(), Some(soon));
            let _wants_more = late.begin();
            assert_eq!(current(), Some(soon));
        }
        assert_eq!(current(), Some(late));
        let panicked = catch_unwind(|| {
            let _inner = soon.begin();
            panic!("as a bug would");
        });
        assert!(panicked.is_err());
        assert_eq!(current(), Some(late));
        assert_eq!(std::thread::spawn(current).join().expect("it does not panic"), None, "it is of one thread");
        drop(outer);
        assert_eq!(current(), None);
    }

    #[test]
    fn what_was_given_up_is_an_outage() {
        assert!(missed().is_outage());
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert!(!Deadline::after(LIMIT).has_passed());
    }
}
