//! Which method a call is.

use super::{Administrator, DataKeySpec, ImportRequest};
use crate::local::LocalKms;
use kmsfs_kms::api::{Answer, DataKeyRequest, ImportType, IncludeKeyMaterial, KeySpec, Request, Service};
use kmsfs_kms::api::{Ciphertext, Expiration};
use kmsfs_kms::{Code, Error, Principal};
use zeroize::Zeroizing;

impl Service for LocalKms {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        self.administer(caller).call(request)
    }
}

impl Administrator<'_> {
    #[allow(clippy::too_many_lines)] // A table.
    pub(crate) fn call(&self, request: &Request) -> Result<Answer, Error> {
        match request {
            Request::CreateKey(new) => self.create_key(new).map(Answer::Key),
            Request::DescribeKey { key_id } => self.describe_key(key_id).map(Answer::Key),
            Request::ListKeys { page } => self.list_keys(page).map(Answer::Keys),
            Request::UpdateKeyDescription { key_id, description } => {
                self.update_key_description(key_id, description).map(done)
            }
            Request::DisableKey { key_id } => self.set_enabled(key_id, false).map(done),
            Request::EnableKey { key_id } => self.set_enabled(key_id, true).map(done),
            Request::ScheduleKeyDeletion { key_id, pending_window_in_days } => {
                self.schedule_key_deletion(key_id, *pending_window_in_days).map(Answer::Deletion)
            }
            Request::CancelKeyDeletion { key_id } => self.cancel_key_deletion(key_id).map(Answer::KeyId),
            Request::CreateAlias { alias_name, target_key_id } => {
                self.create_alias(alias_name, target_key_id).map(done)
            }
            Request::UpdateAlias { alias_name, target_key_id } => {
                self.update_alias(alias_name, target_key_id).map(done)
            }
            Request::DeleteAlias { alias_name } => self.delete_alias(alias_name).map(done),
            Request::ListAliases { key_id, page } => self.list_aliases(key_id.as_deref(), page).map(Answer::Aliases),
            Request::TagResource { key_id, tags } => self.tag_resource(key_id, tags).map(done),
            Request::UntagResource { key_id, tag_keys } => self.untag_resource(key_id, tag_keys).map(done),
            Request::ListResourceTags { key_id, page } => self.list_resource_tags(key_id, page).map(Answer::Tags),
            Request::EnableKeyRotation { key_id, rotation_period_in_days } => {
                self.enable_key_rotation(key_id, *rotation_period_in_days).map(done)
            }
            Request::DisableKeyRotation { key_id } => self.disable_key_rotation(key_id).map(done),
            Request::GetKeyRotationStatus { key_id } => {
                self.get_key_rotation_status(key_id).map(Answer::RotationStatus)
            }
            Request::RotateKeyOnDemand { key_id } => self.rotate_key_on_demand(key_id).map(Answer::KeyId),
            Request::ListKeyRotations { key_id, include_key_material, page } => {
                let all = *include_key_material == IncludeKeyMaterial::AllKeyMaterial;
                self.list_key_rotations(key_id, all, page).map(Answer::Rotations)
            }
            Request::GetParametersForImport { key_id, wrapping_algorithm: _, wrapping_key_spec } => {
                self.get_parameters_for_import(key_id, *wrapping_key_spec).map(Answer::ImportParameters)
            }
            Request::ImportKeyMaterial {
                key_id,
                import_token,
                encrypted_key_material,
                expiration,
                import_type,
                key_material_id,
            } => {
                let request = ImportRequest {
                    import_token,
                    encrypted_material: encrypted_key_material,
                    valid_to: match expiration {
                        Expiration::Never => None,
                        Expiration::At(time) => Some(*time),
                    },
                    new_material: import_type.map(|kind| kind == ImportType::NewKeyMaterial),
                    material_id: key_material_id.as_deref(),
                };
                self.import_key_material(key_id, &request).map(Answer::Imported)
            }
            Request::DeleteImportedKeyMaterial { key_id, key_material_id } => {
                self.delete_imported_key_material(key_id, key_material_id.as_deref()).map(Answer::Imported)
            }
            Request::Encrypt { key_id, plaintext, encryption_context } => {
                self.encrypt(key_id, plaintext, encryption_context).map(Answer::Encrypted)
            }
            Request::Decrypt { ciphertext_blob, encryption_context, key_id } => {
                self.decrypt(ciphertext_blob, encryption_context, key_id.as_deref()).map(Answer::Decrypted)
            }
            Request::ReEncrypt {
                ciphertext_blob,
                source_encryption_context,
                source_key_id,
                destination_key_id,
                destination_encryption_context,
            } => {
                let source = (source_encryption_context, source_key_id.as_deref());
                let destination = (destination_encryption_context, destination_key_id.as_str());
                let (source, destination) = self.re_encrypt(ciphertext_blob, source, destination)?;
                Ok(Answer::ReEncrypted { source, destination })
            }
            Request::GenerateDataKey(asked) => {
                let (plaintext, wrapped) = self.data_key(asked, request.name())?;
                Ok(Answer::DataKey { plaintext: Some(plaintext), wrapped })
            }
            Request::GenerateDataKeyWithoutPlaintext(asked) => {
                let (_, wrapped) = self.data_key(asked, request.name())?;
                Ok(Answer::DataKey { plaintext: None, wrapped })
            }
            Request::GenerateRandom { number_of_bytes } => self.generate_random(*number_of_bytes).map(Answer::Random),
            Request::PutKeyPolicy { key_id, policy_name, policy, bypass_policy_lockout_safety_check } => {
                let bypass = *bypass_policy_lockout_safety_check;
                self.put_key_policy(key_id, policy_name.as_deref(), policy, bypass).map(done)
            }
            Request::GetKeyPolicy { key_id, policy_name } => {
                self.get_key_policy(key_id, policy_name.as_deref()).map(Answer::Policy)
            }
            Request::ListKeyPolicies { key_id, page } => {
                page.of(self.list_key_policies(key_id)?).map(Answer::PolicyNames)
            }
            Request::CreateGrant { key_id, grant, grant_tokens } => {
                let made = self.create_grant(key_id, grant, grant_tokens)?;
                Ok(Answer::Grant { id: made.grant_id, token: made.grant_token })
            }
            Request::ListGrants { key_id, grant_id, grantee_principal, page } => {
                let (grant_id, grantee) = (grant_id.as_deref(), grantee_principal.as_deref());
                page.of(self.list_grants(key_id, grant_id, grantee)?).map(Answer::Grants)
            }
            Request::ListRetirableGrants { retiring_principal, page } => {
                page.of(self.list_retirable_grants(retiring_principal)?).map(Answer::Grants)
            }
            Request::RevokeGrant { key_id, grant_id } => self.revoke_grant(key_id, grant_id).map(done),
            Request::RetireGrant(which) => self.retire_grant(which).map(done),
            Request::KeyStore(request) => self.kms.call_key_stores(request, &self.caller),
            Request::ListObjects { key_id, count: _ } => Ok(Answer::KeyId(self.describe_key(key_id)?.arn)),
        }
    }

    fn data_key(&self, asked: &DataKeyRequest, action: &str) -> Result<(Zeroizing<Vec<u8>>, Ciphertext), Error> {
        let spec = match (asked.key_spec, asked.number_of_bytes) {
            (Some(KeySpec::Aes256), None) => DataKeySpec::Aes256,
            (Some(KeySpec::Aes128), None) => DataKeySpec::Aes128,
            (None, Some(count)) => DataKeySpec::Bytes(count),
            _ => return Err(Error::new(Code::Validation, "Please specify either number of bytes or key spec.")),
        };
        self.generate_data_key(&asked.key_id, spec, &asked.encryption_context, action)
    }
}

/// The answer of a call that has nothing to say.
fn done((): ()) -> Answer {
    Answer::Done
}
