//! Open directories of the simulated disk.

use super::attributes::{self, Changes};
use super::faults::{Call, errno};
use super::file::SimulatedFile;
use super::inode::{Body, DIRECTORY, DirectoryBody, FileBody, REGULAR, SYMLINK};
use super::{Shared, State, Synced};
use kmsfs_store::backend::{Access, Dir, Entry, File, Metadata, NewNode, Rename, XattrFlags, component};
use kmsfs_store::{Ino, Time};
use rustix::io::Errno;
use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// The longest target: PATH_MAX with its NUL.
const LONGEST_TARGET: usize = 4095;

pub(super) struct SimulatedDir {
    shared: Arc<Shared>,
    ino: u64,
    handle: u64,
}

impl SimulatedDir {
    pub(super) fn new(shared: &Arc<Shared>, state: &mut State, ino: u64) -> Self {
        Self { shared: shared.clone(), ino, handle: state.opened(ino) }
    }

    /// A directory of another disk is on another file system.
    fn same_disk<'a>(&self, dir: &'a dyn Dir) -> io::Result<&'a Self> {
        let dir: Option<&Self> = dir.as_any().downcast_ref();
        dir.filter(|dir| Arc::ptr_eq(&self.shared, &dir.shared)).ok_or(Errno::XDEV.into())
    }

    fn make(&self, call: Call, name: &OsStr, made: (u32, u64, Body), node: &NewNode) -> io::Result<()> {
        let name = component(name)?;
        self.shared.change(call, |state| state.image.make(self.ino, name, made, node).map(drop))
    }

    /// The inode of a name, or the directory's own.
    fn target(&self, state: &State, name: Option<&OsStr>) -> io::Result<u64> {
        match name {
            Some(name) => state.image.entry(self.ino, component(name)?),
            None => Ok(self.ino),
        }
    }

    fn set(&self, call: Call, name: Option<&OsStr>, changes: Changes) -> io::Result<()> {
        name.map(component).transpose()?;
        self.shared.change(call, |state| {
            if changes.is_nothing() {
                return Ok(());
            }
            let ino = self.target(state, name)?;
            attributes::set(&mut state.image, ino, &changes)
        })
    }
}

impl Drop for SimulatedDir {
    fn drop(&mut self) {
        self.shared.state.lock().closed(self.ino, self.handle);
    }
}

impl Dir for SimulatedDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.shared.look(Call::Stat, |state| Ok(state.image.inode(self.ino).metadata(self.ino)))
    }

    fn stat(&self, name: &OsStr) -> io::Result<Metadata> {
        self.shared.look(Call::Stat, |state| {
            let ino = self.target(state, Some(name))?;
            Ok(state.image.inode(ino).metadata(ino))
        })
    }

    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        self.shared.look_mut(Call::OpenDir, |state| {
            let ino = self.target(state, Some(name))?;
            if !state.image.inode(ino).is_directory() {
                return errno(Errno::NOTDIR);
            }
            Ok(Arc::new(Self::new(&self.shared, state, ino)) as Arc<dyn Dir>)
        })
    }

    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>> {
        self.shared.look_mut(Call::OpenFile, |state| {
            let ino = self.target(state, Some(name))?;
            if state.image.inode(ino).kind() != REGULAR {
                return errno(Errno::INVAL);
            }
            Ok(Arc::new(SimulatedFile::new(&self.shared, state, ino, access)) as Arc<dyn File>)
        })
    }

    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>> {
        let name = component(name)?;
        self.shared.change(Call::Create, |state| {
            let made = (REGULAR, 0, Body::File(FileBody::default()));
            let ino = state.image.make(self.ino, name, made, node)?;
            Ok(Arc::new(SimulatedFile::new(&self.shared, state, ino, Access::ReadWrite)) as Arc<dyn File>)
        })
    }

    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()> {
        self.make(Call::MakeDir, name, (DIRECTORY, 0, Body::Directory(DirectoryBody::default())), node)
    }

    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()> {
        let rdev = match kind {
            libc::S_IFIFO | libc::S_IFSOCK => 0,
            libc::S_IFCHR | libc::S_IFBLK => rdev,
            _ => return errno(Errno::INVAL),
        };
        self.make(Call::MakeNode, name, (kind, rdev, Body::Special), node)
    }

    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()> {
        component(name)?;
        match target.len() {
            0 => errno(Errno::NOENT),
            1..=LONGEST_TARGET => self.make(Call::MakeSymlink, name, (SYMLINK, 0, Body::Symlink(target.into())), node),
            _ => errno(Errno::NAMETOOLONG),
        }
    }

    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        self.shared.look(Call::ReadLink, |state| {
            let ino = self.target(state, Some(name))?;
            match &state.image.inode(ino).body {
                Body::Symlink(target) => Ok(target.clone()),
                _ => errno(Errno::INVAL),
            }
        })
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        let name = component(name)?;
        self.shared.change(Call::Unlink, |state| state.image.unlink(self.ino, name))
    }

    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        let name = component(name)?;
        self.shared.change(Call::RemoveDir, |state| state.image.remove_dir(self.ino, name))
    }

    fn rename(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()> {
        let (from, to) = ((self.ino, component(name)?), (self.same_disk(to)?.ino, component(to_name)?));
        self.shared.change(Call::Rename, |state| state.image.rename(from, to, how))
    }

    fn link(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr) -> io::Result<()> {
        let (to, name, to_name) = (self.same_disk(to)?.ino, component(name)?, component(to_name)?);
        self.shared.change(Call::Link, |state| state.image.link(self.ino, name, to, to_name))
    }

    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()> {
        // Copied, so that the visitor may use the disk.
        let found = self.shared.look(Call::ReadDir, |state| {
            if state.image.is_dead(self.ino) {
                return errno(Errno::NOENT);
            }
            let directory = state.image.directory(self.ino);
            let one = |(cursor, name): (&u64, &OsString)| {
                let ino = directory.entries[name].ino;
                (*cursor, name.clone(), ino, state.image.inode(ino).kind())
            };
            Ok(directory.order.range((Bound::Excluded(cursor), Bound::Unbounded)).map(one).collect::<Vec<_>>())
        })?;
        for (cursor, name, ino, kind) in found {
            if !visit(Entry { name: &name, ino: Ino(ino), kind, cursor }) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.sync(Call::SyncDir, Synced::Directory(self.ino))
    }

    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()> {
        self.set(Call::SetMode, name, Changes { mode: Some(mode), ..Changes::default() })
    }

    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.set(Call::SetOwner, name, Changes { owner: Some((uid, gid)), ..Changes::default() })
    }

    fn set_times(&self, name: Option<&OsStr>, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.set(Call::SetTimes, name, Changes { times: Some((atime, mtime)), ..Changes::default() })
    }

    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.shared
            .look(Call::GetXattr, |state| attributes::get_xattr(&state.image, self.target(state, name)?, attribute))
    }

    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.shared.change(Call::SetXattr, |state| {
            let ino = self.target(state, name)?;
            attributes::set_xattr(&mut state.image, ino, attribute, value, flags)
        })
    }

    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>> {
        self.shared.look(Call::ListXattr, |state| Ok(attributes::list_xattr(&state.image, self.target(state, name)?)))
    }

    fn remove_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<()> {
        self.shared.change(Call::RemoveXattr, |state| {
            let ino = self.target(state, name)?;
            attributes::remove_xattr(&mut state.image, ino, attribute)
        })
    }
}
