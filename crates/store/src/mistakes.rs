//! Mistakes that tests put into the store, one at a time, to see that they are found: each breaks one rule of the
//! commit protocol (docs/ARCHITECTURE.md). Only the feature `testing`, which the testing package alone enables, gives a
//! store one to make (`StoreOptions::mistake`); without it `Seeded::is` is the constant `false`.

use crate::StoreOptions;

/// Named as in the protocol's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// W1: that the log holds a record of a chunk does not matter.
    LiveRecordIgnored,
    /// W1: that a commit which dropped a chunk may not be durable does not matter.
    QuietBeforeDurable,
    /// W1: what the states between the durable one and the latest referred to does not matter.
    TwoStatesEnough,
    /// W2: chunks are overwritten at home.
    OverwriteInPlace,
    /// W3: new inner nodes are written straight home.
    NodeStraightHome,
    /// W3: new table pages are written straight home.
    PageStraightHome,
    /// W4: a partial last chunk is not encrypted again when the length passes it.
    PartialChunkKept,
    /// C1: commits go straight home until one is known durable.
    SecondDirectCommit,
    /// C2: of a table that was empty, only what differs from zeros is written.
    FreshPageDelta,
    /// C3: a re-wrap overwrites the sidecar's record.
    RewrapInPlace,
    /// C3: a re-wrap's mark comes without the other changes.
    RewrapMarksAlone,
    /// F1: fsync leaves the sidecar's record to the first commit.
    SidecarNotLogged,
    /// F2: what others write straight home between sync and commit is not synced.
    WrittenAfterSync,
    /// F2: fsync leaves out the object file.
    ObjectNotSynced,
    /// F3: fsync takes a sync of the log that has begun before it for its own.
    JoinRunningSync,
    /// F4: fsync leaves out the names.
    NameNotSynced,
    /// F4: a directory that was synced counts as synced although a name has gone since.
    RemovalUnseen,
    /// F5: a sync counts as done when it starts.
    CleanBeforeSynced,
    /// N2: renaming over a name leaves the source as it is.
    RenameWithoutSync,
    /// N3: a dead object's records do not count, though its unlink may not be durable.
    DeadMarkTrusted,
    /// U1: the list of free units is believed.
    StaleFreeList,
    /// U2: units are zeroed whoever they are.
    UnitFreedUnseen,
    /// U3: units are given out before the epoch is durable.
    UnitReusedEarly,
    /// K1: appends go on during a checkpoint.
    AppendDuringCheckpoint,
    /// K1: who dies during a checkpoint is freed by it.
    DeadListTakenLate,
    /// K3: a checkpoint sets the committed length although the present one is greater.
    HomeCutsCurrent,
    /// K4: a checkpoint leaves out the directories of the dead.
    UnlinkNotSynced,
    /// K5: units are zeroed before the directories of the dead are synced.
    UnitFreedBeforeUnlink,
    /// K6: the epoch is raised before homes are written.
    EpochBeforeHomes,
    /// M1: recovery does not sync the log.
    RecoveryLogNotSynced,
    /// M2: records after an object's last mark count.
    TailApplied,
    /// M3: what lies at the hint is the object.
    HintNotChecked,
    /// M4: every mark sets the length.
    LengthInOrder,
    /// M5: recovery syncs nothing where the log was empty.
    IdleRecoveryNotSynced,
    /// M2: a mark may be passed over.
    MarksNotCounted,
    /// W5, C6: what went straight home is not looked for.
    HomeWritesBelieved,
    /// C6: what later marks call synced is looked for too.
    SyncedIsJudged,
    /// C7: fsync does not say that what marks list is synced.
    SyncedNotTold,
    /// M6: a chunk that came into the log later is looked for at home.
    LoggedChunkJudged,
    /// M6: recovery writes over what commits rest on before these are durable.
    HomesNotSyncedFirst,
    /// M7: that an object is settled is not told.
    SettledNotTold,
    /// M7: an object without its header stays excused although the log calls it settled.
    RemainsNotSettled,
    /// M8: epochs that ended in a crash are forgotten.
    CrashForgotten,
    /// N4: what is made during a checkpoint belongs to the epoch that ends.
    BirthBeforeCheckpoint,
    /// R2: whose birth it is does not matter.
    BirthOfAnyInode,
    /// R2: an object that may never have been synced is taken for whole.
    UnsyncedNotCut,
    /// R2: what is missing of a settled object is cut off.
    SettledIsCut,
    /// R3: what is cut is called settled before that is durable.
    CutNotSynced,
    /// R4: what a crash left of an object that was never committed stays under the new one.
    RemainsNotCleared,
    /// K7: a checkpoint writes home what rests on unsynced home writes.
    HomesOverUnsynced,
    /// K8: a checkpoint leaves out first commits of closed objects.
    LooseNotSynced,
    /// O1: the log names an opening that may not be listed durably.
    OpeningNotListed,
    /// O2: the witness is told of an epoch before the log is at it.
    ToldTooEarly,
    /// W6: what became a hole is punched out of the object file at once.
    GivenBackEarly,
    /// An empty table is read from the disk.
    NullPageRead,
    /// The length is the object file's.
    LengthFromFile,
    /// The header's tag entries need not be the sealed ones.
    HeaderEntriesUnchecked,
    /// A seal is taken whoever made it.
    SealOfAnyObject,
    /// An attribute's value is bound to its name alone.
    ValueOfAnyOwner,
}

/// The mistake that a store makes, given when it is opened and handed down to whatever keeps a rule. It holds nothing,
/// and is asked for nothing, in builds without the feature `testing`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seeded {
    #[cfg(feature = "testing")]
    mistake: Option<Mistake>,
}

#[cfg(feature = "testing")]
impl Seeded {
    pub(crate) fn of(options: &StoreOptions) -> Self {
        Self { mistake: options.mistake }
    }

    /// Whether this mistake is to be made.
    pub(crate) fn is(self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

#[cfg(not(feature = "testing"))]
impl Seeded {
    pub(crate) const fn of(_: &StoreOptions) -> Self {
        Self {}
    }

    // As the other one.
    #[allow(clippy::unused_self)]
    pub(crate) const fn is(self, _: Mistake) -> bool {
        false
    }
}
