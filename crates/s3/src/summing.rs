//! Computing the checksums that S3 keeps with an object: of bytes that pass, and of an object from those of its parts.

use crate::checksum::{Checksum, ChecksumAlgorithm, ChecksumType};
use crc_fast::{CrcAlgorithm, Digest as Crc, checksum_combine};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A checksum of bytes that have not all come yet.
#[derive(Debug)]
pub struct Summing(State);

#[derive(Debug)]
enum State {
    /// With the bytes that a value has.
    Crc(Box<Crc>, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Summing {
    /// Of no bytes yet.
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        Self(match (crc(algorithm), algorithm) {
            (Some(crc), _) => State::Crc(Box::new(Crc::new(crc)), algorithm.size()),
            (None, ChecksumAlgorithm::Sha1) => State::Sha1(Sha1::new()),
            (None, _) => State::Sha256(Sha256::new()),
        })
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc(crc, _) => crc.update(bytes),
            State::Sha1(sha1) => sha1.update(bytes),
            State::Sha256(sha256) => sha256.update(bytes),
        }
    }

    /// [`ChecksumAlgorithm::size`] bytes, most significant byte first, as S3 writes all of them.
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            State::Crc(crc, len) => crc.finalize().to_be_bytes()[8 - len..].to_vec(),
            State::Sha1(sha1) => sha1.finalize().to_vec(),
            State::Sha256(sha256) => sha256.finalize().to_vec(),
        }
    }
}

/// The checksum of an object from those of its parts, each with the part's length in bytes. `None` where one of the
/// parts has none of this algorithm, or where the algorithm has no checksum of this form.
pub fn checksum_of_parts(
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
            let whole = checksum_of_parts(algorithm, ChecksumType::FullObject, &parts).unwrap();
            assert_eq!(whole, sum(algorithm, b"123456789"), "{algorithm:?}");
        }
    }

    #[test]
    fn a_composite_checksum_is_of_the_parts_checksums() {
        let part = sum(ChecksumAlgorithm::Sha256, b"x");
        let parts = [(Some(part.clone()), 1), (Some(part.clone()), 1)];
        let composite = checksum_of_parts(ChecksumAlgorithm::Sha256, ChecksumType::Composite, &parts).unwrap();
        let expected = sum(ChecksumAlgorithm::Sha256, &[part.value.clone(), part.value].concat());
        assert_eq!((composite.value, composite.parts), (expected.value, Some(2)));
        assert_eq!(checksum_of_parts(ChecksumAlgorithm::Sha256, ChecksumType::FullObject, &parts), None);
        assert_eq!(
            checksum_of_parts(ChecksumAlgorithm::Sha1, ChecksumType::Composite, &parts),
            None,
            "of another algorithm"
        );
        assert_eq!(checksum_of_parts(ChecksumAlgorithm::Sha256, ChecksumType::Composite, &[(None, 1)]), None);
    }

    /// Of the nine digits, by the catalogues of CRCs and FIPS 180-4.
    #[test]
    fn checksums_are_the_ones_of_their_names() {
        let expected = [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (ChecksumAlgorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ];
        for (algorithm, sum) in expected {
            let mut summing = Summing::new(algorithm);
            for piece in [&b"1234"[..], b"", b"56789"] {
                summing.update(piece);
            }
            let digits = hex::encode(summing.finish());
            assert_eq!(digits, sum, "{algorithm:?}");
        }
    }
}
