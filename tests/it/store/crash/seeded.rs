//! Each rule of the protocol broken in turn: the workload that stands beside it must notice. Without the mistake the
//! same workload notices nothing. They are the protocol's model's mistakes and workloads.

use super::campaign::{Campaign, Effort};
use super::crashed::{CrashedStore, SPREAD};
use crate::store::seen::openings_survive;
use crate::store::tamper::lenient::{
    births_are_of_their_inodes, marks_are_counted, remains_are_settled, settled_is_strict,
};
use crate::store::tamper::{forged_length, recombination::recombinations, values::exchanged};
use kmsfs_testing::disk::{Call, FaultPlan};
use kmsfs_testing::mistakes::{Mistake, making};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds that are tried.
const SEEDS: u64 = 30;

/// Answers what was wrong.
type Hunt<'a> = &'a dyn Fn(u64) -> Option<String>;

fn is_found(mistake: Mistake, hunt: Hunt<'_>) {
    assert_eq!(hunt(0), None, "without the mistake");
    // A store that does not even open ends a workload.
    let try_seed = |seed| {
        let hunted = catch_unwind(AssertUnwindSafe(|| making(mistake, || hunt(seed))));
        hunted.unwrap_or_else(|_| Some("it panics".into()))
    };
    let found = (1..=SEEDS).find_map(try_seed);
    println!("{mistake:?}: {found:?}");
    assert!(found.is_some(), "nobody notices {mistake:?}");
}

fn crash(workload: &str) -> impl Fn(u64) -> Option<String> {
    let lives = if workload.contains("||") { 6 } else { 0 };
    move |seed| {
        let mut campaign = Campaign::new(seed);
        campaign.check(workload, Effort { one_in: 1, cuts: 8, lives });
        campaign.found().first().cloned()
    }
}

fn recombine(seed: u64) -> Option<String> {
    recombinations(seed, 300).err()
}

/// A checkpoint whose last write fails: the log then still has what went home, and the units of the dead are not
/// anybody's.
fn fail_the_raise_of_an_epoch(seed: u64) -> Option<String> {
    let mut campaign = Campaign::new(seed);
    for nth in 1..6 {
        let crashed = CrashedStore::new(campaign.keys(), SPREAD, true);
        for op in ["create b", "write b 0 1", "fsync b", "unlink b"] {
            crashed.try_step(op).unwrap();
        }
        crashed.disk.fail(FaultPlan::nth(nth, libc::EIO).of(&[Call::Write]));
        let _ = crashed.try_step("checkpoint");
        crashed.disk.heal();
        for op in ["create a", "write a 0 1", "close a"] {
            crashed.try_step(op).unwrap();
        }
        let told = crashed.told.lock().clone();
        campaign.judge(&crashed.disk.crash_point().kill(), &told, true, &format!("write {nth} of a checkpoint fails"));
    }
    campaign.found().first().cloned()
}

/// A test for each mistake: `name: Mistake, hunt;`.
macro_rules! mistakes {
    ($($name:ident: $mistake:ident, $hunt:expr;)*) => {
        $(#[test]
        fn $name() {
            is_found(Mistake::$mistake, &$hunt);
        })*

        /// Does not compile while a mistake has no test.
        #[allow(dead_code)]
        fn every_mistake_has_a_test(mistake: Mistake) {
            match mistake {
                $(Mistake::$mistake => $name(),)*
            }
        }
    };
}

