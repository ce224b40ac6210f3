//! PutObject: a file under a temporary name beside its own, which the caller writes the body to, and which is renamed
//! when all of it was right. So others see the old object or the whole new one.

use crate::directories::{self, Marker, Origin};
use crate::locks::Mutual;
use crate::objects::{EMPTY_MD5, Found, empty_file, encryption, encryption_of_markers};
use crate::record::{Content, DEFAULT_TYPE, Record, shown_etag};
use crate::refusals;
use crate::tree::{
    Bucket, Kind, Place, Status, conflict, in_the_way, is_gone, open_beneath, proc_path, status, status_at,
};
use crate::{Body, Worker};
use kmsfs_client::{Head, Refused, attributes, numbered_name};
use kmsfs_s3::answer::Written;
use kmsfs_s3::operation::PutObject;
use kmsfs_s3::{Code, ETag, Error, ObjectKey, WriteCondition};
use kmsfs_sse::Request;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, XattrFlags, fchmod, fsetxattr, renameat_with, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Times that a directory is made again which others remove at the same time.
const TRIES: usize = 64;

/// A PUT whose body is on its way. If it is dropped before it is finished, nothing of it is left.
#[derive(Debug)]
pub(crate) struct Put {
    operation: PutObject,
    bucket: Bucket,
    /// None for a directory's marker.
    file: Option<Temporary>,
}

/// A file under a temporary name. If it is dropped, it is removed, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) place: Place,
    pub(crate) name: OsString,
    /// Open for writing, past the kernel's cache, which would hand the content on in any order.
    pub(crate) file: Arc<OwnedFd>,
    /// What it has once it is complete, unless the object that it replaces has another one.
    mode: u32,
    /// It is in its place, or belongs to an upload that goes on.
    keep: bool,
}

impl Worker {
    /// Checks everything that can be checked without the body.
    pub(crate) fn begin_put(&self, put: PutObject) -> Result<(Put, Arc<OwnedFd>), Error> {
        put.encryption.check()?;
        let bucket = self.tree.bucket(&put.bucket)?;
        if let Some(condition) = &put.condition {
            check_condition(&bucket, &put.key, condition)?;
        }
        if put.key.is_marker() {
            if put.length > 0 {
                return Err(conflict(&put.key, "what ends in a slash is a directory, and has no content"));
            }
            let put = Put { operation: put, bucket, file: None };
            return Ok((put, Arc::new(empty_file()?)));
        }
        let file = Temporary::make(&bucket, &put.key, &put.encryption)?;
        let body = Arc::clone(&file.file);
        Ok((Put { operation: put, bucket, file: Some(file) }, body))
    }
}

/// The body is written. `Ok` means that the object is in place and durable.
pub(crate) fn finish(mut put: Put, body: &Body) -> Result<Written, Error> {
    let record = record_of(&put.operation);
    match put.file.take() {
        Some(file) => {
            let size = status(&file.file).map_err(|error| refusals::of_call(&error))?.size;
            if size != put.operation.length || body.length != size {
                drop(file);
                put.bucket.tidy(&put.operation.key);
                return Err(Error::new(Code::IncompleteBody));
            }
            let content = |head: &Head, status: &Status| {
                Content::new(&head.stored.etag, status, shown_etag(head), body.checksum.as_ref())
            };
            let done = file.finish(&put.bucket, &put.operation.key, put.operation.condition.as_ref(), record, content);
            if done.is_err() {
                put.bucket.tidy(&put.operation.key);
            }
            done
        }
        None => put_marker(&put.bucket, &put.operation.key, put.operation.condition.as_ref(), &record),
    }
}

/// Makes a directory an object.
pub(crate) fn put_marker(
    bucket: &Bucket,
    key: &ObjectKey,
    condition: Option<&WriteCondition>,
    record: &Record,
) -> Result<Written, Error> {
    for _ in 0..TRIES {
        let place = bucket.make_place(key)?;
        let _lock = bucket.lock(key.as_str(), Mutual::Exclusive)?;
        if let Some(condition) = condition {
            check_condition(bucket, key, condition)?;
        }
        let made = match rustix::fs::mkdirat(&place.dir, &place.name, Mode::from_raw_mode(0o777)) {
            Ok(()) => {
                bucket.has_changed(&place.dir);
                true
            }
            Err(Errno::EXIST) => false,
            Err(Errno::NOENT | Errno::STALE) => continue,
            Err(errno) => return Err(refusals::of_errno(errno)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match open_beneath(&place.dir, Path::new(&place.name), flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(in_the_way(key, &error)),
        };
        // Somebody may have put another one there meanwhile.
        let made = made && status(&dir).is_ok_and(|status| status.is_own());
        let path = proc_path(&dir);
        let marker = Marker { record: record.clone(), modified: directories::now() };
        let before = directories::origin(&path).map_err(|error| refusals::of_call(&error))?.unwrap_or_default();
        let modified = marker.modified();
        let origin = Origin { implicit: made || before.implicit, marker: Some(marker), ..before };
        directories::mark(&path, &origin).map_err(|error| too_long(&error))?;
        rustix::fs::fsync(&dir).and_then(|()| rustix::fs::fsync(&place.dir)).map_err(refusals::of_errno)?;
        let (etag, encryption) = (ETag::new(EMPTY_MD5), encryption_of_markers());
        return Ok(Written { etag, modified, encryption, checksum: None });
    }
    Err(Error::new(Code::SlowDown))
}

impl Drop for Put {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            self.bucket.tidy(&self.operation.key);
        }
    }
}

