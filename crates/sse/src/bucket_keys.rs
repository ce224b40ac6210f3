//! Bucket keys in memory: each for a limited time and a limited number of uses.

use kmsfs_crypto::{SecretKey, Tampered, envelope};
use kmsfs_kms::{self as kms, EncryptionContext, Principal, deadline};
use kmsfs_locks::{Mutex, ranks};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A key between a KMS key and data keys.
pub(super) struct BucketKey {
    pub key_arn: String,
    pub secret: SecretKey,
    /// The bucket key wrapped by the KMS key.
    pub ciphertext_blob: Vec<u8>,
    pub context: EncryptionContext,
    /// For whom KMS made or decrypted it.
    pub caller: Principal,
}

impl BucketKey {
    /// The bucket key's context holds the bucket's ARN only, so the object's ARN is bound here. It is as of creation
    /// and a rename leaves it alone, so it stands beside what it is bound to:
    /// length of the ARN in bytes (u32, little-endian), the ARN, the data key's envelope with both as additional data.
    pub(crate) fn wrap(&self, data_key: &SecretKey, object_arn: &str) -> Vec<u8> {
        // An ARN is a path of the mount and some characters more: far below 4 GiB.
        let mut bytes = (object_arn.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(object_arn.as_bytes());
        let envelope = envelope::wrap(&self.secret, data_key, &bytes);
        bytes.extend_from_slice(&envelope);
        bytes
    }

    pub(crate) fn unwrap(&self, bytes: &[u8]) -> Result<SecretKey, Tampered> {
        let (len, _) = bytes.split_first_chunk().ok_or(Tampered)?;
        let bound = (u32::from_le_bytes(*len) as usize).saturating_add(len.len());
        let (bound, envelope) = bytes.split_at_checked(bound).ok_or(Tampered)?;
        envelope::unwrap(&self.secret, envelope, bound)
    }
}

/// How long and how often a bucket key may be used before KMS is asked for another.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub lifetime: Duration,
    pub uses: u32,
    /// Bucket keys that are kept; the least recently used one makes room.
    pub kept: usize,
}

/// Bucket keys, found by what KMS was asked for. While KMS is being asked for one, callers that want the same one wait
/// for it; others do not.
pub(super) struct BucketKeys<K> {
    limits: Limits,
    state: Mutex<ranks::BucketKeys, State<K>>,
}

struct State<K> {
    slots: HashMap<K, Slot>,
    /// Counts look-ups: the order in which slots were used.
    lookups: u64,
    swept: Option<Instant>,
}

struct Slot {
    last_lookup: u64,
    entry: Arc<Mutex<ranks::BucketKey, Option<Entry>>>,
}

struct Entry {
    bucket_key: Arc<BucketKey>,
    made: Instant,
    uses: u32,
}

/// A bucket key to use now.
pub(super) struct Found {
    pub bucket_key: Arc<BucketKey>,
    /// KMS was not asked; the caller has to find out whether it still permits the use.
    pub cached: bool,
}

