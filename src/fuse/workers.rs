//! Threads for requests that wait for the disk, so that the event loops do not.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Enough for as many programs to wait for one sync of the log together.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

pub struct Workers {
    queue: Sender<Job>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    threads: AtomicUsize,
    idle: Arc<AtomicUsize>,
}

impl Workers {
    pub fn new() -> Self {
        let (queue, jobs) = channel();
        Self {
            queue,
            jobs: Arc::new(Mutex::new(jobs)),
            threads: AtomicUsize::new(0),
            idle: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Does it soon, on a thread of its own unless there are `MOST` already. Does it here if no thread can be made.
    pub fn run(&self, job: Job) {
        if self.idle.load(Ordering::SeqCst) == 0 && self.threads.load(Ordering::SeqCst) < MOST {
            let (jobs, idle) = (self.jobs.clone(), self.idle.clone());
            let made = thread::Builder::new().name("kmsfs-sync".into()).spawn(move || work(&jobs, &idle));
            if made.is_ok() {
                self.threads.fetch_add(1, Ordering::SeqCst);
            }
        }
        if self.threads.load(Ordering::SeqCst) == 0 {
            return job();
        }
        // The receiver lives as long as `self`.
        let _ = self.queue.send(job);
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, idle: &AtomicUsize) {
    loop {
        idle.fetch_add(1, Ordering::SeqCst);
        let job = jobs.lock().recv();
        idle.fetch_sub(1, Ordering::SeqCst);
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
