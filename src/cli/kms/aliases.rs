//! Aliases.

use super::PageArgs;
use clap::Subcommand;
use kmsfs_kms::api::Request;

#[derive(Subcommand)]
pub enum Operation {
    /// Give a key a name
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-alias --alias-name alias/x --target-key-id KEY-ID"
    )]
    CreateAlias {
        /// The name: alias/ and letters, digits, /, _ and -
        #[arg(long)]
        alias_name: String,
        /// Key id or key ARN
        #[arg(long)]
        target_key_id: String,
    },
    /// Give a name to another key: later objects use that one, those that exist stay as they are
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store update-alias --alias-name alias/x --target-key-id KEY-ID"
    )]
    UpdateAlias {
        /// The name: alias/ and letters, digits, /, _ and -
        #[arg(long)]
        alias_name: String,
        /// Key id or key ARN
        #[arg(long)]
        target_key_id: String,
    },
    /// Take a name away
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store delete-alias --alias-name alias/x")]
    DeleteAlias {
        /// The name: alias/ and letters, digits, /, _ and -
        #[arg(long)]
        alias_name: String,
    },
    /// List aliases
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-aliases")]
    ListAliases {
        /// Only those of this key
        #[arg(long)]
        key_id: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
}

impl Operation {
    pub fn request(self) -> Request {
        match self {
            Self::CreateAlias { alias_name, target_key_id } => Request::CreateAlias { alias_name, target_key_id },
            Self::UpdateAlias { alias_name, target_key_id } => Request::UpdateAlias { alias_name, target_key_id },
            Self::DeleteAlias { alias_name } => Request::DeleteAlias { alias_name },
            Self::ListAliases { key_id, page } => Request::ListAliases { key_id, page: page.into() },
        }
    }
}
