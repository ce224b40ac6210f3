//! Keys and their life.

use super::{Answer, PageArgs, date, input, with_page};
use crate::kms::{Administrator, Expiration, KeyManager, KeyMetadata, KeyOrigin, KeyState, NewKey};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Make a customer managed key
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-key --description invoices\n  kmsfs kms --store /srv/store create-key --tags TagKey=team,TagValue=billing\n  kmsfs kms --store /srv/store create-key --origin EXTERNAL"
    )]
    CreateKey {
        #[arg(long, default_value = "")]
        description: String,
        /// TagKey=K,TagValue=V, several of them, or JSON
        #[arg(long, num_args = 1..)]
        tags: Vec<String>,
        /// Where its material comes from
        #[arg(long, value_enum, default_value = "AWS_KMS")]
        origin: Origin,
        /// Who may use it: JSON, or file://PATH
        #[arg(long)]
        policy: Option<String>,
        /// Take a policy under which you could not put another one
        #[arg(long)]
        bypass_policy_lockout_safety_check: bool,
    },
    /// Show a key's metadata
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store describe-key --key-id alias/aws/s3")]
    DescribeKey {
        /// Key id, key ARN, alias or alias ARN
        #[arg(long)]
        key_id: String,
    },
    /// List all keys
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-keys")]
    ListKeys {
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
    /// Change a key's description
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store update-key-description --key-id KEY-ID --description paid"
    )]
    UpdateKeyDescription {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        description: String,
    },
    /// Refuse every use of a key until it is enabled again
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store disable-key --key-id KEY-ID")]
    DisableKey {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// Let a key be used again
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store enable-key --key-id KEY-ID")]
    EnableKey {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// Delete a key after a time of waiting: what it protects is lost then
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store schedule-key-deletion --key-id KEY-ID --pending-window-in-days 7"
    )]
    ScheduleKeyDeletion {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// 7 to 30 (30)
        #[arg(long)]
        pending_window_in_days: Option<u64>,
    },
    /// Keep a key that waits for its deletion; it is disabled then
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store cancel-key-deletion --key-id KEY-ID")]
    CancelKeyDeletion {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Origin {
    AwsKms,
    External,
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateKey { .. } => "CreateKey",
            Self::DescribeKey { .. } => "DescribeKey",
            Self::ListKeys { .. } => "ListKeys",
            Self::UpdateKeyDescription { .. } => "UpdateKeyDescription",
            Self::DisableKey { .. } => "DisableKey",
            Self::EnableKey { .. } => "EnableKey",
            Self::ScheduleKeyDeletion { .. } => "ScheduleKeyDeletion",
            Self::CancelKeyDeletion { .. } => "CancelKeyDeletion",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        Ok(match self {
            Self::CreateKey { description, tags, origin, policy, bypass_policy_lockout_safety_check } => {
                let origin = match origin {
                    Origin::AwsKms => KeyOrigin::AwsKms,
                    Origin::External => KeyOrigin::External,
                };
                let policy = policy.as_deref().map(|policy| input::text(policy, "--policy")).transpose()?;
                let new = NewKey {
                    description: description.clone(),
                    tags: input::tags(tags)?,
                    origin,
                    policy,
                    bypass_lockout_check: *bypass_policy_lockout_safety_check,
                };
                Some(metadata(&admin.create_key(&new)?))
            }
            Self::DescribeKey { key_id } => Some(metadata(&admin.describe_key(key_id)?)),
            Self::ListKeys { page } => {
                let keys = admin.list_keys(&page.request())?;
                let entry = |arn: &String| json!({"KeyId": arn.rsplit('/').next(), "KeyArn": arn});
                Some(with_page(json!({"Keys": keys.entries.iter().map(entry).collect::<Vec<_>>()}), keys.next))
            }
            Self::UpdateKeyDescription { key_id, description } => {
                admin.update_key_description(key_id, description)?;
                None
            }
            Self::DisableKey { key_id } => {
                admin.set_enabled(key_id, false)?;
                None
            }
            Self::EnableKey { key_id } => {
                admin.set_enabled(key_id, true)?;
                None
            }
            Self::ScheduleKeyDeletion { key_id, pending_window_in_days } => {
                let deletion = admin.schedule_key_deletion(key_id, *pending_window_in_days)?;
                Some(json!({
                    "KeyId": deletion.key_arn,
                    "DeletionDate": date(deletion.date),
                    "KeyState": "PendingDeletion",
                    "PendingWindowInDays": deletion.window_in_days,
                }))
            }
            Self::CancelKeyDeletion { key_id } => Some(json!({"KeyId": admin.cancel_key_deletion(key_id)?})),
        })
    }
}

