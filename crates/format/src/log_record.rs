//! Bytes of the redo log's records. It knows no key and nothing of what they carry; the log's header is in
//! `log_header`.

use super::ObjectId;
use super::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};

/// Where records begin in the log file; the header is one sector, written whole or not at all.
pub const RECORDS_AT: u64 = 4096;
const RECORD_HEADER: usize = 72;
/// Records begin at multiples of it.
pub const ALIGN: usize = 8;
/// Longest path that a record carries as a hint; for a longer one recovery walks the tree.
pub const MAX_HINT: usize = 2048;

const RECORD_MAGIC: &[u8; 4] = b"KLR1";
/// Bytes of a mark before its list.
const MARK: usize = 48;
const MARK_MAC: std::ops::Range<usize> = 16..MARK;
const SETTLED: u32 = 1;
/// Kind of a mark. Kind 3 was version 1's, without a MAC and a list.
const MARKED: u8 = 5;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// These bytes at this offset of the object file.
    Object {
        /// In the object file.
        offset: u64,
        /// What is written there.
        bytes: &'a [u8],
    },
    /// These bytes at this offset of a segment of sidecars.
    Segment {
        /// Number of the segment.
        segment: u32,
        /// In the segment file.
        offset: u64,
        /// What is written there.
        bytes: &'a [u8],
    },
    /// Commits every record of the object before it.
    Mark(Mark<'a>),
    /// A hint only: an object that is found lives.
    Dead,
}

/// A commit, and what it takes to find out after a crash whether all of it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    /// Of the object file.
    pub length: u64,
    /// Writes straight home up to this one were known durable: what earlier marks say of them no longer matters.
    pub synced: u64,
    /// Nothing that the object refers to at home is in doubt, but for what marks list.
    pub settled: bool,
    /// How many marks are before it in the log, of whatever objects: none can be passed over unnoticed. The log counts.
    pub before: u32,
    /// Chunks that went straight home, that the commit refers to, and that neither a sync covers nor an earlier mark
    /// lists: see `home_writes`.
    pub homes: &'a [u8],
}

/// One chunk that went straight home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HomeWrite {
    /// Which of the object's writes straight home it was, counted since the object came into memory.
    pub number: u64,
    /// In the object file.
    pub offset: u64,
    /// Its length, in bytes.
    pub len: u32,
    /// CRC-32 of its bytes.
    pub crc: u32,
}

impl HomeWrite {
    /// Bytes that it takes in a mark.
    pub const SIZE: usize = 24;

    /// Appends its form in a mark's list, of [`Self::SIZE`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
    }
}

impl Mark<'_> {
    /// Takes `homes` apart.
    pub fn home_writes(&self) -> impl Iterator<Item = HomeWrite> {
        self.homes.chunks_exact(HomeWrite::SIZE).map(|bytes| HomeWrite {
            number: u64_at(bytes, 0),
            offset: u64_at(bytes, 8),
            len: u32_at(bytes, 16),
            crc: u32_at(bytes, 20),
        })
    }
}

/// Whether a MAC is that of these bytes.
pub type Verify<'a> = dyn Fn(&[&[u8]], &[u8]) -> bool + 'a;

/// Which marks count.
#[derive(Clone, Copy)]
pub enum Marks<'a> {
    /// Those of version 1, which nothing authenticates.
    Plain,
    /// Those whose MAC this verifies, of the bytes that it covers.
    Sealed(&'a Verify<'a>),
}

/// A record, without the checksum and position that are written with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The object that it is of.
    pub object_id: ObjectId,
    /// Path below `buckets/` that the object had when it first appended in this epoch; empty otherwise.
    pub hint: &'a [u8],
    /// What it says.
    pub body: Body<'a>,
}

/// Bytes that a record takes in the log, padding included.
pub(crate) fn record_len(hint: usize, bytes: usize) -> usize {
    (RECORD_HEADER + hint + bytes).next_multiple_of(ALIGN)
}

/// Offset of the bytes within a record.
pub fn bytes_at(hint: usize) -> usize {
    RECORD_HEADER + hint
}

