//! Memory for what was verified and is kept: tables of open objects, and objects that are closed.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an open object may keep in any case, as a part of all: who is in use does not wait until others are closed.
const SHARES: usize = 256;

/// How much may be kept, and how much is. What is needed is had all the same: the bound is for what could be read again.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    pub fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }
}

/// What one object keeps, in bytes, until it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// It keeps so much now. Answers whether that is more than its due while all together keep too much.
    pub fn set(&mut self, bytes: usize) -> bool {
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

/// Closed objects by inode, in the order in which they were closed.
#[derive(Default)]
pub struct Closed(Mutex<Order>);

#[derive(Default)]
struct Order {
    closings: u64,
    by_closing: BTreeMap<u64, u64>,
    of: HashMap<u64, u64>,
}

impl Closed {
    /// It was closed just now.
    pub fn add(&self, ino: u64) {
        let order = &mut *self.0.lock();
        order.closings += 1;
        order.by_closing.insert(order.closings, ino);
        if let Some(before) = order.of.insert(ino, order.closings) {
            order.by_closing.remove(&before);
        }
    }

    /// Takes out whichever was closed the longest time ago.
    pub fn pop(&self) -> Option<u64> {
        let order = &mut *self.0.lock();
        let (_, ino) = order.by_closing.pop_first()?;
        order.of.remove(&ino);
        Some(ino)
    }

    pub fn remove(&self, ino: u64) {
        let order = &mut *self.0.lock();
        if let Some(closing) = order.of.remove(&ino) {
            order.by_closing.remove(&closing);
        }
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
        for ino in [1, 2, 3, 1, 4, 2] {
            closed.add(ino);
        }
        closed.remove(4);
        assert_eq!(std::iter::from_fn(|| closed.pop()).collect::<Vec<_>>(), [3, 1, 2]);
    }
}
