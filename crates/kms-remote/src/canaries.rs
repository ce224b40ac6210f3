//! Whether keys that are in use can still be used: a blob of each is opened again and again.
//!
//! Whoever has a file open has its data key, and asks nobody for it. That the key was disabled there, or this machine
//! is denied it, is seen with canaries alone: blobs that were opened, one for each encryption context that was in use
//! lately. A refusal may be of the key or of one context (a policy there may name objects), or of one version of the
//! key: what is not said of the key itself is believed of that context, and has the others looked at at once. An outage
//! says nothing, and what others have met counts only if a canary meets it as well.

use kmsfs_kms::{Code, EncryptionContext, Error, Kind};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys that are looked at.
const MOST: usize = 1024;
/// Contexts of a key that can be used, and of one that cannot.
const USABLE: usize = 8;
const REFUSED: usize = 64;

#[derive(Default)]
pub(crate) struct Canaries(HashMap<String, InUse>);

/// A key.
struct InUse {
    canaries: Vec<Canary>,
    /// Of all of it.
    refusal: Option<Error>,
    /// When it was found out last whether it can be used.
    known: Instant,
    /// When one of its canaries is to be looked at.
    due: Instant,
}

struct Canary {
    blob: Vec<u8>,
    context: EncryptionContext,
    /// It was opened here once.
    has_opened: bool,
    /// When it was found out last whether it can be used.
    known: Instant,
    /// When it is to be looked at by itself.
    due: Option<Instant>,
    refusal: Option<Error>,
}

/// What is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub key_id: String,
    pub blob: Vec<u8>,
    pub context: EncryptionContext,
}

/// Whether a refusal is one of the use of a key: others say that there is something wrong with what was asked.
pub(crate) fn is_of_key(error: &Error) -> bool {
    is_of_all(error) || matches!(error.code, Code::AccessDenied | Code::KmsInvalidState)
}

/// Whether it is one for every context and every version.
pub(crate) fn is_of_all(error: &Error) -> bool {
    matches!(error.code, Code::Disabled | Code::NotFound)
}

impl Canaries {
    /// The key was used: this is a blob of it. Returns whether there is something to look at.
    pub(crate) fn used(
        &mut self,
        key_id: &str,
        blob: &[u8],
        context: &EncryptionContext,
        now: Instant,
        every: Duration,
    ) -> bool {
        if self.0.len() >= MOST
            && !self.0.contains_key(key_id)
            && let Some(oldest) = self.0.iter().min_by_key(|(_, key)| key.known).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        let is_first = self.0.is_empty();
        let new = || InUse { canaries: Vec::new(), refusal: None, known: now, due: now + every };
        let key = self.0.entry(key_id.to_owned()).or_insert_with(new);
        let is_refused = key.refusal.is_some();
        let canary = key.canary(blob, context, now);
        // That something can be used says nothing of what was refused before: that is looked at, of the same context
        // with this blob, since the one before may be of another version, or of another key of that name.
        let look = is_refused || canary.refusal.is_some();
        if canary.refusal.is_some() {
            blob.clone_into(&mut canary.blob);
        }
        (canary.known, canary.has_opened) = (now, true);
        if look {
            canary.due = Some(now);
        } else {
            key.known = now;
        }
        look || is_first
    }

    /// Something of the key was refused, opening this blob if there is one: what is, is to be found out. Returns
    /// whether there is something to look at.
    pub(crate) fn doubt(
        &mut self,
        key_id: &str,
        blob: Option<&[u8]>,
        context: &EncryptionContext,
        now: Instant,
    ) -> bool {
        let Some(key) = self.0.get_mut(key_id).filter(|key| key.refusal.is_none()) else { return false };
        key.due = now;
        match (key.canaries.iter_mut().find(|canary| canary.context == *context), blob) {
            (Some(canary), _) if canary.refusal.is_none() => canary.due = Some(now),
            (None, Some(blob)) => key.canary(blob, context, now).due = Some(now),
            _ => {}
        }
        true
    }

