//! Inodes asked for by their number alone, which is what a file handle has (name_to_handle_at(2), an NFS server's).
//!
//! The kernel asks so for what it has forgotten, or what an earlier mount told it. Nothing leads from a number to a
//! name: the tree is walked, all directories of it, for all that are asked for by then. What a walk saw on its way is
//! kept as hints.

use super::dirs::Blocked;
use super::inodes::Name;
use super::{Entry, Fs, Ino, Refusal, Result};
use kmsfs_locks::{Condvar, Mutex, RwLock, RwLockReadGuard, Turn, ranks};
use kmsfs_store::{Attr, Dir, Target};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;

/// Inodes of which it is remembered in which directory a walk saw them; about 36 bytes each.
const HINTS: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Searches {
    /// Shared by whoever takes a name away or gives an inode another one. Taken alone to say what is where: the kernel
    /// keeps a directory's names as they are only while it asks by name. Whoever takes `tree` alone has it before.
    changing: RwLock<ranks::NamesChanging, ()>,
    /// Inodes that are no directories, and a directory in which a walk saw each. A search takes them out, and puts its
    /// own there at its end.
    hints: Mutex<ranks::Hints, HashMap<Ino, Ino>>,
    /// Inodes whose names are just changing below, or are just being used there.
    held: Mutex<ranks::InodesHeld, HashSet<Ino>>,
    freed: Condvar,
}

impl Searches {
    pub(crate) fn names_change(&self) -> RwLockReadGuard<'_, ranks::NamesChanging, ()> {
        self.changing.read()
    }

    /// From before two inodes' names change below until `Inodes` has that, or for as long as one of them is used by a
    /// name: no name changes hands in between. Whoever takes `changing` has it before, whoever takes `tree` or settles
    /// an inode (`Store::settling`) does so afterwards.
    pub(crate) fn hold(&self, one: Ino, other: Ino) -> Held<'_> {
        let turn = Turn::take();
        let mut held = self.held.lock();
        while held.contains(&one) || held.contains(&other) {
            self.freed.wait(&mut held);
        }
        held.extend([one, other]);
        Held { searches: self, inodes: [one, other], _turn: turn }
    }
}

/// Two inodes, or one, that nobody else holds.
pub(crate) struct Held<'a> {
    searches: &'a Searches,
    inodes: [Ino; 2],
    _turn: Turn<ranks::InodeHeld>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.searches.held.lock();
        for ino in self.inodes {
            held.remove(&ino);
        }
        self.searches.freed.notify_all();
    }
}

/// What a walk saw.
#[derive(Default)]
struct Seen {
    /// A name of each inode that is searched for and was there.
    names: HashMap<Ino, Name>,
    /// Why some directory could not be read.
    unread: Option<Refusal>,
}

impl Fs {
    /// The inodes of these numbers, each as if it had been looked up by name, or ENOENT. From a thread that may wait:
    /// for one of which nothing is remembered all directories are read.
    pub fn find(&self, numbers: &[Ino]) -> Vec<Result<Entry>> {
        let mut hints = std::mem::take(&mut *self.searches.hints.lock());
        self.inodes.search_begins(numbers);
        let mut found = self.confirm(numbers, &self.hinted(numbers, &hints));
        let missing: Vec<usize> = (0..found.len()).filter(|at| is_missing(&found[*at])).collect();
        if !missing.is_empty() {
            let wanted: Vec<Ino> = missing.iter().map(|at| numbers[*at]).collect();
            let seen = self.walk(&wanted.iter().copied().collect(), &mut hints);
            for (at, again) in missing.into_iter().zip(self.confirm(&wanted, &seen.names)) {
                found[at] = match &seen.unread {
                    // It may be in a directory that could not be read.
                    Some(unread) if is_missing(&again) => Err(unread.clone()),
                    _ => again,
                };
            }
        }
        self.inodes.search_ends(numbers);
        *self.searches.hints.lock() = hints;
        found
    }

    /// Inode number of the directory above a directory.
    pub fn above(&self, ino: Ino) -> Result<Ino> {
        Ok(self.inodes.name(ino).ok_or(Refusal::NotFound)?.0)
    }

