//! The redo log: one file of records, appended in order, synced for everybody who waits at once.
//!
//! It knows no format of what it carries and no key. Positions are offsets in the log's file; they stay valid until the
//! epoch is raised, which only a checkpoint does.

use crate::backend::{Access, Dir, File};
use crate::local::reserve::Reserve;
use crate::local::sealed::openings::Position;
use crate::local::sealed::parameters::{PRIVATE_FILE, read_file};
use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Result};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_format::log_header::{self, HEADER, LogHeader};
use kmsfs_format::log_record::{Body, Marks, RECORDS_AT, Record, bytes_at};
use kmsfs_locks::{Condvar, Mutex, ranks};
use std::ffi::OsStr;
use std::sync::Arc;

const FILE: &str = "redo";
const PURPOSE: &str = "kmsfs redo log";
/// The file is preallocated and written, so that fdatasync changes no metadata; it grows by doubling.
const FIRST_SIZE: u64 = 1 << 20;
/// Bytes that content leaves free in the file, and a quarter of what is used on top.
const FOR_COMMITS: u64 = 16 << 10;
/// A checkpoint is due once the log holds this much. Requests that are under way may go beyond it.
pub(crate) const DEFAULT_BOUND: u64 = 64 << 20;

pub(crate) struct Log {
    file: Arc<dyn File>,
    seal: LogSeal,
    bound: u64,
    tail: Mutex<ranks::LogTail, Tail>,
    syncs: Mutex<ranks::LogSyncs, Syncs>,
    synced: Condvar,
    seeded: Seeded,
}

struct Tail {
    header: LogHeader,
    /// Where the next record goes.
    next: u64,
    /// Marks in this epoch.
    marks: u32,
    /// Bytes of the file that are written.
    size: u64,
    /// All bytes ever appended: a clock that raising the epoch does not turn back.
    appended: u64,
    /// A write that failed may have left whole records up to here, of this epoch and in their place.
    torn: u64,
    /// Epochs raised since the log was opened.
    checkpoints: u64,
    /// The file could not grow: the disk is full. Only a checkpoint makes room then.
    cramped: bool,
    /// A raise of the epoch failed: which header the disk has, or will have, is not known.
    header_unsure: bool,
}

#[derive(Default)]
struct Syncs {
    running: bool,
    /// In terms of `Tail::appended`.
    durable: u64,
    /// Position that new records name as durable.
    durable_position: u64,
    /// How often the log was synced, to tell.
    count: u64,
    /// An fdatasync failed: what the page cache said about it since cannot be trusted.
    failed: bool,
}

/// What the log holds and has done since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogUsage {
    /// Of records that no checkpoint has written home.
    pub bytes: u64,
    /// For whoever waits: fewer than fsync(2) was called, if several wait at once.
    pub syncs: u64,
    /// Checkpoints that have ended.
    pub checkpoints: u64,
}

/// What vouches for the log's header and marks: `None` in a store that has no key yet and is only read.
pub(crate) struct LogSeal(Option<MacKey>);

impl LogSeal {
    pub(crate) fn new(key: Option<&StoreKey>) -> Self {
        Self(key.map(|key| key.mac_key(PURPOSE)))
    }

    fn tag(&self, parts: &[&[u8]]) -> [u8; MacKey::LEN] {
        // Without a key nothing is written.
        self.0.as_ref().map_or([0; MacKey::LEN], |key| key.tag(parts))
    }

    pub(crate) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|key| key.verify(parts, tag))
    }

    fn header(&self, header: &LogHeader) -> [u8; HEADER] {
        header.write(|bytes| self.tag(&[bytes]))
    }
}

pub(crate) fn create(dir: &dyn Dir, seal: &LogSeal) -> Result<()> {
    let file = dir.create_file(OsStr::new(FILE), &PRIVATE_FILE)?;
    file.write_at(&vec![0; FIRST_SIZE as usize], 0)?;
    file.write_at(&seal.header(&LogHeader { epoch: 1, settled: 1, clean: true, ..LogHeader::default() }), 0)?;
    Ok(file.sync()?)
}

