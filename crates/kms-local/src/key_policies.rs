//! PutKeyPolicy, GetKeyPolicy and ListKeyPolicies.

use super::admin::Administrator;
use super::authorization::Ask;
use super::keyring::{Contents, Key, POLICY};
use super::principal::Principals;
use kmsfs_kms::policy::{Decision, Names, Policy};
use kmsfs_kms::{Code, Error};

/// A key has one policy, of this name.
const NAME: &str = "default";

impl Administrator<'_> {
    /// `bypass`: also one under which the caller could not put another, which is refused otherwise.
    pub fn put_key_policy(&self, key_id: &str, name: Option<&str>, text: &str, bypass: bool) -> Result<(), Error> {
        let more = [("kms:bypasspolicylockoutsafetycheck", vec![bypass.to_string()])];
        let again = Ask::direct("PutKeyPolicy", &self.caller, self.kms.now());
        let ask = Ask { more: &more, ..again }.naming(key_id);
        let who = self.kms.directory.principals(&self.caller);
        self.change(|contents, _| {
            let key = contents.find_by_id(key_id)?.clone();
            contents.permit(&key, &who, &ask)?;
            check_name(name)?;
            contents.set_policy(&key, text, bypass, &who, &again)
        })
    }

    /// The document that was put, or what keys have for which nobody put one.
    pub fn get_key_policy(&self, key_id: &str, name: Option<&str>) -> Result<String, Error> {
        self.ask(|contents| {
            let key = contents.find_by_id(key_id)?;
            self.kms.permit(
                contents,
                key,
                &Ask::direct("GetKeyPolicy", &self.caller, self.kms.now()).naming(key_id),
            )?;
            check_name(name)?;
            contents.policy_text(key)
        })
    }

    /// The names of a key's policies: one.
    pub fn list_key_policies(&self, key_id: &str) -> Result<Vec<String>, Error> {
        self.ask(|contents| {
            let key = contents.find_by_id(key_id)?;
            self.kms.permit(
                contents,
                key,
                &Ask::direct("ListKeyPolicies", &self.caller, self.kms.now()).naming(key_id),
            )?;
            Ok(vec![NAME.into()])
        })
    }
}

impl Contents {
    /// Gives a key this policy, under which who `asks` for it must be able to put another unless told to `bypass` that.
    pub(super) fn set_policy(
        &mut self,
        key: &Key,
        text: &str,
        bypass: bool,
        who: &Principals,
        asks: &Ask<'_>,
    ) -> Result<(), Error> {
        let policy = Policy::parse(text)?;
        for name in policy.denied_names(&self.account_id) {
            check_known(&name, who)?;
        }
        let judgement = self.judge(&policy, key, who, asks);
        if !bypass && judgement.decision != Decision::Allowed {
            let text = "The new key policy will not allow you to update the key policy in the future.";
            return Err(Error::new(Code::MalformedPolicyDocument, text));
        }
        self.set_attribute(&key.id, POLICY, text.as_bytes().to_vec());
        Ok(())
    }
}

