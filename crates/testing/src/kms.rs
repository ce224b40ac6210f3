//! Fake KMSs: [`OneKey`] returns a result to every call, [`Moody`] denies, fails, or waits first, as a test tells it
//! to.

use kmsfs_crypto::{SecretKey, envelope, sealed};
use kmsfs_kms::api::{Answer, Ciphertext, Plaintext, Request, Service};
use kmsfs_kms::{Caller, Code, EncryptionContext, Error, GeneratedDataKey, Kms, Operation, Principal, ServiceKey};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use zeroize::Zeroizing;

/// The ARN that the fakes give to the KMS key with this id or alias; an ARN is returned as it is.
pub fn arn(key_id: &str) -> String {
    if key_id.starts_with("arn:") { key_id.into() } else { format!("arn:aws:kms:us-east-1:000000000000:key/{key_id}") }
}

/// One secret that stands for every KMS key and for the service's own key, and the store's format version. Every key id
/// is the id of a key, and every caller may use it. A blob opens under the ARN and the context that it was made with.
pub struct OneKey {
    secret: SecretKey,
    store_format: AtomicU16,
}

impl OneKey {
    /// With a random secret, so that nothing opens under another one.
    pub fn new() -> Self {
        Self { secret: SecretKey::random(), store_format: AtomicU16::new(0) }
    }

    fn wrap(&self, arn: &str, plaintext: &SecretKey, context: &EncryptionContext) -> Vec<u8> {
        envelope::wrap(&self.secret, plaintext, format!("{arn} {context:?}").as_bytes())
    }

    fn unwrap(&self, arn: &str, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        envelope::unwrap(&self.secret, blob, format!("{arn} {context:?}").as_bytes())
            .map_err(|_| Error::new(Code::InvalidCiphertext, ""))
    }
}

impl Default for OneKey {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceKey for OneKey {
    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
        let key = SecretKey::random();
        let blob = self.wrap("", &key, context);
        Ok((key, blob))
    }

    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
        Ok(self.wrap("", plaintext, context))
    }

    fn decrypt(&self, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        self.unwrap("", blob, context)
    }

    fn store_format(&self) -> Result<u16, Error> {
        Ok(self.store_format.load(Ordering::SeqCst))
    }

    fn raise_store_format(&self, version: u16) -> Result<(), Error> {
        self.store_format.fetch_max(version, Ordering::SeqCst);
        Ok(())
    }
}

impl Kms for OneKey {
    fn generate_data_key(
        &self,
        id: &str,
        context: &EncryptionContext,
        by: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let plaintext = SecretKey::random();
        let (key_arn, ciphertext_blob) = Kms::encrypt(self, id, &plaintext, context, by)?;
        Ok(GeneratedDataKey { key_arn, plaintext, ciphertext_blob })
    }

    fn encrypt(
        &self,
        id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        _by: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let arn = arn(id);
        let blob = self.wrap(&arn, plaintext, context);
        Ok((arn, blob))
    }

    fn decrypt(
        &self,
        arn: &str,
        blob: &[u8],
        context: &EncryptionContext,
        _by: &Principal,
    ) -> Result<SecretKey, Error> {
        self.unwrap(arn, blob, context)
    }

    fn describe_key(&self, id: &str, _: &Principal) -> Result<String, Error> {
        Ok(arn(id))
    }

    fn authorize(&self, _: &str, _: Operation, _: &EncryptionContext, _: &Principal) -> Result<(), Error> {
        Ok(())
    }
}

/// Direct calls: the cryptographic ones alone. What they encrypt opens by them, and not through a mount.
impl Service for OneKey {
    fn call(&self, request: &Request, _by: &Principal) -> Result<Answer, Error> {
        let bound = |arn: &str, context: &EncryptionContext| format!("{arn} {context:?}").into_bytes();
        let seal = |key_id: &str, plaintext: &[u8], context: &EncryptionContext| {
            let key_arn = arn(key_id);
            let blob = sealed::seal(&self.secret, plaintext, &bound(&key_arn, context));
            Ciphertext { key_arn, material_id: String::new(), blob }
        };
        let open = |key_id: &Option<String>, blob: &[u8], context: &EncryptionContext| {
            let key_arn = arn(key_id.as_deref().unwrap_or_default());
            let opened = sealed::open(&self.secret, blob, &bound(&key_arn, context));
            let bytes = opened.map_err(|_| Error::invalid_ciphertext())?;
            Ok(Plaintext { key_arn, material_id: String::new(), bytes })
        };
        match request {
            Request::Encrypt { key_id, plaintext, encryption_context } => {
                Ok(Answer::Encrypted(seal(key_id, plaintext, encryption_context)))
            }
            Request::Decrypt { key_id, ciphertext_blob, encryption_context } => {
                open(key_id, ciphertext_blob, encryption_context).map(Answer::Decrypted)
            }
            Request::ReEncrypt {
                ciphertext_blob,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => {
                let mut source = open(source_key_id, ciphertext_blob, source_encryption_context)?;
                let destination = seal(destination_key_id, &source.bytes, destination_encryption_context);
                source.bytes = Zeroizing::default();
                Ok(Answer::ReEncrypted { source, destination })
            }
            _ => Err(Error::new(Code::UnsupportedOperation, "a fake does not do that")),
        }
    }
}

/// What a caller asked a [`Moody`] KMS for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A data key.
    GenerateDataKey,
    /// To wrap one that exists, or bytes.
    Encrypt,
    /// To open a blob.
    Decrypt,
    /// About a key, or anything else of a direct call.
    DescribeKey,
    /// To wrap what a blob holds anew.
    ReEncrypt,
    /// Whether this operation would be allowed.
    Authorize(Operation),
}

