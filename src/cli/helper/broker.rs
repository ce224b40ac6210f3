//! The process that opens for the serving one what is outside its file system: the user database, which may mean any
//! file and any socket, the connection to syslog, and log files anew after they were moved away. It also reads who the
//! processes are that use the mount.

use super::{Answer, Channel, Duty, Helper};
use crate::cli::{logging, sandbox};
use kmsfs_kms::audit::connect_syslog;
use kmsfs_kms::read_process;
use kmsfs_kms_local::{SystemUsers, User, UserDatabase};
use kmsfs_sys::private::{self, Access, Kind};
use nix::errno::Errno;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const SYSLOG: u8 = 1;
const LOG_FILE: u8 = 2;
const USER: u8 = 3;
const USER_NAMED: u8 = 4;
const GROUP_NAME: u8 = 5;
const GROUP_NAMED: u8 = 6;
const GROUPS_OF: u8 = 7;
const STATUS: u8 = 8;
const NAME: u8 = 9;
const FILE: u8 = 10;
const SECRET_FILE: u8 = 11;

/// Look-ups that are made side by side: a directory service may take its time.
const LOOK_UPS: usize = 4;

/// The broker, as the serving process sees it.
pub struct Broker {
    helper: Helper,
}

impl Broker {
    /// `logs`: the files that may be opened, absolute.
    pub fn start(logs: &[PathBuf], confined: bool) -> io::Result<Self> {
        Self::start_with(logs, &[], confined)
    }

    /// `reads`: files that may be read, absolute too. They may be replaced, and links lead where they lead now.
    pub fn start_with(logs: &[PathBuf], reads: &[PathBuf], confined: bool) -> io::Result<Self> {
        let bytes = |paths: &[PathBuf]| paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        let about = About { logs: bytes(logs), reads: bytes(reads), confined };
        Ok(Self { helper: Helper::start::<Opener>(&about, 1 + LOOK_UPS)? })
    }

    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()
    }

    /// A connection to the system's log.
    pub fn connect_syslog(&self) -> io::Result<UnixDatagram> {
        self.open(SYSLOG, &[]).map(UnixDatagram::from)
    }

    /// One of the log files, made where it is missing.
    pub fn open_log(&self, path: &Path) -> io::Result<File> {
        self.open(LOG_FILE, path.as_os_str().as_bytes()).map(File::from)
    }

    /// One of the files that may be read; `secret`: which nobody else can read.
    pub fn open_file(&self, path: &Path, secret: bool) -> io::Result<File> {
        self.open(if secret { SECRET_FILE } else { FILE }, path.as_os_str().as_bytes()).map(File::from)
    }

    /// What /proc has of another process: its status, or its name.
    pub fn read_process(&self, pid: u32, status: bool) -> io::Result<Vec<u8>> {
        let verb = if status { STATUS } else { NAME };
        Ok(Channel::ask_any(&self.helper.channels[1..], verb, &pid.to_le_bytes())?.text)
    }

    fn open(&self, verb: u8, what: &[u8]) -> io::Result<OwnedFd> {
        self.helper.channels[0].ask(verb, what)?.descriptor.ok_or(io::ErrorKind::InvalidData.into())
    }

    fn look_up<T: DeserializeOwned>(&self, verb: u8, what: impl Serialize) -> Result<T, Errno> {
        let question = serde_json::to_vec(&what).map_err(|_| Errno::EINVAL)?;
        let answer = Channel::ask_any(&self.helper.channels[1..], verb, &question);
        let answer = answer.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        serde_json::from_slice(&answer.text).map_err(|_| Errno::EBADMSG)
    }
}

impl UserDatabase for Broker {
    fn user(&self, uid: u32) -> Result<Option<User>, Errno> {
        self.look_up(USER, uid)
    }

    fn user_named(&self, name: &str) -> Result<Option<User>, Errno> {
        self.look_up(USER_NAMED, name)
    }

    fn group_name(&self, gid: u32) -> Result<Option<String>, Errno> {
        self.look_up(GROUP_NAME, gid)
    }

    fn group_named(&self, name: &str) -> Result<Option<u32>, Errno> {
        self.look_up(GROUP_NAMED, name)
    }

    fn groups_of(&self, user: &User) -> Result<Vec<u32>, Errno> {
        self.look_up(GROUPS_OF, user)
    }
}

#[derive(Serialize, Deserialize)]
pub struct About {
    logs: Vec<Vec<u8>>,
    reads: Vec<Vec<u8>>,
    confined: bool,
}

/// The process's own side.
pub struct Opener {
    logs: Vec<PathBuf>,
    reads: Vec<PathBuf>,
}

impl Duty for Opener {
    const WORD: &'static str = "__open_outside";
    type About = About;

    fn begin(about: About, _: Vec<OwnedFd>) -> Self {
        let paths = |of: &[Vec<u8>]| of.iter().map(|path| OsStr::from_bytes(path).into()).collect::<Vec<PathBuf>>();
        let (logs, reads) = (paths(&about.logs), paths(&about.reads));
        if about.confined {
            sandbox::enter_as_broker(&logs, &reads);
        }
        Self { logs, reads }
    }

    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer> {
        let users = SystemUsers;
        match verb {
            SYSLOG => descriptor(connect_syslog()?),
            LOG_FILE => descriptor(logging::open_log_file(one_of(&self.logs, what)?)?),
            FILE => descriptor(open_regular(one_of(&self.reads, what)?)?),
            SECRET_FILE => {
                let path = one_of(&self.reads, what)?;
                let opened = private::open(path, Kind::Secret, Access::Read);
                descriptor(opened.map_err(|refusal| refusal.about(path))?)
            }
            USER => text(users.user(serde_json::from_slice(what)?)),
            USER_NAMED => text(users.user_named(serde_json::from_slice(what)?)),
            GROUP_NAME => text(users.group_name(serde_json::from_slice(what)?)),
            GROUP_NAMED => text(users.group_named(serde_json::from_slice(what)?)),
            GROUPS_OF => text(users.groups_of(&serde_json::from_slice(what)?)),
            STATUS | NAME => {
                let pid = what.try_into().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
                let text = read_process(u32::from_le_bytes(pid), verb == STATUS)?;
                Ok(Answer { text, ..Answer::default() })
            }
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

/// Not what whoever opens it would wait for.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn one_of<'a>(paths: &'a [PathBuf], what: &[u8]) -> io::Result<&'a Path> {
    let found = paths.iter().find(|path| path.as_os_str().as_bytes() == what);
    found.map(PathBuf::as_path).ok_or(io::Error::from_raw_os_error(libc::EPERM))
}

#[allow(clippy::unnecessary_wraps)] // As `text`.
fn descriptor(opened: impl Into<OwnedFd>) -> io::Result<Answer> {
    Ok(Answer { descriptor: Some(opened.into()), ..Answer::default() })
}

fn text(found: Result<impl Serialize, Errno>) -> io::Result<Answer> {
    let found = found.map_err(|errno| io::Error::from_raw_os_error(errno as i32))?;
    Ok(Answer { text: serde_json::to_vec(&found)?, ..Answer::default() })
}
