//! AWS KMS and AWS STS as clients speak to them: bytes to calls, and answers to bytes. Nothing here does I/O, reads a
//! clock, or knows a key.
//!
//! KMS is JSON 1.1: [`request`] takes the header `X-Amz-Target` and the body, [`Reply`] is what is sent back. STS is
//! the query protocol and XML: [`sts`].
//!
//! ```
//! use kmsfs_kms_json::{Reply, request};
//!
//! let body = br#"{"KeyId": "alias/invoices"}"#;
//! assert_eq!(request("TrentService.DescribeKey", body).unwrap().name(), "DescribeKey");
//!
//! let refusal = request("TrentService.DescribeKey", b"{}").unwrap_err();
//! let reply = Reply::refusal(&refusal);
//! assert_eq!(reply.status, 400);
//! let text = "Value null at 'keyId' failed to satisfy constraint: Member must not be null";
//! assert_eq!(refusal.message, format!("1 validation error detected: {text}"));
//! assert!(reply.body.starts_with(br#"{"__type":"ValidationException","message":"1 validation error"#));
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod json;
mod members;
mod reply;
mod request;
pub mod sts;

pub use reply::{CONTENT_TYPE, Reply};
pub use request::{MOST, TARGET, request};

use std::fmt;

/// Why a request is no call of the KMS: AWS's name of the exception, and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `ValidationException`.
    pub exception: &'static str,
    /// As AWS words it; empty where AWS says nothing.
    pub message: String,
}

impl Refusal {
    fn new(exception: &'static str, message: impl Into<String>) -> Self {
        Self { exception, message: message.into() }
    }

    /// What cannot be read, or is of another type.
    fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// What AWS has and kmsfs does not.
    fn unsupported(message: impl Into<String>) -> Self {
        Self::new("UnsupportedOperationException", message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.exception, self.message)
    }
}

impl std::error::Error for Refusal {}
