//! The whole disk at some moment: inodes, and the changes of names that are not durable. Copies share what is equal.

use super::faults::errno;
use super::inode::{Body, DIRECTORY, DirectoryBody, FileBody, Inode, SYMLINK};
use super::moves::{Change, Move, closure};
use kmsfs_store::Time;
use kmsfs_store::backend::{NewNode, Rename};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

pub(super) const ROOT: u64 = 2;
/// NAME_MAX, in bytes.
const LONGEST_NAME: usize = 255;
/// Nanoseconds that the clock advances with every change, so that a later change has a later ctime.
const TICK: i64 = 1_000;
/// 2026-01-01, in nanoseconds since 1970.
const BIRTH: Time = Time(1_767_225_600_000_000_000);

#[derive(Clone)]
pub(super) struct Image {
    pub(super) inodes: Arc<BTreeMap<u64, Arc<Inode>>>,
    pub(super) moves: Vec<Arc<Move>>,
    /// Number of the last change.
    pub(super) when: u64,
    /// Nanoseconds since 1970.
    pub(super) time: Time,
    /// Never given out twice, so that a test sees a confusion of inodes as one.
    next_ino: u64,
}

impl Image {
    pub(super) fn new() -> Self {
        let body = DirectoryBody { parent: ROOT, ..DirectoryBody::default() };
        let mut root = inode(DIRECTORY | 0o755, 0, Body::Directory(body), BIRTH);
        root.nlink = 2;
        let inodes = Arc::new(BTreeMap::from([(ROOT, Arc::new(root))]));
        Self { inodes, moves: Vec::new(), when: 0, time: BIRTH, next_ino: ROOT + 1 }
    }

    /// Numbers a change and dates it.
    pub(super) fn tick(&mut self) -> Time {
        self.when += 1;
        self.time.0 += TICK;
        self.time
    }

    /// An inode that a handle or an entry refers to, and which is there therefore.
    pub(super) fn inode(&self, ino: u64) -> &Inode {
        &self.inodes[&ino]
    }

    pub(super) fn inode_mut(&mut self, ino: u64) -> &mut Inode {
        // As above; a caller without a handle or an entry cannot know the number.
        Arc::make_mut(Arc::make_mut(&mut self.inodes).get_mut(&ino).expect("an inode in use"))
    }

    pub(super) fn file(&self, ino: u64) -> &FileBody {
        match &self.inode(ino).body {
            Body::File(file) => file,
            _ => unreachable!("only regular files are opened as files"),
        }
    }

    pub(super) fn file_mut(&mut self, ino: u64) -> &mut FileBody {
        match &mut self.inode_mut(ino).body {
            Body::File(file) => file,
            _ => unreachable!("only regular files are opened as files"),
        }
    }

    pub(super) fn directory(&self, ino: u64) -> &DirectoryBody {
        match &self.inode(ino).body {
            Body::Directory(directory) => directory,
            _ => unreachable!("only directories are opened as directories"),
        }
    }

    fn directory_mut(&mut self, ino: u64) -> &mut DirectoryBody {
        match &mut self.inode_mut(ino).body {
            Body::Directory(directory) => directory,
            _ => unreachable!("only directories are opened as directories"),
        }
    }

    fn lookup(&self, directory: u64, name: &OsStr) -> io::Result<Option<u64>> {
        if self.is_dead(directory) {
            return errno(Errno::NOENT);
        }
        if name.len() > LONGEST_NAME {
            return errno(Errno::NAMETOOLONG);
        }
        Ok(self.directory(directory).entries.get(name).map(|slot| slot.ino))
    }

    pub(super) fn entry(&self, directory: u64, name: &OsStr) -> io::Result<u64> {
        self.lookup(directory, name)?.ok_or(Errno::NOENT.into())
    }

    /// Removed while somebody has it open.
    pub(super) fn is_dead(&self, directory: u64) -> bool {
        self.inode(directory).nlink == 0
    }

    /// Makes something new; returns its inode number.
    pub(super) fn make(
        &mut self,
        directory: u64,
        name: &OsStr,
        (kind, rdev, body): (u32, u64, Body),
        node: &NewNode,
    ) -> io::Result<u64> {
        self.check_vacant(directory, name)?;
        let parent = self.inode(directory);
        let inherited = parent.mode & libc::S_ISGID != 0;
        let parent_gid = parent.gid;
        let mode = match kind {
            SYMLINK => 0o777,
            DIRECTORY if inherited => node.mode & !(node.umask & 0o777) & 0o7777 | libc::S_ISGID,
            _ => node.mode & !(node.umask & 0o777) & 0o7777,
        };
        let time = self.time;
        let mut made = inode(kind | mode, rdev, body, time);
        (made.uid, made.gid) = node.owner.unwrap_or((made.uid, made.gid));
        if inherited {
            made.gid = parent_gid;
        }
        if kind == DIRECTORY {
            made.nlink = 2;
        }
        let ino = self.insert(made);
        self.relink(vec![change(directory, name, None, Some(ino))], None);
        Ok(ino)
    }

