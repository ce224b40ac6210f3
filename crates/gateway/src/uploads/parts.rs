//! UploadPart and UploadPartCopy.

use super::{Running, is_own_file, lock, no_such_upload, writing};
use crate::copies::{Known, copy_and_sum};
use crate::directories;
use crate::locks::{Lock, Mutual};
use crate::objects::Found;
use crate::puts::set_request;
use crate::refusals;
use crate::tree::{Bucket, open_beneath, proc_path, status};
use crate::{Body, Done, Worker};
use kmsfs_s3::answer::Written;
use kmsfs_s3::operation::{UploadPart, UploadPartCopy};
use kmsfs_s3::{
    Answer, Checksum, ChecksumAlgorithm, Code, ETag, Error, ExpectedChecksum, ObjectKey, Timestamp, UploadId,
};
use kmsfs_sse::BucketName;
use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, fsync, readlinkat, renameat, seek, symlinkat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The least that a part can have that is not the last one, in bytes.
pub(super) const SMALLEST: u64 = 5 << 20;

/// A part that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartRecord {
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) checksum: Option<Checksum>,
    /// Seconds since 1970.
    pub(super) modified: i64,
    pub(super) at: At,
}

/// Where a part's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// In the object's file, from this byte on.
    Offset(u64),
    /// In a file of this name in the upload's directory.
    File(String),
}

/// A part whose body is on its way.
#[derive(Debug)]
pub(crate) struct PartUpload {
    bucket: Bucket,
    key: ObjectKey,
    id: UploadId,
    number: u32,
    length: u64,
    /// What the upload wants.
    algorithm: Option<ChecksumAlgorithm>,
    is_plain: bool,
    file: Arc<OwnedFd>,
    at: At,
    /// As long as it may write into the object's file.
    _writing: Option<Lock>,
}

impl Worker {
    pub(crate) fn begin_part(&self, of: &UploadPart) -> Result<(PartUpload, Arc<OwnedFd>, bool), Error> {
        let algorithm = of.checksum.as_ref().map(ExpectedChecksum::algorithm);
        let part = self.begin_any(&of.bucket, &of.key, &of.upload_id, of.part_number, of.length, algorithm)?;
        let body = Arc::clone(&part.file);
        let wants_md5 = part.is_plain;
        Ok((part, body, wants_md5))
    }

    pub(crate) fn copy_part(&self, of: &UploadPartCopy) -> Result<Done, Error> {
        let source = Found::look_up(&self.tree.bucket(&of.source.bucket)?, &of.source.key)?;
        of.source_conditions.check_source(&source.etag, source.modified)?;
        let range = match of.source_range {
            None => 0..source.size,
            Some((first, last)) if first <= last && last < source.size => first..last + 1,
            Some((first, last)) => {
                let message = format!("Range specified is not valid for source object of size: {}", source.size);
                let value = format!("bytes={first}-{last}");
                return Err(Error::argument(message, "x-amz-copy-source-range", value));
            }
        };
        let length = range.end - range.start;
        let part = self.begin_any(&of.bucket, &of.key, &of.upload_id, of.part_number, length, None)?;
        let offset = match part.at {
            At::Offset(offset) => offset,
            At::File(_) => 0,
        };
        let algorithm = part.algorithm.unwrap_or(ChecksumAlgorithm::Crc64Nvme);
        let copied = copy_and_sum(&source.reopen()?, range, &part.file, offset, Some(algorithm))?;
        let (Known { md5, checksum }, copied) = copied;
        if copied != length {
            // Somebody has made the source shorter meanwhile.
            return Err(Error::new(Code::IncompleteBody));
        }
        Ok((Answer::Written(part.acknowledge(md5, checksum)?), None))
    }

    fn begin_any(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &UploadId,
        number: u32,
        length: u64,
        algorithm: Option<ChecksumAlgorithm>,
    ) -> Result<PartUpload, Error> {
        let bucket = self.tree.bucket(bucket)?;
        let running = Running::find(&bucket, key, id)?;
        let wanted = running.state.checksum().map(|(algorithm, _)| algorithm);
        if let (Some(wanted), Some(given)) = (wanted, algorithm)
            && wanted != given
        {
            return Err(Error::new(Code::InvalidRequest).saying(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                wanted.name().to_ascii_lowercase(),
                given.name().to_ascii_lowercase()
            )));
        }
        let (file, at, lock) = if let Some((file, offset, lock)) = running.in_place(&bucket, number, length)? {
            (file, At::Offset(offset), Some(lock))
        } else {
            let (file, name) = running.own_file(number)?;
            (Arc::new(file), At::File(name), None)
        };
        let is_plain = running.state.is_plain();
        let (key, id) = (key.clone(), id.clone());
        Ok(PartUpload { bucket, key, id, number, length, algorithm: wanted, is_plain, file, at, _writing: lock })
    }
}

