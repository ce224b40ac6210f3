//! S3's headers as extended attributes: what HeadObject would answer, and requests for another encryption.

use super::configurations::InForce;
use super::{Fs, Ino, Reached, Refusal, Result};
use kmsfs_kms::{Caller, Waits};
use kmsfs_sse::request::{ALGORITHM, BUCKET_KEY_ENABLED, CONTEXT, KEY_ID};
use kmsfs_sse::{Algorithm, Configuration, Request, resolve};
use kmsfs_store::Object;
use serde_json::json;
use std::ffi::OsStr;
use std::sync::Arc;

/// The attributes that are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Virtual<'a> {
    /// One of S3's request headers.
    Header(&'static str),
    Etag,
    /// All that HeadObject returns, or why it is refused.
    Head,
    /// The same, together with a stored attribute: `x-kmsfs-head.NAME` with `user.NAME`.
    HeadWith(&'a str),
    /// Why this caller's request for this object was refused, once.
    Refusal,
    /// Of directories: the configuration in force.
    Encryption,
    /// Of an empty object, set only: a whole request, as JSON.
    Request,
    /// Of the root: a checkpoint is made when it is asked for, or set. While an attribute is set the kernel lets nobody
    /// look up names in the directory that it does not know yet.
    Sync,
    /// Set only: a piece of a change of many objects' encryption.
    Reencrypt,
    /// What came of the piece with this token.
    Reencrypted(u64),
    /// Nothing is stored under a name of this kind.
    Unknown,
}

impl<'a> Virtual<'a> {
    pub(crate) fn parse(name: &'a OsStr) -> Option<Self> {
        let name = name.to_str()?.strip_prefix("user.")?;
        let headers = [ALGORITHM, KEY_ID, CONTEXT, BUCKET_KEY_ENABLED];
        match name {
            "etag" => Some(Self::Etag),
            "x-kmsfs-head" => Some(Self::Head),
            "x-kmsfs-refusal" => Some(Self::Refusal),
            "x-kmsfs-encryption" => Some(Self::Encryption),
            "x-kmsfs-request" => Some(Self::Request),
            "x-kmsfs-sync" => Some(Self::Sync),
            "x-kmsfs-reencrypt" => Some(Self::Reencrypt),
            name if name.starts_with("x-kmsfs-head.") => name.split_once('.').map(|(_, name)| Self::HeadWith(name)),
            name if name.starts_with("x-kmsfs-reencrypt.") => {
                u64::from_str_radix(name.rsplit_once('.')?.1, 16).ok().map(Self::Reencrypted)
            }
            name if name.starts_with("x-kmsfs-") => Some(Self::Unknown),
            name => headers.into_iter().find(|header| *header == name).map(Self::Header),
        }
    }
}

impl Virtual<'_> {
    pub(super) fn getting_waits(self) -> Waits {
        if self == Self::Sync { Waits::Disk } else { Waits::Nothing }
    }

    pub(super) fn setting_waits(self) -> Waits {
        match self {
            Self::Header(_) | Self::Request | Self::Sync => Waits::Disk,
            // Each object's refusal is told with the others', so nothing is begun that has to be done again.
            Self::Reencrypt => Waits::Kms,
            Self::Etag
            | Self::Head
            | Self::HeadWith(_)
            | Self::Refusal
            | Self::Encryption
            | Self::Reencrypted(_)
            | Self::Unknown => Waits::Nothing,
        }
    }
}

impl Fs {
    pub(super) fn get_virtual(&self, ino: Ino, name: Virtual<'_>, caller: &Caller) -> Result<Vec<u8>> {
        match name {
            Virtual::Encryption => self.directory_encryption(ino),
            Virtual::Sync => self.sync(ino, caller).map(|()| b"1".to_vec()),
            Virtual::Request | Virtual::Reencrypt | Virtual::Unknown | Virtual::Header(CONTEXT) => {
                Err(Refusal::NoAttribute)
            }
            Virtual::Reencrypted(token) => self.reencrypted(token, caller),
            Virtual::Head => self.head(ino, None, caller),
            Virtual::HeadWith(name) => self.head(ino, Some(name), caller),
            Virtual::Refusal => self.refused.take((caller.uid, ino.0)),
            Virtual::Etag => self.with_object(ino, caller, |object| Ok(object.etag()?.into_bytes())),
            Virtual::Header(header) => self.with_object(ino, caller, |object| {
                let encryption = object.encryption();
                let value = match header {
                    ALGORITHM => Some(encryption.algorithm.as_str().to_string()),
                    KEY_ID => encryption.key_arn,
                    _ => Some(encryption.bucket_key.to_string()),
                };
                value.map(String::into_bytes).ok_or(Refusal::NoAttribute)
            }),
        }
    }

