use kmsfs_format::Malformed;
use kmsfs_kms::WouldWait;
use kmsfs_sse::RequestError;
use std::fmt;
use std::io;

/// Why the store did not do something.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The backing file system's errno, or the store's own where POSIX names one (ENOENT, EEXIST, ENXIO, ...).
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// EIO: something is not what was sealed. The text names the object, the place and the finding.
    #[error("{0}")]
    Corrupt(String),
    /// The KMS or the request was refused.
    #[error(transparent)]
    Sse(RequestError),
    /// Nothing was done that doing it again would not do too: it takes a thread that may wait.
    #[error(transparent)]
    WouldWait(#[from] WouldWait),
    /// The object's data keys are not in memory: they were zeroized because nobody who has it open may use its KMS key.
    /// `Store::unlock` asks for them.
    #[error("the object's data key has been given up")]
    Locked,
    /// The change needs a new data key for an object that has content.
    #[error("the change needs a new data key, and the object has content")]
    NeedsReencryption,
    /// Another process has the store open: its pid, where it is known.
    #[error("the store is in use by {}", .0.map_or("another process".into(), |pid| format!("process {pid}")))]
    InUse(Option<u32>),
    /// Another machine has the store, or cannot be known not to: which process, on which host.
    #[error("the store is in use by process {process} on host {host}")]
    Owned {
        /// The machine's name, as it says itself.
        host: String,
        /// The process's number there.
        process: u32,
    },
    /// The store cannot be opened: what is wrong and what to do.
    #[error("{0}")]
    Unusable(String),
    /// The store is not what was last seen of it: what is known and what to do.
    #[error("{0}")]
    RolledBack(String),
    /// EROFS: the store was opened read-only, or became so.
    #[error("the store is read-only")]
    ReadOnly,
}

const ANOTHER_FILE_SYSTEM: &str = "another file system begins here (a mount point, a btrfs subvolume, a layer of an overlay), \
    and a store is on one only: unmount it, or move what is there into an ordinary directory";

/// What methods of the store return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What is corrupt, and what was found.
    pub fn corrupt(what: impl fmt::Display, finding: impl fmt::Display) -> Self {
        Self::Corrupt(format!("{what}: {finding}"))
    }

    /// With the name of what is corrupt, where the finding has been made without it.
    #[must_use]
    pub fn of(self, what: &str) -> Self {
        match self {
            Self::Corrupt(finding) => Self::corrupt(what, finding),
            error => error,
        }
    }

    /// Of a name that was looked at or opened; `show` gives its path below `buckets/`. What lies on another file system
    /// than the store is damage: its inode numbers are others' too, and a sync of the store does not reach it.
    pub fn reaching(show: impl FnOnce() -> String, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EXDEV) => Self::corrupt(show(), ANOTHER_FILE_SYSTEM),
            _ => error.into(),
        }
    }

    /// The same for a part of the store, without which it cannot be opened.
    pub fn reaching_part(part: &str, error: io::Error) -> Self {
        match Self::reaching(|| part.into(), error) {
            Self::Corrupt(finding) => Self::Unusable(finding),
            error => error,
        }
    }

    /// Whether it is this errno, and not an error of the store's own kinds.
    pub fn is_errno(&self, errno: rustix::io::Errno) -> bool {
        *self == Self::Errno(errno.raw_os_error())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Errno(errno.raw_os_error())
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::WouldWait(wait) => Self::WouldWait(wait),
            error => Self::Sse(error),
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Corrupt(malformed.to_string())
    }
}
