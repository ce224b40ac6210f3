//! Bodies of requests: decoded, compared with all that was said of them, and put where they belong.

use bytes::Bytes;
use kmsfs_gateway::Body as Received;
use kmsfs_s3::{Checksum, ChecksumAlgorithm, Code, Error, ExpectedChecksum, Summing};
use kmsfs_sigv4::{Body, Event};
use md5::{Digest as _, Md5};
use rustix::io::retry_on_intr;
use std::io;
use std::os::fd::OwnedFd;

/// What S3 computes where the client says nothing.
const BY_DEFAULT: ChecksumAlgorithm = ChecksumAlgorithm::Crc64Nvme;

/// What a body has to be.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) checksum: Option<ExpectedChecksum>,
    pub(crate) content_md5: Option<[u8; 16]>,
    /// Whether somebody wants its MD5 in any case.
    pub(crate) wants_md5: bool,
}

/// A body that is being received. None of its bytes is to be believed before [`Checked::finish`].
#[derive(Debug)]
pub(crate) struct Checked {
    body: Body,
    expected: Option<ExpectedChecksum>,
    summing: Summing,
    content_md5: Option<[u8; 16]>,
    md5: Option<Md5>,
}

impl Checked {
    pub(crate) fn new(body: Body, expected: Expected) -> Self {
        let Expected { checksum: expected, content_md5, wants_md5 } = expected;
        let algorithm = expected.as_ref().map_or(BY_DEFAULT, ExpectedChecksum::algorithm);
        let md5 = (wants_md5 || content_md5.is_some()).then(Md5::new);
        Self { body, expected, summing: Summing::new(algorithm), content_md5, md5 }
    }

    /// Takes what came of the connection, and gives the object's bytes away in their order.
    pub(crate) fn take(
        &mut self,
        received: &[Bytes],
        mut give: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for piece in received {
            let mut input = &piece[..];
            while let Some(event) = self.body.decode(&mut input)? {
                let Event::Unverified(bytes) = event else { continue };
                self.summing.update(bytes);
                if let Some(md5) = &mut self.md5 {
                    md5.update(bytes);
                }
                give(bytes)?;
            }
        }
        Ok(())
    }

    /// At the body's end: compares all that is known of it.
    ///
    /// # Errors
    /// What was sent is not what was signed or announced.
    pub(crate) fn finish(self) -> Result<Received, Error> {
        let complete = self.body.finish()?;
        let md5 = self.md5.map(|md5| md5.finalize().into());
        if self.content_md5.is_some() && self.content_md5 != md5 {
            return Err(Error::new(Code::BadDigest));
        }
        let algorithm = self.expected.as_ref().map_or(BY_DEFAULT, ExpectedChecksum::algorithm);
        let checksum = Checksum::of_bytes(algorithm, self.summing.finish());
        let right = match &self.expected {
            None | Some(ExpectedChecksum::Computed(_)) => true,
            Some(ExpectedChecksum::Header(provided)) => provided.value == checksum.value,
            Some(ExpectedChecksum::Trailer(_)) => {
                let (_, value) = complete.trailer.ok_or_else(|| Error::new(Code::MalformedTrailerError))?;
                let provided = algorithm.decode(&value).ok_or_else(|| wrong_value(algorithm))?;
                provided == checksum.value
            }
        };
        if !right {
            return Err(wrong_checksum(algorithm));
        }
        Ok(Received { length: complete.length, md5, checksum: Some(checksum) })
    }
}

/// An object on its way into the file that the worker has made for it.
#[derive(Debug)]
pub(crate) struct Upload {
    checked: Checked,
    file: OwnedFd,
    /// Bytes that have to come still.
    left: u64,
    /// Bytes that are not enough to be worth a system call.
    pending: Vec<u8>,
}

/// Bytes that are written at a time.
const WRITE: usize = 128 << 10;

impl Upload {
    pub(crate) fn new(checked: Checked, file: OwnedFd, length: u64) -> Self {
        Self { checked, file, left: length, pending: Vec::new() }
    }

    /// Whether taking this writes nothing, so that no thread has to wait for the file.
    pub(crate) fn only_collects(&self, received: &[Bytes]) -> bool {
        self.pending.len() + received.iter().map(Bytes::len).sum::<usize>() < WRITE
    }

    /// Takes what came of the connection.
    pub(crate) fn take(&mut self, received: &[Bytes]) -> Result<(), Error> {
        let Self { checked, file, left, pending } = self;
        checked.take(received, |bytes| {
            *left = left.checked_sub(bytes.len() as u64).ok_or_else(|| Error::new(Code::IncompleteBody))?;
            if pending.is_empty() && bytes.len() >= WRITE {
                return write(file, bytes);
            }
            pending.extend_from_slice(bytes);
            if pending.len() >= WRITE {
                write(file, pending)?;
                pending.clear();
            }
            Ok(())
        })
    }

    /// At the body's end: see [`Checked::finish`].
    pub(crate) fn finish(self) -> Result<Received, Error> {
        if self.left > 0 {
            // Where chunks are signed, it says better what is wrong.
            self.checked.finish()?;
            return Err(Error::new(Code::IncompleteBody));
        }
        let received = self.checked.finish()?;
        write(&self.file, &self.pending)?;
        Ok(received)
    }
}

fn write(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::write(file, bytes)) {
            Ok(0) => return Err(not_written(&io::ErrorKind::WriteZero.into())),
            Ok(done) => bytes = &bytes[done..],
            Err(errno) => return Err(not_written(&errno.into())),
        }
    }
    Ok(())
}

fn not_written(error: &io::Error) -> Error {
    log::warn!("an object cannot be written: {error}");
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Error::new(Code::InsufficientStorage),
        _ => Error::new(Code::InternalError),
    }
}

fn wrong_checksum(algorithm: ChecksumAlgorithm) -> Error {
    let text = format!("The {} you specified did not match the calculated checksum.", algorithm.name());
    Error::new(Code::BadDigest).saying(text)
}

fn wrong_value(algorithm: ChecksumAlgorithm) -> Error {
    Error::new(Code::InvalidRequest).saying(format!("Value for {} trailing header is invalid.", algorithm.header()))
}
