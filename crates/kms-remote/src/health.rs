//! How a KMS that is elsewhere is: whether it is asked at all, and how long it takes.
//!
//! What a key's calls come to says nothing of other keys (a key store behind that KMS may be away, or one key's calls
//! be throttled): each key is left alone for itself. All of them are only where nobody can be asked.

use kmsfs_kms::elsewhere::{Counts, Outage};
use kmsfs_kms::{Code, Error};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many outages in a row, and it is left alone.
const OUTAGES: u32 = 5;
/// But for one call at a time, and no more than one in so long.
const PROBE: Duration = Duration::from_secs(1);
/// Keys that are left alone; which they are whoever writes the store can choose.
const MOST: usize = 1024;

/// What calls have come to, and whether there are to be more.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether anybody is there to be asked.
    provider: Breaker,
    /// Those of which nothing comes.
    keys: HashMap<String, Breaker>,
    counts: Counts,
    /// That have begun or ended, and that nobody was told of yet.
    told: Vec<Outage>,
}

/// Leaves alone what does not answer.
#[derive(Debug, Clone, Default)]
struct Breaker {
    /// In a row.
    outages: u32,
    /// When the first of them was.
    away_since: Option<Instant>,
    probed: Option<Instant>,
    /// When the last call that failed was begun.
    failed: Option<Instant>,
    /// A call is to find out whether it is still away.
    is_probing: bool,
}

/// What came of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    /// Nobody could be asked.
    Unreached,
    /// It was asked; `None` if it has done what it was asked for.
    Asked(Option<&'a Error>),
    /// It was not asked after all.
    Unasked,
}

/// What a call has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// It cannot be asked any more.
    Away,
    /// It can be asked again, after so long.
    Back(Duration),
}

