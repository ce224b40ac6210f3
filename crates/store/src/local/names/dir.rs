//! Directories of the mount and the bucket that they lie in.

use crate::backend;
use crate::local::sealed::parameters::{PRIVATE_FILE, read_file};
use crate::{Error, Ino, Result, Time};
use kmsfs_crypto::MetadataCipher;
use kmsfs_kms::EncryptionContext;
use kmsfs_sse::KeyService;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Names and kinds; a kind is 0 where the file system does not tell it.
pub(crate) fn names(dir: &dyn backend::Dir) -> std::io::Result<Vec<(OsString, u32)>> {
    let mut names = Vec::new();
    dir.read(0, &mut |entry| {
        names.push((entry.name.to_os_string(), entry.kind));
        true
    })?;
    Ok(names)
}

/// A directory of the mount, held open in the backing store (one descriptor). `Store::root` is the one of buckets.
pub struct Dir {
    pub(crate) backing: Arc<dyn backend::Dir>,
    pub(crate) ino: Ino,
    pub(crate) bucket: Option<Arc<Bucket>>,
    /// Below `buckets/` when it was opened: a hint, since renames of directories above do not change it.
    pub(crate) path: Vec<u8>,
}

impl Dir {
    pub(crate) fn new(backing: Arc<dyn backend::Dir>, bucket: Option<Arc<Bucket>>, path: Vec<u8>) -> Result<Arc<Self>> {
        let ino = backing.metadata()?.ino;
        Ok(Arc::new(Self { backing, ino, bucket, path }))
    }

    /// Below `buckets/` when it was opened.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Inode number.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// It is not to be held open for later: descriptors are short.
    pub fn has_reserved_descriptor(&self) -> bool {
        self.backing.has_reserved_descriptor()
    }

    /// Name of the bucket that the directory is or lies in; `None` at the root.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_ref().map(|bucket| bucket.name.as_str())
    }

    /// Names and kinds (`S_IFMT`) of all that is in it.
    pub(crate) fn entries(&self) -> Result<Vec<(OsString, u32)>> {
        let mut found = names(self.backing.as_ref())?;
        for (name, kind) in found.iter_mut().filter(|(_, kind)| *kind == 0) {
            *kind = self.backing.stat(name)?.mode & libc::S_IFMT;
        }
        Ok(found)
    }

    /// S3 key of a name in the directory: its path below the bucket, as it was when the directory was opened.
    pub fn key_of(&self, name: &OsStr) -> String {
        let path = self.path_of(name);
        let below = path.iter().position(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[slash + 1..]);
        String::from_utf8_lossy(below).into_owned()
    }

    /// The bucket, or EPERM at the root, where nothing but buckets can be.
    pub(crate) fn in_bucket(&self) -> Result<&Arc<Bucket>> {
        self.bucket.as_ref().ok_or(Error::Errno(libc::EPERM))
    }

    pub(crate) fn path_of(&self, name: &OsStr) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }

    /// A name's path from the bucket on, as it was when the directory was opened; for messages.
    pub fn show(&self, name: &OsStr) -> String {
        OsString::from_vec(self.path_of(name)).to_string_lossy().into_owned()
    }
}

/// A bucket's record: what its symlinks and attributes are encrypted with.
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) metadata: MetadataCipher,
}

#[derive(Serialize, Deserialize)]
struct Json {
    /// Nanoseconds since 1970.
    created: i64,
    /// Metadata data key, wrapped by the service's own key; hexadecimal.
    metadata_key: String,
}

fn context(bucket: &str) -> EncryptionContext {
    [
        ("aws:s3:arn".to_string(), format!("arn:aws:s3:::{bucket}")),
        ("kmsfs:purpose".to_string(), "metadata".to_string()),
    ]
    .into()
}

/// The records of all buckets.
pub(crate) struct Buckets {
    meta: Arc<dyn backend::Dir>,
    keys: Arc<KeyService>,
}

impl Buckets {
    /// `meta` is the directory of the records.
    pub(crate) fn new(meta: Arc<dyn backend::Dir>, keys: &Arc<KeyService>) -> Self {
        Self { meta, keys: keys.clone() }
    }

    /// Writes the record of a new bucket, durably. One that a creation torn by a crash left behind is replaced.
    pub(crate) fn create(&self, name: &OsStr, now: Time) -> Result<()> {
        let text = name.to_str().ok_or(Error::Errno(libc::EINVAL))?;
        let (_, blob) = self.keys.service().generate_data_key(&context(text)).map_err(kmsfs_sse::RequestError::Kms)?;
        let json = Json { created: now.0, metadata_key: hex::encode(&blob) };
        let bytes = serde_json::to_vec(&json).expect("strings and a number can be serialized");
        match self.meta.unlink(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = self.meta.create_file(name, &PRIVATE_FILE)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        Ok(self.meta.sync()?)
    }

    /// Reads a bucket's record and opens its metadata key, for which the service's own key is asked.
    pub(crate) fn open(&self, name: &OsStr) -> Result<Arc<Bucket>> {
        let text = name.to_str().ok_or(Error::Errno(libc::EINVAL))?;
        let damaged = |why: &dyn std::fmt::Display| Error::Corrupt(format!("meta/{text}: {why}"));
        let bytes = read_file(self.meta.as_ref(), name).map_err(|error| damaged(&error))?;
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        let blob = hex::decode(&json.metadata_key).map_err(|error| damaged(&error))?;
        let key = self.keys.service().decrypt(&blob, &context(text)).map_err(|error| damaged(&error))?;
        Ok(Arc::new(Bucket { name: text.to_string(), metadata: MetadataCipher::new(key) }))
    }

    /// Removes the record of a bucket that is durably gone.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<()> {
        Ok(self.meta.unlink(name)?)
    }
}
