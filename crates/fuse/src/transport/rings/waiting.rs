//! How many requests of one processor's queue wait for what takes long, or takes other requests: each keeps an entry
//! meanwhile, and with none left whatever else is asked for there would wait as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The parts of a queue's entries that these may have. A quarter is left for everything else.
const SEEKS: usize = 4;
const ASKS: usize = 2;

/// Those that wait for one thing.
pub(super) struct Waiting {
    what: &'static str,
    count: AtomicUsize,
    most: usize,
    is_told: AtomicBool,
}

/// One that waits, until this is dropped.
pub(super) struct Turn(Arc<Waiting>);

/// What waits of one queue.
pub(super) struct Queue {
    /// Searches for data and holes: those of files that programs write wait for the kernel, which writes what it holds
    /// of the file, by requests that need entries.
    pub seeks: Arc<Waiting>,
    /// Requests that ask a KMS that may take its time.
    pub asks: Arc<Waiting>,
}

impl Queue {
    /// Of a queue with so many entries.
    pub(super) fn of(entries: usize) -> Self {
        Self {
            seeks: Waiting::new(entries / SEEKS, "searches for holes: holes are not shown any more"),
            asks: Waiting::new(entries / ASKS, "requests that wait for the KMS: the next ones are refused with EIO"),
        }
    }
}

impl Waiting {
    fn new(most: usize, what: &'static str) -> Arc<Self> {
        Arc::new(Self { what, count: AtomicUsize::new(0), most, is_told: AtomicBool::new(false) })
    }

    /// Whether one more may wait; the log says once of each that none may.
    pub(super) fn begin(this: &Arc<Self>) -> Option<Turn> {
        let turn = Turn(Arc::clone(this));
        if this.count.fetch_add(1, Ordering::AcqRel) < this.most {
            return Some(turn);
        }
        if !this.is_told.swap(true, Ordering::Relaxed) {
            log::warn!("more than {} at the same time on one processor over io_uring: {}", this.most, this.what);
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_queue_is_left_whoever_waits() {
        for entries in [super::super::THREADS * super::super::ENTRIES, super::super::SPARE_ENTRIES] {
            let queue = Queue::of(entries);
            let all = |waiting| std::iter::from_fn(|| Waiting::begin(waiting)).collect::<Vec<_>>();
            let (seeks, asks) = (all(&queue.seeks), all(&queue.asks));
            assert!(seeks.len() >= 4 && asks.len() >= 8, "{} {}", seeks.len(), asks.len());
            assert!(entries - seeks.len() - asks.len() >= entries / 4);
            assert!(Waiting::begin(&queue.asks).is_none(), "a refusal takes no turn away, and gives none");
            let asks: Vec<_> = asks.into_iter().skip(1).collect();
            let again = Waiting::begin(&queue.asks);
            assert!(again.is_some() && Waiting::begin(&queue.asks).is_none());
            drop((asks, seeks));
        }
    }
}
