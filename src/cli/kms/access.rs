//! Who may use a key: policies and grants on the command line.

use super::{Answer, PageArgs, Refused, date, input, with_page};
use crate::kms::{Administrator, Constraints, GrantEntry, GrantRequest, Page, Retired};
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Subcommand, Serialize)]
#[serde(rename_all_fields = "camelCase")]
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
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        policy_name: Option<String>,
    },
    /// List the names of a key's policies
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-key-policies --key-id KEY-ID")]
    ListKeyPolicies {
        #[arg(long)]
        key_id: String,
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
    /// Let somebody use a key for some operations, beside its policy
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store create-grant --key-id KEY-ID \\\n    \
                            --grantee-principal arn:aws:iam::000000000000:user/alice --operations Decrypt DescribeKey")]
    CreateGrant {
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        grantee_principal: String,
        #[arg(long)]
        retiring_principal: Option<String>,
        #[arg(long, required = true, num_args = 1..)]
        operations: Vec<String>,
        /// EncryptionContextSubset={NAME=VALUE,...} or EncryptionContextEquals={...}, JSON, or file://PATH
        #[arg(long)]
        constraints: Option<String>,
        #[arg(long, num_args = 1..)]
        #[serde(skip)]
        grant_tokens: Vec<String>,
        /// The same request with the same name makes one grant
        #[arg(long)]
        name: Option<String>,
    },
    /// List a key's grants
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-grants --key-id KEY-ID")]
    ListGrants {
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        grant_id: Option<String>,
        #[arg(long)]
        grantee_principal: Option<String>,
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
    /// List the grants that a principal may retire
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store list-retirable-grants \\\n    \
                            --retiring-principal arn:aws:iam::000000000000:user/alice")]
    ListRetirableGrants {
        #[arg(long)]
        retiring_principal: String,
        #[command(flatten)]
        #[serde(skip)]
        page: PageArgs,
    },
    /// End a grant
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store revoke-grant --key-id KEY-ID --grant-id GRANT-ID"
    )]
    RevokeGrant {
        #[arg(long)]
        key_id: String,
        #[arg(long)]
        grant_id: String,
    },
    /// End a grant, as its retiring principal
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store retire-grant --grant-token TOKEN")]
    RetireGrant {
        #[arg(long, conflicts_with_all = ["key_id", "grant_id"], required_unless_present = "grant_id")]
        #[serde(skip)]
        grant_token: Option<String>,
        #[arg(long, requires = "grant_id")]
        key_id: Option<String>,
        #[arg(long, requires = "key_id")]
        grant_id: Option<String>,
    },
}

impl Operation {
    /// AWS's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PutKeyPolicy { .. } => "PutKeyPolicy",
            Self::GetKeyPolicy { .. } => "GetKeyPolicy",
            Self::ListKeyPolicies { .. } => "ListKeyPolicies",
            Self::CreateGrant { .. } => "CreateGrant",
            Self::ListGrants { .. } => "ListGrants",
            Self::ListRetirableGrants { .. } => "ListRetirableGrants",
            Self::RevokeGrant { .. } => "RevokeGrant",
            Self::RetireGrant { .. } => "RetireGrant",
        }
    }

    pub fn answer(&self, admin: &Administrator<'_>) -> Answer {
        let (kms, caller) = (admin.kms(), admin.caller());
        Ok(match self {
            Self::PutKeyPolicy { key_id, policy_name, policy, bypass_policy_lockout_safety_check } => {
                let bypass = *bypass_policy_lockout_safety_check;
                let policy = input::text(policy, "--policy")?;
                kms.put_key_policy(key_id, policy_name.as_deref(), &policy, bypass, caller)?;
                None
            }
            Self::GetKeyPolicy { key_id, policy_name } => {
                let policy = kms.get_key_policy(key_id, policy_name.as_deref(), caller)?;
                Some(json!({"Policy": policy, "PolicyName": "default"}))
            }
            Self::ListKeyPolicies { key_id, page } => {
                let names = page.request().of(kms.list_key_policies(key_id, caller)?)?;
                Some(with_page(json!({"PolicyNames": names.entries}), names.next))
            }
            Self::CreateGrant {
                key_id,
                grantee_principal,
                retiring_principal,
                operations,
                constraints,
                grant_tokens,
                name,
            } => {
                let request = GrantRequest {
                    grantee_principal: grantee_principal.clone(),
                    retiring_principal: retiring_principal.clone(),
                    operations: operations.clone(),
                    constraints: constraints.as_deref().map(parse_constraints).transpose()?.unwrap_or_default(),
                    name: name.clone(),
                };
                let grant = kms.create_grant(key_id, &request, grant_tokens, caller)?;
                Some(json!({"GrantToken": grant.grant_token, "GrantId": grant.grant_id}))
            }
            Self::ListGrants { key_id, grant_id, grantee_principal, page } => {
                let grants = kms.list_grants(key_id, grant_id.as_deref(), grantee_principal.as_deref(), caller)?;
                Some(listed(page.request().of(grants)?))
            }
            Self::ListRetirableGrants { retiring_principal, page } => {
                Some(listed(page.request().of(kms.list_retirable_grants(retiring_principal)?)?))
            }
            Self::RevokeGrant { key_id, grant_id } => {
                kms.revoke_grant(key_id, grant_id, caller)?;
                None
            }
            Self::RetireGrant { grant_token, key_id, grant_id } => {
                let which = match (grant_token, key_id, grant_id) {
                    (None, Some(key_id), Some(grant_id)) => Retired::Id { key_id, grant_id },
                    (token, ..) => Retired::Token(token.as_deref().unwrap_or_default()),
                };
                kms.retire_grant(&which, caller)?;
                None
            }
        })
    }
}

fn listed(grants: Page<GrantEntry>) -> Value {
    let entry = |GrantEntry { key_arn, grant }: &GrantEntry| {
        let mut entry = json!({
            "KeyId": key_arn,
            "GrantId": grant.grant_id,
            "Name": grant.name.as_deref().unwrap_or_default(),
            "CreationDate": date(grant.creation_date),
            "GranteePrincipal": grant.grantee_principal,
        });
        if let Some(retiring) = &grant.retiring_principal {
            entry["RetiringPrincipal"] = json!(retiring);
        }
        entry["IssuingAccount"] = json!(grant.issuing_account);
        entry["Operations"] = json!(grant.operations);
        if !grant.constraints.is_empty() {
            entry["Constraints"] = json!(grant.constraints);
        }
        entry
    };
    with_page(json!({"Grants": grants.entries.iter().map(entry).collect::<Vec<_>>()}), grants.next)
}

/// JSON, or aws' shorthand: `EncryptionContextSubset={a=1,b=2}`.
fn parse_constraints(argument: &str) -> Result<Constraints, Refused> {
    const PARAMETER: &str = "--constraints";
    let invalid = |why: String| Refused::Usage(format!("Error parsing parameter '{PARAMETER}': {why}"));
    let text = input::text(argument, PARAMETER)?;
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
    use crate::kms::EncryptionContext;

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
                Err(Refused::Usage(text)) => assert!(text.starts_with("Error parsing parameter '--"), "{text}"),
                _ => panic!("{bad}"),
            }
        }
    }
}
