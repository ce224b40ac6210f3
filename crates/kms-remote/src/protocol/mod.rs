//! What a mount and a provider say to each other: frames as values. docs/KMS.md has the protocol for whoever writes a
//! provider in another language.
//!
//! A frame is its length (4 bytes, big-endian, at most [`LONGEST`]) and one JSON object. Requests have a number, which
//! the response repeats; responses come in any order. Names are AWS's, bytes are base64. Plaintexts are in memory that
//! is zeroized, and so are the frames that they are in.

mod frame;
mod request;
mod response;
mod text;

pub use frame::{Frame, LONGEST, read_frame};
pub use request::{Call, Refused, Request, Verb};
pub use response::{Incoming, Reply, Response, Trace};

/// The version of the protocol, which `Hello` agrees on.
pub const VERSION: u32 = 1;

/// What came is not what the protocol has; the text says what is wrong with it, and shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
