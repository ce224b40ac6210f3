//! Threads for what waits, so that the event loops do not.

use super::numbers::Ino;
use kmsfs_locks::{Condvar, Mutex, ranks};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

/// What a thread does.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads that do jobs, as many as are needed up to a bound. Each job is about an inode. Those of one inode are begun
/// in their order, and the inodes take turns: however many jobs one of them has, another's next job begins as soon as a
/// thread is free, and one inode never has more than half of the threads. When it is dropped the jobs that are there
/// are still done, and then the threads end.
pub struct Executor(Arc<Shared>);

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<ranks::Jobs, State>,
    /// A job can begin.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Ino, Lane>,
    /// Inodes with a job that can begin, each once, in the order of their turns.
    turns: VecDeque<Ino>,
    threads: usize,
    idle: usize,
    /// Threads that were woken and do not run yet.
    woken: usize,
    closed: bool,
}

/// The jobs of one inode. It is there as long as one waits or runs.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    running: usize,
}

impl Executor {
    /// `most` threads, all called `name`. None is made before `start`.
    pub fn new(name: &'static str, most: usize) -> Self {
        Self(Arc::new(Shared { name, most, state: Mutex::default(), ready: Condvar::new() }))
    }

    /// Makes the first thread, if there is none. Without one no job is done; others are made on demand, and done
    /// without where they cannot be had.
    pub fn start(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.threads == 0 { add(&self.0, &mut state) } else { Ok(()) }
    }

    /// Does a job about an inode soon. The executor was started.
    pub fn run(&self, ino: Ino, job: Job) {
        let mut state = self.0.state.lock();
        state.put(ino, job, self.0.per_inode());
        if state.turns.is_empty() {
            // The inode has all the threads that it may have.
            return;
        }
        if state.woken < state.idle {
            state.woken += 1;
            self.0.ready.notify_one();
        } else if state.threads < self.0.most
            && let Err(error) = add(&self.0, &mut state)
        {
            log::debug!("{} threads have to do: {error}", state.threads);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.ready.notify_all();
    }
}

fn add(shared: &Arc<Shared>, state: &mut State) -> io::Result<()> {
    let of = shared.clone();
    thread::Builder::new().name(shared.name.into()).spawn(move || of.work())?;
    state.threads += 1;
    Ok(())
}

impl Shared {
    fn per_inode(&self) -> usize {
        (self.most / 2).max(1)
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((ino, job)) = state.take(self.per_inode()) {
                drop(state);
                let done = catch_unwind(AssertUnwindSafe(job));
                state = self.state.lock();
                if done.is_err() {
                    log::error!("a bug in kmsfs: a job of {} ended with a panic", self.name);
                }
                state.ended(ino, self.per_inode());
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                self.ready.wait(&mut state);
                state.idle -= 1;
                state.woken = state.woken.saturating_sub(1);
            }
        }
    }
}

impl State {
    fn put(&mut self, ino: Ino, job: Job, per_inode: usize) {
        let lane = self.lanes.entry(ino).or_default();
        lane.waiting.push_back(job);
        // With more than one it has a turn already, or all the threads that it may have.
        if lane.waiting.len() == 1 && lane.running < per_inode {
            self.turns.push_back(ino);
        }
    }

    fn take(&mut self, per_inode: usize) -> Option<(Ino, Job)> {
        let ino = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&ino)?;
        let job = lane.waiting.pop_front()?;
        lane.running += 1;
        if !lane.waiting.is_empty() && lane.running < per_inode {
            self.turns.push_back(ino);
        }
        Some((ino, job))
    }

    fn ended(&mut self, ino: Ino, per_inode: usize) {
        let Some(lane) = self.lanes.get_mut(&ino) else { return };
        lane.running -= 1;
        if lane.waiting.is_empty() {
            if lane.running == 0 {
                self.lanes.remove(&ino);
            }
        } else if lane.running + 1 == per_inode {
            // It had all that it may have, and so no turn.
            self.turns.push_back(ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    const MOST: usize = 16;
    const LONG: Duration = Duration::from_secs(60);

    /// As fsyncs of different files do that share one sync of the log.
    #[test]
    fn as_many_jobs_as_there_may_be_threads_can_wait_for_each_other() {
        let executor = started(MOST);
        for _ in 0..200 {
            let (done, all) = channel();
            let barrier = Arc::new(Barrier::new(MOST));
            for ino in (0..MOST as u64).map(Ino) {
                let (done, barrier) = (done.clone(), barrier.clone());
                executor.run(
                    ino,
                    Box::new(move || {
                        barrier.wait();
                        let _ = done.send(());
                    }),
                );
            }
            for _ in 0..MOST {
                assert!(all.recv_timeout(LONG).is_ok(), "a job waits behind another one");
            }
        }
    }

    #[test]
    fn a_flood_of_one_inode_leaves_threads_to_others() {
        let executor = started(MOST);
        let (told, events) = channel();
        let (release, held) = channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..1000 {
            let (told, held) = (told.clone(), held.clone());
            executor.run(
                Ino(1),
                Box::new(move || {
                    // Until the sender is gone.
                    let _ = held.lock().unwrap().recv();
                    let _ = told.send(1);
                }),
            );
        }
        for ino in 2..40 {
            tell(&executor, Ino(ino), ino, &told);
            assert_eq!(events.recv_timeout(LONG), Ok(ino), "it waits for those that are held");
        }
        drop(release);
        for _ in 0..1000 {
            assert_eq!(events.recv_timeout(LONG), Ok(1));
        }
        assert!(executor.0.state.lock().turns.is_empty());
    }

    #[test]
    fn with_one_thread_inodes_take_turns_and_each_keeps_its_order() {
        let executor = started(1);
        let (told, events) = channel();
        let (release, held) = channel::<()>();
        let hold = move || {
            // Until the sender is gone.
            let _ = held.recv();
        };
        executor.run(Ino(0), Box::new(hold));
        for n in 0..3 {
            for lane in 1..3 {
                tell(&executor, Ino(lane), lane * 10 + n, &told);
            }
        }
        for n in 3..6 {
            tell(&executor, Ino(1), 10 + n, &told);
        }
        tell(&executor, Ino(3), 3, &told);
        drop(release);
        let order: Vec<u64> = (0..10).map(|_| events.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(order, [10, 20, 3, 11, 21, 12, 22, 13, 14, 15]);
    }

    #[test]
    fn a_job_that_panics_takes_nobodys_thread() {
        let executor = started(1);
        let (told, events) = channel();
        executor.run(Ino(1), Box::new(|| panic!("as a bug would")));
        tell(&executor, Ino(1), 7, &told);
        assert_eq!(events.recv_timeout(LONG), Ok(7));
    }

    #[test]
    fn what_is_there_when_it_is_dropped_is_done_and_then_its_threads_end() {
        let executor = started(2);
        let (told, events) = channel();
        for n in 0..10 {
            tell(&executor, Ino(n), n, &told);
        }
        let shared = Arc::downgrade(&executor.0);
        drop((executor, told));
        // Until all of its threads have let go of what they tell.
        assert_eq!(events.iter().count(), 10);
        while shared.upgrade().is_some() {
            thread::yield_now();
        }
    }

    fn started(most: usize) -> Executor {
        let executor = Executor::new("executor", most);
        executor.start().unwrap();
        executor
    }

    /// A job that sends this.
    fn tell(executor: &Executor, ino: Ino, what: u64, told: &Sender<u64>) {
        let told = told.clone();
        let job = move || {
            let _ = told.send(what);
        };
        executor.run(ino, Box::new(job));
    }
}
