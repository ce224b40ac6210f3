//! A backend that its owner uses no longer than the lease lasts: each call looks at the clock, and what makes durable
//! looks once more before it says that it has.

use super::Lease;
use crate::backend::{Access, Backend, Dir, Entry, File, Metadata, NewNode, Rename, Space, XattrFlags};
use crate::{Ino, Time};
use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

struct Fenced<T: ?Sized> {
    lease: Arc<Lease>,
    below: Arc<T>,
}

/// The same backend, until the lease has run out. One that never does costs nothing.
pub(crate) fn fenced(below: Arc<dyn Backend>, lease: &Arc<Lease>) -> Arc<dyn Backend> {
    if lease.is_for_ever() { below } else { Arc::new(Fenced { lease: lease.clone(), below }) }
}

impl<T: ?Sized> Fenced<T> {
    fn ask<R>(&self, call: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        self.lease.check()?;
        call(&self.below)
    }

    /// Whoever hears that something is durable must not hear it from an owner that another has followed.
    fn sync_below(&self, call: impl FnOnce(&T) -> io::Result<()>) -> io::Result<()> {
        self.ask(call)?;
        self.lease.check()
    }

    fn around<U: ?Sized>(&self, below: Arc<U>) -> Arc<Fenced<U>> {
        Arc::new(Fenced { lease: self.lease.clone(), below })
    }
}

/// A directory of this backend as the one below knows it.
fn below(dir: &dyn Dir) -> &dyn Dir {
    dir.as_any().downcast_ref::<Fenced<dyn Dir>>().map_or(dir, |fenced| fenced.below.as_ref())
}

impl Backend for Fenced<dyn Backend> {
    fn root(&self) -> io::Result<Arc<dyn Dir>> {
        Ok(self.around(self.ask(Backend::root)?))
    }
    fn sync_all(&self) -> io::Result<()> {
        self.sync_below(Backend::sync_all)
    }
    fn put_modes_back(&self) -> io::Result<()> {
        self.ask(Backend::put_modes_back)
    }
    fn space(&self) -> io::Result<Space> {
        self.ask(Backend::space)
    }
    fn now(&self) -> Time {
        self.below.now()
    }
    fn is_shared(&self) -> bool {
        self.below.is_shared()
    }
}

impl Dir for Fenced<dyn Dir> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn has_reserved_descriptor(&self) -> bool {
        self.below.has_reserved_descriptor()
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.ask(Dir::metadata)
    }
    fn stat(&self, name: &OsStr) -> io::Result<Metadata> {
        self.ask(|dir| dir.stat(name))
    }
    fn generation(&self, name: &OsStr) -> Option<u32> {
        self.below.generation(name)
    }
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        Ok(self.around(self.ask(|dir| dir.open_dir(name))?))
    }
    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.around(self.ask(|dir| dir.open_file(name, access))?))
    }
    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>> {
        Ok(self.around(self.ask(|dir| dir.create_file(name, node))?))
    }
    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()> {
        self.ask(|dir| dir.make_dir(name, node))
    }
    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()> {
        self.ask(|dir| dir.make_node(name, kind, rdev, node))
    }
    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()> {
        self.ask(|dir| dir.make_symlink(name, target, node))
    }
    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        self.ask(|dir| dir.read_link(name))
    }
    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.ask(|dir| dir.unlink(name))
    }
    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.ask(|dir| dir.remove_dir(name))
    }
    fn rename(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()> {
        self.ask(|dir| dir.rename(name, below(to), to_name, how))
    }
    fn link(&self, name: &OsStr, to: &dyn Dir, to_name: &OsStr) -> io::Result<()> {
        self.ask(|dir| dir.link(name, below(to), to_name))
    }
    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()> {
        self.ask(|dir| dir.read(cursor, visit))
    }
    fn read_ahead(&self, len: u64, most: usize) -> Vec<Ino> {
        self.below.read_ahead(len, most)
    }
    fn read_past_caches(&self, name: &OsStr, most: usize) -> io::Result<Vec<u8>> {
        self.ask(|dir| dir.read_past_caches(name, most))
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_below(Dir::sync)
    }
    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()> {
        self.ask(|dir| dir.set_mode(name, mode))
    }
    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.ask(|dir| dir.set_owner(name, uid, gid))
    }
    fn set_times(&self, name: Option<&OsStr>, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.ask(|dir| dir.set_times(name, atime, mtime))
    }
    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.ask(|dir| dir.get_xattr(name, attribute))
    }
    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.ask(|dir| dir.set_xattr(name, attribute, value, flags))
    }
    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>> {
        self.ask(|dir| dir.list_xattr(name))
    }
    fn remove_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<()> {
        self.ask(|dir| dir.remove_xattr(name, attribute))
    }
}

impl File for Fenced<dyn File> {
    fn has_reserved_descriptor(&self) -> bool {
        self.below.has_reserved_descriptor()
    }
    fn ino(&self) -> Ino {
        self.below.ino()
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.ask(File::metadata)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.ask(|file| file.read_at(buf, offset))
    }
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.ask(|file| file.next_data(offset))
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.ask(|file| file.write_at(data, offset))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.ask(|file| file.set_len(len))
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.ask(|file| file.allocate(offset, len))
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.ask(|file| file.punch(offset, len))
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_below(File::sync)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.sync_below(File::sync_data)
    }
    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.ask(|file| file.set_mode(mode))
    }
    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.ask(|file| file.set_owner(uid, gid))
    }
    fn set_times(&self, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.ask(|file| file.set_times(atime, mtime))
    }
    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.ask(|file| file.get_xattr(attribute))
    }
    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.ask(|file| file.set_xattr(attribute, value, flags))
    }
    fn list_xattr(&self) -> io::Result<Vec<u8>> {
        self.ask(File::list_xattr)
    }
    fn remove_xattr(&self, attribute: &OsStr) -> io::Result<()> {
        self.ask(|file| file.remove_xattr(attribute))
    }
    fn accessed(&self) -> io::Result<()> {
        self.ask(File::accessed)
    }
    fn max_len(&self) -> u64 {
        self.below.max_len()
    }
    fn try_lock(&self, exclusive: bool) -> io::Result<()> {
        self.below.try_lock(exclusive)
    }
}
