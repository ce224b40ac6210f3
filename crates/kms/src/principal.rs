//! On whose behalf a key is used.

use crate::Caller;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who asks: a process of this machine, or whoever signed a request with an access key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A process that makes a system call in a mount, or a command.
    Process(Caller),
    /// A request that was signed with an access key.
    Request(SignedRequest),
}

/// A request that was signed, and whose signature was found to be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedRequest {
    /// The one that it was signed with.
    pub access_key: AccessKeyId,
    /// The Linux user whose access key it is, and the group of that user's entry in passwd(5).
    pub uid: u32,
    /// The group of the user's entry.
    pub gid: u32,
    /// Where it came from; `None` if not over a network.
    pub source: Option<IpAddr>,
    /// What the client calls itself, for the audit trail. It proves nothing.
    pub user_agent: Option<Arc<str>>,
}

/// The id of an access key: 20 letters and digits. The id is no secret. It serializes as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessKeyId([u8; 20]);

impl AccessKeyId {
    /// `None` for what no access key's id looks like.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
        let is_legal = bytes.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        is_legal.then_some(Self(bytes))
    }
}

impl TryFrom<String> for AccessKeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an access key's id has 20 letters and digits")
    }
}

impl From<AccessKeyId> for String {
    fn from(id: AccessKeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Principal {
    /// The Linux user who asks, or who is behind the access key.
    pub fn uid(&self) -> u32 {
        match self {
            Self::Process(caller) => caller.uid,
            Self::Request(request) => request.uid,
        }
    }

    /// The group of the process, or of the user's entry.
    pub fn gid(&self) -> u32 {
        match self {
            Self::Process(caller) => caller.gid,
            Self::Request(request) => request.gid,
        }
    }

    /// The process that asks; whoever signs a request has none here.
    pub fn process(&self) -> Option<&Caller> {
        match self {
            Self::Process(caller) => Some(caller),
            Self::Request(_) => None,
        }
    }

    /// Of a signed request.
    pub fn request(&self) -> Option<&SignedRequest> {
        match self {
            Self::Process(_) => None,
            Self::Request(request) => Some(request),
        }
    }

    /// The one that a request was signed with.
    pub fn access_key(&self) -> Option<AccessKeyId> {
        self.request().map(|request| request.access_key)
    }
}

impl From<Caller> for Principal {
    fn from(caller: Caller) -> Self {
        Self::Process(caller)
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self::Process(*caller)
    }
}

impl From<&Principal> for Principal {
    fn from(principal: &Principal) -> Self {
        principal.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_has_twenty_letters_and_digits() {
        let text = "AKIAIOSFODNN7EXAMPLE";
        assert_eq!(AccessKeyId::parse(text).unwrap().to_string(), text);
        for bad in ["", "AKIA", "akiaiosfodnn7example", "AKIAIOSFODNN7EXAMPL\n", "AKIAIOSFODNN7EXAMPLE0"] {
            assert_eq!(AccessKeyId::parse(bad), None, "{bad:?}");
        }
    }
}
