//! Calls in JSON: as clients send them, and as CloudTrail records them.

use super::{Constraints, Expiration, ImportType, KeySpec, PageRequest, Request, Retired, Tag, TimeForm};
use crate::EncryptionContext;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

impl Request {
    /// CloudTrail's `requestParameters`, an object: plaintexts, ciphertext blobs, tokens and pages are not in them.
    pub fn parameters(&self) -> Value {
        as_cloudtrail(self.members(TimeForm::Text))
    }

    /// AWS's JSON, as a client sends it. Plaintexts and tokens are in it.
    pub fn to_json(&self, time: TimeForm) -> Value {
        let mut members = self.members(time);
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        match self {
            Self::Encrypt { plaintext, .. } => {
                put("Plaintext", blob(plaintext));
            }
            Self::Decrypt { ciphertext_blob, .. } | Self::ReEncrypt { ciphertext_blob, .. } => {
                put("CiphertextBlob", blob(ciphertext_blob));
            }
            Self::ImportKeyMaterial { import_token, encrypted_key_material, .. } => {
                put("ImportToken", blob(import_token));
                put("EncryptedKeyMaterial", blob(encrypted_key_material));
            }
            Self::CreateGrant { grant_tokens, .. } if !grant_tokens.is_empty() => {
                put("GrantTokens", json!(grant_tokens));
            }
            Self::RetireGrant(Retired::Token { grant_token }) => {
                put("GrantToken", json!(grant_token));
            }
            _ => {}
        }
        if let Some(PageRequest { limit, marker }) = self.page() {
            let both = [("Limit", limit.map(Value::from)), ("Marker", marker.as_deref().map(Value::from))];
            members.extend(both.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        Value::Object(members)
    }

    fn page(&self) -> Option<&PageRequest> {
        match self {
            Self::ListKeys { page }
            | Self::ListAliases { page, .. }
            | Self::ListResourceTags { page, .. }
            | Self::ListKeyRotations { page, .. }
            | Self::ListKeyPolicies { page, .. }
            | Self::ListGrants { page, .. }
            | Self::ListRetirableGrants { page, .. } => Some(page),
            _ => None,
        }
    }

    /// What is not secret, and says what is asked for; without what is absent.
    fn members(&self, time: TimeForm) -> Map<String, Value> {
        let members = match self {
            Self::CreateKey(new) => json!({
                "Description": new.description,
                "Tags": tags(&new.tags),
                "Origin": new.origin.name(),
                "Policy": new.policy,
                "BypassPolicyLockoutSafetyCheck": new.bypass_lockout_check,
            }),
            Self::DescribeKey { key_id }
            | Self::DisableKey { key_id }
            | Self::EnableKey { key_id }
            | Self::CancelKeyDeletion { key_id }
            | Self::ListResourceTags { key_id, page: _ }
            | Self::DisableKeyRotation { key_id }
            | Self::GetKeyRotationStatus { key_id }
            | Self::RotateKeyOnDemand { key_id }
            | Self::ListKeyPolicies { key_id, page: _ } => json!({"KeyId": key_id}),
            Self::ListKeys { page: _ } | Self::RetireGrant(Retired::Token { .. }) => json!({}),
            Self::UpdateKeyDescription { key_id, description } => {
                json!({"KeyId": key_id, "Description": description})
            }
            Self::ScheduleKeyDeletion { key_id, pending_window_in_days } => {
                json!({"KeyId": key_id, "PendingWindowInDays": pending_window_in_days})
            }
            Self::CreateAlias { alias_name, target_key_id } | Self::UpdateAlias { alias_name, target_key_id } => {
                json!({"AliasName": alias_name, "TargetKeyId": target_key_id})
            }
            Self::DeleteAlias { alias_name } => json!({"AliasName": alias_name}),
            Self::ListAliases { key_id, page: _ } => json!({"KeyId": key_id}),
            Self::TagResource { key_id, tags: some } => json!({"KeyId": key_id, "Tags": tags(some)}),
            Self::UntagResource { key_id, tag_keys } => json!({"KeyId": key_id, "TagKeys": tag_keys}),
            Self::EnableKeyRotation { key_id, rotation_period_in_days } => {
                json!({"KeyId": key_id, "RotationPeriodInDays": rotation_period_in_days})
            }
            Self::ListKeyRotations { key_id, include_key_material, page: _ } => {
                json!({"KeyId": key_id, "IncludeKeyMaterial": include_key_material.name()})
            }
            Self::GetParametersForImport { key_id, wrapping_algorithm, wrapping_key_spec } => json!({
                "KeyId": key_id,
                "WrappingAlgorithm": wrapping_algorithm.name(),
                "WrappingKeySpec": wrapping_key_spec.name(),
            }),
            Self::ImportKeyMaterial { key_id, expiration, import_type, key_material_id, .. } => json!({
                "KeyId": key_id,
                "ExpirationModel": expiration.model(),
                "ValidTo": match expiration {
                    Expiration::Never => Value::Null,
                    Expiration::At(at) => time.of(*at),
                },
                "ImportType": import_type.map(ImportType::name),
                "KeyMaterialId": key_material_id,
            }),
            Self::DeleteImportedKeyMaterial { key_id, key_material_id } => {
                json!({"KeyId": key_id, "KeyMaterialId": key_material_id})
            }
            Self::Encrypt { key_id, plaintext: _, encryption_context } => {
                json!({"KeyId": key_id, "EncryptionContext": context(encryption_context)})
            }
            Self::Decrypt { ciphertext_blob: _, encryption_context, key_id } => {
                json!({"EncryptionContext": context(encryption_context), "KeyId": key_id})
            }
            Self::ReEncrypt {
                ciphertext_blob: _,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => json!({
                "SourceEncryptionContext": context(source_encryption_context),
                "SourceKeyId": source_key_id,
                "DestinationKeyId": destination_key_id,
                "DestinationEncryptionContext": context(destination_encryption_context),
            }),
            Self::GenerateDataKey(asked) | Self::GenerateDataKeyWithoutPlaintext(asked) => json!({
                "KeyId": asked.key_id,
                "KeySpec": asked.key_spec.map(KeySpec::name),
                "NumberOfBytes": asked.number_of_bytes,
                "EncryptionContext": context(&asked.encryption_context),
            }),
            Self::GenerateRandom { number_of_bytes } => json!({"NumberOfBytes": number_of_bytes}),
            Self::PutKeyPolicy { key_id, policy_name, policy, bypass_policy_lockout_safety_check } => json!({
                "KeyId": key_id,
                "PolicyName": policy_name,
                "Policy": policy,
                "BypassPolicyLockoutSafetyCheck": bypass_policy_lockout_safety_check,
            }),
            Self::GetKeyPolicy { key_id, policy_name } => json!({"KeyId": key_id, "PolicyName": policy_name}),
            Self::CreateGrant { key_id, grant, grant_tokens: _ } => json!({
                "KeyId": key_id,
                "GranteePrincipal": grant.grantee_principal,
                "RetiringPrincipal": grant.retiring_principal,
                "Operations": grant.operations,
                "Constraints": constraints(&grant.constraints),
                "Name": grant.name,
            }),
            Self::ListGrants { key_id, grant_id, grantee_principal, page: _ } => {
                json!({"KeyId": key_id, "GrantId": grant_id, "GranteePrincipal": grantee_principal})
            }
            Self::ListRetirableGrants { retiring_principal, page: _ } => {
                json!({"RetiringPrincipal": retiring_principal})
            }
            Self::RevokeGrant { key_id, grant_id } | Self::RetireGrant(Retired::Id { key_id, grant_id }) => {
                json!({"KeyId": key_id, "GrantId": grant_id})
            }
            Self::KeyStore(request) => Value::Object(request.members()),
            Self::ListObjects { key_id, count } => json!({"KeyId": key_id, "Count": count}),
        };
        let Value::Object(members) = members else { return Map::new() };
        members.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }
}

fn blob(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

fn tags(tags: &[Tag]) -> Vec<Value> {
    tags.iter().map(|tag| json!({"TagKey": tag.key, "TagValue": tag.value})).collect()
}

/// An empty one is absent.
fn context(context: &EncryptionContext) -> Option<&EncryptionContext> {
    Some(context).filter(|context| !context.is_empty())
}

fn constraints(constraints: &Constraints) -> Option<&Constraints> {
    Some(constraints).filter(|constraints| !constraints.is_empty())
}

/// Names begin with a small letter there, but for those of an encryption context.
fn as_cloudtrail(members: Map<String, Value>) -> Value {
    let renamed = members.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Object(inner) if !name.contains("EncryptionContext") => as_cloudtrail(inner),
            Value::Array(values) => values.into_iter().map(entry_as_cloudtrail).collect(),
            value => value,
        };
        (small(&name), value)
    });
    Value::Object(renamed.collect())
}

fn entry_as_cloudtrail(entry: Value) -> Value {
    match entry {
        Value::Object(members) => as_cloudtrail(members),
        entry => entry,
    }
}

/// The name with a small letter first.
pub(crate) fn small(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DataKeyRequest, GrantRequest, KeyOrigin, NewKey};
    use zeroize::Zeroizing;

