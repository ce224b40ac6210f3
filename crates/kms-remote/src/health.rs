//! How a KMS that is elsewhere is: whether it is asked at all, and how long it takes.

use kmsfs_kms::{Code, Error};
use std::time::{Duration, Instant};

/// So many outages in a row, and it is left alone.
const OUTAGES: u32 = 5;
/// But for one call in so long.
const PROBE: Duration = Duration::from_secs(1);

/// What calls have come to, and whether there are to be more.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// In a row.
    outages: u32,
    /// When the first of them was.
    away_since: Option<Instant>,
    probed: Option<Instant>,
    counts: Counts,
}

/// Calls so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That the provider has answered, whatever it answered.
    pub answered: u64,
    /// Of these, refusals and faults.
    pub refused: u64,
    /// That nothing came of, in time.
    pub outages: u64,
    /// That were not made, since the ones before were outages.
    pub spared: u64,
    /// Of answered calls, as a moving average.
    pub latency: Duration,
    /// Of answered calls.
    pub slowest: Duration,
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
    /// Whether a call is to be made.
    ///
    /// # Errors
    ///
    /// The KMS is away, and the next one is to find out whether it still is.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Error> {
        if self.outages < OUTAGES || self.probed.is_none_or(|probed| now - probed >= PROBE) {
            self.probed = Some(now);
            return Ok(());
        }
        self.counts.spared += 1;
        Err(Error::new(Code::KeyUnavailable, "The KMS that keeps the key is away, and is asked again in a second."))
    }

    pub(crate) fn note(&mut self, error: Option<&Error>, took: Duration, now: Instant) -> Change {
        if error.is_some_and(Error::is_outage) {
            self.outages = self.outages.saturating_add(1);
            self.counts.outages += 1;
            let begins = self.away_since.is_none();
            self.away_since.get_or_insert(now);
            return if begins { Change::Away } else { Change::Nothing };
        }
        self.outages = 0;
        self.counts.answered += 1;
        self.counts.refused += u64::from(error.is_some());
        self.counts.slowest = self.counts.slowest.max(took);
        let before = if self.counts.answered == 1 { took } else { self.counts.latency };
        self.counts.latency = (before * 7 + took) / 8;
        self.away_since.take().map_or(Change::Nothing, |since| Change::Back(now - since))
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// For how long it is away.
    pub(crate) fn away(&self, now: Instant) -> Option<Duration> {
        self.away_since.map(|since| now - since)
    }

    /// Whether calls are spared.
    pub(crate) fn is_open(&self) -> bool {
        self.outages >= OUTAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_outages_one_call_a_second_is_made_until_one_is_answered() {
        let (mut health, start, took) = (Health::default(), Instant::now(), Duration::from_millis(8));
        let outage = kmsfs_kms::deadline::missed();
        let refusal = Error::new(Code::AccessDenied, "no");
        for number in 0..OUTAGES {
            assert_eq!(health.admit(start), Ok(()));
            let change = health.note(Some(&outage), took, start);
            assert_eq!(change, if number == 0 { Change::Away } else { Change::Nothing });
        }
        assert_eq!(health.admit(start).unwrap_err().code, Code::KeyUnavailable);
        assert!(health.is_open());
        let later = start + PROBE;
        assert_eq!(health.admit(later), Ok(()), "one probe");
        assert!(health.admit(later).is_err(), "and no other");
        assert_eq!(health.note(Some(&refusal), took, later), Change::Back(PROBE), "a refusal is an answer");
        assert_eq!((health.admit(later), health.admit(later)), (Ok(()), Ok(())));
        let counts = health.counts();
        assert_eq!((counts.answered, counts.refused, counts.outages, counts.spared), (1, 1, 5, 2));
        assert_eq!((counts.latency, counts.slowest), (took, took));
    }
}
