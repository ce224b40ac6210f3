//! The only place that imports fuser: decode, call `fs`, map errors to errno.

mod adapter;
mod convert;
mod mount;
mod mountinfo;
mod served;
mod statistics;
mod status;
mod workers;

pub use mount::{MountOptions, Mounted, Place, TYPE, mount};
pub use mountinfo::{Mount, mounted_at, mounts};
pub use statistics::Statistics;
pub use status::STATUS;
