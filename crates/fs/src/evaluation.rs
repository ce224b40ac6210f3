//! Asking the KMS about handles that are open.

use super::Ino;
use super::handles::Handle;
use kmsfs_kms::{EncryptionContext, Operation, Principal};
use kmsfs_locks::{Mutex, ranks};
use kmsfs_sse::{Asked, KeyService};
use std::collections::{BTreeSet, HashMap, HashSet};

/// An evaluation of handles: the KMS's answers, each asked for once. Nothing is locked meanwhile, so several go on side
/// by side; each has a number, from before its first question on. One evaluation may be the work of several threads.
pub(crate) struct Evaluation {
    pub(crate) number: u64,
    reach: Reach,
    state: Mutex<ranks::Evaluation, State>,
}

/// Whom an evaluation asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A KMS that is asked without waiting; of one that is elsewhere only whether somebody here refuses already.
    AtHand,
    /// Whoever keeps the key.
    Everybody,
}

#[derive(Default)]
struct State {
    answers: HashMap<Asked, Option<bool>>,
    /// Keys whose KMS is elsewhere and did not answer: it is not waited for again, for whatever caller.
    away: HashSet<String>,
    unasked: bool,
    refused: usize,
    inodes: BTreeSet<Ino>,
}

impl Evaluation {
    pub(crate) fn new(number: u64, reach: Reach) -> Self {
        Self { number, reach, state: Mutex::default() }
    }

    /// Whether there was something to ask that this thread must not wait for: nothing was decided by it.
    pub(crate) fn has_unasked(&self) -> bool {
        self.state.lock().unasked
    }

    /// `None` if the KMS cannot tell, or is not to be waited for.
    pub(crate) fn of(&self, keys: &KeyService, handle: &Handle) -> Option<bool> {
        let (operation, caller) = (handle.opener.operation, Principal::from(handle.opener.caller));
        self.of_all(keys, handle.object.kms_keys(), operation, &caller)
    }

    /// Whether a caller may use all of these keys. One refusal is enough, whatever the rest says.
    pub(crate) fn of_all(
        &self,
        keys: &KeyService,
        all: Vec<(String, EncryptionContext)>,
        operation: Operation,
        caller: &Principal,
    ) -> Option<bool> {
        let mut known = true;
        for (key_arn, context) in all {
            match self.ask(keys, Asked { key_arn, operation, context, caller: caller.clone() }) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => known = false,
            }
        }
        known.then_some(true)
    }

    pub(crate) fn ask(&self, keys: &KeyService, asked: Asked) -> Option<bool> {
        {
            let state = self.state.lock();
            if let Some(known) = state.answers.get(&asked) {
                return *known;
            }
            if state.away.contains(&asked.key_arn) {
                return None;
            }
        }
        let refused_here = || keys.permits_here(&asked).filter(|permitted| !permitted);
        let answer = if keys.is_at_hand(&asked.key_arn) {
            keys.permits(&asked)
        } else if self.reach == Reach::AtHand {
            refused_here()
        } else if keys.may_ask_about(&asked.key_arn).is_err() {
            self.state.lock().unasked = true;
            return refused_here();
        } else {
            self.ask_elsewhere(keys, &asked)
        };
        self.state.lock().answers.insert(asked, answer);
        answer
    }

    /// What cannot be told here says nothing of the KMS that is elsewhere.
    fn ask_elsewhere(&self, keys: &KeyService, asked: &Asked) -> Option<bool> {
        keys.permits_here(asked)?;
        let answer = keys.permits(asked);
        if answer.is_none() {
            self.state.lock().away.insert(asked.key_arn.clone());
        }
        answer
    }

    /// What was found about somebody's use of a key, if it was asked for.
    pub(crate) fn known(&self, asked: &Asked) -> Option<bool> {
        self.state.lock().answers.get(asked).copied().flatten()
    }

    /// A handle of the inode was allowed until now, and is not any more.
    pub(crate) fn has_refused(&self, ino: Ino) {
        let mut state = self.state.lock();
        state.refused += 1;
        state.inodes.insert(ino);
    }

    /// Says in the log what it has refused.
    pub(crate) fn log(&self) {
        let (count, inodes) = {
            let state = self.state.lock();
            (state.refused, state.inodes.len())
        };
        if count > 0 {
            log::info!("keys were taken away: {count} open handles of {inodes} objects are refused");
        }
    }
}
