//! What a signature says of the body.

use crate::error::Error;

/// How the body is covered by the signature (Amazon S3 API Reference, "Authenticating Requests: Using the Authorization
/// Header", `x-amz-content-sha256`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// By its SHA-256.
    Sha256([u8; 32]),
    /// Not at all: `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// By a chain of signatures, one a chunk: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`.
    SignedChunks,
    /// By such a chain, with a signed trailer at its end: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
    SignedChunksAndTrailer,
    /// In chunks, but not at all: `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
    UnsignedChunksAndTrailer,
}

/// The value for a body that is not signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

impl Payload {
    pub(crate) fn parse(value: &str) -> Result<Self, Error> {
        let mut hash = [0; 32];
        match value {
            UNSIGNED => Ok(Self::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Self::SignedChunks),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Self::SignedChunksAndTrailer),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Self::UnsignedChunksAndTrailer),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" | "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => {
                Err(Error::NotImplemented { header: "x-amz-content-sha256" })
            }
            hex if hex::decode_to_slice(hex, &mut hash).is_ok() => Ok(Self::Sha256(hash)),
            other => Err(Error::InvalidContentSha256 { value: other.to_owned() }),
        }
    }

    /// Whether the body comes as aws-chunked.
    pub fn is_chunked(self) -> bool {
        !matches!(self, Self::Sha256(_) | Self::Unsigned)
    }

    /// Whether each chunk has a signature, which takes the signing key to verify.
    pub(crate) fn has_signed_chunks(self) -> bool {
        matches!(self, Self::SignedChunks | Self::SignedChunksAndTrailer)
    }
}
