//! The KMS over a keyring of this machine.

use super::admin;
use super::blob::{self, Names};
use super::keyring::{Contents, Key, KeyState, Keyring, OpenError, Stamp, Unlock};
use super::lookup::AWS_S3;
use super::{Caller, Code, EncryptionContext, Error, GeneratedDataKey, Kms, Operation, ServiceKey};
use crate::crypto::SecretKey;
use crate::crypto::passphrase::Cost;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Another process' change takes effect within a second: the keyring's file is looked at this often, at most.
const LOOK: Duration = Duration::from_millis(200);

/// The service's own key has this id in its blobs.
const SERVICE: [u8; 16] = *b"kmsfs service\0\0\0";

pub struct LocalKms {
    keyring: Keyring,
    state: RwLock<State>,
    looked: Mutex<Instant>,
    calls: Calls,
}

struct State {
    contents: Contents,
    stamp: Option<Stamp>,
    /// Unwrapped materials, by their id.
    materials: HashMap<[u8; 16], Arc<SecretKey>>,
    /// The keyring cannot be read: why. Nothing is answered until it can.
    broken: Option<String>,
}

#[derive(Default)]
struct Calls {
    generate_data_key: AtomicU64,
    decrypt: AtomicU64,
    encrypt: AtomicU64,
}

/// How often the KMS was asked, the service's own key aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KmsCalls {
    pub generate_data_key: u64,
    pub decrypt: u64,
    pub encrypt: u64,
}

impl LocalKms {
    /// Makes a keyring in a directory that is missing or empty. A passphrase costs what suits this machine.
    pub fn create(dir: &Path, account_id: &str, region: &str, unlock: &Unlock) -> Result<(), OpenError> {
        Keyring::create(dir, account_id, region, unlock, Cost::for_this_machine())
    }

    pub fn open(dir: &Path, unlock: &Unlock) -> Result<Arc<Self>, OpenError> {
        let keyring = Keyring::open(dir, unlock)?;
        let stamp = keyring.stamp().ok();
        let state = State { contents: keyring.read()?, stamp, materials: HashMap::new(), broken: None };
        let (state, looked) = (RwLock::new(state), Mutex::new(Instant::now()));
        Ok(Arc::new(Self { keyring, state, looked, calls: Calls::default() }))
    }

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
        let state = self.state.read();
        if let Some(why) = &state.broken {
            return Err(Error::new(Code::KmsInternal, format!("the keyring cannot be read: {why}")));
        }
        ask(&state.contents)
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

    /// Changes the keyring, durably, and answers from it at once.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Contents, &SecretKey) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let answer = self.keyring.change(|contents| change(contents, self.keyring.root()))?;
        self.reload();
        Ok(answer)
    }

    fn look(&self) {
        {
            let mut looked = self.looked.lock();
            if looked.elapsed() < LOOK {
                return;
            }
            *looked = Instant::now();
        }
        let stamp = self.keyring.stamp().ok();
        let state = self.state.read();
        let same = stamp.is_some() && stamp == state.stamp && state.broken.is_none();
        drop(state);
        if !same {
            self.reload();
        }
    }

    fn reload(&self) {
        let stamp = self.keyring.stamp().ok();
        let read = self.keyring.read();
        let mut state = self.state.write();
        match read {
            Ok(contents) => {
                state.contents = contents;
                state.stamp = stamp;
                if state.broken.take().is_some() {
                    log::info!("the keyring can be read again");
                }
            }
            Err(error) => {
                if state.broken.is_none() {
                    log::error!("the keyring cannot be read, no key can be used until it is back: {error}");
                }
                state.broken = Some(error.to_string());
            }
        }
    }

    fn material(&self, contents: &Contents, names: Names) -> Option<Arc<SecretKey>> {
        let materials = if names.key == SERVICE { &contents.service } else { &contents.key(&names.key)?.materials };
        let material = materials.iter().find(|material| material.id == names.material)?;
        Some(Arc::new(material.unwrap(self.keyring.root())?))
    }

    /// Unwrapped once and kept.
    fn unwrapped(&self, names: Names) -> Result<Arc<SecretKey>, Error> {
        if let Some(known) = self.state.read().materials.get(&names.material) {
            return Ok(known.clone());
        }
        let mut state = self.state.write();
        let material = self.material(&state.contents, names).ok_or_else(Error::invalid_ciphertext)?;
        state.materials.insert(names.material, material.clone());
        Ok(material)
    }

    /// The key that is named, usable, with its newest material; `aws/s3` is made where it is missing.
    fn usable(&self, key_id: &str) -> Result<(String, Names), Error> {
        let find = |contents: &Contents| {
            let key = contents.find(key_id)?;
            check_usable(contents, key)?;
            let material = key.newest().ok_or_else(|| Error::new(Code::KmsInternal, "the key has no material"))?;
            Ok((contents.key_arn(&key.id), Names { key: key.id, material: material.id }))
        };
        match self.ask_twice(find) {
            Err(error) if error.code == Code::NotFound && self.is_aws_s3(key_id)? => {
                self.change(|contents, root| {
                    admin::make_aws_s3(contents, root);
                    Ok(())
                })?;
                self.ask(find)
            }
            found => found,
        }
    }

    fn is_aws_s3(&self, key_id: &str) -> Result<bool, Error> {
        self.ask(|contents| Ok(key_id == AWS_S3 || key_id == contents.alias_arn(AWS_S3)))
    }
}

