//! What the files of an object say of it, before its data key has vouched for them.

use crate::backend::{File, Metadata};
use crate::local::segments::Segments;
use crate::object::lifetime::Home;
use crate::{Error, Result, Store};
use kmsfs_format::ObjectId;
use kmsfs_format::header::Header;
use kmsfs_format::layout::BLOCK;
use kmsfs_format::sidecar::{Kind, Record, Sidecar};
use std::cell::RefCell;

/// Ciphertext that is read along with the header.
const AHEAD: usize = 32 << 10;

thread_local! {
    static FIRST: RefCell<Box<[u8]>> = RefCell::new(vec![0; BLOCK as usize + AHEAD].into());
}

pub(crate) struct Unverified<'a> {
    pub(in crate::object) home: Home,
    pub(in crate::object) metadata: Metadata,
    /// The header block, and what was read along with it.
    pub(in crate::object) first: &'a [u8],
    pub(in crate::object) header: Header,
    pub(crate) sidecar: Sidecar,
    pub(in crate::object) record: Record,
}

impl Unverified<'_> {
    /// Whose object it says it is.
    pub(crate) fn id(&self) -> ObjectId {
        self.header.object_id
    }

    /// Reads what they say, for something to be done with it; `metadata` is the object file's, `show` names it.
    pub(crate) fn read<T, E: From<Error>>(
        store: &Store,
        home: Home,
        metadata: Metadata,
        show: &dyn Fn() -> String,
        act: impl FnOnce(Unverified<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        FIRST.with_borrow_mut(|first| {
            // Not beyond its end: that would be a call more to find out that it is the end.
            let len = home.length_of(&metadata).min(first.len() as u64) as usize;
            let read = home.read(0, &mut first[..len])?;
            let first = &first[..read];
            let header = Header::read(first).map_err(|why| Error::from(why).of(&show()))?;
            let record = read_sidecar(&store.segments, store.segments.patched(header.sidecar), &header);
            let (sidecar, record) = record.map_err(|error| error.of(&show()))?;
            act(Unverified { home, metadata, first, header, sidecar, record })
        })
    }
}

/// The header of an object file: for who it is and where its sidecar is.
pub(crate) fn read_header(file: &dyn File) -> Result<Header> {
    let mut block = [0; BLOCK as usize];
    let read = file.read_at(&mut block, 0)?;
    Ok(Header::read(&block[..read])?)
}

pub(in crate::object) fn read_sidecar(
    segments: &Segments,
    patched: Option<Vec<u8>>,
    header: &Header,
) -> Result<(Sidecar, Record)> {
    let bytes = match patched {
        Some(bytes) => bytes,
        None => segments.read(header.sidecar).map_err(|error| match error {
            Error::Errno(libc::ENOENT) => Error::Corrupt("its sidecar's segment is missing".into()),
            error => error,
        })?,
    };
    let record = Record::read(&bytes)?;
    if record.kind != Kind::Sidecar || record.object_id != header.object_id {
        return Err(Error::Corrupt("the sidecar is another object's".into()));
    }
    Ok((Sidecar::decode(&record.body)?, record))
}
