//! Names: what is in a directory, and what makes, moves and removes it.

pub(crate) mod dir;
pub(crate) mod foresight;
pub(crate) mod symlinks;
pub(crate) mod unsynced;

use crate::backend::Access;
use crate::backend::{self, NewNode, Rename};
use crate::local::objects::identity;
use crate::mistakes::Mistake;
use crate::{Attr, Dir, Error, Ino, KnownName, NameIfThere, Result, Store, Target, Volume, VolumeNames};
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::Place;
use kmsfs_kms::{Waits, waits};
use std::ffi::OsStr;
use std::sync::Arc;

impl VolumeNames for Store {
    fn open_dir(&self, parent: &Arc<Dir>, name: &OsStr) -> Result<Arc<Dir>> {
        let backing = self.objects.with_descriptor(|| parent.backing.open_dir(name));
        let backing = backing.map_err(|error| Error::reaching(|| parent.show(name), error))?;
        let bucket = match &parent.bucket {
            Some(bucket) => bucket.clone(),
            None => self.buckets.open(name)?,
        };
        Dir::new(backing, Some(bucket), parent.path_of(name))
    }

    fn read_dir(&self, dir: &Dir, cursor: u64, visit: &mut dyn FnMut(backend::Entry<'_>) -> bool) -> Result<()> {
        Ok(dir.backing.read(cursor, visit)?)
    }

    fn stat(&self, at: Target<'_>) -> Result<Attr> {
        match at {
            Target::Name(dir, name) => self.stat_name(dir, name),
            at => self.stat_at_hand(at),
        }
    }

    fn stat_at_hand(&self, at: Target<'_>) -> Result<Attr> {
        match at {
            Target::Object(object) => object.attr(),
            Target::Name(dir, name) => self.stat_name_at_hand(dir, name),
            Target::Dir(dir) => Ok(Attr::of(&dir.backing.metadata()?)),
        }
    }

    fn stat_if_there(&self, dir: &Dir, name: &OsStr) -> Result<Option<Attr>> {
        match self.stat_name(dir, name) {
            Err(Error::Errno(libc::ENOENT)) => Ok(None),
            found => found.map(Some),
        }
    }

    fn is_in_doubt(&self, attr: &Attr) -> bool {
        attr.mode & libc::S_IFMT == libc::S_IFREG && self.may_be_in_doubt(attr.ino)
    }

    fn may_be_in_doubt(&self, ino: Ino) -> bool {
        self.aftermath.knows_a_crash() && self.objects.loaded(ino).is_none()
    }

    fn generation(&self, dir: &Dir, name: &OsStr) -> Option<u32> {
        dir.backing.generation(name)
    }

    fn make_dir(&self, dir: &Arc<Dir>, name: &OsStr, node: &NewNode) -> Result<Attr> {
        self.admission.writable()?;
        if dir.bucket.is_none() {
            // Without a doubt: the record of a bucket that is there must not be replaced.
            match dir.backing.stat(name) {
                Ok(_) => return Err(Error::Errno(libc::EEXIST)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
            self.buckets.create(name, self.backend.now())?;
        }
        self.names.changing(|| dir.backing.make_dir(name, node))?;
        self.made(dir, name)
    }

    fn make_node(&self, dir: &Arc<Dir>, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> Result<Attr> {
        self.admission.writable()?;
        dir.in_bucket()?;
        self.names.changing(|| dir.backing.make_node(name, kind, rdev, node))?;
        self.made(dir, name)
    }

    fn make_symlink(&self, dir: &Arc<Dir>, name: &OsStr, target: &[u8], node: &NewNode) -> Result<Attr> {
        self.admission.writable()?;
        self.names.changing(|| symlinks::make(&self.segments, dir, name, target, node))?;
        self.made(dir, name)
    }

    fn read_link(&self, dir: &Dir, name: &OsStr) -> Result<Vec<u8>> {
        symlinks::read(&self.segments, dir, name)
    }

    fn link(&self, from: &Arc<Dir>, name: &OsStr, to: &Arc<Dir>, to_name: &OsStr) -> Result<Attr> {
        self.admission.writable()?;
        if self.aftermath.knows_a_crash() {
            // To know its length may take waiting, and once it has the name there is no way back.
            waits::may_wait(Waits::Disk)?;
        }
        self.names.changing(|| from.backing.link(name, to.backing.as_ref(), to_name))?;
        self.made(to, to_name)
    }

    fn unlink_known(&self, dir: &Arc<Dir>, name: &OsStr, attr: &Attr, hold: &mut dyn FnMut()) -> Result<()> {
        self.admission.writable()?;
        let going = self.going(dir, name, attr)?;
        hold();
        let _settling = self.objects.settle(going.ino)?;
        self.names.changing(|| dir.backing.unlink(name))?;
        self.gone(going, dir);
        Ok(())
    }

    fn remove_dir(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<()> {
        self.admission.writable()?;
        let ino = self.stat_name(dir, name)?.ino;
        let _settling = self.objects.settle(ino)?;
        self.names.changing(|| dir.backing.remove_dir(name))?;
        if dir.bucket.is_none() {
            // The record goes when the bucket is durably gone, so that no bucket is ever without one.
            dir.backing.sync()?;
            self.buckets.remove(name)?;
        }
        self.unlinked(ino, true, dir, None);
        Ok(())
    }

    /// N2: save-by-rename without fsync shows old or new after a crash, never EIO. To be called before `rename_known`,
    /// by whoever holds nothing yet: it takes long.
    fn sync_before_rename(
        &self,
        (from, name, source): KnownName<'_>,
        (to, to_name, target): NameIfThere<'_>,
        how: Rename,
    ) -> Result<()> {
        self.admission.writable()?;
        let Some(target) = target.filter(|target| target.ino != source.ino && how != Rename::NoReplace) else {
            return Ok(());
        };
        self.sync_named(from, name, source)?;
        if how == Rename::Exchange { self.sync_named(to, to_name, target) } else { Ok(()) }
    }

    fn rename_known(
        &self,
        (from, name, source): KnownName<'_>,
        (to, to_name, target): NameIfThere<'_>,
        how: Rename,
        hold: &mut dyn FnMut(),
    ) -> Result<()> {
        self.admission.writable()?;
        if target.is_some() && how == Rename::NoReplace {
            return Err(Error::Errno(libc::EEXIST));
        }
        if target.is_some_and(|target| target.ino == source.ino) && how.replaces() {
            hold();
            return Ok(());
        }
        let replaced = target.filter(|_| how.replaces());
        let going = replaced.map(|target| self.going(to, to_name, target)).transpose()?;
        hold();
        let settling = going.as_ref().map(|going| self.objects.settle(going.ino)).transpose()?;
        self.names.changing(|| from.backing.rename(name, to.backing.as_ref(), to_name, how))?;
        if let Some(going) = going {
            self.gone(going, to);
        }
        drop(settling);
        self.moved(source, to, to_name);
        match (how, target) {
            (Rename::Exchange, Some(target)) => self.moved(target, from, name),
            (Rename::Whiteout, _) => drop(self.made(from, name)?),
            _ => {}
        }
        Ok(())
    }

    fn fsync_dir(&self, dir: &Arc<Dir>) -> Result<()> {
        if self.read_only() {
            return Ok(());
        }
        let new = self.names.unsynced_in(dir.ino());
        let mut closed = false;
        for ino in new {
            match self.objects.attached(ino) {
                Some(object) => self.checkpoints.with_permit(|permit| object.sync_content(permit))?,
                None => closed |= self.objects.loaded(ino).is_none_or(|object| object.is_unsynced()),
            }
        }
        if closed {
            return self.names.sync_everything();
        }
        self.names.sync_dir(dir)?;
        self.names.sync_of(dir.ino())
    }
}

impl Store {
    /// A name's attributes, with what its object knows better, what its file's length means or, where a crash left that
    /// in doubt, what opening it shows.
    pub(crate) fn stat_name(&self, dir: &Dir, name: &OsStr) -> Result<Attr> {
        let mut attr = self.stat_name_at_hand(dir, name)?;
        if self.is_in_doubt(&attr)
            && let Some(size) = self.size_after_crash(dir, name, attr.ino)?
        {
            attr.size = size;
        }
        Ok(attr)
    }

    /// The same without asking the KMS, in doubt as the file says.
    fn stat_name_at_hand(&self, dir: &Dir, name: &OsStr) -> Result<Attr> {
        let metadata = dir.backing.stat(name).map_err(|error| Error::reaching(|| dir.show(name), error))?;
        let mut attr = Attr::of(&metadata);
        match metadata.mode & libc::S_IFMT {
            libc::S_IFREG => {
                if let Some(object) = self.objects.loaded(attr.ino) {
                    object.correct(&mut attr);
                } else {
                    attr.size = self.aftermath.plain_size(dir, name, &metadata, &self.features);
                }
            }
            libc::S_IFLNK => attr.size = symlinks::size(dir, name)?,
            _ => {}
        }
        Ok(attr)
    }

    fn made(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<Attr> {
        let attr = self.stat_name_at_hand(dir, name)?;
        let _settling = self.objects.settling(attr.ino);
        self.names.add(attr.ino, attr.mode, dir);
        Ok(attr)
    }

    /// Removes a name that is no directory's.
    pub fn unlink(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<()> {
        self.unlink_known(dir, name, &self.stat_name(dir, name)?, &mut || ())
    }

    /// Who loses a name.
    fn going(&self, dir: &Dir, name: &OsStr, attr: &Attr) -> Result<Going> {
        let (ino, last) = (attr.ino, attr.nlink <= 1);
        let on_disk = match attr.mode & libc::S_IFMT {
            libc::S_IFREG if last && self.objects.loaded(ino).is_none() => {
                dir.backing.open_file(name, Access::Read).ok().and_then(|file| {
                    let (id, place) = self.foresight.identity_of_leaving(dir, file.as_ref())?;
                    // A copy made behind the daemon's back does not take its original's sidecar along.
                    self.is_sidecar_of(id, place, ino).then_some((id, place))
                })
            }
            libc::S_IFLNK if last => symlinks::record(dir, name)?,
            _ => None,
        };
        let is_dir = attr.mode & libc::S_IFMT == libc::S_IFDIR;
        Ok(Going { ino, last: last || is_dir, on_disk })
    }

    pub(crate) fn is_sidecar_of(&self, id: ObjectId, place: Place, ino: Ino) -> bool {
        let bytes = self.segments.read(place).unwrap_or_default();
        if self.seeded.is(Mistake::UnitFreedUnseen) {
            return true;
        }
        kmsfs_format::sidecar::Record::read(&bytes).is_ok_and(|record| record.object_id == id && record.inode == ino.0)
    }

    fn gone(&self, going: Going, dir: &Arc<Dir>) {
        self.unlinked(going.ino, going.last, dir, going.on_disk);
    }

    /// Within one bucket (the caller has checked). Renaming over an object makes the source durable first (N2).
    pub fn rename(&self, from: &Arc<Dir>, name: &OsStr, to: &Arc<Dir>, to_name: &OsStr, how: Rename) -> Result<()> {
        let source = self.stat_name(from, name)?;
        let target = self.stat_if_there(to, to_name)?;
        self.sync_before_rename((from, name, &source), (to, to_name, target.as_ref()), how)?;
        self.rename_known((from, name, &source), (to, to_name, target.as_ref()), how, &mut || ())
    }

    fn moved(&self, node: &Attr, dir: &Arc<Dir>, name: &OsStr) {
        self.names.add(node.ino, node.mode, dir);
        if node.mode & libc::S_IFMT == libc::S_IFDIR {
            self.names.dir_moved(node.ino);
        }
        if let Some(object) = self.objects.loaded(node.ino) {
            object.rename_to(dir.path_of(name));
        }
    }

    fn sync_named(&self, dir: &Dir, name: &OsStr, source: &Attr) -> Result<()> {
        if source.mode & libc::S_IFMT != libc::S_IFREG || self.seeded.is(Mistake::RenameWithoutSync) {
            return Ok(());
        }
        if self.objects.loaded(source.ino).is_some_and(|object| !object.is_unsynced()) {
            return Ok(());
        }
        if let Some(object) = self.objects.attached(source.ino) {
            return self.checkpoints.with_permit(|permit| object.sync_content(permit));
        }
        // Committed, and nothing of it is in the log: its file and its sidecar are all there is.
        let file = dir.backing.open_file(name, Access::Read)?;
        file.sync()?;
        match identity(file.as_ref()) {
            Some((_, place)) => self.segments.sync(place.segment),
            None => Ok(()),
        }
    }
}

/// An inode that loses a name: whether it was the last, and the record to free if it is not in memory.
struct Going {
    ino: Ino,
    last: bool,
    on_disk: Option<(ObjectId, Place)>,
}
