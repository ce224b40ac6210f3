//! A call to the disk fails in the middle of a workload: the caller gets an error, nothing panics, the store goes on
//! once the disk does, and what was acknowledged stays readable, whatever happens next.

use super::campaign::{Campaign, Effort, seeds};
use super::crashed::{CrashedStore, SPREAD};
use super::looking::{look, read};
use super::told::{Content, NOBODY};
use crate::store::*;
use kmsfs_store::{Error, Ino};
use kmsfs_testing::disk::{Call, FaultPlan};
use std::collections::BTreeSet;

pub const BEFORE: &str =
    "create a; write a 0 8; fsync a; create b; write b 0 3; close b; mkdir d; create d/a; write d/a 0 2";
pub const WORKLOAD: &str = "create c; write c 0 4; close c; write a 0 3; close a; fsync a; rewrap b; write b 6 1; fsync b; \
    truncate a 3; write a 4 2; fsync a; checkpoint; punch b 3; fsync d/a; create t; write t 0 2; rename t c; link b d/b; \
    symlink s; symlink d/s; unlink_open b; write ~b 1 3; fsync ~b; release ~b; fsyncdir d; move d e; write e/a 0 1; \
    fsync e/a; unlink s; overwrite a; write a 0 2; close a; unlink e/b; checkpoint; create u; write u 2 2; fsync u; \
    exchange u c; rewrap a; rewrap a; rewrap a; truncate a 0; rewrap a; write a 0 5; fsync a; checkpoint";

/// One for each call, in turn; with `KMSFS_CRASH_SEEDS=5` each for each.
const ERRNOS: [i32; 6] = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EMFILE, libc::EROFS, libc::ENOMEM];

/// Which failures the store cannot go on after: those of a sync of the log, after which it acknowledges nothing more.
fn is_final(call: Call) -> bool {
    matches!(call, Call::SyncData)
}

/// What a failed call leaves is looked at, and what users know from then on is what they see.
fn see_again(crashed: &CrashedStore) -> Vec<String> {
    let found = look(&crashed.disk, &crashed.store, SPREAD);
    let mut wrong = found.wrong.clone();
    let told = &mut *crashed.told.lock();
    told.making = None;
    let names: BTreeSet<String> = told.names.keys().chain(found.names.keys()).cloned().collect();
    for name in &names {
        let there = found.names.get(name).copied().unwrap_or(NOBODY);
        if told.ino(name) != there {
            told.shows(name, there);
        }
    }
    let handles = crashed.handles.lock().clone();
    for (ino, known) in &mut told.objects {
        let mine = |(_, there): &(&String, &Ino)| *there == ino;
        let names: BTreeSet<String> = found.names.iter().filter(mine).map(|(name, _)| name.clone()).collect();
        if known.names.last() != Some(&names) {
            known.names.push(names);
        }
        let open = handles.values().find(|object| object.ino() == *ino);
        let reading = match (open, found.objects.get(ino)) {
            (Some(object), _) => read(object, SPREAD),
            (None, Some(reading)) => reading.clone(),
            (None, None) => continue,
        };
        match reading {
            Ok(reading) if reading.sectors.iter().all(Option::is_some) => {
                let now = known.now().clone();
                if !now.shows(&reading) {
                    let states = known.states.clone();
                    let sectors = reading.sectors.iter().map(|value| value.unwrap_or(0)).collect();
                    let same = |state: &&Content| {
                        state.sectors == reading.sectors.iter().flatten().copied().collect::<Vec<_>>()
                    };
                    let present = states.iter().rev().find(same).unwrap_or(&now).present.clone();
                    known.push(Content { wrap: reading.wrap, sectors, present, cut: false });
                }
            }
            other => wrong.push(format!("inode {ino} after a failed call: {other:?}, and it was {:?}", known.now())),
        }
    }
    let known = |ino: &Ino| told.objects.contains_key(ino);
    wrong.extend(found.objects.keys().filter(|ino| !known(ino)).map(|ino| format!("inode {ino} was left behind")));
    wrong
}

/// Runs the workload with such a disk; answers whether it failed, and checks what is left then.
pub struct Run<'a> {
    campaign: &'a mut Campaign,
    story: String,
    /// Errors are no surprise even after the disk has healed.
    lenient: bool,
}

impl<'a> Run<'a> {
    pub fn new(campaign: &'a mut Campaign, story: String) -> Self {
        Self { campaign, story, lenient: false }
    }

    pub fn run(
        &mut self,
        crashed: &Arc<CrashedStore>,
        fails: impl Fn(&CrashedStore),
        heals: impl Fn(&CrashedStore, &Error) -> bool,
    ) {
        BEFORE.split(';').for_each(|op| crashed.try_step(op.trim()).unwrap());
        fails(crashed);
        let (mut failed, mut healed) = (false, false);
        for op in WORKLOAD.split(';').map(str::trim) {
            let Err(error) = crashed.try_step(op) else { continue };
            if healed && !self.lenient {
                self.wrong(format!("{op} answers {error} after the disk has healed"));
            }
            (failed, healed) = (true, healed || heals(crashed, &error));
            let wrong = see_again(crashed);
            for what in wrong {
                self.wrong(format!("after {op} answered {error}: {what}"));
            }
        }
        if failed {
            self.campaign.count("workloads that met the failure");
        }
        crashed.disk.heal();
        crashed.disk.set_capacity(None);
        self.finish(crashed);
    }

    fn wrong(&mut self, what: String) {
        self.campaign.wrong(format!("{what} [{}]", self.story));
    }

