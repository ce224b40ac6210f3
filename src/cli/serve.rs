//! From a checked request to the end of the mount: keys, store, mount, and a clean end.

use super::assembly::{self, Outside};
use super::daemon;
use super::exit::{Failure, describe};
use super::helper::Helpers;
use super::helper::keeper::Keeper;
use super::idle::Idle;
use super::inherited;
use super::logging;
use super::mount::Plan;
use super::notify::Notify;
use super::sandbox;
use super::text::shown;
use super::threads;
use kmsfs_fs::Fs;
use kmsfs_fuse as fuse;
use kmsfs_kms_local::Unlock;
use kmsfs_store::Volume;
use kmsfs_sys::{self as sys, Signals};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// What was modified is committed this often (see docs/ARCHITECTURE.md, durability).
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Keys that were taken away or given back are noticed within a second; looking costs a stat(2).
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Takes this process from here to the end of the mount. `caller` waits for it in the background.
pub fn serve(
    plan: Plan,
    helpers: Helpers,
    secret: Unlock,
    locked: Result<(), String>,
    caller: Option<daemon::Waiting>,
) -> Result<ExitCode, Failure> {
    sys::use_one_heap();
    if caller.is_some() {
        inherited::put_right_in_background();
    }
    helpers.expect_ready().map_err(|e| Failure::new(format!("cannot start a process: {}", describe(&e))))?;
    // What tells of the mount ends with it.
    let Helpers { keeper, broker, metrics: _metrics } = helpers;
    let sink = plan.sink(caller.is_none(), &broker)?;
    let keep_stderr = sink.keeps_stderr();
    if let Some(notice) = sink.notice() {
        eprintln!("kmsfs: {notice}");
    }
    logging::start(sink, plan.options.log_level);
    if let Err(reason) = locked {
        log::info!("{reason}");
    }
    if !keep_stderr {
        plan.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    }

    let notify = Notify::connect();
    let (connecting, reading) = (Arc::clone(&broker), Arc::clone(&broker));
    if plan.options.sandbox {
        kmsfs_kms::read_processes_through(Box::new(move |pid, status| reading.read_process(pid, status)));
    }
    let outside = Outside {
        users: broker,
        connect_syslog: Arc::new(move || connecting.connect_syslog()),
        confined: plan.options.sandbox,
    };
    // A signal that comes before the mount ends the process, which the redo log bears.
    let store: Arc<dyn Volume> = assembly::open(&plan.store, &plan.keyring, &secret, &plan.options, &outside)?;
    drop(secret);
    let stop = Stop::new(Arc::new(keeper)).map_err(|e| Failure::new(describe(&e)))?;
    let caller = caller.map(|caller| (caller, keep_stderr));
    let result = serve_store(&plan, &store, caller, &stop, &Arc::new(notify));
    let closed = store.close();
    stop.keeper.release_store();
    result?;
    closed.map_err(|e| logged(assembly::explain(&plan.store, &e)))?;
    log::info!("unmounted {} from {}", plan.store.display(), plan.target.display());
    Ok(ExitCode::SUCCESS)
}

fn serve_store(
    plan: &Plan,
    store: &Arc<dyn Volume>,
    caller: Option<(daemon::Waiting, bool)>,
    stop: &Arc<Stop>,
    notify: &Arc<Notify>,
) -> Result<(), Failure> {
    let event_loops = threads::event_loops(plan.options.threads, store.keys().may_wait())?;
    let fs = assembly::file_system(store, &plan.options);
    let keeper = Arc::clone(&stop.keeper);
    let ask_attributes = Box::new(move |path: &Path| keeper.ask_attributes(path));
    let in_background = caller.is_some();
    let confined = Arc::clone(store);
    let before_threads = |carrier| {
        stop.keeper.bind()?;
        // Not earlier: an automounter knows those who mount by their process group, and makes all others wait.
        if in_background {
            daemon::detach();
        }
        log::info!("requests come by {}", fuse::Carrier::name(carrier));
        if carrier == fuse::Carrier::Rings {
            logging::carried_by_rings();
        }
        confine(plan, carrier);
        confined.confined().map_err(|error| io::Error::other(error.to_string()))
    };
    let options = fuse::MountOptions { threads: event_loops, ..plan.mount_options() };
    let mounted = fuse::mount(fs.clone(), &options, ask_attributes, before_threads)
        .map_err(|e| Failure::new(format!("cannot mount on {}: {}", shown(&plan.target), describe(&e))))?;
    let started = Background::start(plan, &fs, &mounted, stop, !in_background)
        .and_then(|background| Ok((background, announce(plan, caller, Arc::clone(stop), Arc::clone(notify))?)));
    let (background, answers) = match started {
        Ok(started) => started,
        Err(error) => {
            // No event loop runs any more, so no request waits for one.
            drop(mounted);
            stop.unmounted();
            fs.stop_draining();
            return Err(Failure::new(format!("cannot start a thread: {}", describe(&error))));
        }
    };
    let served = mounted.run();
    if served.is_err() {
        // An event loop has failed, and others may go on: what is closed below is not to be asked any more.
        stop.keeper.abort();
    }
    stop.unmounted();
    notify.stopping();
    drop(background.idle);
    drop(background.watcher);
    fs.stop_draining();
    drop(background.elsewhere);
    drop(background.ticker);
    if !answers.load(Ordering::Acquire) && !stop.was_asked() {
        return Err(Failure::new(format!("{} was unmounted before it answered", shown(&plan.target))));
    }
    served.map_err(|e| logged(Failure::new(format!("{}: {}", shown(&plan.target), describe(&e)))))
}

