//! Keys of a bucket in their order, from any key on: directories are entered when the walk comes by them, and nothing
//! but those on the way is read.

use crate::directories::{self, Marker};
use crate::leftovers;
use crate::names::Names;
use crate::refusals;
use crate::tree::{Bucket, is_absent, is_gone, open_beneath, proc_path};
use kmsfs_s3::{Error, ObjectKey};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// A walk. It sees what is there when it comes by.
pub(crate) struct Walker<'a> {
    bucket: &'a Bucket,
    /// The list goes on from an earlier page.
    goes_on: bool,
    /// The path of the outermost directory: empty, or ending in a slash.
    base: String,
    /// From the outermost on.
    levels: Vec<Level>,
    /// The outermost directory's own key, if it was not walked by yet.
    marker: Option<Marker>,
}

struct Level {
    dir: OwnedFd,
    /// Empty, or ending in a slash.
    path: String,
    names: Arc<Names>,
    next: usize,
}

/// What has a key, or had it when its directory was read.
pub(crate) enum What {
    /// A file, in the walk's innermost directory.
    File,
    Marker(Box<Marker>),
}

impl<'a> Walker<'a> {
    /// Of the keys that begin with the prefix, and a few behind them.
    pub(crate) fn new(bucket: &'a Bucket, prefix: &str, goes_on: bool) -> Result<Self, Error> {
        let base = prefix.rfind('/').map_or("", |end| &prefix[..=end]).to_owned();
        let mut walker = Self { bucket, goes_on, base, levels: Vec::new(), marker: None };
        // What is no key is a prefix of none.
        if walker.base.is_empty() || ObjectKey::parse(walker.base.as_str()).is_ok() {
            walker.enter(walker.base.clone())?;
        }
        Ok(walker)
    }

    /// The next key is the first that is not before `target`.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<(), Error> {
        if self.marker.is_some() && self.base.as_bytes() < target {
            self.marker = None;
        }
        while self.levels.len() > 1
            && !self.levels.last().is_some_and(|level| target.starts_with(level.path.as_bytes()))
        {
            self.levels.pop();
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            let Some(rest) = target.strip_prefix(level.path.as_bytes()) else {
                // Before or behind all that is in the outermost directory.
                level.next = if target < level.path.as_bytes() { level.next } else { level.names.len() };
                return Ok(());
            };
            let at = level.names.position(rest);
            level.next = level.next.max(at);
            // The target may be in the directory before.
            let within = at.checked_sub(1).and_then(|at| level.names.get(at));
            match within.filter(|name| name.ends_with('/') && rest.starts_with(name.as_bytes())) {
                Some(name) => {
                    let path = format!("{}{name}", level.path);
                    // Its own key is before what is in it.
                    if self.enter(path)?.is_none() {
                        return Ok(());
                    }
                    self.marker = None;
                }
                None => return Ok(()),
            }
        }
    }

    /// The next key.
    pub(crate) fn step(&mut self) -> Result<Option<(String, What)>, Error> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            if let Some(marker) = self.marker.take() {
                return Ok(Some((level.path.clone(), What::Marker(Box::new(marker)))));
            }
            let Some(name) = level.names.get(level.next) else {
                self.levels.pop();
                continue;
            };
            level.next += 1;
            let key = format!("{}{name}", level.path);
            if key.len() > ObjectKey::MAX_LEN {
                continue;
            }
            if !name.ends_with('/') {
                return Ok(Some((key, What::File)));
            }
            self.enter(key)?;
        }
    }

    /// The directory that the file is in which was walked by last.
    pub(crate) fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.levels.last().map(|level| level.dir.as_fd())
    }

    /// `None` where there is no such directory any more, or where the user may not read it.
    fn enter(&mut self, path: String) -> Result<Option<()>, Error> {
        let relative = if path.is_empty() { "." } else { path.trim_end_matches('/') };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match open_beneath(self.bucket.dir(), Path::new(relative), flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(error) if self.levels.is_empty() && path.is_empty() => return Err(refusals::of_call(&error)),
            Err(error) if is_absent(&error) || is_denied(&error) => return Ok(None),
            Err(error) => return Err(refusals::of_call(&error)),
        };
        let looked_at = self.bucket.names().names(&dir, self.goes_on).and_then(|names| {
            let origin = if path.is_empty() { None } else { directories::origin(&proc_path(&dir))? };
            Ok((names, origin))
        });
        let (names, origin) = match looked_at {
            Ok(looked_at) => looked_at,
            // Since it was opened.
            Err(error) if is_gone(&error) && !path.is_empty() => return Ok(None),
            Err(error) => return Err(refusals::of_call(&error)),
        };
        leftovers::sweep(self.bucket, dir.as_fd(), &names.leftovers);
        if !path.is_empty() {
            self.marker = origin.and_then(|origin| origin.marker);
        }
        self.levels.push(Level { dir, path, names, next: 0 });
        Ok(Some(()))
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}
