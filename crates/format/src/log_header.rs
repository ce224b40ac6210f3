//! The redo log's header: which of its records count, and which epochs ended in a crash. One sector, written whole or
//! not at all.

use super::Malformed;
use super::bytes::{put, u16_at, u32_at, u64_at};

/// Bytes of the sector.
pub const HEADER: usize = 512;
/// Ranges of crashed epochs that there is room for.
const RANGES: usize = 24;

const MAGIC: &[u8; 8] = b"KMSFSLOG";
/// The version that is written.
pub const VERSION: u16 = 2;
/// Without a MAC, and with times where there are epochs now.
const WITHOUT_MAC: u16 = 1;
const RANGES_AT: usize = 48;
const OPENING_AT: usize = RANGES_AT + RANGES * 16;
const MAC_AT: usize = HEADER - 4 - 32;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogHeader {
    /// Records of another epoch are left over from before and are not read.
    pub epoch: u64,
    /// What was made and committed up to this epoch is durable where it belongs.
    pub settled: u64,
    /// Epochs that ended in a crash before they were settled.
    pub crashes: Crashes,
    /// The opening for writing that it is of; zero where it is not known, as in one that an earlier kmsfs wrote.
    pub opening: [u8; 16],
    /// Closed by an unmount; nothing was changed since.
    pub clean: bool,
    /// Of version 1, which recognized a crash by the clock: object files changed (ctime, nanoseconds since 1970) in
    /// this span may have been left so by one. It is not written any more.
    pub untidy: Option<(i64, i64)>,
}

/// A header as it was read, of version 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it says, whatever its version.
    pub header: LogHeader,
    /// Of version 1: the end of its last checkpoint that left no object uncommitted, nanoseconds since 1970.
    pub unsealed: Option<i64>,
}

/// Ranges of epochs, in order, both ends included. Where there are too many, the oldest grow together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crashes {
    ranges: [(u64, u64); RANGES],
    count: usize,
}

impl Crashes {
    /// Whether no epoch ended in a crash.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether this epoch ended in a crash.
    pub fn contains(&self, epoch: u64) -> bool {
        self.ranges[..self.count].iter().any(|(first, last)| (*first..=*last).contains(&epoch))
    }

    /// These, and a crash of unknown extent: epoch 0, in which nothing is made.
    #[must_use]
    pub fn and_of_nothing(self) -> Self {
        if self.is_empty() { self.and(0, 0) } else { self }
    }

    /// These, and a range of epochs after them, both ends included.
    #[must_use]
    pub fn and(mut self, first: u64, last: u64) -> Self {
        if let Some(newest) = self.ranges[..self.count].last_mut()
            && newest.1.saturating_add(1) >= first
        {
            newest.1 = newest.1.max(last);
            return self;
        }
        if self.count == RANGES {
            self.ranges[0].1 = self.ranges[1].1;
            self.ranges.copy_within(2.., 1);
            self.count -= 1;
        }
        self.ranges[self.count] = (first, last);
        self.count += 1;
        self
    }
}

impl LogHeader {
    /// The sector. `mac` computes the MAC of the bytes before it.
    pub fn write(&self, mac: impl FnOnce(&[u8]) -> [u8; 32]) -> [u8; HEADER] {
        let mut sector = [0; HEADER];
        put(&mut sector, 0, MAGIC);
        put(&mut sector, 8, &VERSION.to_le_bytes());
        sector[10] = u8::from(self.clean);
        put(&mut sector, 12, &(self.crashes.count as u16).to_le_bytes());
        put(&mut sector, 16, &self.epoch.to_le_bytes());
        put(&mut sector, 24, &self.settled.to_le_bytes());
        for (n, (first, last)) in self.crashes.ranges[..self.crashes.count].iter().enumerate() {
            put(&mut sector, RANGES_AT + n * 16, &first.to_le_bytes());
            put(&mut sector, RANGES_AT + n * 16 + 8, &last.to_le_bytes());
        }
        put(&mut sector, OPENING_AT, &self.opening);
        let mac = mac(&sector[..MAC_AT]);
        put(&mut sector, MAC_AT, &mac);
        let crc = crc32fast::hash(&sector[..HEADER - 4]);
        put(&mut sector, HEADER - 4, &crc.to_le_bytes());
        sector
    }

