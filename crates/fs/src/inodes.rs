//! The inodes that the kernel knows. None of them costs a descriptor.

use super::Ino;
use kmsfs_crypto::random;
use kmsfs_locks::{Mutex, ranks};
use kmsfs_store::Attr;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};

/// A name of an inode: the directory's inode and the name in it.
pub(crate) type Name = (Ino, OsString);

#[derive(Default)]
pub(crate) struct Inodes(Mutex<ranks::Inodes, State>);

struct State {
    /// Boxed, since a table that grows is half empty, and there for a moment twice.
    known: HashMap<Ino, Box<Inode>>,
    /// Of the next inode that gets to be known. It moves on whenever a number can come to mean another inode, and
    /// begins at random: a file handle is a number and a generation, of which the kernel keeps 32 bits, and programs
    /// (an NFS server) keep handles when the kernel has forgotten the inode, and over a new mount.
    generation: u64,
    /// Once an inode was searched for by its number: where directories are that the kernel has forgotten, so that what
    /// was found below them stays reachable.
    forgotten: Option<HashMap<Ino, Name>>,
    /// What is searched for at present, and where it was if it was known and forgotten meanwhile.
    wanted: HashMap<Ino, Wanted>,
}

/// What is searched for.
#[derive(Default)]
struct Wanted {
    /// By so many.
    searches: usize,
    /// Where it was when it was forgotten.
    name: Option<Name>,
}

impl Default for State {
    fn default() -> Self {
        let (known, wanted) = (HashMap::new(), HashMap::new());
        Self { known, generation: random::below(1 << 32), forgotten: None, wanted }
    }
}

struct Inode {
    generation: u64,
    lookups: u64,
    /// `S_IFMT` part of the mode.
    kind: u32,
    /// The number of the key that it was last read under and then closed; 0 if it was not.
    read_under: u32,
    /// All the hard-link names that the kernel was told.
    names: Vec<Name>,
    /// Once its last name is gone: what it was then.
    unlinked: Option<Box<Attr>>,
}

impl Inodes {
    /// The kernel is told of an inode under a name. Answers the inode's generation: a number that was deleted and is
    /// used again gets another one, also if it was forgotten in between, and its lookups are added up, so that a late
    /// FORGET never drops a live inode. `own` is the generation by which the file system below knows it, if it does:
    /// that is the same in every mount.
    pub(crate) fn looked_up(&self, attr: &Attr, name: Name, own: Option<u32>) -> u64 {
        let mut state = self.0.lock();
        let (own, next) = (own.map(u64::from), state.generation + 1);
        let present = own.unwrap_or(state.generation);
        let kind = attr.mode & libc::S_IFMT;
        if let Some(forgotten) = &mut state.forgotten {
            forgotten.remove(&attr.ino);
        }
        let inode = state.known.entry(attr.ino).or_insert_with(|| {
            let names = Vec::with_capacity(1);
            Box::new(Inode { generation: present, lookups: 0, kind, read_under: 0, names, unlinked: None })
        });
        inode.lookups += 1;
        let reused = inode.unlinked.is_some() || inode.kind != kind;
        if reused {
            inode.generation = own.filter(|own| *own != inode.generation).unwrap_or(next);
            inode.kind = kind;
            inode.read_under = 0;
            inode.unlinked = None;
            inode.names.clear();
        }
        if !inode.names.contains(&name) {
            inode.names.push(name);
        }
        let generation = inode.generation;
        if reused {
            state.generation = next;
        }
        generation
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().known.len()
    }

    /// Names of some of the inodes beyond so many, of which the kernel may be asked to forget them: not of directories,
    /// whose names programs may hold, nor of what is in use. Others each time, since it may have reasons to keep some.
    pub(crate) fn beyond(&self, most: usize, at_once: usize, in_use: impl Fn(Ino) -> bool) -> Vec<Name> {
        let state = self.0.lock();
        let beyond = state.known.len().saturating_sub(most).min(at_once);
        if beyond == 0 {
            return Vec::new();
        }
        let start = random::below(state.known.len() as u64) as usize;
        let all = state.known.iter().skip(start).chain(state.known.iter().take(start));
        let some = all.filter(|(ino, inode)| inode.kind != libc::S_IFDIR && !in_use(**ino)).take(beyond);
        some.flat_map(|(_, inode)| inode.names.iter().cloned()).collect()
    }

