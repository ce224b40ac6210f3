//! Imported key material.

use super::{Usage, input};
use clap::{Subcommand, ValueEnum};
use kmsfs_kms::api::{Expiration, WrappingKeySpec};
use kmsfs_kms::api::{ImportType, Request, WrappingAlgorithm};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Subcommand)]
pub enum Operation {
    /// Get a public key to wrap key material with, and a token, both good for a day
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store get-parameters-for-import --key-id KEY-ID --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_2048"
    )]
    GetParametersForImport {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// How the material will be wrapped
        #[arg(long, value_enum)]
        wrapping_algorithm: Algorithm,
        /// Which public key is to be made for it
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
        import_token: String,
        /// fileb://PATH, or base64
        #[arg(long)]
        encrypted_key_material: String,
        /// Whether the material expires, at --valid-to, or never
        #[arg(long, value_enum, default_value = "KEY_MATERIAL_EXPIRES")]
        expiration_model: ExpirationModel,
        /// When it expires: RFC 3339, or seconds since 1970
        #[arg(long)]
        valid_to: Option<String>,
        /// Whether the key had this material before
        #[arg(long, value_enum)]
        import_type: Option<Kind>,
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
        /// Which material, where the key has several
        #[arg(long)]
        key_material_id: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Algorithm {
    #[value(name = "RSAES_OAEP_SHA_256")]
    RsaesOaepSha256,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Spec {
    #[value(name = "RSA_2048")]
    Rsa2048,
    #[value(name = "RSA_3072")]
    Rsa3072,
    #[value(name = "RSA_4096")]
    Rsa4096,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExpirationModel {
    KeyMaterialExpires,
    KeyMaterialDoesNotExpire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    NewKeyMaterial,
    ExistingKeyMaterial,
}

impl Operation {
    pub fn request(self) -> Result<Request, Usage> {
        Ok(match self {
            Self::GetParametersForImport {
                key_id,
                wrapping_algorithm: Algorithm::RsaesOaepSha256,
                wrapping_key_spec,
            } => Request::GetParametersForImport {
                key_id,
                wrapping_algorithm: WrappingAlgorithm::RsaesOaepSha256,
                wrapping_key_spec: match wrapping_key_spec {
                    Spec::Rsa2048 => WrappingKeySpec::Rsa2048,
                    Spec::Rsa3072 => WrappingKeySpec::Rsa3072,
                    Spec::Rsa4096 => WrappingKeySpec::Rsa4096,
                },
            },
            Self::ImportKeyMaterial {
                key_id,
                import_token,
                encrypted_key_material,
                expiration_model,
                valid_to,
                import_type,
                key_material_id,
            } => Request::ImportKeyMaterial {
                key_id,
                import_token: input::bytes(&import_token, "--import-token")?.to_vec(),
                encrypted_key_material: input::bytes(&encrypted_key_material, "--encrypted-key-material")?.to_vec(),
                expiration: expiration(expiration_model, valid_to.as_deref())?,
                import_type: import_type.map(|kind| match kind {
                    Kind::NewKeyMaterial => ImportType::NewKeyMaterial,
                    Kind::ExistingKeyMaterial => ImportType::ExistingKeyMaterial,
                }),
                key_material_id,
            },
            Self::DeleteImportedKeyMaterial { key_id, key_material_id } => {
                Request::DeleteImportedKeyMaterial { key_id, key_material_id }
            }
        })
    }
}

fn expiration(model: ExpirationModel, valid_to: Option<&str>) -> Result<Expiration, Usage> {
    let usage = |text: &str| Err(Usage(format!("Error parsing parameter '--valid-to': {text}")));
    match (model, valid_to) {
        (ExpirationModel::KeyMaterialDoesNotExpire, None) => Ok(Expiration::Never),
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
                |time| Ok(Expiration::At(time)),
            )
        }
    }
}
