//! The virtual extended attributes through which the command line talks to a mount.

use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::io;
use std::path::Path;

pub const ALGORITHM: &str = "user.x-amz-server-side-encryption";
pub const KEY_ID: &str = "user.x-amz-server-side-encryption-aws-kms-key-id";
pub const BUCKET_KEY: &str = "user.x-amz-server-side-encryption-bucket-key-enabled";
/// Without quotes.
pub const ETAG: &str = "user.etag";
/// Set on an empty object: it is encrypted as the request in the value (JSON) says.
pub const REQUEST: &str = "user.x-kmsfs-request";
/// Of a directory: the encryption configuration in force there and where it comes from, as JSON.
pub const CONFIGURATION: &str = "user.x-kmsfs-encryption";

/// Set on the root of a mount: everything is committed, written home and made durable.
pub const SYNC: &str = "user.x-kmsfs-sync";

/// Linux's bound on any attribute's value.
const MAX_VALUE: usize = 64 << 10;

/// The attribute as text; `None` where there is none of that name, or no attributes at all.
pub fn get(path: &Path, name: &str) -> io::Result<Option<String>> {
    let mut value = vec![0; MAX_VALUE];
    match getxattr(path, name, &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            String::from_utf8(value).map(Some).map_err(|_| io::Error::other(format!("{name} is not UTF-8")))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(setxattr(path, name, value, XattrFlags::empty())?)
}
