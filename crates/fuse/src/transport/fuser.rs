//! Over /dev/fuse, by the crate fuser: its requests as operations.

mod replies;
mod values;

use crate::codec::{self, MAX_COPY, MAX_REQUEST};
use crate::nodes::{Node, Numbers};
use crate::op::{Op, Place, Request};
use crate::runner::Runner;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request as Header, TimeOrNow, WriteFlags,
};
use kmsfs_fs::{Changes, HandleId, Ino, Range};
use kmsfs_kms::Caller;
use replies::{Nobody, To};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use values::requested;

/// A mount, as fuser sees it.
pub(crate) struct Transport {
    runner: Runner,
    numbers: Numbers,
    asks: Asks,
}

/// What the kernel is asked for, if it has it.
#[derive(Clone)]
pub(crate) struct Asks {
    pub writeback_cache: bool,
    /// Rings of io_uring for requests: set if they are wanted, and taken back if there will be none.
    pub rings: Arc<AtomicBool>,
}

impl Transport {
    pub(crate) fn new(runner: Runner, asks: Asks) -> Self {
        let numbers = Numbers::of(&runner.mount().fs);
        Self { runner, numbers, asks }
    }

    fn run<R>(&self, header: &Header, node: INodeNo, op: Op<'_>, reply: R)
    where
        To<R>: crate::answer::Reply,
    {
        let caller = Caller { uid: header.uid(), gid: header.gid(), pid: header.pid() };
        let request = Request { ino: self.ino(node), caller, op };
        self.runner.run(request, To { reply, numbers: self.numbers });
    }

    fn ino(&self, node: INodeNo) -> Ino {
        self.numbers.ino(Node(node.0))
    }
}

impl Filesystem for Transport {
    fn init(&mut self, _header: &Header, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        // Without ASYNC_DIO: pages that somebody reads while a direct write is under way hold what was there before,
        // and the kernel drops them after the write only if it has waited for it. Dropping them from here, before the
        // answer, could wait for ever: for a read-ahead that the kernel sends when fewer such writes are unanswered.
        // With AUTO_INVAL_DATA a read(2) of cached pages asks for attributes that are out of date, as it does nowhere
        // else. That is where a handle is refused whose pages others have read. Beside the writeback cache, and where
        // nothing is written, it has no other effect; without, each write would cost all cached pages of the file.
        wanted |= if self.asks.writeback_cache || self.runner.mount().fs.options().read_only {
            InitFlags::FUSE_AUTO_INVAL_DATA
        } else {
            InitFlags::FUSE_EXPLICIT_INVAL_DATA
        };
        if self.asks.writeback_cache {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        if self.asks.rings.load(Ordering::Relaxed) {
            wanted |= InitFlags::FUSE_OVER_IO_URING;
        }
        let have = wanted & config.capabilities();
        self.asks.rings.store(have.contains(InitFlags::FUSE_OVER_IO_URING), Ordering::Relaxed);
        let _ = config.add_capabilities(have);
        // Each of these is clamped to what can be had.
        if let Err(nearest) = config.set_max_write(MAX_REQUEST) {
            let _ = config.set_max_write(nearest);
        }
        if let Err(nearest) = config.set_max_readahead(MAX_REQUEST) {
            let _ = config.set_max_readahead(nearest);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, header: &Header, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.run(header, parent, codec::lookup(name), reply);
    }

    fn forget(&self, header: &Header, node: INodeNo, lookups: u64) {
        self.run(header, node, Op::Forget { lookups }, Nobody);
    }

    fn getattr(&self, header: &Header, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        self.run(header, node, Op::GetAttr { handle: handle.map(known) }, reply);
    }

    fn setattr(
        &self,
        header: &Header,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => requested(time),
            // The clock that stamps what is written: no file that is touched after another looks older.
            TimeOrNow::Now => self.runner.mount().fs.store().now(),
        };
        let changes = Changes { mode, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) };
        self.run(header, node, Op::SetAttr { handle: handle.map(known), changes }, reply);
    }

    fn readlink(&self, header: &Header, node: INodeNo, reply: ReplyData) {
        self.run(header, node, Op::ReadLink, reply);
    }

    fn mknod(
        &self,
        header: &Header,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.run(header, parent, Op::MkNod { name: name.into(), mode, umask, rdev }, reply);
    }

