//! Ctrl-C ends a command that takes long after the piece that is under way.

use super::threads;
use kmsfs_sys::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once SIGINT or SIGTERM has come. Where no thread can wait for them, they end the process at once.
pub fn interruption() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let Ok(signals) = Signals::block(&[libc::SIGINT, libc::SIGTERM]) else { return interrupted };
    let (signals, told) = (Arc::new(signals), Arc::clone(&interrupted));
    let waited_for = Arc::clone(&signals);
    let waiting = threads::start("signals", move || {
        let _ = waited_for.wait();
        told.store(true, Ordering::Release);
    });
    if waiting.is_err() {
        signals.release();
    }
    interrupted
}
