//! Changes of names that are not durable yet, and which of them hold together.

use std::ffi::OsString;

/// One system call on names: it survives a power cut whole or not at all.
pub(super) struct Move {
    pub(super) when: u64,
    pub(super) changes: Vec<Change>,
    /// A directory was given another name: these keep their order, or a power cut could put two into one another.
    pub(super) of_directory: bool,
    /// A directory that was removed, which needs the moves that emptied it.
    pub(super) removed: Option<u64>,
}

/// What a name in a directory referred to before and after.
pub(super) struct Change {
    pub(super) directory: u64,
    pub(super) name: OsString,
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
}

impl Move {
    pub(super) fn touches(&self, directory: u64) -> bool {
        self.changes.iter().any(|change| change.directory == directory)
    }

    /// Whether this one cannot survive without an earlier one. Beside the order of changes of one name these are the
    /// promises that every file system of Linux keeps about names that nobody removed: they do not vanish because
    /// something else was lost.
    pub(super) fn needs(&self, earlier: &Move) -> bool {
        let same_name = |a: &Change, b: &Change| a.directory == b.directory && a.name == b.name;
        self.changes.iter().any(|change| earlier.changes.iter().any(|before| same_name(change, before)))
            || self.of_directory && earlier.of_directory
            || self.removed.is_some_and(|directory| earlier.touches(directory))
            || self.changes.iter().filter_map(|change| change.from).any(|inode| self.would_lose(inode, earlier))
    }

    /// `inode` is what a name of ours referred to, and without `earlier` it would have no name after us: its other
    /// name, or the directory that we move it to, came with `earlier`.
    fn would_lose(&self, inode: u64, earlier: &Move) -> bool {
        let gives_name = |inode: u64| earlier.changes.iter().any(|before| before.to == Some(inode));
        let mut kept = self.changes.iter().filter(|change| change.to == Some(inode)).peekable();
        if kept.peek().is_none() {
            return gives_name(inode);
        }
        kept.any(|change| gives_name(change.directory))
    }
}

/// Of moves in order, which a power cut keeps if it would keep those in `kept`: none that needs a lost one.
pub(super) fn survivors<'a>(moves: &'a [std::sync::Arc<Move>], kept: &[bool]) -> Vec<&'a Move> {
    let (mut alive, mut lost): (Vec<&Move>, Vec<&Move>) = (Vec::new(), Vec::new());
    for (next, kept) in moves.iter().zip(kept) {
        let survives = *kept && !lost.iter().any(|before| next.needs(before));
        if survives { alive.push(next) } else { lost.push(next) }
    }
    alive
}

/// Which of the moves become durable with those in `wanted`: what they need too.
pub(super) fn closure(moves: &[std::sync::Arc<Move>], wanted: impl Fn(&Move) -> bool) -> Vec<bool> {
    let mut chosen: Vec<bool> = moves.iter().map(|one| wanted(one)).collect();
    for later in (0..moves.len()).rev().filter(|n| *n > 0) {
        if chosen[later] {
            for earlier in 0..later {
                chosen[earlier] |= moves[later].needs(&moves[earlier]);
            }
        }
    }
    chosen
}