impl Action {
    /// The operation that a policy would have to allow; `DescribeKey` is for everybody here.
    fn operation(self) -> Option<Operation> {
        match self {
            Self::GenerateDataKey => Some(Operation::GenerateDataKey),
            Self::Encrypt => Some(Operation::Encrypt),
            Self::DescribeKey | Self::ReEncrypt => None,
            Self::Decrypt => Some(Operation::Decrypt),
            Self::Authorize(operation) => Some(operation),
        }
    }
}

/// One call to a [`Moody`] KMS. Its text is for instance `Decrypt arn:aws:kms:us-east-1:000000000000:key/k 1000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The first call since the last [`Moody::answer`] is 1.
    pub number: u64,
    /// What was asked for.
    pub action: Action,
    /// The key as the caller named it; empty for the service's own key.
    pub key: String,
    /// The caller's; nobody's for the service's own key.
    pub uid: Option<u32>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Authorize(operation) => write!(f, "authorize {operation:?} {}", self.key),
            action => write!(f, "{action:?} {}", self.key),
        }?;
        self.uid.map_or(Ok(()), |uid| write!(f, " {uid}"))
    }
}

type Mood = Arc<dyn Fn(&Call) -> Result<(), Error> + Send + Sync>;

/// A [`OneKey`] that can be told to fail, to deny callers, to wait, or to do something else first; and that counts its
/// calls. Without being told anything it does as [`OneKey`] does.
pub struct Moody {
    key: OneKey,
    mood: RwLock<Mood>,
    calls: Mutex<Vec<Call>>,
    /// How every call fails, if it does.
    failure: Mutex<Option<Error>>,
    /// By uid.
    denied: Mutex<HashSet<(u32, Operation)>>,
    version: AtomicU64,
    seems_for_everybody: AtomicBool,
    is_at_hand: AtomicBool,
    after_decrypt: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Moody {
    /// One that does as it is asked.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            key: OneKey::new(),
            mood: RwLock::new(Arc::new(|_| Ok(()))),
            calls: Mutex::default(),
            failure: Mutex::default(),
            denied: Mutex::default(),
            version: AtomicU64::default(),
            seems_for_everybody: AtomicBool::default(),
            is_at_hand: AtomicBool::default(),
            after_decrypt: Mutex::default(),
        })
    }

    /// Runs `mood` at the beginning of each call from the next one on, which has number 1. It may wait, call the KMS
    /// itself (which runs it again), and make the call fail.
    pub fn answer(&self, mood: impl Fn(&Call) -> Result<(), Error> + Send + Sync + 'static) {
        *self.mood.write() = Arc::new(mood);
        self.calls.lock().clear();
    }

    /// Holds the next call: the receiver gets a message when it has begun, and it ends once the sender is used or
    /// dropped.
    pub fn hold_next(&self) -> (Receiver<()>, Sender<()>) {
        let (begun, has_begun) = channel();
        let (end, may_end) = channel();
        let may_end = Mutex::new(may_end);
        self.answer(move |call| {
            if call.number == 1 {
                let _ = begun.send(());
                let _ = may_end.lock().recv();
            }
            Ok(())
        });
        (has_begun, end)
    }

    /// Makes every call of the KMS fail with this error, or none any more.
    pub fn fail(&self, error: Option<Error>) {
        *self.failure.lock() = error;
    }

    /// Denies this user the use of every key, but for encrypting.
    pub fn deny(&self, caller: &Caller) {
        self.denied.lock().extend([Operation::Decrypt, Operation::GenerateDataKey].map(|op| (caller.uid, op)));
        self.change();
    }

    /// Denies this user one operation under every key.
    pub fn deny_operation(&self, operation: Operation, caller: &Caller) {
        self.denied.lock().insert((caller.uid, operation));
        self.change();
    }

    /// Ends a denial of this operation.
    pub fn allow_operation(&self, operation: Operation, caller: &Caller) {
        self.denied.lock().remove(&(caller.uid, operation));
        self.change();
    }

    /// Ends all denials.
    pub fn allow_all(&self) {
        self.denied.lock().clear();
        self.change();
    }

    /// Has mounts ask again who may use which key, as every change of a denial does.
    pub fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes it say that its keys are for everybody; it denies those who are denied all the same, as a KMS does that
    /// just begins to deny somebody.
    pub fn seem_for_everybody(&self) {
        self.seems_for_everybody.store(true, Ordering::SeqCst);
    }

    /// Makes it one that is at hand, as the KMS of this machine is: event loops ask it themselves.
    pub fn be_at_hand(&self) {
        self.is_at_hand.store(true, Ordering::SeqCst);
    }

    /// Runs `act` once, when the next successful `Decrypt` has its result and the caller does not have it yet.
    pub fn after_decrypt(&self, act: impl FnOnce() + Send + 'static) {
        *self.after_decrypt.lock() = Some(Box::new(act));
    }

    /// How many calls there were since the last [`Moody::answer`] or [`Moody::take_calls`].
    pub fn calls(&self) -> u64 {
        self.calls.lock().len() as u64
    }

    /// The calls since the last [`Moody::answer`] or [`Moody::take_calls`].
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    fn hear(&self, action: Action, key: &str, uid: Option<u32>) -> Result<(), Error> {
        let mood = self.mood.read().clone();
        let call = {
            let mut calls = self.calls.lock();
            let call = Call { number: calls.len() as u64 + 1, action, key: key.to_owned(), uid };
            calls.push(call.clone());
            call
        };
        mood(&call)
    }

    fn hear_caller(&self, action: Action, key: &str, by: &Principal) -> Result<(), Error> {
        self.hear(action, key, Some(by.uid()))?;
        if let Some(error) = self.failure.lock().clone() {
            return Err(error);
        }
        let denied = |operation| self.denied.lock().contains(&(by.uid(), operation));
        if action.operation().is_some_and(denied) { Err(Error::new(Code::AccessDenied, "no")) } else { Ok(()) }
    }
}

