//! Access keys, which AWS IAM keeps: its calls as values.

use crate::policy::Unknown;
use crate::{AccessKeyId, Principal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

/// One call, with AWS's names of operations and parameters. Nothing in it is secret.
///
/// It serializes as CloudTrail's `requestParameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Request {
    /// Makes one, with a new secret.
    CreateAccessKey {
        /// Whose it is.
        user_name: String,
    },
    /// Of all users where none is named.
    ListAccessKeys {
        #[serde(skip_serializing_if = "Option::is_none")]
        /// Whose.
        user_name: Option<String>,
    },
    /// Says whether it is accepted.
    UpdateAccessKey {
        /// Whose it has to be.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_name: Option<String>,
        /// Which.
        access_key_id: String,
        /// What it is to be.
        status: Status,
    },
    /// Forgets it.
    DeleteAccessKey {
        /// Whose it has to be.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_name: Option<String>,
        /// Which.
        access_key_id: String,
    },
}

/// Whether requests that are signed with an access key are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// They are.
    Active,
    /// They are not, for now.
    Inactive,
}

/// The answer to a [`Request`].
pub enum Answer {
    /// It is done, and there is nothing to say.
    Done,
    /// To CreateAccessKey.
    Created(NewAccessKey),
    /// To ListAccessKeys.
    AccessKeys(Vec<AccessKey>),
}

/// What is told of an access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The Linux user whose it is.
    pub user_name: String,
    /// What requests name it by.
    pub id: AccessKeyId,
    /// Whether it is accepted.
    pub status: Status,
    /// Nanoseconds since 1970.
    pub created: i64,
}

/// An access key with its secret, which is told this once.
pub struct NewAccessKey {
    /// What is told of it later too.
    pub key: AccessKey,
    /// 40 characters.
    pub secret: Zeroizing<String>,
}

/// An AWS IAM error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Error {
    /// Which error of AWS's it is.
    pub code: Code,
    /// In AWS's words, for whoever asked.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// AWS's errors of IAM.
pub enum Code {
    /// The caller may not do that with that user's access keys.
    AccessDenied,
    /// The user has as many as there may be.
    LimitExceeded,
    /// There is no such user, or access key.
    NoSuchEntity,
    /// The keyring or the user database could not be asked.
    ServiceFailure,
}

/// An IAM that keeps access keys.
pub trait Service: Send + Sync {
    /// Makes the call on behalf of the caller.
    ///
    /// # Errors
    ///
    /// AWS's error for it: a refusal, or `ServiceFailure`, after which the call may be made again.
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error>;
}

impl Request {
    /// AWS's name of the call.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateAccessKey { .. } => "CreateAccessKey",
            Self::ListAccessKeys { .. } => "ListAccessKeys",
            Self::UpdateAccessKey { .. } => "UpdateAccessKey",
            Self::DeleteAccessKey { .. } => "DeleteAccessKey",
        }
    }

    /// CloudTrail's `requestParameters`, an object.
    pub fn parameters(&self) -> Value {
        serde_json::to_value(self).expect("texts can be serialized")
    }

    /// Whose access keys it is about, where that is said.
    pub fn user_name(&self) -> Option<&str> {
        match self {
            Self::CreateAccessKey { user_name } => Some(user_name),
            Self::ListAccessKeys { user_name }
            | Self::UpdateAccessKey { user_name, .. }
            | Self::DeleteAccessKey { user_name, .. } => user_name.as_deref(),
        }
    }
}

impl Status {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
        }
    }
}

impl Answer {
    /// As `aws iam` prints it; `None` where the answer is empty.
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Done => return None,
            Self::Created(NewAccessKey { key, secret }) => json!({"AccessKey": {
                "UserName": key.user_name,
                "AccessKeyId": key.id.to_string(),
                "Status": key.status.name(),
                "SecretAccessKey": secret.as_str(),
                "CreateDate": date(key.created),
            }}),
            Self::AccessKeys(keys) => {
                let entry = |key: &AccessKey| {
                    json!({
                        "UserName": key.user_name,
                        "AccessKeyId": key.id.to_string(),
                        "Status": key.status.name(),
                        "CreateDate": date(key.created),
                    })
                };
                json!({"AccessKeyMetadata": keys.iter().map(entry).collect::<Vec<_>>()})
            }
        })
    }

    /// CloudTrail's `responseElements`: no secret is in it.
    pub fn response_elements(&self) -> Value {
        match self {
            Self::Done | Self::AccessKeys(_) => Value::Null,
            Self::Created(NewAccessKey { key, secret: _ }) => json!({"accessKey": {
                "userName": key.user_name,
                "accessKeyId": key.id.to_string(),
                "status": key.status.name(),
                "createDate": date(key.created),
            }}),
        }
    }
}

/// IAM has whole seconds.
fn date(nanoseconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+00:00");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds));
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default()
}

impl Code {
    /// AWS's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::LimitExceeded => "LimitExceeded",
            Self::NoSuchEntity => "NoSuchEntity",
            Self::ServiceFailure => "ServiceFailure",
        }
    }
}

impl Error {
    /// An error with that message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// There is no user of that name.
    pub fn no_such_user(name: &str) -> Self {
        Self::new(Code::NoSuchEntity, format!("The user with name {name} cannot be found."))
    }

    /// There is no access key with that id, or it is another user's.
    pub fn no_such_access_key(id: &str) -> Self {
        Self::new(Code::NoSuchEntity, format!("The Access Key with id {id} cannot be found."))
    }
}

/// What keeps the keys has failed, and not the call.
impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::new(Code::ServiceFailure, error.message)
    }
}

impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Self {
        Self::new(Code::ServiceFailure, unknown.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AccessKey {
        AccessKey {
            user_name: "bob".into(),
            id: AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").unwrap(),
            status: Status::Active,
            created: 1_700_000_000_999_999_999,
        }
    }

    #[test]
    fn answers_are_those_of_aws_and_only_the_caller_is_told_the_secret() {
        let secret = Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let created = Answer::Created(NewAccessKey { key: key(), secret });
        let printed = r#"{"AccessKey":{"UserName":"bob","AccessKeyId":"AKIAIOSFODNN7EXAMPLE","Status":"Active","#;
        let secret = r#""SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","#;
        let date = r#""CreateDate":"2023-11-14T22:13:20+00:00"}}"#;
        assert_eq!(created.to_json().unwrap().to_string(), [printed, secret, date].concat());
        let recorded = r#"{"accessKey":{"userName":"bob","accessKeyId":"AKIAIOSFODNN7EXAMPLE","status":"Active","#;
        let date = r#""createDate":"2023-11-14T22:13:20+00:00"}}"#;
        assert_eq!(created.response_elements().to_string(), [recorded, date].concat());
        let listed = Answer::AccessKeys(vec![key()]).to_json().unwrap();
        assert_eq!(listed["AccessKeyMetadata"][0].get("SecretAccessKey"), None);
        assert_eq!(listed["AccessKeyMetadata"][0]["AccessKeyId"], "AKIAIOSFODNN7EXAMPLE");
        assert!(Answer::Done.to_json().is_none());
    }

    #[test]
    fn parameters_are_cloudtrails() {
        let request = Request::UpdateAccessKey {
            user_name: None,
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            status: Status::Inactive,
        };
        let expected = json!({"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "status": "Inactive"});
        assert_eq!((request.parameters(), request.user_name()), (expected, None));
        let request = Request::CreateAccessKey { user_name: "bob".into() };
        assert_eq!((request.parameters(), request.user_name()), (json!({"userName": "bob"}), Some("bob")));
    }
}
