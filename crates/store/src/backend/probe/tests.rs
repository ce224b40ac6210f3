use super::super::{Backend, Entry, RealBackend, XattrFlags};
use super::*;
use crate::{Ino, Time};
use std::any::Any;
use std::sync::Arc;

/// What a file system does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    OtherDeviceForFiles,
    OtherNumberListed,
    OtherNumberAfterRename,
    OtherNumberOpened,
    LinkIsACopy,
    LinkNotCounted,
    NoLinks,
    CaseFolded,
    ComposedLetters,
    ShortNames,
    ModesFixed,
    ModesRefused,
    DirectoryNotSynced,
    LockGrantedTwice,
    LostWithItsName,
    DiskFull,
}

/// A directory of a real file system, with a fault.
struct Bent {
    dir: Arc<dyn Dir>,
    fault: Fault,
}

struct BentFile {
    file: Arc<dyn File>,
    fault: Fault,
}

impl Bent {
    fn root(dir: Arc<dyn Dir>, fault: Fault) -> Self {
        Self { dir, fault }
    }

    fn file(&self, file: Arc<dyn File>) -> io::Result<Arc<dyn File>> {
        if self.fault == Fault::OtherDeviceForFiles {
            return Err(Errno::XDEV.into());
        }
        Ok(Arc::new(BentFile { file, fault: self.fault }))
    }

    /// The name as the file system has it.
    fn folded(&self, name: &OsStr) -> OsString {
        match (self.fault, name.to_str()) {
            (Fault::CaseFolded, Some(name)) => name.to_lowercase().into(),
            (Fault::ComposedLetters, Some(name)) => name.replace("e\u{301}", "\u{e9}").into(),
            _ => name.to_owned(),
        }
    }

    fn bent(&self, name: &OsStr, mut metadata: Metadata) -> Metadata {
        match self.fault {
            Fault::OtherNumberAfterRename if name == "renamed" => metadata.ino.0 += 1000,
            Fault::LinkIsACopy if name == "other" => metadata.ino.0 += 1000,
            Fault::LinkNotCounted => metadata.nlink = 1,
            Fault::ModesFixed => metadata.mode = metadata.mode & libc::S_IFMT | 0o700,
            _ => {}
        }
        metadata
    }
}

impl Dir for Bent {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.dir.metadata()
    }
    fn stat(&self, name: &OsStr) -> io::Result<Metadata> {
        Ok(self.bent(name, self.dir.stat(&self.folded(name))?))
    }
    fn open_dir(&self, name: &OsStr) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(Self { dir: self.dir.open_dir(name)?, fault: self.fault }))
    }
    fn open_file(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.dir.open_file(&self.folded(name), access)?;
        Ok(Arc::new(BentFile { file, fault: self.fault }))
    }
    fn create_file(&self, name: &OsStr, node: &NewNode) -> io::Result<Arc<dyn File>> {
        if self.fault == Fault::ShortNames && name.len() > 143 {
            return Err(Errno::NAMETOOLONG.into());
        }
        if self.fault == Fault::DiskFull {
            return Err(Errno::NOSPC.into());
        }
        self.file(self.dir.create_file(&self.folded(name), node)?)
    }
    fn make_dir(&self, name: &OsStr, node: &NewNode) -> io::Result<()> {
        self.dir.make_dir(name, node)
    }
    fn make_node(&self, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> io::Result<()> {
        self.dir.make_node(name, kind, rdev, node)
    }
    fn make_symlink(&self, name: &OsStr, target: &[u8], node: &NewNode) -> io::Result<()> {
        self.dir.make_symlink(name, target, node)
    }
    fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        self.dir.read_link(name)
    }
    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.dir.unlink(&self.folded(name))
    }
    fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.dir.remove_dir(name)
    }
    fn rename(&self, name: &OsStr, _to: &dyn Dir, to_name: &OsStr, how: Rename) -> io::Result<()> {
        self.dir.rename(name, self.dir.as_ref(), to_name, how)
    }
    fn link(&self, name: &OsStr, _to: &dyn Dir, to_name: &OsStr) -> io::Result<()> {
        if self.fault == Fault::NoLinks {
            return Err(Errno::PERM.into());
        }
        self.dir.link(name, self.dir.as_ref(), to_name)
    }
    fn read(&self, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> io::Result<()> {
        let wrong = u64::from(self.fault == Fault::OtherNumberListed);
        self.dir.read(cursor, &mut |entry| visit(Entry { ino: Ino(entry.ino.0 + wrong), ..entry }))
    }
    fn sync(&self) -> io::Result<()> {
        if self.fault == Fault::DirectoryNotSynced { Err(Errno::INVAL.into()) } else { self.dir.sync() }
    }
    fn set_mode(&self, name: Option<&OsStr>, mode: u32) -> io::Result<()> {
        if self.fault == Fault::ModesRefused { Err(Errno::PERM.into()) } else { self.dir.set_mode(name, mode) }
    }
    fn set_owner(&self, name: Option<&OsStr>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.dir.set_owner(name, uid, gid)
    }
    fn set_times(&self, name: Option<&OsStr>, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.dir.set_times(name, atime, mtime)
    }
    fn get_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.dir.get_xattr(name, attribute)
    }
    fn set_xattr(&self, name: Option<&OsStr>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.dir.set_xattr(name, attribute, value, flags)
    }
    fn list_xattr(&self, name: Option<&OsStr>) -> io::Result<Vec<u8>> {
        self.dir.list_xattr(name)
    }
    fn remove_xattr(&self, name: Option<&OsStr>, attribute: &OsStr) -> io::Result<()> {
        self.dir.remove_xattr(name, attribute)
    }
}

