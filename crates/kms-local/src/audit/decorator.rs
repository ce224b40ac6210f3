//! A KMS whose use is recorded.

use super::record::{parameters, response};
use super::{AuditLog, Event};
use crate::blob;
use crate::local::LocalKms;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::api::{Answer, Request, Service};
use kmsfs_kms::{Caller, EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// Refusals without a call that are remembered, so that each is recorded once.
const REMEMBERED: usize = 4096;

/// Records each call: what was asked, by whom, and what was answered. The service's own key (SSE-S3) is no KMS key, and
/// what a cached bucket key opens is no call.
pub struct Audited {
    kms: Arc<LocalKms>,
    log: AuditLog,
    account: String,
    region: String,
    refused: Mutex<Refused>,
}

/// Whom a key was refused that is in memory, since keys were changed last.
#[derive(Default)]
struct Refused {
    version: u64,
    known: HashSet<(u32, String, Operation)>,
}

/// A call to record, beside its answer.
struct Call<'a> {
    name: &'static str,
    key_id: &'a str,
    key_spec: Option<&'static str>,
    context: &'a EncryptionContext,
    caller: &'a Caller,
}

impl Audited {
    pub fn new(kms: Arc<LocalKms>, log: AuditLog) -> Self {
        let (account, region) = kms.place();
        let audited = Self { kms, log, account, region, refused: Mutex::default() };
        audited.record_done();
        audited
    }

    fn event<'a>(&'a self, name: &'a str) -> Event<'a> {
        Event {
            name,
            account: &self.account,
            region: &self.region,
            caller: None,
            through_s3: false,
            parameters: Value::Null,
            response: Value::Null,
            key_arn: None,
            material_id: None,
            error: None,
        }
    }

    /// Records a call through the mount. What cannot be recorded is not answered.
    fn call<T>(
        &self,
        call: &Call<'_>,
        answer: Result<T, Error>,
        names: impl FnOnce(Option<&T>) -> (Option<String>, Option<Vec<u8>>),
    ) -> Result<T, Error> {
        self.record_done();
        let principals = self.kms.directory.principals(call.caller);
        let (key_arn, blob) = names(answer.as_ref().ok());
        let material = blob.as_deref().and_then(blob::names).map(|names| hex::encode(names.material));
        let recorded = self.log.record(&Event {
            caller: Some((call.caller, &principals)),
            through_s3: true,
            parameters: parameters(call.key_id, call.context, call.key_spec),
            key_arn: key_arn.or_else(|| self.kms.arn_of(call.key_id)),
            material_id: material,
            error: answer.as_ref().err(),
            ..self.event(call.name)
        });
        match (answer, recorded) {
            (Ok(_), Err(error)) => Err(error),
            // Revoking a key does not wait for the log.
            (Err(refusal), Err(error)) => {
                log::error!("a refused {} of {} is not in the audit log: {}", call.name, call.key_id, error.message);
                Err(refusal)
            }
            (answer, Ok(())) => answer,
        }
    }

    /// What KMS did by itself: it cannot be taken back, so that it is said here if it cannot be recorded.
    fn record_done(&self) {
        for (name, key_arn) in self.kms.take_done() {
            let parameters = json!({"keyId": key_arn});
            let event = Event { parameters, key_arn: Some(key_arn.clone()), ..self.event(name) };
            if let Err(error) = self.log.record(&event) {
                log::error!("{name} of {key_arn} is not in the audit log: {}", error.message);
            }
        }
    }

    /// Whether this refusal is new since keys were changed last.
    fn is_new(&self, caller: &Caller, key_arn: &str, operation: Operation) -> bool {
        let version = self.kms.version_now();
        let mut refused = self.refused.lock();
        if refused.version != version || refused.known.len() >= REMEMBERED {
            *refused = Refused { version, known: HashSet::new() };
        }
        refused.known.insert((caller.uid, key_arn.to_owned(), operation))
    }
}

/// A direct call, which is not made if it could not be recorded.
impl Service for Audited {
    fn call(&self, request: &Request, caller: &Caller) -> Result<Answer, Error> {
        self.log.reserve()?;
        let answer = self.kms.call(request, caller);
        let principals = self.kms.directory.principals(caller);
        let (answered, parameters) = (answer.as_ref().ok(), request.parameters());
        let asked = || parameters["keyId"].as_str().or_else(|| parameters["targetKeyId"].as_str());
        let key_id = answered.and_then(Answer::key_arn).or_else(asked);
        self.log.record(&Event {
            caller: Some((caller, &principals)),
            response: answered.map_or(Value::Null, |answered| response(request, answered)),
            key_arn: key_id.and_then(|key_id| self.kms.arn_of(key_id)),
            parameters: parameters.clone(),
            material_id: answered.and_then(Answer::material_id).map(str::to_owned),
            error: answer.as_ref().err(),
            ..self.event(request.name())
        })?;
        self.record_done();
        self.log.sync();
        answer
    }
}

impl Kms for Audited {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<GeneratedDataKey, Error> {
        let call = Call { name: "GenerateDataKey", key_id, key_spec: Some("AES_256"), context, caller };
        let answer = self.kms.generate_data_key(key_id, context, caller);
        self.call(&call, answer, |made| {
            (made.map(|made| made.key_arn.clone()), made.map(|made| made.ciphertext_blob.clone()))
        })
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<(String, Vec<u8>), Error> {
        let call = Call { name: "Encrypt", key_id, key_spec: None, context, caller };
        let answer = Kms::encrypt(&*self.kms, key_id, plaintext, context, caller);
        self.call(&call, answer, |made| made.cloned().unzip())
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<SecretKey, Error> {
        let call = Call { name: "Decrypt", key_id: key_arn, key_spec: None, context, caller };
        let answer = Kms::decrypt(&*self.kms, key_arn, ciphertext_blob, context, caller);
        self.call(&call, answer, |_| (None, Some(ciphertext_blob.to_vec())))
    }

    /// Recorded where it is refused, once for each user and change of keys: sweeping through open files asks for each.
    fn authorize(
        &self,
        key_arn: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Caller,
    ) -> Result<(), Error> {
        let answer = self.kms.authorize(key_arn, operation, context, caller);
        match &answer {
            Err(error) if !error.is_outage() && self.is_new(caller, key_arn, operation) => {
                let (name, key_spec) = match operation {
                    Operation::Decrypt => ("Decrypt", None),
                    Operation::GenerateDataKey => ("GenerateDataKey", Some("AES_256")),
                };
                self.call(&Call { name, key_id: key_arn, key_spec, context, caller }, answer, |_| (None, None))
            }
            _ => answer,
        }
    }

    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.kms.distinguishes(key_arn, context)
    }

    /// Not while it could not be recorded: what is due then waits.
    fn tick(&self) {
        if self.log.reserve().is_ok() {
            self.kms.tick();
            self.record_done();
        }
        self.log.sync();
    }

    fn may_wait(&self) -> bool {
        self.kms.may_wait() || self.log.may_wait()
    }

    fn version(&self) -> u64 {
        self.kms.version()
    }

    fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }
}
