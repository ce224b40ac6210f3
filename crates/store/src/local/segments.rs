//! The segment files that sidecar records are packed into, and which of their units are free.
//!
//! A unit is given out only if it reads as zero and was not given out since the mount; the list of free units is a
//! hint, so a stale one destroys nothing.

use crate::backend::{Access, Dir, File};
use crate::local::recovery::Patch;
use crate::local::sealed::parameters::{PRIVATE_FILE, read_file};
use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Result};
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::{self, Place, UNIT};
use kmsfs_locks::{Mutex, ranks};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::sync::Arc;

/// Units in a segment: 16 MiB.
const SEGMENT_UNITS: u32 = 1 << 15;
/// Bytes of a whole segment.
const BYTES: usize = SEGMENT_UNITS as usize * UNIT;
const FREE_LIST: &str = "free";

pub(crate) struct Segments {
    dir: Arc<dyn Dir>,
    access: Access,
    seeded: Seeded,
    /// What a read-only recovery lays over them.
    patches: HashMap<u32, Patch>,
    files: Mutex<ranks::SegmentFiles, HashMap<u32, Arc<dyn File>>>,
    units: Mutex<ranks::SegmentUnits, Units>,
}

struct Units {
    /// Segment that grows, and its first unit that was never given out.
    last: u32,
    end: u32,
    /// Free runs by their length. Only a hint.
    free: BTreeMap<u16, Vec<Place>>,
}

impl Segments {
    pub(crate) fn open(
        dir: Arc<dyn Dir>,
        access: Access,
        patches: HashMap<u32, Patch>,
        seeded: Seeded,
    ) -> Result<Self> {
        let last = numbers(dir.as_ref())?.last().copied().unwrap_or(0);
        let segments = Self {
            dir,
            access,
            seeded,
            patches,
            files: Mutex::new(HashMap::new()),
            units: Mutex::new(Units { last, end: 0, free: BTreeMap::new() }),
        };
        if let Ok(file) = segments.file(last) {
            segments.units.lock().end = file.metadata()?.len.div_ceil(UNIT as u64) as u32;
        }
        segments.load_free_list();
        Ok(segments)
    }

    /// Of all segments, in order.
    pub(crate) fn numbers(&self) -> Result<Vec<u32>> {
        numbers(self.dir.as_ref())
    }

