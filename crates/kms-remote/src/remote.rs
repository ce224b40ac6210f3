//! The KMS that asks a provider.

use crate::Identity;
use crate::canaries::{Canaries, Due, is_of_key};
use crate::channel::{Channel, Connect, Missed};
use crate::health::{Change, Counts, Health, Outcome};
use crate::joins::Joins;
use crate::protocol::{Call, Reply, Response, Trace};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::{Code, EncryptionContext, Error, GeneratedDataKey, Kind, Kms, KmsCalls, Operation, Principal};
use kmsfs_locks::{Condvar, Mutex, ranks};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How a KMS that is elsewhere is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For how long a call is waited for, where whoever asks has no deadline.
    pub deadline: Duration,
    /// How often it is found out whether a key in use can still be used.
    pub revalidate: Duration,
    /// Calls at a time.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(8), revalidate: Duration::from_secs(30), concurrency: 16 }
    }
}

/// Whether somebody has connected it; `None` where that cannot be told now.
pub type Gate = Box<dyn Fn() -> Option<bool> + Send + Sync>;

/// A KMS that is elsewhere, as mounts and commands see it: it asks a provider, a process that is started when it is
/// needed. It decides nothing about who asks ([`kmsfs_kms::Authorized`] does, in front of it), and keeps no key.
///
/// Each call ends at the caller's deadline. A key of which nothing comes, and all of them where nobody can be asked, is
/// left alone after outages in a row, but for one call a second.
pub struct RemoteKms {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    name: String,
    settings: Settings,
    channel: Channel,
    joins: Joins,
    health: Mutex<ranks::ProviderHealth, Health>,
    keys: Mutex<ranks::ProviderKeys, Keys>,
    look: Condvar,
    connected: AtomicBool,
    /// Who says whether it is connected, where somebody else does.
    gate: Option<Gate>,
    version: AtomicU64,
    calls: [AtomicU64; 3],
}

#[derive(Default)]
struct Keys {
    canaries: Canaries,
    /// A thread looks after them.
    watched: bool,
    closed: bool,
}

/// How a provider is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What the routing table calls it.
    pub name: String,
    /// Who is there, once it has said so.
    pub identity: Option<Identity>,
    /// Whether somebody has not disconnected it.
    pub connected: bool,
    /// For how long it, or a key of it, cannot be asked.
    pub away: Option<Duration>,
    /// Keys of which nothing comes, while it can be asked.
    pub keys_away: Vec<String>,
    /// Whether calls are spared.
    pub breaker_open: bool,
    /// Calls that are being made.
    pub in_flight: usize,
    /// Calls so far.
    pub counts: Counts,
}

impl RemoteKms {
    /// Asks whoever is at the other end of what `connect` returns. Nothing is started before the first call.
    pub fn new(name: &str, settings: Settings, connect: Connect) -> Self {
        Self::made(name, settings, connect, None)
    }

    /// The same while `gate` says that it is connected. It is asked at each call, and whenever the version is.
    pub fn gated(name: &str, settings: Settings, connect: Connect, gate: Gate) -> Self {
        Self::made(name, settings, connect, Some(gate))
    }

