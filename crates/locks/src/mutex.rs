//! Mutual exclusion.

use crate::held::Turn;
use crate::ranks::Rank;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// A mutex of a rank.
pub struct Mutex<R, T> {
    lock: parking_lot::Mutex<T>,
    rank: PhantomData<fn() -> R>,
}

/// The mutex is free again, and then the rank, once this is dropped.
#[must_use]
pub struct MutexGuard<'a, R: Rank, T> {
    pub(crate) guard: parking_lot::MutexGuard<'a, T>,
    _turn: Turn<R>,
}

impl<R: Rank, T> Mutex<R, T> {
    /// A free one.
    pub const fn new(value: T) -> Self {
        Self { lock: parking_lot::Mutex::new(value), rank: PhantomData }
    }

    /// Waits until the mutex is free.
    ///
    /// # Panics
    ///
    /// In a debug build, unless the rank comes after all that the thread has; so do the others.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, R, T> {
        let turn = Turn::take();
        MutexGuard { guard: self.lock.lock(), _turn: turn }
    }

    /// `None` if the mutex is not free. This one cannot wait for another thread, but what is taken under it can: it has
    /// to be in its place as well.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, R, T>> {
        let turn = Turn::take();
        Some(MutexGuard { guard: self.lock.try_lock()?, _turn: turn })
    }

    /// Waits until the mutex is free, and no longer than until then. `None` if it is not free by then.
    #[track_caller]
    pub fn lock_until(&self, moment: Instant) -> Option<MutexGuard<'_, R, T>> {
        let turn = Turn::take();
        Some(MutexGuard { guard: self.lock.try_lock_until(moment)?, _turn: turn })
    }

    /// What it guarded.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<R: Rank, T: Default> Default for Mutex<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: Rank, T> fmt::Debug for Mutex<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutex {:?}", R::PLACE)
    }
}

impl<R: Rank, T> Deref for MutexGuard<'_, R, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<R: Rank, T> DerefMut for MutexGuard<'_, R, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A mutex that a thread which has it may take once more. There may be only one of its rank, since another one of that
/// rank would pass for the same.
pub struct ReentrantMutex<R, T> {
    lock: parking_lot::ReentrantMutex<T>,
    rank: PhantomData<fn() -> R>,
}

/// As [`MutexGuard`], without a way to change what is guarded.
#[must_use]
pub struct ReentrantMutexGuard<'a, R: Rank, T> {
    _guard: parking_lot::ReentrantMutexGuard<'a, T>,
    _turn: Turn<R>,
}

impl<R: Rank, T> ReentrantMutex<R, T> {
    /// A free one.
    pub const fn new(value: T) -> Self {
        Self { lock: parking_lot::ReentrantMutex::new(value), rank: PhantomData }
    }

    /// Waits until no other thread has it.
    #[track_caller]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, R, T> {
        let turn = Turn::take_again();
        ReentrantMutexGuard { _guard: self.lock.lock(), _turn: turn }
    }
}
