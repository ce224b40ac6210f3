//! The FUSE side of kmsfs: requests of the kernel become operations, operations are done over `fs`, answers go back.
//!
//! `transport` decodes and encodes, and is the only place that imports fuser beside `mount`; `op` and `answer` are what
//! passes between it and `runner`, which decides on which thread an operation is done; `perform` does one.
#![forbid(unsafe_code)]

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
