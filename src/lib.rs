//! kmsfs: a FUSE file system that does for a directory tree what Amazon S3 does for objects under SSE-KMS.
//!
//! This package is the program: command line and assembly. The layers below it are packages of their own under
//! `crates`; `docs/ARCHITECTURE.md` is the map.
#![forbid(unsafe_code)]

pub mod cli;
