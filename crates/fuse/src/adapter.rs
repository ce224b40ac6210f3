//! Each FUSE request, decoded, as one call of `fs`.

use super::MountOptions;
use super::by_number::ByNumber;
use super::convert::{AT_ONCE, FOR_EVER, Numbers, attr_ttl, generation, kind, nothing, requested, unknown};
use super::served::{Place, Served, reply_empty};
use super::statistics::{Call, Statistics};
use super::status::{is_status, status};
use super::workers::Crew;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use kmsfs_fs::{Changes, Creation, Fs, LONG, Range};
use kmsfs_kms::Caller;
use kmsfs_store::SeekTo;
use kmsfs_store::backend::{Rename, XattrFlags};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// Largest request that the kernel sends here.
pub const MAX_REQUEST: u32 = 1 << 20;

/// Directory cursors of "." and "..", which the store does not list: ones that no backing file system gives.
const AFTER_DOT: u64 = i64::MAX as u64 - 15;
const AFTER_DOT_DOT: u64 = AFTER_DOT + 1;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub struct Adapter {
    served: Served,
    crew: Arc<Crew>,
    by_number: Arc<ByNumber>,
    /// Set once the session is there.
    notifier: Arc<OnceLock<Notifier>>,
    writeback_cache: bool,
    several_users: bool,
}

impl Deref for Adapter {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Adapter {
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    pub fn new(fs: Arc<Fs>, crew: Arc<Crew>, notifier: Arc<OnceLock<Notifier>>, options: &MountOptions) -> Self {
        let writeback_cache = options.writeback_cache && !options.read_only;
        let served = Served { numbers: Numbers::of(&fs), fs, statistics: Arc::default() };
        let several_users = options.allow_other;
        Self { served, crew, by_number: Arc::default(), notifier, writeback_cache, several_users }
    }

    fn on_a_worker(&self, answer: impl FnOnce(&Served) + Send + 'static) {
        let served = self.served.clone();
        self.crew.workers.run(Box::new(move || answer(&served)));
    }

    /// Here, unless it would have to wait for a checkpoint: the event loops answer who reads meanwhile.
    fn in_time(&self, answer: impl FnOnce(&Served) + Send + 'static) {
        if self.fs.store().appends_wait() { self.on_a_worker(answer) } else { answer(&self.served) }
    }

