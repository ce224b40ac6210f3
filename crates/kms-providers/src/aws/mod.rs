//! AWS KMS, and what speaks as it does.
//!
//! Keys, contexts and blobs are passed on as they are: what kmsfs wraps, `aws kms decrypt` opens, and CloudTrail there
//! shows which object was asked for. An answer that names another key than was asked for is none.

mod answers;
mod credentials;

use crate::configuration::{Invalid, Needs};
use crate::http::{Answer, Ask, Http, Tls};
use crate::retry::{Failed, longest, tries};
use answers::Wrong;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credentials::{Kept, Keys};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, EncryptionContext, Error};
use kmsfs_kms_remote::protocol::{Call, Reply, Trace};
use kmsfs_kms_remote::{Backend, Identity};
use kmsfs_sigv4::{Request, Signer};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use credentials::Credentials;

/// Where it is, and as whom it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Of the keys: `eu-central-1`.
    pub region: String,
    /// `https://HOST`, each of that region; AWS's own, if none is given.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Certificates of the authorities that are trusted, in PEM; the system's if it is not given.
    pub ca_file: Option<PathBuf>,
    /// As whom.
    pub credentials: Credentials,
    /// Seconds of a try, 1 to 60; 2 if it is not given.
    pub timeout: Option<u64>,
}

impl Configuration {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.region.is_empty() || !self.region.bytes().all(plain) {
            return Err(Invalid(format!("'{}' is no region: eu-central-1", self.region)));
        }
        Ok(())
    }

    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs { network: true, ..Needs::default() };
        needs.files.extend(self.ca_file.clone());
        if let Credentials::Profile { source, .. } = &self.credentials {
            needs.secret(source);
        }
        needs
    }
}

/// The backend.
pub struct Aws {
    http: Http,
    region: String,
    keys: Kept,
    /// Of a try.
    longest: Duration,
    /// Seconds by which the clock there is ahead of the one here, once a signature was refused for that.
    skew: AtomicI64,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_spec: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_context: Option<&'a EncryptionContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_encryption_context: Option<&'a EncryptionContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_encryption_context: Option<&'a EncryptionContext>,
}

impl Aws {
    /// One by that configuration; nobody is asked yet.
    ///
    /// # Errors
    ///
    /// An endpoint is none, or the file of authorities cannot be read.
    pub fn new(configuration: Configuration) -> Result<Self, Invalid> {
        configuration.check()?;
        let Configuration { region, mut endpoints, ca_file, credentials, timeout } = configuration;
        if endpoints.is_empty() {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            endpoints.push(format!("https://kms.{region}.{domain}"));
        }
        let http = Http::new(&endpoints, &Tls { ca_file, ..Tls::default() })?;
        Ok(Self { http, region, keys: Kept::new(credentials)?, longest: longest(timeout)?, skew: AtomicI64::new(0) })
    }

