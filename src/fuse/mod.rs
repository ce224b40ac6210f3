//! The only place that imports fuser: decode, call `fs`, map errors to errno.

mod adapter;
mod convert;
mod mount;
mod workers;

pub use mount::{MountOptions, Mounted, mount};
