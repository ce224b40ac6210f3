//! The store in a directory as a [`Volume`]: each method is the store's own one of that name.

use crate::backend::{Entry, NewNode, Rename, Space, XattrFlags};
use crate::configured::Configured;
use crate::volume::{KnownName, NameIfThere, Volume};
use crate::{Attr, Change, Dir, Error, Held, LogUsage, Object, Result, SetAttr, Step, Store, Target, Wrapping};
use kmsfs_kms::Caller;
use kmsfs_sse::{Encryption, KeyService};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;

impl Volume for Store {
    fn root(&self) -> &Arc<Dir> {
        Self::root(self)
    }

    fn keys(&self) -> &Arc<KeyService> {
        Self::keys(self)
    }

    fn configured(&self) -> &Configured {
        Self::configured(self)
    }

    fn read_only(&self) -> bool {
        Self::read_only(self)
    }

    fn now(&self) -> i64 {
        Self::now(self)
    }

    fn open_dir(&self, parent: &Arc<Dir>, name: &OsStr) -> Result<Arc<Dir>> {
        Self::open_dir(self, parent, name)
    }

    fn read_dir(&self, dir: &Dir, cursor: u64, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        Self::read_dir(self, dir, cursor, visit)
    }

    fn stat(&self, at: Target<'_>) -> Result<Attr> {
        Self::stat(self, at)
    }

    fn stat_at_hand(&self, at: Target<'_>) -> Result<Attr> {
        Self::stat_at_hand(self, at)
    }

    fn stat_if_there(&self, dir: &Dir, name: &OsStr) -> Result<Option<Attr>> {
        Self::stat_if_there(self, dir, name)
    }

    fn is_in_doubt(&self, attr: &Attr) -> bool {
        Self::is_in_doubt(self, attr)
    }

    fn may_be_in_doubt(&self, ino: u64) -> bool {
        Self::may_be_in_doubt(self, ino)
    }

    fn generation(&self, dir: &Dir, name: &OsStr) -> Option<u32> {
        Self::generation(self, dir, name)
    }

    fn make_dir(&self, dir: &Arc<Dir>, name: &OsStr, node: &NewNode) -> Result<Attr> {
        Self::make_dir(self, dir, name, node)
    }

    fn make_node(&self, dir: &Arc<Dir>, name: &OsStr, kind: u32, rdev: u64, node: &NewNode) -> Result<Attr> {
        Self::make_node(self, dir, name, kind, rdev, node)
    }

    fn make_symlink(&self, dir: &Arc<Dir>, name: &OsStr, target: &[u8], node: &NewNode) -> Result<Attr> {
        Self::make_symlink(self, dir, name, target, node)
    }

    fn read_link(&self, dir: &Dir, name: &OsStr) -> Result<Vec<u8>> {
        Self::read_link(self, dir, name)
    }

    fn link(&self, from: &Arc<Dir>, name: &OsStr, to: &Arc<Dir>, to_name: &OsStr) -> Result<Attr> {
        Self::link(self, from, name, to, to_name)
    }

    fn unlink_known(&self, dir: &Arc<Dir>, name: &OsStr, attr: &Attr, hold: &mut dyn FnMut()) -> Result<()> {
        Self::unlink_known(self, dir, name, attr, hold)
    }

    fn remove_dir(&self, dir: &Arc<Dir>, name: &OsStr) -> Result<()> {
        Self::remove_dir(self, dir, name)
    }

    fn sync_before_rename(&self, from: KnownName<'_>, to: NameIfThere<'_>, how: Rename) -> Result<()> {
        Self::sync_before_rename(self, from, to, how)
    }

    fn rename_known(
        &self,
        from: KnownName<'_>,
        to: NameIfThere<'_>,
        how: Rename,
        hold: &mut dyn FnMut(),
    ) -> Result<()> {
        Self::rename_known(self, from, to, how, hold)
    }

