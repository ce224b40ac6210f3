//! The KMS that asks a provider.

use crate::canaries::Canaries;
use crate::channel::{Channel, Connect, Missed};
use crate::health::{Change, Health, Outcome};
use crate::joins::Joins;
use crate::opened::Opened;
use crate::protocol::{Call, Reply, Response, Trace};
use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::elsewhere::{self, Outage, ProviderStatus, RemoteCall};
use kmsfs_kms::{Code, EncryptionContext, Error, GeneratedDataKey, Kind, Operation};
use kmsfs_locks::{Condvar, Mutex, ranks};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// For how long it may be away until what is open under its keys ends, and for how long what was opened before is
    /// opened again meanwhile. `None` ends nothing, and opens nothing.
    pub offline: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let (deadline, revalidate) = (Duration::from_secs(8), Duration::from_secs(30));
        Self { deadline, revalidate, concurrency: 16, offline: None }
    }
}

/// Whether somebody has connected it; `None` where that cannot be told now.
pub type Gate = Box<dyn Fn() -> Option<bool> + Send + Sync>;

/// A KMS that is elsewhere, as mounts and commands see it: it asks a provider, a process that is started when it is
/// needed. It decides nothing about who asks ([`kmsfs_kms::Authorized`] does, in front of it), and keeps no key unless
/// it is told to ([`Settings::offline`]).
///
/// Each call ends at the caller's deadline. A key of which nothing comes, and all of them where nobody can be asked, is
/// left alone after outages in a row, but for one call a second.
pub struct RemoteKms {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    channel: Channel,
    joins: Joins,
    pub(crate) health: Mutex<ranks::ProviderHealth, Health>,
    pub(crate) keys: Mutex<ranks::ProviderKeys, Keys>,
    pub(crate) look: Condvar,
    pub(crate) connected: AtomicBool,
    /// Who says whether it is connected, where somebody else does.
    gate: Option<Gate>,
    pub(crate) version: AtomicU64,
    pub(crate) calls: [AtomicU64; 3],
    /// It was looked at when it was first used by a mount.
    pub(crate) was_looked_at: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) canaries: Canaries,
    pub(crate) opened: Opened,
    /// A thread looks after them.
    pub(crate) watched: bool,
    pub(crate) closed: bool,
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
                was_looked_at: AtomicBool::new(false),
            }),
        }
    }

    /// Whether its keys can be used, as somebody here has decided: at once, on open files too.
    pub fn set_connected(&self, connected: bool) {
        self.shared.set_connected(connected);
    }

    /// How it is.
    pub fn status(&self) -> ProviderStatus {
        let (channel, health, now) = (&self.shared.channel, self.shared.health.lock(), Instant::now());
        let (away, keys_away, breaker_open) = (health.away(now), health.keys_away(), health.is_open());
        let counts = health.counts();
        drop(health);
        let (provider, endpoint) = channel.identity().map(|who| (who.provider, who.endpoint)).unzip();
        let (in_flight, queued) = channel.busy();
        ProviderStatus {
            name: self.shared.name.clone(),
            provider,
            endpoint,
            connected: self.shared.is_connected(),
            away,
            keys_away,
            breaker_open,
            in_flight,
            queued,
            counts,
        }
    }

    /// What is wrong with it, as far as it can tell without a key: that it cannot be asked, is sealed, does not know
    /// who asks, or has another clock. The text says what to do.
    pub fn problem(&self) -> Option<String> {
        self.shared.problem()
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
            let mut keys = self.keys.lock();
            keys.canaries.doubt_all(Instant::now());
            keys.opened.forget_all();
            drop(keys);
            self.look.notify_all();
            self.changed();
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        if let Some(connected) = self.gate.as_ref().and_then(|gate| gate()) {
            self.set_connected(connected);
        }
        self.connected.load(Ordering::SeqCst)
    }

    pub(crate) fn check_connected(&self) -> Result<(), Error> {
        if self.is_connected() {
            return Ok(());
        }
        let text = format!("The custom key store {} is not connected.", self.name);
        Err(Error::new(Code::KmsInvalidState, text))
    }

    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn deadline(&self) -> Deadline {
        let limit = Deadline::after(self.settings.deadline);
        deadline::current().map_or(limit, |current| current.min(limit))
    }

    pub(crate) fn problem(&self) -> Option<String> {
        match self.ask(&Call::Status) {
            Ok((Reply::Status(members), _)) => problem_of(&members),
            Err(error) if error.is_outage() => Some(error.message),
            // A provider need not have that call.
            _ => None,
        }
    }

    pub(crate) fn ask(&self, call: &Call) -> Result<(Reply, Trace), Error> {
        self.check_connected()?;
        // Somebody else has taken the time: that says nothing of this KMS.
        if self.deadline().has_passed() {
            return Err(deadline::missed());
        }
        let (key_id, since) = (call.key_id(), Instant::now());
        self.health.lock().admit(key_id, since)?;
        let mut traced = Trace::default();
        let made = self.call(call).and_then(|response| {
            traced = response.trace.clone();
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
        let error = made.as_ref().err();
        self.note(call, traced, now - since);
        match change {
            Change::Nothing => {}
            Change::Away => self.is_away(key_id, error.map_or("", |error| &error.message)),
            Change::Back(after) => self.is_back(key_id, after, now),
        }
        made
    }

    /// For the audit trail.
    fn note(&self, call: &Call, Trace { request_id, attempts, .. }: Trace, latency: Duration) {
        let (provider, endpoint) = self.channel.identity().map(|who| (who.provider, who.endpoint)).unzip();
        let (provider, endpoint) = (provider.unwrap_or_default(), endpoint.unwrap_or_default());
        let operation = call.verb().name();
        elsewhere::note(RemoteCall { operation, provider, endpoint, request_id, attempts, latency });
    }

    fn is_away(&self, key_id: Option<&str>, why: &str) {
        log::warn!("KMS {}: it is away: {why} (asked about {})", self.name, key_id.unwrap_or("itself"));
        self.tell(key_id, why, None);
        self.look.notify_all();
    }

    fn is_back(&self, key_id: Option<&str>, after: Duration, now: Instant) {
        let (seconds, whose) = (after.as_secs(), key_id.unwrap_or("itself"));
        log::info!("KMS {}: it answers again, after {seconds} s (asked about {whose})", self.name);
        self.tell(key_id, "", Some(after));
        self.keys.lock().canaries.doubt_all(now);
        self.look.notify_all();
        if self.settings.offline.is_some() {
            self.changed();
        }
    }

    fn tell(&self, key_id: Option<&str>, why: &str, lasted: Option<Duration>) {
        let (key_store, key_arn) = (self.name.clone(), key_id.map(str::to_owned));
        self.health.lock().tell(Outage { key_store, key_arn, why: why.to_owned(), lasted });
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
        let question = (key_id, blob, context);
        if let Some(kept) = self.opened_before(question, true) {
            return Ok(kept);
        }
        let ask = || elsewhere::collect(|| self.unwrap(key_id, blob, context));
        let (opened, calls) = self.joins.open(question, self.deadline(), ask);
        calls.into_iter().for_each(elsewhere::note);
        match &opened {
            Ok(plaintext) => self.keep(question, plaintext),
            Err(error) if error.is_outage() => return self.opened_before(question, false).ok_or_else(|| error.clone()),
            Err(error) => self.forget(question, error),
        }
        opened
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

    pub(crate) fn count(&self, operation: Operation) {
        self.calls[operation as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What a provider says of itself, where something is wrong with that.
fn problem_of(members: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    const MUCH: i64 = 300;
    if members.get("Sealed").and_then(serde_json::Value::as_bool) == Some(true) {
        return Some("it is sealed: unseal it".into());
    }
    if let Some(error) = members.get("IdentityError").and_then(serde_json::Value::as_str) {
        return Some(format!("it does not know who asks ({error}): renew the token, access key or login"));
    }
    let skew = members.get("ClockSkewSeconds").and_then(serde_json::Value::as_i64).unwrap_or_default();
    let says = format!("the clock here is {skew} s ahead of the one there: set it right, for instance by chrony");
    (skew.abs() > MUCH).then_some(says)
}
