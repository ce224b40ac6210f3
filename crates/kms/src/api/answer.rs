//! What is answered.

use super::{
    AliasEntry, Ciphertext, Deletion, Expiration, GrantEntry, ImportParameters, Imported, KeyMetadata, KeyState,
    KeyStore, Page, Plaintext, Rotation, RotationKind, RotationStatus, Tag,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// The answer to a [`Request`](super::Request).
pub enum Answer {
    /// It is done, and there is nothing to say.
    Done,
    /// To CreateKey and DescribeKey.
    Key(KeyMetadata),
    /// ARNs.
    Keys(Page<String>),
    /// The ARN of the key, to CancelKeyDeletion and RotateKeyOnDemand.
    KeyId(String),
    /// To ScheduleKeyDeletion.
    Deletion(Deletion),
    /// To ListAliases.
    Aliases(Page<AliasEntry>),
    /// To ListResourceTags.
    Tags(Page<Tag>),
    /// To GetKeyRotationStatus.
    RotationStatus(RotationStatus),
    /// To ListKeyRotations.
    Rotations(Page<Rotation>),
    /// To GetParametersForImport.
    ImportParameters(ImportParameters),
    /// To ImportKeyMaterial and DeleteImportedKeyMaterial.
    Imported(Imported),
    /// To Encrypt.
    Encrypted(Ciphertext),
    /// To Decrypt.
    Decrypted(Plaintext),
    /// What the blob was encrypted under before, and what it is now.
    ReEncrypted {
        /// The key and material of before; the plaintext is told nobody.
        source: Plaintext,
        /// The key and material of now, and the blob.
        destination: Ciphertext,
    },
    /// With the key itself, unless it was asked for without.
    DataKey {
        /// The data key.
        plaintext: Option<Zeroizing<Vec<u8>>>,
        /// What Decrypt makes it of again.
        wrapped: Ciphertext,
    },
    /// To GenerateRandom.
    Random(Zeroizing<Vec<u8>>),
    /// To GetKeyPolicy: the document.
    Policy(String),
    /// To ListKeyPolicies.
    PolicyNames(Page<String>),
    /// To CreateGrant.
    Grant {
        /// Of the grant.
        id: String,
        /// Lets its bearer use the grant, as AWS has it.
        token: String,
    },
    /// To ListGrants and ListRetirableGrants.
    Grants(Page<GrantEntry>),
    /// To CreateCustomKeyStore: the id.
    KeyStoreId(String),
    /// To DescribeCustomKeyStores.
    KeyStores(Vec<KeyStore>),
}

/// How a time is written. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// ISO 8601 with microseconds, as aws prints it.
    Text,
    /// Seconds since 1970 with three decimals, as JSON 1.1 carries it.
    Seconds,
}

impl TimeForm {
    /// A time in this form; empty text where there is no such date.
    pub fn of(self, nanoseconds: i64) -> Value {
        match self {
            Self::Text => text_of(nanoseconds).into(),
            #[allow(clippy::cast_precision_loss)] // Milliseconds since 1970 fit for 280,000 years.
            Self::Seconds => json!(nanoseconds.div_euclid(1_000_000) as f64 / 1000.0),
        }
    }
}

fn text_of(nanoseconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds));
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default()
}

