//! What policies say to requests, as IAM's reference has it. Whatever evaluates policies has to answer these so.

use super::testing::{People, subject};
use super::{Decision, Groups, Judgement, Policy, Request};
use Decision::{Allowed, Denied, NotAllowed};

pub(super) const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// A user of two groups, alice of staff and audit, decrypts through a mount an object of which these condition keys are
/// known.
pub(super) fn values(key: &str) -> Vec<String> {
    let values: &[&str] = match key {
        "kms:viaservice" => &["s3.eu-central-1.amazonaws.com"],
        "kms:calleraccount" => &["111122223333"],
        "kms:encryptioncontext:aws:s3:arn" => &["arn:aws:s3:::secret/a/b.txt"],
        "kms:encryptioncontext:department" => &["Finance"],
        "kms:encryptioncontextkeys" => &["aws:s3:arn", "Department"],
        "kms:resourcealiases" => &["alias/one", "alias/two"],
        "kms:multiregion" => &["false"],
        "kms:schedulekeydeletionpendingwindowindays" => &["14"],
        "aws:currenttime" => &["2026-05-01T12:00:00Z"],
        "odd:number" => &["many"],
        _ => &[],
    };
    values.iter().map(|value| (*value).to_string()).collect()
}

fn decide(policy: &str, action: &str) -> Decision {
    let policy = Policy::parse(policy).unwrap_or_else(|error| panic!("{policy}\n{error:?}"));
    let groups = Groups { gids: vec![50, 51], missing: None };
    let alice = subject(&People, 1001, &groups, &groups);
    let judgement = policy.judge(&Request { action, resource: KEY, subject: &alice, values: &values });
    assert_eq!(judgement, Judgement { decision: judgement.decision, unknown: None });
    judgement.decision
}

/// Statements of a name each, without what they share.
pub(super) fn of(statements: &[&str]) -> String {
    format!("{{\"Version\": \"2012-10-17\", \"Statement\": [{}]}}", statements.join(", "))
}

pub(super) const ALLOW: &str = r#"{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}"#;

