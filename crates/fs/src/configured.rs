//! Changes of configurations, announced to the store, which knows what each directory has; and who may put one.

use super::configurations::{Place, SERVICE};
use super::{Fs, Refusal, Result};
use kmsfs_kms::{Caller, Waits, waits};
use kmsfs_store::backend::Rename;
use kmsfs_store::configured::{Changing, Digest, UNREADABLE, digest};
use kmsfs_store::{self as store, Dir, Target};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// A directory and what it will have.
pub(super) type After = (Arc<Dir>, Option<Digest>);

impl Fs {
    /// Changes what directories have. `settle` makes it durable. Neither asks the KMS: all other such changes wait.
    pub(super) fn configuring<T>(
        &self,
        after: &[After],
        act: impl FnOnce() -> Result<T>,
        settle: impl FnOnce() -> Result<()>,
    ) -> Result<T> {
        if after.is_empty() {
            return act();
        }
        waits::may_wait(Waits::Disk)?;
        // No directory moves meanwhile: paths stay right.
        let alone = self.store.configured().alone()?;
        let changes: Vec<_> = after.iter().map(|(dir, digest)| (self.path_of(dir), *digest)).collect();
        alone.make(&changes, act, |_| settle())
    }

    /// The same for a directory that goes, or moves with all below it; by whoever has `tree` alone too.
    pub(super) fn relocating<T>(
        alone: &Changing<'_>,
        changes: &[(Vec<u8>, Option<Digest>)],
        act: impl FnOnce() -> Result<T>,
        settle: impl FnOnce() -> Result<()>,
    ) -> Result<T> {
        if changes.is_empty() {
            return act();
        }
        waits::may_wait(Waits::Disk)?;
        alone.make(changes, act, |_| settle())
    }

    /// What is there, if anything is, is what was put.
    pub(super) fn check_configured(&self, dir: &Dir, content: Option<&[u8]>) -> store::Result<()> {
        let _tree = self.tree.read();
        self.store.configured().check(&self.path_of(dir), content.map(digest))
    }

    /// The store knows that none was put, or that one was just being put.
    pub(super) fn has_no_configuration(&self, dir: &Dir) -> bool {
        let _tree = self.tree.read();
        self.store.configured().has_none(&self.path_of(dir))
    }

    /// A directory's path from its bucket on, as names are now. No directory moves while `tree` is shared, nor while
    /// somebody is alone with what directories have.
    pub(super) fn path_of(&self, dir: &Dir) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = dir.ino();
        while at != self.root() {
            let Some((parent, name)) = self.inodes.name(at) else { return dir.path().to_vec() };
            names.push(name);
            at = parent;
        }
        let names: Vec<_> = names.iter().rev().map(|name| name.as_bytes()).collect();
        names.join(&b'/')
    }

    pub(super) fn path_in(&self, (dir, name): Place) -> Vec<u8> {
        let mut path = self.path_of(dir);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }

    /// What the directories of two names have once they were exchanged, or the one moved to the other.
    pub(super) fn configurations_after(&self, from: Place, to: Place, how: Rename) -> Result<Vec<After>> {
        let mut after = Vec::new();
        if Self::is_configuration(from.1) {
            let gets = if how == Rename::Exchange { self.digest_of(to)? } else { None };
            after.push((from.0.clone(), gets));
        }
        if Self::is_configuration(to.1) {
            after.push((to.0.clone(), self.digest_of(from)?));
        }
        Ok(after)
    }

    /// Of a file that is a configuration, or may become one.
    pub(super) fn digest_of(&self, (dir, name): Place) -> Result<Option<Digest>> {
        let object = match self.store.open_object(dir, name, &SERVICE) {
            Ok(object) => object,
            Err(store::Error::Corrupt(_)) => return Ok(Some(UNREADABLE)),
            Err(error) => return Err(error.into()),
        };
        let content = Self::content_of(&object);
        self.store.release(&object);
        match content {
            Ok(content) => Ok(Some(digest(&content))),
            Err(Refusal::Store(store::Error::Corrupt(_))) => Ok(Some(UNREADABLE)),
            Err(error) => Err(error),
        }
    }

    /// Makes the names of a configuration durable, and the content behind those that are new.
    pub(super) fn settle_configurations(&self, dirs: &[&Arc<Dir>]) -> Result<()> {
        Ok(dirs.iter().try_for_each(|dir| self.store.fsync_dir(dir))?)
    }

    /// S3 has a permission of its own for configurations, PutEncryptionConfiguration, since other people's objects
    /// follow them: here it is root's, the mounting user's and that of the directory's owner. Where files do not belong
    /// to whoever makes them, `putter` counts too.
    pub(super) fn check_putter(&self, dir: &Arc<Dir>, owner: u32, putter: Option<&Caller>) -> Result<()> {
        let directorys = self.store.stat(Target::Dir(dir))?.uid;
        let own = rustix::process::geteuid().as_raw();
        let may = |uid: u32| [0, own, directorys].contains(&uid);
        let refused = match putter {
            _ if !may(owner) => Some(owner),
            Some(caller) if !self.options.keep_owners && !may(caller.uid) => Some(caller.uid),
            _ => None,
        };
        let Some(uid) = refused else { return Ok(()) };
        let path = self.path_in((dir, super::configurations::NAME.as_ref()));
        Err(Refusal::Putter { path: String::from_utf8_lossy(&path).into_owned(), uid })
    }
}
