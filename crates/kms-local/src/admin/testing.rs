//! What the tests of keys begin with.

use crate::local::{LocalKms, Moment};
use crate::{KeyringParameters, Unlock};
use kmsfs_kms::api::{KeyMetadata, NewKey, PageRequest};
use kmsfs_kms::{Caller, Code, Error, Principal};
use kmsfs_locks::{Mutex, ranks};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CALLER: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });

/// A time that is set.
#[derive(Clone)]
pub(crate) struct SetClock(Arc<Mutex<ranks::InTests, Moment>>);

impl SetClock {
    /// Time goes by, on both clocks. Days.
    pub(crate) fn pass(&self, days: u64) {
        self.pass_hours(days * 24);
    }

    pub(crate) fn pass_hours(&self, hours: u64) {
        let mut moment = self.0.lock();
        *moment = moment.after(Duration::from_secs(hours * 60 * 60));
    }

    /// The wall clock is set. Days.
    pub(crate) fn jump(&self, days: i64) {
        self.0.lock().date += days * super::DAY;
    }

    /// The machine is started anew.
    pub(crate) fn restart(&self) {
        let mut moment = self.0.lock();
        (moment.boot[0], moment.uptime) = (moment.boot[0].wrapping_add(1), 0);
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.moment().date
    }

    pub(crate) fn moment(&self) -> Moment {
        *self.0.lock()
    }
}

pub(crate) fn unlock(dir: &Path) -> Unlock {
    let path = dir.join("key");
    if !path.exists() {
        kmsfs_crypto::key_file::create(&path).unwrap();
    }
    Unlock::KeyFile(kmsfs_crypto::key_file::read(&path).unwrap())
}

pub(crate) fn kms() -> (tempfile::TempDir, Arc<LocalKms>) {
    let (dir, kms, _) = kms_with_clock();
    (dir, kms)
}

/// A keyring in `keyring/`, and what time it is there.
pub(crate) fn kms_with_clock() -> (tempfile::TempDir, Arc<LocalKms>, SetClock) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("keyring");
    let (account_id, region) = ("000000000000".into(), "us-east-1".into());
    let parameters = KeyringParameters { store_id: [1; 16], account_id, region };
    LocalKms::create(&place, &parameters, &unlock(dir.path())).unwrap();
    let clock = SetClock(Arc::new(Mutex::new(Moment::now([0; 16]))));
    let kms = open(dir.path(), &clock);
    (dir, kms, clock)
}

pub(crate) fn open(dir: &Path, clock: &SetClock) -> Arc<LocalKms> {
    let clock = clock.clone();
    LocalKms::open_at(&dir.join("keyring"), &unlock(dir), Box::new(move || clock.moment())).unwrap()
}

pub(crate) fn code<T>(answer: Result<T, Error>) -> Code {
    answer.err().expect("it is refused").code
}

/// Short forms, as root.
impl LocalKms {
    pub(crate) fn create_key(&self, description: &str) -> Result<KeyMetadata, Error> {
        self.administer(CALLER).create_key(&NewKey { description: description.into(), ..NewKey::default() })
    }

    pub(crate) fn create_key_with_policy(
        &self,
        description: &str,
        policy: &str,
        bypass_lockout_check: bool,
        caller: &Principal,
    ) -> Result<KeyMetadata, Error> {
        let (description, policy) = (description.to_owned(), Some(policy.to_owned()));
        self.administer(caller).create_key(&NewKey { description, policy, bypass_lockout_check, ..NewKey::default() })
    }

    pub(crate) fn describe_key(&self, key_id: &str) -> Result<KeyMetadata, Error> {
        self.administer(CALLER).describe_key(key_id)
    }

    pub(crate) fn list_keys(&self) -> Result<Vec<String>, Error> {
        Ok(self.administer(CALLER).list_keys(&PageRequest::default())?.entries)
    }

    pub(crate) fn create_alias(&self, name: &str, target: &str) -> Result<(), Error> {
        self.administer(CALLER).create_alias(name, target)
    }

    pub(crate) fn set_enabled(&self, key_id: &str, enabled: bool) -> Result<(), Error> {
        self.administer(CALLER).set_enabled(key_id, enabled)
    }
}
