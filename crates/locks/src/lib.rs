//! Locks that know their place in one order.
//!
//! A thread takes locks in the order of [`ranks`] only, so that no two threads can wait for each other. Each lock has
//! its rank in its type. In a debug build each thread keeps a list of the ranks that it holds, and panics when it takes
//! one that does not come after all of them, whether or not another thread is in the way at that moment; the tests run
//! so. In a release build the locks are parking_lot's: nothing is kept, compared or added to them.
//!
//! ```
//! use kmsfs_locks::{Mutex, ranks};
//!
//! let drafts: Mutex<ranks::Drafts, Vec<u64>> = Mutex::new(Vec::new());
//! let handles: Mutex<ranks::HandlesOfInode, u64> = Mutex::new(7);
//! drafts.lock().push(*handles.lock());
//! ```
//!
//! What is no lock, but is waited for like one, takes a [`Rank`] as well, as a [`Turn`]: an inode number that changes
//! hands, for instance.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod condvar;
mod held;
mod mutex;
pub mod ranks;
mod rwlock;

pub use condvar::Condvar;
pub use held::{Turn, check_before_asking_the_kms};
pub use mutex::{Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard};
pub use ranks::Rank;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(all(test, debug_assertions))]
mod tests;
