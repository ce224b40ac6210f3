//! Uploads in parts.
//!
//! The object is made as any PUT makes it: a file under a temporary name beside its own, which has the upload's id in
//! its name. Parts of one size are written into it where they belong, the first time that they are sent; others, and
//! repetitions, are files of their own, which are copied in when the upload is completed. So a part that was
//! acknowledged is never written to again.
//!
//! What is known of an upload is in a directory of the bucket, `.kmsfs-uploads.UID/ID`, which is its user's alone.
//! Nothing is believed of one that another user could have written to:
//!
//! | name | what |
//! | --- | --- |
//! | the attribute `user.s3.metadata` of the directory | [`State`] |
//! | `00001` | a symlink whose target is not a path but a [`parts::PartRecord`] |
//! | `00001.HEX` | the content of a part that is a file of its own |
//! | `claim-00001` | a symlink: somebody has begun to write this part in its place, and nobody may again |
//! | `unit` | a symlink whose target is the size of parts that are written in their place |

mod complete;
mod list;
mod parts;

pub(crate) use parts::PartUpload;

use crate::directories;
use crate::leftovers::is_over;
use crate::locks::{Lock, Mutual};
use crate::objects::encryption;
use crate::puts::{Temporary, head_of, too_long};
use crate::record::{DEFAULT_TYPE, NAME, Record};
use crate::refusals;
use crate::tree::{Bucket, Kind, Place, conflict, is_absent, names_in, open_beneath, proc_path, status, status_at};
use crate::{Done, Worker};
use kmsfs_client::{attributes, numbered_name};
use kmsfs_s3::answer::{ServerSideEncryption, Upload};
use kmsfs_s3::operation::{AbortMultipartUpload, CreateMultipartUpload};
use kmsfs_s3::{
    Answer, ChecksumAlgorithm, ChecksumType, Code, Error, ObjectKey, PUT_PREFIX, UPLOADS_DIRECTORY, UploadId,
};
use kmsfs_sse::{Algorithm, Request};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Times that a directory is made again which others remove at the same time.
const TRIES: usize = 64;

/// What is known of an upload from its beginning on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(rename = "Key")]
    pub(crate) key: ObjectKey,
    /// Seconds since 1970.
    #[serde(rename = "Initiated")]
    pub(crate) initiated: i64,
    /// Algorithm and type.
    #[serde(rename = "Checksum", default, skip_serializing_if = "Option::is_none")]
    checksum: Option<(String, String)>,
    #[serde(rename = "StorageClass")]
    storage_class: String,
    /// How the object is encrypted, as answers show it: algorithm, key's ARN, whether under a bucket key.
    #[serde(rename = "Encryption")]
    encryption: (String, Option<String>, bool),
    /// What has that encryption for another file.
    #[serde(rename = "Request")]
    pub(crate) request: Request,
}

/// An upload that goes on.
pub(crate) struct Running {
    pub(crate) id: UploadId,
    pub(crate) dir: OwnedFd,
    pub(crate) state: State,
}

impl State {
    pub(crate) fn checksum(&self) -> Option<(ChecksumAlgorithm, ChecksumType)> {
        let (algorithm, kind) = self.checksum.as_ref()?;
        Some((ChecksumAlgorithm::parse(algorithm)?, ChecksumType::parse(kind)?))
    }

    pub(crate) fn storage_class(&self) -> kmsfs_s3::StorageClass {
        kmsfs_s3::StorageClass::parse(&self.storage_class).unwrap_or_default()
    }

    pub(crate) fn encryption(&self) -> ServerSideEncryption {
        let (algorithm, key_arn, bucket_key) = self.encryption.clone();
        let algorithm = Algorithm::parse(&algorithm).unwrap_or(Algorithm::Aes256);
        ServerSideEncryption { algorithm, key_arn, bucket_key }
    }

    /// Whether parts' ETags are MD5s.
    pub(crate) fn is_plain(&self) -> bool {
        self.encryption().algorithm == Algorithm::Aes256
    }
}

impl Worker {
    pub(crate) fn create_upload(&self, of: &CreateMultipartUpload) -> Result<Done, Error> {
        of.encryption.check()?;
        let bucket = self.tree.bucket(&of.bucket)?;
        if of.key.is_marker() {
            return Err(conflict(&of.key, "what ends in a slash is a directory, and has no content"));
        }
        sweep(&bucket);
        let mut file = Temporary::make_numbered(&bucket, &of.key, &of.encryption, new_number())?;
        let begun = begin(&bucket, of, &file).inspect_err(|_| {
            let _ = unlinkat(&file.place.dir, &file.name, AtFlags::empty());
            bucket.tidy(&of.key);
        })?;
        file.keep();
        Ok((Answer::Upload(begun), None))
    }

    pub(crate) fn abort_upload(&self, of: &AbortMultipartUpload) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        let _lock = lock(&bucket, &of.upload_id, Mutual::Exclusive)?;
        let running = Running::find(&bucket, &of.key, &of.upload_id)?;
        running.remove(&bucket, true)?;
        Ok((Answer::Done, None))
    }
}

