//! Checkpoints: what the log holds goes home, then its space is used again. Rules K1 to K6, U2, U3.

use crate::backend::{Backend, File};
use crate::local::admission::Admission;
use crate::local::gate::{Gate, Permit};
use crate::local::log::Log;
use crate::local::names::unsynced::Names;
use crate::local::objects::Objects;
use crate::local::objects::dead::Dead;
use crate::local::recovery::birth::Births;
use crate::local::reserve::Reserve;
use crate::local::segments::Segments;
use crate::mistakes::{Mistake, Seeded};
use crate::object::Noted;
use crate::{Error, Result};
use kmsfs_format::sidecar::Place;
use kmsfs_kms::{Waits, waits};
use kmsfs_locks::{Mutex, ranks};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files that are worth syncing one by one; beyond it the whole file system is synced at once.
const FEW: usize = 16;

/// Leave to append, and the checkpoints that make room for it: with all parts of the store that have something to be
/// written home, freed or made durable.
pub(crate) struct Checkpoints {
    pub(super) gate: Gate,
    /// When nothing waited for a checkpoint.
    pub(super) settled: Mutex<ranks::Settled, Instant>,
    pub(super) admission: Arc<Admission>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) log: Arc<Log>,
    pub(super) segments: Arc<Segments>,
    pub(super) objects: Arc<Objects>,
    pub(super) names: Arc<Names>,
    pub(super) births: Arc<Births>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) seeded: Seeded,
}

