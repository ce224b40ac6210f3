//! S3's codes, each with its status and message (Amazon S3 API Reference, "Error responses").

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

macro_rules! codes {
    ($($name:ident $status:literal $message:literal,)*) => {
        /// A code of S3, by S3's name.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Code {
            $($name,)*
            /// A refusal of KMS, by KMS's name (`DisabledException`); S3 writes `KMS.` before it.
            Kms(String),
        }

        impl Code {
            /// All codes that are S3's own.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// S3's name.
            pub fn name(&self) -> Cow<'static, str> {
                match self {
                    $(Self::$name => stringify!($name).into(),)*
                    Self::Kms(name) => format!("KMS.{name}").into(),
                }
            }

            /// By S3's name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => name.strip_prefix("KMS.").map(|name| Self::Kms(name.to_owned())),
                }
            }

            /// The HTTP status.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Kms(name) => status_of_kms(name),
                }
            }

            /// S3's message, where nothing more is to be said.
            pub fn message(&self) -> &'static str {
                match self {
                    $(Self::$name => $message,)*
                    Self::Kms(_) => "",
                }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs",
    AccessDenied 403 "Access Denied",
    AccessForbidden 403 "CORSResponse: CORS is not enabled for this bucket.",
    AuthorizationHeaderMalformed 400 "The authorization header you provided is invalid.",
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid.",
    BadDigest 400 "The Content-MD5 you specified did not match what we received.",
    BadRequest 400 "Bad Request",
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of \
        the system. Please select a different name and try again.",
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it.",
    BucketNotEmpty 409 "The bucket you tried to delete is not empty",
    ConditionalRequestConflict 409 "A conflicting conditional operation is currently in progress against this \
        resource. Try again.",
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed size",
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size",
    IllegalLocationConstraintException 400 "The location constraint is incompatible for the region specific endpoint \
        this request was sent to.",
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header",
    InsufficientStorage 507 "There is no space left to store the object.",
    InternalError 500 "We encountered an internal error. Please try again.",
    InvalidAccessKeyId 403 "The AWS Access Key Id you provided does not exist in our records.",
    InvalidArgument 400 "Invalid Argument",
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced \
        setting",
    InvalidBucketName 400 "The specified bucket is not valid.",
    InvalidChunkSizeError 403 "Only the last chunk is allowed to have a size less than 8192 bytes",
    InvalidDigest 400 "The Content-MD5 you specified was invalid.",
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is \
        AES256.",
    InvalidLocationConstraint 400 "The specified location-constraint is not valid",
    InvalidPart 400 "One or more of the specified parts could not be found.  The part may not have been uploaded, or \
        the specified entity tag may not match the part's entity tag.",
    InvalidPartNumber 416 "The requested partnumber is not satisfiable",
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number.",
    InvalidRange 416 "The requested range is not satisfiable",
    InvalidRequest 400 "Invalid Request",
    InvalidStorageClass 400 "The storage class you specified is not valid",
    InvalidTag 400 "The tag provided was not a valid tag.",
    InvalidToken 400 "The provided token is malformed or otherwise invalid.",
    InvalidURI 400 "Couldn't parse the specified URI.",
    KeyTooLongError 400 "Your key is too long",
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our \
        published schema.",
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema",
    MaxMessageLengthExceeded 400 "Your request was too big.",
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size",
    MethodNotAllowed 405 "The specified method is not allowed against this resource.",
    MissingContentLength 411 "You must provide the Content-Length HTTP header.",
    MissingRequestBodyError 400 "Request Body is empty",
    NoSuchBucket 404 "The specified bucket does not exist",
    NoSuchBucketPolicy 404 "The bucket policy does not exist",
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist",
    NoSuchConfiguration 404 "The specified configuration does not exist.",
    NoSuchKey 404 "The specified key does not exist.",
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist",
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found",
    NoSuchTagSet 404 "The TagSet does not exist",
    NoSuchUpload 404 "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
        aborted or completed.",
    NoSuchVersion 404 "The specified version does not exist.",
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration",
    NotImplemented 501 "A header you provided implies functionality that is not implemented",
    NotModified 304 "Not Modified",
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket",
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Please \
        try again.",
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold",
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found",
    RequestHeaderSectionTooLarge 400 "Your request header section exceeds the maximum allowed size.",
    RequestTimeTooSkewed 403 "The difference between the request time and the current time is too large.",
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout \
        period. Idle connections will be closed.",
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found",
    ServiceUnavailable 503 "Reduce your request rate.",
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check \
        your key and signing method.",
    SlowDown 503 "Please reduce your request rate.",
    TooManyBuckets 400 "You have attempted to create more buckets than allowed",
    UnexpectedContent 400 "This request does not support content",
    XAmzContentChecksumMismatch 400 "The provided 'x-amz-checksum' header does not match what was computed.",
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.",
}

/// S3 passes on what KMS refuses as the client's mistake, and what KMS could not do as its own.
fn status_of_kms(name: &str) -> u16 {
    match name {
        "KMSInternalException" | "DependencyTimeoutException" | "KeyUnavailableException" => 500,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_name() {
        for code in Code::ALL {
            assert_eq!(Code::parse(&code.name()).as_ref(), Some(code));
            assert!((300..600).contains(&code.status()) && !code.message().is_empty(), "{code:?}");
        }
        assert_eq!(Code::parse("nosuchkey"), None);
    }

    #[test]
    fn refusals_of_kms_have_its_name_behind_a_prefix() {
        let disabled = Code::parse("KMS.DisabledException").unwrap();
        assert_eq!(disabled, Code::Kms("DisabledException".into()));
        assert_eq!((disabled.name().as_ref(), disabled.status()), ("KMS.DisabledException", 400));
        assert_eq!(Code::Kms("KMSInternalException".into()).status(), 500);
    }
}