fn metadata(key: &KeyMetadata) -> Value {
    let mut answer = json!({"KeyMetadata": {
        "AWSAccountId": key.account_id,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": date(key.created),
        "Enabled": key.state == KeyState::Enabled,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": match key.state {
            KeyState::Enabled => "Enabled",
            KeyState::Disabled => "Disabled",
            KeyState::PendingDeletion => "PendingDeletion",
            KeyState::PendingImport => "PendingImport",
        },
    }});
    let fields = &mut answer["KeyMetadata"];
    if let Some(deletion) = key.deletion {
        fields["DeletionDate"] = json!(date(deletion));
    }
    if let Some(Expiration::At(expires)) = key.expiration {
        fields["ValidTo"] = json!(date(expires));
    }
    fields["Origin"] = json!(match key.origin {
        KeyOrigin::AwsKms => "AWS_KMS",
        KeyOrigin::External => "EXTERNAL",
    });
    if let Some(expiration) = key.expiration {
        fields["ExpirationModel"] = json!(match expiration {
            Expiration::At(_) => "KEY_MATERIAL_EXPIRES",
            Expiration::Never => "KEY_MATERIAL_DOES_NOT_EXPIRE",
        });
    }
    fields["KeyManager"] = json!(match key.manager {
        KeyManager::Aws => "AWS",
        KeyManager::Customer => "CUSTOMER",
    });
    for (name, value) in [
        ("CustomerMasterKeySpec", json!("SYMMETRIC_DEFAULT")),
        ("KeySpec", json!("SYMMETRIC_DEFAULT")),
        ("EncryptionAlgorithms", json!(["SYMMETRIC_DEFAULT"])),
        ("MultiRegion", json!(false)),
    ] {
        fields[name] = value;
    }
    // AWS leaves it out where material has yet to be imported.
    if let Some(id) = &key.material_id {
        fields["CurrentKeyMaterialId"] = json!(id);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text;

    #[test]
    fn a_key_is_described_in_the_order_of_aws() {
        let mut key = KeyMetadata {
            account_id: "111122223333".into(),
            key_id: "id".into(),
            arn: "arn".into(),
            created: 0,
            description: "for \"M\"".into(),
            state: KeyState::Disabled,
            origin: KeyOrigin::AwsKms,
            manager: KeyManager::Customer,
            material_id: Some("0a".into()),
            deletion: None,
            expiration: None,
        };
        let expected = r#"{
    "KeyMetadata": {
        "AWSAccountId": "111122223333",
        "KeyId": "id",
        "Arn": "arn",
        "CreationDate": "1970-01-01T00:00:00.000000+00:00",
        "Enabled": false,
        "Description": "for \"M\"",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Disabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": [
            "SYMMETRIC_DEFAULT"
        ],
        "MultiRegion": false,
        "CurrentKeyMaterialId": "0a"
    }
}
"#;
        assert_eq!(text::pretty(&metadata(&key)), expected);
        key.material_id = None;
        assert!(!text::pretty(&metadata(&key)).contains("CurrentKeyMaterialId"));
        key.expiration = Some(Expiration::At(0));
        let shown = metadata(&key)["KeyMetadata"].clone();
        assert_eq!(shown["ExpirationModel"], "KEY_MATERIAL_EXPIRES");
        assert_eq!(shown["ValidTo"], "1970-01-01T00:00:00.000000+00:00");
    }
}
