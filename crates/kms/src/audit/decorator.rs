//! A KMS, and the access keys beside it, whose use is recorded.

use super::record::{Refusal, Source, parameters, response};
use super::{AuditLog, Event, RecordSource};
use crate::api::{Answer, Request, Service};
use crate::elsewhere::{self, Outage, ProviderStatus};
use crate::{AccessKeyId, EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal, iam};
use kmsfs_crypto::SecretKey;
use kmsfs_locks::{Mutex, ranks};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// Refusals without a call that are remembered, so that each is recorded once.
const REMEMBERED: usize = 4096;

/// Records each call: what was asked, by whom, and what was answered. The service's own key (SSE-S3) is no KMS key, and
/// what a cached bucket key opens is no call.
pub struct Audited<K: ?Sized> {
    kms: Arc<K>,
    source: Arc<dyn RecordSource>,
    log: AuditLog,
    account: String,
    region: String,
    refused: Mutex<ranks::AuditRefused, Refused>,
}

/// Whom a key was refused that is in memory, since keys were changed last.
#[derive(Default)]
struct Refused {
    version: u64,
    known: HashSet<((u32, Option<AccessKeyId>), String, Operation)>,
}

/// A call to record, beside its answer.
struct Call<'a> {
    name: &'static str,
    key_id: &'a str,
    /// CloudTrail's `requestParameters`.
    parameters: Value,
    caller: &'a Principal,
}

impl<K: ?Sized> Audited<K> {
    /// Records the calls of `kms`; `source` is the KMS that keeps the keys, whatever is between the two.
    pub fn new(kms: Arc<K>, source: Arc<dyn RecordSource>, log: AuditLog) -> Self {
        let (account, region) = source.place();
        let audited = Self { kms, source, log, account, region, refused: Mutex::default() };
        audited.record_done();
        audited
    }

    fn event<'a>(&'a self, name: &'a str) -> Event<'a> {
        Event {
            source: Source::Kms,
            name,
            account: &self.account,
            region: &self.region,
            caller: None,
            through_s3: false,
            parameters: Value::Null,
            response: Value::Null,
            key_arn: None,
            material_id: None,
            provider: None,
            remote_calls: Vec::new(),
            error: None,
        }
    }

    /// Records a call through the mount. What cannot be recorded is not answered.
    fn call<T>(
        &self,
        call: Call<'_>,
        ask: impl FnOnce() -> Result<T, Error>,
        names: impl FnOnce(Option<&T>) -> (Option<String>, Option<Vec<u8>>),
    ) -> Result<T, Error> {
        let (answer, remote_calls) = elsewhere::collect(ask);
        self.record_done();
        let identity = self.source.identity(call.caller);
        let (key_arn, blob) = names(answer.as_ref().ok());
        let material = blob.as_deref().and_then(|blob| self.source.material_of(call.key_id, blob));
        let recorded = self.log.record(&Event {
            caller: Some((call.caller, &identity)),
            through_s3: true,
            parameters: call.parameters,
            key_arn: key_arn.or_else(|| self.source.arn_of(call.key_id)),
            material_id: material,
            provider: self.source.provider_of(call.key_id),
            remote_calls,
            error: answer.as_ref().err().map(Refusal::from),
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

    /// A call that is made directly, and not if it could not be recorded. `told` is what the record says beside who
    /// asked and how it was refused.
    fn direct<'a, A, E: From<Error>>(
        &'a self,
        caller: &'a Principal,
        ask: impl FnOnce() -> Result<A, E>,
        told: impl FnOnce(Option<&A>) -> Event<'a>,
    ) -> Result<A, E>
    where
        for<'e> Refusal<'e>: From<&'e E>,
    {
        self.log.reserve()?;
        let (answer, remote_calls) = elsewhere::collect(ask);
        let identity = self.source.identity(caller);
        self.log.record(&Event {
            caller: Some((caller, &identity)),
            remote_calls,
            error: answer.as_ref().err().map(Refusal::from),
            ..told(answer.as_ref().ok())
        })?;
        self.record_done();
        self.log.sync();
        answer
    }

    /// What KMS did by itself: it cannot be taken back, so that it is said here if it cannot be recorded.
    fn record_done(&self) {
        for (name, key_arn) in self.source.take_done() {
            let parameters = json!({"keyId": key_arn});
            let event = Event { parameters, key_arn: Some(key_arn.clone()), ..self.event(name) };
            if let Err(error) = self.log.record(&event) {
                log::error!("{name} of {key_arn} is not in the audit log: {}", error.message);
            }
        }
        for Outage { key_store, key_arn, why, lasted } in self.source.take_outages() {
            let name = if lasted.is_none() { "CustomKeyStoreAway" } else { "CustomKeyStoreBack" };
            let milliseconds = lasted.map(|lasted| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX));
            let parameters = json!({
                "customKeyStoreName": key_store,
                "keyId": key_arn,
                "reason": (!why.is_empty()).then_some(why),
                "milliseconds": milliseconds,
            });
            let provider = Some(key_store.clone());
            if let Err(error) = self.log.record(&Event { parameters, key_arn, provider, ..self.event(name) }) {
                log::error!("{name} of {key_store} is not in the audit log: {}", error.message);
            }
        }
    }

    /// Whether this refusal is new since keys were changed last.
    fn is_new(&self, caller: &Principal, key_arn: &str, operation: Operation) -> bool {
        let version = self.source.version_now();
        let mut refused = self.refused.lock();
        if refused.version != version || refused.known.len() >= REMEMBERED {
            *refused = Refused { version, known: HashSet::new() };
        }
        refused.known.insert(((caller.uid(), caller.access_key()), key_arn.to_owned(), operation))
    }
}

impl<K: Service + ?Sized> Service for Audited<K> {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        let ask = || self.kms.call(request, caller);
        self.direct(caller, ask, |answered| {
            let key_id = answered.and_then(Answer::key_arn).or_else(|| request.key_id());
            Event {
                response: answered.map_or(Value::Null, |answered| response(request, answered)),
                key_arn: key_id.and_then(|key_id| self.source.arn_of(key_id)),
                material_id: answered.and_then(Answer::material_id).map(str::to_owned),
                provider: key_id.and_then(|key_id| self.source.provider_of(key_id)),
                parameters: request.parameters(),
                ..self.event(request.name())
            }
        })
    }
}

