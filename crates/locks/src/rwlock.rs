//! Many who read, or one who writes.

use crate::held::Turn;
use crate::ranks::Rank;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A lock of a rank that is shared, or held alone. A thread does not share it twice: between the two somebody else may
/// begin to wait for having it alone, and both would wait for ever.
pub struct RwLock<R, T> {
    lock: parking_lot::RwLock<T>,
    rank: PhantomData<fn() -> R>,
}

/// The lock is shared until this is dropped.
#[must_use]
pub struct RwLockReadGuard<'a, R: Rank, T> {
    guard: parking_lot::RwLockReadGuard<'a, T>,
    _turn: Turn<R>,
}

/// The lock is held alone until this is dropped.
#[must_use]
pub struct RwLockWriteGuard<'a, R: Rank, T> {
    guard: parking_lot::RwLockWriteGuard<'a, T>,
    turn: Turn<R>,
}

impl<R: Rank, T> RwLock<R, T> {
    /// A free one.
    pub const fn new(value: T) -> Self {
        Self { lock: parking_lot::RwLock::new(value), rank: PhantomData }
    }

    /// Waits until nobody has it alone, nor waits for that.
    ///
    /// # Panics
    ///
    /// In a debug build, unless the rank comes after all that the thread has; so do the others.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, R, T> {
        let turn = Turn::take();
        RwLockReadGuard { guard: self.lock.read(), _turn: turn }
    }

    /// `None` if somebody has it alone, or waits for that. It has to be in its place as well, as of a mutex.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, R, T>> {
        let turn = Turn::take();
        Some(RwLockReadGuard { guard: self.lock.try_read()?, _turn: turn })
    }

    /// Waits until nobody has it.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, R, T> {
        let turn = Turn::take();
        RwLockWriteGuard { guard: self.lock.write(), turn }
    }

    /// Whether somebody has it alone at this moment.
    pub fn is_locked_exclusive(&self) -> bool {
        self.lock.is_locked_exclusive()
    }
}

impl<R: Rank, T: Default> Default for RwLock<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: Rank, T> fmt::Debug for RwLock<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLock {:?}", R::PLACE)
    }
}

impl<'a, R: Rank, T> RwLockWriteGuard<'a, R, T> {
    /// Shares it from now on. Nobody else has it alone in between.
    pub fn downgrade(this: Self) -> RwLockReadGuard<'a, R, T> {
        RwLockReadGuard { guard: parking_lot::RwLockWriteGuard::downgrade(this.guard), _turn: this.turn }
    }
}

impl<R: Rank, T> Deref for RwLockReadGuard<'_, R, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<R: Rank, T> Deref for RwLockWriteGuard<'_, R, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<R: Rank, T> DerefMut for RwLockWriteGuard<'_, R, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
