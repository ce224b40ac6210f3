//! Rotation.

use super::{Answer, PageArgs, date, with_page};
use crate::kms::{Administrator, Rotation, RotationKind};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Give a key new material every so often
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store enable-key-rotation --key-id KEY-ID --rotation-period-in-days 180"
    )]
    EnableKeyRotation {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// 90 to 2560 (365)
        #[arg(long)]
        rotation_period_in_days: Option<u64>,
    },
    /// Leave a key's material as it is
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store disable-key-rotation --key-id KEY-ID")]
    DisableKeyRotation {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// Show whether and when a key rotates
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store get-key-rotation-status --key-id KEY-ID")]
    GetKeyRotationStatus {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// Give a key new material now
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store rotate-key-on-demand --key-id KEY-ID")]
    RotateKeyOnDemand {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
    },
    /// List a key's rotations, the newest first
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-key-rotations --key-id KEY-ID")]
    ListKeyRotations {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// With the first material too
        #[arg(long, value_enum, default_value = "ROTATIONS_ONLY")]
        include_key_material: Include,
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Include {
    RotationsOnly,
    AllKeyMaterial,
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::EnableKeyRotation { .. } => "EnableKeyRotation",
            Self::DisableKeyRotation { .. } => "DisableKeyRotation",
            Self::GetKeyRotationStatus { .. } => "GetKeyRotationStatus",
            Self::RotateKeyOnDemand { .. } => "RotateKeyOnDemand",
            Self::ListKeyRotations { .. } => "ListKeyRotations",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        Ok(match self {
            Self::EnableKeyRotation { key_id, rotation_period_in_days } => {
                admin.enable_key_rotation(key_id, *rotation_period_in_days)?;
                None
            }
            Self::DisableKeyRotation { key_id } => {
                admin.disable_key_rotation(key_id)?;
                None
            }
            Self::GetKeyRotationStatus { key_id } => {
                let status = admin.get_key_rotation_status(key_id)?;
                let mut answer = json!({
                    "KeyRotationEnabled": status.automatic.is_some(),
                    "KeyId": status.key_arn,
                });
                if let Some((period, next)) = status.automatic {
                    answer["RotationPeriodInDays"] = json!(period);
                    answer["NextRotationDate"] = json!(date(next));
                }
                Some(answer)
            }
            Self::RotateKeyOnDemand { key_id } => Some(json!({"KeyId": admin.rotate_key_on_demand(key_id)?})),
            Self::ListKeyRotations { key_id, include_key_material, page } => {
                let all = *include_key_material == Include::AllKeyMaterial;
                let rotations = admin.list_key_rotations(key_id, all, &page.request())?;
                let list: Vec<_> = rotations.entries.iter().map(rotation).collect();
                Some(with_page(json!({"Rotations": list}), rotations.next))
            }
        })
    }
}

fn rotation(rotation: &Rotation) -> Value {
    let mut answer = json!({
        "KeyId": rotation.key_arn,
        "KeyMaterialId": rotation.material_id,
        "KeyMaterialState": if rotation.current { "CURRENT" } else { "NON_CURRENT" },
    });
    if let Some(imported) = rotation.imported {
        answer["ImportState"] = json!(if imported { "IMPORTED" } else { "PENDING_IMPORT" });
        if imported {
            let model =
                if rotation.expires.is_some() { "KEY_MATERIAL_EXPIRES" } else { "KEY_MATERIAL_DOES_NOT_EXPIRE" };
            answer["ExpirationModel"] = json!(model);
        }
        if let Some(expires) = rotation.expires {
            answer["ValidTo"] = json!(date(expires));
        }
    }
    if let Some(kind) = rotation.kind {
        answer["RotationDate"] = json!(date(rotation.date));
        answer["RotationType"] = json!(match kind {
            RotationKind::Automatic => "AUTOMATIC",
            RotationKind::OnDemand => "ON_DEMAND",
        });
    }
    answer
}
