//! Whom policies mean: by numbers, with the groups of the process and of the database, and when names cannot be told.

use super::testing::{Away, Empty, People, away, subject};
use super::vectors::{ALLOW, KEY, of, values};
use super::{Decision, Groups, Judgement, Names, Policy, Request, Subject};
use Decision::{Allowed, Denied, NotAllowed};

/// `None`: it cannot be told.
fn judge(statement: &str, subject: &Subject<'_>) -> Option<Decision> {
    let statements = if statement.contains("Deny") { vec![ALLOW, statement] } else { vec![statement] };
    let policy = of(&statements).replace("mine:", "arn:aws:iam::111122223333:");
    let policy = Policy::parse(&policy).unwrap_or_else(|error| panic!("{statement}\n{error:?}"));
    let judgement = policy.judge(&Request { action: "kms:Decrypt", resource: KEY, subject, values: &values });
    let Judgement { decision, unknown } = judgement;
    unknown.is_none().then_some(decision)
}

fn groups(gids: &[u32]) -> Groups {
    Groups { gids: gids.to_vec(), missing: None }
}

fn deny(who: &str) -> String {
    format!(r#"{{"Effect": "Deny", {who}, "Action": "kms:*", "Resource": "*"}}"#)
}

fn allow(who: &str) -> String {
    deny(who).replace("Deny", "Allow")
}

fn named(principals: &str) -> String {
    format!(r#""Principal": {{"AWS": [{principals}]}}"#)
}

fn but(principals: &str) -> String {
    format!(r#""NotPrincipal": {{"AWS": [{principals}]}}"#)
}

/// Of everybody, under a condition.
fn if_(condition: &str) -> String {
    format!(r#""Principal": "*", "Condition": {{{condition}}}"#)
}

#[test]
fn numbers_are_compared_and_a_number_is_no_name() {
    let none = groups(&[]);
    let uid = |uid| subject(&People, uid, &none, &none);
    let mine = |id: &str| named(&format!(r#""mine:user/{id}""#));
    for (id, means) in [("alice", 1001), ("uid:1001", 1001), ("1001", 1003), ("carol", 1004), ("caroline", 1004)] {
        for number in 1000..1006 {
            let is = number == means;
            let denied = if is { Denied } else { Allowed };
            assert_eq!(judge(&deny(&mine(id)), &uid(number)), Some(denied), "{id}, {number}");
            let allowed = if is { Allowed } else { NotAllowed };
            assert_eq!(judge(&allow(&mine(id)), &uid(number)), Some(allowed), "{id}, {number}");
            for condition in [
                format!(r#""StringEquals": {{"aws:username": "{id}"}}"#),
                format!(r#""StringLike": {{"aws:username": "{id}"}}"#),
                format!(r#""ArnEquals": {{"aws:PrincipalArn": "mine:user/{id}"}}"#),
                format!(r#""ForAnyValue:StringEquals": {{"aws:PrincipalArn": "mine:user/{id}"}}"#),
            ] {
                assert_eq!(judge(&deny(&if_(&condition)), &uid(number)), Some(denied), "{condition}, {number}");
                let not = condition.replace("StringE", "StringNotE").replace("StringL", "StringNotL");
                let not = not.replace("ArnE", "ArnNotE").replace("ForAnyValue:", "");
                let otherwise = if is { NotAllowed } else { Allowed };
                assert_eq!(judge(&allow(&if_(&not)), &uid(number)), Some(otherwise), "{not}, {number}");
            }
        }
    }
    let group = |id: &str, gid: u32| {
        let groups = groups(&[gid]);
        judge(&deny(&named(&format!(r#""mine:role/{id}""#))), &subject(&People, 1001, &groups, &groups))
    };
    assert_eq!(group("50", 50), Some(Allowed), "it is the group 52");
    assert_eq!(group("50", 52), Some(Denied));
    assert_eq!(group("gid:50", 50), Some(Denied));
    assert_eq!(group("staff", 50), Some(Denied));
}

#[test]
fn what_looks_like_a_number_and_is_none_is_refused() {
    for id in ["uid:", "uid:01", "uid:+1", "uid:4294967296", "uid:x", "gid:1", "a:b"] {
        let policy = of(&[&deny(&named(&format!(r#""arn:aws:iam::111122223333:user/{id}""#)))]);
        assert!(Policy::parse(&policy).is_err(), "{id}");
    }
}

#[test]
fn a_deny_sees_the_groups_that_a_process_gave_up_and_an_allow_those_that_it_has() {
    let (none, staff, both) = (groups(&[]), groups(&[50]), groups(&[50, 51]));
    let gave_up = subject(&People, 1001, &none, &staff);
    let has = subject(&People, 1001, &staff, &staff);
    let took = subject(&People, 1001, &staff, &both);
    let role = r#""mine:role/staff""#;
    let condition = if_(r#""ArnLike": {"aws:PrincipalArn": "mine:role/st*"}"#);
    let unless = if_(r#""ArnNotLike": {"aws:PrincipalArn": "mine:role/st*"}"#);
    let not_audit = if_(r#""ForAllValues:ArnNotEquals": {"aws:PrincipalArn": "mine:role/audit"}"#);
    let cases = [
        (deny(&named(role)), [Denied, Denied, Denied]),
        (allow(&named(role)), [NotAllowed, Allowed, Allowed]),
        (deny(&but(role)), [Denied, Allowed, Allowed]),
        (deny(&condition), [Denied, Denied, Denied]),
        (allow(&condition), [NotAllowed, Allowed, Allowed]),
        (deny(&unless), [Denied, Allowed, Allowed]),
        (allow(&unless), [NotAllowed, NotAllowed, NotAllowed]),
        (allow(&not_audit), [Allowed, Allowed, NotAllowed]),
        (deny(&not_audit), [Denied, Denied, Denied]),
    ];
    for (statement, expected) in cases {
        let found = [&gave_up, &has, &took].map(|who| judge(&statement, who));
        assert_eq!(found, expected.map(Some), "{statement}");
    }
}

#[test]
fn the_account_is_everybody_to_a_deny_and_root_otherwise() {
    let none = groups(&[]);
    for account in [r#""111122223333""#, r#""mine:root""#] {
        for (uid, allowed, excepted) in [(0, Allowed, Allowed), (1001, NotAllowed, Denied), (77, NotAllowed, Denied)] {
            let who = subject(&People, uid, &none, &none);
            assert_eq!(judge(&deny(&named(account)), &who), Some(Denied), "{account}, {uid}");
            assert_eq!(judge(&allow(&named(account)), &who), Some(allowed), "{account}, {uid}");
            assert_eq!(judge(&deny(&but(account)), &who), Some(excepted), "{account}, {uid}");
        }
    }
    let root = subject(&People, 0, &none, &none);
    assert_eq!(judge(&deny(&named(r#""999922223333""#)), &root), Some(Allowed));
}

#[test]
fn a_database_that_does_not_answer_makes_nobody_somebody_else() {
    let none = groups(&[]);
    let unknown = Groups { gids: vec![50], missing: away::<()>().err() };
    let known = subject(&Away, 1001, &none, &none);
    let some = subject(&Away, 1001, &unknown, &unknown);
    let user = |id: &str| named(&format!(r#""mine:user/{id}""#));
    let role = |id: &str| named(&format!(r#""mine:role/{id}""#));
    let cases = [
        (deny(&user("alice")), None, None),
        (deny(&user("uid:1001")), Some(Denied), Some(Denied)),
        (deny(&user("uid:1002")), Some(Allowed), Some(Allowed)),
        (deny(&role("staff")), None, None),
        (deny(&role("gid:50")), Some(Allowed), Some(Denied)),
        (deny(&role("gid:51")), Some(Allowed), None),
        (allow(&user("alice")), None, None),
        (allow(&role("gid:50")), Some(NotAllowed), Some(Allowed)),
        (allow(&role("gid:51")), Some(NotAllowed), None),
        (deny(&but(r#""mine:user/alice""#)), None, None),
        (deny(&named(r#""mine:user/alice", "mine:user/uid:1001""#)), Some(Denied), Some(Denied)),
        (deny(&if_(r#""StringEquals": {"aws:username": "bob"}"#)), None, None),
        (allow(&if_(r#""StringNotEquals": {"aws:username": "bob"}"#)), None, None),
        (deny(&if_(r#""ArnLike": {"aws:PrincipalArn": "mine:role/*"}"#)), None, None),
        (
            deny(&if_(r#""Bool": {"kms:MultiRegion": "true"}, "StringEquals": {"aws:username": "bob"}"#)),
            Some(Allowed),
            Some(Allowed),
        ),
    ];
    for (statement, with_all_groups, with_some) in cases {
        assert_eq!(judge(&statement, &known), with_all_groups, "{statement}");
        assert_eq!(judge(&statement, &some), with_some, "{statement}, groups unknown");
    }
}

#[test]
fn a_name_that_nobody_has_is_denied_to_everybody_and_allows_nobody() {
    let none = groups(&[]);
    let everybody: [&dyn Names; 2] = [&People, &Empty];
    for who in everybody.map(|names| subject(names, 1001, &none, &none)) {
        for name in ["user/ghost", "role/ghost"] {
            let ghost = format!(r#""mine:{name}""#);
            assert_eq!(judge(&deny(&named(&ghost)), &who), None, "{name}");
            assert_eq!(judge(&allow(&named(&ghost)), &who), Some(NotAllowed), "{name}");
            assert_eq!(judge(&deny(&but(&ghost)), &who), Some(Denied), "{name}");
            let condition = if_(&format!(r#""ArnEquals": {{"aws:PrincipalArn": {ghost}}}"#));
            assert_eq!(judge(&deny(&condition), &who), None, "{condition}");
            assert_eq!(judge(&allow(&condition.replace("ArnE", "ArnNotE")), &who), Some(NotAllowed), "{condition}");
            assert_eq!(judge(&deny(&condition.replace("ArnE", "ArnNotE")), &who), Some(Denied), "{condition}");
        }
        let both = deny(&named(r#""mine:user/ghost", "mine:user/uid:1001""#));
        assert_eq!(judge(&both, &who), Some(Denied), "whoever is denied anyway");
    }
}

#[test]
fn names_of_another_account_are_nobodys_here() {
    let none = groups(&[]);
    let who = subject(&Away, 1001, &none, &none);
    let statement = deny(&named(r#""arn:aws:iam::999922223333:user/alice""#));
    assert_eq!(judge(&statement, &who), Some(Allowed));
}

#[test]
fn a_key_is_for_everybody_if_no_statement_asks_who_or_when() {
    let is = |statements: &[&str]| {
        let policy = Policy::parse(&of(statements).replace("mine:", "arn:aws:iam::111122223333:")).unwrap();
        policy.is_for_everybody("kms:Decrypt", KEY, &values)
    };
    let alice = allow(&named(r#""mine:user/alice""#));
    assert!(is(&[ALLOW]) && is(&[&alice, ALLOW]));
    assert!(!is(&[&alice]), "it is for her");
    for condition in [
        r#""StringNotEquals": {"aws:username": "bob"}"#,
        r#""ArnLike": {"aws:PrincipalArn": "*"}"#,
        r#""NumericLessThan": {"aws:userid": "2000"}"#,
        r#""DateLessThan": {"aws:CurrentTime": "2099-01-01"}"#,
        r#""Bool": {"kms:MultiRegion": "true"}"#,
    ] {
        assert!(!is(&[&allow(&if_(condition))]), "{condition}");
        assert!(is(&[&allow(&if_(condition)), ALLOW]), "{condition}");
        assert!(!is(&[ALLOW, &deny(&if_(condition))]), "{condition}");
    }
    assert!(is(&[&allow(&if_(r#""StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}"#))]));
    assert!(!is(&[ALLOW, &deny(&named(r#""mine:user/alice""#))]));
    assert!(is(&[ALLOW, &deny(&named(r#""mine:user/alice""#)).replace("kms:*", "kms:PutKeyPolicy")]));
    let (account, region) = ("111122223333", "eu-central-1");
    for text in [super::default_policy(account, region), super::aws_s3_policy(account, region)] {
        assert!(Policy::parse(&text).unwrap().is_for_everybody("kms:Decrypt", KEY, &values));
    }
}
