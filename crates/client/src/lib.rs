//! A kmsfs mount as any program sees it: through the kernel, by paths and extended attributes.
//!
//! The command line uses this package for what it does to a mount that some process serves, and another front door (an
//! HTTP server, say) can use it in the same way. It opens no store and asks no KMS: the daemon behind the mount does,
//! with the permissions of the process that calls.
//!
//! - [`mounts`] finds out whether a path lies in a kmsfs mount.
//! - [`Put`] writes one object as S3's PutObject does: readers see the old object or the whole new one.
//! - [`Stored`] is what S3 returns about an object: its ETag and its encryption.
//! - [`Head`] is all of that in one call, or S3's and KMS's words where they refuse ([`Refused`]).
//! - [`attributes`] has the names of the extended attributes that a mount offers.
//!
//! ```
//! use kmsfs_client::{Put, PutError, mounts};
//! use kmsfs_sse::Request;
//! use std::path::Path;
//!
//! let here = std::env::temp_dir();
//! if mounts::of(&here)?.is_none() {
//!     let refused = Put::new(&here.join("object"), Request::default());
//!     assert!(matches!(refused, Err(PutError::NotInMount { .. })));
//! }
//! # std::io::Result::Ok(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod attributes;
mod head;
pub mod mounts;
mod put;
mod stored;

pub use head::{Head, Refused};
pub use put::{Put, PutError, Refusal, numbered_name, temporary_name};
pub use stored::Stored;