    fn insert(&mut self, made: Inode) -> u64 {
        let ino = self.next_ino;
        self.next_ino += 1;
        Arc::make_mut(&mut self.inodes).insert(ino, Arc::new(made));
        ino
    }

    pub(super) fn link(&mut self, from: u64, name: &OsStr, to: u64, to_name: &OsStr) -> io::Result<()> {
        let ino = self.entry(from, name)?;
        self.check_vacant(to, to_name)?;
        if self.inode(ino).is_directory() {
            return errno(Errno::PERM);
        }
        self.relink(vec![change(to, to_name, None, Some(ino))], None);
        Ok(())
    }

    fn check_vacant(&self, directory: u64, name: &OsStr) -> io::Result<()> {
        match self.lookup(directory, name)? {
            Some(_) => errno(Errno::EXIST),
            None => Ok(()),
        }
    }

    pub(super) fn unlink(&mut self, directory: u64, name: &OsStr) -> io::Result<()> {
        let ino = self.entry(directory, name)?;
        if self.inode(ino).is_directory() {
            return errno(Errno::ISDIR);
        }
        self.relink(vec![change(directory, name, Some(ino), None)], None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, directory: u64, name: &OsStr) -> io::Result<()> {
        let ino = self.entry(directory, name)?;
        if !self.inode(ino).is_directory() {
            return errno(Errno::NOTDIR);
        }
        if !self.directory(ino).entries.is_empty() {
            return errno(Errno::NOTEMPTY);
        }
        self.relink(vec![change(directory, name, Some(ino), None)], Some(ino));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), how: Rename) -> io::Result<()> {
        let source = self.entry(from.0, from.1)?;
        let target = self.lookup(to.0, to.1)?;
        match (how, target) {
            (Rename::NoReplace, Some(_)) => return errno(Errno::EXIST),
            (Rename::Exchange, None) => return errno(Errno::NOENT),
            _ => {}
        }
        self.check_ancestors(source, from.0, target, to.0, how)?;
        if target == Some(source) {
            return Ok(());
        }
        let mut removed = None;
        if let (Some(target), true) = (target, how.replaces()) {
            self.check_replaceable(source, target)?;
            removed = self.inode(target).is_directory().then_some(target);
        }
        let left = match how {
            Rename::Exchange => target,
            Rename::Whiteout => Some(self.make_whiteout(from.0)),
            Rename::Replace | Rename::NoReplace => None,
        };
        let changes = vec![change(from.0, from.1, Some(source), left), change(to.0, to.1, target, Some(source))];
        self.relink(changes, removed);
        Ok(())
    }

    /// For a name in this directory.
    fn make_whiteout(&mut self, directory: u64) -> u64 {
        let mut made = inode(libc::S_IFCHR, 0, Body::Special, self.time);
        let parent = self.inode(directory);
        if parent.mode & libc::S_ISGID != 0 {
            made.gid = parent.gid;
        }
        self.insert(made)
    }

    /// A directory cannot go into itself, nor replace one that it lies in.
    fn check_ancestors(&self, source: u64, from: u64, target: Option<u64>, to: u64, how: Rename) -> io::Result<()> {
        if self.lies_in(to, source) {
            return errno(Errno::INVAL);
        }
        match target {
            Some(target) if self.lies_in(from, target) => {
                errno(if how == Rename::Exchange { Errno::INVAL } else { Errno::NOTEMPTY })
            }
            _ => Ok(()),
        }
    }

    fn lies_in(&self, directory: u64, ancestor: u64) -> bool {
        let mut at = directory;
        while at != ancestor && at != ROOT {
            at = self.directory(at).parent;
        }
        at == ancestor
    }

