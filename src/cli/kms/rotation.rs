//! Rotation.

use super::PageArgs;
use clap::{Subcommand, ValueEnum};
use kmsfs_kms::api::{IncludeKeyMaterial, Request};

#[derive(Subcommand)]
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
        page: PageArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Include {
    RotationsOnly,
    AllKeyMaterial,
}

impl Operation {
    pub fn request(self) -> Request {
        match self {
            Self::EnableKeyRotation { key_id, rotation_period_in_days } => {
                Request::EnableKeyRotation { key_id, rotation_period_in_days }
            }
            Self::DisableKeyRotation { key_id } => Request::DisableKeyRotation { key_id },
            Self::GetKeyRotationStatus { key_id } => Request::GetKeyRotationStatus { key_id },
            Self::RotateKeyOnDemand { key_id } => Request::RotateKeyOnDemand { key_id },
            Self::ListKeyRotations { key_id, include_key_material, page } => Request::ListKeyRotations {
                key_id,
                include_key_material: match include_key_material {
                    Include::RotationsOnly => IncludeKeyMaterial::RotationsOnly,
                    Include::AllKeyMaterial => IncludeKeyMaterial::AllKeyMaterial,
                },
                page: page.into(),
            },
        }
    }
}