    /// These keys are to be looked at, or all of them.
    pub(crate) fn hurry(&mut self, all: bool, keys: &[String], now: Instant) {
        for (key_id, key) in &mut self.0 {
            if all || keys.contains(key_id) {
                key.due = now;
            }
        }
    }

    /// All keys are to be looked at.
    pub(crate) fn doubt_all(&mut self, now: Instant) {
        for key in self.0.values_mut() {
            key.due = now;
            key.look_at(now, |canary| canary.refusal.is_some());
        }
    }

    /// What is to be opened now, if anything, and otherwise when to look again. It is not due again before `every`.
    pub(crate) fn next(&mut self, now: Instant, every: Duration) -> Result<Due, Option<Instant>> {
        let Some((key_id, key)) = self.0.iter_mut().min_by_key(|(_, key)| key.next()) else { return Err(None) };
        let due = key.next();
        if due > now {
            return Err(Some(due));
        }
        // The one of which nothing was heard for the longest time, unless one is due by itself.
        let is_of_key = key.due <= now;
        let Some(canary) = (if is_of_key { key.lead() } else { key.earliest() }) else {
            key.due = now + every;
            return Err(Some(now));
        };
        canary.due = canary.refusal.is_some().then(|| now + every);
        let due = Due { key_id: key_id.clone(), blob: canary.blob.clone(), context: canary.context.clone() };
        if is_of_key {
            key.due = now + every;
        }
        Ok(due)
    }

    /// What came of opening it. Returns whether something can be used that could not, or the other way around.
    pub(crate) fn looked(&mut self, due: &Due, error: Option<&Error>, now: Instant, every: Duration) -> bool {
        let Some(key) = self.0.get_mut(&due.key_id) else { return false };
        let Some(at) = key.canaries.iter().position(|canary| canary.context == due.context) else { return false };
        let canary = &mut key.canaries[at];
        let refusal = match (error.map(Error::kind), error) {
            (None, _) => None,
            // What never was this key's.
            (Some(Kind::Fault), _) if !canary.has_opened => {
                key.canaries.remove(at);
                return false;
            }
            // It has opened before: the key of that name is another one by now, and what it has wrapped is lost.
            (Some(Kind::Fault), _) => {
                let text = format!("What was wrapped under {} does not open any more.", due.key_id);
                Some(Error::new(Code::KmsInvalidState, text))
            }
            (Some(Kind::Refusal), Some(error)) if is_of_key(error) => Some(error.clone()),
            _ => return false,
        };
        (canary.known, key.known) = (now, now);
        let Some(refusal) = refusal else {
            canary.has_opened = true;
            let could_not = canary.refusal.take().is_some();
            canary.due = None;
            let changed = key.refusal.take().is_some() || could_not;
            if changed {
                key.look_at(now, |canary| canary.refusal.is_some());
            }
            return changed;
        };
        if is_of_all(&refusal) {
            return key.refusal.replace(refusal).is_none();
        }
        canary.due = Some(now + every);
        let could = canary.refusal.replace(refusal).is_none();
        if could {
            key.look_at(now, |canary| canary.refusal.is_none());
        }
        could
    }

    /// What was found out within that time of the key's use with that context.
    pub(crate) fn known(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        within: Duration,
    ) -> Option<Result<(), Error>> {
        let key = self.0.get(key_id).filter(|key| key.known.elapsed() <= within)?;
        if let Some(refusal) = &key.refusal {
            return Some(Err(refusal.clone()));
        }
        if let Some(canary) = key.canaries.iter().find(|canary| canary.context == *context) {
            return Some(canary.refusal.clone().map_or(Ok(()), Err));
        }
        // A context that was in use before others: as these.
        if key.canaries.iter().any(|canary| canary.refusal.is_none()) {
            return Some(Ok(()));
        }
        key.canaries
            .first()
            .filter(|_| key.canaries.len() >= USABLE)
            .map(|canary| canary.refusal.clone().map_or(Ok(()), Err))
    }

