//! The KMS over a keyring of this machine.

mod machine;
mod mounts;
mod state;

pub use machine::{Clock, Machine, Moment, boot_id};

use super::admin;
use super::authorization::Ask;
use super::blob::Names;
use super::keyring::{Contents, Key, Keyring, KeyringParameters, Lasting, OpenError, Unlock, Wrapping};
use super::lookup::AWS_S3;
use super::principal::Directory;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::KmsCalls;
use kmsfs_kms::api::KeyState;
use kmsfs_kms::audit::Done;
use kmsfs_kms::{Code, EncryptionContext, Error, Kms, Principal};
use kmsfs_locks::{Mutex, RwLock, ranks};
use state::State;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Another process' change takes effect within a second: the keyring's file is looked at this often, at most.
const LOOK: Duration = Duration::from_millis(200);

/// The service's own key has this id in its blobs.
pub(super) const SERVICE: [u8; 16] = *b"kmsfs service\0\0\0";
/// Under this id materials of access keys are asked for; no blob has it.
pub(super) const ACCESS_KEYS: [u8; 16] = *b"kmsfs access-key";

/// A KMS over a keyring in a directory, for mounts, for direct calls and for access keys. It is the service's own key
/// too.
pub struct LocalKms {
    keyring: Keyring,
    clock: Clock,
    pub(super) directory: Directory,
    state: RwLock<ranks::KeyringContents, State>,
    looked: Mutex<ranks::KeyringLooked, Instant>,
    /// Held from reading the keyring until its contents are in `state`, so that older contents never replace newer.
    reloading: Mutex<ranks::KeyringReloading, ()>,
    calls: Calls,
    /// Something is due and could not be done; it has been said.
    overdue: AtomicBool,
    done: Mutex<ranks::KmsDone, Vec<Done>>,
}

#[derive(Default)]
struct Calls {
    generate_data_key: AtomicU64,
    decrypt: AtomicU64,
    encrypt: AtomicU64,
}

impl LocalKms {
    /// Makes a keyring in a directory that is missing or empty. A passphrase costs what suits this machine.
    pub fn create(dir: &Path, parameters: &KeyringParameters, unlock: &Unlock) -> Result<Arc<Self>, OpenError> {
        Self::over(Keyring::create(dir, parameters, unlock, unlock.cost())?, Machine::default())
    }

    /// Opens a keyring that is there, on this machine.
    pub fn open(dir: &Path, unlock: &Unlock) -> Result<Arc<Self>, OpenError> {
        Self::open_on(dir, unlock, Machine::default())
    }

    /// As `open`, at any time.
    pub fn open_at(dir: &Path, unlock: &Unlock, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::open_on(dir, unlock, Machine { clock, ..Machine::default() })
    }

    /// As `open`, with another clock or user database. What is due (deletions, rotations) is done.
    pub fn open_on(dir: &Path, unlock: &Unlock, machine: Machine) -> Result<Arc<Self>, OpenError> {
        let (store_id, watch) = &machine.watch;
        Self::over(Keyring::open_seen(dir, unlock, store_id, watch)?, machine)
    }

    fn over(keyring: Keyring, machine: Machine) -> Result<Arc<Self>, OpenError> {
        let stamp = keyring.stamp().ok();
        let (contents, wrapping) = keyring.load()?;
        let Machine { clock, users, .. } = machine;
        let directory = Directory::new(&contents.account_id, keyring.owner()?, users);
        let contents = Arc::new(contents);
        let state = State { contents, wrapping, stamp, version: 0, materials: HashMap::new(), broken: None };
        let (state, looked) = (RwLock::new(state), Mutex::new(Instant::now()));
        let reloading = Mutex::new(());
        let (calls, overdue) = (Calls::default(), AtomicBool::new(false));
        let done = Mutex::default();
        let kms = Arc::new(Self { keyring, clock, directory, state, looked, reloading, calls, overdue, done });
        kms.tick();
        Ok(kms)
    }

    /// Refuses the keyring of another store: its keys open nothing there.
    pub fn check_store(&self, store_id: &[u8; 16]) -> Result<(), OpenError> {
        self.state.read().contents.check_store(store_id)
    }

