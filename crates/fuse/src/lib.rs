//! The FUSE side of kmsfs: requests of the kernel become operations, operations are done over [`kmsfs_fs::Fs`], and
//! answers go back.
//!
//! - [`mount()`] mounts a file system, and [`Mounted::run`] serves it until it is unmounted. [`Place`] is that mount,
//!   told from all others that are or will be at the same place.
//! - [`Carrier`] is what requests come by, [`why_not_by_rings`] why they cannot come by io_uring here,
//!   [`memory_of_rings`] what that takes.
//! - [`mounts`] and [`mounted_at`] say what is mounted where.
//! - [`errno()`] is what a program sees of a refusal, [`Statistics`] what a mount has done, [`STATUS`] how it is asked.
//!
//! Inside, `transport` decodes and encodes, and is the only place that imports fuser beside `mount`; `op` and `answer`
//! are what passes between it and `runner`, which decides on which thread an operation is done; `perform` does one.
//!
//! ```
//! use kmsfs_fs::Refusal;
//! use std::path::Path;
//!
//! assert_eq!(kmsfs_fuse::errno(&Refusal::Revoked), libc::EACCES);
//! let proc = kmsfs_fuse::mounted_at(Path::new("/proc"))?.expect("which is where mounts are listed");
//! assert_ne!(proc.kind, kmsfs_fuse::TYPE);
//! assert!(kmsfs_fuse::Place::at(Path::new("/proc")).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod answer;
mod codec;
mod crew;
mod errno;
mod mount;
mod mountinfo;
mod nodes;
mod op;
mod perform;
mod place;
mod refused;
mod runner;
mod statistics;
mod status;
mod transport;

pub use errno::errno;
pub use mount::{AskAttributes, MountOptions, Mounted, TYPE, mount};
pub use mountinfo::{Mount, mounted_at, mounts};
pub use place::Place;
pub use statistics::Statistics;
pub use status::STATUS;
pub use transport::Carrier;
pub use transport::rings::{memory_of_rings, why_not as why_not_by_rings};
