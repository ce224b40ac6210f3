//! Verifies AWS Signature Version 4, decodes the bodies that are signed with it, and signs ([`Signer`]) what kmsfs asks
//! of other services.
//!
//! A server gives [`verify`] a request's line and headers as they were received, and gets a [`Verified`]: who signed
//! it, the path and parameters that were signed, and a [`Body`] through which it reads the rest. Nothing here reads a
//! clock, a file or a socket, and nothing keeps a secret: signing keys are asked for by [`Credential`], and are derived
//! ([`SigningKey::derive`]) wherever the secrets are. Where that is another process, [`prepare`] does what takes no
//! key, the other process answers the [`Question`], and [`Prepared::complete`] goes on from there.
//!
//! Refusals are [`Error`]s with S3's codes, messages, statuses and elements. What S3 takes is taken, and nothing else:
//! one mechanism a request; Host and all `x-amz-*` headers signed, also in presigned URLs; one region; no version 2, no
//! session tokens; each of the parameters and headers that decide once.
//!
//! ```
//! use kmsfs_sigv4::{Endpoint, Event, Request, SecretAccessKey, Service, SigningKey, verify};
//!
//! // The upload of the Amazon S3 API Reference, "Transferring Payload in a Single Chunk": 24 May 2013, us-east-1.
//! let authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
//!     SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
//!     Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
//! let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
//! let headers = [
//!     ("Host", "examplebucket.s3.amazonaws.com"),
//!     ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
//!     ("x-amz-date", "20130524T000000Z"),
//!     ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
//!     ("x-amz-content-sha256", hash),
//!     ("Authorization", authorization),
//! ];
//! let headers = headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
//! let request = Request { method: "PUT", path: b"/test%24file.text", query: b"", headers: &headers };
//! let now = time::macros::datetime!(2013-05-24 00:00:30 UTC);
//! let endpoint = Endpoint { region: "us-east-1", service: Service::S3, now };
//!
//! let verified = verify(&request, &endpoint, |credential| {
//!     let secret = SecretAccessKey::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
//!     let known = credential.access_key_id == "AKIAIOSFODNN7EXAMPLE";
//!     known.then(|| SigningKey::derive(&secret, &credential.date, &credential.region, &credential.service))
//! })?;
//! assert_eq!(verified.path(), b"/test$file.text");
//!
//! let mut body = verified.into_body();
//! let mut object = Vec::new();
//! for mut received in [&b"Welcome to "[..], b"Amazon S3."] {
//!     while let Some(event) = body.decode(&mut received)? {
//!         if let Event::Unverified(bytes) = event {
//!             object.extend_from_slice(bytes);
//!         }
//!     }
//! }
//! // Until here the object may be anybody's.
//! assert_eq!(body.finish()?.length, 21);
//! assert_eq!(object, b"Welcome to Amazon S3.");
//! # Ok::<(), kmsfs_sigv4::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod body;
mod canonical;
mod claim;
mod credential;
mod error;
mod key;
mod payload;
mod question;
mod request;
mod sign;
mod timestamp;
mod verify;

pub use body::{Body, Complete, Event};
pub use credential::Credential;
pub use error::{Error, Mismatch};
pub use key::{SecretAccessKey, SigningKey};
pub use payload::Payload;
pub use question::{Finding, Question};
pub use request::Request;
pub use sign::Signer;
pub use verify::{Endpoint, Prepared, Service, Verified, prepare, verify};