    /// Takes a sector apart. `verify` is called with the covered bytes and the MAC, where the header has one.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: it is not a header, is damaged or of another version, or `verify` returns false.
    pub fn read(sector: &[u8], verify: impl FnOnce(&[u8], &[u8]) -> bool) -> Result<Found, Malformed> {
        if sector.len() < HEADER || &sector[..8] != MAGIC {
            return Err(Malformed("the redo log has no header"));
        }
        if crc32fast::hash(&sector[..HEADER - 4]) != u32_at(sector, HEADER - 4) {
            return Err(Malformed("the redo log's header is damaged"));
        }
        let time = |at| u64_at(sector, at).cast_signed();
        let mut header = Self {
            epoch: u64_at(sector, 16),
            settled: u64_at(sector, 24),
            crashes: Crashes::default(),
            opening: [0; 16],
            clean: sector[10] != 0,
            untidy: None,
        };
        match u16_at(sector, 8) {
            WITHOUT_MAC => {
                header.untidy = (sector[11] != 0).then(|| (time(32), time(40)));
                // What it has in the place of `settled` is a time: all that was ever settled is what no epoch is named
                // for.
                header.settled = header.epoch;
                Ok(Found { header, unsealed: Some(time(24)) })
            }
            VERSION => {
                if !verify(&sector[..MAC_AT], &sector[MAC_AT..MAC_AT + 32]) {
                    return Err(Malformed("the redo log's header is not what was written"));
                }
                let count = usize::from(u16_at(sector, 12));
                for n in 0..count.min(RANGES) {
                    let at = RANGES_AT + n * 16;
                    header.crashes = header.crashes.and(u64_at(sector, at), u64_at(sector, at + 8));
                }
                header.opening.copy_from_slice(&sector[OPENING_AT..OPENING_AT + 16]);
                Ok(Found { header, unsealed: None })
            }
            _ => Err(Malformed("a redo log of another format version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> LogHeader {
        let crashes = Crashes::default().and(2, 3).and(7, 9);
        LogHeader { epoch: 12, settled: 10, crashes, opening: [9; 16], clean: true, untidy: None }
    }

    #[test]
    fn a_log_header_reads_back_and_is_one_sector() {
        let sector = header().write(|_| [5; 32]);
        let verify = |_: &[u8], tag: &[u8]| tag == [5; 32];
        assert_eq!(LogHeader::read(&sector, verify), Ok(Found { header: header(), unsealed: None }));
        for bit in 0..sector.len() * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(LogHeader::read(&damaged, verify).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_changed_header_with_a_right_checksum_is_refused() {
        let mac = |bytes: &[u8]| {
            let mut mac = [0; 32];
            mac[..4].copy_from_slice(&crc32fast::hash(bytes).to_le_bytes());
            mac
        };
        let sector = header().write(mac);
        for bit in (0..(HEADER - 4) * 8).filter(|bit| !(8..10).contains(&(bit / 8))) {
            let mut forged = sector;
            forged[bit / 8] ^= 1 << (bit % 8);
            let crc = crc32fast::hash(&forged[..HEADER - 4]);
            put(&mut forged, HEADER - 4, &crc.to_le_bytes());
            assert!(LogHeader::read(&forged, |bytes, tag| mac(bytes) == tag).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn crashes_that_follow_each_other_are_one_range_and_the_oldest_grow_together() {
        let mut crashes = Crashes::default();
        assert!(crashes.is_empty() && !crashes.contains(0));
        for n in 0..100 {
            crashes = crashes.and(n * 10 + 1, n * 10 + 2).and(n * 10 + 3, n * 10 + 4);
        }
        assert_eq!(crashes.count, RANGES);
        assert!((0..100).all(|n| (1..=4).all(|k| crashes.contains(n * 10 + k))), "none is forgotten");
        assert!(!crashes.contains(996) && !crashes.contains(0) && !crashes.contains(1000));
        assert!(crashes.contains(15), "the oldest are one");
        assert_eq!(crashes.and_of_nothing(), crashes);
        let nothing = Crashes::default().and_of_nothing();
        assert!(!nothing.is_empty() && !nothing.contains(1));
    }
}
