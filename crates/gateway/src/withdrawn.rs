//! Requests that nobody waits for any more. The client of one may have asked for something else meanwhile, and have
//! been told that it is so: what was withdrawn must not take its place later.
//!
//! A request is done by one thread, from its beginning to its end. Each change is made under a lock, and where that is
//! taken it is looked whether the request still stands; so whatever takes the same lock after a request was withdrawn
//! comes after it, or it does not come at all.

use kmsfs_s3::{Code, Error};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static CURRENT: RefCell<Standing> = RefCell::default();
}

/// Whether a request stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<AtomicBool>);

impl Standing {
    pub(crate) fn withdraw(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Does what was requested, in this thread.
    pub(crate) fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(self.clone());
        let _back = Back(Some(before));
        act()
    }
}

/// Puts back what was there, after a panic too.
struct Back(Option<Standing>);

impl Drop for Back {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            CURRENT.replace(before);
        }
    }
}

/// Of the request that this thread does; to be called under the lock that its change is made under.
///
/// # Errors
/// `RequestTimeout`, which nobody reads: it was withdrawn.
pub(crate) fn check() -> Result<(), Error> {
    let is_withdrawn = CURRENT.with_borrow(|standing| standing.0.load(Ordering::SeqCst));
    if is_withdrawn { Err(Error::new(Code::RequestTimeout)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stands_until_it_is_withdrawn_and_is_no_other_one() {
        let (one, other) = (Standing::default(), Standing::default());
        one.withdraw();
        assert!(check().is_ok());
        other.within(|| {
            assert!(check().is_ok());
            let panics = || one.within(|| check().unwrap());
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
            assert!(check().is_ok());
            other.withdraw();
            assert!(check().is_err());
        });
        assert!(check().is_ok());
    }
}
