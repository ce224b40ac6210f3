//! What is computed of a body while it passes.

use crc_fast::{CrcAlgorithm, Digest as Crc};
use kmsfs_s3::ChecksumAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A checksum that S3 keeps with an object, as far as it is computed.
#[derive(Debug)]
pub(crate) enum Summing {
    Crc(Crc, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Summing {
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> Self {
        let crc = |of| Self::Crc(Crc::new(of), algorithm.size());
        match algorithm {
            ChecksumAlgorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            ChecksumAlgorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            ChecksumAlgorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            ChecksumAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(crc, _) => crc.update(bytes),
            Self::Sha1(sha1) => sha1.update(bytes),
            Self::Sha256(sha256) => sha256.update(bytes),
        }
    }

    /// Most significant byte first, as S3 writes all of them.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(crc, len) => crc.finalize().to_be_bytes()[8 - len..].to_vec(),
            Self::Sha1(sha1) => sha1.finalize().to_vec(),
            Self::Sha256(sha256) => sha256.finalize().to_vec(),
        }
    }
}

/// `Content-MD5` of a body.
#[derive(Debug, Default)]
pub(crate) struct ContentMd5(Md5);

impl ContentMd5 {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(hex::encode(summing.finish()), sum, "{algorithm:?}");
        }
        let mut md5 = ContentMd5::default();
        md5.update(b"123456789");
        assert_eq!(md5.finish()[..4], [0x25, 0xf9, 0xe7, 0x94]);
    }
}