    /// A canary of that key, of that context if there is one.
    pub(crate) fn of(&self, key_id: &str, context: &EncryptionContext) -> Option<Due> {
        let all = &self.0.get(key_id)?.canaries;
        let of_context = all.iter().find(|canary| canary.context == *context);
        let Canary { blob, context, .. } = of_context.or_else(|| all.iter().find(|canary| canary.refusal.is_none()))?;
        Some(Due { key_id: key_id.to_owned(), blob: blob.clone(), context: context.clone() })
    }
}

impl InUse {
    /// The canary of that context, which is this blob if there was none.
    fn canary(&mut self, blob: &[u8], context: &EncryptionContext, now: Instant) -> &mut Canary {
        if let Some(at) = self.canaries.iter().position(|canary| canary.context == *context) {
            return &mut self.canaries[at];
        }
        for (refused, most) in [(false, USABLE), (true, REFUSED)] {
            let of_kind = |canary: &&Canary| canary.refusal.is_some() == refused;
            if self.canaries.iter().filter(of_kind).count() >= most
                && let Some(oldest) = self.canaries.iter().filter(of_kind).map(|canary| canary.known).min()
            {
                let at = self.canaries.iter().position(|canary| of_kind(&canary) && canary.known == oldest);
                at.map(|at| self.canaries.remove(at));
            }
        }
        let (blob, context) = (blob.to_owned(), context.clone());
        self.canaries.push(Canary { blob, context, has_opened: false, known: now, due: None, refusal: None });
        self.canaries.last_mut().expect("it was pushed")
    }

    fn lead(&mut self) -> Option<&mut Canary> {
        self.canaries.iter_mut().filter(|canary| canary.refusal.is_none()).min_by_key(|canary| canary.known)
    }

    fn earliest(&mut self) -> Option<&mut Canary> {
        self.canaries.iter_mut().filter(|canary| canary.due.is_some()).min_by_key(|canary| canary.due)
    }

    /// When something of it is to be looked at.
    fn next(&self) -> Instant {
        self.canaries.iter().filter_map(|canary| canary.due).chain([self.due]).min().unwrap_or(self.due)
    }

    fn look_at(&mut self, now: Instant, which: impl Fn(&Canary) -> bool) {
        self.canaries.iter_mut().filter(|canary| which(canary)).for_each(|canary| canary.due = Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::deadline;

    const EVERY: Duration = Duration::from_secs(30);

    fn of(object: &str) -> EncryptionContext {
        [("aws:s3:arn".to_owned(), object.to_owned())].into()
    }

    fn due(blob: u8, object: &str) -> Due {
        Due { key_id: "k".into(), blob: vec![blob], context: of(object) }
    }

    #[test]
    fn refusals_and_recoveries_are_changes_and_outages_are_none() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        assert_eq!(canaries.next(start, EVERY), Err(None));
        canaries.used("k", &[1], &of("a"), start, EVERY);
        canaries.used("k", &[2], &of("a"), start, EVERY);
        assert_eq!(canaries.next(start, EVERY), Err(Some(start + EVERY)));
        let due = due(1, "a");
        assert_eq!(canaries.next(start + EVERY, EVERY), Ok(due.clone()), "the first blob stays the canary");
        let looked = |canaries: &mut Canaries, error: Option<&Error>| canaries.looked(&due, error, start, EVERY);
        assert!(!looked(&mut canaries, Some(&deadline::missed())));
        assert!(!looked(&mut canaries, Some(&Error::new(Code::Validation, "that says nothing of the key"))));
        assert_eq!(canaries.known("k", &of("a"), EVERY), Some(Ok(())));
        let refusal = Error::new(Code::Disabled, "it is disabled");
        assert!(looked(&mut canaries, Some(&refusal)));
        assert!(!looked(&mut canaries, Some(&refusal)), "it was refused before");
        assert_eq!(canaries.known("k", &of("a"), EVERY), Some(Err(refusal.clone())));
        assert_eq!(canaries.known("k", &of("never"), EVERY), Some(Err(refusal)), "it is all of the key");
        assert!(!looked(&mut canaries, Some(&deadline::missed())), "an outage gives nothing back either");
        assert!(looked(&mut canaries, None));
        assert_eq!(canaries.known("k", &of("a"), EVERY), Some(Ok(())));
        assert!(looked(&mut canaries, Some(&Error::invalid_ciphertext())), "another key has its name");
        assert_eq!(canaries.known("k", &of("a"), EVERY).unwrap().unwrap_err().code, Code::KmsInvalidState);
        assert!(canaries.used("k", &[3], &of("a"), start, EVERY), "that key is looked at instead");
        assert_eq!(canaries.of("k", &of("a")).unwrap().blob, [3]);
        assert!(canaries.known("k", &of("a"), EVERY).unwrap().is_err(), "until then it stays refused");
    }

    #[test]
    fn what_was_refused_has_the_canary_looked_at_at_once() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        assert!(!canaries.doubt("k", None, &of("a"), start), "there is none");
        canaries.used("k", &[1], &of("a"), start, EVERY);
        assert!(canaries.doubt("k", None, &of("b"), start));
        assert_eq!(canaries.next(start, EVERY), Ok(due(1, "a")));
        assert_eq!(canaries.next(start, EVERY), Err(Some(start + EVERY)));
    }