/// Bytes that a log never has: it would have been checkpointed long before.
const LONGEST: u64 = 4 << 30;

/// The log as it was found, for recovery.
pub(crate) struct Found {
    pub header: LogHeader,
    /// Of a log that nothing authenticates yet: where its untidy span would begin.
    pub unsealed: Option<i64>,
    pub seal: LogSeal,
    /// The whole file.
    pub bytes: Vec<u8>,
    pub file: Arc<dyn File>,
    pub seeded: Seeded,
}

impl Found {
    /// The record at a place of the log.
    pub(crate) fn record(&self, at: u64) -> Option<(Record<'_>, usize, u64)> {
        let bytes = self.bytes.get(at as usize..)?;
        let verify = |parts: &[&[u8]], tag: &[u8]| self.seal.verify(parts, tag);
        let marks = if self.unsealed.is_some() { Marks::Plain } else { Marks::Sealed(&verify) };
        Record::read(bytes, self.header.epoch, at, marks)
    }
}

/// The header alone, of a log that is not changed. `takes_unsealed`: a log of version 1 is believed, since it is still
/// to be raised to this one.
pub(crate) fn read_header(
    dir: &dyn Dir,
    access: Access,
    seal: &LogSeal,
    takes_unsealed: bool,
) -> Result<(Arc<dyn File>, log_header::Found)> {
    let file = dir.open_file(OsStr::new(FILE), access).map_err(|error| {
        Error::Unusable(format!("log/{FILE} cannot be opened ({error}): restore it, or the store from a backup"))
    })?;
    let mut sector = [0; HEADER];
    let _ = file.read_at(&mut sector, 0)?;
    let unusable = |why: &dyn std::fmt::Display| {
        Error::Unusable(format!("log/{FILE}: {why}: restore it, or the store from a backup"))
    };
    let found = LogHeader::read(&sector, |bytes, tag| seal.verify(&[bytes], tag)).map_err(|why| unusable(&why))?;
    if found.unsealed.is_some() && !takes_unsealed {
        return Err(unusable(&"it is of version 1, and the store was raised to a later one"));
    }
    Ok((file, found))
}

/// `takes_unsealed`: as in `read_header`.
pub(crate) fn find(
    dir: &dyn Dir,
    access: Access,
    seal: LogSeal,
    takes_unsealed: bool,
    seeded: Seeded,
) -> Result<Found> {
    let (file, log_header::Found { header, unsealed }) = read_header(dir, access, &seal, takes_unsealed)?;
    if access == Access::ReadWrite && !seeded.is(Mistake::RecoveryLogNotSynced) {
        // After a kill it may be in the page cache only, and recovery overwrites homes (M1).
        file.sync_data()?;
    }
    let mut bytes = Vec::new();
    if !header.clean {
        let len = file.metadata()?.len;
        if len > LONGEST {
            return Err(Error::Unusable(format!("log/{FILE} is longer than any log: restore it from a backup")));
        }
        bytes = if len <= 1 << 20 { read_file(dir, OsStr::new(FILE))? } else { read_all(file.as_ref(), len)? };
    }
    Ok(Found { header, unsealed, seal, bytes, file, seeded })
}

