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
    if contents.is_elsewhere(&key.id) {
        let text = format!("{arn} is kept by another KMS, and nothing here says by which.");
        return Err(Error::new(Code::KmsInvalidState, text));
    }
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Disabled => Err(Error::new(Code::Disabled, format!("{arn} is disabled."))),
        KeyState::PendingDeletion => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending deletion."))),
        KeyState::PendingImport => Err(Error::new(Code::KmsInvalidState, format!("{arn} is pending import."))),
    }
}

#[cfg(test)]
mod tests;
