//! Whether keys that are in use can still be used: a blob of each is opened again and again.
//!
//! Whoever has a file open has its data key, and asks nobody for it. That the key was disabled there, or this machine
//! is denied it, is seen with the canary alone. An outage says nothing; a refusal that others of the same key have met
//! (one by the encryption context, for instance) has the canary looked at at once, and counts only if that is refused.

use kmsfs_kms::{Code, EncryptionContext, Error, Kind};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys that are looked at.
const MOST: usize = 1024;

#[derive(Default)]
pub(crate) struct Canaries(HashMap<String, Canary>);

struct Canary {
    blob: Vec<u8>,
    context: EncryptionContext,
    /// When it was found out last whether the key can be used.
    known: Instant,
    /// When it is to be looked at.
    due: Instant,
    refusal: Option<Error>,
    /// The blob does not open any more, though the key can be used: it is another key by now.
    is_lost: bool,
}

/// What is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub key_id: String,
    pub blob: Vec<u8>,
    pub context: EncryptionContext,
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
        if let Some(canary) = self.0.get_mut(key_id) {
            // That others of the key can be used says nothing of the canary where it was refused: it is looked at.
            let was_refused = canary.refusal.is_some();
            if was_refused {
                canary.due = now;
                if std::mem::take(&mut canary.is_lost) {
                    (canary.blob, canary.context) = (blob.to_owned(), context.clone());
                }
            } else {
                canary.known = now;
            }
            return was_refused;
        }
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, canary)| canary.known).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        let canary = Canary {
            blob: blob.to_owned(),
            context: context.clone(),
            known: now,
            due: now + every,
            refusal: None,
            is_lost: false,
        };
        self.0.insert(key_id.to_owned(), canary);
        self.0.len() == 1
    }

    /// Something of the key was refused: whether all of it is, is to be found out. Returns whether there is something
    /// to look at.
    pub(crate) fn doubt(&mut self, key_id: &str, now: Instant) -> bool {
        match self.0.get_mut(key_id) {
            Some(canary) if canary.refusal.is_none() => {
                canary.due = now;
                true
            }
            _ => false,
        }
    }

    /// All of them are to be looked at.
    pub(crate) fn doubt_all(&mut self, now: Instant) {
        self.0.values_mut().for_each(|canary| canary.due = now);
    }

    /// What is to be opened now, if anything, and otherwise when to look again. It is not due again before `every`.
    pub(crate) fn next(&mut self, now: Instant, every: Duration) -> Result<Due, Option<Instant>> {
        let Some((key_id, canary)) = self.0.iter_mut().min_by_key(|(_, canary)| canary.due) else { return Err(None) };
        if canary.due > now {
            return Err(Some(canary.due));
        }
        canary.due = now + every;
        Ok(Due { key_id: key_id.clone(), blob: canary.blob.clone(), context: canary.context.clone() })
    }

    /// What came of it. Returns whether it is something else than before.
    pub(crate) fn looked(&mut self, key_id: &str, error: Option<&Error>, now: Instant) -> bool {
        let Some(canary) = self.0.get_mut(key_id) else { return false };
        match error.map(Error::kind) {
            Some(Kind::Outage) => false,
            // It has opened before: the key of that name is another one by now, and what it has wrapped is lost.
            Some(Kind::Fault) => {
                canary.is_lost = true;
                let text = format!("What was wrapped under {key_id} does not open any more.");
                canary.is_refused(Error::new(Code::KmsInvalidState, text), now)
            }
            Some(Kind::Refusal) => error.is_some_and(|error| canary.is_refused(error.clone(), now)),
            None => {
                canary.known = now;
                canary.refusal.take().is_some()
            }
        }
    }

    /// What was found out within that time.
    pub(crate) fn known(&self, key_id: &str, within: Duration) -> Option<Result<(), Error>> {
        let canary = self.0.get(key_id).filter(|canary| canary.known.elapsed() <= within)?;
        Some(canary.refusal.clone().map_or(Ok(()), Err))
    }

    /// The canary of that key.
    pub(crate) fn of(&self, key_id: &str) -> Option<Due> {
        let Canary { blob, context, .. } = self.0.get(key_id)?;
        Some(Due { key_id: key_id.to_owned(), blob: blob.clone(), context: context.clone() })
    }
}

impl Canary {
    /// Returns whether it could be used before.
    fn is_refused(&mut self, refusal: Error, now: Instant) -> bool {
        self.known = now;
        self.refusal.replace(refusal).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::deadline;

    const EVERY: Duration = Duration::from_secs(30);

    #[test]
    fn refusals_and_recoveries_are_changes_and_outages_are_none() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        assert_eq!(canaries.next(start, EVERY), Err(None));
        canaries.used("k", &[1], &EncryptionContext::new(), start, EVERY);
        canaries.used("k", &[2], &EncryptionContext::new(), start, EVERY);
        assert_eq!(canaries.next(start, EVERY), Err(Some(start + EVERY)));
        let due = Due { key_id: "k".into(), blob: vec![1], context: EncryptionContext::new() };
        assert_eq!(canaries.next(start + EVERY, EVERY), Ok(due), "the first blob stays the canary");
        assert!(!canaries.looked("k", Some(&deadline::missed()), start));
        assert_eq!(canaries.known("k", EVERY), Some(Ok(())));
        let refusal = Error::new(Code::Disabled, "it is disabled");
        assert!(canaries.looked("k", Some(&refusal), start));
        assert!(!canaries.looked("k", Some(&refusal), start), "it was refused before");
        assert_eq!(canaries.known("k", EVERY), Some(Err(refusal)));
        assert!(!canaries.looked("k", Some(&deadline::missed()), start), "an outage gives nothing back either");
        assert!(canaries.looked("k", None, start));
        assert_eq!(canaries.known("k", EVERY), Some(Ok(())));
        assert!(canaries.looked("k", Some(&Error::invalid_ciphertext()), start), "another key has its name");
        assert_eq!(canaries.known("k", EVERY).unwrap().unwrap_err().code, Code::KmsInvalidState);
        assert!(canaries.used("k", &[3], &EncryptionContext::new(), start, EVERY), "that key is looked at instead");
        assert_eq!(canaries.of("k").unwrap().blob, [3]);
        assert!(canaries.known("k", EVERY).unwrap().is_err(), "until then it stays refused");
    }

    #[test]
    fn what_was_refused_has_the_canary_looked_at_at_once() {
        let (mut canaries, start) = (Canaries::default(), Instant::now());
        assert!(!canaries.doubt("k", start), "there is none");
        canaries.used("k", &[1], &EncryptionContext::new(), start, EVERY);
        assert!(canaries.doubt("k", start));
        assert!(canaries.next(start, EVERY).is_ok());
        assert_eq!(canaries.next(start, EVERY), Err(Some(start + EVERY)));
    }
}
