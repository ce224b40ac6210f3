//! Objects coming into being: made new, or read and verified from their files.

pub(super) mod load;
pub(super) mod salvage;
pub(super) mod unverified;
pub(super) mod verify;