impl Answer {
    /// The ARN of the key that was used or changed, where it is said.
    pub fn key_arn(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(&key.arn),
            Self::KeyId(arn) => Some(arn),
            Self::Deletion(deletion) => Some(&deletion.key_arn),
            Self::RotationStatus(status) => Some(&status.key_arn),
            Self::ImportParameters(parameters) => Some(&parameters.key_arn),
            Self::Imported(imported) => Some(&imported.key_arn),
            Self::Encrypted(made)
            | Self::ReEncrypted { destination: made, .. }
            | Self::DataKey { wrapped: made, .. } => Some(&made.key_arn),
            Self::Decrypted(opened) => Some(&opened.key_arn),
            _ => None,
        }
    }

    /// The key material that was used, hexadecimal, where it is said.
    pub fn material_id(&self) -> Option<&str> {
        match self {
            Self::Imported(imported) => Some(&imported.material_id),
            Self::Encrypted(made) | Self::DataKey { wrapped: made, .. } => Some(&made.material_id),
            Self::Decrypted(opened) => Some(&opened.material_id),
            _ => None,
        }
    }

    /// AWS's JSON, members in its order; `None` where the answer is empty.
    pub fn to_json(&self, time: TimeForm) -> Option<Value> {
        Some(match self {
            Self::Done => return None,
            Self::Key(key) => json!({"KeyMetadata": metadata(key, time)}),
            Self::Keys(page) => listed("Keys", page, |arn| json!({"KeyId": arn.rsplit('/').next(), "KeyArn": arn})),
            Self::KeyId(arn) => json!({"KeyId": arn}),
            Self::Deletion(deletion) => json!({
                "KeyId": deletion.key_arn,
                "DeletionDate": time.of(deletion.date),
                "KeyState": KeyState::PendingDeletion.name(),
                "PendingWindowInDays": deletion.window_in_days,
            }),
            Self::Aliases(page) => listed("Aliases", page, |alias| {
                json!({
                    "AliasName": alias.name,
                    "AliasArn": alias.arn,
                    "TargetKeyId": alias.key_id,
                    "CreationDate": time.of(alias.created),
                    "LastUpdatedDate": time.of(alias.updated),
                })
            }),
            Self::Tags(page) => listed("Tags", page, |tag| json!({"TagKey": tag.key, "TagValue": tag.value})),
            Self::RotationStatus(status) => rotation_status(status, time),
            Self::Rotations(page) => listed("Rotations", page, |entry| rotation(entry, time)),
            Self::ImportParameters(parameters) => json!({
                "KeyId": parameters.key_arn,
                "ImportToken": STANDARD.encode(&parameters.import_token),
                "PublicKey": STANDARD.encode(&parameters.public_key),
                "ParametersValidTo": time.of(parameters.valid_to),
            }),
            Self::Imported(imported) => json!({"KeyId": imported.key_arn, "KeyMaterialId": imported.material_id}),
            Self::Encrypted(made) => json!({
                "CiphertextBlob": STANDARD.encode(&made.blob),
                "KeyId": made.key_arn,
                "EncryptionAlgorithm": ALGORITHM,
            }),
            Self::Decrypted(opened) => json!({
                "KeyId": opened.key_arn,
                "Plaintext": STANDARD.encode(&opened.bytes),
                "EncryptionAlgorithm": ALGORITHM,
                "KeyMaterialId": opened.material_id,
            }),
            Self::ReEncrypted { source, destination } => json!({
                "CiphertextBlob": STANDARD.encode(&destination.blob),
                "SourceKeyId": source.key_arn,
                "KeyId": destination.key_arn,
                "SourceEncryptionAlgorithm": ALGORITHM,
                "DestinationEncryptionAlgorithm": ALGORITHM,
                "SourceKeyMaterialId": source.material_id,
                "DestinationKeyMaterialId": destination.material_id,
            }),
            Self::DataKey { plaintext, wrapped } => data_key(wrapped, plaintext.as_deref().map(Vec::as_slice)),
            Self::Random(bytes) => json!({"Plaintext": STANDARD.encode(bytes)}),
            Self::Policy(policy) => json!({"Policy": policy, "PolicyName": "default"}),
            Self::PolicyNames(page) => listed("PolicyNames", page, |name| json!(name)),
            Self::Grant { id, token } => json!({"GrantToken": token, "GrantId": id}),
            Self::Grants(page) => listed("Grants", page, |entry| grant(entry, time)),
            Self::KeyStoreId(id) => json!({"CustomKeyStoreId": id}),
            Self::KeyStores(stores) => {
                let entries: Vec<_> = stores.iter().map(|store| store.to_json(time)).collect();
                json!({"CustomKeyStores": entries, "Truncated": false})
            }
        })
    }
}

/// A page of a list, and whether there is more.
fn listed<T>(name: &str, page: &Page<T>, entry: impl Fn(&T) -> Value) -> Value {
    let mut answer = json!({name: page.entries.iter().map(entry).collect::<Vec<_>>()});
    if let Some(next) = &page.next {
        answer["NextMarker"] = json!(next);
    }
    answer["Truncated"] = json!(page.next.is_some());
    answer
}

fn metadata(key: &KeyMetadata, time: TimeForm) -> Value {
    let mut fields = json!({
        "AWSAccountId": key.account_id,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": time.of(key.created),
        "Enabled": key.state == KeyState::Enabled,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": key.state.name(),
    });
    if let Some(deletion) = key.deletion {
        fields["DeletionDate"] = time.of(deletion);
    }
    if let Some(Expiration::At(expires)) = key.expiration {
        fields["ValidTo"] = time.of(expires);
    }
    fields["Origin"] = json!(key.origin.name());
    if let Some(expiration) = key.expiration {
        fields["ExpirationModel"] = json!(expiration.model());
    }
    fields["KeyManager"] = json!(key.manager.name());
    for (name, value) in [
        ("CustomerMasterKeySpec", json!(ALGORITHM)),
        ("KeySpec", json!(ALGORITHM)),
        ("EncryptionAlgorithms", json!([ALGORITHM])),
        ("MultiRegion", json!(false)),
    ] {
        fields[name] = value;
    }
    // AWS leaves it out where material has yet to be imported.
    if let Some(id) = &key.material_id {
        fields["CurrentKeyMaterialId"] = json!(id);
    }
    fields
}