impl Record<'_> {
    /// Bytes that it takes in the log.
    pub fn size(&self) -> usize {
        let bytes = match self.body {
            Body::Object { bytes, .. } | Body::Segment { bytes, .. } => bytes.len(),
            Body::Mark(mark) => MARK + mark.homes.len(),
            Body::Dead => 0,
        };
        record_len(self.hint.len(), bytes)
    }

    /// Appends the record to a buffer that will be written at a place of the log. `durable` is the position up to which
    /// the log is known durable: damage before it is corruption, not a torn tail. `mac` computes a mark's MAC.
    pub fn write(&self, epoch: u64, place: u64, durable: u64, mac: &dyn Fn(&[&[u8]]) -> [u8; 32], out: &mut Vec<u8>) {
        let mut of_mark = Vec::new();
        let (kind, segment, offset, bytes): (u8, u32, u64, &[u8]) = match self.body {
            Body::Object { offset, bytes } => (1, 0, offset, bytes),
            Body::Segment { segment, offset, bytes } => (2, segment, offset, bytes),
            Body::Mark(mark) => {
                of_mark.extend_from_slice(&mark.synced.to_le_bytes());
                of_mark.extend_from_slice(&(if mark.settled { SETTLED } else { 0 }).to_le_bytes());
                of_mark.extend_from_slice(&mark.before.to_le_bytes());
                of_mark.resize(MARK, 0);
                of_mark.extend_from_slice(mark.homes);
                (MARKED, 0, mark.length, &of_mark)
            }
            Body::Dead => (4, 0, 0, &[]),
        };
        let start = out.len();
        out.resize(start + record_len(self.hint.len(), bytes.len()), 0);
        let record = &mut out[start..];
        put(record, 0, RECORD_MAGIC);
        record[8] = kind;
        put(record, 10, &(self.hint.len() as u16).to_le_bytes());
        put(record, 12, &segment.to_le_bytes());
        put(record, 16, &epoch.to_le_bytes());
        put(record, 24, &place.to_le_bytes());
        put(record, 32, &durable.to_le_bytes());
        put(record, 40, &self.object_id.0);
        put(record, 56, &offset.to_le_bytes());
        put(record, 64, &(bytes.len() as u32).to_le_bytes());
        put(record, RECORD_HEADER, self.hint);
        put(record, RECORD_HEADER + self.hint.len(), bytes);
        if kind == MARKED {
            let at = RECORD_HEADER + self.hint.len() + MARK_MAC.start;
            let mac = mac(&covered(record, at));
            put(record, at, &mac);
        }
        let crc = crc32fast::hash(&record[8..]);
        put(record, 4, &crc.to_le_bytes());
    }

    /// The record at a place of the log whose bytes from there on are `bytes`, its length and its durable position.
    /// `None` if no whole record of this epoch and place is there, or a mark that does not count.
    pub fn read<'a>(bytes: &'a [u8], epoch: u64, place: u64, marks: Marks<'_>) -> Option<(Record<'a>, usize, u64)> {
        if bytes.len() < RECORD_HEADER || &bytes[..4] != RECORD_MAGIC {
            return None;
        }
        if u64_at(bytes, 16) != epoch || u64_at(bytes, 24) != place {
            return None;
        }
        let (hint, count) = (usize::from(u16_at(bytes, 10)), u32_at(bytes, 64) as usize);
        let len = record_len(hint, count);
        if bytes.len() < len || crc32fast::hash(&bytes[8..len]) != u32_at(bytes, 4) || !is_zero(&bytes[68..72]) {
            return None;
        }
        let payload = &bytes[RECORD_HEADER + hint..RECORD_HEADER + hint + count];
        let offset = u64_at(bytes, 56);
        let body = match bytes[8] {
            1 => Body::Object { offset, bytes: payload },
            2 => Body::Segment { segment: u32_at(bytes, 12), offset, bytes: payload },
            3 if matches!(marks, Marks::Plain) => {
                Body::Mark(Mark { length: offset, synced: u64::MAX, settled: false, before: 0, homes: &[] })
            }
            MARKED => Body::Mark(Self::read_mark(bytes, (hint, len), payload, offset, marks)?),
            4 => Body::Dead,
            _ => return None,
        };
        let record =
            Record { object_id: ObjectId(array(bytes, 40)), hint: &bytes[RECORD_HEADER..RECORD_HEADER + hint], body };
        Some((record, len, u64_at(bytes, 32)))
    }

    fn read_mark<'a>(
        bytes: &[u8],
        (hint, len): (usize, usize),
        payload: &'a [u8],
        length: u64,
        marks: Marks<'_>,
    ) -> Option<Mark<'a>> {
        let Marks::Sealed(verify) = marks else { return None };
        if payload.len() < MARK || !(payload.len() - MARK).is_multiple_of(HomeWrite::SIZE) {
            return None;
        }
        let covered = covered(&bytes[..len], RECORD_HEADER + hint + MARK_MAC.start);
        let flags = u32_at(payload, 8);
        if !verify(&covered, &payload[MARK_MAC]) || flags & !SETTLED != 0 {
            return None;
        }
        let (synced, before) = (u64_at(payload, 0), u32_at(payload, 12));
        Some(Mark { length, synced, settled: flags == SETTLED, before, homes: &payload[MARK..] })
    }
}

