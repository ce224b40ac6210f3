//! What the headers say of the body's form.

use crate::error::Error;
use crate::payload::Payload;
use crate::request::Headers;

/// How the body of a request is framed.
#[derive(Debug)]
pub(crate) enum Framing {
    /// The object's bytes and nothing else.
    Whole(Payload),
    /// In aws-chunked.
    Chunked(Chunks),
}

/// A body in chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Bytes of the object: `x-amz-decoded-content-length`.
    pub(super) length: u64,
    /// What the trailers are to be.
    pub(super) trailers: Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailers {
    /// Nothing but the empty line.
    Never,
    /// The trailer that `x-amz-trailer` announces, and no other; none where it announces none.
    Unsigned(Option<&'static str>),
    /// That trailer, and its signature.
    Signed(&'static str),
}

/// What a trailer may be: a checksum of the object (Amazon S3 User Guide, "Checking object integrity").
const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

impl Framing {
    /// Of a request to S3.
    ///
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER` may come without a trailer, as S3 has it: clients that compute no checksum
    /// send it so. A trailer that is announced where none can come would be a checksum that nobody compares.
    pub(crate) fn read(payload: Payload, headers: Headers<'_>) -> Result<Self, Error> {
        let announced = headers.text("x-amz-trailer")?;
        if !payload.is_chunked() {
            return if announced.is_some() { Err(Error::TrailerNotSupported) } else { Ok(Self::Whole(payload)) };
        }
        let named = |name: &str| CHECKSUMS.into_iter().find(|known| name.eq_ignore_ascii_case(known));
        let announced = announced.map(|name| named(name).ok_or(Error::TrailerNotSupported)).transpose()?;
        let trailers = match (payload, announced) {
            (Payload::UnsignedChunksAndTrailer, announced) => Trailers::Unsigned(announced),
            (Payload::SignedChunksAndTrailer, Some(announced)) => Trailers::Signed(announced),
            (Payload::SignedChunksAndTrailer, None) => return Err(Error::MalformedTrailer),
            (_, Some(_)) => return Err(Error::TrailerNotSupported),
            (_, None) => Trailers::Never,
        };
        let length = headers.text("x-amz-decoded-content-length")?.and_then(length).ok_or(Error::NoDecodedLength)?;
        Ok(Self::Chunked(Chunks { length, trailers }))
    }
}

/// Decimal digits, and nothing else that `parse` would take.
fn length(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