    fn made(name: &str, settings: Settings, connect: Connect, gate: Option<Gate>) -> Self {
        let channel = Channel::new(connect, settings.deadline, settings.concurrency);
        Self {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                settings,
                channel,
                joins: Joins::default(),
                health: Mutex::default(),
                keys: Mutex::default(),
                look: Condvar::new(),
                connected: AtomicBool::new(true),
                gate,
                version: AtomicU64::new(0),
                calls: Default::default(),
            }),
        }
    }

    /// Whether its keys can be used, as somebody here has decided: at once, on open files too.
    pub fn set_connected(&self, connected: bool) {
        self.shared.set_connected(connected);
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let (channel, health, now) = (&self.shared.channel, self.shared.health.lock(), Instant::now());
        let (away, keys_away, counts) = (health.away(now), health.keys_away(), health.counts());
        let breaker_open = health.is_open();
        drop(health);
        Status {
            name: self.shared.name.clone(),
            identity: channel.identity(),
            connected: self.shared.is_connected(),
            away,
            keys_away,
            breaker_open,
            in_flight: channel.busy(),
            counts,
        }
    }

    /// Makes a call, as it is.
    ///
    /// # Errors
    ///
    /// The provider's, or an outage.
    pub fn ask(&self, call: &Call) -> Result<(Reply, Trace), Error> {
        self.shared.ask(call)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for RemoteKms {
    fn drop(&mut self) {
        self.shared.keys.lock().closed = true;
        self.shared.look.notify_all();
    }
}

impl Shared {
    fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::SeqCst) != connected {
            self.keys.lock().canaries.doubt_all(Instant::now());
            self.look.notify_all();
            self.changed();
        }
    }

    fn is_connected(&self) -> bool {
        if let Some(connected) = self.gate.as_ref().and_then(|gate| gate()) {
            self.set_connected(connected);
        }
        self.connected.load(Ordering::SeqCst)
    }

    fn check_connected(&self) -> Result<(), Error> {
        if self.is_connected() {
            return Ok(());
        }
        let text = format!("The custom key store {} is not connected.", self.name);
        Err(Error::new(Code::KmsInvalidState, text))
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn deadline(&self) -> Deadline {
        let limit = Deadline::after(self.settings.deadline);
        deadline::current().map_or(limit, |current| current.min(limit))
    }

    pub(crate) fn ask(&self, call: &Call) -> Result<(Reply, Trace), Error> {
        self.check_connected()?;
        // Somebody else has taken the time: that says nothing of this KMS.
        if self.deadline().has_passed() {
            return Err(deadline::missed());
        }
        let (key_id, since) = (call.key_id(), Instant::now());
        self.health.lock().admit(key_id, since)?;
        let made = self.call(call).and_then(|response| {
            let reply = response.outcome.map_err(Missed::Asked)?;
            self.check(call, &reply).map_err(Missed::Asked)?;
            Ok((reply, response.trace))
        });
        let outcome = match &made {
            Ok(_) => Outcome::Asked(None),
            Err(Missed::Asked(error) | Missed::Ended(error)) => Outcome::Asked(Some(error)),
            Err(Missed::Unreached(_)) => Outcome::Unreached,
            Err(Missed::Unasked(_)) => Outcome::Unasked,
        };
        let now = Instant::now();
        let change = self.health.lock().note(key_id, outcome, now - since, now);
        let made = made.map_err(Missed::into_error);
        let whose = key_id.unwrap_or("it");
        match change {
            Change::Nothing => {}
            Change::Away => {
                let why = made.as_ref().err().map_or("", |error| &error.message);
                log::warn!("KMS {}: it is away: {why} (asked about {whose})", self.name);
            }
            Change::Back(after) => {
                log::info!("KMS {}: it answers again, after {} s (asked about {whose})", self.name, after.as_secs());
                self.keys.lock().canaries.doubt_all(now);
                self.look.notify_all();
            }
        }
        made
    }

    /// A provider that has ended meanwhile, perhaps by what others have asked, is asked once more.
    fn call(&self, call: &Call) -> Result<Response, Missed> {
        match self.channel.call(call, self.deadline()) {
            Err(Missed::Ended(_)) if !self.deadline().has_passed() => self.channel.call(call, self.deadline()),
            made => made,
        }
    }

    /// Whoever is asked about a key answers about that key.
    fn check(&self, call: &Call, reply: &Reply) -> Result<(), Error> {
        let key_id = match reply {
            Reply::DataKey { key_id, .. }
            | Reply::Encrypted { key_id, .. }
            | Reply::Decrypted { key_id, .. }
            | Reply::Key { key_id, .. } => key_id,
            Reply::Hello { .. } | Reply::Status(_) => return Ok(()),
        };
        // What an alias there stands for is decided there.
        let asked = call.key_id().filter(|asked| !asked.contains(":alias/"));
        if asked.is_some_and(|asked| asked != key_id) {
            let how = format!("{} was asked of one key and answered of another", call.verb().name());
            return Err(self.lies(call.key_id(), &how));
        }
        Ok(())
    }

    /// A provider that makes no sense is ended, and another one started when it is needed: once, since others use it,
    /// and where that does not help it is the key.
    pub(crate) fn lies(&self, key_id: Option<&str>, how: &str) -> Error {
        if !key_id.is_some_and(|key_id| self.health.lock().is_failing(key_id)) {
            self.channel.give_up_on(how.to_owned());
        }
        Error::new(Code::KmsInternal, format!("The KMS that keeps the key makes no sense: {how}."))
    }

    /// A key was used, or that was refused; with the blob that was opened, or was to be.
    fn learn(
        self: &Arc<Self>,
        key_id: &str,
        (blob, context): (Option<&[u8]>, &EncryptionContext),
        refused: Option<&Error>,
    ) {
        let (now, every) = (Instant::now(), self.settings.revalidate);
        let mut keys = self.keys.lock();
        let look = match (refused, blob) {
            (None, Some(blob)) => keys.canaries.used(key_id, blob, context, now, every),
            (Some(error), _) if is_of_key(error) => keys.canaries.doubt(key_id, blob, context, now),
            _ => false,
        };
        if !keys.watched && !keys.closed {
            let watching = Arc::clone(self);
            let thread = thread::Builder::new().name("kmsfs-canary".into()).spawn(move || watching.watch());
            keys.watched = thread.is_ok();
        }
        drop(keys);
        if look {
            self.look.notify_all();
        }
    }

    fn watch(&self) {
        let every = self.settings.revalidate;
        let mut keys = self.keys.lock();
        while !keys.closed {
            match keys.canaries.next(Instant::now(), every) {
                Ok(due) => {
                    drop(keys);
                    let _ = self.look_at(&due);
                    keys = self.keys.lock();
                }
                Err(Some(moment)) => {
                    let left = moment.saturating_duration_since(Instant::now());
                    self.look.wait_for(&mut keys, left);
                }
                Err(None) => self.look.wait(&mut keys),
            }
        }
    }

    /// Finds out whether a key can be used.
    fn look_at(&self, due: &Due) -> Result<(), Error> {
        let Due { key_id, blob, context } = due.clone();
        let result = self.ask(&Call::Decrypt { key_id, ciphertext_blob: blob, context }).map(drop);
        // What is disconnected here says nothing of the key there.
        let is_connected = self.connected.load(Ordering::SeqCst);
        let (now, every) = (Instant::now(), self.settings.revalidate);
        if is_connected && self.keys.lock().canaries.looked(due, result.as_ref().err(), now, every) {
            match &result {
                Ok(()) => log::info!("KMS {}: {} can be used again", self.name, due.key_id),
                Err(error) => log::warn!("KMS {}: {} cannot be used any more: {error}", self.name, due.key_id),
            }
            self.changed();
        }
        result
    }

    pub(crate) fn generate(
        self: &Arc<Self>,
        key_id: &str,
        context: &EncryptionContext,
    ) -> Result<GeneratedDataKey, Error> {
        let made = self.ask(&Call::GenerateDataKey { key_id: key_id.to_owned(), context: context.clone() });
        let made = made.inspect_err(|error| self.learn(key_id, (None, context), Some(error)))?;
        let (Reply::DataKey { key_id: key_arn, plaintext, ciphertext_blob }, _) = made else {
            return Err(self.lies(Some(key_id), "another operation's result"));
        };
        self.prove(key_id, &ciphertext_blob, context, &plaintext.duplicate().into_plaintext())?;
        Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
    }

    pub(crate) fn seal(
        self: &Arc<Self>,
        key_id: &str,
        plaintext: Zeroizing<Vec<u8>>,
        context: &EncryptionContext,
    ) -> Result<(String, Vec<u8>), Error> {
        let wrap = Call::Encrypt { key_id: key_id.to_owned(), plaintext: plaintext.clone(), context: context.clone() };
        let made = self.ask(&wrap).inspect_err(|error| self.learn(key_id, (None, context), Some(error)))?;
        let (Reply::Encrypted { key_id: key_arn, ciphertext_blob }, _) = made else {
            return Err(self.lies(Some(key_id), "another operation's result"));
        };
        self.prove(key_id, &ciphertext_blob, context, &plaintext)?;
        Ok((key_arn, ciphertext_blob))
    }

    /// What is written under a data key is as safe as the blob that it comes out of again. Nobody here can tell whether
    /// one was made of that key, so it is opened before anything depends on it.
    fn prove(
        self: &Arc<Self>,
        key_id: &str,
        blob: &[u8],
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<(), Error> {
        match self.unwrap(key_id, blob, context) {
            Ok(opened) if *opened == plaintext => Ok(()),
            Err(error) if error.kind() != Kind::Fault => Err(error),
            _ => Err(self.lies(Some(key_id), "what it has wrapped does not open again")),
        }
    }

    /// Opens a blob, once for all who want that one at the same time.
    pub(crate) fn open(
        self: &Arc<Self>,
        key_id: &str,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.joins.open((key_id, blob, context), self.deadline(), || self.unwrap(key_id, blob, context))
    }

    fn unwrap(
        self: &Arc<Self>,
        key_id: &str,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let call =
            Call::Decrypt { key_id: key_id.to_owned(), ciphertext_blob: blob.to_owned(), context: context.clone() };
        let opened = self.ask(&call);
        self.learn(key_id, (Some(blob), context), opened.as_ref().err());
        match opened?.0 {
            Reply::Decrypted { plaintext, .. } => Ok(plaintext),
            _ => Err(self.lies(Some(key_id), "another operation's result")),
        }
    }

    /// The key's ARN, its state and what is said of it.
    pub(crate) fn describe(&self, key_id: &str) -> Result<(String, String, Option<String>), Error> {
        match self.ask(&Call::DescribeKey { key_id: key_id.to_owned() })?.0 {
            Reply::Key { key_id, key_state, description } => Ok((key_id, key_state, description)),
            _ => Err(self.lies(Some(key_id), "another operation's result")),
        }
    }

    fn count(&self, operation: Operation) {
        self.calls[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Found out not long ago, or now: with the canary, since that a key is enabled does not say that it may be used.
    fn usable(&self, key_id: &str, context: &EncryptionContext) -> Result<(), Error> {
        self.check_connected()?;
        // A canary that is late by an outage or by a slow answer is not to be asked for twice.
        let within = self.settings.revalidate + self.settings.deadline;
        let (known, canary) = {
            let keys = self.keys.lock();
            (keys.canaries.known(key_id, context, within), keys.canaries.of(key_id, context))
        };
        match (known, canary) {
            (Some(known), _) => known,
            (None, Some(canary)) => {
                let looked = self.look_at(&canary);
                let known = self.keys.lock().canaries.known(key_id, context, within);
                known.unwrap_or_else(|| looked.map_err(not_of_key))
            }
            (None, None) => {
                let (key_id, state, _) = self.describe(key_id).map_err(not_of_key)?;
                match state.as_str() {
                    "Enabled" => Ok(()),
                    "Disabled" => Err(Error::new(Code::Disabled, format!("{key_id} is disabled."))),
                    "PendingDeletion" | "PendingReplicaDeletion" | "PendingImport" => {
                        Err(Error::new(Code::KmsInvalidState, format!("{key_id} is {state}.")))
                    }
                    // As AWS says of a key store that cannot be reached, and of keys that are being made.
                    state => Err(Error::new(Code::KeyUnavailable, format!("{key_id} is {state}."))),
                }
            }
        }
    }
}

/// What is wrong with how a key was asked for takes no open file away.
fn not_of_key(error: Error) -> Error {
    if error.is_outage() || is_of_key(&error) { error } else { Error::new(Code::KmsInternal, error.to_string()) }
}

impl Kms for RemoteKms {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let made = self.shared.generate(key_id, context)?;
        self.shared.count(Operation::GenerateDataKey);
        Ok(made)
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let made = self.shared.seal(key_id, plaintext.duplicate().into_plaintext(), context)?;
        self.shared.count(Operation::Encrypt);
        Ok(made)
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<SecretKey, Error> {
        let plaintext = self.shared.open(key_arn, ciphertext_blob, context)?;
        let wrong = || self.shared.lies(Some(key_arn), &format!("a data key of {} bytes", plaintext.len()));
        let key = SecretKey::from_plaintext(&plaintext).ok_or_else(wrong)?;
        self.shared.count(Operation::Decrypt);
        Ok(key)
    }

    /// What a canary has told last, and whether somebody here has disconnected it.
    fn authorize_here(
        &self,
        key_id: &str,
        _: Operation,
        context: &EncryptionContext,
        _: &Principal,
    ) -> Result<(), Error> {
        self.shared.check_connected()?;
        let within = self.shared.settings.revalidate + self.shared.settings.deadline;
        self.shared.keys.lock().canaries.known(key_id, context, within).unwrap_or(Ok(()))
    }

    fn describe_key(&self, key_id: &str, _: &Principal) -> Result<String, Error> {
        self.shared.describe(key_id).map(|(arn, ..)| arn)
    }

    fn authorize(&self, key_id: &str, _: Operation, context: &EncryptionContext, _: &Principal) -> Result<(), Error> {
        self.shared.usable(key_id, context)
    }

    /// It sees one client alone.
    fn distinguishes(&self, _: &str, _: &EncryptionContext) -> bool {
        false
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn version(&self) -> u64 {
        self.shared.is_connected();
        self.shared.version.load(Ordering::SeqCst)
    }

    fn calls(&self) -> KmsCalls {
        let count = |operation: Operation| self.shared.calls[operation as usize].load(Ordering::Relaxed);
        KmsCalls {
            generate_data_key: count(Operation::GenerateDataKey),
            decrypt: count(Operation::Decrypt),
            encrypt: count(Operation::Encrypt),
        }
    }
}