    /// The answer to the operation, and what of it is not a refusal of the key's use is an outage.
    fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        operation: &str,
        parameters: &Parameters<'_>,
        (timeout, trace): (Duration, &mut Trace),
    ) -> Result<T, Error> {
        let mut body = Zeroizing::new(Vec::with_capacity(64 << 10));
        serde_json::to_writer(&mut *body, parameters).expect("strings are JSON");
        tries((self.longest, timeout), trace, |timeout, trace| {
            let until = Instant::now() + timeout;
            let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let keys = self.keys.current(left())?;
            let answer = self.send(operation, &body, &keys, left(), trace)?;
            match answers::read(&answer) {
                Err(Wrong::Identity(_)) => {
                    // Once more, with what is there now.
                    self.look_at_the_clock(&answer);
                    let fresh = self.keys.after(&keys, left())?;
                    let answer = self.send(operation, &body, &fresh, left(), trace)?;
                    answers::read(&answer).map_err(Wrong::into_failed)
                }
                other => other.map_err(Wrong::into_failed),
            }
        })
    }

    fn send(
        &self,
        operation: &str,
        body: &[u8],
        keys: &Keys,
        timeout: Duration,
        trace: &mut Trace,
    ) -> Result<Answer, Failed> {
        let target = format!("TrentService.{operation}");
        let answer = self.http.send(Ask { method: "POST", path: "/", body, timeout }, |host| {
            let mut signed = vec![("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", &target)];
            signed.extend(keys.token.as_ref().map(|token| ("X-Amz-Security-Token", token.as_str())));
            let with_host: Vec<_> = signed.iter().copied().chain([("Host", host)]).collect();
            let headers: Vec<_> = with_host.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            let request = Request { method: "POST", path: b"/", query: b"", headers: &headers };
            let (access_key_id, secret, region) = (keys.access_key_id.as_str(), &keys.secret, self.region.as_str());
            let signer = Signer { access_key_id, secret, region, service: "kms" };
            let now = OffsetDateTime::now_utc() + time::Duration::seconds(self.skew.load(Ordering::Relaxed));
            let made = signer
                .sign(&request, body, now)
                .map_err(|_| Failed::lasting("the access key is no text for a header"))?;
            let owned = |value: &str| Zeroizing::new(value.to_owned());
            let mut all: Vec<_> =
                signed.iter().filter_map(|(name, value)| Some((known(name)?, owned(value)))).collect();
            all.extend(made.map(|(name, value)| (name, Zeroizing::new(value))));
            Ok(all)
        })?;
        trace.request_id = answer.header("x-amzn-requestid").map(str::to_owned);
        Ok(answer)
    }

    /// Signatures are of a few minutes. A clock here that is wrong is put right for them by what the answer says.
    fn look_at_the_clock(&self, answer: &Answer) {
        const MUCH: i64 = 60;
        let Some(date) = answer.date() else { return };
        let skew = (date - OffsetDateTime::now_utc()).whole_seconds();
        if (skew - self.skew.load(Ordering::Relaxed)).abs() > MUCH {
            log::warn!(
                "the clock here is {} seconds behind that of {}; signatures go by that one",
                skew,
                self.http.name()
            );
            self.skew.store(skew, Ordering::Relaxed);
        }
    }

    fn status(&self, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        let mut members = serde_json::Map::new();
        // Whatever the answer is, it has a date.
        let answer = tries((self.longest, timeout), trace, |timeout, trace| {
            let keys = self.keys.current(timeout)?;
            let answer = self.send("ListKeys", b"{\"Limit\":1}", &keys, timeout, trace)?;
            self.look_at_the_clock(&answer);
            members.insert("AccessKeyId".into(), keys.access_key_id.as_str().into());
            Ok(answer)
        })?;
        if let Some(date) = answer.date() {
            members.insert("ClockSkewSeconds".into(), (OffsetDateTime::now_utc() - date).whole_seconds().into());
        }
        if let Err(Wrong::Identity(failed)) = answers::read::<serde_json::Value>(&answer) {
            members.insert("IdentityError".into(), failed.error.to_string().into());
        }
        Ok(Reply::Status(members))
    }
}

/// The header's name, as one that lives as long as the program.
fn known(name: &str) -> Option<&'static str> {
    ["Content-Type", "X-Amz-Target", "X-Amz-Security-Token"].into_iter().find(|known| *known == name)
}

impl Backend for Aws {
    fn identity(&self) -> Identity {
        Identity { provider: "aws".into(), endpoint: self.http.name() }
    }

    fn call(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        let until = Instant::now() + timeout;
        self.check_region(call)?;
        self.carry_out(call, timeout, trace).map_err(|error| match error.code {
            Code::KmsInvalidState => self.explain(call, error, until.saturating_duration_since(Instant::now())),
            _ => error,
        })
    }
}

/// States in which a key cannot be used because somebody there has decided so.
const TAKEN_AWAY: [&str; 4] = ["Disabled", "PendingDeletion", "PendingReplicaDeletion", "PendingImport"];

impl Aws {
    /// A key of another region is none of this one's, whatever has the same id here.
    fn check_region(&self, call: &Call) -> Result<(), Error> {
        let source = if let Call::ReEncrypt { source_key_id, .. } = call { Some(source_key_id.as_str()) } else { None };
        let region = |key_id: &str| key_id.strip_prefix("arn:")?.split(':').nth(2).map(str::to_owned);
        let wrong = [source, call.key_id()].into_iter().flatten().filter_map(region).find(|it| *it != self.region);
        wrong.map_or(Ok(()), |wrong| {
            let text = format!("The key is of the region {wrong}, and this provider asks {} alone.", self.region);
            Err(Error::new(Code::KeyUnavailable, text))
        })
    }