    fn create(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        node: &NewNode,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<(Arc<Object>, Attr)> {
        Self::create(self, dir, name, node, want, key, caller)
    }

    fn open_object(&self, dir: &Dir, name: &OsStr, caller: &Caller) -> Result<Arc<Object>> {
        Self::open_object(self, dir, name, caller)
    }

    fn open_if(
        &self,
        dir: &Dir,
        name: &OsStr,
        caller: &Caller,
        wanted: &mut dyn FnMut(&Wrapping<'_>) -> bool,
    ) -> Result<Option<Arc<Object>>> {
        Self::open_if(self, dir, name, caller, wanted)
    }

    fn open_again(&self, ino: u64, caller: &Caller) -> Result<Option<Arc<Object>>> {
        Self::open_again(self, ino, caller)
    }

    fn open_truncated(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
    ) -> Result<Arc<Object>> {
        Self::open_truncated(self, dir, name, want, key, caller)
    }

    fn open_given_up(
        &self,
        dir: &Arc<Dir>,
        name: &OsStr,
        want: &Encryption,
        key: &str,
        caller: &Caller,
        why: &Error,
    ) -> Result<Arc<Object>> {
        Self::open_given_up(self, dir, name, want, key, caller, why)
    }

    fn release(&self, object: &Arc<Object>) {
        Self::release(self, object);
    }

    fn attached(&self, ino: u64) -> Option<Held> {
        self.objects.attached(ino)
    }

    fn was_never_committed(&self, dir: &Dir, name: &OsStr) -> bool {
        Self::was_never_committed(self, dir, name)
    }

    fn remove_unborn(&self, dir: &Dir, name: &OsStr) -> Result<bool> {
        Self::remove_unborn(self, dir, name)
    }

    fn rewrap(&self, object: &Arc<Object>, want: &Encryption, key: &str, caller: &Caller) -> Result<()> {
        Self::rewrap(self, object, want, key, caller)
    }

    fn change_encryption(
        &self,
        object: &Arc<Object>,
        want: &Encryption,
        change: Change,
        key: &str,
        caller: &Caller,
        from: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Step> {
        Self::change_encryption(self, object, want, change, key, caller, from, go_on)
    }

    fn unlock(&self, object: &Object, caller: &Caller) -> Result<()> {
        object.authorize(caller)
    }

    fn lock_closed(&self) -> bool {
        self.objects.lock_closed()
    }

    fn lock_if_closed(&self, ino: u64) {
        self.objects.lock_if_closed(ino);
    }

    fn set_attr(&self, at: Target<'_>, changes: &SetAttr) -> Result<Attr> {
        Self::set_attr(self, at, changes)
    }

    fn get_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<Vec<u8>> {
        Self::get_xattr(self, at, attribute)
    }

    fn set_xattr(&self, at: Target<'_>, attribute: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        Self::set_xattr(self, at, attribute, value, flags)
    }

    fn list_xattr(&self, at: Target<'_>) -> Result<Vec<u8>> {
        Self::list_xattr(self, at)
    }

    fn remove_xattr(&self, at: Target<'_>, attribute: &OsStr) -> Result<()> {
        Self::remove_xattr(self, at, attribute)
    }

    fn drop_capability(&self, object: &Arc<Object>) -> Result<()> {
        Self::drop_capability(self, object)
    }

    fn fsync_dir(&self, dir: &Arc<Dir>) -> Result<()> {
        Self::fsync_dir(self, dir)
    }

    fn commit_all(&self) {
        Self::commit_all(self);
    }

    fn checkpoint(&self) -> Result<()> {
        Self::checkpoint(self)
    }

    fn appends_wait(&self) -> bool {
        Self::appends_wait(self)
    }

    fn close(&self) -> Result<()> {
        Self::close(self)
    }

    fn space(&self) -> Result<Space> {
        Self::space(self)
    }

    fn cached(&self) -> usize {
        self.objects.count()
    }

    fn take_resized(&self) -> HashSet<u64> {
        self.objects.take_resized()
    }

    fn log_usage(&self) -> LogUsage {
        Self::log_usage(self)
    }
}
