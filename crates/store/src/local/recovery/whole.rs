//! Which of an object's commits in the log are all there: rule M6.
//!
//! What went straight home may be missing after a crash although its commit is in the log. Each mark lists such chunks
//! with their checksums, until a later one says that they are synced; what was durable before is still at home or in
//! the log, so the object can go back to it (W1).

use crate::Result;
use crate::backend::File;
use crate::mistakes::{Mistake, Seeded};
use kmsfs_format::ObjectId;
use kmsfs_format::log_record::{Body, HomeWrite, Record};
use std::collections::BTreeMap;

/// Takes away the records behind the newest mark whose home writes are all there; all of them if there is no such mark.
pub(crate) fn cut_back(id: ObjectId, records: &mut Vec<Record<'_>>, file: &dyn File, seeded: Seeded) -> Result<()> {
    let mut judged = Judged { file, known: BTreeMap::new(), seeded };
    let all = records.len();
    while let Some(mark) = records.iter().rposition(|record| matches!(record.body, Body::Mark(_))) {
        if judged.are_there(records)? || seeded.is(Mistake::HomeWritesBelieved) {
            break;
        }
        records.truncate(mark);
        // What was appended for the commit that is not there is no part of the one before.
        let before = records.iter().rposition(|record| matches!(record.body, Body::Mark(_)));
        records.truncate(before.map_or(0, |mark| mark + 1));
    }
    if records.len() < all {
        ::log::info!(
            "object {id}: its newest commits, never synced, did not reach the disk as a whole: it is as before them"
        );
    }
    Ok(())
}

struct Judged<'a> {
    file: &'a dyn File,
    /// Whether the file has these bytes.
    known: BTreeMap<(u64, u32, u32), bool>,
    seeded: Seeded,
}

impl Judged<'_> {
    /// Whether what these records rest on is at home.
    fn are_there(&mut self, records: &[Record<'_>]) -> Result<bool> {
        for write in pending(records, self.seeded).into_values() {
            if !self.is_there(&write)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_there(&mut self, write: &HomeWrite) -> Result<bool> {
        let key = (write.offset, write.len, write.crc);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let mut bytes = vec![0; write.len as usize];
        let read = self.file.read_at(&mut bytes, write.offset)?;
        let there = read == bytes.len() && crc32fast::hash(&bytes) == write.crc;
        self.known.insert(key, there);
        Ok(there)
    }
}

/// Chunks that went straight home, by their offset, of which nothing says that they are synced, and that the last mark
/// may refer to there.
fn pending(records: &[Record<'_>], seeded: Seeded) -> BTreeMap<u64, HomeWrite> {
    let mut pending: BTreeMap<u64, HomeWrite> = BTreeMap::new();
    for record in records {
        match &record.body {
            // It is in the log from here on.
            Body::Object { offset, bytes } if !seeded.is(Mistake::LoggedChunkJudged) => {
                let covered: Vec<_> =
                    pending.range(offset..&(offset + bytes.len() as u64)).map(|(at, _)| *at).collect();
                for at in covered {
                    pending.remove(&at);
                }
            }
            Body::Mark(mark) => {
                pending.retain(|_, write| write.number > mark.synced || seeded.is(Mistake::SyncedIsJudged));
                pending.extend(mark.home_writes().map(|write| (write.offset, write)));
                pending.retain(|at, _| *at < mark.length);
            }
            _ => {}
        }
    }
    pending
}
