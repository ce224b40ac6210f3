//! The transit secrets engine of Vault and OpenBao.
//!
//! The encryption context is bound to a blob as `associated_data`, in its canonical form. Blobs are the engine's own
//! ciphertexts (`vault:v1:…`): its keys rotate there, and older versions open until `min_decryption_version` says
//! otherwise. Its rewrap fails with associated data, so wrapping anew is decrypting and encrypting.

mod answers;
mod tokens;

use crate::configuration::{Invalid, Needs};
use crate::context::canonical;
use crate::http::{Answer, Ask, Http, Tls};
use crate::names::{KeyNames, not_found};
use crate::retry::{Failed, longest, tries};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::{Code, EncryptionContext, Error};
use kmsfs_kms_remote::protocol::{Call, Reply, Trace};
use kmsfs_kms_remote::{Backend, Identity};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokens::{Token, Tokens};
use zeroize::Zeroizing;

/// Where it is, and as whom it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// `https://HOST:PORT`, each of one cluster; the next one is asked where one is away.
    pub endpoints: Vec<String>,
    /// Certificates of the authorities that are trusted, in PEM; the system's if it is not given.
    pub ca_file: Option<PathBuf>,
    /// Of Vault Enterprise and OpenBao.
    pub namespace: Option<String>,
    /// Where the transit engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// How a token is had.
    pub auth: Auth,
    /// Names of transit keys by ARN; a key without a place here is called as its ARN ends.
    #[serde(default)]
    pub keys: KeyNames,
    /// Seconds of a try, 1 to 60; 2 if it is not given.
    pub timeout: Option<u64>,
}

/// How a token is had.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// It is there, from whoever keeps it fresh (an agent).
    Token(Secret),
    /// By AppRole.
    #[serde(rename = "approle")]
    AppRole {
        /// Where that method is mounted.
        #[serde(default = "approle")]
        mount: String,
        /// No secret.
        role_id: String,
        /// Read at each login.
        secret_id: Secret,
    },
    /// By a TLS certificate.
    Certificate {
        /// Where that method is mounted.
        #[serde(default = "cert")]
        mount: String,
        /// Which of its roles; any that fits, if it is not given.
        role: Option<String>,
        /// The chain, in PEM.
        certificate_file: PathBuf,
        /// The private key, in PEM.
        key: Secret,
    },
}

fn transit() -> String {
    "transit".into()
}

fn approle() -> String {
    "approle".into()
}

fn cert() -> String {
    "cert".into()
}

impl Configuration {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let of_auth = match &self.auth {
            Auth::Token(_) => "token",
            Auth::AppRole { mount, .. } | Auth::Certificate { mount, .. } => mount,
        };
        let is_path = |path: &str| {
            let part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            path.split('/').all(|name| !name.is_empty() && name != "." && name != ".." && part(name))
        };
        if let Some(wrong) = [self.mount.as_str(), of_auth].into_iter().find(|mount| !is_path(mount)) {
            return Err(Invalid(format!("'{wrong}' is nothing that an engine is mounted at: transit, or a/b")));
        }
        match self.keys.wrong() {
            Some(wrong) => Err(Invalid(format!("'{wrong}' is no name of a transit key"))),
            None => Ok(()),
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs { network: true, ..Needs::default() };
        needs.files.extend(self.ca_file.clone());
        match &self.auth {
            Auth::Token(secret) | Auth::AppRole { secret_id: secret, .. } => needs.secret(secret),
            Auth::Certificate { certificate_file, key, .. } => {
                needs.files.push(certificate_file.clone());
                needs.secret(key);
            }
        }
        needs
    }
}

/// The backend.
pub struct Vault {
    http: Http,
    namespace: Option<String>,
    mount: String,
    keys: KeyNames,
    tokens: Tokens,
    /// Of a try.
    longest: Duration,
}

#[derive(Serialize)]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    associated_data: String,
}

impl Parameters<'_> {
    fn of(context: &EncryptionContext) -> Self {
        Self { plaintext: None, ciphertext: None, associated_data: STANDARD.encode(canonical(context)) }
    }

    fn body(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Zeroizing::new(Vec::with_capacity(64 << 10));
        serde_json::to_writer(&mut *body, self).expect("strings and numbers are JSON");
        body
    }
}

