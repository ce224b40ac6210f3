//! What `kmsfs put` makes: an object that create(2) made under a name of its own, that is given its request while it is
//! empty, and that rename(2) puts in its place once it is complete. So who may do what is the kernel's to judge, as of
//! any file.

use super::configurations::service_encryption;
use super::{Fs, Ino, Refusal, Result};
use kmsfs_kms::Caller;
use kmsfs_sse::{Algorithm, Encryption, Request};
use kmsfs_store::{Dir, Target};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What such a name begins with: sixteen hexadecimal digits follow, then a dot and the name that the object will have
/// in the same directory, where that is short enough.
pub const PREFIX: &str = ".kmsfs-put.";
const DIGITS: usize = 16;

/// The name that an object under such a name is to have; its own if that is not said. `None` for all other names.
fn destined(name: &OsStr) -> Option<&OsStr> {
    let rest = name.as_bytes().strip_prefix(PREFIX.as_bytes())?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    match rest.split_first() {
        None => Some(name),
        Some((b'.', target)) if !target.is_empty() => Some(OsStr::from_bytes(target)),
        Some(_) => None,
    }
}

impl Fs {
    /// Of a new object. One that `kmsfs put` has begun is under AES256 until its request says otherwise: no KMS key is
    /// asked for that the request may not want.
    pub(super) fn encryption_of_new(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<Encryption> {
        if destined(name).is_some() { Ok(service_encryption()) } else { self.encryption_for(dir, name, None) }
    }

    /// Gives an empty object the encryption of a request (JSON), as a whole. The encryption context names what the file
    /// system knows: the object's directory, and the name that it was made for.
    pub(super) fn request_all(&self, ino: Ino, json: &[u8], caller: &Caller) -> Result<()> {
        let request: Request = serde_json::from_slice(json).map_err(|cause| Refusal::MalformedRequest(cause.into()))?;
        let Some((parent, name)) = self.inodes.name(ino) else { return Err(Refusal::Stale) };
        let dir = self.dir(parent)?;
        let target = destined(&name).unwrap_or(&name);
        if target != name {
            self.check_replaceable(&dir, target, caller)?;
        }
        let want = self.encryption_for(&dir, target, Some(&request))?;
        self.with_object(ino, caller, |object| {
            if object.attr()?.size > 0 {
                return Err(Refusal::NotEmpty { path: dir.show(&name) });
            }
            self.store.rewrap(object, &want, &dir.key_of(target), caller)?;
            if want.algorithm == Algorithm::Aes256 {
                object.begin_md5();
            }
            Ok(())
        })
    }

    /// The directory can be written to, since the object was made in it; in a sticky one that is not enough to have a
    /// name that is somebody else's.
    fn check_replaceable(&self, dir: &Arc<Dir>, name: &OsStr, caller: &Caller) -> Result<()> {
        let Some(there) = self.store.stat_if_there(dir, name)? else { return Ok(()) };
        let above = self.store.stat(Target::Dir(dir))?;
        let owners = [0, there.uid, above.uid];
        if above.mode & libc::S_ISVTX != 0 && !owners.contains(&caller.uid) { Err(Refusal::Sticky) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_for_only_in_the_same_directory() {
        let destined = |name: &'static str| destined(OsStr::new(name)).map(|name| name.to_str().unwrap());
        assert_eq!(destined(".kmsfs-put.0123456789abcdef.bond.json"), Some("bond.json"));
        assert_eq!(destined(".kmsfs-put.0123456789abcdef..encryption.json"), Some(".encryption.json"));
        assert_eq!(destined(".kmsfs-put.0123456789abcdef"), Some(".kmsfs-put.0123456789abcdef"));
        for other in [".kmsfs-put.", ".kmsfs-put.0123456789abcdeg.x", ".kmsfs-put.0123456789abcdefx", "bond.json"] {
            assert_eq!(destined(other), None, "{other}");
        }
        assert_eq!(destined(".kmsfs-put.0123456789abcdef."), None);
    }
}
