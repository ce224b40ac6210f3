//! Why a request is refused, in S3's words.
//!
//! Codes, messages and statuses are those of the Amazon S3 API Reference, "Error responses", and where that says
//! nothing those of recorded answers of S3. Where nobody has recorded one the words are kmsfs's own, which the variant
//! says.

use crate::timestamp::for_answers;
use time::OffsetDateTime;

/// A refusal. Its `Display` is the answer's `Message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request carries no authentication at all. A server that has something to show to everybody goes on from
    /// here.
    #[error("Access Denied")]
    Anonymous,
    /// An Authorization header and a presigned URL's parameters in one request.
    #[error(
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or \
         the Authorization header should be specified"
    )]
    TwoMechanisms {
        /// The Authorization header.
        authorization: String,
    },
    /// Signature version 2, in the header or the query.
    #[error("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")]
    VersionTwo,
    /// The Authorization header is a single word.
    #[error("Authorization header is invalid -- one and only one ' ' (space) required")]
    NoSpace {
        /// The Authorization header.
        authorization: String,
    },
    /// Another scheme than `AWS4-HMAC-SHA256`.
    #[error("Unsupported Authorization Type")]
    UnsupportedType {
        /// The Authorization header.
        authorization: String,
    },
    /// What is wrong in the Authorization header; the region that is expected, where that is it.
    #[error("The authorization header is malformed; {what}")]
    HeaderMalformed {
        /// The message's second half.
        what: String,
        /// The region of this server, which S3 has in an element of its own.
        region: Option<String>,
    },
    /// What is wrong in a presigned URL's parameters.
    #[error("{what}")]
    QueryMalformed {
        /// The whole message.
        what: String,
        /// The region of this server, where another one was signed for.
        region: Option<String>,
    },
    /// A session token: kmsfs gives out none, so that it is nobody's.
    #[error("The provided token is malformed or otherwise invalid.")]
    InvalidToken {
        /// The token.
        token: String,
    },
    /// Neither `x-amz-date` nor `Date`, or not in their forms.
    #[error("AWS authentication requires a valid Date or x-amz-date header")]
    NoDate,
    /// The request was signed more than 15 minutes before or after now.
    #[error("The difference between the request time and the current time is too large.")]
    RequestTimeTooSkewed {
        /// When it was signed, as the request says it.
        request_time: String,
        /// The server's time.
        server_time: OffsetDateTime,
    },
    /// A presigned URL's time is over.
    #[error("Request has expired")]
    Expired {
        /// Seconds that it was made for.
        seconds: u32,
        /// When they were over.
        expires: OffsetDateTime,
        /// The server's time.
        server_time: OffsetDateTime,
    },
    /// A presigned URL was signed more than 15 minutes after now.
    #[error("Request is not valid yet")]
    NotYetValid,
    /// Headers that take effect, or would, and are in no signature.
    #[error("There were headers present in the request which were not signed")]
    HeadersNotSigned {
        /// Their names in lower case.
        names: Vec<String>,
    },
    /// `x-amz-content-sha256` is missing, which S3 asks for in every signed request.
    #[error("Missing required header for this request: x-amz-content-sha256")]
    NoContentSha256,
    /// `x-amz-content-sha256` is none of what it may be.
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
         STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, \
         STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 \
         value."
    )]
    InvalidContentSha256 {
        /// The value.
        value: String,
    },
    /// The chunks of Signature Version 4A, which S3 knows and this does not.
    #[error("A header you provided implies functionality that is not implemented")]
    NotImplemented {
        /// The header's name.
        header: &'static str,
    },
    /// The access key is nobody's.
    #[error("The AWS Access Key Id you provided does not exist in our records.")]
    InvalidAccessKeyId {
        /// The access key.
        access_key_id: String,
    },
    /// The signature is another one, of the request, of a chunk or of the trailer.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing \
         method."
    )]
    SignatureDoesNotMatch(Box<Mismatch>),
    /// A body in chunks without a valid `x-amz-decoded-content-length`.
    #[error("You must provide the Content-Length HTTP header.")]
    NoDecodedLength,
    /// `x-amz-trailer` announces what is no checksum, or what the other headers leave no room for.
    #[error("The value specified in the x-amz-trailer header is not supported")]
    TrailerNotSupported,
    /// A header or parameter of which there must be one is there twice (kmsfs's words: one of two readers would take
    /// the other one).
    #[error("The request has more than one {name}")]
    Repeated {
        /// Its name.
        name: &'static str,
    },
    /// The path or the query is not what it says of itself: an escape that is none, or a control character.
    #[error("Couldn't parse the specified URI.")]
    InvalidUri,
    /// A method, or a name or value of a header, that HTTP does not allow (kmsfs's words).
    #[error("The request has a method, or a header's name or value, that is not valid HTTP")]
    InvalidHeader,
    /// The body's hash is another one than `x-amz-content-sha256`.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    ContentSha256Mismatch {
        /// In hexadecimal digits.
        provided: String,
        /// In hexadecimal digits.
        computed: String,
    },
    /// The body ended in the middle of a chunk or a line, or has something else where a chunk is to begin or to end.
    #[error("The request body terminated unexpectedly")]
    Incomplete,
    /// The chunks are less or more than `x-amz-decoded-content-length`.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    WrongLength,
    /// A chunk after one of less than 8 KiB.
    #[error("Only the last chunk is allowed to have a size less than 8192 bytes")]
    ChunkTooSmall {
        /// The number of the chunk before which this was seen, from 1.
        chunk: u64,
        /// Size of the one before it, in bytes.
        size: u64,
    },
    /// Another trailer than announced, or more than that, or something behind the body's end.
    #[error("The request contained trailing data that was not well-formed or did not conform to our published schema.")]
    MalformedTrailer,
}