impl Vault {
    /// One by that configuration; nobody is asked yet.
    ///
    /// # Errors
    ///
    /// An endpoint is none, or a file of TLS cannot be read.
    pub fn new(configuration: Configuration) -> Result<Self, Invalid> {
        configuration.check()?;
        let Configuration { endpoints, ca_file, namespace, mount, auth, keys, timeout } = configuration;
        let longest = longest(timeout)?;
        let mut tls = Tls { ca_file, ..Tls::default() };
        if let Auth::Certificate { certificate_file, key, .. } = &auth {
            tls.certificate_file = Some(certificate_file.clone());
            tls.key = Some(key.clone());
        }
        let http = Http::new(&endpoints, &tls)?;
        Ok(Self { http, namespace, mount, keys, tokens: Tokens::new(auth), longest })
    }

    fn send(&self, token: Option<&Token>, ask: Ask<'_>) -> Result<Answer, Failed> {
        self.http.send(ask, |_| {
            let mut headers = vec![("X-Vault-Request", Zeroizing::new("true".to_owned()))];
            headers.extend(token.map(|token| ("X-Vault-Token", token.text.clone())));
            headers.extend(self.namespace.clone().map(|name| ("X-Vault-Namespace", Zeroizing::new(name))));
            Ok(headers)
        })
    }

    /// Asks with a token that is valid, if one can be had. Permission is denied to a token that has ended as well as to
    /// one that may not: it is a refusal only of a token that is known there.
    fn ask(&self, method: &str, path: &str, body: &[u8], timeout: Duration) -> Result<Answer, Failed> {
        let until = Instant::now() + timeout;
        let ask = |path, body| {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            Ask { method, path, body, timeout: left }
        };
        let token = self.tokens.current(self, until)?;
        let answer = self.send(Some(&token), ask(path, body))?;
        if answer.status != 403 || self.is_known(&token, until)? {
            return Ok(answer);
        }
        let fresh = self.tokens.after(&token, self, until)?;
        let answer = self.send(Some(&fresh), ask(path, body))?;
        if answer.status == 403 && !fresh.issued_here && !self.is_known(&fresh, until)? {
            return Err(Failed::lasting(
                "the token is not valid: it has expired or was revoked, and there is no newer one",
            ));
        }
        Ok(answer)
    }

    fn is_known(&self, token: &Token, until: Instant) -> Result<bool, Failed> {
        let timeout = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let answer = self.send(Some(token), Ask { method: "GET", path: LOOKUP, body: b"", timeout })?;
        match answer.status {
            200 => Ok(true),
            403 => Ok(false),
            _ => Err(answers::failure(&answer, "")),
        }
    }

    /// One of the engine's operations on a key.
    fn operate<T: for<'a> Deserialize<'a>>(
        &self,
        operation: &str,
        key_id: &str,
        parameters: &Parameters<'_>,
        (timeout, trace): (Duration, &mut Trace),
    ) -> Result<T, Error> {
        let path = format!("/v1/{}/{operation}/{}", self.mount, self.keys.name_of(key_id)?);
        let body = parameters.body();
        tries((self.longest, timeout), trace, |timeout, trace| {
            answers::data(&self.ask("POST", &path, &body, timeout)?, key_id, trace)
        })
    }

    fn key(&self, key_id: &str, timeout: Duration, trace: &mut Trace) -> Result<answers::Key, Error> {
        let path = format!("/v1/{}/keys/{}", self.mount, self.keys.name_of(key_id)?);
        tries((self.longest, timeout), trace, |timeout, trace| {
            let answer = self.ask("GET", &path, b"", timeout)?;
            if answer.status == 404 && answers::errors(&answer).is_empty() {
                return Err(not_found(key_id).into());
            }
            answers::data(&answer, key_id, trace)
        })
    }

