//! What crashes have left that objects have to be read with, for as long as the store is open.

use crate::backend::{self, Access, File};
use crate::local::recovery::{Patch, birth};
use crate::local::sealed::parameters::Features;
use crate::mistakes::Seeded;
use crate::object::Home;
use crate::{Dir, Ino, Time};
use kmsfs_crypto::{MacKey, StoreKey};
use kmsfs_format::ObjectId;
use kmsfs_format::header::Header;
use kmsfs_format::layout::{BLOCK, CipherLen, Geometry};
use kmsfs_format::log_header::{Crashes, LogHeader};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;

/// What crashes left. It never changes while the store is open: that an object is settled is said in its file.
pub(crate) struct Aftermath {
    /// Objects that the log called settled, whatever their birth says (M7): also in a store that is written.
    settled: HashSet<ObjectId>,
    /// What a read-only recovery lays over object files, by inode.
    patches: HashMap<Ino, Arc<Patch>>,
    /// Epochs of the redo log that ended in a crash.
    crashes: Crashes,
    /// Of a store of version 1 that is only read: object files changed in this span may be as a crash left them.
    untidy: Option<(i64, i64)>,
    /// What births are authenticated with.
    key: Option<MacKey>,
    seeded: Seeded,
}

impl Aftermath {
    /// `header` is the one that the log goes on under.
    pub(crate) fn of(
        settled: HashSet<ObjectId>,
        patches: HashMap<Ino, Arc<Patch>>,
        header: &LogHeader,
        key: Option<&StoreKey>,
        seeded: Seeded,
    ) -> Self {
        let LogHeader { crashes, untidy, .. } = *header;
        Self { settled, patches, crashes, untidy, key: key.map(birth::key), seeded }
    }

    /// What a read-only recovery lays over an object file.
    pub(crate) fn patch_of(&self, ino: Ino) -> Option<Arc<Patch>> {
        self.patches.get(&ino).cloned()
    }

    /// Whether there was any crash. Without one no object is less than what is there says.
    pub(crate) fn knows_a_crash(&self) -> bool {
        self.has_crashed_epochs() || self.untidy.is_some()
    }

    /// The same of crashes that the log knows by their epochs.
    pub(crate) fn has_crashed_epochs(&self) -> bool {
        !self.crashes.is_empty()
    }

    /// Whether the object in this file may never have been durable: it was made in an epoch that ended in a crash, and
    /// nothing says that it was settled. `id` as far as it is known.
    pub(crate) fn may_be_unsynced(&self, file: &dyn File, id: Option<ObjectId>) -> bool {
        let Some(key) = self.key.as_ref().filter(|_| self.has_crashed_epochs()) else { return false };
        let Some((born, epoch)) = birth::authentic(key, file, self.seeded) else { return false };
        id.is_none_or(|id| id == born) && self.crashes.contains(epoch) && !self.settled.contains(&born)
    }

    /// Whether a crash, of this version or of an earlier one, may have left an object file longer than its seal says:
    /// it wrote what it had not committed. Nothing of that is read.
    pub(crate) fn may_be_longer(&self, ctime: Time) -> bool {
        self.has_crashed_epochs() || self.is_untidy(ctime)
    }

    /// Whether a blank header and a time in the span of a crash, by which version 1 told it, say that the object was
    /// never committed. They are believed in a store of that version that is only read.
    pub(crate) fn is_blank_of_version_1(&self, file: &dyn File) -> bool {
        file.metadata().is_ok_and(|found| self.is_untidy(found.ctime)) && birth::is_blank(file)
    }

    /// Whether version 1 may have left an object file that changed at that time as a crash found it.
    fn is_untidy(&self, ctime: Time) -> bool {
        self.untidy.is_some_and(|(from, to)| (from..=to).contains(&ctime.0))
    }

    /// The plaintext length of a file that is not in memory, without a key: from the file's length, or from the seal
    /// where a crash may have left the file longer.
    pub(crate) fn plain_size(&self, dir: &Dir, name: &OsStr, metadata: &backend::Metadata, features: &Features) -> u64 {
        let patch = self.patch_of(metadata.ino);
        let header = || {
            let home =
                Home { file: dir.backing.open_file(name, Access::Read).ok()?, patch: self.patch_of(metadata.ino) };
            let mut block = [0; BLOCK as usize];
            let read = home.read(0, &mut block).ok()?;
            Header::read(&block[..read]).ok()
        };
        let len = match patch {
            Some(patch) => patch.len(metadata.len),
            None if self.may_be_longer(metadata.ctime) => match header() {
                Some(header) => return header.seal.length.0,
                None => metadata.len,
            },
            None => metadata.len,
        };
        // A length that no writer makes is found out at open; here it shows as what is there.
        let plain = |geometry| CipherLen(len).plain(geometry).map_or(len.saturating_sub(4096), |plain| plain.0);
        let (single, dual) = (plain(Geometry::Single), plain(Geometry::Dual));
        // Up to 32 chunks both are the same; beyond, who has two layers is in the header.
        if single == dual || !features.dual_layers() {
            return single;
        }
        let is_dual = header().is_some_and(|header| Geometry::of(header.suite) == Geometry::Dual);
        if is_dual { dual } else { single }
    }
}