    /// Everything that is in a segment.
    pub(crate) fn read_whole(&self, segment: u32) -> Result<Vec<u8>> {
        let file = self.file(segment)?;
        let mut bytes = vec![0; (file.metadata()?.len as usize).min(BYTES)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        if let Some(patch) = self.patches.get(&segment) {
            bytes.resize(BYTES.max(read), 0);
            patch.lay_over(0, &mut bytes, read);
        }
        Ok(bytes)
    }

    /// A record as a read-only recovery has it, if it touches the segment at all.
    pub(crate) fn patched(&self, place: Place) -> Option<Vec<u8>> {
        let patch = self.patches.get(&place.segment)?;
        let mut bytes = self.read(place).ok()?;
        let read = bytes.len();
        bytes.resize(place.bytes(), 0);
        patch.lay_over(place.offset(), &mut bytes, read);
        Some(bytes)
    }

    /// Replaces the list of free units.
    pub(crate) fn set_free(&self, runs: Vec<Place>) {
        self.units.lock().free.clear();
        for run in runs {
            self.give_back(run);
        }
    }

    pub(crate) fn read(&self, place: Place) -> Result<Vec<u8>> {
        let mut bytes = vec![0; place.bytes()];
        let read = self.file(place.segment)?.read_at(&mut bytes, place.offset())?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub(crate) fn write(&self, segment: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file_or_new(segment)?.write_at(bytes, offset)?)
    }

    pub(crate) fn sync(&self, segment: u32) -> Result<()> {
        Ok(self.file_or_new(segment)?.sync_data()?)
    }

    /// Makes durable every segment that was used, and their names.
    pub(crate) fn sync_all(&self) -> Result<()> {
        let files: Vec<_> = self.files.lock().values().cloned().collect();
        files.iter().try_for_each(|file| file.sync_data())?;
        Ok(self.dir.sync()?)
    }

    /// Gives out units for one record.
    pub(crate) fn take(&self, units: u16) -> Result<Place> {
        let mut state = self.units.lock();
        while let Some(place) = state.pop_free(units) {
            let empty = |bytes: Vec<u8>| bytes.iter().all(|byte| *byte == 0) || self.seeded.is(Mistake::StaleFreeList);
            if self.read(place).is_ok_and(empty) {
                return Ok(place);
            }
            // The hint was stale: somebody's record is there, or no segment.
        }
        if state.end + u32::from(units) > SEGMENT_UNITS {
            state.last = state.last.checked_add(1).ok_or(Error::Errno(libc::ENOSPC))?;
            state.end = 0;
        }
        let place = Place { segment: state.last, unit: state.end, units };
        state.end += u32::from(units);
        Ok(place)
    }

    /// Takes back units: of a creation that failed before it wrote anything there, or, after a checkpoint whose epoch
    /// is durable, of the dead.
    pub(crate) fn give_back(&self, place: Place) {
        self.units.lock().free.entry(place.units).or_default().push(place);
    }

    /// Zeroes the units of a dead object, if they still name it. Returns whether they did.
    pub(crate) fn free(&self, place: Place, owner: ObjectId) -> Result<bool> {
        let record = match self.read(place) {
            // Its creation wrote nothing, not even the segment.
            Err(error) if error.is_errno(rustix::io::Errno::NOENT) => return Ok(false),
            record => record?,
        };
        if sidecar::owner(&record) != Some(owner) && !self.seeded.is(Mistake::UnitFreedUnseen) {
            return Ok(false);
        }
        self.write(place.segment, place.offset(), &vec![0; place.bytes()])?;
        Ok(true)
    }

    /// Leaves the list of free units for the next mount. Losing it loses space until the store is checked, nothing
    /// else.
    pub(crate) fn save_free_list(&self) -> Result<()> {
        let mut text = String::new();
        for place in self.units.lock().free.values().flatten() {
            let _ = writeln!(text, "{} {} {}", place.segment, place.unit, place.units);
        }
        let name = OsStr::new(FREE_LIST);
        let file = match self.dir.open_file(name, Access::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.dir.create_file(name, &PRIVATE_FILE)?,
            Err(error) => return Err(error.into()),
        };
        file.set_len(0)?;
        Ok(file.write_at(text.as_bytes(), 0)?)
    }

    fn load_free_list(&self) {
        if self.seeded.is(Mistake::StaleFreeList) {
            let units = self.units.lock().end as u16;
            self.give_back(Place { segment: 0, unit: 0, units });
            return;
        }
        let Ok(bytes) = read_file(self.dir.as_ref(), OsStr::new(FREE_LIST)) else { return };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines() {
            let mut numbers = line.split(' ').map(str::parse::<u32>);
            if let (Some(Ok(segment)), Some(Ok(unit)), Some(Ok(units))) =
                (numbers.next(), numbers.next(), numbers.next())
                && (1..=sidecar::MAX_UNITS as u32).contains(&units)
                && unit.saturating_add(units) <= SEGMENT_UNITS
            {
                self.give_back(Place { segment, unit, units: units as u16 });
            }
        }
    }

    fn file(&self, segment: u32) -> Result<Arc<dyn File>> {
        if let Some(file) = self.files.lock().get(&segment) {
            return Ok(file.clone());
        }
        let file = self.dir.open_file(&segment_name(segment), self.access)?;
        self.files.lock().insert(segment, file.clone());
        Ok(file)
    }

    fn file_or_new(&self, segment: u32) -> Result<Arc<dyn File>> {
        match self.file(segment) {
            Err(error) if error.is_errno(rustix::io::Errno::NOENT) => {
                let mut files = self.files.lock();
                if let Some(file) = files.get(&segment) {
                    return Ok(file.clone());
                }
                let file = self.dir.create_file(&segment_name(segment), &PRIVATE_FILE)?;
                // Once a segment: whoever syncs its content can rely on its name.
                self.dir.sync()?;
                files.insert(segment, file.clone());
                Ok(file)
            }
            file => file,
        }
    }
}

impl Units {
    fn pop_free(&mut self, units: u16) -> Option<Place> {
        let (&length, runs) = self.free.range_mut(units..).find(|(_, runs)| !runs.is_empty())?;
        let run = runs.pop()?;
        if length > units {
            let rest = Place { unit: run.unit + u32::from(units), units: length - units, ..run };
            self.free.entry(rest.units).or_default().push(rest);
        }
        Some(Place { units, ..run })
    }
}

fn segment_name(segment: u32) -> OsString {
    format!("{segment:08x}").into()
}

fn numbers(dir: &dyn Dir) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    dir.read(0, &mut |entry| {
        numbers.extend(segment_number(entry.name));
        true
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn segment_number(name: &OsStr) -> Option<u32> {
    let text = name.to_str().filter(|text| text.len() == 8)?;
    u32::from_str_radix(text, 16).ok()
}
