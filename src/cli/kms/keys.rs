//! Keys and their life.

use super::{PageArgs, Usage, input};
use crate::cli::aws;
use clap::{Subcommand, ValueEnum};
use kmsfs_kms::api::Request;
use kmsfs_kms::api::{KeyOrigin, NewKey};

#[derive(Subcommand)]
pub enum Operation {
    /// Make a customer managed key
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-key --description invoices\n  kmsfs kms --store /srv/store create-key --tags TagKey=team,TagValue=billing\n  kmsfs kms --store /srv/store create-key --origin EXTERNAL"
    )]
    CreateKey {
        /// What it is for, in up to 8192 characters
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
        /// What it is for, in up to 8192 characters
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

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Origin {
    AwsKms,
    External,
}

impl Operation {
    pub fn request(self) -> Result<Request, Usage> {
        Ok(match self {
            Self::CreateKey { description, tags, origin, policy, bypass_policy_lockout_safety_check } => {
                Request::CreateKey(NewKey {
                    description,
                    tags: input::tags(&tags)?,
                    origin: match origin {
                        Origin::AwsKms => KeyOrigin::AwsKms,
                        Origin::External => KeyOrigin::External,
                    },
                    policy: policy.map(|policy| aws::parameter(&policy, "--policy")).transpose()?,
                    bypass_lockout_check: bypass_policy_lockout_safety_check,
                })
            }
            Self::DescribeKey { key_id } => Request::DescribeKey { key_id },
            Self::ListKeys { page } => Request::ListKeys { page: page.into() },
            Self::UpdateKeyDescription { key_id, description } => Request::UpdateKeyDescription { key_id, description },
            Self::DisableKey { key_id } => Request::DisableKey { key_id },
            Self::EnableKey { key_id } => Request::EnableKey { key_id },
            Self::ScheduleKeyDeletion { key_id, pending_window_in_days } => {
                Request::ScheduleKeyDeletion { key_id, pending_window_in_days }
            }
            Self::CancelKeyDeletion { key_id } => Request::CancelKeyDeletion { key_id },
        })
    }
}