    /// KMSInvalidStateException is said of a key that is to be deleted, and as well of one whose custom key store or
    /// HSM is away, or that is just being made. What is not known to be the first is an outage.
    fn explain(&self, call: &Call, error: Error, timeout: Duration) -> Error {
        let source = if let Call::ReEncrypt { source_key_id, .. } = call { Some(source_key_id.as_str()) } else { None };
        let mut states = Vec::new();
        for key_id in [source, call.key_id()].into_iter().flatten() {
            match self.describe(key_id, (timeout, &mut Trace::default())) {
                Ok(described) if TAKEN_AWAY.contains(&described.key_state.as_str()) => return error,
                Ok(described) => states.push(described.key_state),
                // Whoever may not ask for the state has the message alone.
                Err(denied) if !denied.is_outage() && error.message.contains("pending ") => return error,
                Err(_) => {}
            }
        }
        let text = format!("The key is there, and cannot be used now ({}): {}", states.join(", "), error.message);
        Error::new(Code::KeyUnavailable, text)
    }

    fn describe(&self, key_id: &str, within: (Duration, &mut Trace)) -> Result<answers::Metadata, Error> {
        let parameters = Parameters { key_id: Some(key_id), ..Parameters::default() };
        let answers::Described { key_metadata } = self.ask("DescribeKey", &parameters, within)?;
        let arn = answers::same(key_metadata.arn, key_id)?;
        Ok(answers::Metadata { arn, ..key_metadata })
    }

    fn carry_out(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        match call {
            Call::GenerateDataKey { key_id, context } => {
                let (key_spec, encryption_context) = (Some("AES_256"), Some(context));
                let parameters =
                    Parameters { key_id: Some(key_id), key_spec, encryption_context, ..Parameters::default() };
                let keyed: answers::Keyed = self.ask("GenerateDataKey", &parameters, (timeout, trace))?;
                let (plaintext, ciphertext_blob) = (keyed.plaintext()?, keyed.blob()?);
                let plaintext = SecretKey::from_plaintext(&plaintext).ok_or_else(answers::no_answer)?;
                Ok(Reply::DataKey { key_id: keyed.of(key_id)?, plaintext, ciphertext_blob })
            }
            Call::Encrypt { key_id, plaintext, context } => {
                let plaintext = Zeroizing::new(STANDARD.encode(plaintext));
                let (plaintext, encryption_context) = (Some(plaintext.as_str()), Some(context));
                let parameters =
                    Parameters { key_id: Some(key_id), plaintext, encryption_context, ..Parameters::default() };
                let keyed: answers::Keyed = self.ask("Encrypt", &parameters, (timeout, trace))?;
                Ok(Reply::Encrypted { ciphertext_blob: keyed.blob()?, key_id: keyed.of(key_id)? })
            }
            Call::Decrypt { key_id, ciphertext_blob, context } => {
                let (blob, encryption_context) = (Some(STANDARD.encode(ciphertext_blob)), Some(context));
                let parameters = Parameters {
                    key_id: Some(key_id),
                    ciphertext_blob: blob,
                    encryption_context,
                    ..Parameters::default()
                };
                let keyed: answers::Keyed = self.ask("Decrypt", &parameters, (timeout, trace))?;
                Ok(Reply::Decrypted { plaintext: keyed.plaintext()?, key_id: keyed.of(key_id)? })
            }
            Call::ReEncrypt {
                source_key_id,
                ciphertext_blob,
                source_context,
                destination_key_id,
                destination_context,
            } => {
                let parameters = Parameters {
                    ciphertext_blob: Some(STANDARD.encode(ciphertext_blob)),
                    source_key_id: Some(source_key_id),
                    source_encryption_context: Some(source_context),
                    destination_key_id: Some(destination_key_id),
                    destination_encryption_context: Some(destination_context),
                    ..Parameters::default()
                };
                let keyed: answers::Keyed = self.ask("ReEncrypt", &parameters, (timeout, trace))?;
                Ok(Reply::Encrypted { ciphertext_blob: keyed.blob()?, key_id: keyed.of(destination_key_id)? })
            }
            Call::DescribeKey { key_id } => {
                let answers::Metadata { arn, key_state, description } = self.describe(key_id, (timeout, trace))?;
                Ok(Reply::Key { key_id: arn, key_state, description: Some(description) })
            }
            Call::Status => self.status(timeout, trace),
            Call::Hello { .. } => Err(Error::new(Code::UnsupportedOperation, "")),
        }
    }
}