    fn key_id() -> String {
        "k".into()
    }

    #[test]
    fn parameters_are_cloudtrails_and_have_nothing_secret() {
        let context: EncryptionContext = [("a".to_owned(), "1".to_owned())].into();
        let secret = || b"secret".to_vec();
        let cases = [
            (
                Request::Encrypt {
                    key_id: "alias/x".into(),
                    plaintext: Zeroizing::new(secret()),
                    encryption_context: context.clone(),
                },
                json!({"keyId": "alias/x", "encryptionContext": {"a": "1"}}),
            ),
            (
                Request::Decrypt {
                    ciphertext_blob: secret(),
                    encryption_context: EncryptionContext::new(),
                    key_id: None,
                },
                json!({}),
            ),
            (
                Request::GenerateDataKey(DataKeyRequest {
                    key_id: key_id(),
                    key_spec: Some(KeySpec::Aes256),
                    number_of_bytes: None,
                    encryption_context: EncryptionContext::new(),
                }),
                json!({"keyId": "k", "keySpec": "AES_256"}),
            ),
            (
                Request::ImportKeyMaterial {
                    key_id: key_id(),
                    import_token: secret(),
                    encrypted_key_material: secret(),
                    expiration: Expiration::At(0),
                    import_type: Some(ImportType::NewKeyMaterial),
                    key_material_id: None,
                },
                json!({"keyId": "k", "expirationModel": "KEY_MATERIAL_EXPIRES",
                    "validTo": "1970-01-01T00:00:00.000000+00:00", "importType": "NEW_KEY_MATERIAL"}),
            ),
            (
                Request::PutKeyPolicy {
                    key_id: key_id(),
                    policy_name: None,
                    policy: "{}".into(),
                    bypass_policy_lockout_safety_check: false,
                },
                json!({"keyId": "k", "policy": "{}", "bypassPolicyLockoutSafetyCheck": false}),
            ),
            (
                Request::CreateKey(NewKey {
                    tags: vec![Tag { key: "team".into(), value: "billing".into() }],
                    origin: KeyOrigin::External,
                    ..NewKey::default()
                }),
                json!({"description": "", "tags": [{"tagKey": "team", "tagValue": "billing"}], "origin": "EXTERNAL",
                    "bypassPolicyLockoutSafetyCheck": false}),
            ),
            (
                Request::CreateGrant {
                    key_id: key_id(),
                    grant: GrantRequest {
                        grantee_principal: "alice".into(),
                        operations: vec!["Decrypt".into()],
                        constraints: Constraints { encryption_context_subset: Some(context), ..Constraints::default() },
                        ..GrantRequest::default()
                    },
                    grant_tokens: vec!["secret".into()],
                },
                json!({"keyId": "k", "granteePrincipal": "alice", "operations": ["Decrypt"],
                    "constraints": {"encryptionContextSubset": {"a": "1"}}}),
            ),
            (Request::RetireGrant(Retired::Token { grant_token: "secret".into() }), json!({})),
            (Request::ListKeys { page: PageRequest { limit: Some(3), marker: None } }, json!({})),
            (Request::ListObjects { key_id: key_id(), count: false }, json!({"keyId": "k", "count": false})),
        ];
        for (request, expected) in cases {
            assert_eq!(request.parameters(), expected, "{}", request.name());
        }
    }
}
