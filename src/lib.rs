//! kmsfs: a FUSE file system that does for a directory tree what Amazon S3 does for objects under SSE-KMS.
//!
//! This package is the program: command line and assembly. The layers below it are packages of their own under
//! `crates`; `docs/ARCHITECTURE.md` is the map.
//!
//! It is a library only so that [`main`] can be linked into the binary, the definition of the command line into what
//! writes man pages, and the parsers of mount options into fuzzing: nothing here is an interface for other programs. A
//! program that works with a mount uses `kmsfs-client`; one that serves mounts of its own uses `kmsfs-fuse` and the
//! packages below it.
#![forbid(unsafe_code)]

mod cli;

/// The definition of the command line, for what is written from it (`crates/manual`).
#[doc(hidden)]
pub use cli::command;
pub use cli::main;
#[doc(hidden)]
#[cfg(feature = "testing")]
pub use cli::mount_options;
