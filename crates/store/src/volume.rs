//! What a file system asks of a store: the seam behind which a store may be something else than a local directory.

use crate::backend::{Entry, NewNode, Rename, Space, XattrFlags};
use crate::configured::Configured;
use crate::{Attr, Change, Dir, Error, Held, Ino, LogUsage, Object, Result, SetAttr, Step, Target, Time, Wrapping};
use kmsfs_kms::Caller;
use kmsfs_sse::{Encryption, KeyService};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;

/// A name that has been looked at: its directory, the name, and what `stat` has just shown of it.
pub type KnownName<'a> = (&'a Arc<Dir>, &'a OsStr, &'a Attr);
/// A name that may be there, with what `stat` has just shown if it is.
pub type NameIfThere<'a> = (&'a Arc<Dir>, &'a OsStr, Option<&'a Attr>);

/// A store that is open, as the package `fs` and what is above it know it; [`Store`](crate::Store) is the one in a
/// directory.
///
/// Content is not read and written through it: an [`Object`] that one of these methods has opened does that by itself,
/// and takes no way through this trait for it.
///
/// Every method may be called from several threads at once. Where nothing else is said:
///
/// - Times are nanoseconds since 1970, lengths are plaintext bytes, and `name` is one component of a path.
/// - Errors of names and attributes are those of the system call with that meaning ([`Error::Errno`](crate::Error)):
///   ENOENT, EEXIST, ENOTEMPTY, ENODATA, EPERM where only buckets can be, and whatever the disk below returns.
/// - What is not what was sealed is `Error::Corrupt`; a change of a store that is only read is `Error::ReadOnly`; where
///   the KMS or the request refuses it is `Error::Sse`.
/// - `Error::WouldWait` comes from a thread that must not wait for a checkpoint or the KMS ([`kmsfs_kms::waits`]).
///   Nothing has been done then that doing it again would not do in the same way.
/// - A method that names a `caller` asks the KMS on that caller's behalf.
pub trait Volume: VolumeNames + VolumeObjects + VolumeEncryption + VolumeAttributes + Send + Sync {
    /// The directory of buckets.
    fn root(&self) -> &Arc<Dir>;

    /// The way to the KMS, and to the service's own key.
    fn keys(&self) -> &Arc<KeyService>;

    /// The configuration that each directory was given, as the store remembers it.
    fn configured(&self) -> &Configured;

    /// Whether nothing can be changed: the store was opened so, or became so by damage that was found.
    fn read_only(&self) -> bool;

    /// The time by the clock that stamps changes.
    fn now(&self) -> Time;

    /// Commits what was modified, and makes a checkpoint if one is due: when the log is half full, or has held
    /// something for long. To be called every few seconds. Errors are logged.
    fn commit_all(&self);

    /// Commits everything and makes it durable. An error also where one object could not be committed: the rest is
    /// durable then.
    fn checkpoint(&self) -> Result<()>;

    /// Whether who appends now would wait for a checkpoint, or make one.
    fn appends_wait(&self) -> bool;

    /// This process has just given up privileges: what the store does in the background is done by threads that have
    /// given them up too.
    fn confined(&self) -> Result<()>;

    /// Ends the use of the store: commits what is still open, makes all durable and marks the store as cleanly closed.
    fn close(&self) -> Result<()>;

    /// Space and inodes of the file system below.
    fn space(&self) -> Result<Space>;

    /// The number of objects in memory, open or not.
    fn cached(&self) -> usize;

    /// Inodes whose [`Attr::blocks`] checkpoints have changed since this was called last.
    fn take_resized(&self) -> HashSet<Ino>;

    /// What the redo log holds.
    fn log_usage(&self) -> LogUsage;
}

/// Names in directories, and what stat(2) shows of them.
pub trait VolumeNames {
    /// Opens a directory, which takes a descriptor. Opening a bucket, which is a directory in the root, takes the
    /// service's key.
    fn open_dir(&self, parent: &Arc<Dir>, name: &OsStr) -> Result<Arc<Dir>>;