/// IAM is one for all regions, and says the first of them.
impl<K: iam::Service + ?Sized> iam::Service for Audited<K> {
    fn call(&self, request: &iam::Request, caller: &Principal) -> Result<iam::Answer, iam::Error> {
        let ask = || self.kms.call(request, caller);
        self.direct(caller, ask, |answered| Event {
            source: Source::Iam,
            region: "us-east-1",
            parameters: request.parameters(),
            response: answered.map_or(Value::Null, iam::Answer::response_elements),
            ..self.event(request.name())
        })
    }
}

impl<K: Kms + ?Sized> Kms for Audited<K> {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let call =
            Call { name: "GenerateDataKey", key_id, parameters: parameters(key_id, context, Some("AES_256")), caller };
        let ask = || self.kms.generate_data_key(key_id, context, caller);
        self.call(call, ask, |made| {
            (made.map(|made| made.key_arn.clone()), made.map(|made| made.ciphertext_blob.clone()))
        })
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let call = Call { name: "Encrypt", key_id, parameters: parameters(key_id, context, None), caller };
        let ask = || self.kms.encrypt(key_id, plaintext, context, caller);
        self.call(call, ask, |made| made.cloned().unzip())
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error> {
        let call = Call { name: "Decrypt", key_id: key_arn, parameters: parameters(key_arn, context, None), caller };
        let ask = || self.kms.decrypt(key_arn, ciphertext_blob, context, caller);
        self.call(call, ask, |_| (None, Some(ciphertext_blob.to_vec())))
    }

    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error> {
        let call = Call { name: "DescribeKey", key_id, parameters: json!({"keyId": key_id}), caller };
        self.call(call, || self.kms.describe_key(key_id, caller), |arn| (arn.cloned(), None))
    }

    /// Recorded where it is refused, once for each user and change of keys: sweeping through open files asks for each.
    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        let answer = self.kms.authorize(key_id, operation, context, caller);
        match &answer {
            Err(error) if !error.is_outage() && self.is_new(caller, key_id, operation) => {
                let key_spec = (operation == Operation::GenerateDataKey).then_some("AES_256");
                let parameters = parameters(key_id, context, key_spec);
                self.call(Call { name: operation.name(), key_id, parameters, caller }, || answer, |_| (None, None))
            }
            _ => answer,
        }
    }

    fn authorize_here(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.kms.authorize_here(key_id, operation, context, caller)
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

    fn may_wait_for(&self, key_id: &str) -> bool {
        self.kms.may_wait_for(key_id) || self.log.may_wait()
    }

    fn version(&self) -> u64 {
        self.kms.version()
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        self.kms.providers()
    }

    fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }
}