/// Enabled, or the error for the state that it is in.
fn check_usable(contents: &Contents, key: &Key) -> Result<(), Error> {
    let arn = contents.key_arn(&key.id);
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Disabled => Err(Error::new(Code::Disabled, format!("{arn} is disabled."))),
        KeyState::PendingDeletion => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending deletion."))),
        KeyState::PendingImport => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending import."))),
    }
}

impl Kms for LocalKms {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        _caller: &Caller,
    ) -> Result<GeneratedDataKey, Error> {
        self.calls.generate_data_key.fetch_add(1, Ordering::Relaxed);
        let (key_arn, names) = self.usable(key_id)?;
        let plaintext = SecretKey::random();
        let ciphertext_blob = blob::wrap(names, &*self.unwrapped(names)?, &plaintext, context);
        Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        _caller: &Caller,
    ) -> Result<(String, Vec<u8>), Error> {
        self.calls.encrypt.fetch_add(1, Ordering::Relaxed);
        let (key_arn, names) = self.usable(key_id)?;
        Ok((key_arn, blob::wrap(names, &*self.unwrapped(names)?, plaintext, context)))
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        _caller: &Caller,
    ) -> Result<SecretKey, Error> {
        self.calls.decrypt.fetch_add(1, Ordering::Relaxed);
        let names = blob::names(ciphertext_blob).ok_or_else(Error::invalid_ciphertext)?;
        self.ask_twice(|contents| {
            let key = contents.find(key_arn)?;
            if key.id != names.key {
                return Err(Error::incorrect_key());
            }
            check_usable(contents, key)
        })?;
        let material = self.unwrapped(names)?;
        blob::unwrap(ciphertext_blob, &material, context).ok_or_else(Error::invalid_ciphertext)
    }

    fn authorize(&self, key_arn: &str, _operation: Operation, _caller: &Caller) -> Result<(), Error> {
        self.ask_twice(|contents| check_usable(contents, contents.find(key_arn)?))
    }
}

