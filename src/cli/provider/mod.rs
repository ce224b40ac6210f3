//! Providers: the processes that speak to KMSs that are elsewhere (crates/kms-remote).
//!
//! The serving process starts nothing once it serves. So another process starts providers for it, those of the custom
//! key stores that the keyring names and no others, again whenever one has ended or makes no sense. It is started when
//! the keyring has been opened, as a program that begins anew and has nothing of what this process's memory holds.

mod built_in;

use super::exit::describe;
use super::helper::{Answer, Channel, Duty, Helper};
use super::sandbox;
use kmsfs_kms::api::{KeyStore, KeyStoreLimits};
use kmsfs_kms::deadline;
use kmsfs_kms_local::{BUILT_IN, LocalKms};
use kmsfs_kms_remote::{RemoteKms, Settings};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The first argument of the process that becomes a provider.
pub const PROGRAM: &str = "__become_provider";
/// What somebody's own program is named by.
const EXEC: &str = "exec:";
/// Variables that a provider has of the starting process's environment: where secrets and a library's configuration
/// are.
const KEPT: [&str; 2] = ["CREDENTIALS_DIRECTORY", "SOFTHSM2_CONF"];
const START: u8 = 1;
/// Providers that are started at the same time.
const CHANNELS: usize = 2;

/// Whether this program has that key store's provider, or is told where it is.
pub fn is_known(store: &KeyStore) -> bool {
    store.provider.starts_with(EXEC) || BUILT_IN.contains(&store.provider.as_str())
}

/// A KMS for each of these key stores, in their order. A key store that was taken away meanwhile, or is another by now,
/// is not connected.
pub fn start(local: &Arc<LocalKms>, stores: &[KeyStore], confined: bool) -> io::Result<Vec<Arc<RemoteKms>>> {
    if stores.is_empty() {
        return Ok(Vec::new());
    }
    let environment = KEPT.iter().filter_map(|name| Some((String::from(*name), std::env::var_os(name)?))).collect();
    let about = About { providers: stores.iter().map(Provider::of).collect(), environment, confined };
    let helper = Arc::new(Helper::start::<Starting>(&about, CHANNELS)?);
    helper.expect_ready()?;
    let remote = |(number, store): (usize, &KeyStore)| {
        let (helper, local, known) = (Arc::clone(&helper), Arc::clone(local), store.clone());
        let connect = move || {
            let started = Channel::ask_any(&helper.channels, START, &(number as u32).to_le_bytes())?;
            Ok(UnixStream::from(started.descriptor.ok_or(io::ErrorKind::InvalidData)?))
        };
        let gate = move || {
            let stores = local.key_stores().ok()?;
            let is_it = |store: &KeyStore| {
                let same =
                    |store: &KeyStore| (store.provider.clone(), store.key_arns.clone(), store.configuration.clone());
                store.id == known.id && same(store) == same(&known)
            };
            Some(stores.iter().any(|store| store.connected && is_it(store)))
        };
        Arc::new(RemoteKms::gated(&store.name, settings(store.limits), Box::new(connect), Box::new(gate)))
    };
    Ok(stores.iter().enumerate().map(remote).collect())
}

fn settings(limits: KeyStoreLimits) -> Settings {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let before = Settings::default();
    Settings {
        deadline: limits.deadline.map_or(before.deadline, seconds),
        revalidate: limits.revalidate.map_or(before.revalidate, seconds),
        offline: limits.offline.map(seconds),
        ..before
    }
}

/// For how long an operation waits for whichever of them takes longest.
pub fn longest(stores: &[KeyStore]) -> Duration {
    stores.iter().map(|store| settings(store.limits).deadline).fold(deadline::LIMIT, Duration::max)
}

#[derive(Serialize, Deserialize)]
pub struct About {
    providers: Vec<Provider>,
    /// [`KEPT`].
    environment: Vec<(String, OsString)>,
    confined: bool,
}

/// What is started.
#[derive(Clone, Serialize, Deserialize)]
struct Provider {
    /// `exec:` and a program's path, or the name of one that comes with kmsfs.
    which: String,
    configuration: Option<PathBuf>,
}

impl Provider {
    fn of(store: &KeyStore) -> Self {
        Self { which: store.provider.clone(), configuration: store.configuration.as_ref().map(PathBuf::from) }
    }
}