    /// Uses an object without a handle, on behalf of a caller who may use its key.
    pub(super) fn with_object<T>(
        &self,
        ino: Ino,
        caller: &Caller,
        with: impl FnMut(&Arc<Object>) -> Result<T>,
    ) -> Result<T> {
        let judged = self.judged();
        let object = self.open_for_attribute(ino, caller)?;
        let done = self.unlocking(&object, caller, with);
        self.store.release(&object);
        self.was_used(ino, judged);
        done
    }

    fn directory_encryption(&self, ino: Ino) -> Result<Vec<u8>> {
        let Reached::Dir(dir) = self.reach(ino)? else { return Err(Refusal::NoAttribute) };
        if dir.bucket().is_none() {
            return Err(Refusal::NoAttribute);
        }
        let answer = match self.configuration_in_force(&dir) {
            Ok(None) => json!({
                "ServerSideEncryptionConfiguration": Configuration::default().to_json(),
                "Source": null,
            }),
            Ok(Some(InForce { configuration, source, .. })) => json!({
                "ServerSideEncryptionConfiguration": configuration.to_json(),
                "Source": source,
            }),
            Err(Refusal::InvalidConfiguration { path, cause }) => {
                json!({ "Source": path, "Refused": cause.to_string() })
            }
            Err(refusal) => return Err(refusal),
        };
        Ok(answer.to_string().into_bytes())
    }

    pub(super) fn set_virtual(&self, ino: Ino, name: Virtual<'_>, value: &[u8], caller: &Caller) -> Result<()> {
        match name {
            Virtual::Etag
            | Virtual::Head
            | Virtual::HeadWith(_)
            | Virtual::Refusal
            | Virtual::Encryption
            | Virtual::Reencrypted(_) => Err(Refusal::FixedAttribute),
            Virtual::Unknown => Err(Refusal::Unsupported),
            Virtual::Reencrypt => self.reencrypt(ino, value, caller),
            Virtual::Request => {
                self.request_all(ino, value, caller).inspect_err(|refusal| self.tell_refused(ino, refusal, caller))
            }
            Virtual::Sync => self.sync(ino, caller),
            Virtual::Header(header) => {
                let done = self.request(ino, header, value, caller);
                done.inspect_err(|refusal| self.tell_refused(ino, refusal, caller))
            }
        }
    }

    /// Root's affair, and that of whoever runs the mount.
    fn sync(&self, ino: Ino, caller: &Caller) -> Result<()> {
        let own = caller.uid == rustix::process::geteuid().as_raw();
        match (ino == self.root(), caller.uid == 0 || own) {
            (false, _) => Err(Refusal::NoAttribute),
            (true, false) => Err(Refusal::NotAdministrator),
            (true, true) if self.store.read_only() => Ok(()),
            (true, true) => {
                let done = self.store.checkpoint();
                self.show_resized();
                Ok(done?)
            }
        }
    }

    /// Asks for another encryption of an object that exists.
    fn request(&self, ino: Ino, header: &str, value: &[u8], caller: &Caller) -> Result<()> {
        let text = std::str::from_utf8(value).map_err(|_| Refusal::NotUtf8)?;
        let Some((parent, name)) = self.inodes.name(ino) else { return Err(Refusal::Stale) };
        let dir = self.dir(parent)?;
        if Self::is_configuration(&name) {
            return Err(Refusal::ConfigurationEncryption { path: dir.key_of(&name) });
        }
        self.with_object(ino, caller, |object| {
            let now = object.encryption();
            let mut request = Request::default();
            request.set_header(header, text)?;
            if header != ALGORITHM && now.algorithm != Algorithm::Aes256 {
                request.algorithm = Some(now.algorithm);
                if header != KEY_ID {
                    request.key_id = now.key_arn;
                }
                if header != BUCKET_KEY_ENABLED {
                    request.bucket_key = Some(now.bucket_key);
                }
            }
            let want = resolve(Some(&request), None)?;
            Ok(self.store.rewrap(object, &want, &dir.key_of(&name), caller)?)
        })
    }
}