impl ServiceKey for LocalKms {
    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
        let key = SecretKey::random();
        let blob = ServiceKey::encrypt(self, &key, context)?;
        Ok((key, blob))
    }

    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
        let names = self.ask(|contents| {
            let material = contents.service.last();
            let material = material.ok_or_else(|| Error::new(Code::KmsInternal, "the service has no key"))?;
            Ok(Names { key: SERVICE, material: material.id })
        })?;
        Ok(blob::wrap(names, &*self.unwrapped(names)?, plaintext, context))
    }

    fn decrypt(&self, ciphertext_blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        let names = blob::names(ciphertext_blob).filter(|names| names.key == SERVICE);
        let names = names.ok_or_else(Error::invalid_ciphertext)?;
        self.ask(|_| Ok(()))?;
        let material = self.unwrapped(names)?;
        blob::unwrap(ciphertext_blob, &material, context).ok_or_else(Error::invalid_ciphertext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

    fn open(dir: &Path, key: impl Fn() -> Unlock) -> Arc<LocalKms> {
        LocalKms::create(dir, "111122223333", "eu-central-1", &key()).unwrap();
        LocalKms::open(dir, &key()).unwrap()
    }

    fn unlock(dir: &Path) -> impl Fn() -> Unlock {
        let path = dir.join("key");
        crate::crypto::key_file::create(&path).unwrap();
        move || Unlock::KeyFile(crate::crypto::key_file::read(&path).unwrap())
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
        let context = EncryptionContext::new();
        let first = Kms::generate_data_key(&*kms, AWS_S3, &context, &CALLER).unwrap();
        let again =
            Kms::generate_data_key(&*kms, "arn:aws:kms:eu-central-1:111122223333:alias/aws/s3", &context, &CALLER);
        assert_eq!(first.key_arn, again.unwrap().key_arn);
        assert_eq!(kms.list_keys().unwrap(), vec![first.key_arn.clone()]);
        let refused = code(kms.set_enabled(&first.key_arn, false));
        assert_eq!(refused.0, Code::UnsupportedOperation);
        assert!(Kms::decrypt(&*kms, &first.key_arn, &first.ciphertext_blob, &context, &CALLER).is_ok());
        assert_eq!(kms.calls(), KmsCalls { generate_data_key: 2, decrypt: 1, encrypt: 0 });
    }

    #[test]
    fn keys_are_found_by_id_arn_alias_and_alias_arn_and_refused_as_aws_does() {
        let dir = tempfile::tempdir().unwrap();
        let kms = open(&dir.path().join("keyring"), unlock(dir.path()));
        let key = kms.create_key("mine").unwrap();
        kms.create_alias("alias/mine", &key.key_id).unwrap();
        let prefix = "arn:aws:kms:eu-central-1:111122223333:";
        let generate = |id: &str| Kms::generate_data_key(&*kms, id, &EncryptionContext::new(), &CALLER);
        for id in [&key.key_id, &key.arn, "alias/mine", &format!("{prefix}alias/mine")] {
            assert_eq!(generate(id).unwrap().key_arn, key.arn, "{id}");
        }
        let unknown = "11111111-2222-3333-4444-555555555555";
        let cases = [
            (unknown.to_string(), Code::NotFound, format!("Key '{prefix}key/{unknown}' does not exist")),
            ("nonsense".into(), Code::NotFound, "Invalid keyId 'nonsense'".into()),
            ("arn:aws:kms:us-west-2:111122223333:key/x".into(), Code::NotFound, "Invalid arn us-west-2".into()),
            ("alias/none".into(), Code::NotFound, format!("Alias {prefix}alias/none is not found.")),
        ];
        for (id, expected, message) in cases {
            assert_eq!(code(generate(&id)), (expected, message), "{id}");
        }
    }

    #[test]
    fn a_key_that_is_disabled_elsewhere_is_refused_within_a_second_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        let here = open(&place, &key);
        let there = LocalKms::open(&place, &key()).unwrap();
        let made = there.create_key("").unwrap();
        std::thread::sleep(LOOK * 2);
        let context = EncryptionContext::new();
        let data = Kms::generate_data_key(&*here, &made.arn, &context, &CALLER).unwrap();
        there.set_enabled(&made.arn, false).unwrap();
        std::thread::sleep(LOOK * 2);
        let disabled = (Code::Disabled, format!("{} is disabled.", made.arn));
        assert_eq!(code(Kms::decrypt(&*here, &made.arn, &data.ciphertext_blob, &context, &CALLER)), disabled);
        assert_eq!(code(here.authorize(&made.arn, Operation::Decrypt, &CALLER)), disabled);
        there.set_enabled(&made.arn, true).unwrap();
        std::thread::sleep(LOOK * 2);
        assert!(Kms::decrypt(&*here, &made.arn, &data.ciphertext_blob, &context, &CALLER).is_ok());
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let key = unlock(dir.path());
        let place = dir.path().join("keyring");
        open(&place, &key);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let kms = LocalKms::open(&place, &key()).unwrap();
                scope.spawn(move || (0..5).for_each(|n| drop(kms.create_key(&n.to_string()).unwrap())));
            }
        });
        assert_eq!(LocalKms::open(&place, &key()).unwrap().list_keys().unwrap().len(), 20);
    }

    #[test]
    fn a_keyring_that_disappears_refuses_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("keyring");
        let kms = open(&place, unlock(dir.path()));
        let context = EncryptionContext::new();
        std::fs::rename(place.join("keyring"), place.join("away")).unwrap();
        std::thread::sleep(LOOK * 2);
        assert_eq!(code(ServiceKey::generate_data_key(&*kms, &context)).0, Code::KmsInternal);
        std::fs::rename(place.join("away"), place.join("keyring")).unwrap();
        std::thread::sleep(LOOK * 2);
        assert!(ServiceKey::generate_data_key(&*kms, &context).is_ok());
    }
}