    fn mkdir(&self, header: &Header, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.run(header, parent, Op::MkDir { name: name.into(), mode, umask }, reply);
    }

    fn unlink(&self, header: &Header, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.run(header, parent, Op::Unlink { name: name.into() }, reply);
    }

    fn rmdir(&self, header: &Header, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.run(header, parent, Op::RmDir { name: name.into() }, reply);
    }

    fn symlink(&self, header: &Header, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = Cow::Borrowed(target.as_os_str().as_bytes());
        self.run(header, parent, Op::Symlink { name: name.into(), target }, reply);
    }

    fn rename(
        &self,
        header: &Header,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match codec::rename(flags.bits()) {
            Ok(how) => {
                let (name, to_name, to_parent) = (name.into(), to_name.into(), self.ino(to_parent));
                self.run(header, parent, Op::Rename { name, to_parent, to_name, how }, reply);
            }
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn link(&self, header: &Header, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.run(header, parent, Op::Link { target: self.ino(node), name: name.into() }, reply);
    }

    fn open(&self, header: &Header, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.run(header, node, codec::open(flags.0), reply);
    }

    fn create(
        &self,
        header: &Header,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.run(header, parent, Op::Create { name: name.into(), mode, umask }, reply);
    }

    fn read(
        &self,
        header: &Header,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let is_access = flags.0 & libc::O_NOATIME == 0;
        self.run(header, node, Op::Read { handle: known(handle), offset, size, is_access }, reply);
    }

    fn write(
        &self,
        header: &Header,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let from = codec::written_by(write_flags.bits());
        self.run(header, node, Op::Write { handle: known(handle), offset, data: Cow::Borrowed(data), from }, reply);
    }

    fn flush(&self, header: &Header, node: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.run(header, node, Op::Flush { handle: known(handle) }, reply);
    }

    fn release(
        &self,
        header: &Header,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.run(header, node, Op::Release { handle: known(handle) }, reply);
    }

    fn fsync(&self, header: &Header, node: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.run(header, node, Op::Fsync { handle: known(handle) }, reply);
    }

    fn opendir(&self, _header: &Header, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // With FUSE_NO_OPENDIR_SUPPORT: from here on the kernel does not ask.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, header: &Header, node: INodeNo, _handle: FileHandle, cursor: u64, reply: ReplyDirectory) {
        self.run(header, node, Op::ReadDir { cursor }, reply);
    }

    fn readdirplus(&self, header: &Header, node: INodeNo, _handle: FileHandle, cursor: u64, reply: ReplyDirectoryPlus) {
        self.run(header, node, Op::ReadDirPlus { cursor }, reply);
    }

    fn fsyncdir(&self, header: &Header, node: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.run(header, node, Op::FsyncDir, reply);
    }

    fn statfs(&self, header: &Header, node: INodeNo, reply: ReplyStatfs) {
        self.run(header, node, Op::StatFs, reply);
    }

    fn setxattr(
        &self,
        header: &Header,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let op = Op::SetXattr { name: name.into(), value: Cow::Borrowed(value), flags: codec::xattr_flags(flags) };
        self.run(header, node, op, reply);
    }

    fn getxattr(&self, header: &Header, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.run(header, node, codec::get_xattr(node == INodeNo::ROOT, name, size), reply);
    }

    fn listxattr(&self, header: &Header, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.run(header, node, Op::ListXattr { size }, reply);
    }

    fn removexattr(&self, header: &Header, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.run(header, node, Op::RemoveXattr { name: name.into() }, reply);
    }

    fn fallocate(
        &self,
        header: &Header,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.run(header, node, Op::Fallocate { handle: known(handle), range: Range { offset, len }, mode }, reply);
    }

    fn lseek(&self, header: &Header, node: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        match codec::lseek(known(handle), offset, whence) {
            Ok(op) => self.run(header, node, op, reply),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn copy_file_range(
        &self,
        header: &Header,
        node: INodeNo,
        from: FileHandle,
        offset: u64,
        _to_node: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = (Place { handle: known(from), offset }, Place { handle: known(to), offset: to_offset });
        self.run(header, node, Op::CopyFileRange { from, to, len: len.min(MAX_COPY) }, reply);
    }
}

/// By which number `fs` knows a handle: it chose the kernel's.
fn known(handle: FileHandle) -> HandleId {
    HandleId(handle.0)
}
