//! Access keys: of a profile, of a command, or of the instance.

use crate::configuration::Invalid;
use crate::http::{Ask, Http, Tls};
use crate::retry::Failed;
use crate::secret::Secret;
use kmsfs_sigv4::SecretAccessKey;
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// Where access keys come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Credentials {
    /// A file as `~/.aws/credentials` is, or what a `credential_process` prints.
    Profile {
        /// The file, credential or command.
        source: Secret,
        /// Which profile of the file.
        #[serde(default = "default")]
        name: String,
    },
    /// The role of the EC2 instance, by IMDSv2.
    Instance {
        /// The metadata service; the instance's own, if it is not given.
        endpoint: Option<String>,
    },
}

fn default() -> String {
    "default".into()
}

pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret: SecretAccessKey,
    pub(super) token: Option<Zeroizing<String>>,
    expires: Option<OffsetDateTime>,
}

/// The access key that there is, until it ends or is not known any more.
pub(super) struct Kept {
    credentials: Credentials,
    metadata: Option<Http>,
    keys: Mutex<Option<Arc<Keys>>>,
}

/// As a `credential_process` and the metadata service have them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    #[serde(alias = "Token")]
    session_token: Option<Zeroizing<String>>,
    expiration: Option<String>,
}

impl Kept {
    pub(super) fn new(credentials: Credentials) -> Result<Self, Invalid> {
        let metadata = match &credentials {
            Credentials::Profile { .. } => None,
            Credentials::Instance { endpoint } => {
                let endpoint = endpoint.clone().unwrap_or_else(|| "http://169.254.169.254".into());
                Some(Http::new(&[endpoint], &Tls::default())?)
            }
        };
        Ok(Self { credentials, metadata, keys: Mutex::new(None) })
    }

    /// The access key. One that ends within minutes is replaced, where another one is to be had.
    pub(super) fn current(&self, timeout: Duration) -> Result<Arc<Keys>, Failed> {
        const EARLY: time::Duration = time::Duration::minutes(5);
        let mut kept = self.place(timeout)?;
        let now = OffsetDateTime::now_utc();
        if let Some(keys) = kept.as_ref().filter(|keys| keys.expires.is_none_or(|end| now + EARLY < end)) {
            return Ok(Arc::clone(keys));
        }
        match (self.read(timeout), kept.as_ref()) {
            (Ok(keys), _) => Ok(Arc::clone(kept.insert(Arc::new(keys)))),
            (Err(_), Some(old)) if old.expires.is_some_and(|end| now < end) => Ok(Arc::clone(old)),
            (Err(failed), _) => Err(failed),
        }
    }

    /// Another one than that, which is not known there any more.
    pub(super) fn after(&self, refused: &Arc<Keys>, timeout: Duration) -> Result<Arc<Keys>, Failed> {
        let mut kept = self.place(timeout)?;
        if let Some(newer) = kept.as_ref().filter(|newer| !Arc::ptr_eq(newer, refused)) {
            return Ok(Arc::clone(newer));
        }
        *kept = None;
        let keys = Arc::new(self.read(timeout)?);
        Ok(Arc::clone(kept.insert(keys)))
    }

    fn place(&self, timeout: Duration) -> Result<MutexGuard<'_, Option<Arc<Keys>>>, Failed> {
        let waits = || Failed::passing("another call is reading the access key, and takes its time");
        self.keys.try_lock_for(timeout).ok_or_else(waits)
    }

    fn read(&self, timeout: Duration) -> Result<Keys, Failed> {
        match (&self.credentials, &self.metadata) {
            (Credentials::Profile { source, name }, _) => {
                let text = source.read(timeout).map_err(Failed::lasting)?;
                let keys =
                    if text.trim_start().starts_with('{') { printed(text.as_bytes()) } else { profile(&text, name) };
                keys.ok_or_else(|| Failed::lasting(format!("{source}: no access key of profile {name} in it")))
            }
            (Credentials::Instance { .. }, Some(metadata)) => of_instance(metadata, Instant::now() + timeout),
            (Credentials::Instance { .. }, None) => unreachable!("it is made with the credentials"),
        }
    }
}

/// Lines `name = value` below `[profile]`.
fn profile(text: &str, name: &str) -> Option<Keys> {
    let is_head = |line: &str| line.starts_with('[');
    let mut lines = text.lines().map(str::trim);
    lines.by_ref().find(|line| {
        let inner = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        inner.is_some_and(|inner| inner.trim().trim_start_matches("profile ").trim() == name)
    })?;
    let pairs: Vec<_> = lines.take_while(|line| !is_head(line)).filter_map(|line| line.split_once('=')).collect();
    let value = |wanted: &str| {
        let of =
            |(name, value): &(&str, &str)| (name.trim() == wanted).then(|| Zeroizing::new(value.trim().to_owned()));
        pairs.iter().find_map(of).filter(|value| !value.is_empty())
    };
    let secret = SecretAccessKey::new(&value("aws_secret_access_key")?);
    let access_key_id = value("aws_access_key_id")?.to_string();
    Some(Keys { access_key_id, secret, token: value("aws_session_token"), expires: None })
}

fn printed(json: &[u8]) -> Option<Keys> {
    let Printed { access_key_id, secret_access_key, session_token, expiration } = serde_json::from_slice(json).ok()?;
    let expires = expiration.map(|text| OffsetDateTime::parse(&text, &Rfc3339)).transpose().ok()?;
    Some(Keys { access_key_id, secret: SecretAccessKey::new(&secret_access_key), token: session_token, expires })
}

/// IMDSv2: a token first, then the role's name, then its access key.
fn of_instance(metadata: &Http, until: Instant) -> Result<Keys, Failed> {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let ask = |method, path: &str, header: (&'static str, Zeroizing<String>)| {
        let timeout = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let answer = metadata.send(Ask { method, path, body: b"", timeout }, |_| Ok(vec![header]))?;
        match answer.status {
            200 => Ok(answer),
            status => Err(Failed::passing(format!("the instance's metadata: status {status} for {path}"))),
        }
    };
    let text = |bytes: &[u8]| Zeroizing::new(String::from_utf8_lossy(bytes).trim().to_owned());
    let hours = Zeroizing::new("21600".to_owned());
    let token = text(&ask("PUT", "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", hours))?.body);
    let with = || ("X-aws-ec2-metadata-token", token.clone());
    let role = text(&ask("GET", ROLES, with())?.body);
    let role = role.lines().next().unwrap_or_default().to_owned();
    let answer = ask("GET", &format!("{ROLES}{role}"), with())?;
    printed(&answer.body).ok_or_else(|| Failed::passing("the instance's metadata has no access key of a role"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_aws_reads_it() {
        let text = "[default]\naws_access_key_id = AKID\naws_secret_access_key=s=/+\n\n[profile b]\naws_session_token = t\n\
            aws_access_key_id=B\naws_secret_access_key = x\n";
        let keys = profile(text, "default").unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.token.is_none()), ("AKID", true));
        let keys = profile(text, "b").unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.token.unwrap().as_str()), ("B", "t"));
        assert!(profile(text, "c").is_none() && profile("[default]\n", "default").is_none());
    }

    #[test]
    fn what_a_command_prints_ends_when_it_says() {
        let json = br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-01-01T00:00:00Z"}"#;
        let keys = printed(json).unwrap();
        assert_eq!(keys.expires.unwrap().unix_timestamp(), 1_767_225_600);
        assert!(printed(b"{}").is_none());
    }
}
