//! Second pass: the tree of names, and every object in it.

use super::records::Records;
use super::{CheckOptions, Progress, Report, Severity, content, is_fatal, repair, without_place};
use crate::backend::Access;
use crate::local::names::symlinks;
use crate::object::{Home, Remains, read_header};
use crate::{Dir, Error, Ino, Object, Result, Store, Target, Volume, VolumeNames, VolumeObjects};
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::Place;
use kmsfs_kms::Caller;
use kmsfs_sse as sse;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

pub(crate) struct Tree<'a> {
    store: &'a Arc<Store>,
    options: CheckOptions,
    caller: Caller,
    records: &'a Records,
    report: &'a mut Report,
    progress: &'a mut dyn FnMut(Progress) -> bool,
    seen: HashSet<Ino>,
    /// Objects by their id: inode, and where their sidecar is.
    ids: HashMap<ObjectId, (Ino, Place)>,
    /// Records of long symlinks, and of what earlier repairs put aside.
    others: HashMap<ObjectId, Place>,
    /// Some object's header could not be read, or some directory: whose records are whose is not known.
    unsure: bool,
    /// Objects that a repair wrote anew, by the inode of what was there before: for further names of it.
    salvaged: HashMap<Ino, (Arc<Dir>, OsString)>,
}

/// Which records are somebody's.
pub(crate) struct Used {
    pub places: HashMap<ObjectId, Place>,
    /// Whether all of them are known.
    pub certain: bool,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(
        store: &'a Arc<Store>,
        options: CheckOptions,
        caller: Caller,
        records: &'a Records,
        report: &'a mut Report,
        progress: &'a mut dyn FnMut(Progress) -> bool,
    ) -> Self {
        let (seen, ids, others, salvaged) = Default::default();
        Self { store, options, caller, records, report, progress, seen, ids, others, unsure: false, salvaged }
    }

    pub(crate) fn used(self) -> Used {
        let objects = self.ids.into_iter().map(|(id, (_, place))| (id, place));
        Used { places: objects.chain(self.others).collect(), certain: !self.unsure }
    }

    /// All buckets.
    pub(crate) fn walk(&mut self) -> Result<()> {
        self.lost_and_found()?;
        let root = self.store.root.clone();
        for (name, kind) in self.names(&root)? {
            let shown = name.to_string_lossy().into_owned();
            if kind != libc::S_IFDIR {
                self.unsure = true;
                self.report.add(Severity::Error, shown, "is no directory: only buckets belong here");
                continue;
            }
            if let Err(why) = sse::BucketName::parse(&shown) {
                self.report.add(Severity::Note, shown.as_str(), format_args!("is not a bucket's name: {why}"));
            }
            match self.store.open_dir(&root, &name) {
                Ok(bucket) => {
                    self.report.buckets += 1;
                    self.values(Target::Dir(&bucket), &shown)?;
                    self.directory(&bucket)?;
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    self.unsure = true;
                    self.report.add(Severity::Error, shown, error);
                }
            }
        }
        Ok(())
    }

    /// A directory and all below it; no recursion, as in `recovery::walk`.
    fn directory(&mut self, top: &Arc<Dir>) -> Result<()> {
        let mut pending = vec![(top.clone(), self.names(top)?.into_iter())];
        while let Some((dir, left)) = pending.last_mut() {
            let Some((name, kind)) = left.next() else {
                pending.pop();
                continue;
            };
            match kind {
                libc::S_IFDIR => match self.store.open_dir(dir, &name) {
                    Ok(below) => {
                        self.report.directories += 1;
                        self.values(Target::Dir(&below), &String::from_utf8_lossy(&below.path))?;
                        let names = self.names(&below)?.into_iter();
                        pending.push((below, names));
                    }
                    Err(error) if is_fatal(&error) => return Err(error),
                    Err(error) => {
                        self.unsure = true;
                        self.report.add(Severity::Error, dir.show(&name), error);
                    }
                },
                libc::S_IFREG => self.file(dir, &name)?,
                libc::S_IFLNK => self.symlink(dir, &name),
                _ => self.report.special += 1,
            }
        }
        Ok(())
    }

