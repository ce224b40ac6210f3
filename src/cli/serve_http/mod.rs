//! `kmsfs serve`: S3, KMS and STS over HTTP. It starts the processes that have a part in it, each with as little as it
//! needs, and is itself the one that holds the keyring (docs/ARCHITECTURE.md).

mod authority;
mod front;
mod listening;
mod own_mount;
mod renewing;
mod spawner;
mod worker;

use super::audit::AuditArgs;
use super::exit::{Failure, describe};
use super::helper::broker::Broker;
use super::helper::{self, Duty as _};
use super::logging::{self, Sink};
use super::notify::Notify;
use super::state::StateArgs;
use super::store_args::{self, Chosen, StoreArgs};
use super::text::shown;
use super::{assembly, harden, inherited, sandbox, threads};
use assembly::Outside;
use authority::Authority;
use clap::Args;
use front::{Fronting, Given, Started};
use kmsfs_client::mounts;
use kmsfs_http::Settings;
use kmsfs_kms::api::Service;
use kmsfs_store as store;
use kmsfs_sys::Signals;
use own_mount::{OwnMount, Unmounting};
use renewing::Renewing;
use rustix::process::geteuid;
use spawner::{Spawner, Spawning};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use worker::Serving;

/// How long what is being answered at the end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serve a mount, or a store, over HTTP as S3 and KMS do
///
/// The top-level directories of the mount are buckets, and the paths below them are keys: what S3 clients put is a
/// file in the mount, and what a program writes there is an object. Requests are signed with access keys
/// (kmsfs iam create-access-key), each of which is a Linux user's: what that user may do in the mount the
/// requests may do. S3, KMS and STS are at one URL, which is printed. It stays in the foreground; SIGTERM and SIGINT
/// end it cleanly. SIGHUP has the certificate and its key read again, and the access log made anew if it was moved
/// away.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = format!("{EXAMPLES}\n\n{}", store_args::HELP))]
pub struct ServeArgs {
    #[command(flatten)]
    chosen: StoreArgs,
    #[command(flatten)]
    listen: listening::ListenArgs,
    /// Where to mount the store, if it is to be seen there too
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// A name that clients know this server by: BUCKET.NAME is a bucket then. May be repeated; localhost is one
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Write S3's server access log to this file
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// How many seconds a user's groups are not looked up again, and a process of a user that nobody asks goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    worker_lifetime: u64,
    /// Users who are served at the same time, each by a process; the one that nobody has asked for longest gives way
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    max_workers: usize,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    audit: AuditArgs,
    /// Keep privileges and system calls that serving does not need
    #[arg(long)]
    no_sandbox: bool,
    /// A mount of a store, or a store, which is then mounted while it is served
    #[arg(value_name = "STORE|MOUNTPOINT")]
    place: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs serve --key-file /root/kmsfs.key /mnt
  kmsfs serve --key-file /root/kmsfs.key --mount /mnt /srv/store
  kmsfs serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem --credential kmsfs /srv/store
  aws --endpoint-url http://127.0.0.1:9000 s3 ls";

/// The process itself, if the word is one of those that have a part in serving.
pub fn run_helper(word: &OsStr) -> Option<ExitCode> {
    match word.to_str()? {
        Fronting::WORD => Some(helper::run::<Fronting>()),
        Spawning::WORD => Some(helper::run::<Spawning>()),
        Serving::WORD => Some(helper::run::<Serving>()),
        Unmounting::WORD => Some(helper::run::<Unmounting>()),
        _ => None,
    }
}

pub fn run(mut args: ServeArgs) -> Result<ExitCode, Failure> {
    inherited::put_right();
    inherited::lift_limit_on_processes();
    harden::forbid_dumps();
    args.audit = args.audit.or_environment();
    let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP]).map_err(no_process)?;
    let listening = args.listen.bind()?;
    let chosen = args.chosen.clone().choose(args.place.take())?;
    let (store, mountpoint, own_mount) = find(&args, &chosen)?;
    let keyring = chosen.keyring_of(&store);
    let confined = !args.no_sandbox;
    let parameters =
        store::read_parameters(&*assembly::open_backend(&store)?).map_err(|e| assembly::explain(&store, &e))?;

    logging::start(Sink::Stderr, None);
    // Before a secret is there, so that they have none.
    let renewing = Renewing::of(&args.listen, args.access_log.as_deref())?;
    let users = Broker::start_with(&renewing.logs(), &renewing.reads(), confined).map_err(no_process)?;
    let users = Arc::new(users);
    let worker_lifetime = Duration::from_secs(args.worker_lifetime);
    let spawning = spawner::About::new(&mountpoint, confined, args.max_workers, worker_lifetime);
    let spawner = Spawner::start(&spawning).map_err(no_process)?;
    let settings = Settings {
        region: parameters.region.clone(),
        account_id: parameters.account_id.clone(),
        names: args.domain.clone(),
        worker_lifetime,
    };
    let access_log = args.access_log.as_deref().map(open_access_log).transpose()?;
    let (urls, metrics_url) = (listening.urls(), listening.metrics_url());
    let given = Given { listening, access_log, settings, confined };
    let front = Started::new(given).map_err(no_process)?;

    if let Err(reason) = harden::lock_memory() {
        log::info!("{reason}");
    }
    let notify = Notify::connect();
    let connecting = Arc::clone(&users);
    let outside =
        Outside { users: users.clone(), connect_syslog: Arc::new(move || connecting.connect_syslog()), confined };
    let secret = chosen.unlock.read(&keyring)?;
    let keys = assembly::open_kms_on(&store, &keyring, &secret, &args.state, &outside)?;
    drop(secret);
    let audited = args.audit.start(&keys, &outside.connect_syslog)?;
    let service = audited.map_or_else(|| keys.kms as Arc<dyn Service>, |audited| Arc::new(audited));
    users
        .expect_ready()
        .and_then(|()| spawner.expect_ready())
        .and_then(|()| front.expect_ready())
        .map_err(no_process)?;
    if confined {
        let paths = sandbox::Paths { own: vec![keyring], audit: args.audit.file() };
        if let Err(reason) = sandbox::enter_as_authority(&paths) {
            log::warn!("{reason}");
        }
    }
    let own = geteuid();
    let (account, region) = (parameters.account_id, parameters.region);
    let only = (!own.is_root()).then(|| own.as_raw());
    let authority = Arc::new(Authority { keyring: keys.local, service, users, spawner, account, region, only });
    let ended = serve(front, Arc::clone(&authority), signals, renewing, || {
        announce(&urls, metrics_url.as_deref(), &mountpoint);
        notify.ready(&mountpoint);
    });
    notify.stopping();
    authority.spawner.end();
    drop(own_mount);
    ended.map(|()| ExitCode::SUCCESS)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=10_000).contains(count)).ok_or("a number from 1 to 10000".to_owned())
}

