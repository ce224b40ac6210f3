//! What is known of keys that are in use, and finding it out.

use crate::canaries::{Due, is_of_all, is_of_key};
use crate::protocol::Call;
use crate::remote::Shared;
use kmsfs_kms::{Code, EncryptionContext, Error, Kind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How often what is away is asked for, where its being away ends something.
const PROBE: Duration = Duration::from_secs(1);
/// How soon it is seen that something was away for too long.
const SOON: Duration = Duration::from_millis(500);

impl Shared {
    /// A key was used, or that was refused; with the blob that was opened, or was to be.
    pub(crate) fn learn(
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
        let (mut ended, mut asked) = (0, Instant::now());
        let mut keys = self.keys.lock();
        while !keys.closed {
            let due = keys.canaries.next(Instant::now(), every);
            if let Ok(due) = due {
                drop(keys);
                let _ = self.look_at(&due);
                keys = self.keys.lock();
                continue;
            }
            let soon = self.settings.offline.map(|offline| {
                keys.opened.expire(Instant::now(), offline);
                Instant::now() + SOON
            });
            match due.err().flatten().into_iter().chain(soon).min() {
                Some(moment) => {
                    let left = moment.saturating_duration_since(Instant::now());
                    self.look.wait_for(&mut keys, left);
                }
                None => self.look.wait(&mut keys),
            }
            if let Some(offline) = self.settings.offline {
                drop(keys);
                self.end(offline, &mut ended);
                self.ask_for_what_is_away(&mut asked);
                keys = self.keys.lock();
            }
        }
    }

    /// How long something is away is found out by asking for it.
    fn ask_for_what_is_away(&self, asked: &mut Instant) {
        if asked.elapsed() < PROBE {
            return;
        }
        let (all, keys) = {
            let health = self.health.lock();
            (health.is_unreached(), health.keys_away())
        };
        if all || !keys.is_empty() {
            *asked = Instant::now();
            self.keys.lock().canaries.hurry(all, &keys, *asked);
        }
    }

    /// What is open under keys that are away for so long is taken away; `ended` is how many were.
    fn end(&self, offline: Duration, ended: &mut usize) {
        let now = self.health.lock().ended(offline);
        if now > *ended {
            log::warn!("KMS {}: it is away for longer than {} s: what is open ends", self.name, offline.as_secs());
        }
        if std::mem::replace(ended, now) != now {
            self.changed();
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
                Err(error) => {
                    log::warn!("KMS {}: {} cannot be used any more: {error}", self.name, due.key_id);
                    self.forget((&due.key_id, &due.blob, &due.context), error);
                }
            }
            self.changed();
        }
        result
    }

    /// Whether the KMS, or the key, is away for so long that what is open ends.
    pub(crate) fn check_not_ended(&self, key_id: &str) -> Result<(), Error> {
        let Some(offline) = self.settings.offline else { return Ok(()) };
        if !self.health.lock().has_ended(key_id, offline) {
            return Ok(());
        }
        let text = format!("{} is away for longer than {} s: what is open ends.", self.name, offline.as_secs());
        Err(Error::new(Code::AwayTooLong, text))
    }

    /// What is kept of what was refused is forgotten: all of the key, that context, or what does not open.
    pub(crate) fn forget(&self, (key_id, blob, context): (&str, &[u8], &EncryptionContext), error: &Error) {
        let mut keys = self.keys.lock();
        match error.kind() {
            Kind::Fault => keys.opened.forget((key_id, blob, context)),
            Kind::Refusal if is_of_all(error) => keys.opened.forget_key(key_id),
            Kind::Refusal if is_of_key(error) => keys.opened.forget_context(key_id, context),
            Kind::Refusal | Kind::Outage => {}
        }
    }

    /// Whether the key is away, and could be used before, where that is allowed.
    fn was_usable(&self, key_id: &str, context: &EncryptionContext) -> bool {
        let is_away = || self.health.lock().away_of(key_id, Instant::now()).is_some();
        let known = || self.keys.lock().canaries.known(key_id, context, Duration::MAX);
        self.settings.offline.is_some() && is_away() && known() == Some(Ok(()))
    }

    pub(crate) fn keep(&self, question: (&str, &[u8], &EncryptionContext), plaintext: &Zeroizing<Vec<u8>>) {
        if let Some(offline) = self.settings.offline {
            self.keys.lock().opened.keep(question, plaintext, Instant::now(), offline);
        }
    }

    /// What was opened before, while the KMS is away and that is allowed; `known` if it is to be away already, and
    /// not only now.
    pub(crate) fn opened_before(
        &self,
        question: (&str, &[u8], &EncryptionContext),
        known: bool,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (offline, now) = (self.settings.offline?, Instant::now());
        let away = self.health.lock().away_of(question.0, now);
        let may = away.map_or(!known, |away| away <= offline);
        if !may || !self.is_connected() {
            return None;
        }
        let keys = self.keys.lock();
        let refused = keys.canaries.known(question.0, question.2, Duration::MAX).is_some_and(|known| known.is_err());
        if refused { None } else { keys.opened.find(question, now, offline) }
    }

    /// Found out not long ago, or now: with the canary, since that a key is enabled does not say that it may be used.
    pub(crate) fn usable(&self, key_id: &str, context: &EncryptionContext) -> Result<(), Error> {
        self.check_connected()?;
        self.check_not_ended(key_id)?;
        // A canary that is late by an outage or by a slow answer is not to be asked for twice.
        let within = self.settings.revalidate + self.settings.deadline;
        let (known, canary) = {
            let keys = self.keys.lock();
            (keys.canaries.known(key_id, context, within), keys.canaries.of(key_id, context))
        };
        match (known, canary) {
            (Some(known), _) => known,
            // It is away, and what was so before may go on for a while.
            (None, Some(_)) if self.was_usable(key_id, context) => Ok(()),
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
pub(crate) fn not_of_key(error: Error) -> Error {
    if error.is_outage() || is_of_key(&error) { error } else { Error::new(Code::KmsInternal, error.to_string()) }
}