impl Running {
    /// The object's file, at the part's place, if nobody has begun to write there before.
    fn in_place(&self, bucket: &Bucket, number: u32, length: u64) -> Result<Option<(Arc<OwnedFd>, u64, Lock)>, Error> {
        let unit = self.unit(number, length)?.filter(|unit| length <= *unit);
        let offset = unit.and_then(|unit| unit.checked_mul(u64::from(number.saturating_sub(1))));
        let Some(offset) = offset.filter(|offset| i64::try_from(*offset).is_ok()) else { return Ok(None) };
        let lock = bucket.lock(&writing(&self.id), Mutual::Shared)?;
        match symlinkat("claimed", &self.dir, format!("claim-{number:05}")) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
        let mut file = self.file(bucket)?.ok_or_else(|| no_such_upload(&self.id))?;
        file.keep();
        let file = file.into_file();
        seek(&file, SeekFrom::Start(offset)).map_err(refusals::of_errno)?;
        Ok(Some((file, offset, lock)))
    }

    /// The size that parts have which are written in their place: the first one's, or that of any that cannot be the
    /// last one, whichever comes first.
    fn unit(&self, number: u32, length: u64) -> Result<Option<u64>, Error> {
        if length > 0 && (number == 1 || length >= SMALLEST) {
            match symlinkat(length.to_string(), &self.dir, "unit") {
                Ok(()) => return Ok(Some(length)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refusals::of_errno(errno)),
            }
        }
        match readlinkat(&self.dir, "unit", Vec::new()) {
            Ok(text) => Ok(text.to_str().ok().and_then(|text| text.parse().ok())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(refusals::of_errno(errno)),
        }
    }

    fn own_file(&self, number: u32) -> Result<(OwnedFd, String), Error> {
        let name = format!("{number:05}.{:016x}", u64::from_le_bytes(kmsfs_crypto::random::bytes()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT;
        let file = open_beneath(&self.dir, Path::new(&name), flags, Mode::from_raw_mode(0o600)).map_err(|error| {
            if crate::tree::is_gone(&error) { no_such_upload(&self.id) } else { refusals::of_call(&error) }
        })?;
        match set_request(&file, &self.state.request) {
            Ok(()) => Ok((file, name)),
            Err(error) => {
                let _ = unlinkat(&self.dir, &name, AtFlags::empty());
                Err(error)
            }
        }
    }

    /// All that were acknowledged, by number.
    pub(super) fn parts(&self) -> Result<Vec<(u32, PartRecord)>, Error> {
        let numbers = self.names()?.into_iter().filter_map(|name| number_of(&name));
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        let mut parts = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(record) = self.part(number)? {
                parts.push((number, record));
            }
        }
        Ok(parts)
    }

    fn part(&self, number: u32) -> Result<Option<PartRecord>, Error> {
        match readlinkat(&self.dir, format!("{number:05}"), Vec::new()) {
            Ok(text) => Ok(text.to_str().ok().and_then(PartRecord::parse)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(refusals::of_errno(errno)),
        }
    }
}

fn number_of(name: &OsString) -> Option<u32> {
    let name = name.to_str().filter(|name| name.len() == 5)?;
    name.parse().ok()
}

impl PartUpload {
    pub(crate) fn finish(self, body: &Body) -> Result<Written, Error> {
        if body.length != self.length {
            return Err(Error::new(Code::IncompleteBody));
        }
        let checksum = body.checksum.clone();
        if let Some(wanted) = self.algorithm
            && checksum.as_ref().is_none_or(|checksum| checksum.algorithm != wanted)
        {
            return Err(Error::new(Code::InvalidRequest).saying(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: null",
                wanted.name().to_ascii_lowercase()
            )));
        }
        let md5 = body.md5.map(hex::encode);
        self.acknowledge(md5, checksum)
    }

    /// The content is there. It is made durable, and then known as the part.
    fn acknowledge(mut self, md5: Option<String>, checksum: Option<Checksum>) -> Result<Written, Error> {
        let size = status(&self.file).map_err(|error| refusals::of_call(&error))?.size;
        let is_there = match &self.at {
            At::Offset(offset) => size >= offset + self.length || self.length == 0,
            At::File(_) => size == self.length,
        };
        if !is_there {
            return Err(Error::new(Code::IncompleteBody));
        }
        fsync(&self.file).map_err(refusals::of_errno)?;
        let opaque = || hex::encode(kmsfs_crypto::random::bytes::<16>());
        let etag = md5.filter(|_| self.is_plain).unwrap_or_else(opaque);
        let modified = directories::now();
        let record = PartRecord { etag, size: self.length, checksum, modified, at: self.at.clone() };
        let _lock = lock(&self.bucket, &self.id, Mutual::Shared)?;
        let running = Running::find(&self.bucket, &self.key, &self.id)?;
        let before = running.part(self.number)?;
        let name = format!("{:05}", self.number);
        let new = format!("new-{name}.{:016x}", u64::from_le_bytes(kmsfs_crypto::random::bytes()));
        symlinkat(record.text(), &running.dir, &new).map_err(refusals::of_errno)?;
        renameat(&running.dir, &new, &running.dir, &name).map_err(refusals::of_errno)?;
        // Its file is the part's now, and stays when this is dropped.
        self.at = At::Offset(0);
        fsync(&running.dir).map_err(refusals::of_errno)?;
        if let Some(At::File(old)) = before.map(|before| before.at) {
            let _ = unlinkat(&running.dir, &old, AtFlags::empty());
        }
        let encryption = running.state.encryption();
        Ok(Written {
            etag: ETag::new(&record.etag),
            modified: Timestamp::from_unix(modified),
            encryption,
            checksum: record.checksum,
        })
    }
}

impl Drop for PartUpload {
    /// A file of its own goes with a part that was not acknowledged.
    fn drop(&mut self) {
        let At::File(name) = &self.at else { return };
        if let Ok(running) = Running::find(&self.bucket, &self.key, &self.id) {
            let _ = unlinkat(&running.dir, name, AtFlags::empty());
        }
    }
}

impl PartRecord {
    fn text(&self) -> String {
        let checksum = self.checksum.as_ref();
        let checksum =
            checksum.map_or("-".into(), |checksum| format!("{}:{}", checksum.algorithm.name(), checksum.text()));
        let at = match &self.at {
            At::Offset(offset) => format!("@{offset}"),
            At::File(name) => name.clone(),
        };
        format!("1 {} {} {} {checksum} {at}", self.etag, self.size, self.modified)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some("1") {
            return None;
        }
        let (etag, size, modified) =
            (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let checksum = match words.next()?.split_once(':') {
            Some((algorithm, text)) => Some(Checksum::parse(ChecksumAlgorithm::parse(algorithm)?, text)?),
            None => None,
        };
        let at = words.next()?;
        let at = match at.strip_prefix('@') {
            Some(offset) => At::Offset(offset.parse().ok()?),
            None => At::File(own_name(at)?.to_owned()),
        };
        Some(Self { etag, size, checksum, modified, at })
    }
}

/// Of the form that [`Running::own_file`] gives, and so no path.
fn own_name(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once('.')?;
    let is_number = number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = rest.len() == 16 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_number && is_hex).then_some(text)
}

/// A part's own file, for reading.
pub(super) fn open_own(running: &Running, name: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file =
        open_beneath(&running.dir, Path::new(name), flags, Mode::empty()).map_err(
            |error| match kmsfs_client::Head::of(&proc_path(&running.dir).join(name)) {
                Ok(Err(refused)) => refusals::in_their_words(refused),
                _ => refusals::of_call(&error),
            },
        )?;
    if is_own_file(&file)? { Ok(file) } else { Err(Error::new(Code::AccessDenied)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_after_it_was_stored() {
        let checksum = Checksum::of_bytes(ChecksumAlgorithm::Crc32, vec![1, 2, 3, 4]);
        let in_place = PartRecord {
            etag: "ab".into(),
            size: 7,
            checksum: Some(checksum),
            modified: 1_700_000_000,
            at: At::Offset(8 << 20),
        };
        let own = PartRecord { checksum: None, at: At::File("00001.0123456789abcdef".into()), ..in_place.clone() };
        for record in [in_place, own] {
            assert_eq!(PartRecord::parse(&record.text()), Some(record));
        }
        assert_eq!(PartRecord::parse("2 ab 7 1 - @0"), None);
        assert_eq!(PartRecord::parse("1 ab 7"), None);
        assert_eq!(PartRecord::parse("1 ab 7 1 - fifo"), None);
        assert_eq!(PartRecord::parse("1 ab 7 1 - 00001/0123456789abcdef"), None);
    }

    #[test]
    fn names_of_parts_are_numbers() {
        let number = |name: &str| number_of(&name.into());
        assert_eq!((number("00001"), number("10000")), (Some(1), Some(10_000)));
        for other in ["00001.0123456789abcdef", "unit", "claim-00001", "new-00001.0123456789abcdef", "0000x"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