impl Temporary {
    /// Made as any file is, and given its request while it is empty.
    pub(crate) fn make(bucket: &Bucket, key: &ObjectKey, request: &Request) -> Result<Self, Error> {
        Self::make_numbered(bucket, key, request, u64::from_le_bytes(kmsfs_crypto::random::bytes()))
    }

    /// The same, of a name with this number.
    pub(crate) fn make_numbered(
        bucket: &Bucket,
        key: &ObjectKey,
        request: &Request,
        number: u64,
    ) -> Result<Self, Error> {
        let _kept = bucket.keep()?;
        let made = Self::create(bucket, key, number)?;
        made.request(request).inspect_err(|_| made.remove_now(bucket, key))?;
        Ok(made)
    }

    fn create(bucket: &Bucket, key: &ObjectKey, number: u64) -> Result<Self, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT;
        for _ in 0..TRIES {
            let place = bucket.make_place(key)?;
            refuse_directory(bucket, &place, key)?;
            let name = numbered_name(number, OsStr::new(&place.name));
            match open_beneath(&place.dir, Path::new(&name), flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => {
                    let mode = status(&file).map_or(0o600, |status| status.mode & 0o777);
                    return Ok(Self { place, name, file: Arc::new(file), mode, keep: false });
                }
                // The directory was removed as empty meanwhile.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(refusals::of_call(&error)),
            }
        }
        Err(Error::new(Code::SlowDown))
    }

    fn request(&self, request: &Request) -> Result<(), Error> {
        if self.mode & 0o200 == 0 {
            // An attribute can be set only by those to whom the mode gives write permission.
            fchmod(&self.file, Mode::from_raw_mode(self.mode | 0o200)).map_err(refusals::of_errno)?;
        }
        set_request(&*self.file, request)
    }

    /// The file of an upload in parts, which stays where it is until it is published.
    pub(crate) fn of_upload(place: Place, name: OsString, file: OwnedFd) -> Self {
        let mode = status(&file).map_or(0o600, |status| status.mode & 0o777);
        Self { place, name, file: Arc::new(file), mode, keep: true }
    }

    /// Its descriptor alone.
    pub(crate) fn into_file(self) -> Arc<OwnedFd> {
        Arc::clone(&self.file)
    }

    /// It becomes the file of an upload in parts.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    fn remove_now(&self, bucket: &Bucket, key: &ObjectKey) {
        let _ = unlinkat(&self.place.dir, &self.name, AtFlags::empty());
        bucket.tidy(key);
    }

    /// Writes the record, makes everything durable and puts the file in its place.
    pub(crate) fn finish(
        mut self,
        bucket: &Bucket,
        key: &ObjectKey,
        condition: Option<&WriteCondition>,
        mut record: Record,
        content: impl FnOnce(&Head, &Status) -> Content,
    ) -> Result<Written, Error> {
        let path = proc_path(&self.file);
        let head = head_of(&*self.file)?;
        let status = status(&self.file).map_err(|error| refusals::of_call(&error))?;
        let content = content(&head, &status);
        let (etag, checksum) = (ETag::new(&content.etag), content.checksum());
        record.content = Some(content);
        record.write(&path).map_err(|error| too_long(&error))?;
        let there = status_at(&self.place.dir, OsStr::new(&self.place.name)).ok();
        let mode = there.filter(|there| there.kind == Kind::File).map_or(self.mode, |there| self.mode_after(&there));
        if mode != status.mode & 0o777 {
            fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(refusals::of_errno)?;
        }
        rustix::fs::fsync(&self.file).map_err(refusals::of_errno)?;
        self.publish(bucket, key, condition)?;
        let modified = status.modified();
        Ok(Written { etag, modified, encryption: encryption(&head.stored), checksum })
    }

    /// The user's own file has its permissions from the user. Another user's may take some away, of group and others,
    /// and gives none.
    fn mode_after(&self, there: &Status) -> u32 {
        if there.is_own() { there.mode & 0o777 } else { self.mode & (there.mode | 0o700) & 0o777 }
    }

    fn publish(&mut self, bucket: &Bucket, key: &ObjectKey, condition: Option<&WriteCondition>) -> Result<(), Error> {
        {
            let _lock = bucket.lock(key.as_str(), Mutual::Exclusive)?;
            if let Some(condition) = condition {
                check_condition(bucket, key, condition)?;
            }
            let absent = matches!(condition, Some(WriteCondition::Absent));
            let flags = if absent { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
            let Place { dir, name } = &self.place;
            match renameat_with(dir, &self.name, dir, name, flags) {
                Ok(()) => {
                    self.keep = true;
                    bucket.has_changed(dir);
                }
                Err(Errno::EXIST) if absent => return Err(changed_meanwhile(bucket, key)),
                Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => return Err(is_a_prefix(key)),
                Err(errno) => return Err(refusals::of_errno(errno)),
            }
        }
        rustix::fs::fsync(&self.place.dir).map_err(refusals::of_errno)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep {
            let _ = unlinkat(&self.place.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Gives an empty file the encryption that a request asks for, or that holds where it is.
pub(crate) fn set_request(file: impl AsFd, request: &Request) -> Result<(), Error> {
    let json = serde_json::to_vec(request).map_err(|error| refusals::of_call(&error.into()))?;
    fsetxattr(file.as_fd(), attributes::REQUEST, &json, XattrFlags::empty())
        .map_err(|errno| refused(file.as_fd(), &errno.into()))
}

/// Why the mount refused to set an attribute about encryption, in S3's and KMS's words where it has any.
pub(crate) fn refused(file: impl AsFd, error: &io::Error) -> Error {
    match Refused::last(&proc_path(file)) {
        Ok(Some(refused)) => refusals::in_their_words(refused),
        _ => refusals::of_call(error),
    }
}

/// # Errors
/// The object's key refuses the user, in S3's and KMS's words.
pub(crate) fn head_of(file: impl AsFd) -> Result<Head, Error> {
    Head::of(&proc_path(file)).map_err(|error| refusals::of_call(&error))?.map_err(refusals::in_their_words)
}

/// # Errors
/// `PreconditionFailed` or `NoSuchKey`; or that the object that is there cannot be looked at.
pub(crate) fn check_condition(bucket: &Bucket, key: &ObjectKey, condition: &WriteCondition) -> Result<(), Error> {
    match condition {
        // Whatever it is, it need not be readable.
        WriteCondition::Absent => {
            let found = bucket.find(key)?;
            let kind = found.map(|inode| status(&inode)).transpose().map_err(|error| refusals::of_call(&error))?;
            let is_object = match kind.map(|status| status.kind) {
                Some(Kind::Directory) => key.is_marker() && Found::if_there(bucket, key)?.is_some(),
                Some(Kind::File) => !key.is_marker(),
                _ => false,
            };
            condition.check(is_object.then(|| ETag::new(EMPTY_MD5)).as_ref())
        }
        WriteCondition::Is(_) => condition.check(Found::if_there(bucket, key)?.map(|found| found.etag).as_ref()),
    }
}

/// What a PUT's own headers say.
fn record_of(put: &PutObject) -> Record {
    let mut metadata = put.metadata.clone();
    metadata.content_type.get_or_insert_with(|| DEFAULT_TYPE.to_owned());
    Record { metadata, storage_class: put.storage_class, tags: put.tags.clone(), content: None }
}

/// A directory that S3 made and that nothing is in any more is no obstacle.
fn refuse_directory(bucket: &Bucket, place: &Place, key: &ObjectKey) -> Result<(), Error> {
    let is_directory =
        || status_at(&place.dir, OsStr::new(&place.name)).is_ok_and(|status| status.kind == Kind::Directory);
    if !is_directory() {
        return Ok(());
    }
    if let Ok(within) = ObjectKey::parse(format!("{key}/x")) {
        bucket.tidy(&within);
    }
    if is_directory() { Err(is_a_prefix(key)) } else { Ok(()) }
}

fn is_a_prefix(key: &ObjectKey) -> Error {
    conflict(key, "there are objects below it, and a directory cannot be a file too")
}

/// A name that was free a moment ago.
fn changed_meanwhile(bucket: &Bucket, key: &ObjectKey) -> Error {
    check_condition(bucket, key, &WriteCondition::Absent).err().unwrap_or_else(|| is_a_prefix(key))
}

/// Of an attribute that could not be set.
pub(crate) fn too_long(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::E2BIG) => Error::new(Code::MetadataTooLarge).saying(
            "Metadata, tags and checksums together are too long for the file system below, or there is no space left",
        ),
        _ => refusals::of_call(error),
    }
}
