//! Threads for requests that wait, so that the event loops do not.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Enough for as many programs to wait for one sync of the log together.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// All of them, for one mount.
pub struct Crew {
    /// For what waits for the disk.
    pub workers: Workers,
    /// For what waits until the kernel has written what it has of a file, which may take one of `workers`.
    pub seekers: Workers,
}

impl Crew {
    pub fn new() -> Self {
        Self { workers: Workers::new("kmsfs-sync", MOST), seekers: Workers::new("kmsfs-seek", 1) }
    }

    /// Makes the first thread of each kind. Others are made on demand, and done without where they cannot be had.
    pub fn start(&self) -> io::Result<()> {
        self.workers.add()?;
        self.seekers.add()
    }
}

pub struct Workers {
    name: &'static str,
    most: usize,
    queue: Sender<Job>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    threads: AtomicUsize,
    /// Threads, less jobs that run or wait: counted when a job is given, so that two never count on the same thread.
    free: Arc<AtomicIsize>,
}

impl Workers {
    fn new(name: &'static str, most: usize) -> Self {
        let (queue, jobs) = channel();
        Self {
            name,
            most,
            queue,
            jobs: Arc::new(Mutex::new(jobs)),
            threads: AtomicUsize::new(0),
            free: Arc::new(AtomicIsize::new(0)),
        }
    }

    /// Does it soon, on a thread of its own unless there are as many as there may be already.
    pub fn run(&self, job: Job) {
        if self.free.fetch_sub(1, Ordering::SeqCst) <= 0
            && self.threads.load(Ordering::SeqCst) < self.most
            && let Err(error) = self.add()
        {
            log::debug!("{} threads have to do: {error}", self.threads.load(Ordering::SeqCst));
        }
        // The receiver lives as long as `self`.
        let _ = self.queue.send(job);
    }

    fn add(&self) -> io::Result<()> {
        let (jobs, free) = (self.jobs.clone(), self.free.clone());
        thread::Builder::new().name(self.name.into()).spawn(move || work(&jobs, &free))?;
        self.threads.fetch_add(1, Ordering::SeqCst);
        self.free.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, free: &AtomicIsize) {
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        job();
        free.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Duration;

    /// As fsyncs do that share one sync of the log.
    #[test]
    fn as_many_jobs_as_there_may_be_threads_can_wait_for_each_other() {
        let workers = Workers::new("worker", MOST);
        for _ in 0..200 {
            let (done, all) = channel();
            let barrier = Arc::new(Barrier::new(MOST));
            for _ in 0..MOST {
                let (done, barrier) = (done.clone(), barrier.clone());
                workers.run(Box::new(move || {
                    barrier.wait();
                    let _ = done.send(());
                }));
            }
            for _ in 0..MOST {
                assert!(all.recv_timeout(Duration::from_secs(30)).is_ok(), "a job waits behind another one");
            }
        }
    }
}
