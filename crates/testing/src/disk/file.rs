//! Open files of the simulated disk.

use super::attributes::{self, Changes};
use super::content::{SECTOR, Sector};
use super::faults::{Call, Fault, errno};
use super::inode::Write;
use super::{NOMINAL_SECTORS, Shared, State, Synced};
use kmsfs_store::backend::{Access, File, Metadata, XattrFlags};
use kmsfs_store::{Ino, Time};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The largest file of ext4 with blocks of 4 KiB.
const LARGEST: u64 = (1 << 44) - 4096;

pub(super) struct SimulatedFile {
    shared: Arc<Shared>,
    ino: u64,
    /// Tells handles apart, for locks.
    handle: u64,
    access: Access,
}

impl SimulatedFile {
    pub(super) fn new(shared: &Arc<Shared>, state: &mut State, ino: u64, access: Access) -> Self {
        Self { shared: shared.clone(), ino, handle: state.opened(ino), access }
    }

    fn check_writable(&self, otherwise: Errno) -> io::Result<()> {
        if self.access == Access::ReadWrite { Ok(()) } else { errno(otherwise) }
    }

    /// Writes what there is space for, as a sequence of system calls would.
    fn write(&self, state: &mut State, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= LARGEST);
        if end.is_none() {
            return errno(Errno::FBIG);
        }
        let fits = self.fitting(state, data.len(), offset);
        self.write_all(state, &data[..fits], offset);
        if fits == data.len() { Ok(()) } else { errno(Errno::NOSPC) }
    }

    /// Of a write of `len` bytes, those before the first hole that there is no space to fill.
    fn fitting(&self, state: &State, len: usize, offset: u64) -> usize {
        let Some(free) = state.free_sectors() else { return len };
        let holes = state.image.file(self.ino).current.holes(offset, len as u64);
        let full = usize::try_from(free).ok().and_then(|free| holes.get(free));
        full.map_or(len, |full| (full * SECTOR as u64).saturating_sub(offset) as usize)
    }

    fn write_all(&self, state: &mut State, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        let content = &state.image.file(self.ino).current;
        let end = offset + data.len() as u64;
        let (sectors, len) = (content.overlay(data, offset), (end > content.len).then_some(end));
        self.change(state, sectors, len);
    }

    fn change(&self, state: &mut State, sectors: Vec<(u64, Sector)>, len: Option<u64>) {
        let time = state.image.tick();
        let when = state.image.when;
        let inode = state.image.inode_mut(self.ino);
        (inode.mtime, inode.ctime) = (time, time);
        state.image.file_mut(self.ino).write(Write { when, sectors, len });
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.shared.state.lock().closed(self.ino, self.handle);
    }
}

impl File for SimulatedFile {
    fn has_reserved_descriptor(&self) -> bool {
        self.shared.few_descriptors.load(Ordering::SeqCst)
    }

    fn ino(&self) -> Ino {
        Ino(self.ino)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.shared.look(Call::Stat, |state| Ok(state.image.inode(self.ino).metadata(self.ino)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.look(Call::Read, |state| Ok(state.image.file(self.ino).current.read(buf, offset)))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.shared.look(Call::Seek, |state| Ok(state.image.file(self.ino).current.next_data(offset)))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.shared.change_despite(Call::Write, |state, fault: Option<Fault>| {
            self.check_writable(Errno::BADF)?;
            let Some(fault) = fault else { return self.write(state, data, offset) };
            let prefix = ((offset / SECTOR as u64 + fault.prefix as u64) * SECTOR as u64).saturating_sub(offset);
            let prefix = data.len().min(usize::try_from(prefix).unwrap_or(usize::MAX));
            self.write(state, &data[..prefix], offset)?;
            Err(fault.into())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shared.change(Call::SetLen, |state| {
            self.check_writable(Errno::INVAL)?;
            if len > LARGEST {
                return errno(Errno::FBIG);
            }
            let sectors = state.image.file(self.ino).current.zeroed(len, u64::MAX);
            self.change(state, sectors, Some(len));
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.shared.change(Call::Allocate, |state| {
            self.check_writable(Errno::BADF)?;
            check_range(offset, len)?;
            if len > NOMINAL_SECTORS * SECTOR as u64 {
                return errno(Errno::NOSPC);
            }
            let holes = state.image.file(self.ino).current.holes(offset, len);
            if state.free_sectors().is_some_and(|free| holes.len() as u64 > free) {
                return errno(Errno::NOSPC);
            }
            state.image.file_mut(self.ino).reserve(&holes);
            let time = state.image.tick();
            let inode = state.image.inode_mut(self.ino);
            (inode.mtime, inode.ctime) = (time, time);
            Ok(())
        })
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.shared.change(Call::Punch, |state| {
            self.check_writable(Errno::BADF)?;
            check_range(offset, len)?;
            let sectors = state.image.file(self.ino).current.zeroed(offset, offset + len);
            self.change(state, sectors, None);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.sync(Call::Sync, Synced::File(self.ino))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.sync(Call::SyncData, Synced::File(self.ino))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.set(Call::SetMode, Changes { mode: Some(mode), ..Changes::default() })
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.set(Call::SetOwner, Changes { owner: Some((uid, gid)), ..Changes::default() })
    }

    fn set_times(&self, atime: Option<Time>, mtime: Option<Time>) -> io::Result<()> {
        self.set(Call::SetTimes, Changes { times: Some((atime, mtime)), ..Changes::default() })
    }

    fn get_xattr(&self, attribute: &OsStr) -> io::Result<Vec<u8>> {
        self.shared.look(Call::GetXattr, |state| attributes::get_xattr(&state.image, self.ino, attribute))
    }

    fn set_xattr(&self, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
        let set = |state: &mut State| attributes::set_xattr(&mut state.image, self.ino, attribute, value, flags);
        self.shared.change(Call::SetXattr, set)
    }

    fn list_xattr(&self) -> io::Result<Vec<u8>> {
        self.shared.look(Call::ListXattr, |state| Ok(attributes::list_xattr(&state.image, self.ino)))
    }

    fn remove_xattr(&self, attribute: &OsStr) -> io::Result<()> {
        let remove = |state: &mut State| attributes::remove_xattr(&mut state.image, self.ino, attribute);
        self.shared.change(Call::RemoveXattr, remove)
    }

    fn accessed(&self) -> io::Result<()> {
        Ok(())
    }

    fn max_len(&self) -> u64 {
        LARGEST
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<()> {
        self.shared.look_mut(Call::Lock, |state| state.lock(self.ino, self.handle, exclusive))
    }
}

impl SimulatedFile {
    fn set(&self, call: Call, changes: Changes) -> io::Result<()> {
        self.shared.change(call, |state| attributes::set(&mut state.image, self.ino, &changes))
    }
}

fn check_range(offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        _ if len == 0 => errno(Errno::INVAL),
        Some(end) if end <= LARGEST => Ok(()),
        _ => errno(Errno::FBIG),
    }
}