#[test]
fn statements_are_matched_by_action_principal_and_resource() {
    let allow = |rest: &str| format!(r#"{{"Effect": "Allow", {rest}}}"#);
    let deny = |rest: &str| format!(r#"{{"Effect": "Deny", {rest}}}"#);
    let who = |who: &str| allow(&format!(r#"{who}, "Action": "kms:Decrypt", "Resource": "*""#));
    let action = |action: &str| allow(&format!(r#""Principal": "*", {action}, "Resource": "*""#));
    let resource = |resource: &str| allow(&format!(r#""Principal": "*", "Action": "kms:*", {resource}"#));
    let cases: &[(&str, Vec<String>, Decision)] = &[
        ("everyone", vec![who(r#""Principal": "*""#)], Allowed),
        ("everyone_of_aws", vec![who(r#""Principal": {"AWS": "*"}"#)], Allowed),
        (
            "everyone_in_a_list",
            vec![who(r#""Principal": {"AWS": ["arn:aws:iam::111122223333:user/bob", "*"]}"#)],
            Allowed,
        ),
        ("the_user", vec![who(r#""Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}"#)], Allowed),
        ("another_user", vec![who(r#""Principal": {"AWS": "arn:aws:iam::111122223333:user/bob"}"#)], NotAllowed),
        ("names_have_case", vec![who(r#""Principal": {"AWS": "arn:aws:iam::111122223333:user/Alice"}"#)], NotAllowed),
        ("one_of_the_groups", vec![who(r#""Principal": {"AWS": ["arn:aws:iam::111122223333:role/audit"]}"#)], Allowed),
        (
            "a_group_is_no_user",
            vec![who(r#""Principal": {"AWS": "arn:aws:iam::111122223333:user/audit"}"#)],
            NotAllowed,
        ),
        ("another_account", vec![who(r#""Principal": {"AWS": "arn:aws:iam::999922223333:user/alice"}"#)], NotAllowed),
        ("the_account_is_its_root", vec![who(r#""Principal": {"AWS": "111122223333"}"#)], NotAllowed),
        ("root_is_root", vec![who(r#""Principal": {"AWS": "arn:aws:iam::111122223333:root"}"#)], NotAllowed),
        ("a_service_is_nobody", vec![who(r#""Principal": {"Service": "s3.amazonaws.com"}"#)], NotAllowed),
        ("no_statement_matches", vec![action(r#""Action": "kms:Encrypt""#)], NotAllowed),
        ("action_of_a_list", vec![action(r#""Action": ["kms:Encrypt", "kms:Decrypt"]"#)], Allowed),
        ("action_without_case", vec![action(r#""Action": "KMS:decrypt""#)], Allowed),
        ("action_by_star", vec![action(r#""Action": "kms:De*""#)], Allowed),
        ("action_by_star_inside", vec![action(r#""Action": "kms:D*t""#)], Allowed),
        ("action_by_question_mark", vec![action(r#""Action": "kms:Decryp?""#)], Allowed),
        ("question_mark_is_one", vec![action(r#""Action": "kms:Decrypt?""#)], NotAllowed),
        ("action_star_alone", vec![action(r#""Action": "*""#)], Allowed),
        ("another_service", vec![action(r#""Action": "s3:*""#)], NotAllowed),
        ("not_action_others", vec![action(r#""NotAction": "kms:Encrypt""#)], Allowed),
        ("not_action_this", vec![action(r#""NotAction": ["kms:Encrypt", "kms:Decrypt"]"#)], NotAllowed),
        ("not_action_by_star", vec![action(r#""NotAction": "kms:*""#)], NotAllowed),
        ("resource_by_arn", vec![resource(&format!(r#""Resource": "{KEY}""#))], Allowed),
        (
            "resource_of_another_key",
            vec![resource(r#""Resource": "arn:aws:kms:eu-central-1:111122223333:key/x""#)],
            NotAllowed,
        ),
        ("resource_by_star", vec![resource(r#""Resource": "arn:aws:kms:*:111122223333:key/*""#)], Allowed),
        ("not_resource_this", vec![resource(r#""NotResource": "*""#)], NotAllowed),
        ("not_resource_another", vec![resource(r#""NotResource": "arn:aws:s3:::x""#)], Allowed),
        (
            "deny_wins_behind",
            vec![ALLOW.into(), deny(r#""Principal": "*", "Action": "kms:Decrypt", "Resource": "*""#)],
            Denied,
        ),
        (
            "deny_wins_before",
            vec![deny(r#""Principal": "*", "Action": "kms:Decrypt", "Resource": "*""#), ALLOW.into()],
            Denied,
        ),
        ("deny_alone", vec![deny(r#""Principal": "*", "Action": "kms:*", "Resource": "*""#)], Denied),
        (
            "deny_of_another_action",
            vec![ALLOW.into(), deny(r#""Principal": "*", "Action": "kms:Encrypt", "Resource": "*""#)],
            Allowed,
        ),
        (
            "deny_of_one_group",
            vec![
                ALLOW.into(),
                deny(r#""Principal": {"AWS": "arn:aws:iam::111122223333:role/audit"}, "Action": "*", "Resource": "*""#),
            ],
            Denied,
        ),
        (
            "deny_not_action",
            vec![ALLOW.into(), deny(r#""Principal": "*", "NotAction": "kms:Describe*", "Resource": "*""#)],
            Denied,
        ),
        (
            "not_principal_listed_as_user",
            vec![
                ALLOW.into(),
                deny(
                    r#""NotPrincipal": {"AWS": "arn:aws:iam::111122223333:user/alice"}, "Action": "*", "Resource": "*""#,
                ),
            ],
            Allowed,
        ),
        (
            "not_principal_listed_as_group",
            vec![
                ALLOW.into(),
                deny(
                    r#""NotPrincipal": {"AWS": "arn:aws:iam::111122223333:role/staff"}, "Action": "*", "Resource": "*""#,
                ),
            ],
            Allowed,
        ),
        (
            "not_principal_others",
            vec![
                ALLOW.into(),
                deny(
                    r#""NotPrincipal": {"AWS": "arn:aws:iam::111122223333:user/bob"}, "Action": "*", "Resource": "*""#,
                ),
            ],
            Denied,
        ),
    ];
    for (name, statements, expected) in cases {
        let statements: Vec<_> = statements.iter().map(String::as_str).collect();
        assert_eq!(decide(&of(&statements), "kms:Decrypt"), *expected, "{name}");
    }
}

#[test]
fn conditions_hold_as_in_iam() {
    let cases: &[(&str, &str, bool)] = &[
        ("no_condition", "{}", true),
        ("equals", r#"{"StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}"#, true),
        ("equals_one_of", r#"{"StringEquals": {"kms:CallerAccount": ["0", "111122223333"]}}"#, true),
        ("equals_none_of", r#"{"StringEquals": {"kms:CallerAccount": ["0", "1"]}}"#, false),
        ("equals_has_case", r#"{"StringEquals": {"kms:EncryptionContext:Department": "finance"}}"#, false),
        ("names_have_no_case", r#"{"stringequals": {"KMS:encryptioncontext:DEPARTMENT": "Finance"}}"#, true),
        ("equals_takes_no_star", r#"{"StringEquals": {"kms:EncryptionContext:Department": "Fin*"}}"#, false),
        ("equals_absent", r#"{"StringEquals": {"kms:RequestAlias": "alias/x"}}"#, false),
        ("a_number_as_value", r#"{"StringEquals": {"kms:CallerAccount": 111122223333}}"#, true),
        ("not_equals", r#"{"StringNotEquals": {"kms:CallerAccount": "0"}}"#, true),
        ("not_equals_same", r#"{"StringNotEquals": {"kms:CallerAccount": ["0", "111122223333"]}}"#, false),
        ("not_equals_absent", r#"{"StringNotEquals": {"kms:RequestAlias": "alias/x"}}"#, true),
        ("ignore_case", r#"{"StringEqualsIgnoreCase": {"kms:EncryptionContext:Department": "fINANCE"}}"#, true),
        ("not_ignore_case", r#"{"StringNotEqualsIgnoreCase": {"kms:EncryptionContext:Department": "fINANCE"}}"#, false),
        ("not_ignore_case_absent", r#"{"StringNotEqualsIgnoreCase": {"kms:RequestAlias": "x"}}"#, true),
        ("like", r#"{"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::secret/*"}}"#, true),
        ("like_other", r#"{"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::public/*"}}"#, false),
        ("like_has_case", r#"{"StringLike": {"kms:EncryptionContext:Department": "fin*"}}"#, false),
        ("not_like", r#"{"StringNotLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::public/*"}}"#, true),
        ("not_like_same", r#"{"StringNotLike": {"kms:EncryptionContext:aws:s3:arn": "*"}}"#, false),
        ("not_like_absent", r#"{"StringNotLike": {"kms:RequestAlias": "*"}}"#, true),
        ("arn_like", r#"{"ArnLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:*:*:secret/*"}}"#, true),
        ("arn_equals_takes_stars", r#"{"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/al*"}}"#, true),
        ("arn_star_stays_in_its_part", r#"{"ArnLike": {"aws:PrincipalArn": "arn:*:iam::user/alice:x"}}"#, false),
        ("arn_not_equals", r#"{"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/bob"}}"#, true),
        ("arn_not_like", r#"{"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"}}"#, false),
        ("arn_like_absent", r#"{"ArnLike": {"aws:SourceArn": "arn:aws:s3:::x"}}"#, false),
        ("arn_not_like_absent", r#"{"ArnNotLike": {"aws:SourceArn": "arn:aws:s3:::x"}}"#, true),
        ("arn_value_without_parts", r#"{"ArnLike": {"kms:CallerAccount": "arn:*:*:*:*:*"}}"#, false),
        ("number", r#"{"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "14.0"}}"#, true),
        ("number_not", r#"{"NumericNotEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": 14}}"#, false),
        ("number_less", r#"{"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": 14}}"#, false),
        (
            "number_less_or_equal",
            r#"{"NumericLessThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "14"}}"#,
            true,
        ),
        ("number_greater", r#"{"NumericGreaterThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "9"}}"#, true),
        (
            "number_greater_or_equal",
            r#"{"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}"#,
            false,
        ),
        ("no_number", r#"{"NumericLessThan": {"odd:Number": "30"}}"#, false),
        ("number_not_absent", r#"{"NumericNotEquals": {"kms:RequestAlias": "30"}}"#, true),
        ("date_before", r#"{"DateLessThan": {"aws:CurrentTime": "2026-05-02T00:00:00Z"}}"#, true),
        ("date_before_is_over", r#"{"DateLessThan": {"aws:CurrentTime": "2026-05-01T12:00:00Z"}}"#, false),
        ("date_at_most", r#"{"DateLessThanEquals": {"aws:CurrentTime": "2026-05-01T14:00:00+02:00"}}"#, true),
        ("date_after_a_day", r#"{"DateGreaterThan": {"aws:CurrentTime": "2026-05-01"}}"#, true),
        ("date_after_seconds", r#"{"DateGreaterThanEquals": {"aws:CurrentTime": 1777636800}}"#, true),
        ("date_equals", r#"{"DateEquals": {"aws:CurrentTime": "2026-05-01T12:00:00Z"}}"#, true),
        ("date_not_equals", r#"{"DateNotEquals": {"aws:CurrentTime": "2026-05-01T12:00:00Z"}}"#, false),
        ("bool_as_string", r#"{"Bool": {"kms:MultiRegion": "false"}}"#, true),
        ("bool_as_bool", r#"{"Bool": {"kms:MultiRegion": false}}"#, true),
        ("bool_other", r#"{"Bool": {"kms:MultiRegion": "true"}}"#, false),
        ("bool_absent", r#"{"Bool": {"aws:MultiFactorAuthPresent": "true"}}"#, false),
        ("null_absent", r#"{"Null": {"kms:RequestAlias": "true"}}"#, true),
        ("null_present", r#"{"Null": {"kms:ViaService": true}}"#, false),
        ("not_null_present", r#"{"Null": {"kms:ViaService": "false"}}"#, true),
        ("not_null_absent", r#"{"Null": {"kms:RequestAlias": "false"}}"#, false),
        ("if_exists_absent", r#"{"StringEqualsIfExists": {"kms:RequestAlias": "x"}}"#, true),
        ("if_exists_present", r#"{"StringEqualsIfExists": {"kms:CallerAccount": "0"}}"#, false),
        ("if_exists_bool", r#"{"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}}"#, true),
        ("for_any", r#"{"ForAnyValue:StringEquals": {"kms:ResourceAliases": ["alias/two", "alias/x"]}}"#, true),
        ("for_any_none", r#"{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/x"}}"#, false),
        ("for_any_absent", r#"{"ForAnyValue:StringEquals": {"kms:GrantOperations": "Decrypt"}}"#, false),
        ("for_any_not", r#"{"ForAnyValue:StringNotEquals": {"kms:ResourceAliases": "alias/two"}}"#, true),
        ("for_any_not_absent", r#"{"ForAnyValue:StringNotEquals": {"kms:GrantOperations": "x"}}"#, false),
        ("for_any_if_exists", r#"{"ForAnyValue:StringEqualsIfExists": {"kms:GrantOperations": "x"}}"#, true),
        ("for_all", r#"{"ForAllValues:StringLike": {"kms:ResourceAliases": "alias/*"}}"#, true),
        ("for_all_but_one", r#"{"ForAllValues:StringEquals": {"kms:ResourceAliases": "alias/two"}}"#, false),
        ("for_all_absent", r#"{"ForAllValues:StringEquals": {"kms:GrantOperations": "Decrypt"}}"#, true),
        ("for_all_not", r#"{"ForAllValues:StringNotEquals": {"kms:ResourceAliases": "alias/two"}}"#, false),
        (
            "context_keys",
            r#"{"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["Department", "aws:s3:arn"]}}"#,
            true,
        ),
        (
            "context_keys_have_case",
            r#"{"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "department"}}"#,
            false,
        ),
        (
            "all_keys_of_an_operator",
            r#"{"StringEquals": {"kms:CallerAccount": "111122223333", "kms:ViaService": "x"}}"#,
            false,
        ),
        (
            "all_operators",
            r#"{"StringEquals": {"kms:CallerAccount": "111122223333"}, "Bool": {"kms:MultiRegion": "true"}}"#,
            false,
        ),
    ];
    for (name, condition, holds) in cases {
        for (effect, if_it_holds, if_not) in [("Allow", Allowed, NotAllowed), ("Deny", Denied, Allowed)] {
            let statement = format!(
                r#"{{"Effect": "{effect}", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {condition}}}"#
            );
            let policy = if effect == "Deny" { of(&[ALLOW, &statement]) } else { of(&[&statement]) };
            let expected = if *holds { if_it_holds } else { if_not };
            assert_eq!(decide(&policy, "kms:Decrypt"), expected, "{name}, {effect}");
        }
    }
}

#[test]
fn the_default_policies_let_everyone_through_the_mount_only() {
    let (account, region) = ("111122223333", "eu-central-1");
    let cases = [
        (super::default_policy(account, region), "kms:Decrypt", Allowed),
        (super::default_policy(account, region), "kms:GenerateDataKey", Allowed),
        (super::default_policy(account, region), "kms:PutKeyPolicy", NotAllowed),
        (super::default_policy("999922223333", region), "kms:Decrypt", NotAllowed),
        (super::default_policy(account, "us-east-1"), "kms:Decrypt", NotAllowed),
        (super::aws_s3_policy(account, region), "kms:ReEncryptFrom", Allowed),
        (super::aws_s3_policy(account, region), "kms:GetKeyPolicy", NotAllowed),
    ];
    for (policy, action, expected) in cases {
        assert_eq!(decide(&policy, action), expected, "{action}");
    }
}
