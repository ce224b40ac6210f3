//! The only place that imports fuser: decode, call `fs`, map errors to errno.
#![forbid(unsafe_code)]

mod adapter;
mod by_number;
mod convert;
mod mount;
mod mountinfo;
mod place;
mod served;
mod statistics;
mod status;
mod workers;

pub use mount::{AskAttributes, MountOptions, Mounted, TYPE, mount};
pub use mountinfo::{Mount, mounted_at, mounts};
pub use place::Place;
pub use statistics::Statistics;
pub use status::STATUS;
