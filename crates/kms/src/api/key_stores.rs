//! Custom key stores: KMSs that are elsewhere, each behind a provider, and the keys that they keep.

use super::TimeForm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A call about custom key stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStoreRequest {
    /// Adds one, which is not connected yet.
    Create(NewKeyStore),
    /// Changes one that is not connected; its name also of one that is.
    Update {
        /// Which.
        id: String,
        /// What is to be something else from now on.
        change: KeyStoreChange,
    },
    /// Forgets one that is not connected.
    Delete {
        /// Which.
        id: String,
    },
    /// Lists them, or one of them.
    Describe {
        /// Which, by its id.
        id: Option<String>,
        /// Which, by its name.
        name: Option<String>,
    },
    /// Its keys can be used.
    Connect {
        /// Which.
        id: String,
    },
    /// Its keys cannot be used, from now on and on open files too.
    Disconnect {
        /// Which.
        id: String,
    },
}

/// A custom key store that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKeyStore {
    /// Of no other.
    pub name: String,
    /// `exec:` and a program's absolute path.
    pub provider: String,
    /// Keys that it keeps: ARNs, or beginnings of ARNs that end with `:` or `/`.
    pub key_arns: Vec<String>,
    /// The provider's own file: an absolute path.
    pub configuration: Option<String>,
    /// How it is asked.
    pub limits: KeyStoreLimits,
}

/// How a custom key store is asked, in seconds; what is not said is as it is for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct KeyStoreLimits {
    /// For how long a call is waited for.
    #[serde(default)]
    pub deadline: Option<u32>,
    /// How often it is found out whether a key in use can still be used.
    #[serde(default)]
    pub revalidate: Option<u32>,
    /// For how long it may be away until what is open ends, and for how long what was opened before is opened again
    /// meanwhile.
    #[serde(default)]
    pub offline: Option<u32>,
}

impl KeyStoreLimits {
    /// These, and where they say nothing the others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            deadline: self.deadline.or(others.deadline),
            revalidate: self.revalidate.or(others.revalidate),
            offline: self.offline.or(others.offline),
        }
    }

    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they say, by AWS's way of naming members.
    fn members(self) -> impl Iterator<Item = (&'static str, Option<Value>)> {
        let all = [("Deadline", self.deadline), ("Revalidate", self.revalidate), ("Offline", self.offline)];
        all.into_iter().map(|(name, seconds)| (name, seconds.map(|seconds| json!(seconds))))
    }
}

/// What an update changes; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // As in `NewKeyStore`.
pub struct KeyStoreChange {
    pub name: Option<String>,
    pub provider: Option<String>,
    pub key_arns: Option<Vec<String>>,
    pub configuration: Option<String>,
    pub limits: KeyStoreLimits,
}

/// A custom key store that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(missing_docs)] // As in `NewKeyStore`.
pub struct KeyStore {
    pub id: String,
    pub name: String,
    pub provider: String,
    pub key_arns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    #[serde(default, skip_serializing_if = "KeyStoreLimits::is_empty")]
    pub limits: KeyStoreLimits,
    /// Its keys can be used.
    pub connected: bool,
    /// Nanoseconds since 1970.
    pub created: i64,
}

impl KeyStoreRequest {
    /// AWS's name of the call.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "CreateCustomKeyStore",
            Self::Update { .. } => "UpdateCustomKeyStore",
            Self::Delete { .. } => "DeleteCustomKeyStore",
            Self::Describe { .. } => "DescribeCustomKeyStores",
            Self::Connect { .. } => "ConnectCustomKeyStore",
            Self::Disconnect { .. } => "DisconnectCustomKeyStore",
        }
    }

    /// What is not absent. Nothing of it is secret.
    pub(super) fn members(&self) -> Map<String, Value> {
        let (id, name, rest) = match self {
            Self::Create(new) => {
                let rest = (Some(&new.provider), Some(&new.key_arns), new.configuration.as_ref());
                (None, Some(&new.name), rest)
            }
            Self::Update { id, change } => {
                let rest = (change.provider.as_ref(), change.key_arns.as_ref(), change.configuration.as_ref());
                (Some(id), change.name.as_ref(), rest)
            }
            Self::Delete { id } | Self::Connect { id } | Self::Disconnect { id } => {
                (Some(id), None, (None, None, None))
            }
            Self::Describe { id, name } => (id.as_ref(), name.as_ref(), (None, None, None)),
        };
        let name_of_name =
            if matches!(self, Self::Update { .. }) { "NewCustomKeyStoreName" } else { "CustomKeyStoreName" };
        let limits = match self {
            Self::Create(NewKeyStore { limits, .. }) | Self::Update { change: KeyStoreChange { limits, .. }, .. } => {
                *limits
            }
            _ => KeyStoreLimits::default(),
        };
        let (provider, arns, configuration) = rest;
        let all = [
            ("CustomKeyStoreId", id.map(|id| json!(id))),
            (name_of_name, name.map(|name| json!(name))),
            ("Provider", provider.map(|provider| json!(provider))),
            ("KeyArns", arns.map(|arns| json!(arns))),
            ("Configuration", configuration.map(|configuration| json!(configuration))),
        ];
        let all = all.into_iter().chain(limits.members());
        all.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

impl KeyStore {
    /// As AWS describes an external key store, and with what kmsfs has for AWS's proxy.
    pub(super) fn to_json(&self, time: TimeForm) -> Value {
        let mut members = json!({
            "CustomKeyStoreId": self.id,
            "CustomKeyStoreName": self.name,
            "ConnectionState": if self.connected { "CONNECTED" } else { "DISCONNECTED" },
            "CreationDate": time.of(self.created),
            "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "Provider": self.provider,
            "KeyArns": self.key_arns,
        });
        if let Some(configuration) = &self.configuration {
            members["Configuration"] = json!(configuration);
        }
        for (name, seconds) in self.limits.members() {
            if let Some(seconds) = seconds {
                members[name] = seconds;
            }
        }
        members
    }
}
