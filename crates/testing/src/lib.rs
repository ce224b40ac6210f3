//! What kmsfs is tested with: a simulated disk that loses power, stores that make mistakes, and entry points for
//! fuzzing.
//!
//! - [`disk`]: a disk in memory that fails and loses power as it is told.
//! - [`kms`]: KMSs that deny, fail, wait, and count.
//! - [`mistakes`]: stores that make a mistake on purpose, so that a test can be shown to find it.
//! - [`fuzzing`]: what fuzz targets and the corpus call.
//!
//! ```
//! use kmsfs_kms::{Caller, Code, EncryptionContext, Error, Kms, Principal};
//! use kmsfs_testing::kms::Moody;
//!
//! let (kms, context) = (Moody::new(), EncryptionContext::new());
//! let ann = Caller { uid: 1000, gid: 1000, pid: 10 };
//! let make = || kms.generate_data_key("k", &context, &Principal::from(ann)).map(|made| made.key_arn);
//! assert_eq!(make().as_deref(), Ok("arn:aws:kms:us-east-1:000000000000:key/k"));
//! kms.deny(&ann);
//! assert_eq!(make().unwrap_err().code, Code::AccessDenied);
//! kms.fail(Some(Error::new(Code::KeyUnavailable, "it is away")));
//! assert!(make().unwrap_err().is_outage());
//! assert_eq!(kms.calls(), 3);
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod disk;
pub mod fuzzing;
pub mod kms;
pub mod mistakes;