impl Health {
    /// Whether a call about that key is to be made. What comes of it has to be noted.
    ///
    /// # Errors
    ///
    /// The KMS is away, and the next one is to find out whether it still is.
    pub(crate) fn admit(&mut self, key_id: Option<&str>, now: Instant) -> Result<(), Error> {
        let key = key_id.and_then(|key_id| self.keys.get_mut(key_id));
        if self.provider.is_left_alone(now) || key.as_ref().is_some_and(|key| key.is_left_alone(now)) {
            self.counts.spared += 1;
            let text = "The KMS that keeps the key is away, and is asked again in a second.";
            return Err(Error::new(Code::KeyUnavailable, text));
        }
        self.provider.ask(now);
        if let Some(key) = key {
            key.ask(now);
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, key_id: Option<&str>, outcome: Outcome<'_>, took: Duration, now: Instant) -> Change {
        self.provider.is_probing = false;
        if let Some(key) = key_id.and_then(|key_id| self.keys.get_mut(key_id)) {
            key.is_probing = false;
        }
        match outcome {
            Outcome::Unasked => Change::Nothing,
            Outcome::Unreached => {
                self.counts.outages += 1;
                self.provider.fails(now, now.checked_sub(took).unwrap_or(now))
            }
            Outcome::Asked(Some(error)) if error.is_outage() => {
                self.counts.outages += 1;
                self.provider.answers(now);
                key_id
                    .map_or(Change::Nothing, |key_id| self.key(key_id).fails(now, now.checked_sub(took).unwrap_or(now)))
            }
            Outcome::Asked(error) => {
                self.counts.answered += 1;
                self.counts.refused += u64::from(error.is_some());
                self.counts.slowest = self.counts.slowest.max(took);
                let before = if self.counts.answered == 1 { took } else { self.counts.latency };
                self.counts.latency = (before * 7 + took) / 8;
                let of_key = key_id.and_then(|key_id| self.keys.remove(key_id)).map(|mut key| key.answers(now));
                match self.provider.answers(now) {
                    Change::Nothing => of_key.unwrap_or(Change::Nothing),
                    change => change,
                }
            }
        }
    }

    /// Somebody is to be told of it.
    pub(crate) fn tell(&mut self, outage: Outage) {
        if self.told.len() < MOST {
            self.told.push(outage);
        }
    }

    pub(crate) fn take_told(&mut self) -> Vec<Outage> {
        std::mem::take(&mut self.told)
    }

    /// Whether nothing has come of that key's calls since one was answered.
    pub(crate) fn is_failing(&self, key_id: &str) -> bool {
        self.keys.contains_key(key_id)
    }

    fn key(&mut self, key_id: &str) -> &mut Breaker {
        if self.keys.len() >= MOST
            && !self.keys.contains_key(key_id)
            && let Some(oldest) =
                self.keys.iter().min_by_key(|(_, key)| key.away_since).map(|(key_id, _)| key_id.clone())
        {
            self.keys.remove(&oldest);
        }
        self.keys.entry(key_id.to_owned()).or_default()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// For how long that key is away, or all of them.
    pub(crate) fn away_of(&self, key_id: &str, now: Instant) -> Option<Duration> {
        let of_key = self.keys.get(key_id).and_then(|key| key.away_since);
        let since = of_key.into_iter().chain(self.provider.away_since).min();
        since.map(|since| now.saturating_duration_since(since))
    }

    /// Whether a call about that key, or one that nobody could be asked for, has failed that was begun when it was away
    /// for so long already: one call that is lost says nothing of how long it is away.
    pub(crate) fn has_ended(&self, key_id: &str, offline: Duration) -> bool {
        self.provider.has_ended(offline) || self.keys.get(key_id).is_some_and(|key| key.has_ended(offline))
    }

    /// How many have, the provider itself among them.
    pub(crate) fn ended(&self, offline: Duration) -> usize {
        self.all().filter(|breaker| breaker.has_ended(offline)).count()
    }

    /// Whether nobody can be asked.
    pub(crate) fn is_unreached(&self) -> bool {
        self.provider.away_since.is_some()
    }

    /// For how long it, or a key of it, is away.
    pub(crate) fn away(&self, now: Instant) -> Option<Duration> {
        self.all().filter_map(|breaker| breaker.away_since).min().map(|since| now - since)
    }

    /// Keys of which nothing comes.
    pub(crate) fn keys_away(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.keys.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Whether calls are spared, of any key.
    pub(crate) fn is_open(&self) -> bool {
        self.all().any(|breaker| breaker.outages >= OUTAGES)
    }

    fn all(&self) -> impl Iterator<Item = &Breaker> {
        std::iter::once(&self.provider).chain(self.keys.values())
    }
}

impl Breaker {
    fn is_left_alone(&self, now: Instant) -> bool {
        let soon = self.probed.is_some_and(|probed| now.saturating_duration_since(probed) < PROBE);
        self.outages >= OUTAGES && (self.is_probing || soon)
    }

    fn ask(&mut self, now: Instant) {
        self.probed = Some(now);
        self.is_probing = self.outages >= OUTAGES;
    }

    fn fails(&mut self, now: Instant, began: Instant) -> Change {
        self.failed = Some(began);
        self.outages = self.outages.saturating_add(1);
        let begins = self.away_since.is_none();
        self.away_since.get_or_insert(now);
        if begins { Change::Away } else { Change::Nothing }
    }

    fn has_ended(&self, offline: Duration) -> bool {
        let long = |(since, began): (Instant, Instant)| began.saturating_duration_since(since) >= offline;
        self.outages > 1 && self.away_since.zip(self.failed).is_some_and(long)
    }

    fn answers(&mut self, now: Instant) -> Change {
        self.failed = None;
        self.outages = 0;
        self.away_since.take().map_or(Change::Nothing, |since| Change::Back(now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(8);
    const KEY: Option<&str> = Some("k");

    #[test]
    fn after_five_outages_one_call_a_second_is_made_until_one_is_answered() {
        let (mut health, start) = (Health::default(), Instant::now());
        let outage = kmsfs_kms::deadline::missed();
        let refusal = Error::new(Code::AccessDenied, "no");
        for number in 0..OUTAGES {
            assert_eq!(health.admit(KEY, start), Ok(()));
            let change = health.note(KEY, Outcome::Asked(Some(&outage)), TOOK, start);
            assert_eq!(change, if number == 0 { Change::Away } else { Change::Nothing });
        }
        assert_eq!(health.admit(KEY, start).unwrap_err().code, Code::KeyUnavailable);
        assert!(health.is_open());
        let later = start + PROBE;
        assert_eq!(health.admit(KEY, later), Ok(()), "one probe");
        assert!(health.admit(KEY, later + 2 * PROBE).is_err(), "and no other until something comes of it");
        assert_eq!(health.note(KEY, Outcome::Asked(Some(&refusal)), TOOK, later), Change::Back(PROBE));
        assert_eq!((health.admit(KEY, later), health.admit(KEY, later)), (Ok(()), Ok(())), "a refusal is an answer");
        let counts = health.counts();
        assert_eq!((counts.answered, counts.refused, counts.outages, counts.spared), (1, 1, 5, 2));
        assert_eq!((counts.latency, counts.slowest), (TOOK, TOOK));
    }

    #[test]
    fn a_call_that_is_lost_ends_nothing_and_one_that_fails_later_does() {
        let (mut health, start, offline) = (Health::default(), Instant::now(), Duration::from_secs(1));
        let outage = Error::new(Code::KeyUnavailable, "away");
        let mut fail = |began: Instant, took: Duration| {
            health.admit(KEY, began).unwrap();
            health.note(KEY, Outcome::Asked(Some(&outage)), took, began + took);
            health.has_ended("k", offline)
        };
        assert!(!fail(start, Duration::from_secs(8)), "one alone, whenever it is looked at");
        assert!(!fail(start + Duration::from_secs(7), Duration::from_secs(2)), "it was begun before");
        assert!(fail(start + Duration::from_secs(9), TOOK));
        assert!(!health.has_ended("other", offline));
        health.note(KEY, Outcome::Asked(None), TOOK, start + Duration::from_secs(10));
        assert!(!health.has_ended("k", offline));
        assert_eq!(health.ended(offline), 0);
    }

    #[test]
    fn a_key_that_fails_takes_no_other_away_and_nobody_to_ask_takes_all() {
        let (mut health, start) = (Health::default(), Instant::now());
        let outage = Error::new(Code::KeyUnavailable, "away");
        let fail = |health: &mut Health, outcome| {
            health.admit(KEY, start).unwrap();
            health.note(KEY, outcome, TOOK, start)
        };
        for _ in 0..OUTAGES {
            fail(&mut health, Outcome::Asked(Some(&outage)));
        }
        assert!(health.admit(KEY, start).is_err() && health.is_failing("k"));
        assert_eq!(health.admit(Some("other"), start), Ok(()));
        assert_eq!(health.note(Some("other"), Outcome::Asked(None), TOOK, start), Change::Nothing);
        assert_eq!(health.keys_away(), ["k"]);
        assert!(health.admit(KEY, start).is_err(), "that others can be used says nothing of it");

        let mut health = Health::default();
        for _ in 0..OUTAGES {
            fail(&mut health, Outcome::Unreached);
        }
        assert!(health.admit(Some("other"), start).is_err());
        assert!(health.keys_away().is_empty() && health.away(start + PROBE) == Some(PROBE));
    }
}