impl<K: Hash + Eq + Clone> BucketKeys<K> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::new(State { slots: HashMap::new(), lookups: 0, swept: None }) }
    }

    /// Counts as one use. `make` asks KMS; its error is passed on and nothing is kept. Whoever waits for somebody else
    /// who asks does so until the thread's deadline, if it has one.
    pub(crate) fn get<E: From<kms::Error>>(
        &self,
        key: &K,
        now: Instant,
        make: impl FnOnce() -> Result<BucketKey, E>,
    ) -> Result<Found, E> {
        let slot = self.slot(key, now);
        let mut slot = match deadline::current() {
            Some(deadline) => slot.lock_until(deadline.instant()).ok_or_else(deadline::missed)?,
            None => slot.lock(),
        };
        if let Some(entry) = slot.as_mut().filter(|e| self.is_usable(e, now)) {
            entry.uses += 1;
            return Ok(Found { bucket_key: Arc::clone(&entry.bucket_key), cached: true });
        }
        *slot = None;
        let bucket_key = Arc::new(make()?);
        *slot = Some(Entry { bucket_key: Arc::clone(&bucket_key), made: now, uses: 1 });
        Ok(Found { bucket_key, cached: false })
    }

    pub(crate) fn forget(&self, key: &K) {
        self.state.lock().slots.remove(key);
    }

    /// Zeroizes those whose time is over, as soon as nobody is using them.
    pub(crate) fn drop_expired(&self, now: Instant) {
        self.state.lock().sweep(|entry| self.is_usable(entry, now));
    }

    /// Zeroizes those that are no longer to be kept, as soon as nobody is using them.
    pub(crate) fn retain(&self, keep: impl Fn(&BucketKey) -> bool) {
        for (key, bucket_key) in self.held() {
            if !keep(&bucket_key) {
                self.forget(&key);
            }
        }
    }

    /// Those that are in memory.
    pub(crate) fn all(&self) -> Vec<Arc<BucketKey>> {
        self.held().into_iter().map(|(_, bucket_key)| bucket_key).collect()
    }

    /// Without the lock afterwards: asking may take long, and whoever wants a key meanwhile need not wait. Nor is
    /// whoever is asking the KMS for one just now waited for: that one is fresh, and the KMS is asked again before it
    /// is used.
    fn held(&self) -> Vec<(K, Arc<BucketKey>)> {
        let slots: Vec<_> =
            self.state.lock().slots.iter().map(|(key, slot)| (key.clone(), slot.entry.clone())).collect();
        let held = |(key, slot): (K, Arc<Mutex<ranks::BucketKey, Option<Entry>>>)| {
            let bucket_key = slot.try_lock()?.as_ref().map(|entry| entry.bucket_key.clone())?;
            Some((key, bucket_key))
        };
        slots.into_iter().filter_map(held).collect()
    }

    fn is_usable(&self, entry: &Entry, now: Instant) -> bool {
        now.saturating_duration_since(entry.made) < self.limits.lifetime && entry.uses < self.limits.uses
    }

    fn slot(&self, key: &K, now: Instant) -> Arc<Mutex<ranks::BucketKey, Option<Entry>>> {
        let mut state = self.state.lock();
        if state.swept.is_none_or(|at| now.saturating_duration_since(at) >= self.limits.lifetime) {
            state.sweep(|entry| self.is_usable(entry, now));
            state.swept = Some(now);
        }
        if state.slots.len() >= self.limits.kept && !state.slots.contains_key(key) {
            state.evict();
        }
        state.lookups += 1;
        let lookup = state.lookups;
        let slot = state
            .slots
            .entry(key.clone())
            .or_insert_with(|| Slot { last_lookup: lookup, entry: Arc::new(Mutex::new(None)) });
        slot.last_lookup = lookup;
        Arc::clone(&slot.entry)
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    /// A slot that is locked is about to have a fresh key.
    fn sweep(&mut self, is_usable: impl Fn(&Entry) -> bool) {
        self.slots.retain(|_, slot| slot.entry.try_lock().is_none_or(|entry| entry.as_ref().is_some_and(&is_usable)));
    }

    fn evict(&mut self) {
        let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.last_lookup).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.slots.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    const LIMITS: Limits = Limits { lifetime: Duration::from_secs(300), uses: 1000, kept: 3 };

    fn bucket_key() -> BucketKey {
        let caller = Principal::Process(kmsfs_kms::Caller { uid: 0, gid: 0, pid: 1 });
        let (key_arn, context) = ("arn".into(), EncryptionContext::new());
        BucketKey { key_arn, secret: SecretKey::random(), ciphertext_blob: vec![1], context, caller }
    }

    struct Fixture {
        keys: BucketKeys<&'static str>,
        start: Instant,
        made: Cell<u32>,
    }

    impl Fixture {
        fn new(limits: Limits) -> Self {
            Self { keys: BucketKeys::new(limits), start: Instant::now(), made: Cell::new(0) }
        }

        /// Whether the key was cached, `seconds` after the start.
        fn get(&self, key: &'static str, seconds: u64) -> bool {
            let make = || {
                self.made.set(self.made.get() + 1);
                Ok::<_, kms::Error>(bucket_key())
            };
            self.keys.get(&key, self.start + Duration::from_secs(seconds), make).unwrap().cached
        }
    }

    #[test]
    fn a_key_is_made_once_and_again_when_its_time_is_over() {
        let f = Fixture::new(LIMITS);
        assert!(!f.get("a", 0));
        assert!(f.get("a", 299));
        assert!(!f.get("a", 300));
        assert!(f.get("a", 301));
        assert_eq!(f.made.get(), 2);
    }

    #[test]
    fn a_key_is_used_a_limited_number_of_times() {
        let f = Fixture::new(Limits { uses: 10, ..LIMITS });
        for _ in 0..100 {
            f.get("a", 0);
        }
        assert_eq!(f.made.get(), 10);
    }

    #[test]
    fn the_least_recently_used_key_makes_room() {
        let f = Fixture::new(LIMITS);
        for key in ["a", "b", "c", "a", "d"] {
            f.get(key, 0);
        }
        assert!(f.get("a", 0));
        assert!(f.get("c", 0));
        assert!(f.get("d", 0));
        assert!(!f.get("b", 0), "b was used least recently");
        assert_eq!(f.keys.state.lock().slots.len(), 3);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let f = Fixture::new(LIMITS);
        let no = || kms::Error::new(kms::Code::NotFound, "no");
        assert_eq!(f.keys.get(&"a", f.start, || Err(no())).err(), Some(no()));
        assert!(!f.get("a", 0));
        assert!(f.get("a", 0));
    }

    #[test]
    fn a_forgotten_key_is_made_again() {
        let f = Fixture::new(LIMITS);
        f.get("a", 0);
        f.keys.forget(&"a");
        assert!(!f.get("a", 0));
    }

    #[test]
    fn keys_that_are_not_retained_leave_memory_unless_they_are_in_use() {
        let f = Fixture::new(LIMITS);
        let other = |key_arn: &str| BucketKey { key_arn: key_arn.into(), ..bucket_key() };
        let in_use = f.keys.get(&"a", f.start, || Ok::<_, kms::Error>(other("x"))).unwrap().bucket_key;
        let unused = Arc::downgrade(&f.keys.get(&"b", f.start, || Ok::<_, kms::Error>(other("x"))).unwrap().bucket_key);
        f.keys.get(&"c", f.start, || Ok::<_, kms::Error>(other("y"))).unwrap();
        f.keys.retain(|held| held.key_arn == "y");
        assert_eq!((Arc::strong_count(&in_use), unused.strong_count()), (1, 0));
        assert!(f.get("c", 1));
        assert!(!f.get("a", 1) && !f.get("b", 1));
    }

    #[test]
    fn expired_keys_leave_memory() {
        let f = Fixture::new(LIMITS);
        f.get("a", 0);
        f.get("b", 200);
        f.keys.drop_expired(f.start + Duration::from_secs(350));
        let left: Vec<_> = f.keys.state.lock().slots.keys().copied().collect();
        assert_eq!(left, ["b"]);
    }

    #[test]
    fn whoever_waits_for_another_who_asks_does_so_until_the_deadline() {
        let keys = BucketKeys::new(LIMITS);
        let now = Instant::now();
        let get = |make: &dyn Fn() -> BucketKey| keys.get(&"a", now, || Ok::<_, kms::Error>(make())).map(|_| ());
        let asked_meanwhile = || {
            let waiting = || {
                let _running = deadline::Deadline::after(Duration::from_millis(20)).begin();
                get(&|| panic!("somebody else asks"))
            };
            let missed = std::thread::scope(|scope| scope.spawn(waiting).join().unwrap());
            assert_eq!(missed, Err(deadline::missed()));
            bucket_key()
        };
        assert_eq!(get(&asked_meanwhile), Ok(()));
    }

    #[test]
    fn threads_that_want_the_same_key_at_once_ask_for_it_once() {
        let keys = BucketKeys::new(LIMITS);
        let now = Instant::now();
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = || {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok::<_, kms::Error>(bucket_key())
                    };
                    keys.get(&"a", now, make).unwrap();
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
