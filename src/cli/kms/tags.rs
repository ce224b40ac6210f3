//! Tags.

use super::{PageArgs, Usage, input};
use clap::Subcommand;
use kmsfs_kms::api::Request;

#[derive(Subcommand)]
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
        /// Keys of the tags to take away
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
        page: PageArgs,
    },
}

impl Operation {
    pub fn request(self) -> Result<Request, Usage> {
        Ok(match self {
            Self::TagResource { key_id, tags } => Request::TagResource { key_id, tags: input::tags(&tags)? },
            Self::UntagResource { key_id, tag_keys } => Request::UntagResource { key_id, tag_keys },
            Self::ListResourceTags { key_id, page } => Request::ListResourceTags { key_id, page: page.into() },
        })
    }
}