mistakes! {
    live_record_ignored: LiveRecordIgnored, crash(
        "create a; write a 0 4; fsync a; write a 0 2; fsync a; punch a 0; fsync a; write a 0 2; fsync a; punch a 1; \
         fsync a; write a 2 2; close a");
    quiet_before_durable: QuietBeforeDurable, crash(
        "create a; write a 0 4; fsync a; punch a 0; close a; write a 0 2; fsync a");
    two_states_enough: TwoStatesEnough, crash(
        "create a; write a 0 4; fsync a; write a 4 2; fsync a { / punch a 2; close a; write a 4 2 }; fsync a");
    overwrite_in_place: OverwriteInPlace, crash(
        "create a; write a 0 4; fsync a; write a 0 2; fsync a; write a 2 2; close a");
    node_straight_home: NodeStraightHome, crash(
        "create a; write a 0 4; fsync a; write a 6 2; close a; create b; fsync b; write a 2 2; close a; fsync b");
    page_straight_home: PageStraightHome, crash(
        "create a; truncate a 6; fsync a; write a 4 2; close a; create b; fsync b");
    partial_chunk_kept: PartialChunkKept, crash(
        "create a; write a 0 1; fsync a; truncate a 7; close a; write a 7 1; fsync a");
    second_direct_commit: SecondDirectCommit, crash(
        "create a; fsync a { write a 0 2; close a }; write a 0 1; fsync a");
    fresh_page_delta: FreshPageDelta, crash(
        "create a; write a 0 8; fsync a; punch a 1; punch a 2; fsync a; checkpoint; write a 2 2; fsync a");
    rewrap_in_place: RewrapInPlace, crash(
        "create a; write a 0 4; fsync a; rewrap a; write a 0 1; fsync a; rewrap a; close a; checkpoint; rewrap a; fsync a");
    rewrap_marks_alone: RewrapMarksAlone, crash("create a; write a 0 4; fsync a; write a 0 1; rewrap a; fsync a");
    sidecar_not_logged: SidecarNotLogged, crash("create a; write a 0 3; fsync a");
    written_after_sync: WrittenAfterSync, crash(
        "create a; write a 0 4; fsync a; write a 4 2; fsync a { write a 4 2 }; fsync a");
    object_not_synced: ObjectNotSynced, crash("create a; write a 0 4; fsync a; write a 4 1; fsync a; write a 5 1; close a");
    join_running_sync: JoinRunningSync, crash(
        "create a; write a 0 4; fsync a; create b; write b 0 1; fsync b; write a 0 1; fsync a { write b 0 1; fsync b }");
    name_not_synced: NameNotSynced, crash("create a; write a 0 3; fsync a");
    removal_unseen: RemovalUnseen, crash("create a; write a 0 3; fsync a; create b; fsync b; unlink a; fsyncdir");
    clean_before_synced: CleanBeforeSynced, crash(
        "create a; write a 0 4; fsync a; write a 4 1; fsync a { write a 0 1; fsync a }");
    rename_without_sync: RenameWithoutSync, crash(
        "create a; write a 0 4; fsync a; create t; write t 0 3; close t; rename t a; checkpoint; fsync a");
    dead_mark_trusted: DeadMarkTrusted, crash(
        "create a; write a 0 4; fsync a; write a 0 2; fsync a; unlink a; create b; fsync b");
    stale_free_list: StaleFreeList, crash("create a; write a 0 2; fsync a || create b; write b 0 1; close b; fsync b");
    unit_freed_unseen: UnitFreedUnseen, crash(
        "create a; write a 0 1; close a || create b; write b 0 1; fsync b; unlink a; checkpoint; write b 0 1; fsync b");
    unit_reused_early: UnitReusedEarly, fail_the_raise_of_an_epoch;
    append_during_checkpoint: AppendDuringCheckpoint, crash(
        "create a; write a 0 4; fsync a; write a 0 1; \
         checkpoint { / write a 1 1; fsync a; create b; write b 0 1; fsync b }");
    dead_list_taken_late: DeadListTakenLate, crash(
        "create a; write a 0 4; fsync a; create b; write b 0 1; fsync b; write b 0 1; checkpoint { unlink a }; \
         write b 1 1; fsync b");
    home_cuts_current: HomeCutsCurrent, crash(
        "create a; write a 0 4; fsync a; write a 0 1; checkpoint { write a 4 2 }; fsync a");
    unlink_not_synced: UnlinkNotSynced, crash(
        "create a; write a 0 4; fsync a; create t; write t 0 3; fsync t; write a 0 2; fsync a; rename t a; checkpoint; \
         write a 0 1; fsync a");
    unit_freed_before_unlink: UnitFreedBeforeUnlink, crash(
        "create a; write a 0 4; fsync a; checkpoint; unlink a; checkpoint");
    epoch_before_homes: EpochBeforeHomes, crash(
        "create a; write a 0 4; fsync a; write a 0 2; fsync a; checkpoint; write a 2 2; close a; checkpoint; write a 0 1; \
         fsync a");
    recovery_log_not_synced: RecoveryLogNotSynced, crash(
        "create a; write a 0 4; fsync a; write a 0 2; close a; write a 2 2; close a");
    tail_applied: TailApplied, crash("create a; write a 0 4; fsync a; write a 0 2; fsync a; write a 2 2; close a");
    hint_not_checked: HintNotChecked, crash(
        "create t; write t 0 3; fsync t; write t 0 1; fsync t; rename t a; create t; fsync t; write a 0 1; fsync a");
    length_in_order: LengthInOrder, crash("create a; write a 0 4; fsync a; truncate a 0; fsync a; write a 0 4; fsync a");
    idle_recovery_not_synced: IdleRecoveryNotSynced, crash(
        "create a; write a 0 2; close a || write a 0 1; fsync a; write a 2 2; close a");
    marks_not_counted: MarksNotCounted, |seed| marks_are_counted(seed).err();
    home_writes_believed: HomeWritesBelieved, crash(
        "create a; write a 0 4; fsync a; write a 4 2; close a; create b; fsync b");
    synced_is_judged: SyncedIsJudged, crash(
        "create a; write a 0 6; fsync a; checkpoint; write a 6 2; close a; fsync a; punch a 3; fsync a; write a 6 2");
    synced_not_told: SyncedNotTold, crash(
        "create a; write a 0 6; fsync a; write a 6 2; close a; punch a 3; close a; fsync a; write a 6 2");
    logged_chunk_judged: LoggedChunkJudged, crash(
        "create a; write a 0 4; fsync a; write a 4 2; close a; write a 4 2; close a; checkpoint");
    homes_not_synced_first: HomesNotSyncedFirst, crash(
        "create a; write a 0 4; fsync a; write a 4 2; write a 0 2; close a");
    settled_not_told: SettledNotTold, |seed| settled_is_strict(seed).err();
    remains_not_settled: RemainsNotSettled, |seed| remains_are_settled(seed).err();
    crash_forgotten: CrashForgotten, crash("create a; write a 0 3; close a");
    birth_before_checkpoint: BirthBeforeCheckpoint, crash(
        "create b; write b 0 1; fsync b; checkpoint { / create a; write a 0 2; close a }; create c; fsync c");
    birth_of_any_inode: BirthOfAnyInode, |seed| births_are_of_their_inodes(seed).err();
    unsynced_not_cut: UnsyncedNotCut, crash("create a; write a 0 4; close a; create b; fsync b");
    settled_is_cut: SettledIsCut, |seed| settled_is_strict(seed).err();
    cut_not_synced: CutNotSynced, crash("create a; write a 0 4; close a || write a 4 2; fsync a");
    remains_not_cleared: RemainsNotCleared, crash("create a; write a 0 4; close a || overwrite a; write a 0 2; close a");
    homes_over_unsynced: HomesOverUnsynced, crash("create a; write a 0 4; fsync a; write a 4 2; write a 0 1; checkpoint");
    loose_not_synced: LooseNotSynced, crash(
        "create a; write a 0 4; close a; create b; write b 0 1; fsync b; checkpoint; write b 0 1; fsync b");
    opening_not_listed: OpeningNotListed, |_| openings_survive().err();
    told_too_early: ToldTooEarly, |_| openings_survive().err();
    given_back_early: GivenBackEarly, crash("create a; write a 0 8; fsync a; clear a 1 3; write a 2 2");
    null_page_read: NullPageRead, crash("create a; write a 0 8; fsync a; punch a 3; fsync a; checkpoint; write a 6 1; fsync a");
    length_from_file: LengthFromFile, recombine;
    header_entries_unchecked: HeaderEntriesUnchecked, recombine;
    seal_of_any_object: SealOfAnyObject, |_| forged_length().ok();
    value_of_any_owner: ValueOfAnyOwner, |_| exchanged().ok();
}
