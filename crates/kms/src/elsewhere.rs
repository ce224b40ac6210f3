//! KMSs that are elsewhere: how they were asked, for the audit trail, and how they are, for people.

use std::cell::RefCell;
use std::time::Duration;

/// How a KMS that is elsewhere was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteCall {
    /// AWS's name of the call that was made there.
    pub operation: &'static str,
    /// What speaks to it: `vault`, `aws`, `pkcs11`, or what a program calls itself.
    pub provider: String,
    /// Where it is.
    pub endpoint: String,
    /// What it calls the request in its own records.
    pub request_id: Option<String>,
    /// How often it was tried; 0 if nobody could be asked.
    pub attempts: u32,
    /// How long it took.
    pub latency: Duration,
}

/// An outage has begun or ended, as those who asked have met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// The custom key store's name.
    pub key_store: String,
    /// The key of which nothing comes; `None` where nobody can be asked.
    pub key_arn: Option<String>,
    /// What was the matter, at its beginning.
    pub why: String,
    /// At its end, how long it lasted.
    pub lasted: Option<Duration>,
}

/// How a custom key store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderStatus {
    /// The custom key store's.
    pub name: String,
    /// What speaks to it, once it has said so.
    pub provider: Option<String>,
    /// Where it is.
    pub endpoint: Option<String>,
    /// Whether nobody has disconnected it.
    pub connected: bool,
    /// For how long it, or a key of it, cannot be asked.
    pub away: Option<Duration>,
    /// Keys of which nothing comes, while it can be asked.
    pub keys_away: Vec<String>,
    /// Whether calls are spared.
    pub breaker_open: bool,
    /// Calls that are being made.
    pub in_flight: usize,
    /// Calls that wait until others are made.
    pub queued: usize,
    /// What became of calls so far.
    pub counts: Counts,
}

/// What became of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That were answered, whatever they were answered.
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

/// Of one operation no more are kept.
const MOST: usize = 8;

thread_local! {
    static CALLS: RefCell<Option<Vec<RemoteCall>>> = const { RefCell::new(None) };
}

/// What `work` returns, and how this thread has asked KMSs that are elsewhere meanwhile.
pub fn collect<T>(work: impl FnOnce() -> T) -> (T, Vec<RemoteCall>) {
    let collecting = Collecting { before: CALLS.replace(Some(Vec::new())) };
    let made = work();
    let calls = CALLS.take().unwrap_or_default();
    drop(collecting);
    (made, calls)
}

/// A KMS that is elsewhere was asked, on behalf of what this thread is doing.
pub fn note(call: RemoteCall) {
    CALLS.with_borrow_mut(|calls| {
        if let Some(calls) = calls.as_mut().filter(|calls| calls.len() < MOST) {
            calls.push(call);
        }
    });
}

/// Ends collecting also where the work panics.
struct Collecting {
    before: Option<Vec<RemoteCall>>,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        CALLS.set(self.before.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_those_of_the_work() {
        let call = |attempts| RemoteCall { attempts, ..RemoteCall::default() };
        note(call(1));
        let ((), calls) = collect(|| {
            note(call(2));
            let ((), inner) = collect(|| note(call(3)));
            assert_eq!(inner, [call(3)]);
            (0..100).for_each(|_| note(call(4)));
        });
        assert_eq!((&calls[..2], calls.len()), (&[call(2), call(4)][..], MOST));
        assert_eq!(collect(|| ()).1, []);
    }
}
