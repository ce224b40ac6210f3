//! A store: a directory whose files hold encrypted objects, and the only package that opens them.
//!
//! [`create`] makes an empty store and [`Store::open`] opens one, which first brings home what a crash left in its redo
//! log. A [`Store`] has names in directories ([`Dir`]) and opens an [`Object`] by name; content is read, written and
//! committed through that. What a file system asks of a store is the trait [`Volume`].
//!
//! The directory below is a [`Backend`](backend::Backend): a real one, or what tests put in its place. Data keys come
//! from a [`KeyService`](kmsfs_sse::KeyService), which asks the KMS on behalf of a caller. [`check`] is what `kmsfs
//! fsck` does. The bytes of all files are described in docs/FORMAT.md, the rules of commits and checkpoints in
//! docs/ARCHITECTURE.md.
//!
//! ```
//! use kmsfs_kms::Caller;
//! use kmsfs_sse::{Algorithm, Encryption, KeyService};
//! use kmsfs_store::prelude::*;
//! use kmsfs_store::{Parameters, Store, StoreOptions, backend::NewNode};
//! use kmsfs_testing::{disk::SimulatedDisk, kms::OneKey};
//! use std::{ffi::OsStr, sync::Arc};
//!
//! let (disk, kms) = (Arc::new(SimulatedDisk::new()), Arc::new(OneKey::new()));
//! let parameters =
//!     Parameters { store_id: [7; 16], account_id: "111122223333".into(), region: "eu-central-1".into() };
//! kmsfs_store::create(disk.as_ref(), &parameters, kms.as_ref())?;
//!
//! let keys = Arc::new(KeyService::new(kms.clone(), kms));
//! let store = Store::open(disk, keys, StoreOptions::default())?;
//! let node = NewNode { mode: 0o700, umask: 0, owner: None };
//! store.make_dir(store.root(), OsStr::new("bucket"), &node)?;
//! let bucket = store.open_dir(store.root(), OsStr::new("bucket"))?;
//!
//! let (name, caller) = (OsStr::new("object"), Caller::itself());
//! let key = Some("1234abcd".into());
//! let want = Encryption { algorithm: Algorithm::AwsKms, key_id: key, bucket_key: false, context: [].into() };
//! let (object, _) = store.create(&bucket, name, &node, &want, "object", &caller)?;
//! object.write(0, b"my name is Bond")?;
//! object.fsync()?;
//! store.release(&object);
//!
//! let object = store.open_object(&bucket, name, &caller)?;
//! let mut found = [0; 20];
//! assert_eq!(object.read(0, &mut found)?, 15);
//! assert_eq!(&found[..15], b"my name is Bond");
//! store.release(&object);
//! store.close()?;
//! # Ok::<(), kmsfs_store::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod backend;
pub mod check;
mod error;
#[doc(hidden)]
pub mod interleaving;
mod local;
#[cfg(not(feature = "testing"))]
// Its one public type is named by an option that is there with the feature alone.
#[allow(unreachable_pub)]
mod mistakes;
#[cfg(feature = "testing")]
pub mod mistakes;
mod numbers;
mod object;
pub mod prelude;
mod volume;

pub use error::{Error, Result};
pub use local::attributes::capabilities::CAPABILITY;
pub use local::attributes::{SetAttr, Target};
pub use local::inventory::{Protected, protected_by};
pub use local::lease;
pub use local::log::LogUsage;
pub use local::names::dir::Dir;
pub use local::objects::reencryption::{Change, Changed, Step, Wrapping, is_as};
pub use local::sealed::configured;
pub use local::sealed::parameters::{Parameters, create, read_parameters};
pub use local::{Attr, Store, StoreOptions};
pub use numbers::{Ino, Time};
pub use object::{Held, Object, ObjectEncryption, SeekTo, Tag};
pub use volume::{KnownName, NameIfThere, Volume, VolumeAttributes, VolumeEncryption, VolumeNames, VolumeObjects};