    fn check_replaceable(&self, source: u64, target: u64) -> io::Result<()> {
        match (self.inode(source).is_directory(), self.inode(target).is_directory()) {
            (true, false) => errno(Errno::NOTDIR),
            (false, true) => errno(Errno::ISDIR),
            (true, true) if !self.directory(target).entries.is_empty() => errno(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    /// One system call on names, visible now and durable later.
    fn relink(&mut self, changes: Vec<Change>, removed: Option<u64>) {
        let time = self.tick();
        for change in &changes {
            let names = self.directory_mut(change.directory);
            match change.to {
                Some(ino) => names.put(change.name.clone(), ino),
                None => names.take(&change.name),
            }
            let directory = self.inode_mut(change.directory);
            (directory.mtime, directory.ctime) = (time, time);
        }
        for change in &changes {
            for (ino, gained) in [(change.from, false), (change.to, true)] {
                let Some(ino) = ino else { continue };
                self.inode_mut(ino).ctime = time;
                self.count_name(ino, change.directory, gained);
            }
        }
        if let Some(directory) = removed {
            self.inode_mut(directory).nlink = 0;
        }
        let moved = |change: &Change| change.to.is_some_and(|ino| self.inode(ino).is_directory());
        let of_directory = changes.len() > 1 && changes.iter().any(moved);
        self.moves.push(Arc::new(Move { when: self.when, changes, of_directory, removed }));
    }

    /// A directory's links are its name, its own `.` and the `..` of those in it.
    fn count_name(&mut self, ino: u64, directory: u64, gained: bool) {
        let counted = if self.inode(ino).is_directory() { directory } else { ino };
        let nlink = &mut self.inode_mut(counted).nlink;
        *nlink = if gained { *nlink + 1 } else { *nlink - 1 };
        if gained && counted == directory && ino != directory {
            self.directory_mut(ino).parent = directory;
        }
    }

    /// Makes the names of a directory durable as of a change, with everything that these need.
    pub(super) fn sync_directory(&mut self, directory: u64, when: u64) {
        let chosen = closure(&self.moves, |one| one.when <= when && one.touches(directory));
        self.make_durable(&chosen);
    }

    pub(super) fn sync_all(&mut self, when: u64) {
        let chosen: Vec<bool> = self.moves.iter().map(|one| one.when <= when).collect();
        self.make_durable(&chosen);
        let pending = |inode: &Inode| matches!(&inode.body, Body::File(file) if !file.pending.is_empty());
        let files = self.inodes.iter().filter(|(_, inode)| pending(inode));
        for ino in files.map(|(ino, _)| *ino).collect::<Vec<_>>() {
            self.file_mut(ino).sync(when);
        }
    }

    fn make_durable(&mut self, chosen: &[bool]) {
        let moves = std::mem::take(&mut self.moves);
        for (one, chosen) in moves.into_iter().zip(chosen) {
            if !chosen {
                self.moves.push(one);
                continue;
            }
            for change in &one.changes {
                let durable = &mut self.directory_mut(change.directory).durable;
                match change.to {
                    Some(ino) => durable.insert(change.name.clone(), ino),
                    None => durable.remove(&change.name),
                };
            }
        }
    }

    /// Inodes that have a name, or may have one after a power cut.
    pub(super) fn named(&self) -> BTreeSet<u64> {
        let mut named = BTreeSet::from([ROOT]);
        for inode in self.inodes.values() {
            if let Body::Directory(directory) = &inode.body {
                named.extend(directory.durable.values());
                named.extend(directory.entries.values().map(|slot| slot.ino));
            }
        }
        for change in self.moves.iter().flat_map(|one| &one.changes) {
            named.extend(change.from.iter().chain(&change.to).chain([&change.directory]));
        }
        named
    }

    /// Frees the inodes that no name, no lost name and nobody who has them `open` refers to.
    pub(super) fn free(&mut self, open: impl Fn(u64) -> bool) {
        let named = self.named();
        if self.inodes.keys().any(|ino| !named.contains(ino) && !open(*ino)) {
            Arc::make_mut(&mut self.inodes).retain(|ino, _| named.contains(ino) || open(*ino));
        }
    }

    /// Sectors in use by what has a name or is open.
    pub(super) fn used(&self, open: impl Fn(u64) -> bool) -> u64 {
        let alive = self.inodes.iter().filter(|(ino, inode)| inode.nlink > 0 || open(**ino));
        alive.map(|(_, inode)| if let Body::File(file) = &inode.body { file.current.allocated() } else { 0 }).sum()
    }
}

fn change(directory: u64, name: &OsStr, from: Option<u64>, to: Option<u64>) -> Change {
    Change { directory, name: name.to_owned(), from, to }
}

fn inode(mode: u32, rdev: u64, body: Body, time: Time) -> Inode {
    Inode {
        mode,
        nlink: 0,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev,
        atime: time,
        mtime: time,
        ctime: time,
        xattrs: BTreeMap::new(),
        body,
    }
}