impl ServiceKey for Moody {
    fn generate_data_key(&self, context: &EncryptionContext) -> Result<(SecretKey, Vec<u8>), Error> {
        self.hear(Action::GenerateDataKey, "", None)?;
        ServiceKey::generate_data_key(&self.key, context)
    }

    fn encrypt(&self, plaintext: &SecretKey, context: &EncryptionContext) -> Result<Vec<u8>, Error> {
        self.hear(Action::Encrypt, "", None)?;
        ServiceKey::encrypt(&self.key, plaintext, context)
    }

    fn decrypt(&self, blob: &[u8], context: &EncryptionContext) -> Result<SecretKey, Error> {
        self.hear(Action::Decrypt, "", None)?;
        ServiceKey::decrypt(&self.key, blob, context)
    }

    fn store_format(&self) -> Result<u16, Error> {
        self.key.store_format()
    }

    fn raise_store_format(&self, version: u16) -> Result<(), Error> {
        self.key.raise_store_format(version)
    }
}

impl Kms for Moody {
    fn generate_data_key(
        &self,
        id: &str,
        context: &EncryptionContext,
        by: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        self.hear_caller(Action::GenerateDataKey, id, by)?;
        Kms::generate_data_key(&self.key, id, context, by)
    }

    fn encrypt(
        &self,
        id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        by: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        self.hear_caller(Action::Encrypt, id, by)?;
        Kms::encrypt(&self.key, id, plaintext, context, by)
    }

    fn decrypt(&self, arn: &str, blob: &[u8], context: &EncryptionContext, by: &Principal) -> Result<SecretKey, Error> {
        self.hear_caller(Action::Decrypt, arn, by)?;
        let key = Kms::decrypt(&self.key, arn, blob, context, by)?;
        let act = self.after_decrypt.lock().take();
        if let Some(act) = act {
            act();
        }
        Ok(key)
    }

    fn describe_key(&self, id: &str, by: &Principal) -> Result<String, Error> {
        self.hear_caller(Action::DescribeKey, id, by)?;
        self.key.describe_key(id, by)
    }

    fn authorize(&self, arn: &str, what: Operation, context: &EncryptionContext, by: &Principal) -> Result<(), Error> {
        self.hear_caller(Action::Authorize(what), arn, by)?;
        self.key.authorize(arn, what, context, by)
    }

    fn distinguishes(&self, _arn: &str, _context: &EncryptionContext) -> bool {
        !self.seems_for_everybody.load(Ordering::SeqCst)
    }

    /// As of a KMS that is elsewhere, unless it was told to be at hand.
    fn may_wait(&self) -> bool {
        !self.is_at_hand.load(Ordering::SeqCst)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }
}

impl Service for Moody {
    fn call(&self, request: &Request, by: &Principal) -> Result<Answer, Error> {
        let (action, key) = match request {
            Request::Encrypt { key_id, .. } => (Action::Encrypt, key_id.as_str()),
            Request::Decrypt { key_id, .. } => (Action::Decrypt, key_id.as_deref().unwrap_or_default()),
            Request::ReEncrypt { destination_key_id, .. } => (Action::ReEncrypt, destination_key_id.as_str()),
            _ => (Action::DescribeKey, request.key_id().unwrap_or_default()),
        };
        self.hear_caller(action, key, by)?;
        self.key.call(request, by)
    }
}