    /// The values of extended attributes. What is damaged stays: whoever uses the file knows whether to set or to
    /// remove it.
    fn values(&mut self, at: Target<'_>, shown: &str) -> Result<()> {
        let found = self.store.values.damaged(at).and_then(|damaged| Ok((damaged, self.store.values.unbound(at)?)));
        match found {
            Ok((damaged, unbound)) => {
                for attribute in unbound {
                    let attribute = attribute.to_string_lossy();
                    let what = format_args!(
                        "attribute {attribute} is not bound to it yet, as an earlier version left it: a mount for writing \
                         does that, and believes moved ones until it could with all (lsattr shows what may refuse it)"
                    );
                    self.report.add(Severity::Note, shown, what);
                }
                for attribute in damaged {
                    let attribute = attribute.to_string_lossy();
                    let what = format_args!("attribute {attribute} is not what was set: set or remove it in a mount");
                    self.report.add(Severity::Error, shown, what);
                }
                Ok(())
            }
            Err(error) if is_fatal(&error) => Err(error),
            Err(error) => {
                let error = error.to_string();
                let what = format_args!("its attributes: {}", without_place(shown, &error));
                self.report.add(Severity::Error, shown, what);
                Ok(())
            }
        }
    }

    /// Names and kinds. One that cannot be looked at is told.
    fn names(&mut self, dir: &Arc<Dir>) -> Result<Vec<(OsString, u32)>> {
        let mut names = Vec::new();
        let read = self.store.read_dir(dir, 0, &mut |entry| {
            names.push((entry.name.to_os_string(), entry.kind));
            true
        });
        if let Err(error) = read {
            if is_fatal(&error) {
                return Err(error);
            }
            self.unsure = true;
            self.report.add(Severity::Error, String::from_utf8_lossy(&dir.path_of(OsStr::new(""))), error);
        }
        for (name, kind) in &mut names {
            if *kind == 0 {
                let stat = dir.backing.stat(name).map_err(|error| Error::reaching(|| dir.show(name), error))?;
                *kind = stat.mode & libc::S_IFMT;
            }
        }
        names.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Ok(names)
    }

    fn symlink(&mut self, dir: &Arc<Dir>, name: &OsStr) {
        self.report.symlinks += 1;
        if let Ok(Some((id, place))) = symlinks::record(dir, name) {
            self.others.insert(id, place);
        }
        if let Err(error) = symlinks::read(&self.store.segments, dir, name) {
            let place = dir.show(name);
            let found = self.report.add(Severity::Error, place, error);
            if self.options.repair {
                found.repaired = repair::move_away(self.store, dir, name);
            }
        }
    }