/// That somebody is denied something whom nobody knows holds for everybody.
fn check_known(resource: &str, who: &Principals) -> Result<(), Error> {
    let (kind, name) = resource.split_once('/').unwrap_or_default();
    let (number, what) = if kind == "user" { (who.uid(name)?, "uid") } else { (who.gid(name)?, "gid") };
    if number.is_some() {
        return Ok(());
    }
    let text = format!(
        "Policy contains a statement with one or more invalid principals. (The user database does not know {resource}; \
         by its number it is {kind}/{what}:NUMBER)"
    );
    Err(Error::new(Code::MalformedPolicyDocument, text))
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    match name {
        None | Some(NAME) => Ok(()),
        Some(_) => Err(Error::new(Code::NotFound, "No such policy exists")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_of_access::{ALICE, BOB, ROOT, access_denied, allow, arn_of, context, kms, kms_on, policy};
    use super::*;
    use crate::{Clock, Machine, Moment};
    use kmsfs_kms::Caller;
    use kmsfs_kms::Principal;
    use kmsfs_kms::{Kms, Operation};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_key_has_the_default_policy_until_one_is_put() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        let first = kms.get_key_policy(&arn, None, &ROOT).unwrap();
        assert!(first.contains("kmsfs-default-1") && first.contains("s3.eu-central-1.amazonaws.com"));
        let mine = policy(&[&allow("root", "kms:*"), &allow("user/uid:4000001", "kms:Decrypt")]);
        kms.put_key_policy(&arn, Some("default"), &mine, false, &ROOT).unwrap();
        assert_eq!(kms.get_key_policy(&arn, Some("default"), &ROOT).unwrap(), mine, "as it was put");
        assert_eq!(kms.list_key_policies(&arn, &ROOT).unwrap(), ["default"]);
        for answer in [
            kms.put_key_policy(&arn, Some("other"), &mine, false, &ROOT),
            kms.get_key_policy(&arn, Some("other"), &ROOT).map(|_| ()),
        ] {
            assert_eq!(answer, Err(Error::new(Code::NotFound, "No such policy exists")));
        }
    }

    #[test]
    fn a_policy_decides_who_uses_the_key_through_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        let context = context(&[("aws:s3:arn", "arn:aws:s3:::b/k")]);
        let made = kms.generate_data_key(&arn, &context, &ALICE).unwrap();
        let decrypt = |caller| kms.decrypt(&arn, &made.ciphertext_blob, &context, caller).map(|_| ());
        assert_eq!([decrypt(&ALICE), decrypt(&BOB)], [Ok(()), Ok(())], "by default whoever POSIX lets");
        let mine = policy(&[&allow("root", "kms:*"), &allow("user/uid:4000001", "kms:Decrypt")]);
        kms.put_key_policy(&arn, None, &mine, false, &ROOT).unwrap();
        let denied = |user, action| access_denied(user, action, &arn);
        assert_eq!([decrypt(&ALICE), decrypt(&ROOT)], [Ok(()), Ok(())]);
        assert_eq!(decrypt(&BOB), Err(denied("user/uid:4000002", "Decrypt")));
        let refused = kms.generate_data_key(&arn, &context, &ALICE).map(|_| ());
        assert_eq!(refused, Err(denied("user/uid:4000001", "GenerateDataKey")));
        let refused = kms.encrypt(&arn, &made.plaintext, &context, &ALICE).map(|_| ());
        assert_eq!(refused, Err(denied("user/uid:4000001", "Encrypt")));
        let asked = |operation, caller| kms.authorize(&arn, operation, &context, caller);
        assert_eq!(asked(Operation::Decrypt, &ALICE), Ok(()));
        assert_eq!(asked(Operation::GenerateDataKey, &ALICE), Err(denied("user/uid:4000001", "GenerateDataKey")));
        assert_eq!(asked(Operation::Decrypt, &BOB), Err(denied("user/uid:4000002", "Decrypt")));
    }

    #[test]
    fn who_is_not_allowed_is_told_so_before_the_keys_state() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*")]), false, &ROOT).unwrap();
        kms.set_enabled(&arn, false).unwrap();
        let generate = |caller| kms.generate_data_key(&arn, &context(&[]), caller).map(|_| ()).unwrap_err();
        assert_eq!(generate(&ALICE), access_denied("user/uid:4000001", "GenerateDataKey", &arn));
        assert_eq!(generate(&ROOT).code, Code::Disabled);
    }

    #[test]
    fn a_deny_wins_and_says_that_it_is_explicit() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        let deny = allow("role/gid:4000010", "kms:Decrypt").replace("Allow", "Deny");
        let mine = policy(&[&allow("root", "kms:*"), &allow("user/uid:4000001", "kms:*"), &deny]);
        kms.put_key_policy(&arn, None, &mine, false, &ROOT).unwrap();
        let grouped = Principal::Process(Caller { uid: 4_000_001, gid: 4_000_010, pid: 0 });
        let asked = |caller| kms.authorize(&arn, Operation::Decrypt, &context(&[]), caller);
        assert_eq!(asked(&ALICE), Ok(()));
        let text = format!(
            "User: arn:aws:iam::111122223333:user/uid:4000001 is not authorized to perform: kms:Decrypt on resource: {arn} \
             with an explicit deny in a resource-based policy"
        );
        assert_eq!(asked(&grouped), Err(Error::new(Code::AccessDenied, text)));
    }

    #[test]
    fn conditions_see_the_context_and_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        kms.create_alias("alias/mine", &arn).unwrap();
        let (right, wrong) = (context(&[("Project", "x"), ("b", "y")]), context(&[("Project", "y"), ("b", "y")]));
        let cases = [
            (r#"{"StringEquals": {"kms:EncryptionContext:project": "x"}}"#, [true, false]),
            (r#"{"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "Project"}}"#, [true, true]),
            (r#"{"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "project"}}"#, [false, false]),
            (r#"{"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyOrigin": "AWS_KMS"}}"#, [true, true]),
            (r#"{"StringEquals": {"kms:RequestAlias": "alias/mine"}}"#, [true, true]),
            (r#"{"StringEquals": {"kms:RequestAlias": "alias/other"}}"#, [false, false]),
            (r#"{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/mine"}}"#, [true, true]),
            (r#"{"StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}"#, [true, true]),
            (r#"{"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}"#, [false, false]),
            (r#"{"Bool": {"kms:MultiRegion": "false"}, "Null": {"kms:GrantOperations": "true"}}"#, [true, true]),
            (r#"{"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/uid:4000001"}}"#, [true, true]),
            (r#"{"StringEquals": {"aws:username": "uid:4000001", "aws:userid": "4000001"}}"#, [true, true]),
            (r#"{"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}"#, [true, true]),
            (r#"{"NumericLessThan": {"aws:EpochTime": 1000}}"#, [false, false]),
        ];
        for (condition, expected) in cases {
            let fields = allow("user/uid:4000001", "kms:*");
            let statement = fields.replacen('{', &format!("{{\"Condition\": {condition}, "), 1);
            kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*"), &statement]), false, &ROOT).unwrap();
            let answers = [&right, &wrong].map(|context| kms.generate_data_key("alias/mine", context, &ALICE).is_ok());
            assert_eq!(answers, expected, "{condition}");
        }
    }

    #[test]
    fn a_policy_that_locks_its_administrator_out_is_refused_unless_told_to_bypass() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        let before = kms.get_key_policy(&arn, None, &ROOT).unwrap();
        let out = policy(&[&allow("user/uid:4000001", "kms:*")]);
        let text = "The new key policy will not allow you to update the key policy in the future.";
        let refused = Err(Error::new(Code::MalformedPolicyDocument, text));
        assert_eq!(kms.put_key_policy(&arn, None, &out, false, &ROOT), refused);
        assert_eq!(kms.get_key_policy(&arn, None, &ROOT).unwrap(), before);
        kms.put_key_policy(&arn, None, &out, true, &ROOT).unwrap();
        let denied = |action| access_denied("root", action, &arn);
        assert_eq!(kms.get_key_policy(&arn, None, &ROOT), Err(denied("GetKeyPolicy")));
        assert_eq!(kms.list_key_policies(&arn, &ROOT), Err(denied("ListKeyPolicies")));
        assert_eq!(kms.put_key_policy(&arn, None, &before, true, &ROOT), Err(denied("PutKeyPolicy")));
        kms.put_key_policy(&arn, None, &before, true, &ALICE).unwrap();
        assert_eq!(kms.get_key_policy(&arn, None, &ROOT).unwrap(), before);
    }

    #[test]
    fn a_key_is_made_with_a_policy_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let mine = policy(&[&allow("root", "kms:*")]);
        let made = kms.create_key_with_policy("mine", &mine, false, &ROOT).unwrap();
        assert_eq!(made.description, "mine");
        assert_eq!(kms.get_key_policy(&made.key_id, None, &ROOT).unwrap(), mine);
        let out = policy(&[&allow("user/uid:4000001", "kms:*")]);
        for bad in [out.as_str(), "{}"] {
            let error = kms.create_key_with_policy("", bad, false, &ROOT).unwrap_err();
            assert_eq!(error.code, Code::MalformedPolicyDocument);
        }
        assert_eq!(kms.list_keys().unwrap(), [made.arn]);
        assert!(kms.create_key_with_policy("", &out, true, &ROOT).is_ok());
    }

    #[test]
    fn what_is_no_policy_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.create_key("").unwrap().arn;
        let before = kms.get_key_policy(&arn, None, &ROOT).unwrap();
        let put = |text: &str| kms.put_key_policy(&arn, None, text, false, &ROOT).unwrap_err().code;
        assert_eq!(put("{"), Code::MalformedPolicyDocument);
        assert_eq!(put(&" ".repeat(32 * 1024 + 1)), Code::LimitExceeded);
        assert_eq!(kms.get_key_policy(&arn, None, &ROOT).unwrap(), before);
    }

    #[test]
    fn describing_the_aws_managed_key_makes_it_for_whoever_may() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        for key_id in ["alias/aws/s3", "arn:aws:kms:eu-central-1:111122223333:alias/aws/s3"] {
            assert_eq!(kms.administer(ALICE).describe_key(key_id).unwrap_err().code, Code::AccessDenied);
            assert_eq!(kms.list_keys().unwrap(), [""; 0], "who is refused has not made it");
        }
        let made = kms.administer(ROOT).describe_key("alias/aws/s3").unwrap();
        assert_eq!(kms.take_done(), [("CreateKey", made.arn.clone())]);
        assert_eq!(kms.administer(ROOT).describe_key("alias/aws/s3").unwrap(), made);
        assert_eq!(kms.generate_data_key("alias/aws/s3", &context(&[]), &ALICE).unwrap().key_arn, made.arn);
        let error = kms.administer(ROOT).describe_key("alias/aws/s4").unwrap_err();
        assert_eq!(error.code, Code::NotFound);
    }

    #[test]
    fn a_condition_on_the_time_is_evaluated_by_the_clock_of_the_machine_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let date = Arc::new(AtomicI64::new(0));
        let moment = Moment { date: 0, boot: [0; 16], uptime: 0 };
        let clock: Clock = {
            let date = Arc::clone(&date);
            Box::new(move || Moment { date: date.load(Ordering::Relaxed), ..moment })
        };
        let kms = kms_on(&dir, Machine { clock, ..Machine::default() });
        let until = r#"{"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Principal": {"AWS": "*"},
            "Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}, "NumericLessThan": {"aws:EpochTime": "1893456000"}}}"#;
        let arn = kms.create_key_with_policy("", &policy(&[&allow("root", "kms:*"), until]), false, &ROOT).unwrap().arn;
        for (seconds, is_allowed) in [(1_893_455_999, true), (1_893_456_000, false), (0, true)] {
            date.store(seconds * 1_000_000_000, Ordering::Relaxed);
            assert_eq!(kms.generate_data_key(&arn, &context(&[]), &ALICE).is_ok(), is_allowed, "{seconds}");
            assert_eq!(kms.authorize(&arn, Operation::Decrypt, &context(&[]), &ALICE).is_ok(), is_allowed, "{seconds}");
        }
    }

    #[test]
    fn the_aws_managed_key_keeps_its_policy() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let arn = kms.generate_data_key("alias/aws/s3", &context(&[]), &ALICE).unwrap().key_arn;
        let text = kms.get_key_policy(&arn, None, &ROOT).unwrap();
        assert!(text.contains("\"Id\": \"auto-s3-2\""));
        let refused = kms.put_key_policy(&arn, None, &text, true, &ROOT);
        assert_eq!(refused, Err(access_denied("root", "PutKeyPolicy", &arn)));
        let direct = Ask { context: Some(&context(&[])), ..Ask::direct("Decrypt", &ROOT, kms.now()) };
        assert_eq!(kms.permit_call(&arn, &direct), Err(access_denied("root", "Decrypt", &arn)));
    }

    #[test]
    fn whether_a_key_may_be_described_and_whether_it_may_be_encrypted_under_are_told_without_using_it() {
        let dir = tempfile::tempdir().unwrap();
        let kms = kms(&dir);
        let describes = allow("user/uid:4000001", "kms:DescribeKey");
        let encrypts = format!(
            r#"{{"Effect": "Allow", "Principal": {{"AWS": "{}"}}, "Action": "kms:Encrypt", "Resource": "*",
                "Condition": {{"StringEquals": {{"kms:RequestAlias": "alias/x"}}}}}}"#,
            arn_of("user/uid:4000002")
        );
        let mine = policy(&[&allow("root", "kms:*"), &describes, &encrypts]);
        let arn = kms.create_key_with_policy("", &mine, false, &ROOT).unwrap().arn;
        kms.administer(ROOT).create_alias("alias/x", &arn).unwrap();
        let none = context(&[]);
        let may = |key_id: &str, who: &Principal| kms.authorize(key_id, Operation::Encrypt, &none, who);
        assert_eq!(Kms::describe_key(&*kms, "alias/x", &ALICE), Ok(arn.clone()));
        assert_eq!(may("alias/x", &ALICE), Err(access_denied("user/uid:4000001", "Encrypt", &arn)));
        assert_eq!(
            Kms::describe_key(&*kms, "alias/x", &BOB),
            Err(access_denied("user/uid:4000002", "DescribeKey", &arn))
        );
        assert_eq!(may("alias/x", &BOB), Ok(()), "named by the alias that the policy wants");
        assert_eq!(may(&arn, &BOB), Err(access_denied("user/uid:4000002", "Encrypt", &arn)));
        kms.set_enabled(&arn, false).unwrap();
        assert_eq!(Kms::describe_key(&*kms, &arn, &ALICE), Ok(arn.clone()), "whatever the key's state");
        assert_eq!(may("alias/x", &BOB).unwrap_err().code, Code::Disabled);
        assert_eq!(kms.calls(), kmsfs_kms::KmsCalls::default());
    }
}
