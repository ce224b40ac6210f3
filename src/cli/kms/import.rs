//! Imported key material.

use super::{Answer, Refused, date, input};
use crate::kms::{Administrator, ImportRequest, WrappingKeySpec};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Get a public key to wrap key material with, and a token, both good for a day
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store get-parameters-for-import --key-id KEY-ID --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_2048"
    )]
    GetParametersForImport {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[arg(long, value_enum)]
        wrapping_algorithm: WrappingAlgorithm,
        #[arg(long, value_enum)]
        wrapping_key_spec: Spec,
    },
    /// Bring key material in
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store import-key-material --key-id KEY-ID --import-token fileb://token --encrypted-key-material fileb://wrapped --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE"
    )]
    ImportKeyMaterial {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// fileb://PATH, or base64
        #[arg(long)]
        #[serde(skip)]
        import_token: String,
        /// fileb://PATH, or base64
        #[arg(long)]
        #[serde(skip)]
        encrypted_key_material: String,
        #[arg(long, value_enum, default_value = "KEY_MATERIAL_EXPIRES")]
        expiration_model: ExpirationModel,
        /// When it expires: RFC 3339, or seconds since 1970
        #[arg(long)]
        valid_to: Option<String>,
        #[arg(long, value_enum)]
        import_type: Option<ImportType>,
        /// The material that it has to be
        #[arg(long)]
        key_material_id: Option<String>,
    },
    /// Destroy imported key material; the same can be imported again
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store delete-imported-key-material --key-id KEY-ID")]
    DeleteImportedKeyMaterial {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        key_material_id: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
pub enum WrappingAlgorithm {
    #[value(name = "RSAES_OAEP_SHA_256")]
    #[serde(rename = "RSAES_OAEP_SHA_256")]
    OaepSha256,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
pub enum Spec {
    #[value(name = "RSA_2048")]
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    #[value(name = "RSA_3072")]
    #[serde(rename = "RSA_3072")]
    Rsa3072,
    #[value(name = "RSA_4096")]
    #[serde(rename = "RSA_4096")]
    Rsa4096,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExpirationModel {
    KeyMaterialExpires,
    KeyMaterialDoesNotExpire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ImportType {
    NewKeyMaterial,
    ExistingKeyMaterial,
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::GetParametersForImport { .. } => "GetParametersForImport",
            Self::ImportKeyMaterial { .. } => "ImportKeyMaterial",
            Self::DeleteImportedKeyMaterial { .. } => "DeleteImportedKeyMaterial",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        let imported = match self {
            Self::GetParametersForImport {
                key_id,
                wrapping_algorithm: WrappingAlgorithm::OaepSha256,
                wrapping_key_spec,
            } => {
                let spec = match wrapping_key_spec {
                    Spec::Rsa2048 => WrappingKeySpec::Rsa2048,
                    Spec::Rsa3072 => WrappingKeySpec::Rsa3072,
                    Spec::Rsa4096 => WrappingKeySpec::Rsa4096,
                };
                let parameters = admin.get_parameters_for_import(key_id, spec)?;
                return Ok(Some(json!({
                    "KeyId": parameters.key_arn,
                    "ImportToken": input::base64(&parameters.import_token),
                    "PublicKey": input::base64(&parameters.public_key),
                    "ParametersValidTo": date(parameters.valid_to),
                })));
            }
            Self::ImportKeyMaterial {
                key_id,
                import_token,
                encrypted_key_material,
                expiration_model,
                valid_to,
                import_type,
                key_material_id,
            } => {
                let request = ImportRequest {
                    import_token: &input::bytes(import_token, "--import-token")?,
                    encrypted_material: &input::bytes(encrypted_key_material, "--encrypted-key-material")?,
                    valid_to: valid_until(*expiration_model, valid_to.as_deref())?,
                    new_material: import_type.map(|kind| kind == ImportType::NewKeyMaterial),
                    material_id: key_material_id.as_deref(),
                };
                admin.import_key_material(key_id, &request)?
            }
            Self::DeleteImportedKeyMaterial { key_id, key_material_id } => {
                admin.delete_imported_key_material(key_id, key_material_id.as_deref())?
            }
        };
        Ok(Some(json!({"KeyId": imported.key_arn, "KeyMaterialId": imported.material_id})))
    }
}

fn valid_until(model: ExpirationModel, valid_to: Option<&str>) -> Result<Option<i64>, Refused> {
    let usage = |text: &str| Err(Refused::Usage(format!("Error parsing parameter '--valid-to': {text}")));
    match (model, valid_to) {
        (ExpirationModel::KeyMaterialDoesNotExpire, None) => Ok(None),
        (ExpirationModel::KeyMaterialDoesNotExpire, Some(_)) => {
            usage("material that does not expire has no time to expire")
        }
        (ExpirationModel::KeyMaterialExpires, None) => {
            usage("it is needed unless --expiration-model is KEY_MATERIAL_DOES_NOT_EXPIRE")
        }
        (ExpirationModel::KeyMaterialExpires, Some(text)) => {
            let seconds = text.parse().ok().and_then(|seconds: i64| seconds.checked_mul(1_000_000_000));
            let time = OffsetDateTime::parse(text, &Rfc3339).ok();
            let time = seconds.or_else(|| i64::try_from(time?.unix_timestamp_nanos()).ok());
            time.map_or_else(
                || usage("it is a time as 2030-01-31T00:00:00Z, or seconds since 1970"),
                |time| Ok(Some(time)),
            )
        }
    }
}
