//! LOOKUP of "." and "..", by which the kernel asks for an inode whose number a file handle has told it.

use kmsfs_fs::{Entry, Fs, Ino, Result};
use kmsfs_locks::{Mutex, ranks};

/// What is done with the inode once it is found.
pub(crate) type Found = Box<dyn FnOnce(Result<Entry>) + Send>;

/// Who waits for which inode. One thread at a time looks for all that wait: a walk of the tree finds many as fast as
/// one.
#[derive(Default)]
pub(crate) struct ByNumber(Mutex<ranks::AskedByNumber, Waiting>);

#[derive(Default)]
struct Waiting {
    all: Vec<(Ino, Found)>,
    is_searched: bool,
}

impl ByNumber {
    /// Puts one more there. True if nobody searches yet: the caller has to see to it that `search` is called.
    pub(crate) fn wait(&self, ino: Ino, found: Found) -> bool {
        let mut waiting = self.0.lock();
        waiting.all.push((ino, found));
        !std::mem::replace(&mut waiting.is_searched, true)
    }

    /// Searches until nobody waits.
    pub(crate) fn search(&self, fs: &Fs) {
        loop {
            let all = {
                let mut waiting = self.0.lock();
                waiting.is_searched = !waiting.all.is_empty();
                std::mem::take(&mut waiting.all)
            };
            if all.is_empty() {
                return;
            }
            let numbers: Vec<Ino> = all.iter().map(|(ino, _)| *ino).collect();
            for ((_, tell), found) in all.into_iter().zip(fs.find(&numbers)) {
                tell(found);
            }
        }
    }
}
