//! Reading a policy document. What is not understood is refused: it must not be passed over.

use super::condition::Condition;
use super::pattern::Pattern;
use super::{Effect, Listed, Policy, Principal, Principals, Statement, Who};
use crate::{Code, Error};
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// Bytes of a document, a quota of AWS KMS.
const MOST: usize = 32 * 1024;

impl Policy {
    /// Reads a document whole (`MalformedPolicyDocument`).
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MOST {
            let text = format!("The key policy document is {} bytes long and may have {MOST} at most.", text.len());
            return Err(Error::new(Code::LimitExceeded, text));
        }
        let document: Document =
            serde_json::from_str(text).map_err(|error| malformed(format!("Syntax errors in policy. ({error})")))?;
        let _ = document.id;
        if !matches!(document.version.as_deref(), None | Some("2012-10-17" | "2008-10-17")) {
            return Err(malformed("The policy must contain a valid version string."));
        }
        if document.statement.0.is_empty() {
            return Err(malformed("Policy contains no statement."));
        }
        let mut names = HashSet::new();
        let sids = document.statement.0.iter().filter_map(|statement| statement.sid.as_deref());
        if sids.filter(|sid| !sid.is_empty()).any(|sid| !names.insert(sid)) {
            return Err(malformed("Statement IDs (SID) in a single policy must be unique."));
        }
        let statements = document.statement.0.iter().map(Fields::statement).collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(Code::MalformedPolicyDocument, message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Document {
    version: Option<String>,
    id: Option<String>,
    statement: OneOrMany<Fields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Fields {
    sid: Option<String>,
    effect: String,
    principal: Option<Named>,
    not_principal: Option<Named>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: Pairs<Pairs<OneOrMany<Scalar>>>,
}

impl Fields {
    fn statement(&self) -> Result<Statement, Error> {
        let effect = match &*self.effect {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            other => {
                return Err(malformed(format!("Syntax errors in policy. (Effect is Allow or Deny, not '{other}')")));
            }
        };
        let mut who = self.who()?;
        who.is_account_everyone = effect == Effect::Deny && !who.negated;
        if who.negated && effect == Effect::Allow {
            return Err(malformed("Allow with NotPrincipal is not allowed."));
        }
        let actions = listed("actions", self.action.as_ref(), self.not_action.as_ref())?;
        let resources = listed("resources", self.resource.as_ref(), self.not_resource.as_ref())?;
        let all = self.action.iter().chain(&self.not_action).flat_map(|actions| &actions.0);
        if let Some(bad) = all.into_iter().find(|action| *action != "*" && !is_action(action)) {
            let text = format!("Policy contains a statement with one or more invalid actions. ({bad})");
            return Err(malformed(text));
        }
        let mut conditions = Vec::new();
        for (operator, pairs) in &self.condition.0 {
            for (key, values) in &pairs.0 {
                let values: Vec<_> = values.0.iter().map(|value| value.0.clone()).collect();
                conditions.push(Condition::new(operator, key, &values).map_err(malformed)?);
            }
        }
        Ok(Statement { effect, who, actions, resources, conditions })
    }

    fn who(&self) -> Result<Who, Error> {
        let (named, negated) = match (&self.principal, &self.not_principal) {
            (Some(named), None) => (named, false),
            (None, Some(named)) => (named, true),
            (None, None) => return Err(malformed("Policy statement must contain principals.")),
            (Some(_), Some(_)) => return Err(malformed("Policy statement has both Principal and NotPrincipal.")),
        };
        Ok(Who { listed: named.principals()?, negated, is_account_everyone: false })
    }
}

fn is_action(action: &str) -> bool {
    let legal = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    action.split_once(':').is_some_and(|(vendor, name)| legal(vendor, b"-") && legal(name, b"*?"))
}

fn listed(
    what: &str,
    these: Option<&OneOrMany<String>>,
    all_but_these: Option<&OneOrMany<String>>,
) -> Result<Listed, Error> {
    let (list, negated) = match (these, all_but_these) {
        (Some(list), None) => (list, false),
        (None, Some(list)) => (list, true),
        (None, None) => return Err(malformed(format!("Policy statement must contain {what}."))),
        (Some(_), Some(_)) => return Err(malformed(format!("Policy statement has its {what} named twice."))),
    };
    if list.0.is_empty() {
        return Err(malformed(format!("Policy statement must contain {what}.")));
    }
    Ok(Listed { patterns: list.0.iter().map(Pattern::new).collect(), negated })
}

/// `"*"`, or an object of kinds.
enum Named {
    Everyone,
    Kinds(Pairs<OneOrMany<String>>),
}

impl Named {
    fn principals(&self) -> Result<Principals, Error> {
        let Self::Kinds(kinds) = self else { return Ok(Principals::Everyone) };
        let invalid = |which: &str| {
            malformed(format!("Policy contains a statement with one or more invalid principals. ({which})"))
        };
        if kinds.0.is_empty() {
            return Err(malformed("Policy statement must contain principals."));
        }
        let mut all = Vec::new();
        for (kind, names) in &kinds.0 {
            match &**kind {
                "AWS" if names.0.iter().any(|name| name == "*") => return Ok(Principals::Everyone),
                "AWS" => {
                    for name in &names.0 {
                        all.push(Principal::parse(name).ok_or_else(|| invalid(name))?);
                    }
                }
                // Nobody here is one of these.
                "Service" | "Federated" | "CanonicalUser" => {}
                other => return Err(invalid(other)),
            }
            if names.0.is_empty() {
                return Err(malformed("Policy statement must contain principals."));
            }
        }
        Ok(Principals::These(all))
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Named;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"*\" or an object such as {\"AWS\": \"arn:aws:iam::ACCOUNT:user/NAME\"}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Named, E> {
                if text == "*" { Ok(Named::Everyone) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named, A::Error> {
                Pairs::deserialize(MapAccessDeserializer::new(map)).map(Named::Kinds)
            }
        }
        deserializer.deserialize_any(Of)
    }
}

/// A value, or a list of them.
struct OneOrMany<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Of<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one or a list of them")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                T::deserialize(BorrowedStrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                T::deserialize(de::value::BoolDeserializer::new(value)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                T::deserialize(de::value::U64Deserializer::new(value)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                T::deserialize(de::value::I64Deserializer::new(value)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                T::deserialize(de::value::F64Deserializer::new(value)).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}

/// An object in the order of its text, in which no name stands twice: readers would differ in which one counts.
struct Pairs<V>(Vec<(String, V)>);

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Of<V> {
            type Value = Pairs<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(String, V)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("'{name}' stands twice in one object")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Of(PhantomData))
    }
}

/// A string, a number or a boolean, as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl Visitor<'_> for Of {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.into()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = Policy::parse(text).expect_err(text);
        assert_eq!(error.code, Code::MalformedPolicyDocument, "{text}");
        error.message
    }

    fn statement(fields: &str) -> String {
        format!("{{\"Version\": \"2012-10-17\", \"Statement\": {{\"Effect\": \"Allow\", {fields}}}}}")
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said() {
        let (who, action, resource) = (r#""Principal": "*""#, r#""Action": "kms:*""#, r#""Resource": "*""#);
        let invalid_principal = "Policy contains a statement with one or more invalid principals.";
        let cases = [
            (String::new(), "Syntax errors in policy. (EOF while parsing"),
            ("[]".into(), "Syntax errors in policy."),
            ("{}".into(), "Syntax errors in policy. (missing field `Statement`"),
            (r#"{"Version": "2020-01-01", "Statement": []}"#.into(), "The policy must contain a valid version string."),
            (r#"{"Statement": []}"#.into(), "Policy contains no statement."),
            (r#"{"Statement": [], "More": 1}"#.into(), "Syntax errors in policy. (unknown field `More`"),
            (statement(&format!("{action}, {resource}")), "Policy statement must contain principals."),
            (statement(&format!("{who}, {resource}")), "Policy statement must contain actions."),
            (statement(&format!("{who}, {action}")), "Policy statement must contain resources."),
            (statement(&format!(r#"{who}, "Action": [], {resource}"#)), "Policy statement must contain actions."),
            (
                statement(&format!(r#"{who}, "Action": "Decrypt", {resource}"#)),
                "Policy contains a statement with one or more invalid actions. (Decrypt)",
            ),
            (
                statement(&format!("{who}, {who}, {action}, {resource}")),
                "Syntax errors in policy. (duplicate field `Principal`",
            ),
            (
                statement(&format!(r#""Principal": {{"AWS": []}}, {action}, {resource}"#)),
                "Policy statement must contain principals.",
            ),
            (
                statement(&format!(r#""Principal": "alice", {action}, {resource}"#)),
                "Syntax errors in policy. (invalid value",
            ),
            (statement(&format!(r#""Principal": {{"AWS": "alice"}}, {action}, {resource}"#)), invalid_principal),
            (
                statement(&format!(
                    r#""Principal": {{"AWS": "arn:aws:iam::111122223333:user/*"}}, {action}, {resource}"#
                )),
                invalid_principal,
            ),
            (
                statement(&format!(
                    r#""Principal": {{"AWS": "arn:aws:iam::111122223333:group/x"}}, {action}, {resource}"#
                )),
                invalid_principal,
            ),
            (statement(&format!(r#""Principal": {{"Linux": "x"}}, {action}, {resource}"#)), invalid_principal),
            (
                statement(&format!(r#""NotPrincipal": {{"AWS": "111122223333"}}, {action}, {resource}"#)),
                "Allow with NotPrincipal is not allowed.",
            ),
            (
                statement(&format!(r#"{who}, {action}, {resource}, "Condition": {{"Like": {{"a": "b"}}}}"#)),
                "Invalid Condition type : Like.",
            ),
            (
                statement(&format!(r#"{who}, {action}, {resource}, "Condition": {{"Bool": {{"a": "perhaps"}}}}"#)),
                "Bool of a: 'perhaps' is not a value that it compares with.",
            ),
            (
                statement(&format!(
                    r#"{who}, {action}, {resource}, "Condition": {{"StringEquals": {{"a": "${{aws:username}}"}}}}"#
                )),
                "StringEquals of a: policy variables, as in '${aws:username}', are not provided.",
            ),
            (
                statement(&format!(r#"{who}, {action}, {resource}, "Condition": {{"Bool": {{"a": []}}}}"#)),
                "Bool needs a condition key with at least one value.",
            ),
            (
                statement(&format!(
                    r#"{who}, {action}, {resource}, "Condition": {{"Bool": {{"a": "true", "a": "false"}}}}"#
                )),
                "Syntax errors in policy. ('a' stands twice in one object",
            ),
        ];
        for (text, expected) in cases {
            let message = refused(&text);
            assert!(message.starts_with(expected), "{text}\n{message}");
        }
        let other = statement(&format!("{who}, {action}, {resource}")).replace("Allow", "Maybe");
        assert_eq!(refused(&other), "Syntax errors in policy. (Effect is Allow or Deny, not 'Maybe')");
        let twice = format!(r#"{{"Sid": "a", "Effect": "Deny", {who}, {action}, {resource}}}"#);
        let twice = format!(r#"{{"Statement": [{twice}, {twice}]}}"#);
        assert_eq!(refused(&twice), "Statement IDs (SID) in a single policy must be unique.");
    }

    #[test]
    fn a_document_has_32_kib_at_most() {
        let text = statement(r#""Principal": "*", "Action": "kms:*", "Resource": "*""#);
        let padded = |len: usize| format!("{text}{}", " ".repeat(len - text.len()));
        assert!(Policy::parse(&padded(MOST)).is_ok());
        let error = Policy::parse(&padded(MOST + 1)).expect_err("it is too long");
        let text = "The key policy document is 32769 bytes long and may have 32768 at most.";
        assert_eq!(error, Error::new(Code::LimitExceeded, text));
    }

    #[test]
    fn the_default_policies_are_read() {
        for text in [
            super::super::default_policy("111122223333", "eu-west-1"),
            super::super::aws_s3_policy("111122223333", "eu-west-1"),
        ] {
            assert_eq!(Policy::parse(&text).map(|policy| policy.statements.len()).ok(), Some(2), "{text}");
        }
    }
}
