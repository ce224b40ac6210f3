//! The header block of an object file: identity, seal, place of the sidecar, and the first tag entries.

use super::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use super::layout::{BLOCK, CHUNK, HEADER_ENTRIES, MAX_PLAIN, PlainLen};
use super::sidecar::Place;
use super::tree::Hash;
use super::{Malformed, ObjectId, VERSION};
use kmsfs_crypto::Suite;

const MAGIC: &[u8; 8] = b"KMSFSOBJ";
/// Everything before it is under the seal's MAC.
const MAC_AT: usize = 144;
const PLACE_AT: usize = 176;
const USED: usize = 192;
/// What a commit changes, beside entries: the seal with its MAC, and the sidecar's place.
pub const SEAL: std::ops::Range<usize> = 32..USED;
/// The same, of a commit that changes the cipher suite.
pub const SUITE_AND_SEAL: std::ops::Range<usize> = 10..USED;
/// Where the tag entries begin.
pub const ENTRIES_AT: usize = BLOCK as usize - HEADER_ENTRIES;

const HAS_MD5: u16 = 1;

/// A header block without its tag entries, as it stands on disk: nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Names the object for as long as it lives.
    pub object_id: ObjectId,
    /// How its chunks are encrypted.
    pub suite: Suite,
    /// Its last committed state.
    pub seal: Seal,
    /// HMAC-SHA-256 of the seal and all before it, under a key derived from the data key.
    pub mac: [u8; 32],
    /// Where its sidecar record is; not under the MAC, since records move.
    pub sidecar: Place,
}

/// An object's last committed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Grows by one with each commit.
    pub sequence: u64,
    /// Of the content.
    pub length: PlainLen,
    /// Hash of the header's tag entries.
    pub entries: Hash,
    /// Hash of the hash tree's top.
    pub top: Hash,
    /// Key epoch of new chunks, and chunks encrypted in it so far.
    pub epoch: u16,
    /// Chunks that were encrypted in `epoch` so far.
    pub encryptions: u64,
    /// The content's MD5 where a PUT under AES256 gave it: S3's ETag.
    pub md5: Option<[u8; 16]>,
}

impl Header {
    /// Takes a header block apart.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: it is cut off, of another format or version, or says something that no writer writes.
    pub fn read(block: &[u8]) -> Result<Self, Malformed> {
        if block.len() < BLOCK as usize {
            return Err(Malformed("the header block is cut off"));
        }
        if &block[..8] != MAGIC {
            return Err(Malformed("this is not an object file"));
        }
        if u16_at(block, 8) != VERSION {
            return Err(Malformed("an object file of another format version"));
        }
        let suite = Suite::from_number(u16_at(block, 10)).ok_or(Malformed("an unknown cipher suite"))?;
        if u64::from(u32_at(block, 12)) != CHUNK {
            return Err(Malformed("an unknown chunk size"));
        }
        let flags = u16_at(block, 122);
        let md5: [u8; 16] = array(block, 128);
        let length = u64_at(block, 40);
        let unused = is_zero(&block[124..128]) && is_zero(&block[USED..ENTRIES_AT]);
        if !unused || flags & !HAS_MD5 != 0 || (flags == 0 && !is_zero(&md5)) {
            return Err(Malformed("unused bytes of the header are not zero"));
        }
        if length > MAX_PLAIN {
            return Err(Malformed("the sealed length is impossible"));
        }
        Ok(Self {
            object_id: ObjectId(array(block, 16)),
            suite,
            seal: Seal {
                sequence: u64_at(block, 32),
                length: PlainLen(length),
                entries: array(block, 48),
                top: array(block, 80),
                encryptions: u64_at(block, 112),
                epoch: u16_at(block, 120),
                md5: (flags == HAS_MD5).then_some(md5),
            },
            mac: array(block, MAC_AT),
            sidecar: Place::read(block, PLACE_AT)?,
        })
    }

    /// The block's first half; `mac` computes the MAC of the bytes that the seal covers.
    pub fn write(
        object_id: ObjectId,
        suite: Suite,
        seal: &Seal,
        sidecar: Place,
        mac: impl FnOnce(&[u8]) -> [u8; 32],
    ) -> [u8; ENTRIES_AT] {
        let mut block = [0; ENTRIES_AT];
        put(&mut block, 0, MAGIC);
        put(&mut block, 8, &VERSION.to_le_bytes());
        put(&mut block, 10, &(suite as u16).to_le_bytes());
        put(&mut block, 12, &(CHUNK as u32).to_le_bytes());
        put(&mut block, 16, &object_id.0);
        put(&mut block, 32, &seal.sequence.to_le_bytes());
        put(&mut block, 40, &seal.length.0.to_le_bytes());
        put(&mut block, 48, &seal.entries);
        put(&mut block, 80, &seal.top);
        put(&mut block, 112, &seal.encryptions.to_le_bytes());
        put(&mut block, 120, &seal.epoch.to_le_bytes());
        if let Some(md5) = &seal.md5 {
            put(&mut block, 122, &HAS_MD5.to_le_bytes());
            put(&mut block, 128, md5);
        }
        let mac = mac(&block[..MAC_AT]);
        put(&mut block, MAC_AT, &mac);
        sidecar.write(&mut block, PLACE_AT);
        block
    }

    /// The bytes of a header block that the seal's MAC covers.
    pub fn sealed(block: &[u8]) -> &[u8] {
        &block[..MAC_AT]
    }
}

/// The object id in something that begins like a header block, for recovery, which verifies nothing.
pub fn object_id(block: &[u8]) -> Option<ObjectId> {
    (block.len() >= 32 && &block[..8] == MAGIC).then(|| ObjectId(array(block, 16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> (Header, [u8; 4096]) {
        let seal = Seal {
            sequence: 7,
            length: PlainLen(12345),
            entries: [9; 32],
            top: [8; 32],
            epoch: 2,
            encryptions: 77,
            md5: Some([5; 16]),
        };
        let sidecar = Place { segment: 1, unit: 2, units: 3 };
        let id = ObjectId([4; 16]);
        let half = Header::write(id, Suite::Aes256Gcm, &seal, sidecar, |_| [6; 32]);
        let mut block = [0; 4096];
        block[..ENTRIES_AT].copy_from_slice(&half);
        (Header { object_id: id, suite: Suite::Aes256Gcm, seal, mac: [6; 32], sidecar }, block)
    }

    #[test]
    fn a_header_reads_back() {
        let (header, block) = header();
        assert_eq!(Header::read(&block), Ok(header));
        assert_eq!(object_id(&block), Some(ObjectId([4; 16])));
    }

    #[test]
    fn every_flipped_bit_of_the_first_half_changes_what_is_read_or_is_refused() {
        let (header, block) = header();
        for bit in 0..ENTRIES_AT * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Header::read(&damaged), Ok(header.clone()), "bit {bit}");
        }
    }

    #[test]
    fn a_short_block_is_refused() {
        assert_eq!(Header::read(&header().1[..4095]), Err(Malformed("the header block is cut off")));
    }
}
