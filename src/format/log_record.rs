//! Bytes of the redo log: its header sector and its records. It knows no key and nothing of what it carries.

use super::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use super::{Malformed, ObjectId, VERSION};

/// Where records begin in the log file; the header is one sector, written whole or not at all.
pub const RECORDS_AT: u64 = 4096;
pub const HEADER: usize = 512;
const RECORD_HEADER: usize = 72;
/// Records begin at multiples of it.
pub const ALIGN: usize = 8;
/// Longest path that a record carries as a hint; for a longer one recovery walks the tree.
pub const MAX_HINT: usize = 2048;

const LOG_MAGIC: &[u8; 8] = b"KMSFSLOG";
const RECORD_MAGIC: &[u8; 4] = b"KLR1";

/// The log's header: which records count, and what is known of the time since the last clean close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogHeader {
    /// Records of another epoch are left over from before and are not read.
    pub epoch: u64,
    /// The end of the last checkpoint that left no object uncommitted, nanoseconds since 1970.
    pub written: i64,
    /// Object files changed in this span (ctime) may be longer than their seal says: a crash left them so.
    pub untidy: Option<(i64, i64)>,
    /// Closed by an unmount; nothing was changed since.
    pub clean: bool,
}

impl LogHeader {
    pub fn write(&self) -> [u8; HEADER] {
        let mut sector = [0; HEADER];
        put(&mut sector, 0, LOG_MAGIC);
        put(&mut sector, 8, &VERSION.to_le_bytes());
        put(&mut sector, 16, &self.epoch.to_le_bytes());
        put(&mut sector, 24, &self.written.to_le_bytes());
        sector[10] = u8::from(self.clean);
        if let Some((from, to)) = self.untidy {
            sector[11] = 1;
            put(&mut sector, 32, &from.to_le_bytes());
            put(&mut sector, 40, &to.to_le_bytes());
        }
        let crc = crc32fast::hash(&sector[..HEADER - 4]);
        put(&mut sector, HEADER - 4, &crc.to_le_bytes());
        sector
    }

    pub fn read(sector: &[u8]) -> Result<Self, Malformed> {
        if sector.len() < HEADER || &sector[..8] != LOG_MAGIC {
            return Err(Malformed("the redo log has no header"));
        }
        if crc32fast::hash(&sector[..HEADER - 4]) != u32_at(sector, HEADER - 4) {
            return Err(Malformed("the redo log's header is damaged"));
        }
        if u16_at(sector, 8) != VERSION {
            return Err(Malformed("a redo log of another format version"));
        }
        let time = |at| u64_at(sector, at).cast_signed();
        Ok(Self {
            epoch: u64_at(sector, 16),
            written: time(24),
            clean: sector[10] != 0,
            untidy: (sector[11] != 0).then(|| (time(32), time(40))),
        })
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// These bytes at this offset of the object file.
    Object { offset: u64, bytes: &'a [u8] },
    /// These bytes at this offset of a segment of sidecars.
    Segment { segment: u32, offset: u64, bytes: &'a [u8] },
    /// Commits every record of the object before it; the object file's length.
    Mark { length: u64 },
    /// A hint only: an object that is found lives.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub object_id: ObjectId,
    /// Path below `buckets/` that the object had when it first appended in this epoch; empty otherwise.
    pub hint: &'a [u8],
    pub body: Body<'a>,
}

/// Bytes that a record takes in the log, padding included.
pub fn record_len(hint: usize, bytes: usize) -> usize {
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
            Body::Mark { .. } | Body::Dead => 0,
        };
        record_len(self.hint.len(), bytes)
    }

    /// Appends the record to a buffer that will be written at a place of the log. `durable` is the position up to which
    /// the log is known durable: damage before it is corruption, not a torn tail.
    pub fn write(&self, epoch: u64, place: u64, durable: u64, out: &mut Vec<u8>) {
        let (kind, segment, offset, bytes): (u8, u32, u64, &[u8]) = match self.body {
            Body::Object { offset, bytes } => (1, 0, offset, bytes),
            Body::Segment { segment, offset, bytes } => (2, segment, offset, bytes),
            Body::Mark { length } => (3, 0, length, &[]),
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
        let crc = crc32fast::hash(&record[8..]);
        put(record, 4, &crc.to_le_bytes());
    }

    /// The record at a place of the log whose bytes from there on are `bytes`, its length and its durable position.
    /// `None` if no whole record of this epoch and place is there.
    pub fn read(bytes: &[u8], epoch: u64, place: u64) -> Option<(Record<'_>, usize, u64)> {
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
            3 => Body::Mark { length: offset },
            4 => Body::Dead,
            _ => return None,
        };
        let record =
            Record { object_id: ObjectId(array(bytes, 40)), hint: &bytes[RECORD_HEADER..RECORD_HEADER + hint], body };
        Some((record, len, u64_at(bytes, 32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_at_their_place_and_epoch_only() {
        let bodies = [
            Body::Object { offset: 4096, bytes: b"abc" },
            Body::Segment { segment: 3, offset: 512, bytes: b"sidecar" },
            Body::Mark { length: 8192 },
            Body::Dead,
        ];
        for body in bodies {
            let record = Record { object_id: ObjectId([1; 16]), hint: b"bucket/key", body };
            let mut bytes = Vec::new();
            record.write(5, 4096, 77, &mut bytes);
            assert_eq!((bytes.len() % ALIGN, bytes.len()), (0, record.size()));
            assert_eq!(Record::read(&bytes, 5, 4096), Some((record, bytes.len(), 77)));
            assert_eq!(Record::read(&bytes, 6, 4096), None);
            assert_eq!(Record::read(&bytes, 5, 4104), None);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::read(&damaged, 5, 4096), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_log_header_reads_back_and_is_one_sector() {
        let header = LogHeader { epoch: 9, written: -5, untidy: Some((1, 2)), clean: true };
        let sector = header.write();
        assert_eq!(LogHeader::read(&sector), Ok(header));
        for bit in 0..sector.len() * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(LogHeader::read(&damaged).is_err(), "bit {bit}");
        }
    }
}
