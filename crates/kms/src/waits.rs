//! What a thread may wait for.
//!
//! A thread that serves many (an event loop of a mount) must not wait for a KMS that is elsewhere, nor for a checkpoint
//! of the store: what it does is done [`within`] what it may wait for. Whatever finds out on the way that it would have
//! to wait for more returns [`WouldWait`] instead, before it has changed anything that doing it again would not change
//! in the same way, and is done again by a thread that may.
//!
//! ```
//! use kmsfs_kms::{Waits, WouldWait, waits};
//!
//! assert_eq!(waits::may_wait(Waits::Kms), Ok(()), "whoever says nothing may wait for everything");
//! let asked = waits::within(Waits::Disk, || waits::may_wait(Waits::Kms));
//! assert_eq!(asked, Err(WouldWait(Waits::Kms)));
//! ```

use std::cell::Cell;
use std::fmt;

/// What is waited for, beyond the work itself. Whoever may wait for one of these may wait for those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// Others' short work alone.
    Nothing,
    /// A checkpoint, a sync, or reading and writing much.
    Disk,
    /// An answer of the KMS, which may be elsewhere.
    Kms,
}

/// It was not done: the thread that was to do it must not wait for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldWait(pub Waits);

impl fmt::Display for WouldWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            Waits::Nothing => "nothing",
            Waits::Disk => "the disk",
            Waits::Kms => "the KMS",
        };
        write!(f, "this thread must not wait for {what}")
    }
}

impl std::error::Error for WouldWait {}

thread_local! {
    static ALLOWED: Cell<Waits> = const { Cell::new(Waits::Kms) };
}

/// The most that this thread may wait for now.
pub fn allowed() -> Waits {
    ALLOWED.get()
}

/// An error if this thread must not wait for that.
pub fn may_wait(what: Waits) -> Result<(), WouldWait> {
    if allowed() >= what { Ok(()) } else { Err(WouldWait(what)) }
}

/// Does something on this thread that may wait for that, and no more than the thread already may.
pub fn within<T>(most: Waits, act: impl FnOnce() -> T) -> T {
    with(most.min(allowed()), act)
}

/// Does something on this thread that waits for whatever it has to, since it cannot be done again: the few places where
/// that is so are known.
pub fn whatever_it_takes<T>(act: impl FnOnce() -> T) -> T {
    with(Waits::Kms, act)
}

fn with<T>(allowed: Waits, act: impl FnOnce() -> T) -> T {
    /// Puts it back, after a panic too.
    struct Before(Waits);
    impl Drop for Before {
        fn drop(&mut self) {
            ALLOWED.set(self.0);
        }
    }
    let _before = Before(ALLOWED.replace(allowed));
    act()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn less_is_allowed_inside_and_as_much_as_before_afterwards() {
        within(Waits::Disk, || {
            assert_eq!(may_wait(Waits::Disk), Ok(()));
            within(Waits::Nothing, || assert_eq!(may_wait(Waits::Disk), Err(WouldWait(Waits::Disk))));
            within(Waits::Kms, || assert_eq!(allowed(), Waits::Disk, "nobody allows himself more"));
            whatever_it_takes(|| assert_eq!(allowed(), Waits::Kms));
            assert!(catch_unwind(|| within(Waits::Nothing, || panic!("as a bug would"))).is_err());
            assert_eq!(allowed(), Waits::Disk);
        });
        assert_eq!(allowed(), Waits::Kms);
    }

    #[test]
    fn what_one_thread_may_not_others_may() {
        let elsewhere = || std::thread::spawn(allowed).join().expect("it does not panic");
        assert_eq!(within(Waits::Nothing, elsewhere), Waits::Kms);
    }
}
