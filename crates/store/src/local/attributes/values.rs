//! What the sealed values of extended attributes are bound to: an object by its id, which its seal vouches for; a
//! directory by an id of its own, in an attribute that users do not see. Whoever moves a value elsewhere, or to another
//! name, is found out.
//!
//! Until format version 4 they were bound to the bucket and the attribute's name alone. The first opening for writing
//! seals them anew; from then on the old form is not taken.

use crate::VolumeNames;
use crate::backend::{Access, XattrFlags};
use crate::check::is_fatal;
use crate::local::attributes::capabilities::{KEPT_AS, is_reserved, shown_as};
use crate::local::attributes::{Carrier, is_user};
use crate::local::names::dir::{Bucket, Buckets};
use crate::local::objects::Objects;
use crate::local::recovery::aftermath::Aftermath;
use crate::local::recovery::birth;
use crate::local::sealed::seal::StoreSeal;
use crate::mistakes::{Mistake, Seeded};
use crate::object::Home;
use crate::{Error, Result, Store, Target};
use kmsfs_crypto::random;
use kmsfs_format::ObjectId;
use kmsfs_format::header::object_id;
use kmsfs_format::layout::BLOCK;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// 16 random bytes, with a directory's first value.
const DIRECTORY_ID: &str = "user.kmsfs.directory";

/// Whose values they are.
enum Owner {
    Object(ObjectId),
    Directory(Vec<u8>),
    /// Neither says who it is: no value is its own.
    Unknown,
}

impl Owner {
    /// The additional data of a value; `None` if nothing can be sealed. No attribute's name begins as it does.
    fn bound(&self, attribute: &OsStr, seeded: Seeded) -> Option<Vec<u8>> {
        if seeded.is(Mistake::ValueOfAnyOwner) {
            return Some(attribute.as_bytes().to_vec());
        }
        let (kind, id) = match self {
            Self::Object(id) => ("kmsfs object ", &id.0[..]),
            Self::Directory(id) => ("kmsfs directory ", &id[..]),
            Self::Unknown => return None,
        };
        Some([kind.as_bytes(), id, attribute.as_bytes()].concat())
    }
}

pub(crate) fn is_directory_id(attribute: &OsStr) -> bool {
    attribute == DIRECTORY_ID
}

/// Whether a stored attribute's value is sealed, under the name that users see.
fn is_sealed(stored: &OsStr) -> bool {
    stored == KEPT_AS || is_user(stored) && !is_reserved(stored)
}

/// The sealed values of attributes: what they are bound to, and which key they are sealed with.
pub(crate) struct Values {
    pub(in crate::local) buckets: Arc<Buckets>,
    pub(in crate::local) seal: Arc<StoreSeal>,
    pub(in crate::local) objects: Arc<Objects>,
    pub(in crate::local) aftermath: Arc<Aftermath>,
    pub(in crate::local) seeded: Seeded,
}

impl Values {
    /// The value that is kept in this attribute.
    pub(crate) fn get(&self, at: Target<'_>, stored: &OsStr) -> Result<Vec<u8>> {
        let (sealed, attribute) = (Carrier::of(at)?.get(stored)?, shown_as(stored));
        self.in_bucket(at, |bucket, show| {
            let (owner, carrier) = self.owner(at, false)?;
            if let Some(value) = self.open_value(bucket, &owner, attribute, &sealed) {
                return Ok(value);
            }
            // The name may have been given to another file meanwhile.
            let value = self.open_value(bucket, &owner, attribute, &carrier.get(stored)?);
            let finding = || format!("attribute {} is not what was set", attribute.to_string_lossy());
            value.ok_or_else(|| Error::corrupt(show(), finding()))
        })
    }

