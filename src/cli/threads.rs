//! Whether a mount can have the threads that it takes: found out before anything is mounted.

use super::exit::Failure;
use parking_lot::Mutex;
use std::io;
use std::thread::{self, JoinHandle};

/// Those of every mount besides its event loops: in the background to commit, to watch keys and use, to wait for
/// signals and to announce the mount (`serve`), the first ones of each crew, and those that tell the kernel
/// (`fuse::mount`).
const OWN: usize = 9;

/// Starts one of a mount's own threads.
pub fn start(name: &str, act: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("kmsfs-{name}")).spawn(act)
}

/// Those of a mount whose KMS may take its time: one that asks it for programs, and one that watches keys there.
const ASKING: usize = 2;

/// How many event loops there can be of those that are `wanted`: one, at least. `asks`: whether there are threads that
/// wait for the KMS too.
pub fn event_loops(wanted: usize, asks: bool) -> Result<usize, Failure> {
    let wanted = wanted.max(1);
    let own = if asks { OWN + ASKING } else { OWN };
    let (had, why) = at_once(own + wanted);
    let Some(error) = why else { return Ok(wanted) };
    if had <= own {
        let text = format!(
            "only {had} of {} threads can be made: {}: raise the limit on processes (ulimit -u, or TasksMax= of the unit)",
            own + 1,
            super::exit::describe(&error)
        );
        return Err(Failure::new(text));
    }
    log::warn!("only {} of {wanted} event loops can be made: {}", had - own, super::exit::describe(&error));
    Ok(had - own)
}

/// How many threads there can be at the same time, up to `wanted`, and why no more. They are gone when it returns.
fn at_once(wanted: usize) -> (usize, Option<io::Error>) {
    static GATE: Mutex<()> = Mutex::new(());
    let closed = GATE.lock();
    let mut waiting = Vec::new();
    let mut why = None;
    while waiting.len() < wanted && why.is_none() {
        match start("trial", || drop(GATE.lock())) {
            Ok(thread) => waiting.push(thread),
            Err(error) => why = Some(error),
        }
    }
    drop(closed);
    let had = waiting.len();
    for thread in waiting {
        let _ = thread.join();
    }
    (had, why)
}
