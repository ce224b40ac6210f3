//! Stores that make one of the mistakes which are seeded in the commit protocol, to see that tests find it.

pub use kmsfs_store::mistakes::Mistake;

use kmsfs_store::StoreOptions;
use std::cell::Cell;

thread_local! {
    static MAKING: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Lets all stores make the mistake that are opened with `options` by this thread while `act` runs. They go on making
/// it whichever thread uses them.
pub fn making<T>(mistake: Mistake, act: impl FnOnce() -> T) -> T {
    struct Made;
    impl Drop for Made {
        fn drop(&mut self) {
            MAKING.set(None);
        }
    }
    MAKING.set(Some(mistake));
    let _made = Made;
    act()
}

/// The default options of a store, and inside of `making` its mistake.
pub fn options() -> StoreOptions {
    StoreOptions { mistake: MAKING.get(), ..StoreOptions::default() }
}
