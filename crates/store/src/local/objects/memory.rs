//! What is kept for whoever asks again, and how much of it: tables of open objects, objects that are closed, their
//! descriptors.

use crate::Ino;
use kmsfs_locks::{Mutex, ranks};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an open object may keep in any case, as a part of all: who is in use does not wait until others are closed.
const SHARES: usize = 256;

/// How much may be kept, and how much is. What is needed is had all the same: the bound is for what could be read
/// again.
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }
}

/// What one object keeps, in bytes, until it is dropped.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// It keeps so much now. Answers whether that is more than its due while all together keep too much.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let used = &self.budget.used;
        used.fetch_add(bytes, Ordering::Relaxed);
        used.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
        bytes > self.budget.limit / SHARES && self.budget.is_exceeded()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Something of each closed object, by its inode, in the order in which they were closed.
pub(crate) struct Closed<T>(Mutex<ranks::ClosedObjects, Order<T>>);

struct Order<T> {
    closings: u64,
    by_closing: BTreeMap<u64, Ino>,
    of: HashMap<Ino, (u64, T)>,
}

impl<T> Default for Closed<T> {
    fn default() -> Self {
        Self(Mutex::new(Order { closings: 0, by_closing: BTreeMap::new(), of: HashMap::new() }))
    }
}

impl<T> Closed<T> {
    /// It was closed just now. Answers how many there are.
    pub(crate) fn add(&self, ino: Ino, what: T) -> usize {
        let order = &mut *self.0.lock();
        order.closings += 1;
        order.by_closing.insert(order.closings, ino);
        if let Some((before, _)) = order.of.insert(ino, (order.closings, what)) {
            order.by_closing.remove(&before);
        }
        order.of.len()
    }

    /// Takes out whichever was closed the longest time ago.
    pub(crate) fn pop(&self) -> Option<(Ino, T)> {
        let order = &mut *self.0.lock();
        let (_, ino) = order.by_closing.pop_first()?;
        order.of.remove(&ino).map(|(_, what)| (ino, what))
    }

    pub(crate) fn remove(&self, ino: Ino) -> Option<T> {
        let order = &mut *self.0.lock();
        let (closing, what) = order.of.remove(&ino)?;
        order.by_closing.remove(&closing);
        Some(what)
    }

    /// Takes out all, and answers whether there were any.
    pub(crate) fn clear(&self) -> bool {
        let all = std::mem::replace(&mut *self.0.lock(), Self::default().0.into_inner());
        !all.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_until_they_are_dropped() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (Share::of(&budget), Share::of(&budget));
        assert!(!one.set(60) && !two.set(40));
        assert!(two.set(41));
        assert!(!one.set(0), "so little it may keep in any case");
        assert!(!one.set(59));
        assert!(one.set(60));
        drop(two);
        assert!(!budget.is_exceeded());
    }

    #[test]
    fn the_one_that_was_closed_longest_ago_comes_first_and_each_once() {
        let closed = Closed::default();
        for (ino, what) in [(1, 'a'), (2, 'b'), (3, 'c'), (1, 'd'), (4, 'e')] {
            closed.add(Ino(ino), what);
        }
        assert_eq!((closed.add(Ino(2), 'f'), closed.remove(Ino(4)), closed.remove(Ino(4))), (4, Some('e'), None));
        assert_eq!(
            std::iter::from_fn(|| closed.pop()).collect::<Vec<_>>(),
            [(Ino(3), 'c'), (Ino(1), 'd'), (Ino(2), 'f')]
        );
        closed.add(Ino(5), 'g');
        assert_eq!((closed.clear(), closed.clear(), closed.pop()), (true, false, None));
    }
}
