//! Threads for requests that wait for the disk, so that the event loops do not.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Enough for as many programs to wait for one sync of the log together.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

pub struct Workers {
    queue: Sender<Job>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    threads: AtomicUsize,
    /// Threads, less jobs that run or wait: counted when a job is given, so that two never count on the same thread.
    free: Arc<AtomicIsize>,
}

impl Workers {
    pub fn new() -> Self {
        let (queue, jobs) = channel();
        Self {
            queue,
            jobs: Arc::new(Mutex::new(jobs)),
            threads: AtomicUsize::new(0),
            free: Arc::new(AtomicIsize::new(0)),
        }
    }

    /// Does it soon, on a thread of its own unless there are `MOST` already. Does it here if no thread can be made.
    pub fn run(&self, job: Job) {
        if self.free.fetch_sub(1, Ordering::SeqCst) <= 0 && self.threads.load(Ordering::SeqCst) < MOST {
            let (jobs, free) = (self.jobs.clone(), self.free.clone());
            let made = thread::Builder::new().name("kmsfs-sync".into()).spawn(move || work(&jobs, &free));
            if made.is_ok() {
                self.threads.fetch_add(1, Ordering::SeqCst);
                self.free.fetch_add(1, Ordering::SeqCst);
            }
        }
        if self.threads.load(Ordering::SeqCst) == 0 {
            self.free.fetch_add(1, Ordering::SeqCst);
            return job();
        }
        // The receiver lives as long as `self`.
        let _ = self.queue.send(job);
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
        let workers = Workers::new();
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