    /// Attributes of an inode that has a name, while none changes: for whoever has met one that was just changing.
    pub(super) fn in_place(&self, ino: Ino) -> Result<Option<Attr>> {
        let found = self.with_bucket(|bucket| {
            let _alone = self.searches.changing.write();
            for (parent, name) in self.inodes.names(ino) {
                let dir = match self.dir_at_hand(parent, bucket) {
                    Err(Blocked::Refused(_)) => continue,
                    dir => dir?,
                };
                match self.store.stat_at_hand(Target::Name(&dir, &name)) {
                    Ok(attr) if attr.ino == ino => return Ok(attr),
                    _ => {}
                }
            }
            Err(Refusal::NotFound.into())
        });
        match found {
            Ok(attr) => self.beyond_doubt(attr).map(Some),
            Err(wait @ Refusal::WouldWait(_)) => Err(wait),
            Err(_) => Ok(None),
        }
    }

    fn confirm(&self, numbers: &[Ino], names: &HashMap<Ino, Name>) -> Vec<Result<Entry>> {
        let confirm = |ino: &Ino| {
            let found = self.with_bucket(|bucket| {
                let _alone = self.searches.changing.write();
                self.look_up_number(*ino, names.get(ino), bucket)
            });
            found.map(|entry| Entry { attr: self.beyond_doubt_by_now(entry.attr), ..entry })
        };
        numbers.iter().map(confirm).collect()
    }

    fn look_up_number(
        &self,
        ino: Ino,
        name: Option<&Name>,
        bucket: Option<&Arc<Dir>>,
    ) -> std::result::Result<Entry, Blocked> {
        if ino == self.root() {
            // Which the kernel never forgets, and knows by no other generation.
            let attr = self.store.stat(Target::Dir(self.store.root()))?;
            return Ok(Entry { attr, generation: 0, volatile: false });
        }
        for (parent, name) in self.inodes.names(ino).into_iter().chain(name.cloned()) {
            let there = self
                .dir_at_hand(parent, bucket)
                .and_then(|dir| Ok((self.store.stat_at_hand(Target::Name(&dir, &name))?, dir)));
            match there {
                Ok((attr, dir)) if attr.ino == ino => return Ok(self.entry(&dir, &name, attr)),
                Ok(_) => {}
                Err(Blocked::Refused(refusal)) if refusal.is_gone() => {}
                Err(blocked) => return Err(blocked),
            }
        }
        Err(Refusal::NotFound.into())
    }

    /// Names of those that are still where a walk saw them.
    fn hinted(&self, numbers: &[Ino], hints: &HashMap<Ino, Ino>) -> HashMap<Ino, Name> {
        let dirs: HashSet<Ino> = numbers.iter().filter_map(|ino| hints.get(ino).copied()).collect();
        let wanted: HashSet<Ino> = numbers.iter().copied().collect();
        let mut names = HashMap::new();
        for dir in dirs {
            // What this does not find the walk does.
            let _ = self.list(dir, |ino, _, name| {
                if wanted.contains(&ino) {
                    names.insert(ino, (dir, name.to_owned()));
                }
            });
        }
        names
    }

    fn walk(&self, wanted: &HashSet<Ino>, hints: &mut HashMap<Ino, Ino>) -> Seen {
        hints.clear();
        let mut seen = Seen::default();
        let mut visited = HashSet::from([self.root()]);
        let mut left = vec![self.root()];
        while !left.is_empty() {
            while let Some(dir) = left.pop() {
                let listed = self.list(dir, |ino, kind, name| {
                    if wanted.contains(&ino) {
                        seen.names.insert(ino, (dir, name.to_owned()));
                    }
                    if kind != libc::S_IFDIR {
                        if hints.len() < HINTS {
                            hints.insert(ino, dir);
                        }
                    } else if visited.insert(ino) {
                        self.inodes.found_dir(ino, (dir, name.to_owned()));
                        left.push(ino);
                    }
                });
                match listed {
                    Err(refusal) if !refusal.is_gone() => seen.unread = Some(refusal),
                    _ => {}
                }
            }
            // Those that moved meanwhile to where the walk had been: the kernel knew them. (So it did files, whose
            // names `inodes` has.)
            left = self.inodes.dirs().into_iter().filter(|ino| visited.insert(*ino)).collect();
        }
        seen
    }

    /// Number, kind and name of all that is in a directory.
    fn list(&self, ino: Ino, mut visit: impl FnMut(Ino, u32, &OsStr)) -> Result<()> {
        let dir = self.dir(ino)?;
        self.store.read_dir(&dir, 0, &mut |entry| {
            let kind = match entry.kind {
                0 => self.store.stat(Target::Name(&dir, entry.name)).map_or(0, |attr| attr.mode & libc::S_IFMT),
                kind => kind,
            };
            visit(entry.ino, kind, entry.name);
            true
        })?;
        Ok(())
    }
}

fn is_missing(found: &Result<Entry>) -> bool {
    found.as_ref().is_err_and(Refusal::is_not_found)
}
