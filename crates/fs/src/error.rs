use kmsfs_store as store;
use std::fmt;

/// Why an operation was refused; `fuse` maps it to an errno.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The errno that POSIX names for it.
    Errno(i32),
    Store(store::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The errno that a program sees.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Errno(errno) | Self::Store(store::Error::Errno(errno)) => *errno,
            Self::Store(
                store::Error::Corrupt(_)
                | store::Error::InUse(_)
                | store::Error::Unusable(_)
                | store::Error::RolledBack(_),
            ) => libc::EIO,
            Self::Store(store::Error::Sse(refused)) => refused.errno(),
            Self::Store(store::Error::Locked) => libc::EACCES,
            Self::Store(store::Error::NeedsReencryption) => libc::EOPNOTSUPP,
            Self::Store(store::Error::ReadOnly) => libc::EROFS,
        }
    }

    /// What an errno does not tell, for the log.
    pub fn log_text(&self) -> Option<String> {
        match self {
            Self::Errno(_) | Self::Store(store::Error::Errno(_) | store::Error::ReadOnly | store::Error::Locked) => {
                None
            }
            Self::Store(store::Error::Sse(refused)) => Some(refused.to_string()),
            Self::Store(
                error @ (store::Error::Corrupt(_)
                | store::Error::InUse(_)
                | store::Error::Unusable(_)
                | store::Error::RolledBack(_)
                | store::Error::NeedsReencryption),
            ) => Some(error.to_string()),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<kmsfs_sse::RequestError> for Error {
    fn from(error: kmsfs_sse::RequestError) -> Self {
        Self::Store(store::Error::Sse(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log_text() {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}", std::io::Error::from_raw_os_error(self.errno())),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Errno(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

pub(super) fn errno<T>(errno: i32) -> Result<T> {
    Err(Error::Errno(errno))
}
