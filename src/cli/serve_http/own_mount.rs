//! A mount that is made to be served, and taken away at the end.

use crate::cli::audit::AuditArgs;
use crate::cli::exit::{Exit, Failure, describe};
use crate::cli::helper::{Answer, Duty, Helper};
use crate::cli::state::StateArgs;
use crate::cli::text::shown;
use crate::cli::unlock::UnlockArgs;
use kmsfs_fuse::Place;
use parking_lot::Mutex;
use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mount of the store, by a process of its own. It is unmounted when this process ends, however it does.
pub struct OwnMount {
    mountpoint: PathBuf,
    unmounts: Helper,
}

impl OwnMount {
    /// On that directory, or on a new one.
    pub fn make(
        store: &Path,
        mountpoint: Option<&Path>,
        unlock: &UnlockArgs,
        keyring: Option<&Path>,
        state: &StateArgs,
        audit: &AuditArgs,
    ) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::new(format!("cannot make a mount point: {}", describe(&e)));
        let made = mountpoint.is_none();
        let mountpoint = match mountpoint {
            Some(path) => fs::canonicalize(path).map_err(failed)?,
            None => new_directory().map_err(failed)?,
        };
        // Before the mount is there, so that nothing of it is in use.
        let about = About { mountpoint: mountpoint.as_os_str().as_bytes().to_vec(), made };
        let unmounts = Helper::start::<Unmounting>(&about, 1).and_then(|helper| helper.expect_ready().map(|()| helper));
        let own = Self { mountpoint, unmounts: unmounts.map_err(failed)? };
        let mut command = Command::new("/proc/self/exe");
        command.arg("mount").args(unlock.words()).args(state.words()).args(audit.options());
        if let Some(keyring) = keyring {
            command.arg("--keyring").arg(keyring);
        }
        if geteuid().is_root() {
            // The users' workers are others than who mounts.
            command.args(["-o", "allow_other"]);
        }
        command.arg("--").arg(store).arg(&own.mountpoint).stdout(Stdio::null());
        let status = command.status().map_err(failed)?;
        if !status.success() {
            // It has said why.
            let exit = status.code().and_then(Exit::of_code).unwrap_or(Exit::Failure);
            return Err(Failure::with(exit, format!("{} is not served, since it cannot be mounted", shown(store))));
        }
        own.unmounts.channels[0].ask(BIND, &[]).map_err(failed)?;
        Ok(own)
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

/// Others may pass through it, and see no name in it.
fn new_directory() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let parent = if geteuid().is_root() { OsString::from("/run") } else { runtime.unwrap_or_else(|| "/tmp".into()) };
    let outer = Path::new(&parent).join(format!("kmsfs-serve.{}", kmsfs_crypto::random::uuid()));
    mkdir(&outer, Mode::from_raw_mode(0o711))?;
    fs::set_permissions(&outer, fs::Permissions::from_mode(0o711))?;
    let inner = outer.join("mount");
    mkdir(&inner, Mode::from_raw_mode(0o755))?;
    Ok(inner)
}

#[derive(Serialize, Deserialize)]
pub struct About {
    mountpoint: Vec<u8>,
    /// With its parent it was made for this.
    made: bool,
}

const BIND: u8 = 1;

/// The process's own side.
pub struct Unmounting {
    about: About,
    /// Once it is there.
    place: Mutex<Option<Place>>,
}

impl Duty for Unmounting {
    const WORD: &'static str = "__unmount_served";
    type About = About;

    fn begin(about: About, _: Vec<OwnedFd>) -> Self {
        Self { about, place: Mutex::default() }
    }

    fn obey(&self, verb: u8, _: &[u8]) -> io::Result<Answer> {
        if verb != BIND {
            return Err(Errno::INVAL.into());
        }
        *self.place.lock() = Some(Place::at(self.mountpoint())?);
        Ok(Answer::default())
    }

    fn end(&self) {
        let mountpoint = self.mountpoint();
        if let Some(place) = &*self.place.lock() {
            let _ = place.unmount(false);
        }
        if self.about.made {
            let _ = fs::remove_dir(mountpoint);
            let _ = mountpoint.parent().map(fs::remove_dir);
        }
    }
}

impl Unmounting {
    fn mountpoint(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.about.mountpoint))
    }
}
