//! `kmsfs mount`: checks, opens the store, mounts it, and serves until somebody unmounts.

use super::exit::{Failure, describe};
use super::helper::Helpers;
use super::helper::broker::Broker;
use super::helper::keeper::Keeper;
use super::helper::metrics::Metrics;
use super::logging::{self, Sink};
use super::mount8;
use super::mountpoint;
use super::options::{self, Options};
use super::serve::serve;
use super::state::StateArgs;
use super::store_args::{self, Chosen, StoreArgs};
use super::text::{shell_word, shown};
use super::unlock::UnlockArgs;
use super::{assembly, daemon, harden, inherited, memory, remount};
use clap::Args;
use kmsfs_fuse as fuse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Mount a store
///
/// Returns once the mount answers and goes on in the background, where messages go to syslog (or
/// `-o log_file=`). `umount MOUNTPOINT`, `fusermount3 -u MOUNTPOINT`, SIGTERM and SIGINT end it cleanly.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}\n\n{}", options::HELP, store_args::HELP))]
pub struct MountArgs {
    #[command(flatten)]
    chosen: StoreArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Take the store at once from a machine that did not give it up and is known to be down
    #[arg(long)]
    take_over: bool,
    /// Stay in the foreground and log to standard error
    #[arg(long, short = 'f')]
    foreground: bool,
    /// Mount options, separated by commas; may be repeated
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// The store, a directory that `kmsfs init` made; left out where --store or KMSFS_STORE names it
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
    /// The directory to mount it on
    mountpoint: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs mount --key-file /root/kmsfs.key /srv/store /mnt
  kmsfs mount --foreground --passphrase-file pass -o ro,allow_other /srv/store /mnt
  mount -t kmsfs /srv/store /mnt -o key-file=/root/kmsfs.key
  kmsfs mount photos       # as [stores.photos] in /etc/kmsfs.toml or ~/.config/kmsfs/config.toml says
  /etc/fstab:  /srv/store  /mnt  kmsfs  key-file=/root/kmsfs.key,noauto  0  0";

/// A mount that is asked for, by the command line or by mount(8).
pub struct Request {
    store: PathBuf,
    mountpoint: PathBuf,
    options: Options,
    unlock: UnlockArgs,
    foreground: bool,
    /// Check everything, mount nothing.
    fake: bool,
    verbose: bool,
    namespace: Option<PathBuf>,
}

impl MountArgs {
    /// An option given in both ways is the command line's.
    pub fn into_request(self) -> Result<Request, Failure> {
        let of_name = if self.mountpoint.is_none() && self.chosen.names_store() {
            self.chosen.configured_options(None)?
        } else {
            self.chosen.configured_options(self.place.as_deref())?
        };
        let words = of_name.iter().chain(&self.options).map(String::as_str);
        let mut options = Options::parse(words, false).map_err(Failure::usage)?;
        let (store, mountpoint) = match (self.place, self.mountpoint) {
            (Some(only), None) if self.chosen.names_store() => (None, Some(only)),
            both => both,
        };
        let chosen = choose(self.chosen, store, &mut options)?;
        options.take_over = self.take_over;
        options.state = StateArgs { state: self.state.state.or(options.state.state), ..self.state };
        let store = chosen.store()?.to_owned();
        let Some(mountpoint) = mountpoint.or(chosen.mountpoint) else {
            let text = format!("no mount point was named: kmsfs mount {} MOUNTPOINT", shell_word(&store));
            return Err(Failure::usage(text));
        };
        let unlock = chosen.unlock;
        Ok(Request {
            store,
            mountpoint,
            options,
            unlock,
            foreground: self.foreground,
            fake: false,
            verbose: false,
            namespace: None,
        })
    }
}

impl Request {
    pub fn of_mount8(call: mount8::Call) -> Result<Self, Failure> {
        let mut options = call.options;
        let chosen = choose(StoreArgs::default(), Some(call.store), &mut options)?;
        Ok(Self {
            store: chosen.store()?.to_owned(),
            mountpoint: call.mountpoint,
            options,
            unlock: chosen.unlock,
            foreground: false,
            fake: call.fake,
            verbose: call.verbose,
            namespace: call.namespace,
        })
    }
}

/// What `-o` says of the keyring comes after the command line, and before the environment.
fn choose(args: StoreArgs, store: Option<PathBuf>, options: &mut Options) -> Result<Chosen, Failure> {
    let chosen = args.or(options.keyring.take(), std::mem::take(&mut options.unlock)).choose(store)?;
    options.keyring.clone_from(&chosen.keyring);
    Ok(chosen)
}

/// A request whose paths are absolute and checked.
pub struct Plan {
    pub store: PathBuf,
    pub target: PathBuf,
    pub keyring: PathBuf,
    pub unlock: UnlockArgs,
    pub options: Options,
    pub warnings: Vec<String>,
}

/// Does what was asked for. In the background the caller's process returns once the mount is ready or has failed.
pub fn run(request: Request) -> Result<ExitCode, Failure> {
    inherited::put_right();
    if let Some(namespace) = &request.namespace {
        enter_namespace(namespace)?;
    }
    if request.options.remount && !request.fake {
        return remount::run(&request.mountpoint, &request.options).map(|()| ExitCode::SUCCESS);
    }
    let (foreground, fake, verbose) = (request.foreground, request.fake, request.verbose);
    harden::forbid_dumps();
    let plan = Plan::check(request)?;
    for warning in &plan.warnings {
        eprintln!("kmsfs: {warning}");
    }
    if fake {
        return Ok(ExitCode::SUCCESS);
    }
    if verbose {
        println!("kmsfs: mounting {} on {}", shown(&plan.store), shown(&plan.target));
    }
    // Before a secret is there, so that it has none.
    let helpers = plan.start_helpers();
    let helpers = helpers?;
    // Before a key is there; a child of fork(2) has to lock its own.
    let locked = harden::lock_memory();
    // While there is one process: what interrupts the question ends all of it.
    let secret = plan.unlock.read(&plan.keyring)?;
    if foreground {
        return serve(plan, helpers, secret, locked, None);
    }
    match daemon::into_background((helpers, secret))? {
        daemon::Side::Parent(code) => Ok(code),
        daemon::Side::Child(caller, (helpers, secret)) => {
            serve(plan, helpers, secret, harden::lock_memory(), Some(caller))
        }
    }
}

impl Plan {
    fn check(request: Request) -> Result<Self, Failure> {
        refuse_swapped(&request.store, &request.mountpoint)?;
        let store = assembly::find_store(&request.store)?;
        let mut options = request.options;
        let mut unlock = request.unlock;
        // The daemon changes to `/` before it uses them.
        unlock.make_absolute()?;
        options.audit = options.audit.or_environment();
        options.audit.make_absolute()?;
        options.state.make_absolute()?;
        for path in [&mut options.keyring, &mut options.log_file].into_iter().flatten() {
            *path = std::path::absolute(&*path).map_err(|e| Failure::new(describe(&e)))?;
        }
        let keyring = options.keyring.take().unwrap_or_else(|| assembly::default_keyring(&store));
        let (target, mut warnings) = mountpoint::prepare(&request.mountpoint)?;
        let no_rings = if options.io_uring { fuse::why_not_by_rings() } else { None };
        options.io_uring &= no_rings.is_none();
        warnings.extend(no_rings.map(|reason| format!("requests come over /dev/fuse: {reason}")));
        let rings = if options.io_uring { fuse::memory_of_rings() } else { 0 };
        let (cache, why) = memory::room_for_cache(options.cache, options::LEAST_CACHE << 20, rings);
        options.cache = cache;
        warnings.extend(why);
        mountpoint::check_apart(&store, &target)?;
        Ok(Self { store, target, keyring, unlock, options, warnings })
    }

