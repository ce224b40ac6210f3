//! CompleteMultipartUpload: what does not lie where it belongs is copied, and the file takes the object's place.

use super::parts::{At, PartRecord, SMALLEST, open_own};
use super::{Running, lock, no_such_upload, writing};
use crate::copies::copy_inside;
use crate::etags::etag_of_parts;
use crate::locks::{Lock, Mutual};
use crate::objects::Found;
use crate::parts::PartList;
use crate::puts::{Temporary, check_condition};
use crate::record::{Content, Record};
use crate::refusals;
use crate::tree::{Bucket, Status, proc_path, status};
use crate::{Done, Worker};
use kmsfs_client::Head;
use kmsfs_s3::answer::Written;
use kmsfs_s3::operation::{CompleteMultipartUpload, CompletedPart};
use kmsfs_s3::{Answer, Checksum, ChecksumAlgorithm, ChecksumType, Code, ETag, Error, checksum_of_parts};
use rustix::fs::{fsync, ftruncate};
use std::os::fd::OwnedFd;

/// A part of the object.
struct Chosen {
    number: u32,
    record: PartRecord,
    /// Where it belongs.
    offset: u64,
}

impl Chosen {
    /// From where it lies to where it belongs.
    ///
    /// # Errors
    /// Not all of it is there.
    fn copy(&self, from: &OwnedFd, at: u64, to: &Temporary) -> Result<(), Error> {
        let end = at.checked_add(self.record.size).ok_or_else(|| self.is_short())?;
        let copied = copy_inside(from, at..end, &to.file, self.offset)?;
        if copied == self.record.size { Ok(()) } else { Err(self.is_short()) }
    }

    /// A program has taken something from it since it was acknowledged.
    fn is_short(&self) -> Error {
        let (number, etag) = (self.number.to_string(), self.record.etag.as_str());
        Error::new(Code::InvalidPart).with("PartNumber", number).with("ETag", etag)
    }
}

impl Worker {
    pub(crate) fn complete_upload(&self, of: &CompleteMultipartUpload) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        let _lock = lock(&bucket, &of.upload_id, Mutual::Exclusive)?;
        let running = match Running::find(&bucket, &of.key, &of.upload_id) {
            Ok(running) => running,
            Err(error) if *error.code() == Code::NoSuchUpload => {
                let written = completed_before(&bucket, of)?.ok_or(error)?;
                make_durable(&bucket, of)?;
                return Ok((Answer::Written(written), None));
            }
            Err(error) => return Err(error),
        };
        // The process may have ended when the object was in its place, with some of the upload left. What else is there
        // may be another object, which need not be readable.
        if let Ok(Some(written)) = completed_before(&bucket, of) {
            make_durable(&bucket, of)?;
            running.remove(&bucket, true)?;
            return Ok((Answer::Written(written), None));
        }
        let all = running.parts()?;
        let chosen = choose(of, &all)?;
        let size = chosen.last().map_or(0, |last| last.offset + last.record.size);
        let checksum = check(of, &running, &chosen, size)?;
        if let Some(condition) = &of.condition {
            check_condition(&bucket, &of.key, condition)?;
        }
        let Some(file) = running.file(&bucket)? else {
            // It was published and is another object by now, or it was about to be aborted: nothing can come of it.
            running.remove(&bucket, false)?;
            return Err(no_such_upload(&of.upload_id));
        };
        let record = Record::of(&proc_path(&file.file)).map_err(|error| refusals::of_call(&error))?;
        let (assembled, nobody_writes) = assemble(&bucket, &running, file, &all, &chosen)?;
        ftruncate(&assembled.file, size).map_err(refusals::of_errno)?;
        let etag = etag_of_parts(chosen.iter().map(|part| part.record.etag.as_str()));
        let content = |head: &Head, status: &Status| {
            let mut content = Content::new(&head.stored.etag, status, etag, checksum.as_ref());
            content.parts = Some(part_list(&chosen));
            content.upload = Some(of.upload_id.as_str().to_owned());
            content
        };
        let written = assembled.finish(&bucket, &of.key, of.condition.as_ref(), record, content)?;
        drop(nobody_writes);
        running.remove(&bucket, true)?;
        Ok((Answer::Written(written), None))
    }
}

/// Of an object that was put in its place by somebody who may not have come to this: its content is durable already.
fn make_durable(bucket: &Bucket, of: &CompleteMultipartUpload) -> Result<(), Error> {
    let place = bucket.place(&of.key)?.ok_or_else(|| no_such_upload(&of.upload_id))?;
    fsync(&place.dir).map_err(refusals::of_errno)
}

/// The answer to a client that asks again, if this upload has made the object that is there.
fn completed_before(bucket: &Bucket, of: &CompleteMultipartUpload) -> Result<Option<Written>, Error> {
    let found = Found::if_there(bucket, &of.key)?.filter(|found| {
        let upload = found.content.as_ref().and_then(|content| content.upload.as_deref());
        upload == Some(of.upload_id.as_str())
    });
    Ok(found.map(|found| {
        let checksum = found.checksum();
        Written { etag: found.etag, modified: found.modified, encryption: found.encryption, checksum }
    }))
}

