//! The only owner of the backing directory: namespace, objects, sidecars, redo log.
#![forbid(unsafe_code)]

pub mod backend;
pub mod check;
mod error;
#[doc(hidden)]
pub mod interleaving;
mod local;
#[cfg(not(feature = "testing"))]
mod mistakes;
#[cfg(feature = "testing")]
pub mod mistakes;
mod object;
mod volume;

pub use error::{Error, Result};
pub use local::attributes::capabilities::CAPABILITY;
pub use local::attributes::{SetAttr, Target};
pub use local::inventory::{Protected, protected_by};
pub use local::log::LogUsage;
pub use local::names::dir::Dir;
pub use local::objects::reencryption::{Change, Changed, Step, Wrapping, is_as};
pub use local::sealed::configured;
pub use local::sealed::parameters::{Parameters, create, read_parameters};
pub use local::{Attr, Store, StoreOptions};
pub use object::{Held, Object, ObjectEncryption, SeekTo, Tag};
pub use volume::{KnownName, NameIfThere, Volume};