impl File for BentFile {
    fn ino(&self) -> Ino {
        Ino(self.file.ino().0 + u64::from(self.fault == Fault::OtherNumberOpened))
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.fault == Fault::LostWithItsName && self.file.metadata()?.nlink == 0 {
            return Err(Errno::NOENT.into());
        }
        self.file.write_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch(offset, len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_mode(mode)
    }
    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.file.set_owner(uid, gid)
    }
    fn set_times(&self, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.file.set_times(atime, mtime)
    }
    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.file.get_xattr(attribute)
    }
    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        self.file.set_xattr(attribute, value, flags)
    }
    fn list_xattr(&self) -> io::Result<Vec<u8>> {
        self.file.list_xattr()
    }
    fn remove_xattr(&self, attribute: &OsStr) -> io::Result<()> {
        self.file.remove_xattr(attribute)
    }
    fn accessed(&self) -> io::Result<()> {
        self.file.accessed()
    }
    fn max_len(&self) -> u64 {
        self.file.max_len()
    }
    fn try_lock(&self, exclusive: bool) -> io::Result<()> {
        if self.fault == Fault::LockGrantedTwice { Ok(()) } else { self.file.try_lock(exclusive) }
    }
}

fn content(root: &dyn Dir) -> usize {
    let mut found = 0;
    root.read(0, &mut |_| {
        found += 1;
        true
    })
    .unwrap();
    found
}

#[test]
fn a_sound_file_system_is_fit_and_nothing_is_left_in_it() {
    let place = tempfile::tempdir().unwrap();
    let root = RealBackend::open(place.path()).unwrap().root().unwrap();
    for need in [Need::Store, Need::Keyring] {
        assert_eq!(probe(root.as_ref(), need).unwrap(), None);
        assert_eq!(content(root.as_ref()), 0);
    }
}

#[test]
fn each_fault_is_found_and_named_and_nothing_is_left() {
    let faults = [
        (Fault::None, None),
        (Fault::NoLinks, None),
        (Fault::OtherDeviceForFiles, Some(Unfit::OtherDevice)),
        (Fault::OtherNumberListed, Some(Unfit::InodeNumbers)),
        (Fault::OtherNumberAfterRename, Some(Unfit::InodeNumbers)),
        (Fault::OtherNumberOpened, Some(Unfit::InodeNumbers)),
        (Fault::LinkIsACopy, Some(Unfit::Links)),
        (Fault::LinkNotCounted, Some(Unfit::Links)),
        (Fault::CaseFolded, Some(Unfit::Spellings)),
        (Fault::ComposedLetters, Some(Unfit::Spellings)),
        (Fault::ShortNames, Some(Unfit::LongNames)),
        (Fault::ModesFixed, Some(Unfit::Modes)),
        (Fault::ModesRefused, Some(Unfit::Modes)),
        (Fault::DirectoryNotSynced, Some(Unfit::DirectorySync)),
        (Fault::LockGrantedTwice, Some(Unfit::Locks)),
        (Fault::LostWithItsName, Some(Unfit::Unlinked)),
    ];
    for (fault, unfit) in faults {
        let place = tempfile::tempdir().unwrap();
        let root = Bent::root(RealBackend::open(place.path()).unwrap().root().unwrap(), fault);
        assert_eq!(probe(&root, Need::Store).unwrap(), unfit, "{fault:?}");
        assert_eq!(content(&root), 0, "{fault:?}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_verdict() {
    let place = tempfile::tempdir().unwrap();
    let root = Bent::root(RealBackend::open(place.path()).unwrap().root().unwrap(), Fault::DiskFull);
    assert_eq!(probe(&root, Need::Store).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(content(&root), 0);
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let left = place.path().join(format!("{PLACE}{}", std::process::id()));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("modes"), "x").unwrap();
    let root = RealBackend::open(place.path()).unwrap().root().unwrap();
    assert_eq!(probe(root.as_ref(), Need::Store).unwrap(), None);
    assert_eq!(content(root.as_ref()), 0);
}