/// What the server has calculated, for whoever looks for the difference. None of it is secret: it is the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The access key that the request names.
    pub access_key_id: String,
    /// What the signature would have to be of.
    pub string_to_sign: String,
    /// The signature in the request.
    pub signature_provided: String,
    /// The canonical request; a chunk and a trailer have none.
    pub canonical_request: Option<String>,
}

/// How far the request's time may be from the server's, in both directions.
pub(crate) const MAX_SKEW: time::Duration = time::Duration::minutes(15);

impl Error {
    /// The answer's `Code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Anonymous
            | Self::NoDate
            | Self::Expired { .. }
            | Self::NotYetValid
            | Self::HeadersNotSigned { .. } => "AccessDenied",
            Self::TwoMechanisms { .. }
            | Self::NoSpace { .. }
            | Self::UnsupportedType { .. }
            | Self::InvalidContentSha256 { .. } => "InvalidArgument",
            Self::VersionTwo
            | Self::NoContentSha256
            | Self::TrailerNotSupported
            | Self::Repeated { .. }
            | Self::InvalidHeader => "InvalidRequest",
            Self::HeaderMalformed { .. } => "AuthorizationHeaderMalformed",
            Self::QueryMalformed { .. } => "AuthorizationQueryParametersError",
            Self::InvalidToken { .. } => "InvalidToken",
            Self::RequestTimeTooSkewed { .. } => "RequestTimeTooSkewed",
            Self::NotImplemented { .. } => "NotImplemented",
            Self::InvalidAccessKeyId { .. } => "InvalidAccessKeyId",
            Self::SignatureDoesNotMatch(_) => "SignatureDoesNotMatch",
            Self::NoDecodedLength => "MissingContentLength",
            Self::InvalidUri => "InvalidURI",
            Self::ContentSha256Mismatch { .. } => "XAmzContentSHA256Mismatch",
            Self::Incomplete | Self::WrongLength => "IncompleteBody",
            Self::ChunkTooSmall { .. } => "InvalidChunkSizeError",
            Self::MalformedTrailer => "MalformedTrailerError",
        }
    }

    /// The answer's HTTP status.
    pub fn status(&self) -> u16 {
        match self.code() {
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "InvalidChunkSizeError"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch" => 403,
            "MissingContentLength" => 411,
            "NotImplemented" => 501,
            _ => 400,
        }
    }

    /// The elements that the answer has beside `Code` and `Message`, in S3's order.
    pub fn elements(&self) -> Vec<(&'static str, String)> {
        let argument =
            |name: &str, value: &String| vec![("ArgumentName", name.to_owned()), ("ArgumentValue", value.clone())];
        match self {
            Self::TwoMechanisms { authorization }
            | Self::NoSpace { authorization }
            | Self::UnsupportedType { authorization } => argument("Authorization", authorization),
            Self::InvalidContentSha256 { value } => argument("x-amz-content-sha256", value),
            Self::HeaderMalformed { region: Some(region), .. } | Self::QueryMalformed { region: Some(region), .. } => {
                vec![("Region", region.clone())]
            }
            Self::InvalidToken { token } => vec![("Token-0", token.clone())],
            Self::RequestTimeTooSkewed { request_time, server_time } => vec![
                ("RequestTime", request_time.clone()),
                ("ServerTime", for_answers(*server_time)),
                ("MaxAllowedSkewMilliseconds", MAX_SKEW.whole_milliseconds().to_string()),
            ],
            Self::Expired { seconds, expires, server_time } => vec![
                ("X-Amz-Expires", seconds.to_string()),
                ("Expires", for_answers(*expires)),
                ("ServerTime", for_answers(*server_time)),
            ],
            Self::HeadersNotSigned { names } => vec![("HeadersNotSigned", names.join(", "))],
            Self::NotImplemented { header } => vec![("Header", (*header).to_owned())],
            Self::InvalidAccessKeyId { access_key_id } => vec![("AWSAccessKeyId", access_key_id.clone())],
            Self::SignatureDoesNotMatch(mismatch) => mismatch.elements(),
            Self::ContentSha256Mismatch { provided, computed } => {
                vec![("ClientComputedContentSHA256", provided.clone()), ("S3ComputedContentSHA256", computed.clone())]
            }
            Self::ChunkTooSmall { chunk, size } => {
                vec![("Chunk", chunk.to_string()), ("BadChunkSize", size.to_string())]
            }
            _ => Vec::new(),
        }
    }
}