    /// As mount(8) has them, except that set-id bits, file capabilities and devices count only where that is asked for:
    /// modes, owners and kinds of files are the store's, and nothing authenticates them.
    pub fn mount_options(&self) -> fuse::MountOptions {
        let options = &self.options;
        fuse::MountOptions {
            mountpoint: self.target.clone(),
            source: self.store.to_string_lossy().into_owned(),
            read_only: options.read_only,
            allow_other: options.allow_other,
            writeback_cache: options.writeback,
            threads: options.threads,
            io_uring: options.io_uring,
            suid: options.suid == Some(true),
            dev: options.dev == Some(true),
            exec: options.exec,
            noatime: options.noatime,
            sync: options.sync,
            dirsync: options.dirsync,
        }
    }

    fn start_helpers(&self) -> Result<Helpers, Failure> {
        let failed = |e: io::Error| Failure::new(format!("cannot start a process: {}", describe(&e)));
        let Options { log_file, sandbox, .. } = &self.options;
        let logs = log_file.as_ref().map_or_else(logging::default_log_files, |path| vec![path.clone()]);
        let keeper = Keeper::start(&self.target, &self.store, *sandbox).map_err(failed)?;
        let broker = Arc::new(Broker::start(&logs, *sandbox).map_err(failed)?);
        let metrics = self.options.metrics.as_ref();
        let metrics = metrics.map(|address| Metrics::start(address, &self.target, *sandbox)).transpose()?;
        Ok(Helpers { keeper, broker, metrics })
    }

