//! Who may use a key: policies and grants on the command line.

use super::{PageArgs, Usage, input};
use crate::cli::aws;
use clap::Subcommand;
use kmsfs_kms::api::Request;
use kmsfs_kms::api::{Constraints, GrantRequest, Retired};

#[derive(Subcommand)]
pub enum Operation {
    /// Replace a key's policy
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store put-key-policy --key-id KEY-ID --policy file://policy.json"
    )]
    PutKeyPolicy {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// A key has one policy, `default`
        #[arg(long)]
        policy_name: Option<String>,
        /// JSON, or file://PATH
        #[arg(long)]
        policy: String,
        /// Take a policy under which you cannot put another
        #[arg(long)]
        bypass_policy_lockout_safety_check: bool,
    },
    /// Show a key's policy
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store get-key-policy --key-id KEY-ID")]
    GetKeyPolicy {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// The only one that there is: default
        #[arg(long)]
        policy_name: Option<String>,
    },
    /// List the names of a key's policies
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-key-policies --key-id KEY-ID")]
    ListKeyPolicies {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Let somebody use a key for some operations, beside its policy
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store create-grant --key-id KEY-ID \\\n    \
                            --grantee-principal arn:aws:iam::000000000000:user/alice --operations Decrypt DescribeKey")]
    CreateGrant {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// Who may use the key: the ARN of a user or role
        #[arg(long)]
        grantee_principal: String,
        /// Who may retire the grant: the ARN of a user or role
        #[arg(long)]
        retiring_principal: Option<String>,
        /// Calls that it allows, such as Decrypt and GenerateDataKey
        #[arg(long, required = true, num_args = 1..)]
        operations: Vec<String>,
        /// EncryptionContextSubset={NAME=VALUE,...} or EncryptionContextEquals={...}, JSON, or file://PATH
        #[arg(long)]
        constraints: Option<String>,
        /// Tokens of grants that were made just now
        #[arg(long, num_args = 1..)]
        grant_tokens: Vec<String>,
        /// The same request with the same name makes one grant
        #[arg(long)]
        name: Option<String>,
    },
    /// List a key's grants
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-grants --key-id KEY-ID")]
    ListGrants {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// The grant, as create-grant and list-grants show it
        #[arg(long)]
        grant_id: Option<String>,
        /// Who may use the key: the ARN of a user or role
        #[arg(long)]
        grantee_principal: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// List the grants that a principal may retire
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-retirable-grants \\\n    \
                            --retiring-principal arn:aws:iam::000000000000:user/alice")]
    ListRetirableGrants {
        /// Who may retire the grant: the ARN of a user or role
        #[arg(long)]
        retiring_principal: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// End a grant
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store revoke-grant --key-id KEY-ID --grant-id GRANT-ID"
    )]
    RevokeGrant {
        /// Key id or key ARN
        #[arg(long)]
        key_id: String,
        /// The grant, as create-grant and list-grants show it
        #[arg(long)]
        grant_id: String,
    },
    /// End a grant, as its retiring principal
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store retire-grant --grant-token TOKEN")]
    RetireGrant {
        /// The grant's token, as create-grant shows it
        #[arg(long, conflicts_with_all = ["key_id", "grant_id"], required_unless_present = "grant_id")]
        grant_token: Option<String>,
        /// Key id or key ARN
        #[arg(long, requires = "grant_id")]
        key_id: Option<String>,
        /// The grant, as create-grant and list-grants show it
        #[arg(long, requires = "key_id")]
        grant_id: Option<String>,
    },
}