    pub(crate) fn forget(&self, ino: Ino, lookups: u64) {
        let state = &mut *self.0.lock();
        let Entry::Occupied(mut known) = state.known.entry(ino) else { return };
        known.get_mut().lookups = known.get().lookups.saturating_sub(lookups);
        if known.get().lookups > 0 {
            return;
        }
        let mut inode = known.remove();
        let Some(name) = inode.names.pop() else { return };
        if let Some(wanted) = state.wanted.get_mut(&ino) {
            wanted.name = Some(name.clone());
        }
        if let (Some(forgotten), libc::S_IFDIR) = (&mut state.forgotten, inode.kind) {
            forgotten.insert(ino, name);
        }
    }

    /// The names by which an inode can be reached, the latest first.
    pub(crate) fn names(&self, ino: Ino) -> Vec<Name> {
        let state = self.0.lock();
        match state.known.get(&ino) {
            Some(inode) => inode.names.iter().rev().cloned().collect(),
            None => state.forgotten(ino).cloned().into_iter().collect(),
        }
    }

    /// The latest of the names.
    pub(crate) fn name(&self, ino: Ino) -> Option<Name> {
        let state = self.0.lock();
        state.known.get(&ino).map_or_else(|| state.forgotten(ino), |inode| inode.names.last()).cloned()
    }

    /// One of the names that is of a kind.
    pub(crate) fn name_that(&self, ino: Ino, is: impl Fn(&OsStr) -> bool) -> Option<Name> {
        self.0.lock().known.get(&ino)?.names.iter().find(|(_, name)| is(name)).cloned()
    }

    pub(crate) fn kind(&self, ino: Ino) -> Option<u32> {
        self.0.lock().known.get(&ino).map(|inode| inode.kind)
    }

    pub(crate) fn was_read_under(&self, ino: Ino, key: u32) {
        if let Some(inode) = self.0.lock().known.get_mut(&ino) {
            inode.read_under = key;
        }
    }

    pub(crate) fn read_under(&self, key: u32) -> Vec<Ino> {
        let state = self.0.lock();
        state.known.iter().filter(|(_, inode)| inode.read_under == key).map(|(ino, _)| *ino).collect()
    }

    /// A name goes; `last` tells what the inode was, if it is its last one. Called before the name is removed, since
    /// its number may be used again at once; `restored` takes it back.
    pub(crate) fn unlinked(&self, ino: Ino, parent: Ino, name: &OsStr, last: Option<Attr>) {
        let mut state = self.0.lock();
        state.generation += u64::from(last.is_some());
        if let (Some(forgotten), true) = (&mut state.forgotten, last.is_some()) {
            forgotten.remove(&ino);
        }
        if let Some(inode) = state.known.get_mut(&ino) {
            inode.names.retain(|(dir, other)| (*dir, other.as_os_str()) != (parent, name));
            if let Some(attr) = last {
                inode.unlinked = Some(Box::new(attr));
            }
        }
    }

    /// The name has not gone after all.
    pub(crate) fn restored(&self, ino: Ino, parent: Ino, name: &OsStr) {
        if let Some(inode) = self.0.lock().known.get_mut(&ino) {
            inode.names.push((parent, name.to_owned()));
            inode.unlinked = None;
        }
    }

    pub(crate) fn renamed(&self, ino: Ino, from: (Ino, &OsStr), to: Name) {
        if let Some(inode) = self.0.lock().known.get_mut(&ino) {
            inode.names.retain(|(dir, other)| (*dir, other.as_os_str()) != from && (*dir, other) != (to.0, &to.1));
            inode.names.push(to);
        }
    }