/// What of a mark's record its MAC covers: everything but the checksum before it, and the MAC at this place.
fn covered(record: &[u8], mac_at: usize) -> [&[u8]; 2] {
    [&record[8..mac_at], &record[mac_at + MARK_MAC.len()..]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = [7; 32];
        mac[..4].copy_from_slice(&crc32fast::hash(&parts.concat()).to_le_bytes());
        mac
    }

    const SEALED: Marks<'static> = Marks::Sealed(&|parts, tag| mac(parts) == tag);

    fn mark(homes: &[u8]) -> Body<'_> {
        Body::Mark(Mark { length: 8192, synced: 3, settled: true, before: 2, homes })
    }

    #[test]
    fn records_read_back_at_their_place_and_epoch_only() {
        let mut homes = Vec::new();
        HomeWrite { number: 9, offset: 4096, len: 100, crc: 77 }.write(&mut homes);
        HomeWrite { number: 10, offset: 8192, len: 4096, crc: 78 }.write(&mut homes);
        let bodies = [
            Body::Object { offset: 4096, bytes: b"abc" },
            Body::Segment { segment: 3, offset: 512, bytes: b"sidecar" },
            mark(&[]),
            mark(&homes),
            Body::Dead,
        ];
        for body in bodies {
            let record = Record { object_id: ObjectId([1; 16]), hint: b"bucket/key", body };
            let mut bytes = Vec::new();
            record.write(5, 4096, 77, &mac, &mut bytes);
            assert_eq!((bytes.len() % ALIGN, bytes.len()), (0, record.size()));
            assert_eq!(Record::read(&bytes, 5, 4096, SEALED), Some((record, bytes.len(), 77)));
            assert_eq!(Record::read(&bytes, 6, 4096, SEALED), None);
            assert_eq!(Record::read(&bytes, 5, 4104, SEALED), None);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::read(&damaged, 5, 4096, SEALED), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_mark_lists_what_went_straight_home() {
        let writes = [
            HomeWrite { number: 9, offset: 4096, len: 100, crc: 77 },
            HomeWrite { number: 10, offset: 0, len: 1, crc: 2 },
        ];
        let mut homes = Vec::new();
        for write in &writes {
            write.write(&mut homes);
        }
        let mark = Mark { length: 0, synced: 0, settled: false, before: 0, homes: &homes };
        assert_eq!(mark.home_writes().collect::<Vec<_>>(), writes);
    }

    /// A checksum can be made by anybody: whoever changes a mark makes that right too.
    #[test]
    fn a_changed_mark_with_a_right_checksum_does_not_count() {
        let record = Record { object_id: ObjectId([1; 16]), hint: b"bucket/key", body: mark(&[1; HomeWrite::SIZE]) };
        let mut bytes = Vec::new();
        record.write(5, 4096, 77, &mac, &mut bytes);
        for bit in (8 * 8..bytes.len() * 8).filter(|bit| !(16..32).contains(&(bit / 8))) {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let crc = crc32fast::hash(&forged[8..]);
            put(&mut forged, 4, &crc.to_le_bytes());
            // Of another kind it may be, as a record that anybody writes: a mark it is not, and the next one counts it.
            let read = Record::read(&forged, 5, 4096, SEALED);
            let is_mark = matches!(&read, Some((Record { body: Body::Mark(_), .. }, ..)));
            assert!(!is_mark, "bit {bit}: {read:?}");
            assert!(read.is_none() || bit / 8 == 8, "bit {bit}: {read:?}");
        }
        // Nor does one of version 1 beside them.
        let mut old = vec![0; RECORD_HEADER];
        put(&mut old, 0, RECORD_MAGIC);
        old[8] = 3;
        put(&mut old, 16, &5_u64.to_le_bytes());
        put(&mut old, 24, &4096_u64.to_le_bytes());
        let crc = crc32fast::hash(&old[8..]);
        put(&mut old, 4, &crc.to_le_bytes());
        assert!(Record::read(&old, 5, 4096, Marks::Plain).is_some());
        assert_eq!(Record::read(&old, 5, 4096, SEALED), None);
    }
}
