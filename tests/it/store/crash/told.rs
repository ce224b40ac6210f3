//! What users of a store were told, and whether what they find after a crash agrees with it.

use kmsfs_store::Ino;
use std::collections::{BTreeMap, BTreeSet};

/// What a name shows that is not there.
pub const NOBODY: Ino = Ino(0);
/// Number of a write, found in all of its sector; 0 is a hole.
pub type Value = u64;

/// What users expect of one object, known from what they wrote only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Number of the re-wrap.
    pub wrap: u64,
    pub sectors: Vec<Value>,
    /// Chunks that hold written data.
    pub present: BTreeSet<usize>,
    /// So much was cut off that the store may have made it durable on its own, so as not to rewrite it through the log.
    pub cut: bool,
}

/// Sectors in a chunk.
pub const SECTORS: usize = 2;

impl Content {
    #[must_use]
    pub fn write(&self, at: usize, values: &[Value]) -> Self {
        let mut next = Self { cut: false, ..self.clone() };
        next.sectors.resize(self.sectors.len().max(at + values.len()), 0);
        next.sectors[at..at + values.len()].copy_from_slice(values);
        next.present.extend((at..at + values.len()).map(|sector| sector / SECTORS));
        next
    }

    #[must_use]
    pub fn truncate(&self, length: usize, cut: bool) -> Self {
        let mut next = Self { cut: self.cut || cut, ..self.clone() };
        next.sectors.resize(length, 0);
        next.present.retain(|chunk| chunk * SECTORS < length);
        next
    }

    #[must_use]
    pub fn punch(&self, chunk: usize) -> Self {
        let mut next = self.clone();
        next.sectors.iter_mut().skip(chunk * SECTORS).take(SECTORS).for_each(|sector| *sector = 0);
        next.present.remove(&chunk);
        next
    }

    #[must_use]
    pub fn with_wrap(self, wrap: u64) -> Self {
        Self { wrap, ..self }
    }

    /// Is this reading this state?
    pub fn shows(&self, reading: &Reading) -> bool {
        self.wrap == reading.wrap && self.sectors.len() == reading.sectors.len() && self.begins(reading)
    }

    /// Is this reading this state, some chunks of which somebody has damaged?
    pub fn shows_but_for_damage(&self, reading: &Reading) -> bool {
        let same = |(sector, read): (&Value, &Option<Value>)| read.is_none_or(|read| read == *sector);
        self.wrap == reading.wrap
            && self.sectors.len() == reading.sectors.len()
            && self.sectors.iter().zip(&reading.sectors).all(same)
    }

    /// Is this reading a beginning of this state, of whole chunks or of all of it?
    pub fn begins(&self, reading: &Reading) -> bool {
        let len = reading.sectors.len();
        let whole = len.is_multiple_of(SECTORS) || len == self.sectors.len();
        // Nothing was sealed of what is empty, so it has whatever key it got then.
        let wrapped = self.wrap == reading.wrap || len == 0;
        wrapped
            && whole
            && len <= self.sectors.len()
            && self.sectors.iter().zip(&reading.sectors).all(|(sector, read)| *read == Some(*sector))
    }
}

/// What an object reads as; a sector is `None` where the answer was EIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub wrap: u64,
    pub sectors: Vec<Option<Value>>,
}

/// What users know of one object.
#[derive(Debug, Clone)]
pub struct Known {
    pub states: Vec<Content>,
    /// Index of the last state that a close has committed, and that an fsync has acknowledged.
    pub committed: Option<usize>,
    pub acked: Option<usize>,
    /// Commits that may have gone through the log: the first one does not.
    pub commits: usize,
    /// The names that it had, one set after the other; those from `named_since` on may be found after a crash.
    pub names: Vec<BTreeSet<String>>,
    pub named_since: usize,
}

impl Known {
    pub fn new(name: &str) -> Self {
        let names = vec![BTreeSet::new(), BTreeSet::from([name.to_string()])];
        Self { states: vec![Content::default()], committed: None, acked: None, commits: 0, names, named_since: 0 }
    }

    /// Found when the store was opened: durable.
    pub fn found(content: Content, name: &str) -> Self {
        let names = vec![BTreeSet::from([name.to_string()])];
        Self { states: vec![content], committed: Some(0), acked: Some(0), commits: 1, names, named_since: 0 }
    }

    pub fn last(&self) -> usize {
        self.states.len() - 1
    }

    pub fn now(&self) -> &Content {
        &self.states[self.last()]
    }

    pub fn push(&mut self, content: Content) {
        if *self.now() != content {
            self.states.push(content);
        }
    }

    pub fn rename(&mut self, gone: Option<&str>, new: Option<&str>) {
        let mut names = self.names[self.names.len() - 1].clone();
        gone.map(|gone| names.remove(gone));
        names.extend(new.map(String::from));
        self.names.push(names);
    }