/// What a mount does by itself.
struct Background {
    ticker: Ticker,
    watcher: Ticker,
    /// Looks after keys whose KMS is elsewhere, where there may be any.
    elsewhere: Option<Ticker>,
    idle: Option<Ticker>,
}

impl Background {
    fn start(
        plan: &Plan,
        fs: &Arc<Fs>,
        mounted: &fuse::Mounted,
        stop: &Arc<Stop>,
        foreground: bool,
    ) -> io::Result<Self> {
        stop.listen(foreground)?;
        let ticked = Arc::clone(fs);
        let ticker = Ticker::start("commit", COMMIT_INTERVAL, move || {
            ticked.commit_all();
            ticked.store().keys().tick();
        })?;
        let watched = Arc::clone(fs);
        let watcher = Ticker::start("watch", WATCH_INTERVAL, move || {
            watched.watch_keys_at_hand();
            watched.bound_inodes();
        })?;
        let watched = Arc::clone(fs);
        let elsewhere = fs
            .store()
            .keys()
            .may_wait()
            .then(|| Ticker::start("watch-far", WATCH_INTERVAL, move || watched.watch_keys_elsewhere()));
        let idle = plan.options.idle_timeout.map(|timeout| {
            let stop = Arc::clone(stop);
            let unmount = Box::new(move || stop.unmount_unless_busy());
            let idle = Idle::new(timeout, Arc::clone(fs), mounted.statistics(), unmount);
            Ticker::start("idle", idle.interval(), move || idle.look())
        });
        Ok(Self { ticker, watcher, elsewhere: elsewhere.transpose()?, idle: idle.transpose()? })
    }
}

/// Gives up what serving does not need, unless `-o nosandbox` asks to keep it.
fn confine(plan: &Plan, carrier: fuse::Carrier) {
    if !plan.options.sandbox {
        return;
    }
    let own = vec![plan.store.clone(), plan.keyring.clone()];
    let audit = plan.options.audit.file();
    if let Err(reason) = sandbox::enter(&sandbox::Paths { own, audit }, carrier) {
        log::warn!("{reason}");
    }
}

/// For failures after the caller has gone, when standard error may be /dev/null.
fn logged(failure: Failure) -> Failure {
    log::error!("{failure}");
    failure
}

/// Has the mount looked at from outside, as the caller will, and lets the caller go on. (From a thread: the mount is
/// served by this very process.)
fn announce(
    plan: &Plan,
    caller: Option<(daemon::Waiting, bool)>,
    stop: Arc<Stop>,
    notify: Arc<Notify>,
) -> io::Result<Arc<AtomicBool>> {
    let answers = Arc::new(AtomicBool::new(false));
    let (target, store, answered) = (plan.target.clone(), plan.store.clone(), Arc::clone(&answers));
    threads::start("announce", move || {
        let ready = stop.keeper.look().and_then(|()| {
            // Before the caller goes on, who may unmount at once.
            answered.store(true, Ordering::Release);
            log::info!("mounted {} on {}", store.display(), target.display());
            notify.ready(&target);
            caller.map_or(Ok(()), |(caller, keep_stderr)| caller.release(keep_stderr))
        });
        if let Err(error) = ready {
            eprintln!("kmsfs: the mount on {} does not answer: {}", shown(&target), describe(&error));
            stop.unmount();
        }
    })?;
    Ok(answers)
}

/// Ends the mount when a signal says so.
struct Stop {
    signals: Signals,
    keeper: Arc<Keeper>,
    asked: AtomicBool,
}

impl Stop {
    /// SIGHUP too: it says that the terminal has gone, or that logs were moved away. Until `listen` they wait.
    fn new(keeper: Arc<Keeper>) -> io::Result<Arc<Self>> {
        let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])?;
        Ok(Arc::new(Self { signals, keeper, asked: AtomicBool::new(false) }))
    }

    fn listen(self: &Arc<Self>, foreground: bool) -> io::Result<()> {
        let stop = Arc::clone(self);
        // Now: a terminal that has gone would no longer be one, and in the background the caller's is none of ours.
        let on_terminal = foreground && (io::stdin().is_terminal() || io::stderr().is_terminal());
        let listening = move || {
            while let Ok(signal) = stop.signals.wait() {
                if signal == libc::SIGHUP && !on_terminal {
                    logging::reopen();
                    log::info!("signal {signal}: writing to the log files of these names from now on");
                    continue;
                }
                log::info!("signal {signal}: unmounting");
                stop.unmount();
            }
        };
        threads::start("signals", listening).map(drop)
    }

    fn unmount(&self) {
        self.asked.store(true, Ordering::Release);
        if let Err(error) = self.keeper.unmount() {
            log::error!("cannot unmount: {}", describe(&error));
        }
    }

    fn unmount_unless_busy(&self) -> io::Result<()> {
        self.keeper.unmount_unless_busy()
    }

    /// A mount that is still there, because serving it failed, is taken away. From now on a signal has nothing to end:
    /// closing the store goes on to its end.
    fn unmounted(&self) {
        let _ = self.keeper.unmount_lazily();
    }

    fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// Does something again and again, until it is dropped.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(name: &str, interval: Duration, act: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let ticking = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                act();
            }
        };
        Ok(Self { stop: Some(stop), thread: Some(threads::start(name, ticking)?) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