    /// Calls of mounts that were answered so far.
    pub fn calls(&self) -> KmsCalls {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KmsCalls {
            generate_data_key: count(&self.calls.generate_data_key),
            decrypt: count(&self.calls.decrypt),
            encrypt: count(&self.calls.encrypt),
        }
    }

    /// Answers from the newest contents, as far as looking every now and then tells.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Contents) -> Result<T, Error>) -> Result<T, Error> {
        self.look();
        let contents = {
            let state = self.state.read();
            if let Some(why) = &state.broken {
                return Err(Error::new(Code::KmsInternal, format!("the keyring cannot be read: {why}")));
            }
            state.contents.clone()
        };
        // Without the lock: users and groups may have to be looked up.
        ask(&contents)
    }

    /// What is not known may have been made a moment ago: looks again before it says so.
    fn ask_twice<T>(&self, ask: impl Fn(&Contents) -> Result<T, Error>) -> Result<T, Error> {
        match self.ask(&ask) {
            Err(error) if error.code == Code::NotFound => {
                self.reload();
                self.ask(ask)
            }
            answer => answer,
        }
    }

    /// Changes the keyring, durably, and answers from it at once. `change` is called without a lock, since it may look
    /// users and groups up, and again if somebody else changed the keyring meanwhile.
    pub(super) fn change<T>(&self, change: impl Fn(&mut Contents, &Wrapping) -> Result<T, Error>) -> Result<T, Error> {
        self.change_or_refuse(change)
    }

    /// As `change`, with refusals of another kind.
    pub(super) fn change_or_refuse<T, E: From<Error>>(
        &self,
        change: impl Fn(&mut Contents, &Wrapping) -> Result<T, E>,
    ) -> Result<T, E> {
        let (answer, done) = loop {
            let (before, wrapping) = self.keyring.load().map_err(Error::from)?;
            let mut contents = before.clone();
            let answer = change(&mut contents, &wrapping)?;
            let done = admin::settle(&mut contents, &wrapping, &self.moment())?;
            if self.keyring.exchange(&before, contents, &wrapping).map_err(Error::from)? {
                break (answer, done);
            }
        };
        self.done.lock().extend(done);
        self.reload();
        Ok(answer)
    }

    /// As `version`, without looking.
    pub(super) fn version_now(&self) -> u64 {
        self.state.read().version
    }

    /// What was done by itself since it was asked before.
    pub fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock())
    }

    /// The ARN of the key that is named, if there is one.
    pub fn arn_of(&self, key_id: &str) -> Option<String> {
        self.ask_twice(|contents| Ok(contents.key_arn(&contents.find(key_id)?.id))).ok()
    }

    /// Account and region.
    pub fn place(&self) -> (String, String) {
        let state = self.state.read();
        (state.contents.account_id.clone(), state.contents.region.clone())
    }

    /// The date, in nanoseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.moment().date
    }

    pub(super) fn moment(&self) -> Moment {
        (self.clock)()
    }

    /// A key of the keyring's own.
    pub(super) fn lasting(&self, which: Lasting) -> Result<SecretKey, Error> {
        let state = self.state.read();
        Ok(state.contents.lasting(which, state.wrapping.root())?)
    }

    /// The key that is named, usable by this caller for that (an action of a policy), with its newest material.
    pub(super) fn usable_for(
        &self,
        key_id: &str,
        action: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Names), Error> {
        self.usable(key_id, &Ask { context: Some(context), ..Ask::direct(action, caller, self.now()) })
    }

    /// The ARN of the key that a blob names, usable by this caller for that; `key_id` is what it has to be, if given.
    pub(super) fn named_by(
        &self,
        names: Names,
        key_id: Option<&str>,
        action: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<String, Error> {
        let ask = Ask { context: Some(context), ..Ask::direct(action, caller, self.now()) };
        let ask = key_id.map_or(ask, |key_id| ask.naming(key_id));
        self.ask_twice(|contents| {
            let named = contents.key(&names.key).ok_or_else(Error::invalid_ciphertext)?;
            let key = key_id.map_or(Ok(named), |key_id| contents.find(key_id))?;
            if key.id != named.id {
                return Err(Error::incorrect_key());
            }
            self.permit(contents, key, &ask)?;
            check_usable(contents, key)?;
            Ok(contents.key_arn(&key.id))
        })
    }

    fn look(&self) {
        {
            let mut looked = self.looked.lock();
            if looked.elapsed() < LOOK {
                return;
            }
            *looked = Instant::now();
        }
        self.look_now();
    }

    pub(super) fn look_now(&self) {
        let stamp = self.keyring.stamp().ok();
        let state = self.state.read();
        let same = stamp.is_some() && stamp == state.stamp && state.broken.is_none();
        drop(state);
        if !same {
            self.reload();
        }
    }

    fn reload(&self) {
        let _reloading = self.reloading.lock();
        // Taken before reading: a file that is replaced in between is looked at once more.
        let stamp = self.keyring.stamp().ok();
        let read = self.keyring.load();
        let mut state = self.state.write();
        match read {
            Ok((contents, wrapping)) => {
                state.materials.retain(|id, _| contents.may_use(id));
                state.version += 1;
                (state.contents, state.wrapping) = (Arc::new(contents), wrapping);
                state.stamp = stamp;
                if state.broken.take().is_some() {
                    log::info!("the keyring can be read again");
                }
            }
            // What was read before is newer.
            Err(OpenError::RolledBack(why)) if state.broken.is_none() => {
                log::error!("the keyring, which is used as it was read before: {why}");
                state.stamp = stamp;
            }
            Err(error) => {
                if state.broken.is_none() {
                    log::error!("the keyring cannot be read, no key can be used until it is back: {error}");
                }
                state.broken = Some(error.to_string());
            }
        }
    }

    /// Unwrapped once and kept.
    pub(super) fn unwrapped(&self, names: Names) -> Result<Arc<SecretKey>, Error> {
        if let Some(known) = self.state.read().materials.get(&names.material) {
            return Ok(known.clone());
        }
        // Wrapped anew a moment ago, its secret is no longer where it was.
        self.unwrap(names).or_else(|_| {
            self.reload();
            self.unwrap(names)
        })
    }

    fn unwrap(&self, names: Names) -> Result<Arc<SecretKey>, Error> {
        let mut state = self.state.write();
        let material = state.material(names).ok_or_else(Error::invalid_ciphertext)?;
        // Not if its key was disabled a moment ago: nobody would drop it again.
        if state.contents.may_use(&names.material) {
            state.materials.insert(names.material, material.clone());
        }
        Ok(material)
    }

    /// The key that is named, if the caller may use it and it is usable, with its newest material; `aws/s3` is made
    /// where it is missing.
    fn usable(&self, key_id: &str, ask: &Ask<'_>) -> Result<(String, Names), Error> {
        let find = |contents: &Contents| {
            let key = contents.find(key_id)?;
            self.permit(contents, key, &ask.naming(key_id))?;
            check_usable(contents, key)?;
            let material = key.newest().ok_or_else(|| Error::new(Code::KmsInternal, "the key has no material"))?;
            Ok((contents.key_arn(&key.id), Names { key: key.id, material: material.id }))
        };
        self.making_aws_s3(key_id, find)
    }

    /// What is asked for about a key; `aws/s3` is made where it is missing, unless it is refused then.
    pub(super) fn making_aws_s3<T>(
        &self,
        key_id: &str,
        find: impl Fn(&Contents) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let is_aws_s3 = |contents: &Contents| Ok(key_id == AWS_S3 || key_id == contents.alias_arn(AWS_S3));
        match self.ask_twice(&find) {
            Err(error) if error.code == Code::NotFound && self.ask(is_aws_s3)? => {
                let (made, found) = self.change(|contents, wrapping| {
                    let made = admin::make_aws_s3(contents, wrapping, self.now())?;
                    Ok((made, find(contents)?))
                })?;
                self.done.lock().extend(made.map(|arn| ("CreateKey", arn)));
                Ok(found)
            }
            found => found,
        }
    }
}

