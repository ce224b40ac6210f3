//! What can still be read of an object that does not open: chunk by chunk, each by its own tag.
//!
//! A chunk's tag vouches for its object, its place and its key epoch, not for its age: what is salvaged may be older
//! than what was committed last. That is why only a repair reads in this way.

use super::unverified::{read_header, read_sidecar};
use crate::object::keyed::{Keys, unwrap_keys};
use crate::object::lifetime::Home;
use crate::{Error, Result, Store};
use kmsfs_crypto::Suite;
use kmsfs_format::ObjectId;
use kmsfs_format::entry::Entry;
use kmsfs_format::header::{ENTRIES_AT, Header, Seal};
use kmsfs_format::layout::{BLOCK, ChunkIndex, CipherLen, EntrySlot, Geometry, PlainLen};
use kmsfs_format::sidecar::{Kind, Place, Record, Sidecar};
use kmsfs_kms::Caller;

/// The remains of one object.
pub(crate) struct Remains {
    home: Home,
    keys: Keys,
    pub(crate) sidecar: Sidecar,
    geometry: Geometry,
    pub(crate) length: PlainLen,
    header: Vec<u8>,
    /// The table page that was read last, and where it is.
    page: (u64, Vec<u8>),
}

pub(crate) enum Salvaged {
    Hole,
    /// So many bytes at the beginning of the buffer.
    Data(usize),
    Lost,
}

impl Remains {
    /// `known` is where the record of this inode is, and whose it says it is: for an object whose header is gone.
    pub(crate) fn find(store: &Store, home: Home, known: Option<(ObjectId, Place)>, caller: &Caller) -> Result<Self> {
        let known = known.map(|(id, place)| stand_in(id, place));
        let own = read_header(home.file.as_ref());
        let mut found = Err(Error::Corrupt("neither its header nor a sidecar says which object it is".into()));
        for header in own.iter().chain(&known) {
            found = keys_of(store, header, caller);
            if found.is_ok() {
                break;
            }
        }
        let (sidecar, keys) = found?;
        let mut block = vec![0; BLOCK as usize];
        home.read(0, &mut block)?;
        let key = keys.newest()?;
        let sealed = own.ok().filter(|header| key.verify_seal(Header::sealed(&block), &header.mac).is_ok());
        let geometry = Geometry::of(key.suite());
        let length = match sealed {
            Some(header) => header.seal.length,
            None => longest(home.length_of(&home.file.metadata()?), geometry),
        };
        Ok(Self { home, keys, sidecar, geometry, length, header: block, page: (0, Vec::new()) })
    }

    /// The first chunk from this one on, before `end`, that may be there; `end` if none is. Where the object file has a
    /// hole there is neither a chunk nor a table that tells of one.
    pub(crate) fn skip_holes(&self, chunk: u64, end: u64) -> Result<u64> {
        let EntrySlot::Page(page, 0) = ChunkIndex(chunk).slot(self.geometry) else { return Ok(chunk) };
        if self.home.patch.is_some() {
            return Ok(chunk);
        }
        let data = self.home.file.next_data(page.table().offset(self.geometry))?;
        let first = data.and_then(|data| self.geometry.page_at(data)).map(|page| page.first_chunk(self.geometry).0);
        Ok(first.map_or(end, |first| first.clamp(chunk, end)))
    }

    /// One chunk, into a buffer of a chunk's length.
    pub(crate) fn chunk(&mut self, chunk: ChunkIndex, bytes: &mut [u8]) -> Result<Salvaged> {
        let have = self.length.bytes_in(chunk);
        let geometry = self.geometry;
        let entry = match chunk.slot(geometry) {
            EntrySlot::Header(n) => Entry::read(&self.header[ENTRIES_AT..], n, geometry),
            EntrySlot::Page(page, n) => Entry::read(self.page(page.table().offset(geometry))?, n, geometry),
        };
        let entry = match entry {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Salvaged::Hole),
            Err(_) => return Ok(Salvaged::Lost),
        };
        if self.home.read(chunk.offset(geometry), &mut bytes[..have])? < have {
            return Ok(Salvaged::Lost);
        }
        let Ok(cipher) = self.keys.cipher(entry.epoch) else { return Ok(Salvaged::Lost) };
        Ok(match cipher.open(chunk.0, &entry.tag, &mut bytes[..have]) {
            Ok(()) => Salvaged::Data(have),
            Err(_) => Salvaged::Lost,
        })
    }

    fn page(&mut self, offset: u64) -> Result<&[u8]> {
        if self.page.0 != offset {
            let mut page = vec![0; BLOCK as usize];
            let read = self.home.read(offset, &mut page)?;
            page[read..].fill(0);
            self.page = (offset, page);
        }
        Ok(&self.page.1)
    }
}

/// A header for an object file that has none, as far as it is needed to find the keys.
fn stand_in(object_id: ObjectId, sidecar: Place) -> Header {
    let seal =
        Seal { sequence: 0, length: PlainLen(0), entries: [0; 32], top: [0; 32], epoch: 0, encryptions: 0, md5: None };
    Header { object_id, suite: Suite::Aes256Gcm, seal, mac: [0; 32], sidecar }
}

fn keys_of(store: &Store, header: &Header, caller: &Caller) -> Result<(Sidecar, Keys)> {
    let (sidecar, record) = read_sidecar(&store.segments, store.segments.patched(header.sidecar), header)?;
    let keys = unwrap_keys(store, &sidecar, header.object_id, caller)?;
    let authenticated = Record::authenticated(Kind::Sidecar, &header.object_id, &record.body);
    keys.newest()?.verify_sidecar(&authenticated, &record.mac).map_err(|why| Error::corrupt("sidecar", why))?;
    Ok((sidecar, keys))
}

/// The longest object that a file of this length has room for.
fn longest(len: u64, geometry: Geometry) -> PlainLen {
    let mut len = len;
    loop {
        match CipherLen(len).plain(geometry) {
            Ok(plain) => return plain,
            Err(_) if len < BLOCK => return PlainLen(0),
            // Inside a page or a node: back to the block before.
            Err(_) => len = (len - 1) / BLOCK * BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_no_writer_makes_is_taken_back_to_one() {
        assert_eq!(longest(0, Geometry::Single), PlainLen(0));
        assert_eq!(longest(100, Geometry::Single), PlainLen(0));
        assert_eq!(longest(4096, Geometry::Single), PlainLen(0));
        assert_eq!(longest(4097, Geometry::Single), PlainLen(1));
        // Inside the first table page, and at its end.
        assert_eq!(longest(266_241, Geometry::Single), PlainLen(262_144));
        assert_eq!(longest(270_336, Geometry::Single), PlainLen(262_144));
        assert_eq!(longest(270_337, Geometry::Single), PlainLen(262_145));
        // Inside a node and the page behind it.
        assert_eq!(longest(802_816, Geometry::Single), PlainLen(786_432));
        // 32 chunks and a page; inside the page.
        assert_eq!(longest(135_169, Geometry::Dual), PlainLen(131_072));
        assert_eq!(longest(139_265, Geometry::Dual), PlainLen(131_073));
    }
}