fn no_process(error: io::Error) -> Failure {
    Failure::new(format!("cannot start a process: {}", describe(&error)))
}

/// The store, where it is mounted, and the mount if it was made for this.
fn find(args: &ServeArgs, chosen: &Chosen) -> Result<(PathBuf, PathBuf, Option<OwnMount>), Failure> {
    let named = chosen.store()?;
    let place = fs::canonicalize(named).map_err(|e| Failure::new(format!("{}: {}", shown(named), describe(&e))))?;
    let mount = mounts::at(&place).map_err(|e| Failure::new(describe(&e)))?;
    if let Some(mount) = mount {
        if args.mount.is_some() {
            return Err(Failure::usage(format!("{} is mounted already: --mount is for a store", shown(&place))));
        }
        return Ok((mount.source, place, None));
    }
    let store = assembly::find_store(&place)?;
    let own = OwnMount::make(
        &store,
        args.mount.as_deref(),
        &chosen.unlock,
        chosen.keyring.as_deref(),
        &args.state,
        &args.audit,
    )?;
    Ok((store, own.mountpoint().to_owned(), Some(own)))
}

fn open_access_log(path: &Path) -> Result<fs::File, Failure> {
    let failed = |e: io::Error| Failure::new(format!("access log {}: {}", shown(path), describe(&e)));
    logging::open_log_file(path).map_err(failed)
}

/// Whoever started it reads from these lines where it is.
fn announce(urls: &[String], metrics_url: Option<&str>, mountpoint: &Path) {
    let mut out = io::stdout().lock();
    for url in urls {
        let _ = writeln!(out, "kmsfs: serving {} at {url}", shown(mountpoint));
    }
    if let Some(url) = metrics_url {
        let _ = writeln!(out, "kmsfs: metrics at {url}");
    }
    let _ = out.flush();
}

/// What happens while it serves.
enum Event {
    /// A signal asks for its end.
    Asked,
    /// The front has closed a channel: it has ended, or gone wrong.
    Closed,
}

fn serve(
    mut front: Started,
    authority: Arc<Authority>,
    signals: Signals,
    renewing: Renewing,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let (tell, events) = mpsc::channel();
    let questions = std::mem::take(&mut front.questions);
    let channels = questions.len();
    for socket in questions {
        answer(socket, Arc::clone(&authority), tell.clone())?;
    }
    let front = Arc::new(front);
    let renewed = Arc::downgrade(&front);
    // In a thread of its own, so that whatever files take, a signal ends the server.
    let (renew, asked) = mpsc::sync_channel::<()>(1);
    let renewing = move || {
        while let (Ok(()), Some(front)) = (asked.recv(), renewed.upgrade()) {
            renewing.renew(&front, &authority.users);
        }
    };
    threads::start("renewing", renewing).map_err(no_process)?;
    let listening = move || {
        while let Ok(signal) = signals.wait() {
            if signal == libc::SIGHUP {
                // One that waits already is enough.
                let _ = renew.try_send(());
            } else if tell.send(Event::Asked).is_err() {
                return;
            }
        }
    };
    threads::start("signals", listening).map_err(no_process)?;
    ready();
    match events.recv() {
        Ok(Event::Asked) => log::info!("ending: what is being answered is answered"),
        _ => return Err(Failure::new("the process that speaks HTTP has ended")),
    }
    front.helper.tell_to_end();
    let mut left = channels;
    while left > 0 {
        match events.recv_timeout(PATIENCE) {
            Ok(Event::Closed) => left -= 1,
            Ok(Event::Asked) | Err(_) => break,
        }
    }
    Ok(())
}

fn answer(socket: OwnedFd, authority: Arc<Authority>, tell: mpsc::Sender<Event>) -> Result<(), Failure> {
    let answering = move || {
        if let Err(error) = kmsfs_http::authority::serve(socket, |ask| authority.answer(ask)) {
            log::error!("the process that speaks HTTP does not ask as it should: {error}");
        }
        let _ = tell.send(Event::Closed);
    };
    threads::start("authority", answering).map(drop).map_err(no_process)
}