    fn finish(&mut self, crashed: &Arc<CrashedStore>) {
        for op in ["create z", "write z 0 2", "write a 2 2", "fsync z", "fsync a", "checkpoint"] {
            if let (Err(error), false) = (crashed.try_step(op), self.lenient) {
                self.wrong(format!("in the end {op} answers {error}"));
            }
        }
        if self.lenient {
            for what in see_again(crashed) {
                self.wrong(what);
            }
        }
        crashed.read_live(&self.story);
        crashed.disk.unwatch();
        crashed.handles.lock().clear();
        let closed = crashed.store.close();
        if let (Err(error), false) = (closed, self.lenient) {
            self.wrong(format!("close answers {error}"));
        }
        crashed.misread.lock().drain(..).for_each(|what| self.wrong(what));
        let points = std::mem::take(&mut *crashed.points.lock());
        self.campaign.crash(&points, Effort { one_in: 100, cuts: 2, lives: 0 }, &self.story);
        let last = crashed.disk.crash_point();
        let told = crashed.told.lock().clone();
        self.campaign.judge(&last.kill(), &told, true, &self.story);
        for disk in last.power_cuts(4, 1) {
            self.campaign.judge(&disk, &told, false, &self.story);
        }
    }
}

fn calls() -> Vec<(Call, u64)> {
    let crashed = CrashedStore::new(&keys(), SPREAD, true);
    BEFORE.split(';').for_each(|op| crashed.try_step(op.trim()).unwrap());
    let before = crashed.disk.calls();
    WORKLOAD.split(';').for_each(|op| crashed.try_step(op.trim()).unwrap());
    crashed.disk.calls().since(&before).iter().collect()
}

/// Each of the calls of these kinds, in turn. Whoever hears of the failure first hears its errno: the n-th of `errnos`
/// for the n-th call, and the next one with the next seed.
fn fail_each(
    kinds: impl Fn(Call) -> bool,
    errnos: &[i32],
    plan: impl Fn(FaultPlan) -> FaultPlan,
    lenient: impl Fn(Call) -> bool,
) {
    for (round, seed) in seeds(10).enumerate() {
        let mut campaign = Campaign::new(seed);
        for (call, count) in calls().into_iter().filter(|(call, _)| kinds(*call)) {
            for nth in 1..=count {
                let errno = errnos[(nth as usize + round) % errnos.len()];
                let crashed = CrashedStore::new(campaign.keys(), SPREAD, true);
                let story = format!("{call:?} {nth} of {count} fails with {errno}");
                let heals = |crashed: &CrashedStore, error: &Error| {
                    crashed.disk.heal();
                    if *error != Error::Errno(errno) {
                        crashed.misread.lock().push(format!("the caller was told {error:?}"));
                    }
                    true
                };
                Run { campaign: &mut campaign, story, lenient: lenient(call) }.run(
                    &crashed,
                    |crashed| crashed.disk.fail(plan(FaultPlan::nth(nth, errno).of(&[call]))),
                    heals,
                );
            }
        }
        campaign.finish();
    }
}

#[test]
fn without_a_failure_nothing_is_wrong() {
    let mut campaign = Campaign::new(9);
    let workload = format!("{BEFORE}; {WORKLOAD}");
    campaign.check(&workload, Effort { one_in: 1, cuts: 4, lives: 2 });
    campaign.finish();
}

#[test]
fn each_call_that_changes_something_may_fail() {
    let reads = [Call::Read, Call::Stat, Call::OpenFile, Call::OpenDir, Call::ReadDir, Call::ReadLink];
    fail_each(|call| !reads.contains(&call), &ERRNOS, |plan| plan, is_final);
}

#[test]
fn each_call_that_looks_something_up_may_fail() {
    let reads = [Call::Read, Call::Stat, Call::OpenFile, Call::ReadLink];
    fail_each(|call| reads.contains(&call), &ERRNOS, |plan| plan, |_| false);
}

#[test]
fn a_write_may_fail_halfway() {
    fail_each(|call| call == Call::Write, &[libc::EIO], |plan| plan.after_sectors(1), |_| false);
}

#[test]
fn a_checkpoint_that_cannot_commit_an_object_says_so_and_does_the_rest() {
    let crashed = CrashedStore::new(&keys(), SPREAD, true);
    "create a; write a 0 2; fsync a; write a 0 1; create b; write b 0 2".split("; ").for_each(|op| {
        crashed.try_step(op).unwrap();
    });
    // b's first commit writes straight home; a's goes through the log.
    crashed.disk.fail(FaultPlan::nth(2, libc::EIO).of(&[Call::Write]).after_sectors(1));
    let calls = crashed.disk.calls();
    let failed = crashed.store.checkpoint();
    assert_eq!(
        failed,
        Err(Error::Errno(libc::EIO)),
        "{:?}",
        crashed.disk.calls().since(&calls).iter().collect::<Vec<_>>()
    );
    crashed.disk.heal();
    crashed.store.checkpoint().unwrap();
}

#[test]
fn a_failed_sync_may_lose_what_it_was_to_write() {
    fail_each(|call| call == Call::SyncData, &[libc::EIO], FaultPlan::losing_writes, |_| true);
}

#[test]
fn a_disk_may_be_full() {
    let mut campaign = Campaign::new(11);
    for room in (0..180).map(|n| n * 1024) {
        let mut crashed = CrashedStore::new(campaign.keys(), SPREAD, true);
        Arc::get_mut(&mut crashed).expect("nobody else has it yet").checkpoints_promise = false;
        Run { campaign: &mut campaign, story: format!("room for {room} bytes"), lenient: true }.run(
            &crashed,
            |crashed| {
                let space = crashed.disk.space().unwrap();
                let used = (space.blocks - space.blocks_free) * space.block_size;
                crashed.disk.set_capacity(Some(used + room));
            },
            |_, _| false,
        );
    }
    campaign.finish();
}
