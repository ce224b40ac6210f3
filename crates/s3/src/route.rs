//! From a request to the operation that it is.
//!
//! What a request does is decided by its method, by whether it names a bucket and a key, and by its sub-resource. Each
//! operation has a row that names all parameters and `x-amz-*` headers that it takes; a request that has any other is
//! refused, so that none is taken for another operation, or for the same one with less to it.

mod bucket;
mod listing;
mod multipart;
mod object;
mod refusals;
mod table;

use crate::conditions::EtagMatch;
use crate::error::{Code, Error};
use crate::request::{Endpoint, Headers, Query, Request};
use crate::{Checksum, ChecksumAlgorithm, ExpectedChecksum, ObjectKey, Operation};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_sse::BucketName;
use std::fmt;

/// What a request is.
#[derive(Debug)]
pub enum Route {
    /// All of it is said. Where the operation has a [`Operation::content_length`], its body is the object or part;
    /// otherwise it has none, or one that says nothing.
    Operation(Box<Operation>),
    /// A document that is the body says the rest.
    Document(Document),
}

impl<T: Into<Operation>> From<T> for Route {
    fn from(operation: T) -> Self {
        Self::Operation(Box::new(operation.into()))
    }
}

/// A request whose body is a document, to be read whole.
pub struct Document {
    checksum: Option<ExpectedChecksum>,
    content_md5: Option<[u8; 16]>,
    read: Read,
}

/// Makes the operation of the document.
type Read = Box<dyn FnOnce(&[u8]) -> Result<Operation, Error> + Send>;

impl Document {
    /// The longest that is read, in bytes: 10,000 parts with number, tag and a SHA-256 are 1.7 MB, and a thousand keys
    /// of 1024 bytes 1.1 MB.
    pub const MAX_LEN: usize = 2 << 20;

    /// A checksum that it has to have.
    pub fn checksum(&self) -> Option<&ExpectedChecksum> {
        self.checksum.as_ref()
    }

    /// `Content-MD5`
    pub fn content_md5(&self) -> Option<[u8; 16]> {
        self.content_md5
    }

    /// Reads it; length and checksums have been looked at.
    pub fn read(self, body: &[u8]) -> Result<Operation, Error> {
        (self.read)(body)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").finish_non_exhaustive()
    }
}

/// Finds the operation.
///
/// # Errors
/// What S3 answers to a request that is none of its own, and `NotImplemented` for one that is.
pub fn route(request: &Request<'_>, endpoint: &Endpoint) -> Result<Route, Error> {
    let headers = request.all_headers()?;
    let headers = Headers(&headers);
    let query = Query(request.query);
    let (bucket, key) = names(request.path, headers, endpoint)?;
    let place = match (bucket, key) {
        (None, _) => Place::Service,
        (Some(_), "") => Place::Bucket,
        (Some(_), _) => Place::Object,
    };
    let row = table::find(request.method, place, query)?;
    refusals::check(row, query, headers, endpoint)?;
    let bucket = match bucket {
        // A request without one does not ask for it.
        None => BucketName::parse("none").map_err(|_| Code::InternalError)?,
        Some(name) => bucket_name(name)?,
    };
    (row.make)(&Asked { request, endpoint, headers, query, bucket, key })
}

/// Conditions that S3 does not have of an operation that changes something.
const CONDITIONS: &[&str] = &["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// What of a server a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Service,
    Bucket,
    Object,
}

/// A request by its parts, for the one that makes an operation of it.
struct Asked<'a> {
    request: &'a Request<'a>,
    endpoint: &'a Endpoint,
    headers: Headers<'a>,
    query: Query<'a>,
    bucket: BucketName,
    key: &'a str,
}

