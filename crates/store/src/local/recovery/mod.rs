//! What a crash left in the redo log goes home: rules M1 to M8. It needs no object's key.

pub(crate) mod aftermath;
pub(crate) mod birth;
mod whole;

use crate::backend::{Access, Backend, Dir, File};
use crate::local::log::Found;
use crate::local::names::dir::names;
use crate::local::reserve::Reserve;
use crate::local::sealed::parameters::{BUCKETS, PRIVATE_FILE, SIDECARS};
use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Ino, Result, Time};
use kmsfs_format::ObjectId;
use kmsfs_format::header;
use kmsfs_format::log_header::LogHeader;
use kmsfs_format::log_record::{ALIGN, Body, RECORDS_AT, Record};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// What a read-only recovery would have written into a file, kept in memory and laid over what is read from it.
#[derive(Default)]
pub(crate) struct Patch {
    /// By offset in the file, in the order of the log where they overlap.
    writes: Vec<(u64, Vec<u8>)>,
    len: Option<u64>,
}

impl Patch {
    /// Lays the patch over bytes that were read at an offset, of which `read` are real. Answers how many now are.
    pub(crate) fn lay_over(&self, offset: u64, bytes: &mut [u8], read: usize) -> usize {
        let mut end = read;
        bytes[read..].fill(0);
        for (at, patch) in &self.writes {
            let from = (*at).max(offset);
            let to = (at + patch.len() as u64).min(offset + bytes.len() as u64);
            if from < to {
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&patch[(from - at) as usize..(to - at) as usize]);
                end = end.max((to - offset) as usize);
            }
        }
        match self.len {
            Some(len) => bytes.len().min(len.saturating_sub(offset) as usize),
            None => end,
        }
    }

    pub(crate) fn len(&self, len: u64) -> u64 {
        self.len.unwrap_or(len)
    }
}

/// What a read-only mount has to lay over the store: by inode, and by segment.
#[derive(Default)]
pub(crate) struct Replayed {
    /// Objects that the log calls settled, whatever their birth says (M7): also for a store that is written.
    pub settled: HashSet<ObjectId>,
    pub objects: HashMap<Ino, Arc<Patch>>,
    pub segments: HashMap<u32, Patch>,
}

pub(crate) struct Outcome {
    /// The header that the log goes on under.
    pub header: LogHeader,
    pub replayed: Replayed,
    /// Damage inside what was known durable: the store must not be written.
    pub corrupt: Option<String>,
}

/// Records of one object up to its last mark.
struct Committed<'a> {
    hint: &'a [u8],
    records: Vec<Record<'a>>,
    seeded: Seeded,
}

impl Committed<'_> {
    /// Whether one of its marks says so.
    fn is_settled(&self) -> bool {
        let settled = |record: &Record<'_>| matches!(&record.body, Body::Mark(mark) if mark.settled);
        self.records.iter().any(settled) && !self.seeded.is(Mistake::SettledNotTold)
    }
}