fn read_all(file: &dyn File, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

impl Log {
    /// Starts an empty log under this header, durably.
    pub(crate) fn start(
        file: Arc<dyn File>,
        seal: LogSeal,
        header: &LogHeader,
        bound: u64,
        reserve: &Reserve,
        seeded: Seeded,
    ) -> Result<Self> {
        let size = file.metadata()?.len;
        reserve.with_room(|| file.write_at(&seal.header(header), 0).and_then(|()| file.sync_data()))?;
        let tail = Tail::new(header, size);
        let syncs = Syncs { durable_position: RECORDS_AT, ..Syncs::default() };
        Ok(Self { file, seal, bound, tail: Mutex::new(tail), syncs: Mutex::new(syncs), synced: Condvar::new(), seeded })
    }

    /// The log of a store that is not written: nothing is appended.
    pub(crate) fn unused(file: Arc<dyn File>, seal: LogSeal, header: &LogHeader) -> Self {
        let tail = Tail::new(header, 0);
        let (tail, syncs) = (Mutex::new(tail), Mutex::new(Syncs::default()));
        Self { file, seal, bound: u64::MAX, tail, syncs, synced: Condvar::new(), seeded: Seeded::default() }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.tail.lock().header.epoch
    }

    /// As the header has it, durably.
    pub(crate) fn position(&self) -> Position {
        Position::of(&self.tail.lock().header)
    }

    /// Appends all the records in one write, or none of them. Answers the position of each one's bytes.
    pub(crate) fn append(&self, records: &[Record<'_>]) -> Result<Vec<u64>> {
        self.append_leaving(records, |_| 0)
    }

    /// The same for content, which leaves room for the commits of it: a checkpoint begins with them, and must not fail
    /// for want of what only a checkpoint can give.
    pub(crate) fn append_content(&self, records: &[Record<'_>]) -> Result<Vec<u64>> {
        self.append_leaving(records, |used| FOR_COMMITS + used / 4)
    }

    fn append_leaving(&self, records: &[Record<'_>], room: impl Fn(u64) -> u64) -> Result<Vec<u64>> {
        let durable = self.syncs.lock().durable_position;
        let mut tail = self.tail.lock();
        self.mend(&mut tail)?;
        let mut buffer = Vec::with_capacity(records.iter().map(Record::size).sum());
        let mut positions = Vec::with_capacity(records.len());
        let mut marks = tail.marks;
        for record in records {
            let place = tail.next + buffer.len() as u64;
            let mut record = record.clone();
            if let Body::Mark(mark) = &mut record.body {
                mark.before = marks;
                marks += 1;
            }
            positions.push(place + bytes_at(record.hint.len()) as u64);
            record.write(tail.header.epoch, place, durable.min(tail.next), &|parts| self.seal.tag(parts), &mut buffer);
        }
        let end = tail.next + buffer.len() as u64;
        self.make_room(&mut tail, end + room(end))?;
        self.file
            .write_at(&buffer, tail.next)
            .inspect_err(|_| tail.torn = tail.torn.max(tail.next + buffer.len() as u64))?;
        tail.next += buffer.len() as u64;
        tail.appended += buffer.len() as u64;
        tail.marks = marks;
        Ok(positions)
    }

    /// Puts right what failed writes may have left, before anything is appended: records that nobody was told of would
    /// follow those to come, and records under a header of another epoch would not count.
    fn mend(&self, tail: &mut Tail) -> Result<()> {
        if tail.torn <= tail.next && !tail.header_unsure {
            return Ok(());
        }
        if tail.header_unsure {
            self.file.write_at(&self.seal.header(&tail.header), 0)?;
        }
        if tail.torn > tail.next {
            self.file.write_at(&vec![0; (tail.torn - tail.next) as usize], tail.next)?;
        }
        self.or_fail(self.file.sync_data())?;
        tail.torn = 0;
        tail.header_unsure = false;
        Ok(())
    }

    /// Linux may drop what it could not write, and a later sync would succeed over the loss: after a failure nothing
    /// more is acknowledged.
    fn or_fail(&self, outcome: std::io::Result<()>) -> Result<()> {
        outcome.map_err(|error| {
            ::log::error!("the redo log cannot be synced, nothing more will be acknowledged: {error}");
            self.syncs.lock().failed = true;
            error.into()
        })
    }

    /// Grows the file to that length at least.
    fn make_room(&self, tail: &mut Tail, len: u64) -> Result<()> {
        if len <= tail.size {
            return Ok(());
        }
        let mut target = tail.size;
        while len > target {
            target = (target * 2).max(FIRST_SIZE).min(target + (16 << 20));
        }
        let grown = self.write_zeros(tail.size, target);
        if let Err(error) = grown {
            tail.cramped = true;
            // What little was left is others' as much as the log's.
            let _ = self.file.set_len(tail.size);
            return Err(error.into());
        }
        tail.size = target;
        self.or_fail(self.file.sync())
    }

    fn write_zeros(&self, from: u64, to: u64) -> std::io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let len = (zeros.len() as u64).min(to - at);
            self.file.write_at(&zeros[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }

    /// Bytes at a position that `append` answered.
    pub(crate) fn read(&self, position: u64, bytes: &mut [u8]) -> Result<()> {
        if self.file.read_at(bytes, position)? == bytes.len() {
            Ok(())
        } else {
            Err(Error::corrupt("the redo log", "it is shorter than what was appended"))
        }
    }

    /// Makes durable all that was appended before the call. Everybody who waits shares one fdatasync, if it starts
    /// after they have appended.
    pub(crate) fn sync(&self) -> Result<()> {
        let target = self.tail.lock().appended;
        let mut syncs = self.syncs.lock();
        loop {
            if syncs.failed {
                return Err(Error::Errno(libc::EIO));
            }
            if syncs.durable >= target {
                return Ok(());
            }
            if syncs.running {
                self.synced.wait(&mut syncs);
                if self.seeded.is(Mistake::JoinRunningSync) {
                    return Ok(());
                }
                continue;
            }
            syncs.running = true;
            drop(syncs);
            let (appended, position) = {
                let tail = self.tail.lock();
                (tail.appended, tail.next)
            };
            let outcome = self.or_fail(self.file.sync_data());
            syncs = self.syncs.lock();
            syncs.count += 1;
            syncs.running = false;
            self.synced.notify_all();
            outcome?;
            syncs.durable = syncs.durable.max(appended);
            syncs.durable_position = position;
        }
    }

    /// Whether a checkpoint is due before anything more is appended.
    pub(crate) fn is_full(&self) -> bool {
        let tail = self.tail.lock();
        let used = tail.next - RECORDS_AT;
        used >= self.bound || used > 0 && tail.cramped
    }

    /// Whether something failed because the file cannot grow.
    pub(crate) fn is_cramped(&self) -> bool {
        self.tail.lock().cramped
    }

    pub(crate) fn is_half_full(&self) -> bool {
        self.used() >= self.bound / 2
    }

    pub(crate) fn usage(&self) -> LogUsage {
        let (bytes, checkpoints) = {
            let tail = self.tail.lock();
            (tail.next - RECORDS_AT, tail.checkpoints)
        };
        LogUsage { bytes, syncs: self.syncs.lock().count, checkpoints }
    }

    /// Bytes of records in this epoch.
    pub(crate) fn used(&self) -> u64 {
        self.tail.lock().next - RECORDS_AT
    }

    /// Raises the epoch, durably: from here on the records so far no longer count, and their space is used again.
    /// Only a checkpoint that has written them home may call it, while nothing is appended. `settled`: everything that
    /// was made or committed in the epoch is durable (K8).
    pub(crate) fn raise_epoch(&self, settled: bool, clean: bool) -> Result<()> {
        let mut tail = self.tail.lock();
        let before = tail.header;
        let settled = if settled { before.epoch } else { before.settled };
        let header = LogHeader { epoch: before.epoch + 1, settled, clean, ..before };
        tail.header_unsure = true;
        self.file.write_at(&self.seal.header(&header), 0)?;
        self.file.sync_data()?;
        let checkpoints = tail.checkpoints + 1;
        *tail = Tail { appended: tail.appended, checkpoints, ..Tail::new(&header, tail.size) };
        let mut syncs = self.syncs.lock();
        syncs.durable_position = RECORDS_AT;
        syncs.durable = tail.appended;
        Ok(())
    }
}

impl Tail {
    /// Of an empty log.
    fn new(header: &LogHeader, size: u64) -> Self {
        Self {
            header: *header,
            next: RECORDS_AT,
            marks: 0,
            size,
            appended: 0,
            torn: 0,
            checkpoints: 0,
            cramped: false,
            header_unsure: false,
        }
    }
}
