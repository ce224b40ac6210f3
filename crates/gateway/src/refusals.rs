//! What the mount refuses, in S3's words: of an errno, and of what the mount says beside one.

use kmsfs_client::Refused;
use kmsfs_s3::{Code, Error};
use rustix::io::Errno;
use std::io;

/// Of a call that is not about the key of an object.
pub(crate) fn of_errno(errno: Errno) -> Error {
    of_call(&errno.into())
}

/// The same. What S3's clients would repeat for ever, although it stays as it is, is no 5xx of the kind they repeat.
pub(crate) fn of_call(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Error::new(Code::AccessDenied),
        Some(libc::EROFS) => {
            Error::new(Code::AccessDenied).saying("Access Denied: the file system is mounted read-only")
        }
        Some(libc::ENOKEY) => Error::new(Code::Kms("NotFoundException".into())).saying("There is no such KMS key"),
        Some(libc::ENOSPC | libc::EDQUOT) => Error::new(Code::InsufficientStorage),
        Some(libc::EFBIG) => Error::new(Code::EntityTooLarge),
        Some(libc::ENAMETOOLONG) => Error::new(Code::KeyTooLongError),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Error::new(Code::SlowDown),
        Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ESHUTDOWN) => {
            Error::new(Code::ServiceUnavailable).saying("The file system is not mounted any more.")
        }
        _ => {
            log::error!("a system call failed: {error}");
            Error::new(Code::InternalError)
        }
    }
}

/// In S3's or KMS's own words.
pub(crate) fn in_their_words(refused: Refused) -> Error {
    let Refused { code, message } = refused;
    match Code::parse(&code) {
        Some(code) => Error::new(code).saying(message),
        None => Error::new(Code::InternalError).saying(format!("{code}: {message}")),
    }
}