/// Enabled, or the error for the state that it is in.
pub(super) fn check_usable(contents: &Contents, key: &Key) -> Result<(), Error> {
    let arn = contents.key_arn(&key.id);
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Disabled => Err(Error::new(Code::Disabled, format!("{arn} is disabled."))),
        KeyState::PendingDeletion => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending deletion."))),
        KeyState::PendingImport => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending import."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::Caller;
    use kmsfs_kms::{GeneratedDataKey, Operation, ServiceKey};
    use uuid::Uuid;

    const CALLER: Principal = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });

    fn open(dir: &Path, key: impl Fn() -> Unlock) -> Arc<LocalKms> {
        let (account_id, region) = ("111122223333".into(), "eu-central-1".into());
        LocalKms::create(dir, &KeyringParameters { store_id: [1; 16], account_id, region }, &key()).unwrap();
        LocalKms::open(dir, &key()).unwrap()
    }

    fn unlock(dir: &Path) -> impl Fn() -> Unlock {
        let path = dir.join("key");
        kmsfs_crypto::key_file::create(&path).unwrap();
        move || Unlock::KeyFile(kmsfs_crypto::key_file::read(&path).unwrap())
    }

    /// Looks at the file at the next use, however little time has passed.
    fn expire(kms: &LocalKms) {
        *kms.looked.lock() = Instant::now().checked_sub(LOOK).expect("the machine has been up for longer");
    }

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    fn generate(kms: &LocalKms, key_id: &str) -> Result<GeneratedDataKey, Error> {
        Kms::generate_data_key(kms, key_id, &EncryptionContext::new(), &CALLER)
    }

    fn decrypt(kms: &LocalKms, key_arn: &str, blob: &[u8]) -> Result<SecretKey, Error> {
        Kms::decrypt(kms, key_arn, blob, &EncryptionContext::new(), &CALLER)
    }

    fn code<T>(answer: Result<T, Error>) -> (Code, String) {
        let error = answer.err().expect("it is refused");
        (error.code, error.message)
    }

    #[test]
    fn aws_s3_is_made_at_its_first_use_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        assert!(kms.list_keys().unwrap().is_empty());
        let first = generate(&kms, AWS_S3).unwrap();
        let again = generate(&kms, "arn:aws:kms:eu-central-1:111122223333:alias/aws/s3");
        assert_eq!(first.key_arn, again.unwrap().key_arn);
        assert_eq!(kms.list_keys().unwrap(), vec![first.key_arn.clone()]);
        let refused = code(kms.set_enabled(&first.key_arn, false));
        assert_eq!(refused.0, Code::AccessDenied);
        assert!(decrypt(&kms, &first.key_arn, &first.ciphertext_blob).is_ok());
        assert_eq!(kms.calls(), KmsCalls { generate_data_key: 2, decrypt: 1, encrypt: 0 });
    }

    #[test]
    fn keys_are_found_by_id_arn_alias_and_alias_arn_and_refused_as_aws_does() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        let key = kms.create_key("mine").unwrap();
        kms.create_alias("alias/mine", &key.key_id).unwrap();
        let prefix = "arn:aws:kms:eu-central-1:111122223333:";
        for id in [&key.key_id, &key.arn, "alias/mine", &format!("{prefix}alias/mine")] {
            assert_eq!(generate(&kms, id).unwrap().key_arn, key.arn, "{id}");
        }
        let unknown = "11111111-2222-3333-4444-555555555555";
        let cases = [
            (unknown.to_string(), Code::NotFound, format!("Key '{prefix}key/{unknown}' does not exist")),
            (format!("key/{}", key.key_id), Code::InvalidKeyId, format!("Invalid keyId 'key/{}'", key.key_id)),
            (String::new(), Code::InvalidKeyId, "Invalid keyId ''".into()),
            ("arn:aws:s3:::bucket".into(), Code::InvalidArn, "Invalid arn arn:aws:s3:::bucket".into()),
            ("nonsense".into(), Code::InvalidKeyId, "Invalid keyId 'nonsense'".into()),
            ("arn:aws:kms:us-west-2:111122223333:key/x".into(), Code::InvalidKeyId, "Invalid arn us-west-2".into()),
            ("alias/none".into(), Code::NotFound, format!("Alias {prefix}alias/none is not found.")),
        ];
        for (id, expected, message) in cases {
            assert_eq!(code(generate(&kms, &id)), (expected, message), "{id}");
        }
    }

    #[test]
    fn the_keyring_of_another_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        assert_eq!(kms.check_store(&[1; 16]), Ok(()));
        let text = "it belongs to another store: 01010101-0101-0101-0101-010101010101, \
                    and this one is 02020202-0202-0202-0202-020202020202";
        assert_eq!(kms.check_store(&[2; 16]), Err(OpenError::Other(text.into())));
    }

    #[test]
    fn a_blob_opens_unchanged_under_its_key_and_with_its_context_only() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        let arn = kms.create_key("").unwrap().arn;
        let right = context(&[("aws:s3:arn", "arn:aws:s3:::b/k"), ("x", "y")]);
        let made = Kms::generate_data_key(&*kms, &arn, &right, &CALLER).unwrap();
        let blob = made.ciphertext_blob;
        assert!(Kms::decrypt(&*kms, &arn, &blob, &right, &CALLER).is_ok());
        let invalid = (Code::InvalidCiphertext, String::new());
        for wrong in [&[][..], &[("x", "y")], &[("aws:s3:arn", "arn:aws:s3:::b/k"), ("x", "Y")]] {
            assert_eq!(code(Kms::decrypt(&*kms, &arn, &blob, &context(wrong), &CALLER)), invalid, "{wrong:?}");
        }
        for bit in 0..blob.len() * 8 {
            let mut damaged = blob.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(code(Kms::decrypt(&*kms, &arn, &damaged, &right, &CALLER)), invalid, "bit {bit}");
        }
        for len in 0..blob.len() {
            assert_eq!(code(Kms::decrypt(&*kms, &arn, &blob[..len], &right, &CALLER)), invalid, "{len} bytes");
        }
        let other = kms.create_key("").unwrap().arn;
        assert_eq!(code(Kms::decrypt(&*kms, &other, &blob, &right, &CALLER)).0, Code::IncorrectKey);
    }

    #[test]
    fn the_services_key_and_kms_keys_do_not_open_each_others_blobs() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        let of_key = generate(&kms, AWS_S3).unwrap();
        let (_, of_service) = ServiceKey::generate_data_key(&*kms, &EncryptionContext::new()).unwrap();
        let invalid = (Code::InvalidCiphertext, String::new());
        assert_eq!(code(decrypt(&kms, &of_key.key_arn, &of_service)), invalid);
        assert_eq!(code(ServiceKey::decrypt(&*kms, &of_key.ciphertext_blob, &EncryptionContext::new())), invalid);
        assert!(ServiceKey::decrypt(&*kms, &of_service, &EncryptionContext::new()).is_ok());
        assert_eq!(code(ServiceKey::decrypt(&*kms, &of_service, &context(&[("x", "y")]))), invalid);
        let by_its_id = Uuid::from_bytes(SERVICE).to_string();
        assert_eq!(code(kms.describe_key(&by_its_id)).0, Code::NotFound);
        assert_eq!(kms.list_keys().unwrap(), [of_key.key_arn]);
    }

    #[test]
    fn an_encrypted_data_key_is_the_one_that_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        let kms = open(&place, &key);
        let bound = context(&[("x", "y")]);
        let made = generate(&kms, AWS_S3).unwrap();
        let (arn, blob) = Kms::encrypt(&*kms, AWS_S3, &made.plaintext, &bound, &CALLER).unwrap();
        assert_eq!(arn, made.key_arn);
        let again = Kms::decrypt(&*LocalKms::open(&place, &key()).unwrap(), &arn, &blob, &bound, &CALLER).unwrap();
        // A key is seen by nobody: what one wrapped the other unwraps.
        let probe = kmsfs_crypto::envelope::wrap(&made.plaintext, &SecretKey::random(), b"");
        assert!(kmsfs_crypto::envelope::unwrap(&again, &probe, b"").is_ok());
    }

    #[test]
    fn a_disabled_key_refuses_every_use() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        let arn = kms.create_key("").unwrap().arn;
        let made = generate(&kms, &arn).unwrap();
        kms.set_enabled(&arn, false).unwrap();
        assert!(kms.state.read().materials.is_empty(), "its material is forgotten");
        let disabled = (Code::Disabled, format!("{arn} is disabled."));
        assert_eq!(code(generate(&kms, &arn)), disabled);
        assert_eq!(code(Kms::encrypt(&*kms, &arn, &made.plaintext, &EncryptionContext::new(), &CALLER)), disabled);
        assert_eq!(code(decrypt(&kms, &arn, &made.ciphertext_blob)), disabled);
        assert_eq!(code(kms.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER)), disabled);
        assert_eq!(code(kms.authorize(&arn, Operation::GenerateDataKey, &EncryptionContext::new(), &CALLER)), disabled);
        kms.set_enabled(&arn, true).unwrap();
        assert!(decrypt(&kms, &arn, &made.ciphertext_blob).is_ok());
    }

    #[test]
    fn what_is_changed_elsewhere_is_seen_at_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        let here = open(&place, &key);
        let there = LocalKms::open(&place, &key()).unwrap();
        let arn = there.create_key("").unwrap().arn;
        expire(&here);
        let made = generate(&here, &arn).unwrap();
        there.set_enabled(&arn, false).unwrap();
        expire(&here);
        assert_eq!(code(decrypt(&here, &arn, &made.ciphertext_blob)).0, Code::Disabled);
        there.set_enabled(&arn, true).unwrap();
        expire(&here);
        assert!(decrypt(&here, &arn, &made.ciphertext_blob).is_ok());
    }

    #[test]
    fn the_version_grows_with_changes_made_elsewhere_and_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        let here = open(&place, &key);
        let before = Kms::version(&*here);
        assert_eq!(Kms::version(&*here), before);
        let there = LocalKms::open(&place, &key()).unwrap();
        let arn = there.create_key("").unwrap().arn;
        let made = Kms::version(&*here);
        assert!(made > before, "at once");
        assert_eq!(here.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER), Ok(()));
        std::fs::rename(place.join("keyring"), place.join("away")).unwrap();
        assert_eq!(Kms::version(&*here), made, "that it is away changes no key");
        assert!(here.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER).unwrap_err().is_outage());
        std::fs::rename(place.join("away"), place.join("keyring")).unwrap();
        assert!(Kms::version(&*here) > made);
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept_and_seen_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        let shared = open(&place, &key);
        std::thread::scope(|scope| {
            for of_its_own in [false, true, false, true] {
                let kms = if of_its_own { LocalKms::open(&place, &key()).unwrap() } else { shared.clone() };
                scope.spawn(move || {
                    for _ in 0..5 {
                        let made = kms.create_key("").unwrap();
                        assert_eq!(kms.describe_key(&made.arn).unwrap(), made);
                        generate(&kms, AWS_S3).unwrap();
                    }
                });
            }
        });
        assert_eq!(LocalKms::open(&place, &key()).unwrap().list_keys().unwrap().len(), 21, "20, and aws/s3 once");
    }

    #[test]
    fn a_keyring_that_disappears_or_is_damaged_refuses_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("keyring");
        let kms = open(&place, unlock(dir.path()));
        let arn = generate(&kms, AWS_S3).unwrap().key_arn;
        let (file, away) = (place.join("keyring"), place.join("away"));
        std::fs::rename(&file, &away).unwrap();
        for damaged in [false, true] {
            if damaged {
                std::fs::write(&file, b"not a keyring").unwrap();
            }
            expire(&kms);
            for _ in 0..2 {
                assert_eq!(code(generate(&kms, &arn)).0, Code::KmsInternal);
                assert_eq!(
                    code(kms.authorize(&arn, Operation::Decrypt, &EncryptionContext::new(), &CALLER)).0,
                    Code::KmsInternal
                );
                let of_service = ServiceKey::generate_data_key(&*kms, &EncryptionContext::new());
                assert_eq!(code(of_service).0, Code::KmsInternal);
            }
        }
        std::fs::rename(&away, &file).unwrap();
        expire(&kms);
        assert!(generate(&kms, &arn).is_ok());
    }
}