    /// Inodes are searched for, until `search_ends`: from now on it is known where directories are that the kernel
    /// forgets, and where these inodes were last.
    pub(crate) fn search_begins(&self, wanted: &[Ino]) {
        let mut state = self.0.lock();
        state.forgotten.get_or_insert_default();
        for ino in wanted {
            state.wanted.entry(*ino).or_default().searches += 1;
        }
    }

    pub(crate) fn search_ends(&self, wanted: &[Ino]) {
        let mut state = self.0.lock();
        for ino in wanted {
            if let Some(search) = state.wanted.get_mut(ino) {
                search.searches -= 1;
            }
        }
        state.wanted.retain(|_, wanted| wanted.searches > 0);
    }

    /// A directory was found there. What is known of it otherwise is newer.
    pub(crate) fn found_dir(&self, ino: Ino, name: Name) {
        let state = &mut *self.0.lock();
        if let (Some(forgotten), false) = (&mut state.forgotten, state.known.contains_key(&ino)) {
            forgotten.entry(ino).or_insert(name);
        }
    }

    /// Those that the kernel knows, and those that it knew or that were found since the first search.
    pub(crate) fn dirs(&self) -> Vec<Ino> {
        let state = self.0.lock();
        let known = state.known.iter().filter(|(_, inode)| inode.kind == libc::S_IFDIR).map(|(ino, _)| *ino);
        known.chain(state.forgotten.iter().flat_map(|dirs| dirs.keys().copied())).collect()
    }

    /// What is remembered of an inode without a name.
    pub(crate) fn remembered(&self, ino: Ino) -> Option<Attr> {
        self.0.lock().known.get(&ino)?.unlinked.as_deref().copied()
    }

    pub(crate) fn remember(&self, attr: Attr) {
        if let Some(inode) = self.0.lock().known.get_mut(&attr.ino) {
            inode.unlinked = Some(Box::new(attr));
        }
    }

    /// Makes the kernel see another inode at the next look-up: what it keeps of this one is wrong.
    pub(crate) fn renew(&self, ino: Ino) {
        let mut state = self.0.lock();
        state.generation += 1;
        let generation = state.generation;
        if let Some(inode) = state.known.get_mut(&ino) {
            inode.generation = generation;
        }
    }
}