fn rotation_status(status: &RotationStatus, time: TimeForm) -> Value {
    let mut answer = json!({"KeyRotationEnabled": status.automatic.is_some(), "KeyId": status.key_arn});
    if let Some((period, next)) = status.automatic {
        answer["RotationPeriodInDays"] = json!(period);
        answer["NextRotationDate"] = time.of(next);
    }
    answer
}

fn rotation(rotation: &Rotation, time: TimeForm) -> Value {
    let mut answer = json!({
        "KeyId": rotation.key_arn,
        "KeyMaterialId": rotation.material_id,
        "KeyMaterialState": if rotation.current { "CURRENT" } else { "NON_CURRENT" },
    });
    if let Some(imported) = rotation.imported {
        answer["ImportState"] = json!(if imported { "IMPORTED" } else { "PENDING_IMPORT" });
        if imported {
            answer["ExpirationModel"] = json!(rotation.expires.map_or(Expiration::Never, Expiration::At).model());
        }
        if let Some(expires) = rotation.expires {
            answer["ValidTo"] = time.of(expires);
        }
    }
    if let Some(kind) = rotation.kind {
        answer["RotationDate"] = time.of(rotation.date);
        answer["RotationType"] = json!(match kind {
            RotationKind::Automatic => "AUTOMATIC",
            RotationKind::OnDemand => "ON_DEMAND",
        });
    }
    answer
}

fn data_key(wrapped: &Ciphertext, plaintext: Option<&[u8]>) -> Value {
    let mut answer = json!({"CiphertextBlob": STANDARD.encode(&wrapped.blob)});
    if let Some(plaintext) = plaintext {
        answer["Plaintext"] = json!(STANDARD.encode(plaintext));
    }
    answer["KeyId"] = json!(wrapped.key_arn);
    answer["KeyMaterialId"] = json!(wrapped.material_id);
    answer
}

fn grant(GrantEntry { key_arn, grant }: &GrantEntry, time: TimeForm) -> Value {
    let mut entry = json!({
        "KeyId": key_arn,
        "GrantId": grant.grant_id,
        "Name": grant.name.as_deref().unwrap_or_default(),
        "CreationDate": time.of(grant.creation_date),
        "GranteePrincipal": grant.grantee_principal,
    });
    if let Some(retiring) = &grant.retiring_principal {
        entry["RetiringPrincipal"] = json!(retiring);
    }
    entry["IssuingAccount"] = json!(grant.issuing_account);
    entry["Operations"] = json!(grant.operations);
    if !grant.constraints.is_empty() {
        entry["Constraints"] = json!(grant.constraints);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{KeyManager, KeyOrigin};

    #[test]
    fn times_are_text_or_seconds() {
        assert_eq!(TimeForm::Text.of(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456+00:00");
        assert_eq!(TimeForm::Seconds.of(1_700_000_000_123_456_789).to_string(), "1700000000.123");
        assert_eq!(TimeForm::Seconds.of(-1).to_string(), "-0.001");
    }

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
        let expected = r#"{"AWSAccountId":"111122223333","KeyId":"id","Arn":"arn",
            "CreationDate":"1970-01-01T00:00:00.000000+00:00","Enabled":false,"Description":"for \"M\"",
            "KeyUsage":"ENCRYPT_DECRYPT","KeyState":"Disabled","Origin":"AWS_KMS","KeyManager":"CUSTOMER",
            "CustomerMasterKeySpec":"SYMMETRIC_DEFAULT","KeySpec":"SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms":["SYMMETRIC_DEFAULT"],"MultiRegion":false,"CurrentKeyMaterialId":"0a"}"#;
        let expected: String = expected.split('\n').map(str::trim_start).collect();
        assert_eq!(metadata(&key, TimeForm::Text).to_string(), expected);
        key.material_id = None;
        assert!(metadata(&key, TimeForm::Text).get("CurrentKeyMaterialId").is_none());
        key.expiration = Some(Expiration::At(0));
        let shown = metadata(&key, TimeForm::Text);
        assert_eq!(shown["ExpirationModel"], "KEY_MATERIAL_EXPIRES");
        assert_eq!(shown["ValidTo"], "1970-01-01T00:00:00.000000+00:00");
    }
}
