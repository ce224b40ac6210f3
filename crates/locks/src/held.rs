//! What each thread holds, in debug builds.

use crate::ranks::Rank;
use std::marker::PhantomData;

/// A rank that this thread has until this is dropped. It stays on its thread, as a lock's guard does, and takes no room
/// in a release build.
#[must_use]
pub struct Turn<R: Rank> {
    rank: PhantomData<R>,
    /// Of a thread.
    stays: PhantomData<*const ()>,
}

impl<R: Rank> Turn<R> {
    /// To be called before whatever is waited for.
    ///
    /// # Panics
    ///
    /// In a debug build, unless the rank comes after all that the thread has.
    #[inline]
    #[track_caller]
    pub fn take() -> Self {
        #[cfg(debug_assertions)]
        checked::take(R::PLACE, false);
        Self { rank: PhantomData, stays: PhantomData }
    }

    /// The same where the thread may have this very lock already, and takes it once more.
    #[inline]
    #[track_caller]
    pub(crate) fn take_again() -> Self {
        #[cfg(debug_assertions)]
        checked::take(R::PLACE, true);
        Self { rank: PhantomData, stays: PhantomData }
    }
}

#[cfg(debug_assertions)]
impl<R: Rank> Drop for Turn<R> {
    fn drop(&mut self) {
        checked::give_back(R::PLACE);
    }
}

/// The KMS may be far away and take seconds to answer, so a thread that asks it holds nothing that others wait for.
///
/// # Panics
///
/// In a debug build, if the thread holds a lock that is not among those of
/// [`crate::ranks::HELD_WHILE_THE_KMS_ANSWERS`].
#[inline]
#[track_caller]
pub fn check_before_asking_the_kms() {
    #[cfg(debug_assertions)]
    checked::before_asking_the_kms();
}

/// A thread that waits on a condition gives up one lock only, and takes it again afterwards: it must be the last one
/// that it took.
#[inline]
#[track_caller]
pub(crate) fn check_before_waiting<R: Rank>() {
    #[cfg(debug_assertions)]
    checked::before_waiting(R::PLACE);
}

#[cfg(debug_assertions)]
mod checked {
    use crate::ranks::{HELD_WHILE_THE_KMS_ANSWERS, Place};
    use std::cell::RefCell;
    use std::panic::Location;

    /// A rank, and where it was taken.
    type Taken = (Place, &'static Location<'static>);

    thread_local! {
        static TAKEN: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
    }

    /// A thread that ends, or panics already, is not checked.
    fn with(act: impl FnOnce(&mut Vec<Taken>) -> Option<String>) -> Option<String> {
        TAKEN.try_with(|taken| act(&mut taken.borrow_mut())).ok().flatten().filter(|_| !std::thread::panicking())
    }

    #[track_caller]
    pub(super) fn take(place: Place, again: bool) {
        let here = Location::caller();
        let wrong = with(|taken| {
            let (last, at) = taken.iter().max_by_key(|(held, _)| *held).copied().unzip();
            let wrong = last.is_some_and(|last| last > place || last == place && !again);
            if wrong {
                return Some(format!("{place:?} after {:?}, which {} has taken", last?, at?));
            }
            taken.push((place, here));
            None
        });
        if let Some(wrong) = wrong {
            panic!("locks are taken out of order: {wrong}");
        }
    }

    pub(super) fn give_back(place: Place) {
        with(|taken| {
            if let Some(at) = taken.iter().rposition(|(held, _)| *held == place) {
                taken.remove(at);
            }
            None
        });
    }

    #[track_caller]
    pub(super) fn before_waiting(place: Place) {
        let wrong = with(|taken| {
            let (later, at) = taken.iter().find(|(held, _)| *held > place)?;
            Some(format!("{place:?} while {later:?} is held, which {at} has taken"))
        });
        if let Some(wrong) = wrong {
            panic!("a thread waits with a lock that it does not give up: {wrong}");
        }
    }

    #[track_caller]
    pub(super) fn before_asking_the_kms() {
        let wrong = with(|taken| {
            let (held, at) = taken.iter().find(|(held, _)| !HELD_WHILE_THE_KMS_ANSWERS.contains(held))?;
            Some(format!("{held:?}, which {at} has taken"))
        });
        if let Some(wrong) = wrong {
            panic!("the KMS is asked while a lock is held: {wrong}");
        }
    }
}