/// `cut`: a damaged log counts as if it ended where the damage is.
pub(crate) fn recover(
    backend: &dyn Backend,
    reserve: &Reserve,
    found: &Found,
    access: Access,
    cut: bool,
) -> Result<Outcome> {
    let seeded = found.seeded;
    let (records, end, corrupt) = valid_prefix(found);
    let damaged = corrupt.is_some();
    let corrupt = corrupt.filter(|_| !cut);
    let sync = access == Access::ReadWrite && corrupt.is_none() && !seeded.is(Mistake::RecoveryLogNotSynced);
    if sync && end > RECORDS_AT {
        // A sync of the log may have failed before the crash: then the page cache has records that no sync would write
        // any more, unless they are written anew. What goes home must have a durable record first.
        found.file.write_at(&found.bytes[RECORDS_AT as usize..end as usize], RECORDS_AT)?;
        found.file.sync_data()?;
    }
    let mut objects = committed(records, seeded);
    let mut outcome = Outcome { header: found.header, replayed: Replayed::default(), corrupt };
    let read_only = access == Access::Read || outcome.corrupt.is_some();
    let lists = |body: &Body<'_>| matches!(body, Body::Mark(mark) if !mark.homes.is_empty());
    let doubted = objects.values().flat_map(|object| &object.records).any(|record| lists(&record.body));
    if doubted && !read_only && !seeded.is(Mistake::HomesNotSyncedFirst) {
        // After a kill they may be in the page cache only, and what rests on them is about to be written over (M6).
        backend.sync_all()?;
    }
    let files = locate(backend, &objects, access, seeded)?;
    for (id, object) in &mut objects {
        let file = files.get(id);
        if let Some(file) = file {
            whole::cut_back(*id, &mut object.records, file.as_ref(), seeded)?;
        }
        let settled = object.is_settled();
        outcome.replayed.settled.extend(settled.then_some(*id));
        if read_only {
            keep(&mut outcome.replayed, file, object);
        } else {
            apply(backend, reserve, file, object)?;
            if let (true, Some(file)) = (settled, file) {
                birth::settle(file.as_ref())?; // M7
            }
        }
    }
    outcome.header = crashed(found, damaged, backend.now());
    if read_only {
        return Ok(outcome);
    }
    if !objects.is_empty() {
        ::log::info!("the redo log had changes of {} objects: they are home now", objects.len());
    }
    let idle = objects.is_empty() && seeded.is(Mistake::IdleRecoveryNotSynced);
    if !found.header.clean && !idle {
        // What is found now counts as durable (M5).
        backend.sync_all()?;
    }
    Ok(outcome)
}

/// The header that the log goes on under. M8: epochs that nothing has settled ended in a crash, and so did the one that
/// a checkpoint may have been about to begin.
fn crashed(found: &Found, damaged: bool, now: Time) -> LogHeader {
    let before = found.header;
    let (epoch, settled) = (before.epoch + 2, before.epoch + 1);
    let after = LogHeader { epoch, settled, clean: false, ..before };
    match found.unsealed {
        _ if before.clean => after,
        None if found.seeded.is(Mistake::CrashForgotten) => after,
        // What the damage hides may have settled what was made: nothing of an object is excused but a longer file.
        None if damaged => LogHeader { crashes: before.crashes.and_of_nothing(), ..after },
        None => LogHeader { crashes: before.crashes.and(before.settled + 1, settled), ..after },
        // Version 1 knew a crash by its time.
        Some(written) => LogHeader { untidy: Some((before.untidy.map_or(written, |(from, _)| from), now.0)), ..after },
    }
}

/// M2: records while epoch, place and checksum are right, and where they end. Damage before a position that a later
/// record knows to be durable is corruption, not a torn tail; so is a mark that does not count all those before it,
/// which no crash leaves.
fn valid_prefix(found: &Found) -> (Vec<Record<'_>>, u64, Option<String>) {
    let mut records = Vec::new();
    let (mut at, mut marks) = (RECORDS_AT, 0);
    let read = |at: u64| found.record(at);
    while let Some((record, len, _)) = read(at) {
        if let Body::Mark(mark) = &record.body {
            if found.unsealed.is_none() && mark.before != marks && !found.seeded.is(Mistake::MarksNotCounted) {
                let what =
                    format!("the redo log was changed before byte {at}: {marks} of {} commits are there", mark.before);
                return (records, at, Some(what));
            }
            marks += 1;
        }
        records.push(record);
        at += len as u64;
    }
    let mut later = at + ALIGN as u64;
    while later < found.bytes.len() as u64 {
        match read(later) {
            Some((_, _, durable)) if durable > at => {
                let what = format!("the redo log is damaged at byte {at}, and was durable up to {durable}");
                return (records, at, Some(what));
            }
            Some((_, len, _)) => later += len as u64,
            None => later += ALIGN as u64,
        }
    }
    (records, at, None)
}

