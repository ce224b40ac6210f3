//! Which parts make a mount, and what their refusals mean for whoever reads standard error.

use super::audit::AuditArgs;
use super::exit::{Exit, Failure, describe};
use super::init::Account;
use super::mounted;
use super::options::Options;
use super::private_root;
use super::provider;
use super::state::{State, StateArgs};
use super::text::{escape, shown};
use kmsfs_client::mounts;
use kmsfs_crypto::random;
use kmsfs_fs::{Fs, FsOptions};
use kmsfs_kms::audit::ConnectSyslog;
use kmsfs_kms::audit::connect_syslog;
use kmsfs_kms::{Authorized, Router};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Machine, OpenError, SystemUsers, Unlock, UserDatabase};
use kmsfs_kms_remote::RemoteKms;
use kmsfs_sse::KeyService;
use kmsfs_store::backend::{self, Backend, Need, RealBackend};
use kmsfs_store::lease::LeaseOptions;
use kmsfs_store::{self as store, Parameters, Store, StoreOptions, Volume};
use kmsfs_witness::Rollback;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a store that is in use is waited for when nothing of it is mounted any more: umount(8) returns before the
/// process behind the mount has written its log home.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of disk that a mount keeps back: enough for a piece of the redo log to go home at a time.
const RESERVE: u64 = 4 << 20;
const RETRY: Duration = Duration::from_millis(50);

/// Whom a process asks about the machine that it runs on.
pub struct Outside {
    pub users: Arc<dyn UserDatabase>,
    pub connect_syslog: ConnectSyslog,
    /// Whether what is started for this process gives up what it does not need.
    pub confined: bool,
}

/// The keys that a process uses.
pub struct Keys {
    /// The keyring of this machine: the service's key, access keys, and what audit trails are made with.
    pub local: Arc<LocalKms>,
    /// Every KMS key, wherever it is kept.
    pub kms: Arc<Router>,
    /// The KMSs that are elsewhere.
    pub remotes: Vec<Arc<RemoteKms>>,
    /// For how long an operation waits for one of them.
    longest: Duration,
}

impl Keys {
    /// Those of this keyring, and those of the custom key stores that it names. Whoever starts their providers is
    /// started with this, so this comes before privileges are given up.
    fn of(local: Arc<LocalKms>, confined: bool) -> Result<Self, Failure> {
        let mut router = Router::new(Arc::clone(&local) as _);
        let mut stores = local.key_stores().map_err(|error| Failure::new(error.message))?;
        stores.retain(|store| {
            provider::is_known(store) || {
                let (name, provider) = (escape(&store.name), escape(&store.provider));
                log::warn!(
                    "custom key store {name}: this kmsfs has no provider {provider}, and its keys cannot be used"
                );
                false
            }
        });
        let remotes = provider::start(&local, &stores, confined)
            .map_err(|e| Failure::new(format!("cannot start a process: {}", describe(&e))))?;
        for (store, remote) in stores.iter().zip(&remotes) {
            let kms = Arc::new(Authorized::new(Arc::clone(remote), Arc::clone(&local) as _));
            for arns in &store.key_arns {
                let route = router.with_route(arns, &store.name, Arc::clone(&kms) as _);
                router =
                    route.map_err(|why| Failure::new(format!("custom key store {}: {why}", escape(&store.name))))?;
            }
        }
        Ok(Self { kms: Arc::new(router), local, remotes, longest: provider::longest(&stores) })
    }
}

impl Default for Outside {
    /// Nobody else.
    fn default() -> Self {
        Self { users: Arc::new(SystemUsers), connect_syslog: Arc::new(connect_syslog), confined: true }
    }
}

/// The store's absolute path, without symlinks; where a store is mounted, that store.
pub fn find_store(store: &Path) -> Result<PathBuf, Failure> {
    let found = fs::canonicalize(store).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(format!("store {} does not exist", shown(store))),
        _ => Failure::new(format!("store {}: {}", shown(store), describe(&e))),
    })?;
    if let Ok(Some(mount)) = mounts::at(&found) {
        return Ok(mount.source);
    }
    if !found.is_dir() {
        return Err(Failure::new(format!("{} is not a kmsfs store: it is not a directory", shown(store))));
    }
    Ok(found)
}

pub fn default_keyring(store: &Path) -> PathBuf {
    store.join("keyring")
}

