//! Names: looking them up, making, moving and removing them.

use super::{Creation, Fs, Ino, Reached, Refusal, Result};
use kmsfs_kms::Caller;
use kmsfs_sse::BucketName;
use kmsfs_store::backend::{self, Rename};
use kmsfs_store::interleaving::just_before_use;
use kmsfs_store::{Attr, Dir, Target};
use std::ffi::OsStr;
use std::sync::Arc;

/// A name that was looked up or made.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// Tells apart inodes that have the same number one after the other.
    pub generation: u64,
    /// The kernel has to ask for the attributes each time: of configurations, which change without its doing, and where
    /// a handle is refused, which is told by that.
    pub volatile: bool,
}

impl Entry {
    /// The inode's number.
    pub fn ino(&self) -> Ino {
        self.attr.ino
    }
}

/// One name of a directory.
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// The inode's number, as the directory has it.
    pub ino: Ino,
    /// `S_IFMT` part of the mode; 0 if the backing file system does not tell.
    pub kind: u32,
    /// Where reading goes on after it.
    pub cursor: u64,
}

impl Fs {
    /// The inode of that name, which is known from then on until it is forgotten.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Entry> {
        Self::check_name(name)?;
        let dir = self.dir(parent)?;
        self.look_up_in(&dir, name)
    }

    fn look_up_in(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<Entry> {
        let attr = self.store.stat(Target::Name(dir, name))?;
        Ok(self.entry(dir, name, attr))
    }

    pub(super) fn entry(&self, dir: &Dir, name: &OsStr, attr: Attr) -> Entry {
        let ino = attr.ino;
        self.has_to_ask_again(ino);
        let own = self.store.generation(dir, name);
        let generation = self.inodes.looked_up(&attr, (dir.ino(), name.to_owned()), own);
        Entry { attr, generation, volatile: Self::is_configuration(name) || self.is_revoked(ino) }
    }

    /// An inode is no longer known, as often as that of the times that it was looked up or made.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.inodes.forget(ino, lookups);
    }

    /// Entries from a cursor on, 0 being the beginning, until `visit` answers false.
    pub fn read_dir(&self, ino: Ino, cursor: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let dir = self.dir(ino)?;
        self.store.read_dir(&dir, cursor, &mut |entry: backend::Entry<'_>| {
            visit(DirEntry { name: entry.name, ino: entry.ino, kind: entry.kind, cursor: entry.cursor })
        })?;
        Ok(())
    }

    /// As `read_dir`, each entry looked up in the same go; one that has gone meanwhile is left out, and of one
    /// that cannot be looked up there is the name alone. `visit` returns whether it took the entry; one that it did not
    /// take is not counted as looked up.
    ///
    /// Before an entry whose look-up this thread would have to wait for it stops, and it refuses only if that is the
    /// first one: what was taken is not looked up, and counted, again.
    pub fn read_dir_plus(
        &self,
        ino: Ino,
        cursor: u64,
        visit: &mut dyn FnMut(DirEntry<'_>, Option<Entry>) -> bool,
    ) -> Result<()> {
        let dir = self.dir(ino)?;
        let (mut any, mut would_wait) = (false, None);
        self.store.read_dir(&dir, cursor, &mut |entry: backend::Entry<'_>| {
            let found = match self.look_up_in(&dir, entry.name) {
                Err(refusal) if refusal.is_not_found() => return true,
                Err(Refusal::WouldWait(wait)) => {
                    would_wait = Some(wait);
                    return false;
                }
                found => found.ok(),
            };
            let item = DirEntry { name: entry.name, ino: entry.ino, kind: entry.kind, cursor: entry.cursor };
            let taken = visit(item, found);
            if let (false, Some(found)) = (taken, found) {
                self.inodes.forget(found.ino(), 1);
            }
            any |= taken;
            taken
        })?;
        would_wait.filter(|_| !any).map_or(Ok(()), |wait| Err(wait.into()))
    }

    /// Inode number of the directory above.
    pub fn parent(&self, ino: Ino) -> Ino {
        self.inodes.name(ino).map_or(self.root(), |(parent, _)| parent)
    }

    /// Makes a directory; at the root a bucket, whose name has S3's rules.
    pub fn mkdir(&self, parent: Ino, name: &OsStr, creation: &Creation) -> Result<Entry> {
        Self::check_name(name)?;
        let dir = self.dir(parent)?;
        if dir.bucket().is_none() {
            BucketName::parse(name).map_err(|rule| Refusal::BucketName { name: name.to_owned(), rule })?;
        }
        Self::refuse_as_configuration(&dir, name)?;
        let attr = self.store.make_dir(&dir, name, &self.node(&dir, creation)?)?;
        Ok(self.entry(&dir, name, attr))
    }

    /// A regular file, FIFO, socket or device: `kind` is the `S_IFMT` part.
    pub fn mknod(&self, parent: Ino, name: &OsStr, kind: u32, rdev: u64, creation: &Creation) -> Result<Entry> {
        Self::check_name(name)?;
        let dir = self.below_root(parent)?;
        if kind == libc::S_IFREG || kind == 0 {
            let (object, entry) = self.make_object(&dir, name, creation)?;
            let done = object.commit();
            self.store.release(&object);
            done?;
            return Ok(entry);
        }
        Self::refuse_as_configuration(&dir, name)?;
        let attr = self.store.make_node(&dir, name, kind, rdev, &self.node(&dir, creation)?)?;
        Ok(self.entry(&dir, name, attr))
    }

    /// Makes a symlink.
    pub fn symlink(&self, parent: Ino, name: &OsStr, target: &[u8], creation: &Creation) -> Result<Entry> {
        Self::check_name(name)?;
        let dir = self.below_root(parent)?;
        Self::refuse_as_configuration(&dir, name)?;
        let attr = self.store.make_symlink(&dir, name, target, &self.node(&dir, creation)?)?;
        Ok(self.entry(&dir, name, attr))
    }

    /// Where a symlink points.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let (_held, reached) = self.hold(ino)?;
        let Reached::Name(dir, name) = reached else { return Err(Refusal::Stale) };
        just_before_use();
        Ok(self.store.read_link(dir.as_ref(), &name)?)
    }

    /// Takes a name away from what is no directory.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        Self::check_name(name)?;
        let dir = self.dir(parent)?;
        let attr = self.store.stat(Target::Name(&dir, name))?;
        let is_configuration = Self::is_configuration(name) && dir.bucket().is_some();
        let after = if is_configuration { vec![(dir.clone(), None)] } else { Vec::new() };
        let unlink = || {
            let _moving = self.searches.names_change();
            let ino = attr.ino;
            self.losing(parent, name, attr, || {
                let mut held = None;
                let mut hold = || held = Some(self.searches.hold(ino, ino));
                let done = self.store.unlink_known(&dir, name, &attr, &mut hold);
                drop(held);
                done
            })
        };
        self.configuring(&after, unlink, || Ok(self.store.fsync_dir(&dir)?))?;
        self.configuration_changed(&dir, name);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        Self::check_name(name)?;
        let dir = self.dir(parent)?;
        let attr = self.store.stat(Target::Name(&dir, name))?;
        let alone = self.store.configured().alone()?;
        let _moving = self.searches.names_change();
        // Alone, so that nobody opens it again before its number can be another directory's.
        let _tree = self.tree.write();
        let removed = self.store.configured().removed(&self.path_in((&dir, name)));
        let remove = || {
            self.losing(parent, name, attr, || {
                self.dirs.drop_one(attr.ino);
                self.configurations.forget(attr.ino);
                self.store.remove_dir(&dir, name)
            })
        };
        Self::relocating(&alone, &removed, remove, || Ok(self.store.fsync_dir(&dir)?))
    }

    /// Does what takes a name away from an inode.
    fn losing<T>(
        &self,
        parent: Ino,
        name: &OsStr,
        attr: Attr,
        act: impl FnOnce() -> kmsfs_store::Result<T>,
    ) -> Result<T> {
        let is_dir = attr.mode & libc::S_IFMT == libc::S_IFDIR;
        let last = (is_dir || attr.nlink <= 1).then_some(Attr { nlink: 0, ..attr });
        self.inodes.unlinked(attr.ino, parent, name, last);
        Ok(act().inspect_err(|_| self.inodes.restored(attr.ino, parent, name))?)
    }

    /// Gives a file another name in its bucket.
    pub fn link(&self, ino: Ino, parent: Ino, name: &OsStr, caller: &Caller) -> Result<Entry> {
        Self::check_name(name)?;
        let dir = self.below_root(parent)?;
        self.may_end_doubt(ino)?;
        // Unlinked and still open: no name is left to link from.
        let (from, from_name) = self.inodes.name(ino).ok_or(Refusal::NotFound)?;
        let from = self.dir(from)?;
        Self::same_bucket(&from, &dir)?;
        if self.store.stat_at_hand(Target::Name(&dir, name)).is_ok() {
            return Err(Refusal::Exists);
        }
        let mut after = Vec::new();
        if Self::is_configuration(name) {
            self.become_configuration((&from, &from_name), (&dir, name), caller)?;
            after.push((dir.clone(), self.digest_of((&from, &from_name))?));
        }
        let link = || {
            let _moving = self.searches.names_change();
            Ok(self.store.link(&from, &from_name, &dir, name)?)
        };
        let attr = self.configuring(&after, link, || self.settle_configurations(&[&dir]))?;
        self.configuration_changed(&dir, name);
        Ok(self.entry(&dir, name, self.beyond_doubt_by_now(attr)))
    }

    /// Moves a name within its bucket, as renameat2(2) does.
    pub fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        to_parent: Ino,
        to_name: &OsStr,
        how: Rename,
        caller: &Caller,
    ) -> Result<()> {
        Self::check_name(name)?;
        Self::check_name(to_name)?;
        let (from, to) = (self.dir(parent)?, self.dir(to_parent)?);
        Self::same_bucket(&from, &to)?;
        let source = self.store.stat_at_hand(Target::Name(&from, name))?;
        let target = self.store.stat_if_there(&to, to_name)?;
        let is_dir = |attr: &Attr| attr.mode & libc::S_IFMT == libc::S_IFDIR;
        let dirs = is_dir(&source) || target.as_ref().is_some_and(is_dir);
        match (how, target) {
            (Rename::NoReplace, Some(_)) => return Err(Refusal::Exists),
            (Rename::Exchange, None) => return Err(Refusal::NotFound),
            (_, Some(target)) if target.ino == source.ino => return Ok(()),
            (_, Some(target)) if how.replaces() && is_dir(&target) && !is_dir(&source) => {
                return Err(Refusal::IsADirectory);
            }
            (_, Some(target)) if how.replaces() && is_dir(&source) && !is_dir(&target) => {
                return Err(Refusal::NotADirectory);
            }
            _ => {}
        }
        self.adopt_configuration((&from, name), (&to, to_name), how, caller)?;
        self.store.sync_before_rename((&from, name, &source), (&to, to_name, target.as_ref()), how)?;
        let hold = || self.searches.hold(source.ino, target.map_or(source.ino, |target| target.ino));
        let rename = || {
            let (old, new) = ((&from, name, &source), (&to, to_name, target.as_ref()));
            let mut held = None;
            // Beside directories they are held already.
            self.store.rename_known(old, new, how, &mut || held = (!dirs).then(hold))?;
            Ok(held)
        };
        let act = || {
            let _held = match target {
                Some(target) if how == Rename::Exchange => {
                    let held = rename()?;
                    self.inodes.renamed(target.ino, (to_parent, to_name), (parent, name.to_owned()));
                    held
                }
                Some(target) => self.losing(to_parent, to_name, target, rename)?,
                None => rename()?,
            };
            self.inodes.renamed(source.ino, (parent, name), (to_parent, to_name.to_owned()));
            Ok(())
        };
        let settle = || self.settle_configurations(&[&to, &from]);
        if dirs {
            let alone = self.store.configured().alone()?;
            let _moving = self.searches.names_change();
            let _held = hold();
            let _tree = self.tree.write();
            let (old, new) = (self.path_in((&from, name)), self.path_in((&to, to_name)));
            Self::relocating(&alone, &self.store.configured().moved(&old, &new, how), act, settle)?;
            self.dirs.drop_all();
        } else {
            let after = self.configurations_after((&from, name), (&to, to_name), how)?;
            let act = || {
                let _moving = self.searches.names_change();
                act()
            };
            self.configuring(&after, act, settle)?;
        }
        self.configuration_changed(&from, name);
        self.configuration_changed(&to, to_name);
        Ok(())
    }

    /// Makes a directory's names durable, and the objects behind those that are new.
    pub fn fsync_dir(&self, ino: Ino) -> Result<()> {
        match self.dir(ino) {
            // Nothing is left of it that could be synced.
            Err(_) if self.inodes.remembered(ino).is_some() => Ok(()),
            dir => Ok(self.store.fsync_dir(&dir?)?),
        }
    }

    /// The space below.
    pub fn statfs(&self) -> Result<backend::Space> {
        Ok(self.store.space()?)
    }

    /// A directory in which files can be made: EPERM at the root, where only buckets are.
    pub(super) fn below_root(&self, ino: Ino) -> Result<Arc<Dir>> {
        let dir = self.dir(ino)?;
        if dir.bucket().is_none() {
            return Err(Refusal::BucketsOnly);
        }
        Ok(dir)
    }

    /// As S3 has it: an object goes to another bucket by being copied; and buckets cannot be renamed.
    fn same_bucket(from: &Dir, to: &Dir) -> Result<()> {
        match (from.bucket(), to.bucket()) {
            (Some(from), Some(to)) if from == to => Ok(()),
            _ => Err(Refusal::OtherBucket),
        }
    }
}
