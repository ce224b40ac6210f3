//! The traits that a store is used through, for whoever has a [`Store`](crate::Store) and not a `dyn Volume`:
//! `use kmsfs_store::prelude::*`.

pub use crate::volume::{Volume, VolumeAttributes, VolumeEncryption, VolumeNames, VolumeObjects};