/// Makes the keyring in `keyring` and the store in `path`, both empty directories, and makes them durable.
pub fn create(path: &Path, keyring: &Path, secret: &Unlock, account: &Account) -> Result<(), Failure> {
    check_fitness(path, Need::Store)?;
    check_fitness(keyring, Need::Keyring)?;
    let (store_id, account_id, region) = (random::bytes(), account.id.clone(), account.region.clone());
    let of_keyring = KeyringParameters { store_id, account_id: account_id.clone(), region: region.clone() };
    let kms = LocalKms::create(keyring, &of_keyring, secret).map_err(|e| explain_keyring(keyring, &e))?;
    let backend = open_backend(path)?;
    let parameters = Parameters { store_id, account_id, region };
    store::create(&*backend, &parameters, &*kms).map_err(|e| explain(path, &e))?;
    backend.sync_all().map_err(|e| Failure::new(format!("store {}: {}", shown(path), describe(&e))))
}

/// Opens keyring and store, to mount it.
pub fn open(
    path: &Path,
    keyring: &Path,
    secret: &Unlock,
    options: &Options,
    outside: &Outside,
) -> Result<Arc<Store>, Failure> {
    let Options { read_only, cache, lease: term, take_over, .. } = *options;
    let announce = |text: &str| eprintln!("kmsfs: {text}");
    let of_store = StoreOptions {
        read_only,
        lease: LeaseOptions { term, take_over, announce, ..LeaseOptions::default() },
        cache,
        spare_descriptors: spare_descriptors(),
        max_pinned: max_pinned(),
        reserve: RESERVE,
        ..StoreOptions::default()
    };
    let backend = if options.sandbox { open_inert(path)? } else { open_backend(path)? };
    open_with((path, backend), keyring, secret, &of_store, &options.state, &options.audit, outside)
}

/// Opens keyring and store, and compares them with what was last seen.
pub fn open_with(
    (path, backend): (&Path, Arc<RealBackend>),
    keyring: &Path,
    secret: &Unlock,
    options: &StoreOptions,
    state: &StateArgs,
    audit: &AuditArgs,
    outside: &Outside,
) -> Result<Arc<Store>, Failure> {
    // Says what is wrong with a directory that is no store before anybody is asked about its keys.
    let parameters = store::read_parameters(&*backend).map_err(|e| explain(path, &e))?;
    if !options.read_only {
        check_fitness(path, Need::Store)?;
    }
    let state = state.open(parameters.store_id, options.watch.rollback)?;
    let options = StoreOptions { watch: state.watch("store"), ..options.clone() };
    let keys = open_keyring(keyring, secret, &parameters, &state, outside)?;
    let longest = keys.longest;
    let keys = Arc::new(
        match audit.start(&keys, &outside.connect_syslog)? {
            Some(audited) => KeyService::new(Arc::new(audited), keys.local),
            None => KeyService::new(keys.kms, keys.local),
        }
        .waiting_at_most(longest),
    );
    let since = Instant::now();
    loop {
        match Store::open(backend.clone(), Arc::clone(&keys), options.clone()) {
            Err(store::Error::InUse(_)) if since.elapsed() < PATIENCE && !is_mounted(path) => thread::sleep(RETRY),
            result => return result.map_err(|e| explain(path, &e)),
        }
    }
}

pub fn open_backend(path: &Path) -> Result<Arc<RealBackend>, Failure> {
    RealBackend::open(path)
        .map_err(|e| Failure::new(format!("store {}: {}{}", shown(path), describe(&e), whose(path, &e))))
}

/// Refuses a directory on a file system that does not keep what is needed there. One that cannot be tried out, for
/// instance on a full disk, is not refused for that.
fn check_fitness(path: &Path, need: Need) -> Result<(), Failure> {
    let found = open_backend(path)?.root().and_then(|root| backend::probe(root.as_ref(), need));
    match found {
        Ok(None) => Ok(()),
        Ok(Some(unfit)) => {
            let what = if need == Need::Store { "store" } else { "keyring" };
            let advice = "use a directory on ext4, xfs, btrfs or tmpfs";
            Err(Failure::new(format!(
                "{}: the file system there is not fit for a {what}: {unfit}; {advice}",
                shown(path)
            )))
        }
        Err(why) => {
            log::debug!("{} was not tried out: {}", shown(path), describe(&why));
            Ok(())
        }
    }
}

/// As a mount of this process's own, in which devices are not opened, where that can be had.
fn open_inert(path: &Path) -> Result<Arc<RealBackend>, Failure> {
    if private_root::is_possible() {
        match private_root::clone_of(path, true).and_then(RealBackend::at) {
            Ok(backend) => return Ok(backend),
            Err(error) => log::warn!("this process could open devices in the store: {}", describe(&error)),
        }
    }
    open_backend(path)
}