fn committed(records: Vec<Record<'_>>, seeded: Seeded) -> BTreeMap<ObjectId, Committed<'_>> {
    let mut objects: BTreeMap<ObjectId, Committed<'_>> = BTreeMap::new();
    for record in records {
        let object = objects.entry(record.object_id).or_insert_with(|| Committed {
            hint: record.hint,
            records: Vec::new(),
            seeded,
        });
        object.records.push(record);
    }
    if seeded.is(Mistake::DeadMarkTrusted) {
        objects.retain(|_, object| !matches!(object.records.last(), Some(Record { body: Body::Dead, .. })));
    }
    for object in objects.values_mut() {
        let last = object.records.iter().rposition(|record| matches!(record.body, Body::Mark(_)));
        if !seeded.is(Mistake::TailApplied) {
            object.records.truncate(last.map_or(0, |mark| mark + 1));
        }
    }
    objects.retain(|_, object| !object.records.is_empty());
    objects
}

/// M3: each object's file is at the hint if the header there has its id, else found by a walk, else nowhere.
fn locate(
    backend: &dyn Backend,
    objects: &BTreeMap<ObjectId, Committed<'_>>,
    access: Access,
    seeded: Seeded,
) -> Result<HashMap<ObjectId, Arc<dyn File>>> {
    let buckets =
        backend.root()?.open_dir(OsStr::new(BUCKETS)).map_err(|error| Error::reaching_part(BUCKETS, error))?;
    let mut files = HashMap::new();
    let mut missing = HashSet::new();
    for (id, object) in objects {
        match at_hint(&buckets, object.hint, access) {
            Some(file) if carries(file.as_ref(), *id) || seeded.is(Mistake::HintNotChecked) => {
                files.insert(*id, file);
            }
            _ => {
                missing.insert(*id);
            }
        }
    }
    if !missing.is_empty() {
        let mut unsettled = Ok(());
        walk(&buckets, &mut |dir, name| {
            let Ok(file) = dir.open_file(name, access) else { return true };
            match id_of(file.as_ref()) {
                Some(id) if missing.remove(&id) => drop(files.insert(id, file)),
                _ if access == Access::ReadWrite => {
                    let is_settled = |id: &ObjectId| missing.contains(id) && objects[id].is_settled();
                    unsettled = settle_remains(file.as_ref(), is_settled, seeded);
                }
                _ => {}
            }
            !missing.is_empty() && unsettled.is_ok()
        })?;
        unsettled?;
    }
    Ok(files)
}

/// M7 also for an object whose header is not there any more: no crash did that, so its birth excuses nothing.
fn settle_remains(file: &dyn File, is_settled: impl Fn(&ObjectId) -> bool, seeded: Seeded) -> Result<()> {
    if birth::named(file).is_some_and(|id| is_settled(&id)) && !seeded.is(Mistake::RemainsNotSettled) {
        birth::settle(file)?;
    }
    Ok(())
}

/// Paths are looked up one name at a time, without following symlinks.
fn at_hint(buckets: &Arc<dyn Dir>, hint: &[u8], access: Access) -> Option<Arc<dyn File>> {
    let mut dir = buckets.clone();
    let mut names = hint.split(|byte| *byte == b'/').map(OsStr::from_bytes).peekable();
    while let Some(name) = names.next() {
        if name.is_empty() || name == "." || name == ".." {
            return None;
        }
        if names.peek().is_none() {
            return dir.open_file(name, access).ok();
        }
        dir = dir.open_dir(name).ok()?;
    }
    None
}

fn id_of(file: &dyn File) -> Option<ObjectId> {
    let mut start = [0; 32];
    let read = file.read_at(&mut start, 0).ok()?;
    header::object_id(&start[..read])
}

fn carries(file: &dyn File, id: ObjectId) -> bool {
    id_of(file) == Some(id)
}

/// Visits every regular file below `buckets/` until `visit` returns false. A directory that cannot be searched is an
/// error that names it: what the log has for an object in it would be lost. Not by recursion: whoever can write the
/// store decides how deep its directories are.
pub(crate) fn walk(top: &Arc<dyn Dir>, visit: &mut dyn FnMut(&dyn Dir, &OsStr) -> bool) -> Result<()> {
    let mut path = OsString::from(BUCKETS);
    let below = names(top.as_ref()).map_err(|error| unsearched(&path, error))?;
    let mut pending = vec![(top.clone(), below, path.len())];
    while let Some((dir, left, length)) = pending.last_mut() {
        let mut bytes = path.into_vec();
        bytes.truncate(*length);
        path = OsString::from_vec(bytes);
        let Some((name, kind)) = left.pop() else {
            pending.pop();
            continue;
        };
        path.push("/");
        path.push(&name);
        let failed = |error| unsearched(&path, error);
        let kind = if kind == 0 { dir.stat(&name).map_err(failed)?.mode & libc::S_IFMT } else { kind };
        match kind {
            libc::S_IFDIR => {
                let below = dir.open_dir(&name).map_err(failed)?;
                let names = names(below.as_ref()).map_err(failed)?;
                pending.push((below, names, path.len()));
            }
            libc::S_IFREG if !visit(dir.as_ref(), &name) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

fn unsearched(path: &OsStr, error: std::io::Error) -> Error {
    match Error::reaching_part(&path.to_string_lossy(), error) {
        error @ Error::Errno(_) => Error::Unusable(format!(
            "{} cannot be searched for objects that the redo log has changes of: {error}",
            path.display()
        )),
        error => error,
    }
}

/// M4: in order; the length once, at the end, to the last mark's, since an earlier one would cut off direct writes.
fn apply(backend: &dyn Backend, reserve: &Reserve, file: Option<&Arc<dyn File>>, object: &Committed<'_>) -> Result<()> {
    let sidecars = backend.root()?.open_dir(OsStr::new(SIDECARS))?;
    let mtime = file.map(|file| file.metadata()).transpose()?.map(|metadata| metadata.mtime);
    let mut length = None;
    for record in &object.records {
        match (&record.body, file) {
            (Body::Segment { segment, offset, bytes }, _) => {
                let name = OsString::from(format!("{segment:08x}"));
                let segment = match sidecars.open_file(&name, Access::ReadWrite) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        sidecars.create_file(&name, &PRIVATE_FILE)
                    }
                    file => file,
                }?;
                reserve.with_room(|| segment.write_at(bytes, *offset))?;
            }
            (Body::Object { offset, bytes }, Some(file)) => {
                reserve.with_room(|| file.write_at(bytes, *offset))?;
            }
            (Body::Mark(mark), _) => {
                length = Some(mark.length);
                if let (true, Some(file)) = (object.seeded.is(Mistake::LengthInOrder), file) {
                    file.set_len(mark.length)?;
                }
            }
            _ => {}
        }
    }
    if let (Some(file), Some(length)) = (file, length) {
        file.set_len(length)?;
        file.set_times(None, mtime)?;
    }
    Ok(())
}

/// The same for a store that must not be written.
fn keep(replayed: &mut Replayed, file: Option<&Arc<dyn File>>, object: &Committed<'_>) {
    let mut patch = Patch::default();
    for record in &object.records {
        match record.body {
            Body::Segment { segment, offset, bytes } => {
                replayed.segments.entry(segment).or_default().writes.push((offset, bytes.to_vec()));
            }
            Body::Object { offset, bytes } => patch.writes.push((offset, bytes.to_vec())),
            Body::Mark(mark) => patch.len = Some(mark.length),
            Body::Dead => {}
        }
    }
    if let Some(file) = file {
        replayed.objects.insert(file.ino(), Arc::new(patch));
    }
}