/// The process's own side.
pub struct Starting {
    about: About,
    /// By number; whichever was started last.
    running: Vec<Mutex<Option<Child>>>,
}

impl Duty for Starting {
    const WORD: &'static str = "__start_providers";
    type About = About;

    fn begin(about: About, _: Vec<OwnedFd>) -> Self {
        // What this process was started with by accident no provider is to have.
        let _ = kmsfs_sys::pass_no_descriptor_on(3);
        if about.confined {
            sandbox::enter_as_starter();
        }
        let running = about.providers.iter().map(|_| Mutex::default()).collect();
        Self { about, running }
    }

    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer> {
        let number = what.try_into().map(|bytes| u32::from_le_bytes(bytes) as usize).map_err(|_| Errno::INVAL)?;
        let (Some(provider), Some(running), START) = (self.about.providers.get(number), self.running.get(number), verb)
        else {
            return Err(Errno::INVAL.into());
        };
        let mut running = running.lock();
        end(&mut running);
        let (ours, theirs) = UnixStream::pair()?;
        *running = Some(provider.start(theirs.into(), &self.about.environment, self.about.confined)?);
        Ok(Answer { descriptor: Some(ours.into()), ..Answer::default() })
    }

    fn end(&self) {
        self.running.iter().for_each(|running| end(&mut running.lock()));
    }
}

impl Provider {
    fn start(&self, stream: OwnedFd, environment: &[(String, OsString)], confined: bool) -> io::Result<Child> {
        let Self { which, configuration } = self;
        if let Some(program) = which.strip_prefix(EXEC) {
            check(Path::new(program), 0o111)?;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(PROGRAM).arg(if confined { "confined" } else { "free" }).arg(which);
        command.args(configuration).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin:/usr/local/bin");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::from(stream.try_clone()?)).stdout(Stdio::from(stream)).stderr(Stdio::null());
        // What a terminal sends is for the mount, not for it.
        command.process_group(0).spawn()
    }
}

/// Stopped or busy, it ends.
fn end(running: &mut Option<Child>) {
    if let Some(mut child) = running.take() {
        // And what it has started: its group is its own until it has been waited for.
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A program (`mode` has the bits that one has), or a configuration: what others could replace would have the keys of
/// whoever trusts it.
fn check(path: &Path, mode: u32) -> io::Result<()> {
    let refuse = |why: &str| {
        let text = format!("provider {}: {why}", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return refuse(&describe(&error)),
    };
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || mode != 0 && metadata.mode() & mode == 0 {
        return refuse(if mode == 0 { "it is no file" } else { "it is no program" });
    }
    let is_others = |metadata: &fs::Metadata, kept: u32| {
        metadata.mode() & 0o022 != 0 && metadata.mode() & kept == 0 || ![0, own].contains(&metadata.uid())
    };
    if is_others(&metadata, 0) {
        return refuse("others than root and whoever mounts can write it");
    }
    // In a sticky directory nobody replaces what is not his.
    let replaceable = |above: &&Path| fs::metadata(above).map_or(true, |metadata| is_others(&metadata, 0o1000));
    match path.ancestors().skip(1).find(replaceable) {
        Some(above) => refuse(&format!("others than root and whoever mounts can write {}", above.display())),
        None => Ok(()),
    }
}

/// `confined|free exec:PROGRAM|NAME [CONFIGURATION]`: the process gives up what a provider does not need, and becomes
/// the provider.
pub fn become_provider() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let (Some(confined), Some(which)) = (words.next(), words.next().and_then(|which| which.into_string().ok())) else {
        return ExitCode::FAILURE;
    };
    let confined = confined == "confined";
    let configuration = words.next().map(PathBuf::from);
    let Some(program) = which.strip_prefix(EXEC) else {
        return built_in::serve(&which, configuration.as_deref().unwrap_or(Path::new("")), confined);
    };
    let own = configuration.as_deref().and_then(Path::parent);
    if confined {
        // As much as this kernel has.
        let _ = sandbox::enter_as_provider(&[program.into()], own);
    }
    let failed = Command::new(program).args(configuration).exec();
    let _ = failed;
    ExitCode::FAILURE
}