impl State {
    /// Where an inode is that the kernel does not know.
    fn forgotten(&self, ino: Ino) -> Option<&Name> {
        let dir = || self.forgotten.as_ref()?.get(&ino);
        self.wanted.get(&ino).and_then(|wanted| wanted.name.as_ref()).or_else(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use std::collections::HashSet;

    fn attr(ino: u64, mode: u32) -> Attr {
        let (ino, never) = (Ino(ino), Time(0));
        Attr {
            ino,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: never,
            mtime: never,
            ctime: never,
        }
    }

    #[test]
    fn a_number_that_is_used_again_gets_another_generation_and_survives_late_forgets() {
        let inodes = Inodes::default();
        let first = inodes.looked_up(&attr(5, libc::S_IFREG), (Ino(1), "a".into()), None);
        inodes.unlinked(Ino(5), Ino(1), OsStr::new("a"), Some(attr(5, libc::S_IFREG)));
        assert_eq!(inodes.names(Ino(5)), vec![]);
        let second = inodes.looked_up(&attr(5, libc::S_IFREG), (Ino(1), "b".into()), None);
        assert_ne!(first, second);
        inodes.forget(Ino(5), 1);
        assert_eq!(inodes.names(Ino(5)), vec![(Ino(1), "b".into())]);
        inodes.forget(Ino(5), 1);
        assert_eq!(inodes.kind(Ino(5)), None);
    }

    #[test]
    fn a_generation_is_not_met_again_after_forgetting_nor_in_another_mount() {
        let inodes = Inodes::default();
        let look_up = |inodes: &Inodes| inodes.looked_up(&attr(5, libc::S_IFREG), (Ino(1), "a".into()), None);
        let first = look_up(&inodes);
        inodes.forget(Ino(5), 1);
        assert_eq!(look_up(&inodes), first, "nothing was deleted");
        inodes.unlinked(Ino(5), Ino(1), OsStr::new("a"), Some(attr(5, libc::S_IFREG)));
        inodes.forget(Ino(5), 1);
        let second = look_up(&inodes);
        assert_ne!(first, second);
        inodes.forget(Ino(5), 1);
        inodes.unlinked(Ino(5), Ino(1), OsStr::new("a"), Some(attr(5, libc::S_IFREG)));
        assert_ne!(second, look_up(&inodes), "deleted when the kernel did not know it");
        let others: HashSet<u32> = (0..8).map(|_| look_up(&Inodes::default()) as u32).collect();
        assert!(others.len() > 1, "{others:?}");
    }

    #[test]
    fn a_generation_of_the_file_systems_own_is_the_inodes_in_every_mount() {
        let (ino, kind) = (5, libc::S_IFREG);
        let look_up = |inodes: &Inodes, own| inodes.looked_up(&attr(ino, kind), (Ino(1), "a".into()), Some(own));
        let inodes = Inodes::default();
        assert_eq!(look_up(&inodes, 70), 70);
        inodes.forget(Ino(ino), 1);
        inodes.unlinked(Ino(6), Ino(1), OsStr::new("b"), Some(attr(6, kind)));
        assert_eq!((look_up(&inodes, 70), look_up(&Inodes::default(), 70)), (70, 70));
        inodes.unlinked(Ino(ino), Ino(1), OsStr::new("a"), Some(attr(ino, kind)));
        assert_eq!(look_up(&inodes, 71), 71);
        inodes.unlinked(Ino(ino), Ino(1), OsStr::new("a"), Some(attr(ino, kind)));
        assert_ne!(look_up(&inodes, 71), 71, "the kernel would take it for the one before");
    }

    #[test]
    fn directories_that_the_kernel_forgot_are_known_once_somebody_has_searched() {
        let inodes = Inodes::default();
        let (dir, file) = (attr(5, libc::S_IFDIR), attr(6, libc::S_IFREG));
        let name = |dir: u64, name: &str| (Ino(dir), OsString::from(name));
        let know = |attr: &Attr, at: Name| inodes.looked_up(attr, at, None);
        know(&dir, name(1, "a"));
        inodes.forget(Ino(5), 1);
        assert_eq!(inodes.name(Ino(5)), None);
        inodes.search_begins(&[Ino(6)]);
        for attr in [&dir, &file] {
            know(attr, name(1, "a"));
            inodes.renamed(attr.ino, (Ino(1), OsStr::new("a")), name(2, "b"));
            inodes.forget(attr.ino, 1);
            assert_eq!(inodes.names(attr.ino), [name(2, "b")]);
        }
        inodes.found_dir(Ino(5), name(1, "a"));
        assert_eq!(inodes.name(Ino(5)), Some(name(2, "b")), "what a walk saw is older");
        inodes.search_ends(&[Ino(6)]);
        assert_eq!((inodes.name(Ino(5)), inodes.name(Ino(6))), (Some(name(2, "b")), None));
        know(&dir, name(2, "b"));
        assert_eq!(inodes.dirs(), [Ino(5)]);
        inodes.unlinked(Ino(5), Ino(2), OsStr::new("b"), Some(dir));
        inodes.forget(Ino(5), 1);
        assert_eq!((inodes.name(Ino(5)), inodes.dirs()), (None, vec![]));
    }

    #[test]
    fn all_hard_links_are_known() {
        let inodes = Inodes::default();
        inodes.looked_up(&attr(5, libc::S_IFREG), (Ino(1), "a".into()), None);
        inodes.looked_up(&attr(5, libc::S_IFREG), (Ino(2), "b".into()), None);
        inodes.renamed(Ino(5), (Ino(1), OsStr::new("a")), (Ino(3), "c".into()));
        inodes.unlinked(Ino(5), Ino(2), OsStr::new("b"), None);
        assert_eq!(inodes.names(Ino(5)), vec![(Ino(3), "c".into())]);
    }
}
