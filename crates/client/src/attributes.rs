//! The virtual extended attributes of a mount, by which programs ask it and tell it things.

use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::io;
use std::path::Path;

/// Of an object: `x-amz-server-side-encryption`, so `AES256`, `aws:kms` or `aws:kms:dsse`.
pub const ALGORITHM: &str = "user.x-amz-server-side-encryption";
/// Of an object under a KMS key: the key's ARN.
pub const KEY_ID: &str = "user.x-amz-server-side-encryption-aws-kms-key-id";
/// Of an object under a KMS key: `true` where its data key is wrapped under a bucket key.
pub const BUCKET_KEY: &str = "user.x-amz-server-side-encryption-bucket-key-enabled";
/// Of an object: its ETag, without the quotes that S3 puts around it.
pub const ETAG: &str = "user.etag";
/// Of an object: what HeadObject returns about it, or S3's code and message where its key refuses the caller, as JSON.
/// With `.NAME` behind it: and the attribute `user.NAME`.
pub const HEAD: &str = "user.x-kmsfs-head";
/// Of an object: code and message of the last refusal of this user's request for its encryption, once, as JSON.
pub const REFUSAL: &str = "user.x-kmsfs-refusal";
/// Set on an empty object: it is encrypted as the request in the value (JSON, [`kmsfs_sse::Request`]) says.
pub const REQUEST: &str = "user.x-kmsfs-request";
/// Of a directory: the encryption configuration in force there and where it comes from, as JSON.
pub const CONFIGURATION: &str = "user.x-kmsfs-encryption";
/// Set on a file or a directory: an order to change encryption, as JSON. What came of it is in the attribute of this
/// name with a dot and the order's token behind it, 16 hexadecimal digits, once.
pub const REENCRYPT: &str = "user.x-kmsfs-reencrypt";
/// Asked for of the root of a mount, or set on it: everything is committed, written home and made durable before the
/// call returns.
pub const SYNC: &str = "user.x-kmsfs-sync";

/// Linux's bound on any attribute's value, in bytes.
const MAX_VALUE: usize = 64 << 10;
/// Most values are shorter. The kernel fills as much as is asked for with zeros first.
const USUAL_VALUE: usize = 4 << 10;

/// The attribute's value as text; `None` where there is none of that name, or the file system has no attributes at all.
///
/// # Errors
///
/// getxattr(2) failed, or the value is not UTF-8.
pub fn get(path: &Path, name: &str) -> io::Result<Option<String>> {
    let mut value = vec![0; USUAL_VALUE];
    let mut got = getxattr(path, name, &mut value[..]);
    if got == Err(rustix::io::Errno::RANGE) {
        value.resize(MAX_VALUE, 0);
        got = getxattr(path, name, &mut value[..]);
    }
    match got {
        Ok(len) => {
            value.truncate(len);
            String::from_utf8(value).map(Some).map_err(|_| io::Error::other(format!("{name} is not UTF-8")))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets the attribute, whether it is there or not.
///
/// # Errors
///
/// setxattr(2) failed; the mount's log has the reason for what it refuses.
pub fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(setxattr(path, name, value, XattrFlags::empty())?)
}

/// Has a mount commit everything, write it home and make it durable. `root` is the mount's.
///
/// # Errors
///
/// getxattr(2) or setxattr(2) failed; the mount's log has the reason.
pub fn sync(root: &Path) -> io::Result<()> {
    match get(root, SYNC)? {
        Some(_) => Ok(()),
        // By a mount of an earlier version. While it is set nobody looks up a name in the root for the first time.
        None => set(root, SYNC, b"1"),
    }
}
