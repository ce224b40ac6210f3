//! Objects coming into being: made new, or read and verified from their files.

mod load;
mod salvage;
mod unverified;
mod verify;

pub(crate) use load::NewObject;
pub(crate) use salvage::{Remains, Salvaged};
pub(crate) use unverified::{Unverified, read_header};