fn begin(bucket: &Bucket, of: &CreateMultipartUpload, file: &Temporary) -> Result<Upload, Error> {
    let name = file.name.as_bytes().strip_prefix(PUT_PREFIX.as_bytes()).and_then(|rest| rest.get(..16));
    let id = UploadId::parse(String::from_utf8_lossy(name.unwrap_or_default()))?;
    let head = head_of(&file.file)?;
    let mut metadata = of.metadata.clone();
    metadata.content_type.get_or_insert_with(|| DEFAULT_TYPE.to_owned());
    let record = Record { metadata, storage_class: of.storage_class, tags: of.tags.clone(), content: None };
    record.write(&proc_path(&file.file)).map_err(|error| too_long(&error))?;
    let stored = head.stored;
    let is_plain = stored.algorithm == Algorithm::Aes256;
    let state = State {
        key: of.key.clone(),
        initiated: directories::now(),
        checksum: of.checksum.map(|(algorithm, kind)| (algorithm.name().to_owned(), kind.name().to_owned())),
        storage_class: of.storage_class.name().to_owned(),
        encryption: (stored.algorithm.as_str().to_owned(), stored.key_arn.clone(), stored.bucket_key),
        request: Request {
            algorithm: Some(stored.algorithm),
            key_id: stored.key_arn.clone(),
            context: of.encryption.context.clone().filter(|_| !is_plain),
            bucket_key: (stored.algorithm == Algorithm::AwsKms).then_some(stored.bucket_key),
        },
    };
    let (uploads, made) = make_directory(bucket, &id)?;
    let text = serde_json::to_string(&state).map_err(|error| refusals::of_call(&error.into()))?;
    let kept =
        attributes::set(&proc_path(&made), NAME, text.as_bytes()).map_err(|error| too_long(&error)).and_then(|()| {
            let synced = fsync(&file.file).and_then(|()| fsync(&file.place.dir)).and_then(|()| fsync(&uploads));
            synced.map_err(refusals::of_errno)
        });
    if let Err(error) = kept {
        let _ = unlinkat(&uploads, id.as_str(), AtFlags::REMOVEDIR);
        return Err(error);
    }
    Ok(Upload { upload_id: id, encryption: encryption(&stored) })
}

/// Uploads are listed in the order of their ids, and that is to be the order in which they began.
fn new_number() -> u64 {
    let (seconds, random) = (directories::now().cast_unsigned(), u32::from_le_bytes(kmsfs_crypto::random::bytes()));
    seconds << 32 | u64::from(random)
}

