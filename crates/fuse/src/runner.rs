//! Runs requests: what has to be done around each of them is done here, once.

use super::answer::{Answer, Reply, Room};
use super::nodes::by_number::ByNumber;
use super::op::{Op, Request};
use super::perform::Mount;
use super::workers::Crew;
use kmsfs_fs::{LONG, Result};
use std::sync::{Arc, OnceLock};

/// Has the kernel write what it holds of an inode, and waits for that: for event loops and workers to take it.
pub type WriteBack = Box<dyn Fn(u64) + Send + Sync>;

/// Runs the requests of one mount, for whatever transport carries them.
#[derive(Clone)]
pub struct Runner(Arc<Shared>);

struct Shared {
    mount: Mount,
    crew: Arc<Crew>,
    by_number: ByNumber,
    /// Set once the kernel can be told something.
    write_back: OnceLock<WriteBack>,
}

/// What a request may have to wait for, beyond the time that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Never,
    /// Until a checkpoint is over, if there is one.
    ForCheckpoint,
    /// For a disk, or much data.
    ForDisk,
    /// Until the kernel has written what it holds of the inode.
    ForWriteBack,
}

impl Runner {
    pub fn new(mount: Mount, crew: Arc<Crew>) -> Self {
        Self(Arc::new(Shared { mount, crew, by_number: ByNumber::default(), write_back: OnceLock::new() }))
    }

    pub fn mount(&self) -> &Mount {
        &self.0.mount
    }

    pub fn write_back_by(&self, write_back: WriteBack) {
        let _ = self.0.write_back.set(write_back);
    }

    /// Has a request answered: at once, unless it would have to wait, since whoever calls takes other requests
    /// meanwhile.
    pub fn run<R: Reply>(&self, request: Request<'_>, reply: R) {
        if matches!(request.op, Op::Find | Op::FindAbove) {
            return self.find(request.into_owned(), reply);
        }
        match self.waits(&request) {
            Waits::Never => self.0.serve(&request, reply),
            Waits::ForCheckpoint if !self.mount().fs.store().appends_wait() => self.0.serve(&request, reply),
            Waits::ForCheckpoint | Waits::ForDisk => self.on_a_worker(request.into_owned(), reply),
            // From neither an event loop nor a worker: these take what the kernel writes.
            Waits::ForWriteBack => {
                let (runner, request) = (self.clone(), request.into_owned());
                self.0.crew.seekers.run(Box::new(move || {
                    if let Some(write_back) = runner.0.write_back.get() {
                        write_back(request.ino);
                    }
                    if runner.takes_long(&request) {
                        runner.on_a_worker(request, reply);
                    } else {
                        runner.0.serve(&request, reply);
                    }
                }));
            }
        }
    }

    fn waits(&self, request: &Request<'_>) -> Waits {
        match request.op {
            Op::Fsync { .. } | Op::FsyncDir | Op::CopyFileRange { .. } => Waits::ForDisk,
            Op::Fallocate { range, .. } if range.len > LONG => Waits::ForDisk,
            Op::SetAttr { .. } | Op::Rename { .. } | Op::Write { .. } | Op::Flush { .. } | Op::Fallocate { .. } => {
                Waits::ForCheckpoint
            }
            // What the kernel has not written yet counts as data, and it does not write it before it asks.
            Op::LSeek { .. } if self.mount().fs.has_writers(request.ino) => Waits::ForWriteBack,
            Op::LSeek { .. } if self.takes_long(request) => Waits::ForDisk,
            _ => Waits::Never,
        }
    }

    fn takes_long(&self, request: &Request<'_>) -> bool {
        let Op::LSeek { handle, offset, to } = request.op else { return false };
        self.mount().fs.seek_takes_long(handle, offset, to)
    }

    fn on_a_worker<R: Reply>(&self, request: Request<'static>, reply: R) {
        let shared = self.0.clone();
        self.0.crew.workers.run(Box::new(move || shared.serve(&request, reply)));
    }

    /// Answers once the inode is found, which may take a walk of the whole tree.
    fn find<R: Reply>(&self, request: Request<'static>, reply: R) {
        let shared = &self.0;
        let number = match request.op {
            Op::FindAbove => shared.mount.fs.above(request.ino),
            _ => Ok(request.ino),
        };
        let ino = match number {
            Ok(ino) => ino,
            Err(error) => return reply.send(shared.counted(&request.op, || Err(error))),
        };
        let waiting = shared.clone();
        let found = move |found: Result<_>| reply.send(waiting.counted(&request.op, || found.map(Answer::Entry)));
        if shared.by_number.wait(ino, Box::new(found)) {
            let shared = shared.clone();
            self.0.crew.workers.run(Box::new(move || shared.by_number.search(&shared.mount.fs)));
        }
    }
}

impl Shared {
    /// Does it on this thread and sends the answer.
    fn serve<R: Reply>(&self, request: &Request<'_>, mut reply: R) {
        if matches!(request.op, Op::Release { .. }) {
            // Nobody waits for what comes of it.
            reply.send(Ok(Answer::Done));
            let _ = self.attempt(request, &mut Nowhere);
            return;
        }
        let answer = self.attempt(request, &mut reply);
        reply.send(answer);
    }

    fn attempt(&self, request: &Request<'_>, room: &mut dyn Room) -> std::result::Result<Answer, i32> {
        self.counted(&request.op, || self.mount.perform(request, room))
    }

    fn counted(&self, op: &Op<'_>, act: impl FnOnce() -> Result<Answer>) -> std::result::Result<Answer, i32> {
        self.mount.statistics.attempt(op, act)
    }
}

/// Of a request that has been answered.
struct Nowhere;

impl Room for Nowhere {
    fn fill(&mut self, _len: usize, fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        fill(&mut [])
    }

    fn list(&mut self, _name: &super::answer::Listed<'_>) -> bool {
        false
    }
}