    #[test]
    fn one_context_that_is_denied_takes_no_other_away_and_all_of_them_do() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        canaries.used("k", &[1], &of("a"), start, EVERY);
        canaries.used("k", &[2], &of("b"), start, EVERY);
        let denied = Error::new(Code::AccessDenied, "not that object");
        assert!(canaries.looked(&due(1, "a"), Some(&denied), start, EVERY));
        assert_eq!(canaries.next(start, EVERY), Ok(due(2, "b")), "the others are looked at at once");
        assert!(!canaries.looked(&due(2, "b"), None, start, EVERY));
        assert_eq!(canaries.known("k", &of("a"), EVERY), Some(Err(denied.clone())));
        for usable in ["b", "new"] {
            assert_eq!(canaries.known("k", &of(usable), EVERY), Some(Ok(())), "{usable}");
        }
        // What was never opened here and is denied is denied by itself.
        assert!(canaries.doubt("k", Some(&[3]), &of("c"), start));
        assert_eq!(canaries.next(start, EVERY), Ok(due(2, "b")));
        assert_eq!(canaries.next(start, EVERY), Ok(due(3, "c")));
        assert!(canaries.looked(&due(3, "c"), Some(&denied), start, EVERY));
        assert_eq!(canaries.known("k", &of("c"), EVERY), Some(Err(denied.clone())));
        assert_eq!(canaries.known("k", &of("b"), EVERY), Some(Ok(())));
        // And comes back by itself.
        let later = start + EVERY;
        let mut looked_at = Vec::new();
        while let Ok(due) = canaries.next(later, EVERY) {
            canaries.looked(&due, None, later, EVERY);
            looked_at.push(due.blob[0]);
        }
        looked_at.sort_unstable();
        assert_eq!(looked_at, [1, 2, 3]);
        assert!(["a", "b", "c"].iter().all(|object| canaries.known("k", &of(object), EVERY) == Some(Ok(()))));

        for blob in 10..10 + USABLE as u8 {
            canaries.used("k", &[blob], &of(&blob.to_string()), later, EVERY);
        }
        canaries.doubt_all(later);
        while let Ok(due) = canaries.next(later, EVERY) {
            canaries.looked(&due, Some(&denied), later, EVERY);
        }
        assert_eq!(canaries.known("k", &of("one before these"), EVERY), Some(Err(denied)), "none of it can be used");
    }

    #[test]
    fn what_never_was_the_key_s_is_no_canary() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        canaries.used("k", &[1], &of("a"), start, EVERY);
        canaries.doubt("k", Some(&[9]), &of("forged"), start);
        assert!(!canaries.looked(&due(9, "forged"), Some(&Error::invalid_ciphertext()), start, EVERY));
        assert_eq!(canaries.known("k", &of("forged"), EVERY), Some(Ok(())));
        assert_eq!(canaries.of("k", &of("forged")).unwrap().blob, [1]);
    }
}