impl Mismatch {
    fn elements(&self) -> Vec<(&'static str, String)> {
        let mut elements = vec![
            ("AWSAccessKeyId", self.access_key_id.clone()),
            ("StringToSign", self.string_to_sign.clone()),
            ("SignatureProvided", self.signature_provided.clone()),
            ("StringToSignBytes", spelled(&self.string_to_sign)),
        ];
        if let Some(request) = &self.canonical_request {
            elements.extend([("CanonicalRequest", request.clone()), ("CanonicalRequestBytes", spelled(request))]);
        }
        elements
    }
}

/// The bytes in hexadecimal digits, with spaces between them.
fn spelled(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_as_s3_tells_them() {
        let now = OffsetDateTime::from_unix_timestamp(1_369_353_600).unwrap();
        let skewed = Error::RequestTimeTooSkewed { request_time: "20130523T000000Z".into(), server_time: now };
        assert_eq!((skewed.code(), skewed.status()), ("RequestTimeTooSkewed", 403));
        let elements = skewed.elements();
        assert_eq!(elements[1], ("ServerTime", "2013-05-24T00:00:00Z".to_owned()));
        assert_eq!(elements[2], ("MaxAllowedSkewMilliseconds", "900000".to_owned()));

        let expired = Error::Expired { seconds: 60, expires: now, server_time: now };
        assert_eq!((expired.code(), expired.to_string().as_str()), ("AccessDenied", "Request has expired"));

        let mismatch = Mismatch {
            access_key_id: "AKID".into(),
            string_to_sign: "a\nb".into(),
            signature_provided: "00".into(),
            canonical_request: None,
        };
        let elements = Error::SignatureDoesNotMatch(Box::new(mismatch)).elements();
        assert_eq!(elements[3], ("StringToSignBytes", "61 0a 62".to_owned()));
        assert_eq!(elements.len(), 4, "a chunk has no canonical request");
    }
}