fn is_mounted(store: &Path) -> bool {
    mounts::of_store(store).map_or(true, |at| !at.is_empty())
}

/// Opens the keyring alone, to administer its keys while the store may be in use.
pub fn open_kms(path: &Path, keyring: &Path, secret: &Unlock, state: &StateArgs) -> Result<Keys, Failure> {
    open_kms_on(path, keyring, secret, state, &Outside::default())
}

/// The same in a process that asks others about the machine.
pub fn open_kms_on(
    path: &Path,
    keyring: &Path,
    secret: &Unlock,
    state: &StateArgs,
    outside: &Outside,
) -> Result<Keys, Failure> {
    let parameters = store::read_parameters(&*open_backend(path)?).map_err(|e| explain(path, &e))?;
    let state = state.open(parameters.store_id, Rollback::Refuse)?;
    open_keyring(keyring, secret, &parameters, &state, outside)
}

fn open_keyring(
    keyring: &Path,
    secret: &Unlock,
    store: &Parameters,
    state: &State,
    outside: &Outside,
) -> Result<Keys, Failure> {
    let watch = (store.store_id, state.watch("keyring"));
    let machine = Machine { users: Arc::clone(&outside.users), watch, ..Machine::default() };
    let kms = LocalKms::open_on(keyring, secret, machine);
    let kms = kms.and_then(|kms| kms.check_store(&store.store_id).map(|()| kms));
    Keys::of(kms.map_err(|e| explain_unlocking(keyring, secret, &e))?, outside.confined)
}

/// Only root can give files to somebody else.
pub fn file_system(store: &Arc<dyn Volume>, options: &Options) -> Arc<Fs> {
    let keep_owners = rustix::process::geteuid().is_root();
    let open_dirs = most_open_dirs();
    let Options { read_only, noatime, inodes: most_inodes, .. } = *options;
    Fs::new(Arc::clone(store), FsOptions { read_only, keep_owners, noatime, open_dirs, most_inodes })
}

fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20) as usize
}

fn most_open_dirs() -> usize {
    (descriptors() / 4).clamp(16, 1024)
}

/// For closed objects of which the log holds something.
fn max_pinned() -> usize {
    (descriptors() / 8).min(StoreOptions::default().max_pinned)
}

/// For closed objects. Half of all descriptors is for open files, and some for objects in the log, the keyring and the
/// rest.
fn spare_descriptors() -> usize {
    (descriptors() / 2).saturating_sub(most_open_dirs() + 512)
}

/// A store's refusal, for standard error.
pub fn explain(path: &Path, error: &store::Error) -> Failure {
    let exit = match error {
        store::Error::InUse(_) | store::Error::Owned { .. } => Exit::InUse,
        store::Error::RolledBack(_) => Exit::RolledBack,
        _ => Exit::Failure,
    };
    let text = match error {
        store::Error::Errno(errno) => {
            let error = io::Error::from_raw_os_error(*errno);
            format!("{}{}", describe(&error), whose(path, &error))
        }
        store::Error::InUse(_) => format!("{error}{}", mounted::places(path)),
        error => error.to_string(),
    };
    Failure::with(exit, format!("{}: {}", shown(path), escape(&text)))
}

/// What to do about a store that is somebody else's.
fn whose(store: &Path, error: &io::Error) -> String {
    let (caller, owner) = (rustix::process::geteuid().as_raw(), fs::metadata(store).map(|metadata| metadata.uid()));
    match owner {
        Ok(owner) if error.kind() == io::ErrorKind::PermissionDenied && owner != caller => {
            format!(": it belongs to uid {owner}, and this is run by uid {caller}: run it as the store's owner")
        }
        _ => String::new(),
    }
}

/// A keyring's refusal of what was to open it.
pub fn explain_unlocking(keyring: &Path, secret: &Unlock, error: &OpenError) -> Failure {
    let mut failure = explain_keyring(keyring, error);
    if let (Unlock::RecoveryKey(_), OpenError::WrongKey) = (secret, error) {
        failure.message = format!("wrong recovery key, typed as it was printed: no slot of {} has it", shown(keyring));
    }
    failure
}

pub fn explain_keyring(keyring: &Path, error: &OpenError) -> Failure {
    let keyring = shown(keyring);
    match error {
        OpenError::WrongKey => Failure::with(
            Exit::WrongKey,
            format!("wrong key file or passphrase: it does not open the keyring {keyring}"),
        ),
        OpenError::RolledBack(text) => Failure::with(Exit::RolledBack, format!("keyring {keyring}: {}", escape(text))),
        OpenError::Other(text) => Failure::new(format!("keyring {keyring}: {}", escape(text))),
    }
}
