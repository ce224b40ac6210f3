//! Tags.

use super::{Answer, PageArgs, input, with_page};
use crate::kms::{Administrator, Tag};
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Operation {
    /// Add tags to a key, or change them
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store tag-resource --key-id KEY-ID --tags TagKey=team,TagValue=billing"
    )]
    TagResource {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// TagKey=K,TagValue=V, several of them, or JSON
        #[arg(long, num_args = 1.., required = true)]
        tags: Vec<String>,
    },
    /// Take tags away
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store untag-resource --key-id KEY-ID --tag-keys team")]
    UntagResource {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[arg(long, num_args = 1.., required = true)]
        tag_keys: Vec<String>,
    },
    /// List a key's tags
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-resource-tags --key-id KEY-ID")]
    ListResourceTags {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::TagResource { .. } => "TagResource",
            Self::UntagResource { .. } => "UntagResource",
            Self::ListResourceTags { .. } => "ListResourceTags",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        match self {
            Self::TagResource { key_id, tags } => admin.tag_resource(key_id, &input::tags(tags)?)?,
            Self::UntagResource { key_id, tag_keys } => admin.untag_resource(key_id, tag_keys)?,
            Self::ListResourceTags { key_id, page } => {
                let tags = admin.list_resource_tags(key_id, &page.request())?;
                let tag = |tag: &Tag| json!({"TagKey": tag.key, "TagValue": tag.value});
                let list: Vec<_> = tags.entries.iter().map(tag).collect();
                return Ok(Some(with_page(json!({"Tags": list}), tags.next)));
            }
        }
        Ok(None)
    }
}
