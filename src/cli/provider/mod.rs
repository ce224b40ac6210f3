//! Providers: the processes that speak to KMSs that are elsewhere (crates/kms-remote).
//!
//! The serving process starts nothing once it serves. So another process starts providers for it, those of the custom
//! key stores that the keyring names and no others, again whenever one has ended or makes no sense. It is started when
//! the keyring has been opened, as a program that begins anew and has nothing of what this process's memory holds.

use super::exit::describe;
use super::helper::{Answer, Channel, Duty, Helper};
use super::sandbox;
use kmsfs_kms::api::KeyStore;
use kmsfs_kms_local::LocalKms;
use kmsfs_kms_remote::{RemoteKms, Settings};
use parking_lot::Mutex;
use rustix::io::Errno;
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

/// The first argument of the process that becomes somebody's program.
pub const PROGRAM: &str = "__become_provider";
const START: u8 = 1;
/// Providers that are started at the same time.
const CHANNELS: usize = 2;

/// A KMS for each of these key stores, in their order. A key store that was taken away meanwhile, or is another by now,
/// is not connected.
pub fn start(local: &Arc<LocalKms>, stores: &[KeyStore], confined: bool) -> io::Result<Vec<Arc<RemoteKms>>> {
    if stores.is_empty() {
        return Ok(Vec::new());
    }
    let about = About { providers: stores.iter().map(Provider::of).collect::<Result<_, _>>()?, confined };
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
        Arc::new(RemoteKms::gated(&store.name, Settings::default(), Box::new(connect), Box::new(gate)))
    };
    Ok(stores.iter().enumerate().map(remote).collect())
}

#[derive(Serialize, Deserialize)]
pub struct About {
    providers: Vec<Provider>,
    confined: bool,
}

/// What is started.
#[derive(Clone, Serialize, Deserialize)]
struct Provider {
    program: PathBuf,
    configuration: Option<PathBuf>,
}

impl Provider {
    fn of(store: &KeyStore) -> io::Result<Self> {
        let program = store.provider.strip_prefix("exec:").ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("{} is no provider that is known here", store.provider))
        })?;
        Ok(Self { program: program.into(), configuration: store.configuration.as_ref().map(PathBuf::from) })
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
        *running = Some(provider.start(theirs.into(), self.about.confined)?);
        Ok(Answer { descriptor: Some(ours.into()), ..Answer::default() })
    }

    fn end(&self) {
        self.running.iter().for_each(|running| end(&mut running.lock()));
    }
}

impl Provider {
    fn start(&self, stream: OwnedFd, confined: bool) -> io::Result<Child> {
        let Self { program, configuration } = self;
        check(program)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(PROGRAM).arg(if confined { "confined" } else { "free" }).arg(program);
        command.args(configuration).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin:/usr/local/bin");
        command.stdin(Stdio::from(stream.try_clone()?)).stdout(Stdio::from(stream)).stderr(Stdio::null());
        // What a terminal sends is for the mount, not for it.
        command.process_group(0).spawn()
    }
}

/// Stopped or busy, it ends.
fn end(running: &mut Option<Child>) {
    if let Some(mut child) = running.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What others could replace would have the keys of whoever trusts it.
fn check(program: &Path) -> io::Result<()> {
    let refuse = |why: &str| {
        let text = format!("provider {}: {why}", program.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    let metadata = match fs::metadata(program) {
        Ok(metadata) => metadata,
        Err(error) => return refuse(&describe(&error)),
    };
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return refuse("it is no program");
    }
    if metadata.mode() & 0o022 != 0 || ![0, own].contains(&metadata.uid()) {
        return refuse("others than root and whoever mounts can write it");
    }
    Ok(())
}

/// `confined|free PROGRAM [CONFIGURATION]`: the process gives up what a provider does not need, and becomes the
/// program.
pub fn become_program() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let (Some(confined), Some(program)) = (words.next(), words.next().map(PathBuf::from)) else {
        return ExitCode::FAILURE;
    };
    let configuration: Option<OsString> = words.next();
    let own = configuration.as_ref().and_then(|path| Path::new(path).parent());
    if confined == "confined" {
        // As much as this kernel has.
        let _ = sandbox::enter_as_program(&program, own);
    }
    let failed = Command::new(program).args(configuration).exec();
    let _ = failed;
    ExitCode::FAILURE
}
