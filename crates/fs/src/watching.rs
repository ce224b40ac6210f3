//! Looking whether keys, or who may use them, have changed, and saying at once which open handles are refused.
//!
//! What concerns a key whose KMS is at hand waits for nobody. A KMS that is elsewhere may take its time or not answer
//! at all: it is asked by a watcher of its own, several questions at a time, and what is known here of its keys without
//! asking (a key policy that refuses a user) is acted on by the first one.

use super::Fs;
use super::closed::Question;
use super::evaluation::{Evaluation, Reach};
use super::handles::{Handle, Opener};
use kmsfs_kms::{EncryptionContext, Operation, Principal, Waits, waits};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::Asked;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Permission may also end by itself, by a policy's date or a material's expiry: everything is evaluated again so
/// often.
const ANYWAY: Duration = Duration::from_secs(10);

/// Questions to KMSs that are elsewhere that are on their way at the same time, at most.
const SIDE_BY_SIDE: usize = 8;

/// When one of the two watchers looked last.
#[derive(Default)]
pub(crate) struct Watch {
    /// The KMS's version that it has evaluated by.
    version: AtomicU64,
    /// When it began to do so.
    at: Mutex<ranks::Watch, Option<Instant>>,
}

impl Watch {
    /// Whether all is to be evaluated, now that the KMS has this version: keys, or who may use them, have changed, or
    /// the last time was long ago.
    fn is_due(&self, version: u64) -> bool {
        let mut at = self.at.lock();
        let changed = self.version.fetch_max(version, Ordering::SeqCst) < version;
        if !changed && at.is_some_and(|at| at.elapsed() < ANYWAY) {
            return false;
        }
        *at = Some(Instant::now());
        true
    }

    /// Has all evaluated the next time: a thread that must not wait for the KMS could not.
    pub(crate) fn is_due_now(&self) {
        *self.at.lock() = None;
    }
}

/// What a KMS is asked about in one go.
enum Item {
    /// Handles that one answer decides.
    Handles(Vec<Arc<Handle>>),
    Closed(Question),
    BucketKey(Asked),
}

impl Fs {
    /// Looks whether keys or who may use them have changed, and if so says which open handles are refused from now on
    /// and which are good again. Each refusal takes effect as soon as it is known.
    pub fn watch_keys(&self) {
        self.watch_keys_at_hand();
        self.watch_keys_elsewhere();
    }

    /// The same as far as it is known without waiting for a KMS. To be called several times a second.
    pub fn watch_keys_at_hand(&self) {
        let keys = self.store.keys();
        if self.begin_watching(&self.revocations.at_hand) {
            // Taken first: a handle that is closed meanwhile is evaluated with the others, and its object's keys go
            // then.
            let handles = self.handles.all();
            self.revocations.is_locking.store(true, Ordering::SeqCst);
            let evaluation = self.evaluation(Reach::AtHand);
            self.reevaluate(&handles, &evaluation);
            evaluation.log();
            self.revocations.closed.questions().into_iter().for_each(|question| self.answer(question, &evaluation));
            keys.drop_refused(|asked| evaluation.ask(keys, asked));
        }
        // What is dirty is committed first, which may have to wait for a checkpoint: not here, where handles are to be
        // refused, so the next look tries again.
        if self.revocations.is_locking.swap(false, Ordering::SeqCst)
            && !waits::within(Waits::Nothing, || self.store.lock_closed())
        {
            self.revocations.is_locking.store(true, Ordering::SeqCst);
        }
    }

    /// The same of keys whose KMS is elsewhere, and which may take its time for each answer. To be called several times
    /// a second, by a thread that nobody waits for.
    pub fn watch_keys_elsewhere(&self) {
        let keys = self.store.keys();
        if !keys.may_wait() || !self.begin_watching(&self.revocations.elsewhere) {
            return;
        }
        let items = self.items_elsewhere();
        let evaluation = self.evaluation(Reach::Everybody);
        let claimed = AtomicUsize::new(0);
        let work = || {
            while let Some(item) = items.get(claimed.fetch_add(1, Ordering::SeqCst))
                && !self.revocations.has_ended()
            {
                match item {
                    Item::Handles(handles) => self.reevaluate(handles, &evaluation),
                    Item::Closed(question) => self.answer(question.clone(), &evaluation),
                    Item::BucketKey(asked) => drop(evaluation.ask(keys, asked.clone())),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..items.len().min(SIDE_BY_SIDE) {
                // Whoever cannot be had is done without.
                let _ = thread::Builder::new().name("kmsfs-evaluate".into()).spawn_scoped(scope, work);
            }
            work();
        });
        evaluation.log();
        keys.drop_refused(|asked| evaluation.known(&asked));
    }

    /// Whether it is time. The version comes before the evaluation: a handle that is opened meanwhile sees it, and is
    /// evaluated by whoever opens it.
    fn begin_watching(&self, watch: &Watch) -> bool {
        let version = self.store.keys().version();
        self.revocations.judged.fetch_max(version, Ordering::SeqCst);
        watch.is_due(version)
    }

    /// All that a KMS elsewhere is to be asked about. Keys take turns: one whose KMS does not answer does not keep all
    /// threads.
    fn items_elsewhere(&self) -> Vec<Item> {
        let keys = self.store.keys();
        let mut handles: HashMap<_, Vec<Arc<Handle>>> = HashMap::new();
        for handle in self.handles.all() {
            let of = handle.object.kms_keys();
            if of.iter().any(|(key_arn, _)| !keys.is_at_hand(key_arn)) {
                let Opener { caller, operation, .. } = handle.opener;
                handles.entry((of, caller, operation)).or_default().push(handle);
            }
        }
        let elsewhere = |of: &[(String, EncryptionContext)]| {
            of.iter().find(|(key_arn, _)| !keys.is_at_hand(key_arn)).map(|(key_arn, _)| key_arn.clone())
        };
        let mut items = Vec::new();
        for ((of, ..), handles) in handles {
            items.extend(elsewhere(&of).map(|key_arn| (key_arn, Item::Handles(handles))));
        }
        for question in self.revocations.closed.questions() {
            items.extend(elsewhere(&question.keys).map(|key_arn| (key_arn, Item::Closed(question))));
        }
        for asked in keys.held_bucket_keys() {
            if !keys.is_at_hand(&asked.key_arn) {
                items.push((asked.key_arn.clone(), Item::BucketKey(asked)));
            }
        }
        let mut counts = HashMap::new();
        let turn = |(key_arn, item)| {
            let count: &mut usize = counts.entry(key_arn).or_default();
            *count += 1;
            (*count, item)
        };
        let mut turns: Vec<_> = items.into_iter().map(turn).collect();
        turns.sort_by_key(|(turn, _)| *turn);
        turns.into_iter().map(|(_, item)| item).collect()
    }

    /// Says what becomes of files that were read under some keys, and closed.
    fn answer(&self, Question { number, caller, keys }: Question, evaluation: &Evaluation) {
        let permitted = evaluation.of_all(self.store.keys(), keys, Operation::Decrypt, &Principal::from(caller));
        let Some(permitted) = permitted else { return };
        if self.revocations.closed.decided(evaluation.number, number, !permitted) {
            self.drop_closed_soon(self.inodes.read_under(number));
        }
    }
}