    pub fn commit(&mut self, state: usize) {
        if self.committed < Some(state) {
            self.commits += 1;
            self.committed = Some(state);
        }
    }

    pub fn ack(&mut self, state: usize) {
        self.commit(state);
        self.acked = self.acked.max(Some(state));
    }
}

/// What a name referred to, as inode numbers, 0 for nothing; from `since` on it may be found after a crash.
#[derive(Debug, Clone)]
pub struct Shown {
    pub was: Vec<Ino>,
    pub since: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Told {
    /// By inode number.
    pub objects: BTreeMap<Ino, Known>,
    /// By path below the bucket; the bucket itself is "".
    pub names: BTreeMap<String, Shown>,
    /// Targets of symlinks, by inode number.
    pub links: BTreeMap<Ino, Vec<u8>>,
    /// Something is being made there, whose inode number is not known yet.
    pub making: Option<String>,
    /// What was last seen of the store.
    pub record: Option<Vec<u8>>,
}

/// What is found after a crash.
#[derive(Debug, Default)]
pub struct Found {
    pub names: BTreeMap<String, Ino>,
    /// A reading, or why there is none.
    pub objects: BTreeMap<Ino, Result<Reading, String>>,
    pub links: BTreeMap<Ino, Result<Vec<u8>, String>>,
    /// Answers that no crash excuses.
    pub wrong: Vec<String>,
}

impl Told {
    pub fn shows(&mut self, name: &str, ino: Ino) {
        let shown = self.names.entry(name.to_string()).or_insert_with(|| Shown { was: vec![NOBODY], since: 0 });
        shown.was.push(ino);
    }

    /// What the name refers to now.
    pub fn ino(&self, name: &str) -> Ino {
        self.names.get(name).and_then(|shown| shown.was.last()).copied().unwrap_or(NOBODY)
    }

    /// The path and everything above it are durable as they were at the given positions.
    pub fn positions(&self, name: &str) -> Vec<(String, usize)> {
        let above = |name: &str| name.rsplit_once('/').map_or("", |(above, _)| above).to_string();
        let mut name = name.to_string();
        let mut positions = Vec::new();
        loop {
            if let Some(shown) = self.names.get(&name) {
                positions.push((name.clone(), shown.was.len() - 1));
            }
            if name.is_empty() {
                return positions;
            }
            name = above(&name);
        }
    }

    pub fn settle_names(&mut self, positions: &[(String, usize)]) {
        for (name, position) in positions {
            if let Some(shown) = self.names.get_mut(name) {
                shown.since = shown.since.max(*position);
            }
        }
    }

    pub fn violations(&self, found: &Found, killed: bool) -> Vec<String> {
        let mut wrong = found.wrong.clone();
        for (name, shown) in &self.names {
            let there = found.names.get(name).copied().unwrap_or(NOBODY);
            let new = self.making.as_ref() == Some(name) && !self.objects.contains_key(&there);
            if !shown.was[shown.since..].contains(&there) && !new {
                wrong.push(format!("name {name:?} shows inode {there}, which it never referred to, or is lost"));
            }
        }
        for (ino, known) in &self.objects {
            let may = &known.names[known.named_since..];
            let named = may.iter().flatten().any(|name| found.names.get(name) == Some(ino));
            if may.iter().all(|names| !names.is_empty()) && !named {
                wrong.push(format!("inode {ino} lost all its names"));
            }
        }
        for (ino, reading) in &found.objects {
            if let Some(known) = self.objects.get(ino) {
                wrong.extend(known.violations(*ino, reading, killed));
            }
        }
        for (ino, read) in &found.links {
            if self.links.get(ino).is_some_and(|target| read.as_ref() != Ok(target)) {
                wrong.push(format!("symlink {ino} reads {read:?}"));
            }
        }
        wrong
    }
}

impl Known {
    fn violations(&self, ino: Ino, reading: &Result<Reading, String>, killed: bool) -> Vec<String> {
        let base = if killed { self.committed } else { self.acked };
        let reading = match reading {
            Ok(reading) => reading,
            Err(why) => return vec![format!("inode {ino} is unreadable: {why}")],
        };
        if reading.sectors.iter().any(Option::is_none) {
            return vec![format!("inode {ino} is unreadable in part: {reading:?}")];
        }
        let may = &self.states[base.unwrap_or(0)..];
        // Of what was never synced the beginning may be there.
        let begins = |state: &Content| base.is_none() && state.begins(reading);
        if may.iter().any(|state| state.shows(reading) || begins(state)) {
            return Vec::new();
        }
        vec![format!("inode {ino} reads {reading:?}, which is no state of {may:?}")]
    }
}