impl Operation {
    pub fn request(self) -> Result<Request, Usage> {
        Ok(match self {
            Self::PutKeyPolicy { key_id, policy_name, policy, bypass_policy_lockout_safety_check } => {
                let policy = aws::parameter(&policy, "--policy")?;
                Request::PutKeyPolicy { key_id, policy_name, policy, bypass_policy_lockout_safety_check }
            }
            Self::GetKeyPolicy { key_id, policy_name } => Request::GetKeyPolicy { key_id, policy_name },
            Self::ListKeyPolicies { key_id, page } => Request::ListKeyPolicies { key_id, page: page.into() },
            Self::CreateGrant {
                key_id,
                grantee_principal,
                retiring_principal,
                operations,
                constraints,
                grant_tokens,
                name,
            } => {
                let constraints = constraints.as_deref().map(parse_constraints).transpose()?.unwrap_or_default();
                let grant = GrantRequest { grantee_principal, retiring_principal, operations, constraints, name };
                Request::CreateGrant { key_id, grant, grant_tokens }
            }
            Self::ListGrants { key_id, grant_id, grantee_principal, page } => {
                Request::ListGrants { key_id, grant_id, grantee_principal, page: page.into() }
            }
            Self::ListRetirableGrants { retiring_principal, page } => {
                Request::ListRetirableGrants { retiring_principal, page: page.into() }
            }
            Self::RevokeGrant { key_id, grant_id } => Request::RevokeGrant { key_id, grant_id },
            Self::RetireGrant { grant_token, key_id, grant_id } => Request::RetireGrant(match (key_id, grant_id) {
                (Some(key_id), Some(grant_id)) => Retired::Id { key_id, grant_id },
                _ => Retired::Token { grant_token: grant_token.unwrap_or_default() },
            }),
        })
    }
}

/// JSON, or aws' shorthand: `EncryptionContextSubset={a=1,b=2}`.
fn parse_constraints(argument: &str) -> Result<Constraints, Usage> {
    const PARAMETER: &str = "--constraints";
    let invalid = |why: String| Usage(format!("Error parsing parameter '{PARAMETER}': {why}"));
    let text = aws::parameter(argument, PARAMETER)?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|why| invalid(format!("Invalid JSON: {why}")));
    }
    let shape = || invalid(format!("Expected: 'EncryptionContextSubset={{NAME=VALUE}}', received: {text}"));
    let (kind, pairs) = text.split_once('=').ok_or_else(shape)?;
    let pairs = pairs.strip_prefix('{').and_then(|pairs| pairs.strip_suffix('}')).ok_or_else(shape)?;
    let pairs = input::context(Some(pairs))?;
    let mut constraints = Constraints::default();
    match kind {
        "EncryptionContextSubset" => constraints.encryption_context_subset = Some(pairs),
        "EncryptionContextEquals" => constraints.encryption_context_equals = Some(pairs),
        _ => return Err(shape()),
    }
    Ok(constraints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::EncryptionContext;

    #[test]
    fn constraints_are_taken_as_json_and_in_aws_shorthand() {
        let pairs: EncryptionContext = [("aws:s3:arn", "arn:aws:s3:::b"), ("a", "1")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into();
        let subset = Constraints { encryption_context_subset: Some(pairs.clone()), ..Constraints::default() };
        let taken = |text| parse_constraints(text).unwrap_or_else(|_| panic!("{text} is refused"));
        assert_eq!(taken("EncryptionContextSubset={aws:s3:arn=arn:aws:s3:::b,a=1}"), subset);
        let json = r#"{"EncryptionContextSubset": {"aws:s3:arn": "arn:aws:s3:::b", "a": "1"}}"#;
        assert_eq!(taken(json), subset);
        let equals = Constraints { encryption_context_equals: Some(pairs), ..Constraints::default() };
        assert_eq!(taken("EncryptionContextEquals={a=1,aws:s3:arn=arn:aws:s3:::b}"), equals);
        for bad in
            ["", "x", "Other={a=1}", "EncryptionContextEquals={a}", "EncryptionContextEquals=a=1", r#"{"x": {}}"#]
        {
            match parse_constraints(bad) {
                Err(Usage(text)) => assert!(text.starts_with("Error parsing parameter '--"), "{text}"),
                _ => panic!("{bad}"),
            }
        }
    }
}
