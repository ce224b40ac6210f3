//! CopyObject: inside the mount where what is known of the source holds for the copy too, else through this process,
//! which finds it out.

use crate::etags::md5_etag;
use crate::objects::Found;
use crate::puts::{Temporary, check_condition, head_of, put_marker};
use crate::record::{Content, DEFAULT_TYPE, Record, shown_etag};
use crate::refusals;
use crate::tree::{Status, proc_path};
use crate::{Done, Worker};
use kmsfs_client::Head;
use kmsfs_s3::operation::CopyObject;
use kmsfs_s3::{Answer, Checksum, ChecksumAlgorithm, ChecksumType, Error, Summing};
use kmsfs_sse::Algorithm;
use md5::{Digest as _, Md5};
use rustix::fs::{copy_file_range, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

/// One call carries this much.
const PIECE: usize = 1 << 20;

/// What is known of content that was copied.
#[derive(Default)]
pub(crate) struct Known {
    /// Its MD5, in the digits of an ETag.
    pub(crate) md5: Option<String>,
    pub(crate) checksum: Option<Checksum>,
}

impl Worker {
    pub(crate) fn copy_object(&self, of: &CopyObject) -> Result<Done, Error> {
        of.check_changes()?;
        of.encryption.check()?;
        let target = self.tree.bucket(&of.bucket)?;
        if let Some(condition) = &of.condition {
            check_condition(&target, &of.key, condition)?;
        }
        let source = Found::look_up(&self.tree.bucket(&of.source.bucket)?, &of.source.key)?;
        of.source_conditions.check_source(&source.etag, source.modified)?;
        let mut metadata = of.metadata.clone().unwrap_or_else(|| source.metadata());
        metadata.content_type.get_or_insert_with(|| DEFAULT_TYPE.to_owned());
        let record = Record {
            metadata,
            tags: of.tags.clone().unwrap_or_else(|| source.record.tags.clone()),
            storage_class: of.storage_class.unwrap_or_default(),
            content: None,
        };
        if of.key.is_marker() {
            if source.size > 0 {
                let why = "what ends in a slash is a directory, and has no content";
                return Err(crate::tree::conflict(&of.key, why));
            }
            return Ok((Answer::Written(put_marker(&target, &of.key, of.condition.as_ref(), &record)?), None));
        }
        let copy = Temporary::make(&target, &of.key, &of.encryption)?;
        let written = copy_content(&source, of.checksum, &copy).and_then(|known| {
            let content = |head: &Head, status: &Status| {
                // The mount has no MD5 of what was copied inside it.
                let is_plain = head.stored.algorithm == Algorithm::Aes256;
                let etag = known.md5.clone().filter(|_| is_plain).unwrap_or_else(|| shown_etag(head));
                Content::new(&head.stored.etag, status, etag, known.checksum.as_ref())
            };
            copy.finish(&target, &of.key, of.condition.as_ref(), record, content)
        });
        let written = written.inspect_err(|_| target.tidy(&of.key))?;
        Ok((Answer::Written(written), None))
    }
}

fn copy_content(source: &Found, wanted: Option<ChecksumAlgorithm>, copy: &Temporary) -> Result<Known, Error> {
    let from = source.reopen()?;
    let is_plain = head_of(&copy.file)?.stored.algorithm == Algorithm::Aes256;
    if let Some(known) = known_already(source, wanted, is_plain) {
        let copied = copy_inside(&from, 0..source.size, &copy.file, 0)?;
        // Unless somebody has written to it meanwhile, and what is known is of other bytes.
        if copied == source.size && source.is_unchanged(&from) {
            return Ok(known);
        }
        ftruncate(&copy.file, 0).map_err(refusals::of_errno)?;
    }
    let algorithm = wanted.or_else(|| source.checksum().map(|checksum| checksum.algorithm));
    seek(&copy.file, rustix::fs::SeekFrom::Start(0)).map_err(refusals::of_errno)?;
    copy_and_sum(&from, 0..u64::MAX, &copy.file, 0, algorithm).map(|(known, _)| known)
}

/// What of the source holds for a copy of its bytes, if that is all that is wanted of the copy: under AES256 its MD5
/// too.
fn known_already(source: &Found, wanted: Option<ChecksumAlgorithm>, is_plain: bool) -> Option<Known> {
    let checksum = source.checksum().filter(|checksum| checksum.kind() == ChecksumType::FullObject);
    let algorithm = wanted.or_else(|| source.checksum().map(|checksum| checksum.algorithm));
    if algorithm != checksum.as_ref().map(|checksum| checksum.algorithm) {
        return None;
    }
    let is_md5 = source.encryption.algorithm == Algorithm::Aes256 && source.etag.as_str().len() == 32;
    let md5 = is_md5.then(|| source.etag.as_str().to_owned());
    (md5.is_some() || !is_plain).then_some(Known { md5, checksum })
}

/// Copies bytes, up to the end of what is there, to an offset by the kernel's and the mount's own means. Returns how
/// many there were.
pub(crate) fn copy_inside(from: &OwnedFd, range: Range<u64>, to: impl AsFd, offset: u64) -> Result<u64, Error> {
    let (mut read, mut written) = (range.start, offset);
    while read < range.end {
        let len = usize::try_from(range.end - read).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read), to.as_fd(), Some(&mut written), len) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                let (_, rest) = copy_and_sum(from, read..range.end, to, written, None)?;
                return Ok(read - range.start + rest);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    Ok(read - range.start)
}

/// Copies bytes, up to the end of what is there, to an offset; and finds out what they are, and how many.
pub(crate) fn copy_and_sum(
    from: &OwnedFd,
    range: Range<u64>,
    to: impl AsFd,
    offset: u64,
    algorithm: Option<ChecksumAlgorithm>,
) -> Result<(Known, u64), Error> {
    let mut summing = algorithm.map(Summing::new);
    let mut md5 = Md5::new();
    let mut buffer = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let most = PIECE.min(usize::try_from(range.end - at).unwrap_or(PIECE));
        let read = match pread(from, &mut buffer[..most], at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(refusals::of_errno(errno)),
        };
        let bytes = &buffer[..read];
        md5.update(bytes);
        if let Some(summing) = &mut summing {
            summing.update(bytes);
        }
        write_all(&to, bytes, offset + (at - range.start))?;
        at += read as u64;
    }
    let checksum = algorithm.zip(summing).map(|(algorithm, summing)| Checksum::of_bytes(algorithm, summing.finish()));
    Ok((Known { md5: Some(md5_etag(md5)), checksum }, at - range.start))
}

pub(crate) fn write_all(to: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Error> {
    while !bytes.is_empty() {
        match pwrite(to.as_fd(), bytes, offset) {
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    Ok(())
}

impl Found {
    fn is_unchanged(&self, file: &OwnedFd) -> bool {
        let Some(content) = &self.content else { return false };
        Head::of(&proc_path(file)).is_ok_and(|head| head.is_ok_and(|head| head.stored.etag == content.of))
    }
}