    /// Visits the entries from `cursor` on (0 at first) until `visit` returns `false`.
    fn read_dir(&self, dir: &Dir, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()>;

    /// Attributes. Where a crash left the length of an object in doubt the KMS is asked, on the mount's own behalf.
    fn stat(&self, at: Target<'_>) -> Result<Attr>;

    /// The same without asking the KMS, for whoever holds a lock: in doubt the length is what the file says.
    fn stat_at_hand(&self, at: Target<'_>) -> Result<Attr>;

    /// As `stat` of a name, or `None` if there is no such name.
    fn stat_if_there(&self, dir: &Dir, name: &OsStr) -> Result<Option<Attr>>;

    /// Whether the length of what has these attributes may be less than they say, since a crash left it so and nobody
    /// has opened it yet.
    fn is_in_doubt(&self, attr: &Attr) -> bool;

    /// The same of an inode of which no more is known than that it is a regular file.
    fn may_be_in_doubt(&self, ino: Ino) -> bool;

    /// A number that an inode has throughout its life, and a later one with the same inode number has not. `None` where
    /// the file system below has none.
    fn generation(&self, dir: &Dir, name: &OsStr) -> Option<u32>;

    /// Makes a directory; in the root, a bucket. The caller has checked that the name can be a bucket's.
    fn make_dir(&self, dir: &Arc<Dir>, name: &OsStr, node: &NewNode) -> Result<Attr>;

    /// Makes a FIFO, socket or device; `kind` is the `S_IFMT` part of its mode, `rdev` the device's number.
    fn make_node(&self, dir: &Arc<Dir>, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> Result<Attr>;

    /// Makes a symlink, whose target is stored encrypted.
    fn make_symlink(&self, dir: &Arc<Dir>, name: &OsStr, target: &[u8], node: &NewNode) -> Result<Attr>;

    /// The target of a symlink.
    fn read_link(&self, dir: &Dir, name: &OsStr) -> Result<Vec<u8>>;

    /// Gives an inode one more name. The length in what it returns may be in doubt, as of `stat_at_hand`.
    fn link(&self, from: &Arc<Dir>, name: &OsStr, to: &Arc<Dir>, to_name: &OsStr) -> Result<Attr>;

    /// Removes a name that is no directory's. `hold` is called once, before the name goes, unless an error came first.
    fn unlink_known(&self, dir: &Arc<Dir>, name: &OsStr, attr: &Attr, hold: &mut dyn FnMut()) -> Result<()>;

    /// Removes an empty directory; in the root, a bucket.
    fn remove_dir(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<()>;

    /// Makes durable what `rename_known` is about to put in another's place, so that a crash shows the old or the new.
    /// It takes long: to be called by whoever holds no lock.
    fn sync_before_rename(&self, from: KnownName<'_>, to: NameIfThere<'_>, how: Rename) -> Result<()>;

    /// Moves or exchanges names. `hold` is called once, before they change, unless an error came first.
    fn rename_known(&self, from: KnownName<'_>, to: NameIfThere<'_>, how: Rename, hold: &mut dyn FnMut())
    -> Result<()>;

    /// Makes durable a directory's names, and the objects behind those that are new.
    fn fsync_dir(&self, dir: &Arc<Dir>) -> Result<()>;
}

/// Objects, as they are made and opened: each that is returned by a method that opens wants one `release`.
pub trait VolumeObjects {
    /// Makes an object and opens it, encrypted as `want` says. `key` is its S3 key, the path below the bucket. On an
    /// error no name is left behind.
    fn create(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        node: &NewNode,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<(Arc<Object>, Attr)>;

    /// Opens an object by name: the KMS is asked for its data key, or whether this caller might have it.
    fn open_object(&self, dir: &Dir, name: &OsStr, caller: &Caller) -> Result<Arc<Object>>;

    /// The same if `wanted` says so of how the object is encrypted, else `None`; no key is asked for before. `wanted`
    /// may be called several times, and the last time counts.
    fn open_if(
        &self,
        dir: &Dir,
        name: &OsStr,
        caller: &Caller,
        wanted: &mut dyn FnMut(&Wrapping<'_>) -> bool,
    ) -> Result<Option<Arc<Object>>>;

    /// Opens an object by inode number, after the same question to the KMS. `None` if it is neither open nor is its
    /// descriptor at hand.
    fn open_again(&self, ino: Ino, caller: &Caller) -> Result<Option<Arc<Object>>>;

    /// Opens an object for O_TRUNC. One that cannot be read, because it is damaged or its key is refused, gets a new
    /// data key as `want` says, and if it is damaged a new id too; `key` is its S3 key.
    fn open_truncated(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<Arc<Object>>;

    /// The same for one of which it is known `why` it cannot be read: the KMS is not asked for its key once more.
    fn open_given_up(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
        why: &Error,
    ) -> Result<Arc<Object>>;

    /// Gives up what one opening took. Of the last one the descriptor may be kept, for whoever opens the object again.
    fn release(&self, object: &Arc<Object>);

    /// The object of an inode that has a descriptor, which it keeps until what is returned is dropped.
    fn attached(&self, ino: Ino) -> Option<Held>;

    /// Whether a crash caught an object that does not open before it was ever durable: it is empty then.
    fn was_never_committed(&self, dir: &Dir, name: &OsStr) -> bool;

    /// Removes what a crash left of a creation that nobody was told of. Returns whether the name was such a one.
    fn remove_unborn(&self, dir: &Dir, name: &OsStr) -> Result<bool>;
}

/// The encryption of objects that exist, and their data keys in memory.
pub trait VolumeEncryption {
    /// Brings an object under another encryption, at once and as a whole. From AES256 or aws:kms to aws:kms, and from
    /// aws:kms:dsse to itself, the data key is wrapped again, and content, ETag and mtime stay. Anything else needs a
    /// new data key: the content is encrypted again. Commits. `key` is its S3 key.
    fn rewrap(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()>;

    /// As `rewrap`, in pieces: goes on from chunk `from` where an earlier call left the object halfway, and asks
    /// `go_on` after each commit.
    #[allow(clippy::too_many_arguments)]
    fn change_encryption(
        &self,
        object: &Arc<Object>,
        want: &Encryption,
        change: Change,
        key: &str,
        caller: &Caller,
        from: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Step>;

    /// Brings back the data keys of an object that has given them up (`Error::Locked`).
    fn unlock(&self, object: &Object, caller: &Caller) -> Result<()>;

    /// Zeroizes the data keys of the closed objects that a KMS key protects. Returns whether none keeps them since this
    /// thread must not wait for a checkpoint.
    fn lock_closed(&self) -> bool;

    /// The same for one object, if it is in memory and closed.
    fn lock_if_closed(&self, ino: Ino);
}

/// Attributes of inodes.
pub trait VolumeAttributes {
    /// Changes mode, owner and times. The length in what it returns may be in doubt, as of `stat_at_hand`.
    fn set_attr(&self, at: Target<'_>, changes: &SetAttr) -> Result<Attr>;

    /// The value of an extended attribute, by its full name (`user.mime_type`).
    fn get_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<Vec<u8>>;

    /// Sets an extended attribute; values in `user.` are stored encrypted, which takes some of their 64 KiB (ENOSPC).
    fn set_xattr(&self, at: Target<'_>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()>;

    /// The full names of the extended attributes, each ended by a NUL byte.
    fn list_xattr(&self, at: Target<'_>) -> Result<Vec<u8>>;

    /// Removes an extended attribute.
    fn remove_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<()>;

    /// Removes a file capability, because content is about to change.
    fn drop_capability(&self, object: &Arc<Object>) -> Result<()>;
}