    /// Where messages go from now on.
    pub fn sink(&self, foreground: bool, broker: &Arc<Broker>) -> Result<Sink, Failure> {
        let (opening, connecting) = (Arc::clone(broker), Arc::clone(broker));
        let open: logging::OpenLog = Arc::new(move |path| opening.open_log(path));
        match &self.options.log_file {
            Some(path) => {
                Sink::file(path, open).map_err(|e| Failure::new(format!("log file {}: {}", shown(path), describe(&e))))
            }
            None if foreground => Ok(Sink::Stderr),
            None => Ok(Sink::background(Arc::new(move || connecting.connect_syslog()), open)),
        }
    }
}

fn refuse_swapped(store: &Path, mountpoint: &Path) -> Result<(), Failure> {
    let is_store = |path: &Path| path.join("store.json").is_file();
    if is_store(store) || !is_store(mountpoint) {
        return Ok(());
    }
    let (one, other) = (shell_word(mountpoint), shell_word(store));
    let text = format!("{} is a store, and {} is none", shown(mountpoint), shown(store));
    Err(Failure::usage(format!("{text}: the store comes first, as in kmsfs mount {one} {other}")))
}

fn enter_namespace(path: &Path) -> Result<(), Failure> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    let entered = fs::File::open(path).and_then(|file| {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(io::Error::from)
    });
    entered.map_err(|e| Failure::new(format!("mount namespace {}: {}", shown(path), describe(&e))))
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        mount: MountArgs,
    }

    fn request(words: &[&str]) -> Request {
        Line::try_parse_from([&["mount"], words].concat()).unwrap().mount.into_request().unwrap()
    }

    #[test]
    fn key_file_and_keyring_may_be_mount_options() {
        let request = request(&["-o", "ro,key-file=/k,keyring=/ring", "-o", "threads=3", "/s", "/m"]);
        assert_eq!(request.unlock.key_file, Some(PathBuf::from("/k")));
        assert_eq!(request.options.keyring, Some(PathBuf::from("/ring")));
        assert!(request.options.read_only && request.options.threads == 3);
    }

    #[test]
    fn the_command_line_wins_over_mount_options() {
        let request = request(&[
            "--passphrase-file",
            "/p",
            "-o",
            "key-file=/k",
            "--keyring",
            "/a",
            "-o",
            "keyring=/b",
            "/s",
            "/m",
        ]);
        assert_eq!(request.unlock.passphrase_file, Some(PathBuf::from("/p")));
        assert_eq!(request.unlock.key_file, None);
        assert_eq!(request.options.keyring, Some(PathBuf::from("/a")));
    }

    #[test]
    fn an_unknown_option_is_wrong_usage() {
        let line = Line::try_parse_from(["mount", "-o", "nonsense", "/s", "/m"]).unwrap();
        let failure = line.mount.into_request().err().unwrap();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Usage, "unknown mount option 'nonsense'"));
    }
}