    fn file(&mut self, dir: &Arc<Dir>, name: &OsStr) -> Result<()> {
        let ino = match dir.backing.stat(name).map_err(|error| Error::reaching(|| dir.show(name), error)) {
            Ok(stat) => stat.ino,
            Err(Error::Corrupt(finding)) => {
                self.unsure = true;
                self.report.add(Severity::Error, dir.show(name), finding);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.seen.insert(ino) {
            // One more name of an object that was looked at; of one that was written anew, it goes along.
            return match self.salvaged.get(&ino) {
                Some((from, new)) => repair::relink(self.store, from, new, dir, name),
                None => Ok(()),
            };
        }
        self.report.objects += 1;
        let progress =
            Progress { seen: self.report.objects, expected: self.records.sidecars(), scrubbed: self.report.scrubbed };
        if !(self.progress)(progress) {
            return Err(Error::Errno(libc::EINTR));
        }
        let shown = dir.show(name);
        if self.claims_an_id(dir, name, ino, &shown)? {
            return Ok(());
        }
        if !self.store.was_never_committed(dir, name) {
            self.values(Target::Name(dir, name), &shown)?;
        }
        match self.store.open_object(dir, name, &self.caller) {
            Ok(object) => {
                let looked = self.object(&object, dir, name, ino);
                self.store.release(&object);
                looked
            }
            Err(error) if is_fatal(&error) => Err(error),
            Err(Error::Sse(refusal)) => {
                self.report.add(Severity::Note, shown, format_args!("cannot be checked: {refusal}"));
                Ok(())
            }
            Err(Error::Corrupt(_)) if self.store.was_never_committed(dir, name) => {
                self.report.add(Severity::Note, shown, "was made and never synced before a crash: it is empty");
                Ok(())
            }
            Err(error) => self.damaged(dir, name, ino, &error.to_string()),
        }
    }

    /// Notes whose object it says it is. Answers true if another file says the same: it is a copy.
    fn claims_an_id(&mut self, dir: &Arc<Dir>, name: &OsStr, ino: Ino, shown: &str) -> Result<bool> {
        let header = dir.backing.open_file(name, Access::Read).map_err(Error::from).and_then(|file| {
            let mut block = vec![0; kmsfs_format::layout::BLOCK as usize];
            let home = Home { file, patch: self.store.aftermath.patch_of(ino) };
            let read = home.read(0, &mut block)?;
            Ok(kmsfs_format::header::Header::read(&block[..read])?)
        });
        let header = match header {
            Ok(header) => header,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(_) => {
                // Opening it says what is wrong.
                self.claim_by_inode(ino);
                return Ok(false);
            }
        };
        let remembered = self.records.by_inode.get(&ino).is_some_and(|(id, _)| *id == header.object_id);
        if let Some((other, _)) = self.ids.get(&header.object_id)
            && remembered
        {
            // The copy came first, and the object itself is not to suffer.
            let text = format!("another file (inode {other}) has its object id: that one is a copy made in the store");
            self.report.add(Severity::Error, shown, text);
            if self.options.repair {
                // The copy's inode may have come into the record.
                self.store.checkpoint()?;
            }
            self.store.objects.forget_closed(*other);
        } else if let Some((other, _)) = self.ids.get(&header.object_id) {
            let text = format!("has the object id of another file (inode {other}): it is a copy made in the store");
            let found = self.report.add(Severity::Error, shown, text);
            if self.options.repair {
                found.repaired = repair::move_away(self.store, dir, name);
            }
            return Ok(true);
        }
        self.ids.insert(header.object_id, (ino, header.sidecar));
        Ok(false)
    }

    /// Of a file without a header the sidecar may be known.
    fn claim_by_inode(&mut self, ino: Ino) {
        match self.records.by_inode.get(&ino) {
            Some((id, place)) => {
                self.ids.entry(*id).or_insert((ino, *place));
            }
            None => self.unsure = true,
        }
    }

    /// What earlier repairs put aside keeps its sidecars.
    fn lost_and_found(&mut self) -> Result<()> {
        for (file, ino) in repair::put_aside(self.store)? {
            match read_header(file.as_ref()) {
                Ok(header) => {
                    self.others.insert(header.object_id, header.sidecar);
                }
                // A log may be there too, and what no record knows.
                Err(_) => self.others.extend(self.records.by_inode.get(&ino).copied()),
            }
        }
        Ok(())
    }

    /// An object that opens: its header, sidecar, keys and seal are right.
    fn object(&mut self, object: &Arc<Object>, dir: &Arc<Dir>, name: &OsStr, ino: Ino) -> Result<()> {
        if object.with_state(|state| state.keyed.own_record(ino)).is_none() {
            let text = "its sidecar remembers another inode: it was copied or restored";
            let found = self.report.add(Severity::Note, dir.show(name), text);
            if self.options.repair {
                repair::adopt(self.store, object)?;
                found.repaired = Some("the sidecar remembers this one".into());
            }
        }
        if !self.options.scrub {
            return Ok(());
        }
        let scrubbed = content::scrub(object)?;
        self.report.scrubbed += scrubbed.bytes;
        if scrubbed.damaged.is_empty() {
            return Ok(());
        }
        let what = format!("not what was written there: bytes {}", content::ranges(&scrubbed.damaged));
        self.damaged(dir, name, ino, &what)
    }

    /// An object that does not open, or not all of it: what can be read of it goes into a new one.
    fn damaged(&mut self, dir: &Arc<Dir>, name: &OsStr, ino: Ino, what: &str) -> Result<()> {
        let mut repaired = None;
        if self.options.repair {
            let file = dir.backing.open_file(name, Access::Read)?;
            let known = self.records.by_inode.get(&ino).copied();
            repaired = match Remains::find(self.store, Home { file, patch: None }, known, &self.caller) {
                Ok(remains) => {
                    let (done, id) = repair::salvage(self.store, dir, name, remains, &self.caller)?;
                    self.salvaged.insert(ino, (dir.clone(), name.to_os_string()));
                    self.ids.insert(id.0, (id.1, id.2));
                    self.seen.insert(id.1);
                    Some(done)
                }
                Err(Error::Sse(_)) => None,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(_) => repair::move_away(self.store, dir, name),
            };
        }
        self.report.add(Severity::Error, dir.show(name), what).repaired = repaired;
        Ok(())
    }
}