/// The parts that the client names, as they were acknowledged.
fn choose(of: &CompleteMultipartUpload, all: &[(u32, PartRecord)]) -> Result<Vec<Chosen>, Error> {
    if !of.parts.is_sorted_by(|one, next| one.number < next.number) {
        return Err(Error::new(Code::InvalidPartOrder).with("UploadId", of.upload_id.as_str()));
    }
    let mut chosen: Vec<Chosen> = Vec::with_capacity(of.parts.len());
    let mut offset = 0;
    for (at, named) in of.parts.iter().enumerate() {
        let found = all.binary_search_by_key(&named.number, |(number, _)| *number).ok().map(|at| &all[at].1);
        let record = found.filter(|record| is_as_named(record, named)).ok_or_else(|| invalid_part(of, named))?;
        if record.size < SMALLEST && at + 1 < of.parts.len() {
            return Err(Error::new(Code::EntityTooSmall)
                .with("ProposedSize", record.size.to_string())
                .with("MinSizeAllowed", SMALLEST.to_string())
                .with("PartNumber", named.number.to_string())
                .with("ETag", named.etag.as_str()));
        }
        chosen.push(Chosen { number: named.number, record: record.clone(), offset });
        offset = record.size.checked_add(offset).ok_or_else(|| Error::new(Code::EntityTooLarge))?;
    }
    Ok(chosen)
}

fn is_as_named(record: &PartRecord, named: &CompletedPart) -> bool {
    let has = |checksum: &Checksum| match &record.checksum {
        Some(own) if own.algorithm == checksum.algorithm => own == checksum,
        _ => true,
    };
    ETag::new(&record.etag) == named.etag && named.checksums.iter().all(has)
}

fn invalid_part(of: &CompleteMultipartUpload, named: &CompletedPart) -> Error {
    Error::new(Code::InvalidPart)
        .with("UploadId", of.upload_id.as_str())
        .with("PartNumber", named.number.to_string())
        .with("ETag", named.etag.as_str())
}

/// The object's checksum, and whether the object is what the client thinks that it is.
fn check(
    of: &CompleteMultipartUpload,
    running: &Running,
    chosen: &[Chosen],
    size: u64,
) -> Result<Option<Checksum>, Error> {
    let (algorithm, kind) =
        running.state.checksum().unwrap_or((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject));
    if of.checksum_type.is_some_and(|wanted| wanted != kind) {
        return Err(Error::new(Code::InvalidRequest).saying(format!(
            "The upload was created with the checksum type {}. The complete request must have the same one.",
            kind.name()
        )));
    }
    if let Some(expected) = of.object_size.filter(|expected| *expected != size) {
        return Err(Error::new(Code::InvalidRequest).saying(format!(
            "The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: {size}"
        )));
    }
    let parts: Vec<_> = chosen.iter().map(|part| (part.record.checksum.clone(), part.record.size)).collect();
    let checksum = checksum_of_parts(algorithm, kind, &parts);
    let is_right = match (&of.checksum, &checksum) {
        (Some(provided), Some(computed)) => {
            provided.algorithm == computed.algorithm && provided.value == computed.value
        }
        _ => true,
    };
    if is_right {
        return Ok(checksum);
    }
    Err(Error::new(Code::BadDigest)
        .saying(format!("The {} you specified did not match the calculated checksum.", algorithm.name())))
}

/// The object's own file if all that lies in it is where it belongs and nobody is about to write to it; else a new one.
/// In the first case also what keeps others from beginning to write.
fn assemble(
    bucket: &Bucket,
    running: &Running,
    file: Temporary,
    all: &[(u32, PartRecord)],
    chosen: &[Chosen],
) -> Result<(Temporary, Option<Lock>), Error> {
    let belongs = |(number, record): &(u32, PartRecord)| match record.at {
        At::Offset(offset) => chosen.iter().any(|part| part.number == *number && part.offset == offset),
        At::File(_) => true,
    };
    let nobody_writes = bucket.try_lock(&writing(&running.id), Mutual::Exclusive)?;
    if nobody_writes.is_some() && all.iter().all(belongs) {
        let there = status(&file.file).map_err(|error| refusals::of_call(&error))?.size;
        for part in chosen {
            let lies_there = matches!(part.record.at, At::Offset(_)) && part.record.size > 0;
            if lies_there && part.offset + part.record.size > there {
                return Err(part.is_short());
            }
        }
        for part in chosen {
            if let At::File(name) = &part.record.at {
                let from = open_own(running, name)?;
                part.copy(&from, 0, &file)?;
            }
        }
        return Ok((file, nobody_writes));
    }
    let new = Temporary::make(bucket, &running.state.key, &running.state.request)?;
    for part in chosen {
        match &part.record.at {
            At::File(name) => part.copy(&open_own(running, name)?, 0, &new)?,
            At::Offset(offset) => part.copy(&file.file, *offset, &new)?,
        }
    }
    Ok((new, None))
}

fn part_list(chosen: &[Chosen]) -> PartList {
    let texts: Vec<_> = chosen.iter().map(|part| part.record.checksum.as_ref().map(Checksum::text)).collect();
    PartList::new(chosen.iter().zip(&texts).map(|(part, text)| (part.number, part.record.size, text.as_deref())))
}
