//! Checksums of objects by S3's names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// S3's `ChecksumAlgorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 of ISO 3309, 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes: what S3 computes when the client says nothing.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

impl ChecksumAlgorithm {
    /// In the order in which S3 writes them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// By its name, in whatever case: SDKs write both.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// `x-amz-checksum-crc32` and so on.
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// `ChecksumCRC32` and so on.
    pub fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// What a multipart upload has when its client names the algorithm alone; CRC64NVME has no composite form, the SHAs
    /// have no full-object form (Amazon S3 User Guide, "Checking object integrity", table "Checksum types").
    pub fn default_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }

    /// Whether a multipart upload can have it in this form.
    pub fn allows(self, kind: ChecksumType) -> bool {
        match self {
            Self::Crc32 | Self::Crc32c => true,
            Self::Crc64Nvme => kind == ChecksumType::FullObject,
            Self::Sha1 | Self::Sha256 => kind == ChecksumType::Composite,
        }
    }

    /// A value as headers have it: Base64 of exactly [`Self::size`] bytes, in its one canonical form.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok().filter(|bytes| bytes.len() == self.size())
    }
}

/// S3's `ChecksumType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumType {
    /// Of the object's bytes.
    FullObject,
    /// Of the parts' checksums, one after the other.
    Composite,
}

impl ChecksumType {
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::FullObject, Self::Composite].into_iter().find(|kind| kind.name() == name)
    }
}

/// A checksum of an object or of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Its algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// Its bytes.
    pub value: Vec<u8>,
    /// Of how many parts' checksums it is one, where it is composite.
    pub parts: Option<u32>,
}

impl Checksum {
    /// Of bytes, not of parts.
    pub fn of_bytes(algorithm: ChecksumAlgorithm, value: Vec<u8>) -> Self {
        Self { algorithm, value, parts: None }
    }

    /// What it is of.
    pub fn kind(&self) -> ChecksumType {
        if self.parts.is_some() { ChecksumType::Composite } else { ChecksumType::FullObject }
    }

    /// As headers and XML have it: Base64, behind it `-N` where it is composite.
    pub fn text(&self) -> String {
        let value = STANDARD.encode(&self.value);
        self.parts.map_or_else(|| value.clone(), |parts| format!("{value}-{parts}"))
    }

    /// The other way round.
    pub fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Option<Self> {
        let (value, parts) = match text.split_once('-') {
            Some((value, parts)) => (value, Some(parts.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { algorithm, value: algorithm.decode(value)?, parts })
    }
}

/// The checksum that a body has to have, which is kept with the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpectedChecksum {
    /// The client named an algorithm and no value: it is computed, and compared with nothing.
    Computed(ChecksumAlgorithm),
    /// The value was in a header.
    Header(Checksum),
    /// The value comes behind the body, in the trailer of that algorithm.
    Trailer(ChecksumAlgorithm),
}

impl ExpectedChecksum {
    /// Its algorithm.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Self::Computed(algorithm) | Self::Trailer(algorithm) => *algorithm,
            Self::Header(checksum) => checksum.algorithm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_s3s() {
        for algorithm in ChecksumAlgorithm::ALL {
            assert_eq!(ChecksumAlgorithm::parse(algorithm.name()), Some(algorithm));
            let name = algorithm.name().to_ascii_lowercase();
            assert_eq!(algorithm.header(), format!("x-amz-checksum-{name}"));
            assert_eq!(algorithm.element(), format!("Checksum{}", algorithm.name()));
            assert!(algorithm.allows(algorithm.default_type()));
        }
        assert_eq!(ChecksumAlgorithm::parse("MD5"), None);
        assert_eq!(ChecksumType::parse("COMPOSITE"), Some(ChecksumType::Composite));
    }

    #[test]
    fn a_value_has_its_algorithms_length_and_one_form() {
        let crc32 = ChecksumAlgorithm::Crc32;
        assert_eq!(crc32.decode("AAAAAA=="), Some(vec![0; 4]));
        for wrong in ["", "AAAAAA", "AAAAAB==", "AAAA", "AAAAAAAAAAA=", "====", "AAAAAA==\n"] {
            assert_eq!(crc32.decode(wrong), None, "{wrong:?}");
        }
        let composite = Checksum::parse(crc32, "AAAAAA==-12").unwrap();
        assert_eq!((composite.parts, composite.kind()), (Some(12), ChecksumType::Composite));
        assert_eq!(composite.text(), "AAAAAA==-12");
        assert_eq!(Checksum::parse(crc32, "AAAAAA==-x"), None);
    }
}