impl Asked<'_> {
    fn bucket(&self) -> BucketName {
        self.bucket.clone()
    }

    fn key(&self) -> Result<ObjectKey, Error> {
        ObjectKey::parse(self.key)
    }

    /// `versionId`, of which there is `null` alone. Returns whether it is there.
    fn null_version(&self) -> Result<bool, Error> {
        null_version(self.query.get("versionId")?)
    }

    fn content_md5(&self) -> Result<Option<[u8; 16]>, Error> {
        let Some(text) = self.headers.get("content-md5")? else { return Ok(None) };
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or_else(|| Error::new(Code::InvalidDigest).with("Content-MD5", text))
    }

    /// The body's checksum: of a header, of a trailer, or to be computed.
    fn checksum(&self) -> Result<Option<ExpectedChecksum>, Error> {
        let named = self.algorithm("x-amz-sdk-checksum-algorithm")?;
        let mut expected = self.checksum_header()?.map(ExpectedChecksum::Header);
        if let Some(trailer) = self.headers.get("x-amz-trailer")? {
            let of_trailer = |algorithm: &ChecksumAlgorithm| algorithm.header().eq_ignore_ascii_case(trailer);
            let algorithm = ChecksumAlgorithm::ALL.into_iter().find(of_trailer);
            let algorithm = algorithm.ok_or_else(|| {
                let message = "The value specified in the x-amz-trailer header is not supported";
                Error::new(Code::InvalidRequest).saying(message)
            })?;
            if expected.replace(ExpectedChecksum::Trailer(algorithm)).is_some() {
                return Err(several_checksums());
            }
        }
        match (named, &expected) {
            (Some(named), Some(expected)) if named != expected.algorithm() => {
                let message = "Value for x-amz-sdk-checksum-algorithm header is invalid.";
                Err(Error::new(Code::InvalidRequest).saying(message))
            }
            (Some(_), None) => {
                let message = "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
                               x-amz-trailer headers were found.";
                Err(Error::new(Code::InvalidRequest).saying(message))
            }
            (Some(_) | None, _) => Ok(expected),
        }
    }

    /// The one `x-amz-checksum-ALGORITHM` that is there.
    fn checksum_header(&self) -> Result<Option<Checksum>, Error> {
        let mut found = None;
        for algorithm in ChecksumAlgorithm::ALL {
            let Some(text) = self.headers.get(algorithm.header())? else { continue };
            let checksum = Checksum::parse(algorithm, text).ok_or_else(|| {
                let message = format!("Value for {} header is invalid.", algorithm.header());
                Error::new(Code::InvalidRequest).saying(message)
            })?;
            if found.replace(checksum).is_some() {
                return Err(several_checksums());
            }
        }
        Ok(found)
    }

    fn algorithm(&self, header: &str) -> Result<Option<ChecksumAlgorithm>, Error> {
        let Some(name) = self.headers.get(header)? else { return Ok(None) };
        ChecksumAlgorithm::parse(name).map(Some).ok_or_else(|| {
            let message = "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                           [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]";
            Error::new(Code::InvalidRequest).saying(message)
        })
    }

    /// `If-Match` and `If-None-Match` of a write.
    fn write_condition(&self) -> Result<Option<crate::WriteCondition>, Error> {
        use crate::WriteCondition::{Absent, Is};
        self.refuse_headers(&["if-modified-since", "if-unmodified-since"])?;
        let tags = |name| Ok::<_, Error>(self.headers.get(name)?.map(EtagMatch::parse));
        match (tags("if-match")?, tags("if-none-match")?) {
            (None, None) => Ok(None),
            (None, Some(EtagMatch::Any)) => Ok(Some(Absent)),
            (Some(EtagMatch::OneOf(tags)), None) if tags.len() == 1 => Ok(tags.into_iter().next().map(Is)),
            (Some(_), _) => Err(Error::header_not_implemented("If-Match")),
            (None, Some(_)) => Err(Error::header_not_implemented("If-None-Match")),
        }
    }

    /// Headers that this operation does not take, and that are not to be passed over: a condition that nobody looks at,
    /// or a range that would be taken for the whole.
    fn refuse_headers(&self, names: &[&str]) -> Result<(), Error> {
        for name in names {
            if self.headers.value(name)?.is_some() {
                return Err(Error::header_not_implemented(*name));
            }
        }
        Ok(())
    }

    /// A route whose operation is in the body.
    fn document(&self, read: impl FnOnce(&[u8]) -> Result<Operation, Error> + Send + 'static) -> Result<Route, Error> {
        let (checksum, content_md5) = (self.checksum()?, self.content_md5()?);
        Ok(Route::Document(Document { checksum, content_md5, read: Box::new(read) }))
    }
}

fn several_checksums() -> Error {
    let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.";
    Error::new(Code::InvalidRequest).saying(message)
}

/// Whether a version is named; it is `null`, since no other one is ever made.
fn null_version(version: Option<&str>) -> Result<bool, Error> {
    match version {
        None => Ok(false),
        Some("null") => Ok(true),
        Some(other) => Err(Error::argument("Invalid version id specified", "versionId", other)),
    }
}

/// Bucket and key, where there are any: the bucket's name is in the Host or is the path's first segment.
fn names<'a>(path: &'a [u8], headers: Headers<'a>, endpoint: &Endpoint) -> Result<(Option<&'a str>, &'a str), Error> {
    let path = std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix('/')).ok_or(Code::InvalidURI)?;
    let host = headers.get("host")?.unwrap_or_default();
    // An IPv6 address has its colons in brackets.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let before = |name: &String| {
        let at = host.len().checked_sub(name.len() + 1)?;
        let behind = host.get(at..)?.strip_prefix('.')?;
        behind.eq_ignore_ascii_case(name).then(|| &host[..at])
    };
    let is_own = endpoint.names.iter().any(|name| host.eq_ignore_ascii_case(name));
    // `a.b.example` is of the server `b.example` rather than of `example`.
    if let Some(bucket) = endpoint.names.iter().filter_map(before).min_by_key(|bucket| bucket.len()).filter(|_| !is_own)
    {
        return Ok((Some(bucket), path));
    }
    match path.split_once('/') {
        _ if path.is_empty() => Ok((None, "")),
        None => Ok((Some(path), "")),
        Some((bucket, key)) => Ok((Some(bucket), key)),
    }
}

fn bucket_name(name: &str) -> Result<BucketName, Error> {
    BucketName::parse(name).map_err(|error| {
        let text = error.to_string();
        let message = text.split_once(": ").map_or(text.as_str(), |(_, message)| message);
        Error::new(Code::InvalidBucketName).saying(message).with("BucketName", name)
    })
}
