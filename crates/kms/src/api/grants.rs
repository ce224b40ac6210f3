//! Grants: leave that somebody has to use a key for some operations, beside its policy.

use crate::EncryptionContext;
use crate::policy::{Known, Subject};
use serde::{Deserialize, Serialize};

/// Operations that a grant of a symmetric key can name.
pub const OPERATIONS: [&str; 9] = [
    "CreateGrant",
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
];

/// A grant as the keyring keeps it, named as AWS's answers name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Grant {
    /// 64 hexadecimal digits.
    pub grant_id: String,
    /// Names the grant where the id is not known yet; no secret.
    pub grant_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// Makes asking twice for the same grant one grant.
    pub name: Option<String>,
    /// Nanoseconds since 1970.
    pub creation_date: i64,
    /// Who may use the key.
    pub grantee_principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// Who else may retire the grant.
    pub retiring_principal: Option<String>,
    /// The account in which it was made.
    pub issuing_account: String,
    /// What the grantee may do, of [`OPERATIONS`].
    pub operations: Vec<String>,
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    /// With which encryption contexts.
    pub constraints: Constraints,
}

/// What the encryption context of a request must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Constraints {
    /// It has these pairs, and maybe others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_context_subset: Option<EncryptionContext>,
    /// It is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_context_equals: Option<EncryptionContext>,
}

impl Constraints {
    /// Whether every context will do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// They bind operations that have an encryption context; the others go without one.
    fn hold(&self, context: Option<&EncryptionContext>) -> bool {
        let Some(context) = context else { return true };
        let has = |pairs: &EncryptionContext| pairs.iter().all(|(name, value)| context.get(name) == Some(value));
        self.encryption_context_subset.as_ref().is_none_or(has)
            && self.encryption_context_equals.as_ref().is_none_or(|exactly| exactly == context)
    }

    /// Whether whatever these let through `wider` lets through too.
    fn within(&self, wider: &Self) -> bool {
        let narrow = self.encryption_context_equals.as_ref();
        let equals = wider.encryption_context_equals.as_ref().is_none_or(|exactly| narrow == Some(exactly));
        let subset = wider.encryption_context_subset.as_ref().is_none_or(|wanted| {
            let mine = narrow.or(self.encryption_context_subset.as_ref());
            mine.is_some_and(|mine| wanted.iter().all(|(name, value)| mine.get(name) == Some(value)))
        });
        equals && subset
    }
}

impl Grant {
    /// Whether it lets this one do that (AWS's name, without `kms:`).
    pub fn allows(&self, action: &str, context: Option<&EncryptionContext>, who: &Subject<'_>) -> Known<bool> {
        let concerns = self.operations.iter().any(|operation| operation == action) && self.constraints.hold(context);
        if concerns { who.is_named(&self.grantee_principal) } else { Ok(false) }
    }

    /// Whether who has this grant may pass on that one: no operation more, no constraint less.
    pub fn covers(&self, other: &Self) -> bool {
        other.operations.iter().all(|operation| self.operations.contains(operation))
            && other.constraints.within(&self.constraints)
    }
}

/// What CreateGrant is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRequest {
    /// Who may use the key.
    pub grantee_principal: String,
    /// Who else may retire the grant.
    pub retiring_principal: Option<String>,
    /// What the grantee may do, of [`OPERATIONS`].
    pub operations: Vec<String>,
    #[serde(with = "whole")]
    /// With which encryption contexts.
    pub constraints: Constraints,
    /// Makes asking twice for the same grant one grant.
    pub name: Option<String>,
}

/// Constraints with what is absent too: not every form of frames can leave something out.
mod whole {
    use super::{Constraints, EncryptionContext};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    type Both = (Option<EncryptionContext>, Option<EncryptionContext>);

    pub(crate) fn serialize<S: Serializer>(constraints: &Constraints, serializer: S) -> Result<S::Ok, S::Error> {
        (&constraints.encryption_context_subset, &constraints.encryption_context_equals).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Constraints, D::Error> {
        let (encryption_context_subset, encryption_context_equals) = Both::deserialize(deserializer)?;
        Ok(Constraints { encryption_context_subset, encryption_context_equals })
    }
}

/// A grant that stands, and the ARN of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantEntry {
    /// The key that it is for.
    pub key_arn: String,
    /// The grant itself.
    pub grant: Grant,
}