impl Checkpoints {
    /// Leave to append. Makes room first, if the log is full. By a thread that must not wait for a checkpoint
    /// ([`waits`]) only if there is none, and none is due.
    pub(crate) fn permit(&self) -> Result<Permit<'_>> {
        let may_wait = waits::may_wait(Waits::Disk);
        if self.needs_room() {
            self.admission.writable()?;
            may_wait?;
            let permit = self.gate.take_alone();
            // Not once more, if somebody else has made it meanwhile.
            if self.needs_room() {
                self.run_under(&permit, false)?;
            }
            drop(permit);
            self.give_back();
        }
        match may_wait {
            Ok(()) => Ok(self.gate.share()),
            Err(wait) => Ok(self.gate.try_share().ok_or(wait)?),
        }
    }

    /// Whether whoever appends now would wait for a checkpoint, or make one.
    pub(crate) fn appends_wait(&self) -> bool {
        self.gate.is_taken_alone() || self.needs_room()
    }

    /// Whether a checkpoint is to be made though nobody waits for one.
    pub(crate) fn is_due(&self) -> bool {
        const SOON: Duration = Duration::from_secs(30);
        let held =
            self.log.used() > 0 || !self.objects.dead.is_empty() || self.names.are_many() || self.births.has_loose();
        let mut settled = self.settled.lock();
        if !held {
            *settled = Instant::now();
        }
        held && (self.log.is_half_full() || settled.elapsed() > SOON)
    }

    fn needs_room(&self) -> bool {
        self.log.is_full() || self.objects.has_many_pinned()
    }

    /// Does what appends. If the disk is so full that the log could not grow, it is done once more after a checkpoint,
    /// before anybody else can fill the log again.
    pub(crate) fn with_permit<T>(&self, act: impl Fn(&Permit<'_>) -> Result<T>) -> Result<T> {
        let permit = self.permit()?;
        let done = act(&permit);
        drop(permit);
        if done.is_ok() || !self.log.is_cramped() {
            return done;
        }
        waits::may_wait(Waits::Disk)?;
        let permit = self.gate.take_alone();
        self.run_under(&permit, false)?;
        // There is need of the space.
        self.give_back();
        act(&permit)
    }

    /// Makes a checkpoint. Returns why an object was left behind, which hinders nobody else.
    pub(crate) fn run(&self, clean: bool) -> Result<Option<Error>> {
        self.admission.writable()?;
        waits::may_wait(Waits::Disk)?;
        // Appends wait from here to the end, before taking any object's lock (K1).
        let done = self.run_under(&self.gate.take_alone(), clean);
        self.give_back();
        done
    }

    /// The space of what a checkpoint made quiet. That can take long, and nobody need wait for it.
    fn give_back(&self) {
        for object in self.objects.living().into_iter().filter(|object| object.has_vacated()) {
            match object.clone().held() {
                Some(held) => held.give_back_vacated(),
                None => self.objects.let_go(&object),
            }
        }
    }

    fn run_under(&self, permit: &Permit<'_>, clean: bool) -> Result<Option<Error>> {
        let loose = self.births.begin_checkpoint(self.log.epoch());
        let done = self.run_with(permit, clean, loose);
        if loose && !matches!(done, Ok(None)) {
            self.births.add_loose();
        }
        done
    }

    /// `loose`: everything has to be synced (K8).
    fn run_with(&self, permit: &Permit<'_>, clean: bool, loose: bool) -> Result<Option<Error>> {
        let dead = self.objects.dead.all();
        let names = self.names.changes();
        let living = self.objects.living();
        let mut noted = Vec::with_capacity(living.len());
        let mut left_behind = None;
        for object in living {
            let note = match object.note(permit) {
                Ok(note) => note,
                // What nobody can commit and the log holds nothing of waits for a better time, or is lost as it was
                // told.
                Err(error) if !object.is_logged() => {
                    ::log::error!("{}: cannot be committed: {error}", object.show());
                    left_behind.get_or_insert(error);
                    continue;
                }
                Err(error) => {
                    let what = "cannot be committed, so the redo log cannot be checkpointed";
                    ::log::error!("{}: {what}: {error}", object.show());
                    return Err(error);
                }
            };
            noted.push((object, note));
        }
        self.log.sync()?; // K2
        if self.seeded.is(Mistake::EpochBeforeHomes) {
            self.log.raise_epoch(false, false)?;
        }
        self.sync_files(noted.iter().filter_map(|(_, note)| note.file_to_sync_first(self.seeded)).collect())?; // K7
        for (object, _) in noted.iter().filter(|(_, note)| note.has_log) {
            object.write_home()?; // K3
        }
        if self.seeded.is(Mistake::UnitFreedBeforeUnlink) {
            self.zero_units(&dead)?;
        }
        let unknown = loose && !self.seeded.is(Mistake::LooseNotSynced);
        self.sync_homes(noted.iter().map(|(_, note)| note), &dead, names, unknown)?; // K4
        let dead = if self.seeded.is(Mistake::DeadListTakenLate) { self.objects.dead.all() } else { dead };
        let mut free = self.zero_units(&dead)?; // K5
        if self.seeded.is(Mistake::UnitReusedEarly) {
            free.drain(..).for_each(|place| self.segments.give_back(place));
        }
        if clean {
            if let Err(error) = self.segments.save_free_list() {
                ::log::warn!("the list of free sidecar units is not kept, which costs their space: {error}");
            }
            self.backend.sync_all()?;
        }
        // What was left behind is not settled, and a crash in the next epoch may still have caught it.
        let settled = left_behind.is_none();
        self.log.raise_epoch(settled, clean && settled)?; // K6, K8
        for (object, note) in &noted {
            object.checkpointed(note);
        }
        self.objects.checkpointed(dead.len());
        // U3: only now that the epoch is durable.
        for place in free {
            self.segments.give_back(place);
        }
        // Those whose holes are given back now are let go then.
        for (object, _) in noted.iter().filter(|(object, note)| note.kept() && !object.has_vacated()) {
            self.objects.let_go(object);
        }
        // It may have been given up, and there is room again.
        self.reserve.keep();
        Ok(left_behind)
    }

    fn zero_units(&self, dead: &[Dead]) -> Result<Vec<Place>> {
        let mut free = Vec::new();
        for (id, place) in dead.iter().filter_map(|dead| dead.record) {
            if self.segments.free(place, id)? {
                free.push(place);
            }
        }
        Ok(free)
    }

    /// One by one, or the whole file system if there are many.
    fn sync_files(&self, files: Vec<&Arc<dyn File>>) -> Result<()> {
        if files.len() > FEW {
            return Ok(self.backend.sync_all()?);
        }
        Ok(files.into_iter().try_for_each(|file| file.sync())?)
    }

    /// K4: the segments, each object file written to, the directories of the names of the dead.
    fn sync_homes<'a>(
        &self,
        noted: impl Iterator<Item = &'a Noted>,
        dead: &[Dead],
        names: u64,
        unknown: bool,
    ) -> Result<()> {
        let files: Vec<_> = noted.filter_map(Noted::file_to_sync).collect();
        let dead = if self.seeded.is(Mistake::UnlinkNotSynced) { &[] } else { dead };
        let mut dirs: Vec<_> = dead.iter().filter_map(|dead| dead.dir.as_ref()).collect();
        dirs.sort_unstable_by_key(|dir| dir.ino());
        dirs.dedup_by_key(|dir| dir.ino());
        let unknown = unknown || self.names.are_many() || dead.iter().any(|dead| dead.dir.is_none());
        if unknown || files.len() + dirs.len() > FEW {
            self.backend.sync_all()?;
            self.names.all_synced(names);
            return Ok(());
        }
        self.segments.sync_all()?;
        files.into_iter().try_for_each(|file| file.sync())?;
        dirs.into_iter().try_for_each(|dir| dir.backing.sync().map_err(Error::from))
    }
}
