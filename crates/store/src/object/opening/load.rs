//! Objects coming into being: made new, or read and verified from their files.

use crate::Volume;
use crate::backend::{File, Metadata};
use crate::mistakes::Mistake;
use crate::object::content::{Content, Tables};
use crate::object::durability::Durability;
use crate::object::keyed::{Keyed, Keys, unwrap_keys};
use crate::object::lifetime::{Home, Lifetime};
use crate::object::opening::Unverified;
use crate::object::shown::Shown;
use crate::object::{Object, State};
use crate::{Error, Result, Store};
use kmsfs_crypto::DataKey;
use kmsfs_format::header::{ENTRIES_AT, Header};
use kmsfs_format::layout::{BLOCK, CHUNK, CipherLen, Geometry, PlainLen};
use kmsfs_format::sidecar::{Kind, Record};
use kmsfs_kms::Caller;
use kmsfs_sse::WrappedDataKey;
use std::sync::Arc;

/// A data key with everything a new object is made from.
pub(crate) struct NewObject<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) path: Vec<u8>,
    pub(crate) data_key: DataKey,
    pub(crate) wrapped: WrappedDataKey,
}

impl Object {
    /// An empty object over an empty file: nothing is written before its first commit.
    pub(crate) fn new(store: &Store, file: Arc<dyn File>, new: NewObject<'_>) -> Result<Self> {
        let ino = file.ino();
        let keyed = Keyed::new(store, ino, new.bucket, new.data_key, new.wrapped)?;
        let tables = Tables::new(Geometry::of(keyed.suite()), store.seeded);
        let state = State {
            content: Content::new(PlainLen(0), tables, None, &store.objects.memory),
            durability: Durability::new(store.seeded),
            keyed,
            lifetime: Lifetime::new(Home { file, patch: None }, new.path),
            shown: Shown::default(),
        };
        Ok(Self::with(store, ino, state, Vec::new()))
    }

    /// Verifies downwards with the data keys: sidecar, seal, tag entries, the tree's top. `unsynced`: it may never have
    /// been durable, so not all of it need be there.
    pub(crate) fn load(
        store: &Store,
        found: Unverified<'_>,
        keys: Keys,
        path: Vec<u8>,
        unsynced: bool,
    ) -> Result<Self> {
        let Unverified { home, metadata, first, mut header, sidecar, record } = found;
        let show = String::from_utf8_lossy(&path).into_owned();
        let corrupt = |finding: &dyn std::fmt::Display| Error::corrupt(&show, finding);
        let geometry = Geometry::of(header.suite);
        let authenticated = Record::authenticated(Kind::Sidecar, &header.object_id, &record.body);
        let key = keys.newest()?;
        if key.suite() != header.suite {
            return Err(corrupt(&"header and sidecar disagree about its layers of encryption"));
        }
        key.verify_sidecar(&authenticated, &record.mac).map_err(|why| corrupt(&format_args!("sidecar: {why}")))?;
        if !store.seeded.is(Mistake::SealOfAnyObject) {
            key.verify_seal(Header::sealed(first), &header.mac).map_err(|why| corrupt(&format_args!("seal: {why}")))?;
        }
        if store.seeded.is(Mistake::LengthFromFile) {
            header.seal.length = CipherLen(home.length_of(&metadata)).plain(geometry).unwrap_or(header.seal.length);
        }
        check_length(store, &home, &metadata, header.seal.length.cipher(geometry), unsynced)
            .map_err(|finding| corrupt(&finding))?;
        let entries = &first[ENTRIES_AT..BLOCK as usize];
        let tables = Tables::load(entries, geometry, header.seal.length, &header.seal, store.seeded);
        let tables = tables.map_err(|error| error.of(&show))?;
        // The last chunk of what was read ahead may be cut, and what lies beyond the first group is no chunk.
        let ahead = &first[BLOCK as usize..];
        let known = header.seal.length.0.min(geometry.header_chunks() * CHUNK).min(ahead.len() as u64);
        let ahead = ahead[..known as usize].to_vec();
        let state = State {
            content: Content::new(header.seal.length, tables, header.seal.md5, &store.objects.memory),
            durability: Durability::found(header.seal, store.seeded),
            keyed: Keyed::found(&header, keys, sidecar, &record),
            lifetime: Lifetime::new(home, path),
            shown: Shown::default(),
        };
        Ok(Self::with(store, metadata.ino, state, ahead))
    }
}

impl Unverified<'_> {
    /// Asks for the data keys on behalf of a caller, if it is an object of that bucket.
    pub(crate) fn unwrap_keys(&self, store: &Store, bucket: &str, path: &[u8], caller: &Caller) -> Result<Keys> {
        let keys = if self.sidecar.bucket == bucket {
            unwrap_keys(store, &self.sidecar, self.id(), caller)
        } else {
            Err(Error::Corrupt(format!("it belongs to the bucket {}", self.sidecar.bucket)))
        };
        keys.map_err(|error| error.of(&String::from_utf8_lossy(path)))
    }
}

/// A shorter file than the seal says is damage. So is a longer one, unless a crash may have left it so.
fn check_length(
    store: &Store,
    home: &Home,
    metadata: &Metadata,
    sealed: CipherLen,
    unsynced: bool,
) -> std::result::Result<(), String> {
    let len = home.length_of(metadata);
    if CipherLen(len) < sealed && !unsynced {
        return Err(format!("the object file is shorter ({len} bytes) than its seal says ({})", sealed.0));
    }
    if CipherLen(len) > sealed {
        if !store.aftermath.may_be_longer(metadata.ctime) {
            return Err(format!("the object file is longer ({len} bytes) than its seal says ({})", sealed.0));
        }
        if !store.read_only() {
            home.file.set_len(sealed.0).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