    /// The value as it is to be stored, and where.
    pub(crate) fn seal<'a>(&self, at: Target<'a>, attribute: &OsStr, value: &[u8]) -> Result<(Vec<u8>, Carrier<'a>)> {
        self.in_bucket(at, |bucket, show| {
            let (owner, carrier) = self.owner(at, true)?;
            let bound = owner
                .bound(attribute, self.seeded)
                .ok_or_else(|| Error::corrupt(show(), "it does not say which object it is"))?;
            Ok((bucket.metadata.seal(&bound, value), carrier))
        })
    }

    fn open_value(&self, bucket: &Bucket, owner: &Owner, attribute: &OsStr, sealed: &[u8]) -> Option<Vec<u8>> {
        let bound = owner.bound(attribute, self.seeded).and_then(|bound| bucket.metadata.open(&bound, sealed).ok());
        bound.or_else(|| self.open_unbound(bucket, attribute, sealed))
    }

    /// As an earlier version sealed it.
    fn open_unbound(&self, bucket: &Bucket, attribute: &OsStr, sealed: &[u8]) -> Option<Vec<u8>> {
        let taken = self.seal.takes_unsealed();
        taken.then(|| bucket.metadata.open(attribute.as_bytes(), sealed).ok()).flatten()
    }

    /// Whose values are at a place, and what carries them: of a file that is found by its name, the file itself.
    fn owner<'a>(&self, at: Target<'a>, make: bool) -> Result<(Owner, Carrier<'a>)> {
        let (dir, name) = match at {
            Target::Object(object) => {
                return Ok((Owner::Object(object.id()), Carrier::of(at)?));
            }
            Target::Dir(_) => return of_directory(Carrier::of(at)?, make),
            Target::Name(dir, name) => (dir, name),
        };
        let file = match self.objects.with_descriptor(|| dir.backing.open_file(name, Access::Read)) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return of_directory(Carrier::of(at)?, make),
            file => file.map_err(|error| Error::reaching(|| dir.show(name), error))?,
        };
        let id = if let Some(object) = self.objects.loaded(file.ino()) {
            Some(object.id())
        } else {
            let mut block = [0; BLOCK as usize];
            let home = Home { file: file.clone(), patch: self.aftermath.patch_of(file.ino()) };
            let read = home.read(0, &mut block)?;
            // What a crash caught before its first commit has a birth at most.
            object_id(&block[..read]).or_else(|| birth::named(file.as_ref()))
        };
        Ok((id.map_or(Owner::Unknown, Owner::Object), Carrier::File(file)))
    }

    /// Attributes, as users see them, whose values are not what was set there.
    pub(crate) fn damaged(&self, at: Target<'_>) -> Result<Vec<OsString>> {
        let values = self.all_of(at)?.into_iter();
        let damaged = values.filter(|(_, value)| value.is_none());
        Ok(damaged.map(|(stored, _)| shown_as(&stored).to_os_string()).collect())
    }

    /// Attributes, as users see them, whose values are as an earlier version sealed them, while such are taken.
    pub(crate) fn unbound(&self, at: Target<'_>) -> Result<Vec<OsString>> {
        let mut unbound = Vec::new();
        if self.seal.takes_unsealed() {
            for stored in sealed_names(at)? {
                let (sealed, attribute) = (Carrier::of(at)?.get(&stored)?, shown_as(&stored));
                if self.in_bucket(at, |bucket, _| Ok(self.open_unbound(bucket, attribute, &sealed)))?.is_some() {
                    unbound.push(attribute.to_os_string());
                }
            }
        }
        Ok(unbound)
    }

    fn bind(&self, at: Target<'_>, stored: &OsStr) -> Result<()> {
        let (sealed, attribute) = (Carrier::of(at)?.get(stored)?, shown_as(stored));
        let value = self.in_bucket(at, |bucket, _| Ok(self.open_unbound(bucket, attribute, &sealed)))?;
        // What is bound already, or was never right, stays as it is.
        let Some(value) = value else { return Ok(()) };
        let (sealed, carrier) = self.seal(at, attribute, &value)?;
        carrier.set(stored, &sealed, XattrFlags::Replace)
    }

    /// What is sealed: under the stored attributes' names, `None` for a value that is not what was set.
    pub(crate) fn all_of(&self, at: Target<'_>) -> Result<Vec<(OsString, Option<Vec<u8>>)>> {
        let mut values = Vec::new();
        for stored in sealed_names(at)? {
            let value = match self.get(at, &stored) {
                Ok(value) => Some(value),
                Err(Error::Corrupt(_)) => None,
                Err(error) => return Err(error),
            };
            values.push((stored, value));
        }
        Ok(values)
    }

    /// Gives an object the values that `all_of` returned for the one in whose place it comes. Others are not kept.
    pub(crate) fn take(&self, at: Target<'_>, values: &[(OsString, Option<Vec<u8>>)]) -> Result<()> {
        for (stored, value) in values {
            match value {
                Some(value) => {
                    let (sealed, carrier) = self.seal(at, shown_as(stored), value)?;
                    carrier.set(stored, &sealed, XattrFlags::Any)?;
                }
                None => match Carrier::of(at)?.remove(stored) {
                    Err(error) if !error.is_errno(Errno::NODATA) => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Calls `with` with the bucket whose metadata key an inode's values are sealed with. The root is in no bucket and
    /// has none.
    fn in_bucket<T>(&self, at: Target<'_>, with: impl FnOnce(&Bucket, &dyn Fn() -> String) -> Result<T>) -> Result<T> {
        match at {
            Target::Object(object) => {
                let bucket = self.buckets.open(OsStr::new(&object.bucket_name()))?;
                with(&bucket, &|| object.show())
            }
            Target::Name(dir, name) => with(dir.in_bucket()?, &|| dir.show(name)),
            Target::Dir(dir) => with(dir.in_bucket()?, &|| dir.show(OsStr::new(""))),
        }
    }
}

/// Seals anew what an earlier version left, durably: everything in the store. Doing it twice does no harm.
pub(crate) fn bind_all(store: &Store) -> Result<()> {
    each_below(store, &mut |at| {
        for stored in sealed_names(at)? {
            store.values.bind(at, &stored)?;
        }
        Ok(())
    })?;
    Ok(store.backend.sync_all()?)
}

/// Every file and directory in a bucket. What is damaged is logged and passed over; what the file system refuses
/// is the error in the end, after all else was visited. No recursion, as in `check::tree`.
fn each_below(store: &Store, visit: &mut dyn FnMut(Target<'_>) -> Result<()>) -> Result<()> {
    let mut refused = Ok(());
    let mut tell = |done: Result<()>, shown: String| {
        let Err(error) = done else { return Ok(()) };
        if is_fatal(&error) {
            return Err(error);
        }
        ::log::error!("{shown}: {error}");
        if matches!(error, Error::Errno(_)) && refused.is_ok() {
            refused = Err(error);
        }
        Ok(())
    };
    let mut pending = vec![(store.root.clone(), store.root.entries()?.into_iter())];
    while let Some((dir, left)) = pending.last_mut() {
        let Some((name, kind)) = left.next() else {
            pending.pop();
            continue;
        };
        match kind {
            libc::S_IFDIR => match store.open_dir(dir, &name) {
                Ok(below) => {
                    tell(visit(Target::Dir(&below)), dir.show(&name))?;
                    let left = below.entries()?.into_iter();
                    pending.push((below, left));
                }
                Err(error) => tell(Err(error), dir.show(&name))?,
            },
            libc::S_IFREG if dir.bucket().is_some() => {
                tell(visit(Target::Name(dir, &name)), dir.show(&name))?;
            }
            _ => {}
        }
    }
    refused
}

/// The id of a directory. Nothing else but a file can have values.
fn of_directory(carrier: Carrier<'_>, make: bool) -> Result<(Owner, Carrier<'_>)> {
    let attribute = OsStr::new(DIRECTORY_ID);
    let found = match carrier.get(attribute) {
        Err(error) if error.is_errno(Errno::NODATA) && make => {
            let id: [u8; 16] = random::bytes();
            match carrier.set(attribute, &id, XattrFlags::Create) {
                Ok(()) => Ok(id.to_vec()),
                // Somebody else was first.
                Err(error) if error.is_errno(Errno::EXIST) => carrier.get(attribute),
                Err(error) => Err(error),
            }
        }
        found => found,
    };
    match found {
        Ok(id) if id.len() == 16 => Ok((Owner::Directory(id), carrier)),
        Ok(_) => Ok((Owner::Unknown, carrier)),
        Err(error) if error.is_errno(Errno::NODATA) => Ok((Owner::Unknown, carrier)),
        Err(error) => Err(error),
    }
}

/// Attributes below whose values are sealed.
fn sealed_names(at: Target<'_>) -> Result<Vec<OsString>> {
    match Carrier::of(at)?.names() {
        // The file system has no attributes.
        Err(error) if error.is_errno(Errno::OPNOTSUPP) => Ok(Vec::new()),
        names => Ok(names?.into_iter().filter(|name| is_sealed(name)).collect()),
    }
}
