//! kmsfs: a FUSE file system that does for a directory tree what Amazon S3 does for objects under SSE-KMS.
//!
//! Layers, each importing only those below it (a test checks it): `cli`, `fuse`, `fs`, `store`, `sse`, `format`, `kms`,
//! `witness`, `crypto`, `private`. `docs/ARCHITECTURE.md` is the map.

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod crypto;
#[forbid(unsafe_code)]
pub mod format;
#[forbid(unsafe_code)]
pub mod fs;
#[forbid(unsafe_code)]
pub mod fuse;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod fuzzing;
#[forbid(unsafe_code)]
pub mod kms;
#[forbid(unsafe_code)]
pub mod private;
#[forbid(unsafe_code)]
pub mod sse;
#[forbid(unsafe_code)]
pub mod store;
#[allow(unsafe_code)]
pub mod sys;
#[forbid(unsafe_code)]
pub mod witness;