    /// Encrypting under a name that no key has makes a key there, for whoever may create one: another one than was
    /// meant.
    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &[u8],
        context: &EncryptionContext,
        (timeout, trace): (Duration, &mut Trace),
    ) -> Result<String, Error> {
        let until = Instant::now() + timeout;
        match self.key(key_id, timeout, trace) {
            // Whoever may not read keys may hardly create them.
            Err(denied) if denied.code == Code::AccessDenied => {}
            read => drop(read?),
        }
        let plaintext = Zeroizing::new(STANDARD.encode(plaintext));
        let parameters = Parameters { plaintext: Some(&plaintext), ..Parameters::of(context) };
        let left = until.saturating_duration_since(Instant::now());
        self.operate::<answers::Encrypted>("encrypt", key_id, &parameters, (left, trace)).map(|data| data.ciphertext)
    }

    fn status(&self, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        let health = tries((self.longest, timeout), trace, |timeout, _| {
            // It has a status of its own for each state.
            let path = "/v1/sys/health?standbyok=true&sealedcode=200&uninitcode=200";
            self.send(None, Ask { method: "GET", path, body: b"", timeout })?.json::<answers::Health>()
        })?;
        let mut members = serde_json::Map::new();
        members.insert("Sealed".into(), health.sealed.into());
        members.insert("ServerVersion".into(), health.version.into());
        let here = time::OffsetDateTime::now_utc().unix_timestamp();
        members.insert("ClockSkewSeconds".into(), (here - health.server_time_utc).into());
        let token = tries((self.longest, timeout), trace, |timeout, trace| {
            answers::data::<answers::Token>(&self.ask("GET", LOOKUP, b"", timeout)?, "", trace)
        });
        match token {
            Ok(token) => {
                members.insert("Identity".into(), token.display_name.into());
                members.insert("Policies".into(), token.policies.into());
                members.insert("TokenSeconds".into(), token.ttl.into());
            }
            Err(error) => drop(members.insert("IdentityError".into(), error.to_string().into())),
        }
        Ok(Reply::Status(members))
    }
}

pub(crate) const LOOKUP: &str = "/v1/auth/token/lookup-self";

impl Backend for Vault {
    fn identity(&self) -> Identity {
        Identity { provider: "vault".into(), endpoint: self.http.name() }
    }

    fn call(&self, call: &Call, timeout: Duration, trace: &mut Trace) -> Result<Reply, Error> {
        match call {
            Call::GenerateDataKey { key_id, context } => {
                // Not by datakey/plaintext: Vault's takes no associated data, and passes over what it does not know.
                let plaintext = SecretKey::random();
                let bytes = plaintext.duplicate().into_plaintext();
                let ciphertext_blob = answers::blob(self.encrypt(key_id, &bytes, context, (timeout, trace))?)?;
                Ok(Reply::DataKey { key_id: key_id.clone(), plaintext, ciphertext_blob })
            }
            Call::Encrypt { key_id, plaintext, context } => {
                let ciphertext = self.encrypt(key_id, plaintext, context, (timeout, trace))?;
                Ok(Reply::Encrypted { key_id: key_id.clone(), ciphertext_blob: answers::blob(ciphertext)? })
            }
            Call::Decrypt { key_id, ciphertext_blob, context } => {
                let text = std::str::from_utf8(ciphertext_blob).ok().filter(|text| text.starts_with("vault:v"));
                let ciphertext = Some(text.ok_or_else(Error::invalid_ciphertext)?);
                let parameters = Parameters { ciphertext, ..Parameters::of(context) };
                let data: answers::Decrypted = self.operate("decrypt", key_id, &parameters, (timeout, trace))?;
                Ok(Reply::Decrypted { key_id: key_id.clone(), plaintext: answers::decoded(&data.plaintext)? })
            }
            Call::DescribeKey { key_id } => {
                let key = self.key(key_id, timeout, trace)?;
                let key_state = if key.soft_deleted { "PendingDeletion" } else { "Enabled" }.to_owned();
                Ok(Reply::Key { key_id: key_id.clone(), key_state, description: Some(key.name) })
            }
            Call::Status => self.status(timeout, trace),
            Call::ReEncrypt { .. } => {
                Err(Error::new(Code::UnsupportedOperation, "Its rewrap does not know associated data."))
            }
            Call::Hello { .. } => Err(Error::new(Code::UnsupportedOperation, "")),
        }
    }
}
