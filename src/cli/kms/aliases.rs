//! Aliases.

use super::{Answer, PageArgs, date, with_page};
use crate::kms::{Administrator, AliasEntry};
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Give a key a name
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-alias --alias-name alias/x --target-key-id KEY-ID"
    )]
    CreateAlias {
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
        #[arg(long)]
        alias_name: String,
        /// Key id or key ARN
        #[arg(long)]
        target_key_id: String,
    },
    /// Take a name away
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store delete-alias --alias-name alias/x")]
    DeleteAlias {
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
        #[serde(skip)]
        page: PageArgs,
    },
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateAlias { .. } => "CreateAlias",
            Self::UpdateAlias { .. } => "UpdateAlias",
            Self::DeleteAlias { .. } => "DeleteAlias",
            Self::ListAliases { .. } => "ListAliases",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        match self {
            Self::CreateAlias { alias_name, target_key_id } => admin.create_alias(alias_name, target_key_id)?,
            Self::UpdateAlias { alias_name, target_key_id } => admin.update_alias(alias_name, target_key_id)?,
            Self::DeleteAlias { alias_name } => admin.delete_alias(alias_name)?,
            Self::ListAliases { key_id, page } => {
                let aliases = admin.list_aliases(key_id.as_deref(), &page.request())?;
                let list: Vec<_> = aliases.entries.iter().map(alias).collect();
                return Ok(Some(with_page(json!({"Aliases": list}), aliases.next)));
            }
        }
        Ok(None)
    }
}

fn alias(alias: &AliasEntry) -> Value {
    json!({
        "AliasName": alias.name,
        "AliasArn": alias.arn,
        "TargetKeyId": alias.key_id,
        "CreationDate": date(alias.created),
        "LastUpdatedDate": date(alias.updated),
    })
}
