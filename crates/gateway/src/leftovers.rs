//! What is left of uploads that never came to their end: their process was killed, or the machine stopped. A list that
//! comes by removes it, after a time in which nobody has written to it.

use crate::directories::now_in_nanoseconds;
use crate::tree::{Bucket, Kind, is_absent, status_at};
use crate::uploads::uploads_of;
use kmsfs_s3::PUT_PREFIX;
use rustix::fs::{AtFlags, unlinkat};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How long an upload may lie still.
pub(crate) const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Names that one list looks at in a directory: others come by.
const AT_ONCE: usize = 64;

/// Removes those of these temporary files of a directory that nobody will finish, as far as the user may.
pub(crate) fn sweep(bucket: &Bucket, dir: BorrowedFd<'_>, names: &[String]) {
    for name in names.iter().take(AT_ONCE) {
        let Ok(status) = status_at(dir, OsStr::new(name)) else { continue };
        if status.kind == Kind::File && is_over(status.mtime) && !is_of_upload(bucket, name, status.uid) {
            let _ = unlinkat(dir, name.as_str(), AtFlags::empty());
        }
    }
}

/// Whether what was written last at that time, in nanoseconds since 1970, is given up.
pub(crate) fn is_over(modified: i128) -> bool {
    now_in_nanoseconds() - modified > LIFETIME.as_nanos().cast_signed()
}

/// The file of a multipart upload has the upload's name in its own, and goes with it. Of another user's it may not be
/// known, and the file stays for that user's own lists.
fn is_of_upload(bucket: &Bucket, name: &str, uid: u32) -> bool {
    let id = name.strip_prefix(PUT_PREFIX).and_then(|rest| rest.get(..16));
    id.is_some_and(|id| {
        let upload = status_at(bucket.dir(), OsStr::new(&format!("{}/{id}", uploads_of(uid))));
        !upload.is_err_and(|error| is_absent(&error))
    })
}
