//! S3 on the wire, as values.
//!
//! A request is one of the [`Operation`]s, whose fields are checked when they are made; whoever does it has an
//! [`Answer`] to it, or an [`Error`] with S3's code, message and elements. Nothing here reads a clock, a file or a
//! socket; of the bytes of objects only checksums are computed here ([`Summing`]). All types go through serde in a form
//! that is not self-describing (bincode), since the process that reads HTTP is another one than the process that opens
//! files.
//!
//! Rules and messages are those of the Amazon S3 API Reference, and where that says nothing those of recorded answers
//! of S3. docs/S3_OPERATIONS.md has a row for each operation.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod answer;
mod as_json;
mod checksum;
mod conditions;
mod error;
mod escapes;
mod etag;
mod key;
pub mod listing;
mod metadata;
pub mod operation;
mod range;
mod request;
mod response;
mod rfc2047;
mod route;
mod summing;
mod tags;
mod timestamp;
mod token;
mod upload_id;
mod xml;

pub use answer::Answer;
pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumType, ExpectedChecksum};
pub use conditions::{EtagMatch, Preconditions, WriteCondition};
pub use error::{Code, Error};
pub use etag::ETag;
pub use key::{ObjectKey, PUT_PREFIX, UPLOADS_DIRECTORY, is_reserved};
pub use metadata::{Metadata, StorageClass};
pub use operation::Operation;
pub use range::Range;
pub use request::{Endpoint, Request};
pub use response::{Body, DECLARATION, Response, Server, begun, refusal, response};
pub use route::{Document, Route, route};
pub use summing::{Summing, checksum_of_parts};
pub use tags::Tags;
pub use timestamp::Timestamp;
pub use upload_id::UploadId;
