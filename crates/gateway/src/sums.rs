//! Checksums of content that is copied here, and of objects from those of their parts.

use crc_fast::{CrcAlgorithm, Digest as Crc, checksum_combine};
use kmsfs_s3::{Checksum, ChecksumAlgorithm, ChecksumType};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A checksum that is being computed.
pub(crate) enum Summing {
    Crc(Box<Crc>, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Summing {
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> Self {
        match (crc(algorithm), algorithm) {
            (Some(crc), _) => Self::Crc(Box::new(Crc::new(crc)), algorithm.size()),
            (None, ChecksumAlgorithm::Sha1) => Self::Sha1(Sha1::new()),
            (None, _) => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(crc, _) => crc.update(bytes),
            Self::Sha1(sha1) => sha1.update(bytes),
            Self::Sha256(sha256) => sha256.update(bytes),
        }
    }

    /// Most significant byte first.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(crc, len) => crc.finalize().to_be_bytes()[8 - len..].to_vec(),
            Self::Sha1(sha1) => sha1.finalize().to_vec(),
            Self::Sha256(sha256) => sha256.finalize().to_vec(),
        }
    }
}

/// The checksum of an object from those of its parts, each with the part's length. `None` where one of the parts has
/// none of this algorithm, or where there is no such checksum.
pub(crate) fn of_parts(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
    parts: &[(Option<Checksum>, u64)],
) -> Option<Checksum> {
    let values = parts.iter().map(|(checksum, len)| {
        let checksum = checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm)?;
        Some((checksum.value.as_slice(), *len))
    });
    let values: Vec<_> = values.collect::<Option<_>>()?;
    match kind {
        ChecksumType::Composite => {
            let mut summing = Summing::new(algorithm);
            for (value, _) in &values {
                summing.update(value);
            }
            Some(Checksum { algorithm, value: summing.finish(), parts: Some(values.len() as u32) })
        }
        ChecksumType::FullObject => {
            let crc = crc(algorithm)?;
            let number = |value: &[u8]| value.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            let mut values = values.into_iter();
            let first = number(values.next()?.0);
            let whole = values.fold(first, |whole, (value, len)| checksum_combine(crc, whole, number(value), len));
            Some(Checksum::of_bytes(algorithm, whole.to_be_bytes()[8 - algorithm.size()..].to_vec()))
        }
    }
}

/// The ETag of an object of several parts, from theirs.
pub(crate) fn etag_of_parts<'a>(etags: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = etags.len();
    let mut md5 = Md5::new();
    etags.for_each(|etag| match hex::decode(etag) {
        Ok(bytes) => md5.update(bytes),
        Err(_) => md5.update(etag),
    });
    format!("{}-{count}", hex::encode(md5.finalize()))
}

/// MD5 in the digits of an ETag.
pub(crate) fn md5_etag(md5: Md5) -> String {
    hex::encode(md5.finalize())
}

fn crc(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
        let mut summing = Summing::new(algorithm);
        summing.update(bytes);
        Checksum::of_bytes(algorithm, summing.finish())
    }

    #[test]
    fn crcs_of_parts_make_the_crc_of_the_object() {
        for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
            let parts = [&b"1234"[..], b"", b"5678", b"9"];
            let parts: Vec<_> = parts.iter().map(|part| (Some(sum(algorithm, part)), part.len() as u64)).collect();
            let whole = of_parts(algorithm, ChecksumType::FullObject, &parts).unwrap();
            assert_eq!(whole, sum(algorithm, b"123456789"), "{algorithm:?}");
        }
        let crc32 = sum(ChecksumAlgorithm::Crc32, b"123456789");
        assert_eq!(hex::encode(crc32.value), "cbf43926");
    }

    #[test]
    fn a_composite_checksum_is_of_the_parts_checksums() {
        let part = sum(ChecksumAlgorithm::Sha256, b"x");
        let parts = [(Some(part.clone()), 1), (Some(part.clone()), 1)];
        let composite = of_parts(ChecksumAlgorithm::Sha256, ChecksumType::Composite, &parts).unwrap();
        let expected = sum(ChecksumAlgorithm::Sha256, &[part.value.clone(), part.value].concat());
        assert_eq!((composite.value, composite.parts), (expected.value, Some(2)));
        assert_eq!(of_parts(ChecksumAlgorithm::Sha256, ChecksumType::FullObject, &parts), None);
        assert_eq!(of_parts(ChecksumAlgorithm::Sha1, ChecksumType::Composite, &parts), None, "of another algorithm");
        assert_eq!(of_parts(ChecksumAlgorithm::Sha256, ChecksumType::Composite, &[(None, 1)]), None);
    }

    #[test]
    fn an_etag_of_parts_is_the_md5_of_their_md5s() {
        let hello = "5d41402abc4b2a76b9719d911017c592";
        let expected = hex::encode(Md5::digest(hex::decode(hello).unwrap()));
        assert_eq!(etag_of_parts([hello].into_iter()), format!("{expected}-1"));
    }
}