    /// Answers once the inode is found, which may take a walk of the whole tree.
    fn reply_found(&self, ino: u64, reply: ReplyEntry) {
        if self.by_number.wait(ino, reply) {
            let by_number = self.by_number.clone();
            self.on_a_worker(move |served| by_number.answer(served));
        }
    }
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

fn reply_bytes(reply: ReplyXattr, size: u32, value: Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
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
        // Without ASYNC_DIO: pages that somebody reads while a direct write is under way hold what was there before, and the
        // kernel drops them after the write only if it has waited for it. Dropping them from here, before the answer, could
        // wait for ever: for a read-ahead that the kernel sends when fewer such writes are unanswered.
        // With AUTO_INVAL_DATA a read(2) of cached pages asks for attributes that are out of date, as it does nowhere else.
        // That is where a handle is refused whose pages others have read. Beside the writeback cache, and where nothing
        // is written, it has no other effect; without, each write would cost all cached pages of the file.
        wanted |= if self.writeback_cache || self.fs.options().read_only {
            InitFlags::FUSE_AUTO_INVAL_DATA
        } else {
            InitFlags::FUSE_EXPLICIT_INVAL_DATA
        };
        if self.writeback_cache {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        let have = wanted & config.capabilities();
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

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = self.numbers.backing(parent);
        // Programs' own dots the kernel follows by itself: these are of file handles.
        match name.as_bytes() {
            b"." => return self.reply_found(parent, reply),
            b".." => {
                return match self.attempt(Call::Lookup, || self.fs.above(parent)) {
                    Ok(above) => self.reply_found(above, reply),
                    Err(error) => reply.error(error),
                };
            }
            _ => {}
        }
        match self.attempt(Call::Lookup, || self.fs.lookup(parent, name)) {
            // A name that is not there: the kernel may remember that too.
            Err(error) if error.code() == libc::ENOENT => {
                reply.entry(&FOR_EVER, &nothing(), Generation(0));
            }
            found => self.reply_entry(reply, found),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.fs.forget(self.numbers.backing(ino), lookups);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let ino = self.numbers.backing(ino);
        // With a handle it is a read or write that the kernel asks for; fstat(2) comes without.
        let permitted = handle.map_or(Ok(()), |handle| self.attempt(Call::GetAttr, || self.fs.check_handle(handle.0)));
        match permitted.and_then(|()| self.attempt(Call::GetAttr, || self.fs.getattr(ino))) {
            Ok(attr) => reply.attr(&self.ttl(ino), &self.numbers.attr(&attr)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
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
            TimeOrNow::Now => self.fs.store().now(),
        };
        let changes = Changes { mode, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) };
        let (handle, ino, caller) = (handle.map(|handle| handle.0), self.numbers.backing(ino), caller(request));
        self.in_time(move |served| served.set_attr(ino, handle, &changes, &caller, reply));
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.attempt(Call::ReadLink, || self.fs.readlink(self.numbers.backing(ino))) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let creation = Creation { mode, umask, caller: caller(request) };
        let (kind, rdev) = (mode & libc::S_IFMT, u64::from(rdev));
        let made =
            self.attempt(Call::MkNod, || self.fs.mknod(self.numbers.backing(parent), name, kind, rdev, &creation));
        self.reply_entry(reply, made);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let creation = Creation { mode, umask, caller: caller(request) };
        let made = self.attempt(Call::MkDir, || self.fs.mkdir(self.numbers.backing(parent), name, &creation));
        self.reply_entry(reply, made);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::Unlink, || self.fs.unlink(self.numbers.backing(parent), name)));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.attempt(Call::RmDir, || self.fs.rmdir(self.numbers.backing(parent), name)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let creation = Creation { mode: 0o777, umask: 0, caller: caller(request) };
        let target = target.as_os_str().as_bytes();
        let made =
            self.attempt(Call::Symlink, || self.fs.symlink(self.numbers.backing(parent), name, target, &creation));
        self.reply_entry(reply, made);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            flags if flags.is_empty() => Rename::Replace,
            RenameFlags::RENAME_NOREPLACE => Rename::NoReplace,
            RenameFlags::RENAME_EXCHANGE => Rename::Exchange,
            RenameFlags::RENAME_WHITEOUT => Rename::Whiteout,
            _ => return reply.error(Errno::EINVAL),
        };
        let (parent, to_parent) = (self.numbers.backing(parent), self.numbers.backing(to_parent));
        let (name, to_name, caller) = (name.to_owned(), to_name.to_owned(), caller(request));
        self.in_time(move |served| served.rename((parent, &name), (to_parent, &to_name), how, &caller, reply));
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ino, parent) = (self.numbers.backing(ino), self.numbers.backing(parent));
        let made = self.attempt(Call::Link, || self.fs.link(ino, parent, name, &caller(request)));
        self.reply_entry(reply, made);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let truncate = flags.0 & libc::O_TRUNC != 0;
        let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let ino = self.numbers.backing(ino);
        match self.attempt(Call::Open, || self.fs.open(ino, truncate, write, &caller(request))) {
            Ok(handle) => reply.opened(FileHandle(handle), self.open_flags(ino)),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let creation = Creation { mode, umask, caller: caller(request) };
        match self.attempt(Call::Create, || self.fs.create(self.numbers.backing(parent), name, &creation)) {
            Ok((entry, handle)) => {
                let attr = self.numbers.attr(&entry.attr);
                let flags = self.open_flags(entry.attr.ino);
                reply.created(&attr_ttl(&entry), &attr, generation(&entry), FileHandle(handle), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size as usize {
                buffer.resize(size as usize, 0);
            }
            let read = self.attempt(Call::Read, || {
                let read = self.fs.read(handle.0, offset, &mut buffer[..size as usize])?;
                if flags.0 & libc::O_NOATIME == 0 {
                    self.fs.accessed(handle.0)?;
                }
                Ok(read)
            });
            match read {
                Ok(read) => {
                    self.statistics.read(read);
                    reply.data(&buffer[..read]);
                }
                Err(error) => reply.error(error),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (to, caller) = (Place { handle: handle.0, offset }, caller(request));
        if self.fs.store().appends_wait() {
            let data = data.to_vec();
            return self.on_a_worker(move |served| served.write(to, &data, write_flags, &caller, reply));
        }
        self.served.write(to, data, write_flags, &caller, reply);
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.in_time(move |served| served.flush(handle.0, reply));
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        let _ = self.attempt(Call::Release, || {
            self.fs.release(handle.0);
            Ok(())
        });
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.on_a_worker(move |served| served.fsync(handle.0, reply));
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // With FUSE_NO_OPENDIR_SUPPORT: from here on the kernel does not ask.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let backing = self.numbers.backing(ino);
        let mut full = false;
        for (after, name, ino) in self.dots(backing, offset) {
            full = full || reply.add(ino, after, fuser::FileType::Directory, name);
        }
        let done = self.attempt(Call::ReadDir, || {
            if full {
                return Ok(());
            }
            self.fs.read_dir(backing, after_dots(offset), &mut |entry| {
                !reply.add(self.numbers.shown(entry.ino), entry.cursor, kind(entry.kind), entry.name)
            })
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let backing = self.numbers.backing(ino);
        let mut full = false;
        for (after, name, ino) in self.dots(backing, offset) {
            // The kernel takes only number and name of these two.
            let attr = fuser::FileAttr { ino, kind: fuser::FileType::Directory, ..nothing() };
            full = full || reply.add(ino, after, name, &AT_ONCE, &attr, Generation(0));
        }
        let done = self.attempt(Call::ReadDirPlus, || {
            if full {
                return Ok(());
            }
            self.fs.read_dir_plus(backing, after_dots(offset), &mut |item, found| {
                let Some(entry) = found else {
                    let attr = unknown(item.kind);
                    return !reply.add(attr.ino, item.cursor, item.name, &AT_ONCE, &attr, Generation(0));
                };
                let (attr, ttl) = (self.numbers.attr(&entry.attr), attr_ttl(&entry));
                !reply.add(attr.ino, item.cursor, item.name, &ttl, &attr, generation(&entry))
            })
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn fsyncdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let ino = self.numbers.backing(ino);
        self.on_a_worker(move |served| served.fsync_dir(ino, reply));
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.attempt(Call::StatFs, || self.fs.statfs()) {
            Ok(space) => reply.statfs(
                space.blocks,
                space.blocks_free,
                space.blocks_available,
                space.files,
                space.files_free,
                space.block_size as u32,
                kmsfs_fs::NAME_MAX as u32,
                space.block_size as u32,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let flags = match flags {
            libc::XATTR_CREATE => XattrFlags::Create,
            libc::XATTR_REPLACE => XattrFlags::Replace,
            _ => XattrFlags::Any,
        };
        let ino = self.numbers.backing(ino);
        reply_empty(
            reply,
            self.attempt(Call::SetXattr, || self.fs.set_xattr(ino, name, value, flags, &caller(request))),
        );
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if ino == INodeNo::ROOT && is_status(name) {
            return reply_bytes(reply, size, status(&self.fs, &self.statistics, request.uid()));
        }
        let ino = self.numbers.backing(ino);
        reply_bytes(reply, size, self.attempt(Call::GetXattr, || self.fs.get_xattr(ino, name, &caller(request))));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.attempt(Call::ListXattr, || self.fs.list_xattr(self.numbers.backing(ino)));
        // As any file system does it: who may not read these does not see them.
        let shown = |name: &&[u8]| request.uid() == 0 || !name.starts_with(b"trusted.");
        let names = names.map(|all| all.split_inclusive(|byte| *byte == 0).filter(shown).flatten().copied().collect());
        reply_bytes(reply, size, names);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(
            reply,
            self.attempt(Call::RemoveXattr, || self.fs.remove_xattr(self.numbers.backing(ino), name, &caller(request))),
        );
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (range, caller) = (Range { offset, len }, caller(request));
        let answer = move |served: &Served| served.fallocate(handle.0, range, mode, &caller, reply);
        if len > LONG { self.on_a_worker(answer) } else { self.in_time(answer) }
    }

    fn lseek(&self, _request: &Request, ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let to = match whence {
            libc::SEEK_DATA => SeekTo::Data,
            libc::SEEK_HOLE => SeekTo::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let (fs, statistics) = (self.fs.clone(), self.statistics.clone());
        let seek = move || match statistics.attempt(Call::LSeek, || fs.seek(handle.0, offset, to)) {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(error) => reply.error(error),
        };
        let (fs, crew) = (self.fs.clone(), self.crew.clone());
        let seek_in_time = move || {
            if fs.seek_takes_long(handle.0, offset, to) { crew.workers.run(Box::new(seek)) } else { seek() }
        };
        if !self.fs.has_writers(self.numbers.backing(ino)) {
            return seek_in_time();
        }
        // What the kernel has not written yet counts as data, and it does not write it before it asks. Invalidating makes
        // it, and waits for event loops and workers to take the writes: so from neither.
        let notifier = self.notifier.clone();
        self.crew.seekers.run(Box::new(move || {
            if let Some(Err(error)) = notifier.get().map(|notifier| notifier.inval_inode(ino, 0, 0)) {
                log::debug!("the kernel does not write what it has of a file before lseek: {error}");
            }
            seek_in_time();
        }));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _ino_in: INodeNo,
        from: FileHandle,
        offset: u64,
        _ino_out: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits; the caller comes again for the rest.
        let len = len.min(1 << 30);
        let (from, to) = (Place { handle: from.0, offset }, Place { handle: to.0, offset: to_offset });
        let caller = caller(request);
        // It can take seconds.
        self.on_a_worker(move |served| served.copy(from, to, len, &caller, reply));
    }
}

impl Adapter {
    /// What "." and ".." are listed as, where reading begins there: the cursor after, name, number.
    fn dots(&self, ino: u64, offset: u64) -> impl Iterator<Item = (u64, &'static str, INodeNo)> {
        let dot = (offset == 0).then(|| (AFTER_DOT, ".", self.numbers.shown(ino)));
        let dot_dot = offset == 0 || offset == AFTER_DOT;
        let dot_dot = dot_dot.then(|| (AFTER_DOT_DOT, "..", self.numbers.shown(self.fs.parent(ino))));
        dot.into_iter().chain(dot_dot)
    }

    /// Pages are kept across opens; but a configuration's content changes by the daemon's doing, and one user's is none of
    /// another's.
    fn open_flags(&self, ino: u64) -> FopenFlags {
        let is_direct = self.fs.is_volatile(ino) || (self.several_users && self.fs.is_personal(ino));
        if is_direct { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE }
    }
}

fn after_dots(offset: u64) -> u64 {
    if offset == AFTER_DOT || offset == AFTER_DOT_DOT { 0 } else { offset }
}