/// Returns the one that it is in, and the upload's own.
fn make_directory(bucket: &Bucket, id: &UploadId) -> Result<(OwnedFd, OwnedFd), Error> {
    for _ in 0..TRIES {
        let uploads = uploads_directory(bucket)?;
        match mkdirat(&uploads, id.as_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) => return open_made(&uploads, id.as_str()).map(|made| (uploads, made)),
            // The last upload of others has ended meanwhile.
            Err(Errno::NOENT | Errno::STALE) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    Err(Error::new(Code::SlowDown))
}

/// The name of a user's directory of uploads in a bucket.
pub(crate) fn uploads_of(uid: u32) -> String {
    format!("{UPLOADS_DIRECTORY}.{uid}")
}

fn own_name() -> String {
    uploads_of(kmsfs_sys::file_user())
}

/// The user's directory of uploads, if it is there.
///
/// # Errors
/// `AccessDenied`: others could have made what is in it.
fn own_uploads(bucket: &Bucket) -> Result<Option<OwnedFd>, Error> {
    match open_private(bucket.dir(), &own_name()) {
        Ok(Some(dir)) => Ok(Some(dir)),
        Ok(None) => Err(Error::new(Code::AccessDenied)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(refusals::of_call(&error)),
    }
}

/// Opens a directory that nobody but the user can have put anything in; `None` where that is not so. Who may write to
/// the directory above can put any other there.
fn open_private(above: impl AsFd, name: &str) -> io::Result<Option<OwnedFd>> {
    let dir = open_beneath(above, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let status = status(&dir)?;
    Ok((status.is_own() && status.mode & 0o022 == 0).then_some(dir))
}

/// The user's directory of uploads, made where it is missing.
fn uploads_directory(bucket: &Bucket) -> Result<OwnedFd, Error> {
    for _ in 0..TRIES {
        if let Some(dir) = own_uploads(bucket)? {
            return Ok(dir);
        }
        match mkdirat(bucket.dir(), own_name(), Mode::from_raw_mode(0o700)) {
            Ok(()) => fsync(bucket.open()?).map_err(refusals::of_errno)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    Err(Error::new(Code::SlowDown))
}

/// An id that was given out: no other text has the same number.
fn is_given_out(id: &UploadId) -> bool {
    let id = id.as_str();
    id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A directory that was made a moment ago.
///
/// # Errors
/// `AccessDenied`: somebody has put another one there meanwhile.
fn open_made(above: impl AsFd, name: &str) -> Result<OwnedFd, Error> {
    let dir = open_private(above, name).map_err(|error| refusals::of_call(&error))?;
    dir.ok_or_else(|| Error::new(Code::AccessDenied))
}

/// Between parts, which share it, and what ends the upload.
pub(crate) fn lock(bucket: &Bucket, id: &UploadId, how: Mutual) -> Result<Lock, Error> {
    bucket.lock(&format!("{}/{}", own_name(), id.as_str()), how)
}

/// The lock of all who write parts in their place.
fn writing(id: &UploadId) -> String {
    format!("{}/{}/writing", own_name(), id.as_str())
}

impl Running {
    /// # Errors
    /// `NoSuchUpload`: of this key there is none of that id.
    pub(crate) fn find(bucket: &Bucket, key: &ObjectKey, id: &UploadId) -> Result<Self, Error> {
        let running = Self::open(bucket, id)?.filter(|running| running.state.key == *key);
        running.ok_or_else(|| no_such_upload(id))
    }

    /// `None` where there is none, or no more.
    fn open(bucket: &Bucket, id: &UploadId) -> Result<Option<Self>, Error> {
        if !is_given_out(id) {
            return Ok(None);
        }
        let Some(uploads) = own_uploads(bucket)? else { return Ok(None) };
        let dir = match open_private(&uploads, id.as_str()) {
            Ok(Some(dir)) => dir,
            Ok(None) => return Err(Error::new(Code::AccessDenied)),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(refusals::of_call(&error)),
        };
        let text = attributes::get(&proc_path(&dir), NAME).map_err(|error| refusals::of_call(&error))?;
        let state = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(state.map(|state| Self { id: id.clone(), dir, state }))
    }

    /// The name of the file that the object is made in, in the key's directory.
    fn file_name(&self, place: &Place) -> OsString {
        let number = u64::from_str_radix(self.id.as_str(), 16).unwrap_or_default();
        numbered_name(number, OsStr::new(&place.name))
    }

    /// The file that the object is made in, for writing; none where it was published already.
    fn file(&self, bucket: &Bucket) -> Result<Option<Temporary>, Error> {
        let Some(place) = bucket.place(&self.state.key)? else { return Ok(None) };
        let name = self.file_name(&place);
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::NONBLOCK;
        match open_beneath(&place.dir, Path::new(&name), flags, Mode::empty()) {
            // Who may write to the key's directory can put another one there.
            Ok(file) if !is_own_file(&file)? => Err(Error::new(Code::AccessDenied)),
            Ok(file) => Ok(Some(Temporary::of_upload(place, name, file))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => {
                // It is the user's own, so that it is the key that refuses.
                let path = proc_path(&place.dir).join(&name);
                match kmsfs_client::Head::of(&path) {
                    Ok(Err(refused)) => Err(refusals::in_their_words(refused)),
                    _ => Err(refusals::of_call(&error)),
                }
            }
        }
    }

    /// Whatever the user may remove of it; with its file, if that was not published.
    pub(crate) fn remove(&self, bucket: &Bucket, with_file: bool) -> Result<(), Error> {
        if with_file && let Some(place) = bucket.place(&self.state.key)? {
            match unlinkat(&place.dir, self.file_name(&place), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => bucket.tidy(&self.state.key),
                Err(errno) => return Err(refusals::of_errno(errno)),
            }
        }
        let uploads = uploads_directory(bucket)?;
        for name in self.names()? {
            match unlinkat(&self.dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(refusals::of_errno(errno)),
            }
        }
        match unlinkat(&uploads, self.id.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
        fsync(&uploads).map_err(refusals::of_errno)?;
        // Unless there are others.
        let _ = unlinkat(bucket.dir(), own_name(), AtFlags::REMOVEDIR);
        Ok(())
    }

    fn names(&self) -> Result<Vec<OsString>, Error> {
        names_in(&self.dir)
    }
}

/// A regular file that belongs to the user.
fn is_own_file(file: &OwnedFd) -> Result<bool, Error> {
    let status = status(file).map_err(|error| refusals::of_call(&error))?;
    Ok(status.kind == Kind::File && status.is_own())
}

/// Gives up those of the user's uploads that no part was sent to for so long.
fn sweep(bucket: &Bucket) {
    let Ok(Some(uploads)) = own_uploads(bucket) else { return };
    for name in names_in(&uploads).unwrap_or_default() {
        let is_old =
            status_at(&uploads, &name).is_ok_and(|there| there.kind == Kind::Directory && is_over(there.mtime));
        let Some(id) = name.to_str().filter(|_| is_old).and_then(|name| UploadId::parse(name).ok()) else { continue };
        let Ok(_lock) = lock(bucket, &id, Mutual::Exclusive) else { continue };
        let _ = match Running::open(bucket, &id) {
            Ok(Some(running)) => running.remove(bucket, true),
            // The process ended between making it and saying what it is.
            Ok(None) => unlinkat(&uploads, &name, AtFlags::REMOVEDIR).map_err(refusals::of_errno),
            Err(error) => Err(error),
        };
    }
}

fn no_such_upload(id: &UploadId) -> Error {
    Error::new(Code::NoSuchUpload).with("UploadId", id.as_str())
}