/// Which grant RetireGrant means. A token lets its bearer in.
#[derive(Clone, Serialize, Deserialize)]
pub enum Retired {
    /// The one with this token.
    Token {
        /// As CreateGrant returned it.
        grant_token: String,
    },
    /// The one with this id.
    Id {
        /// The key that it is for.
        key_id: String,
        /// As CreateGrant returned it.
        grant_id: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Groups;
    use crate::policy::testing::{People, subject};

    const ALICE: &str = "arn:aws:iam::111122223333:user/uid:4000001";

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    fn grant(operations: &[&str], constraints: Constraints) -> Grant {
        Grant {
            grant_id: "0a".into(),
            grant_token: "token".into(),
            name: None,
            creation_date: 5,
            grantee_principal: ALICE.into(),
            retiring_principal: None,
            issuing_account: "arn:aws:iam::111122223333:root".into(),
            operations: operations.iter().map(|operation| (*operation).to_string()).collect(),
            constraints,
        }
    }

    fn subset(pairs: &[(&str, &str)]) -> Constraints {
        Constraints { encryption_context_subset: Some(context(pairs)), ..Constraints::default() }
    }

    fn equals(pairs: &[(&str, &str)]) -> Constraints {
        Constraints { encryption_context_equals: Some(context(pairs)), ..Constraints::default() }
    }

    #[test]
    fn a_grant_is_for_its_grantee_its_operations_and_its_contexts() {
        let groups = Groups::default();
        let [alice, bob] = [4_000_001, 4_000_002].map(|uid| subject(&People, uid, &groups, &groups));
        let (one, two) = (context(&[("a", "1")]), context(&[("a", "1"), ("b", "2")]));
        let allows = |grant: &Grant, action: &str, context: &EncryptionContext, who: &Subject<'_>| {
            grant.allows(action, Some(context), who) == Ok(true)
        };
        let plain = grant(&["Decrypt"], Constraints::default());
        assert!(allows(&plain, "Decrypt", &one, &alice));
        assert!(!allows(&plain, "Encrypt", &one, &alice));
        assert!(!allows(&plain, "Decrypt", &one, &bob));
        let some = grant(&["Decrypt", "DescribeKey"], subset(&[("a", "1")]));
        assert!(allows(&some, "Decrypt", &one, &alice) && allows(&some, "Decrypt", &two, &alice));
        assert!(!allows(&some, "Decrypt", &context(&[("a", "2")]), &alice));
        assert!(!allows(&some, "Decrypt", &context(&[]), &alice));
        assert_eq!(some.allows("DescribeKey", None, &alice), Ok(true));
        let exact = grant(&["Decrypt"], equals(&[("a", "1")]));
        assert!(allows(&exact, "Decrypt", &one, &alice) && !allows(&exact, "Decrypt", &two, &alice));
    }

    #[test]
    fn a_grant_covers_what_is_no_wider() {
        let none = Constraints::default;
        let wide = grant(&["Decrypt", "Encrypt"], none());
        assert!(wide.covers(&grant(&["Decrypt"], none())) && wide.covers(&grant(&["Decrypt"], equals(&[("a", "1")]))));
        assert!(!wide.covers(&grant(&["Decrypt", "CreateGrant"], none())));
        let narrow = grant(&["Decrypt"], subset(&[("a", "1")]));
        assert!(!narrow.covers(&grant(&["Decrypt"], none())));
        assert!(narrow.covers(&grant(&["Decrypt"], subset(&[("a", "1"), ("b", "2")]))));
        assert!(narrow.covers(&grant(&["Decrypt"], equals(&[("a", "1")]))));
        assert!(!narrow.covers(&grant(&["Decrypt"], equals(&[("a", "2")]))));
        let exact = grant(&["Decrypt"], equals(&[("a", "1")]));
        assert!(!exact.covers(&narrow) && exact.covers(&exact));
    }
}
