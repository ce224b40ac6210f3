//! kmsfs: a FUSE file system that does for a directory tree what Amazon S3 does for objects under SSE-KMS.
//!
//! Layers, each importing only those below it (a test checks it): `cli`, `fuse`, `fs`, `store`, `sse`, `format`, `kms`,
//! `crypto`. `docs/ARCHITECTURE.md` is the map.

pub mod cli;
pub mod crypto;
pub mod format;
pub mod fs;
pub mod fuse;
#[doc(hidden)]
pub mod fuzzing;
pub mod kms;
pub mod sse;
pub mod store;
#[allow(unsafe_code)]
pub mod sys;
