//! Trying again what may pass by itself, for as long as a call is waited for.

use crate::configuration::Invalid;
use kmsfs_crypto::random;
use kmsfs_kms::{Code, Error, deadline};
use kmsfs_kms_remote::protocol::Trace;
use std::time::{Duration, Instant};

/// A try takes no longer, unless the configuration says otherwise.
pub(crate) const TRY: Duration = Duration::from_secs(2);
/// Before the second try it is waited for up to this long, and up to twice as long before each further one.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// With less time than that nothing is begun.
const LEAST: Duration = Duration::from_millis(5);

/// How long a try takes at most, as a configuration has it in seconds.
pub(crate) fn longest(timeout: Option<u64>) -> Result<Duration, Invalid> {
    match timeout {
        None => Ok(TRY),
        Some(seconds @ 1..=60) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => Err(Invalid(format!("the timeout of {seconds} s: it is 1 to 60 s"))),
    }
}

/// A try that has failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether it may pass by itself.
    pub(crate) passes: bool,
}

impl Failed {
    /// What may pass by itself: the KMS could not be asked, or could not tell.
    pub(crate) fn passing(text: impl Into<String>) -> Self {
        Self { error: Error::new(Code::KeyUnavailable, text), passes: true }
    }

    /// An outage that does not pass by being asked again.
    pub(crate) fn lasting(text: impl Into<String>) -> Self {
        Self { error: Error::new(Code::KeyUnavailable, text), passes: false }
    }
}

/// What the KMS has said.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, passes: false }
    }
}

/// Tries until it succeeds, fails for good, or the time is over; then the last failure is the answer. What is tried is
/// told how long it may take: `longest`, or what is left. The pauses are of a random length (full jitter), so that many
/// who were turned away together do not come back together.
pub(crate) fn tries<T>(
    (longest, timeout): (Duration, Duration),
    trace: &mut Trace,
    mut attempt: impl FnMut(Duration, &mut Trace) -> Result<T, Failed>,
) -> Result<T, Error> {
    let until = Instant::now() + timeout;
    let left = || until.saturating_duration_since(Instant::now());
    let mut pause = FIRST;
    trace.attempts = 0;
    if left() < LEAST {
        return Err(deadline::missed());
    }
    loop {
        trace.attempts += 1;
        let failed = match attempt(left().min(longest), trace) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let waits = Duration::from_micros(random::below(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(1)));
        if !failed.passes || left() < waits + LEAST {
            return Err(failed.error);
        }
        log::debug!("it is tried again: {}", failed.error);
        std::thread::sleep(waits);
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_what_was_refused_is_not() {
        let mut trace = Trace::default();
        let mut failures = 2;
        let done = tries((TRY, Duration::from_secs(60)), &mut trace, |_, _| {
            failures -= 1;
            if failures >= 0 { Err(Failed::passing("away")) } else { Ok(7) }
        });
        assert_eq!((done, trace.attempts), (Ok(7), 3));
        let denied = Error::new(Code::AccessDenied, "no");
        let refused = tries::<()>((TRY, Duration::from_secs(60)), &mut trace, |_, _| Err(denied.clone().into()));
        assert_eq!((refused, trace.attempts), (Err(denied), 1));
    }

    #[test]
    fn it_ends_in_time_with_what_was_wrong_last() {
        let mut trace = Trace::default();
        let since = Instant::now();
        let failed = tries::<()>((TRY, Duration::from_millis(300)), &mut trace, |longest, _| {
            assert!(longest <= Duration::from_millis(300));
            Err(Failed::passing("away"))
        });
        assert_eq!(failed.unwrap_err(), Error::new(Code::KeyUnavailable, "away"));
        assert!(trace.attempts > 1 && since.elapsed() < Duration::from_secs(30));
        assert!(tries::<()>((TRY, Duration::ZERO), &mut trace, |_, _| panic!("no time")).unwrap_err().is_outage());
    }
}
