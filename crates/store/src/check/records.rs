//! First pass: every record in the segments.

use super::{Report, Severity};
use crate::{Ino, Result, Store};
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::{Kind, MAX_UNITS, Place, Record, UNIT};
use std::collections::HashMap;

/// What the segments hold.
#[derive(Default)]
pub(crate) struct Records {
    pub all: Vec<Found>,
    /// Where the sidecar of an inode is, and whose it is: of the newest where there are several.
    pub by_inode: HashMap<Ino, (ObjectId, Place)>,
    /// Units that read as zero, in runs of at most what a record takes.
    pub free: Vec<Place>,
}

/// A record whose checksum is right.
pub(crate) struct Found {
    pub kind: Kind,
    pub id: ObjectId,
    pub place: Place,
}

impl Records {
    pub(crate) fn read(store: &Store, report: &mut Report) -> Result<Self> {
        let mut records = Self::default();
        for segment in store.segments.numbers()? {
            let bytes = match store.segments.read_whole(segment) {
                Ok(bytes) => bytes,
                Err(error) => {
                    report.add(Severity::Error, format!("sidecars/{segment:08x}"), error);
                    continue;
                }
            };
            records.segment(segment, &bytes, report);
        }
        report.records = records.all.len() as u64;
        Ok(records)
    }

    /// Sidecars, which is how many objects there should be.
    pub(crate) fn sidecars(&self) -> u64 {
        self.all.iter().filter(|found| found.kind == Kind::Sidecar).count() as u64
    }

    fn segment(&mut self, segment: u32, bytes: &[u8], report: &mut Report) {
        let mut unit = 0;
        let mut units = bytes.chunks(UNIT);
        while let Some(first) = units.next() {
            let at = unit;
            unit += 1;
            if first.iter().all(|byte| *byte == 0) {
                self.add_free(segment, at);
                continue;
            }
            let rest = &bytes[at as usize * UNIT..];
            let length = first.get(6..8).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
            let whole = (1..=MAX_UNITS).contains(&usize::from(length)).then(|| rest.get(..usize::from(length) * UNIT));
            match whole.flatten().map(Record::read) {
                Some(Ok(record)) => {
                    let place = Place { segment, unit: at, units: length };
                    if record.kind == Kind::Sidecar {
                        self.by_inode.insert(Ino(record.inode), (record.object_id, place));
                    }
                    self.all.push(Found { kind: record.kind, id: record.object_id, place });
                    unit += u32::from(length) - 1;
                    if length > 1 {
                        units.nth(usize::from(length) - 2);
                    }
                }
                _ if &first[..first.len().min(4)] == b"KMSR" => {
                    let text = "a record that is damaged, or was not written out before a crash";
                    report.add(Severity::Note, format!("sidecars/{segment:08x}, unit {at}"), text);
                }
                // The rest of a damaged one.
                _ => {}
            }
        }
    }

    fn add_free(&mut self, segment: u32, unit: u32) {
        match self.free.last_mut() {
            Some(run)
                if run.segment == segment
                    && run.unit + u32::from(run.units) == unit
                    && usize::from(run.units) < MAX_UNITS =>
            {
                run.units += 1;
            }
            _ => self.free.push(Place { segment, unit, units: 1 }),
        }
    }
}
