//! CreateGrant, ListGrants, ListRetirableGrants, RevokeGrant and RetireGrant.

use super::admin::Administrator;
use super::authorization::Ask;
use super::grants;
use super::keyring::{Contents, GRANTS, Key};
use super::local::check_usable;
use super::principal::Principals;
use kmsfs_crypto::random;
use kmsfs_kms::api::{Constraints, Grant, OPERATIONS};
use kmsfs_kms::api::{GrantEntry, GrantRequest, Retired};
use kmsfs_kms::policy::{self, Known};
use kmsfs_kms::{Code, EncryptionContext, Error};

/// Quotas of AWS KMS: grants of one key, pairs of a constraint.
const MOST: usize = 50_000;
const MOST_PAIRS: usize = 8;

impl Administrator<'_> {
    /// Answers the grant, whose id and token the caller passes on. The same request with the same name makes one grant.
    /// `tokens`: of grants that the caller relies on; grants hold at once here, so they need only be such.
    pub fn create_grant(&self, key_id: &str, request: &GrantRequest, tokens: &[String]) -> Result<Grant, Error> {
        check(request)?;
        let (who, now) = (self.kms.directory.principals(&self.caller), self.kms.now());
        self.change(|contents, _| {
            let key = contents.find_by_id(key_id)?.clone();
            contents.check_tokens(tokens)?;
            let grant = new_grant(contents, request, now);
            let ask = Ask::direct("CreateGrant", &self.caller, now).naming(key_id);
            contents.permit_grant(&key, &grant, &who, &ask)?;
            if !contents.is_elsewhere(&key.id) {
                check_usable(contents, &key)?;
            }
            let mut grants = contents.grants(&key)?;
            let grant = add(&mut grants, grant, &contents.key_arn(&key.id))?;
            contents.set_attribute(&key.id, GRANTS, grants::encode(&grants)?);
            Ok(grant)
        })
    }

    /// Those of one key, or of them the one with this id, or those for this grantee.
    pub fn list_grants(
        &self,
        key_id: &str,
        grant_id: Option<&str>,
        grantee: Option<&str>,
    ) -> Result<Vec<GrantEntry>, Error> {
        grant_id.map(check_id).transpose()?;
        self.ask(|contents| {
            let key = contents.find_by_id(key_id)?;
            self.kms.permit(contents, key, &Ask::direct("ListGrants", &self.caller, self.kms.now()).naming(key_id))?;
            let mut grants = contents.grants(key)?;
            grants.retain(|grant| {
                grant_id.is_none_or(|id| grant.grant_id == id)
                    && grantee.is_none_or(|grantee| grant.grantee_principal == grantee)
            });
            let key_arn = contents.key_arn(&key.id);
            Ok(grants.into_iter().map(|grant| GrantEntry { key_arn: key_arn.clone(), grant }).collect())
        })
    }

    /// Those of all keys that this principal may retire.
    pub fn list_retirable_grants(&self, retiring: &str) -> Result<Vec<GrantEntry>, Error> {
        let retiring = checked_principal(retiring)?;
        self.ask(|contents| {
            let mut found = Vec::new();
            for key in contents.all_keys() {
                let grants = contents.grants(key)?.into_iter();
                let grants = grants.filter(|grant| grant.retiring_principal.as_ref() == Some(&retiring));
                found.extend(grants.map(|grant| GrantEntry { key_arn: contents.key_arn(&key.id), grant }));
            }
            Ok(found)
        })
    }

    /// Takes a grant of the key away.
    pub fn revoke_grant(&self, key_id: &str, grant_id: &str) -> Result<(), Error> {
        check_id(grant_id)?;
        let who = self.kms.directory.principals(&self.caller);
        self.change(|contents, _| {
            let key = contents.find_by_id(key_id)?.clone();
            contents.permit(&key, &who, &Ask::direct("RevokeGrant", &self.caller, self.kms.now()).naming(key_id))?;
            contents.remove_grant(&key, grant_id)
        })
    }

    /// By its retiring principal, by its grantee if RetireGrant is among its operations, or by the account's root.
    pub fn retire_grant(&self, which: &Retired) -> Result<(), Error> {
        let who = self.kms.directory.principals(&self.caller);
        self.change(|contents, _| {
            let (key, grant) = match which {
                Retired::Token { grant_token } => contents.grant_of_token(grant_token)?,
                Retired::Id { key_id, grant_id } => {
                    check_id(grant_id)?;
                    let key = contents.find_by_id(key_id)?.clone();
                    let grant = contents.grants(&key)?.into_iter().find(|grant| grant.grant_id == *grant_id);
                    (key, grant.ok_or_else(|| not_found(grant_id))?)
                }
            };
            let retiring = grant.retiring_principal.as_ref().map_or(Ok(false), |retiring| who.is(retiring));
            let own = grant.allows("RetireGrant", None, &who.subject());
            if !policy::any([who.is(&grant.issuing_account), retiring, own])? {
                let (user, arn) = (who.arn(), contents.key_arn(&key.id));
                let text = format!("User: {user} is not authorized to perform: kms:RetireGrant on resource: {arn}");
                return Err(Error::new(Code::AccessDenied, text));
            }
            contents.remove_grant(&key, &grant.grant_id)
        })
    }
}

impl Contents {
    /// Who may make grants by the policy makes any; who may by a grant passes on no more than that one gives.
    fn permit_grant(&self, key: &Key, grant: &Grant, who: &Principals, ask: &Ask<'_>) -> Result<(), Error> {
        let more = conditions(grant, who)?;
        let ask = Ask { more: &more, ..*ask };
        match self.permit_by_policy(key, who, &ask) {
            Err(error) if error.code == Code::AccessDenied => {
                self.permit(key, who, &ask)?;
                let mine = self.grants(key)?.into_iter().filter(|mine| mine.covers(grant));
                let passes = policy::any(mine.map(|mine| mine.allows("CreateGrant", None, &who.subject())));
                if passes? { Ok(()) } else { Err(error) }
            }
            answer => answer,
        }
    }

    fn check_tokens(&self, tokens: &[String]) -> Result<(), Error> {
        tokens.iter().try_for_each(|token| self.grant_of_token(token).map(|_| ()))
    }

    fn grant_of_token(&self, token: &str) -> Result<(Key, Grant), Error> {
        for key in self.all_keys() {
            if let Some(grant) = self.grants(key)?.into_iter().find(|grant| grant.grant_token == token) {
                return Ok((key.clone(), grant));
            }
        }
        Err(Error::new(Code::InvalidGrantToken, "The grant token is invalid."))
    }

    fn remove_grant(&mut self, key: &Key, grant_id: &str) -> Result<(), Error> {
        let mut grants = self.grants(key)?;
        let before = grants.len();
        grants.retain(|grant| grant.grant_id != grant_id);
        if grants.len() == before {
            return Err(not_found(grant_id));
        }
        self.set_attribute(&key.id, GRANTS, grants::encode(&grants)?);
        Ok(())
    }
}

/// Or finds the one that the same request made before.
fn add(grants: &mut Vec<Grant>, grant: Grant, key_arn: &str) -> Result<Grant, Error> {
    if let Some(same) = grants.iter().find(|known| known.name.is_some() && is_same(known, &grant)) {
        return Ok(same.clone());
    }
    if grants.len() >= MOST {
        return Err(Error::new(Code::LimitExceeded, format!("{key_arn} has {MOST} grants, which is the most.")));
    }
    grants.push(grant.clone());
    Ok(grant)
}

fn not_found(grant_id: &str) -> Error {
    Error::new(Code::NotFound, format!("Grant ID {grant_id} not found"))
}

fn new_grant(contents: &Contents, request: &GrantRequest, now: i64) -> Grant {
    let canonical =
        |name: &String| policy::Principal::parse(name).map_or_else(|| name.clone(), |principal| principal.to_string());
    Grant {
        grant_id: hex::encode(random::bytes::<32>()),
        grant_token: hex::encode(random::bytes::<32>()),
        name: request.name.clone(),
        creation_date: now,
        grantee_principal: canonical(&request.grantee_principal),
        retiring_principal: request.retiring_principal.as_ref().map(canonical),
        issuing_account: format!("arn:aws:iam::{}:root", contents.account_id),
        operations: request.operations.clone(),
        constraints: request.constraints.clone(),
    }
}

/// But for what is made up for each.
fn is_same(known: &Grant, new: &Grant) -> bool {
    let (grant_id, grant_token) = (new.grant_id.clone(), new.grant_token.clone());
    *new == Grant { grant_id, grant_token, creation_date: new.creation_date, ..known.clone() }
}

/// Condition keys of CreateGrant.
fn conditions(grant: &Grant, who: &Principals) -> Known<Vec<(&'static str, Vec<String>)>> {
    let mut all = vec![
        ("kms:grantoperations", grant.operations.clone()),
        ("kms:granteeprincipal", who.forms(&grant.grantee_principal)?),
        ("kms:grantisforawsresource", vec!["false".into()]),
    ];
    if let Some(retiring) = &grant.retiring_principal {
        all.push(("kms:retiringprincipal", who.forms(retiring)?));
    }
    let constraints = &grant.constraints;
    let kinds = [
        ("EncryptionContextEquals", &constraints.encryption_context_equals),
        ("EncryptionContextSubset", &constraints.encryption_context_subset),
    ];
    let kinds = kinds.into_iter().filter(|(_, pairs)| pairs.is_some());
    all.push(("kms:grantconstrainttype", kinds.map(|(kind, _)| kind.to_string()).collect()));
    Ok(all)
}

fn check(request: &GrantRequest) -> Result<(), Error> {
    let invalid = |value: &str, at: &str, what: &str| {
        let text = format!("Value '{value}' at '{at}' failed to satisfy constraint: {what}");
        Err(Error::new(Code::Validation, format!("1 validation error detected: {text}")))
    };
    if request.operations.is_empty() {
        return invalid("[]", "operations", "Member must have length greater than or equal to 1");
    }
    if request.operations.iter().any(|operation| !OPERATIONS.contains(&operation.as_str())) {
        let what = format!("Member must satisfy enum value set: [{}]", OPERATIONS.join(", "));
        return invalid(&format!("[{}]", request.operations.join(", ")), "operations", &what);
    }
    checked_principal(&request.grantee_principal)?;
    request.retiring_principal.as_deref().map(checked_principal).transpose()?;
    let Constraints { encryption_context_subset: subset, encryption_context_equals: equals } = &request.constraints;
    for pairs in [subset, equals].into_iter().flatten() {
        check_pairs(pairs)?;
    }
    let Some(name) = &request.name else { return Ok(()) };
    if name.is_empty() || name.len() > 256 {
        return invalid(name, "name", "Member must have length between 1 and 256");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte)) {
        return invalid(name, "name", "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$");
    }
    Ok(())
}

fn check_pairs(pairs: &EncryptionContext) -> Result<(), Error> {
    if pairs.is_empty() || pairs.len() > MOST_PAIRS {
        let text = format!("A grant constraint has 1 to {MOST_PAIRS} encryption context pairs, not {}.", pairs.len());
        return Err(Error::new(Code::Validation, text));
    }
    Ok(())
}

fn checked_principal(name: &str) -> Result<String, Error> {
    policy::Principal::parse(name)
        .map(|principal| principal.to_string())
        .ok_or_else(|| Error::new(Code::InvalidArn, format!("ARN does not refer to a valid principal: {name}")))
}

fn check_id(id: &str) -> Result<(), Error> {
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidGrantId, format!("The grant ID '{id}' is invalid: it has 64 hexadecimal digits.")))
}

#[cfg(test)]
mod tests {
    use super::super::tests_of_access::{ALICE, BOB, ROOT, access_denied, allow, arn_of, context, kms, policy};
    use super::*;
    use crate::LocalKms;
    use kmsfs_kms::Caller;
    use kmsfs_kms::Principal;
    use kmsfs_kms::{Kms, Operation};
    use std::sync::Arc;

    /// A key that root alone may use.
    fn fixture(dir: &tempfile::TempDir) -> (Arc<LocalKms>, String) {
        let kms = kms(dir);
        let arn = kms.create_key("").unwrap().arn;
        kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*")]), false, &ROOT).unwrap();
        (kms, arn)
    }

    fn request(grantee: &str, operations: &[&str]) -> GrantRequest {
        GrantRequest {
            grantee_principal: arn_of(grantee),
            operations: operations.iter().map(|operation| (*operation).to_string()).collect(),
            ..GrantRequest::default()
        }
    }

    fn may(kms: &LocalKms, arn: &str, caller: &Principal) -> Result<(), Error> {
        kms.authorize(arn, Operation::Decrypt, &context(&[("a", "1")]), caller)
    }

    #[test]
    fn a_grant_lets_its_grantee_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let denied = Err(access_denied("user/uid:4000001", "Decrypt", &arn));
        assert_eq!(may(&kms, &arn, &ALICE), denied);
        let grant = kms.create_grant(&arn, &request("user/uid:4000001", &["Decrypt"]), &[], &ROOT).unwrap();
        assert_eq!((may(&kms, &arn, &ALICE), may(&kms, &arn, &BOB).is_err()), (Ok(()), true));
        let listed = kms.list_grants(&arn, None, None, &ROOT).unwrap();
        assert_eq!(listed, [GrantEntry { key_arn: arn.clone(), grant: grant.clone() }]);
        assert_eq!(kms.list_grants(&arn, Some(&"0".repeat(64)), None, &ROOT).unwrap(), []);
        assert_eq!(kms.list_grants(&arn, None, Some(&arn_of("user/uid:4000002")), &ROOT).unwrap(), []);
        assert_eq!(
            kms.list_grants(&arn, Some(&grant.grant_id), Some(&arn_of("user/uid:4000001")), &ROOT).unwrap(),
            listed
        );
        kms.revoke_grant(&arn, &grant.grant_id, &ROOT).unwrap();
        assert_eq!(may(&kms, &arn, &ALICE), denied);
        let gone = Error::new(Code::NotFound, format!("Grant ID {} not found", grant.grant_id));
        assert_eq!(kms.revoke_grant(&arn, &grant.grant_id, &ROOT), Err(gone));
    }

    #[test]
    fn a_group_may_be_granted_and_constraints_bind_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let constraints =
            Constraints { encryption_context_equals: Some(context(&[("a", "1")])), ..Constraints::default() };
        let request = GrantRequest { constraints, ..request("role/gid:4000010", &["Decrypt"]) };
        kms.create_grant(&arn, &request, &[], &ROOT).unwrap();
        let grouped = Principal::Process(Caller { uid: 4_000_001, gid: 4_000_010, pid: 0 });
        assert_eq!(may(&kms, &arn, &grouped), Ok(()));
        let other = kms.authorize(&arn, Operation::Decrypt, &context(&[("a", "2")]), &grouped);
        assert_eq!(other, Err(access_denied("user/uid:4000001", "Decrypt", &arn)));
    }

    #[test]
    fn a_deny_of_the_policy_wins_over_a_grant() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        kms.create_grant(&arn, &request("user/uid:4000001", &["Decrypt"]), &[], &ROOT).unwrap();
        let deny = allow("user/uid:4000001", "kms:Decrypt").replace("Allow", "Deny");
        kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*"), &deny]), false, &ROOT).unwrap();
        assert!(
            may(&kms, &arn, &ALICE).unwrap_err().message.ends_with("with an explicit deny in a resource-based policy")
        );
    }

    #[test]
    fn a_name_makes_a_repeated_request_one_grant() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let plain = request("user/uid:4000001", &["Decrypt"]);
        let named = GrantRequest { name: Some("once".into()), ..plain.clone() };
        let make = |request: &GrantRequest| kms.create_grant(&arn, request, &[], &ROOT).unwrap().grant_id;
        assert_eq!(make(&named), make(&named));
        assert_ne!(make(&named), make(&GrantRequest { operations: vec!["Encrypt".into()], ..named.clone() }));
        assert_ne!(make(&plain), make(&plain));
        assert_eq!(kms.list_grants(&arn, None, None, &ROOT).unwrap().len(), 4);
    }

    #[test]
    fn a_grant_is_retired_by_those_it_names_and_by_root() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let retiring = Some(arn_of("user/uid:4000002"));
        let by_bob = GrantRequest { retiring_principal: retiring, ..request("user/uid:4000001", &["Decrypt"]) };
        let make = |request: &GrantRequest| kms.create_grant(&arn, request, &[], &ROOT).unwrap();
        let grant = make(&by_bob);
        assert_eq!(kms.list_retirable_grants(&arn_of("user/uid:4000002")).unwrap().len(), 1);
        assert_eq!(kms.list_retirable_grants(&arn_of("user/uid:4000001")).unwrap(), []);
        let text = format!(
            "User: {} is not authorized to perform: kms:RetireGrant on resource: {arn}",
            arn_of("user/uid:4000001")
        );
        let by_id = |grant: &Grant, caller| {
            kms.retire_grant(&Retired::Id { key_id: arn.clone(), grant_id: grant.grant_id.clone() }, caller)
        };
        assert_eq!(by_id(&grant, &ALICE), Err(Error::new(Code::AccessDenied, text)));
        assert_eq!(by_id(&grant, &BOB), Ok(()));
        assert_eq!(by_id(&grant, &BOB).unwrap_err().code, Code::NotFound);
        let own = make(&request("user/uid:4000001", &["Decrypt", "RetireGrant"]));
        assert_eq!(kms.retire_grant(&Retired::Token { grant_token: own.grant_token.clone() }, &ALICE), Ok(()));
        let invalid = Err(Error::new(Code::InvalidGrantToken, "The grant token is invalid."));
        assert_eq!(kms.retire_grant(&Retired::Token { grant_token: own.grant_token.clone() }, &ALICE), invalid);
        assert_eq!(by_id(&make(&by_bob), &ROOT), Ok(()));
    }

    #[test]
    fn who_may_pass_on_a_grant_passes_on_no_more_than_it_gives() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let denied = Err(access_denied("user/uid:4000001", "CreateGrant", &arn));
        let make = |request: &GrantRequest| kms.create_grant(&arn, request, &[], &ALICE).map(|_| ());
        let decrypt = request("user/uid:4000002", &["Decrypt"]);
        assert_eq!(make(&decrypt), denied);
        kms.create_grant(&arn, &request("user/uid:4000001", &["CreateGrant", "Decrypt"]), &[], &ROOT).unwrap();
        assert_eq!(make(&decrypt), Ok(()));
        assert_eq!(make(&request("user/uid:4000002", &["Encrypt"])), denied);
        assert_eq!(may(&kms, &arn, &BOB), Ok(()));
    }

    #[test]
    fn the_policy_can_bind_what_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let condition = r#"{"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt", "DescribeKey"]},
            "StringLike": {"kms:GranteePrincipal": "arn:aws:iam::*:role/*"}}"#;
        let fields = allow("user/uid:4000001", "kms:CreateGrant");
        let statement = fields.replacen('{', &format!("{{\"Condition\": {condition}, "), 1);
        kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*"), &statement]), false, &ROOT).unwrap();
        let make = |request: &GrantRequest| kms.create_grant(&arn, request, &[], &ALICE).is_ok();
        assert!(make(&request("role/gid:4000010", &["Decrypt"])));
        assert!(!make(&request("role/gid:4000010", &["Encrypt"])));
        assert!(!make(&request("user/uid:4000002", &["Decrypt"])));
    }

    #[test]
    fn what_is_asked_for_wrongly_is_refused_as_aws_does() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let good = request("user/uid:4000001", &["Decrypt"]);
        let pairs = |count: usize| Constraints {
            encryption_context_subset: Some((0..count).map(|number| (number.to_string(), String::new())).collect()),
            ..Constraints::default()
        };
        let cases = [
            (GrantRequest { operations: vec![], ..good.clone() }, Code::Validation),
            (GrantRequest { operations: vec!["Sign".into()], ..good.clone() }, Code::Validation),
            (GrantRequest { grantee_principal: "alice".into(), ..good.clone() }, Code::InvalidArn),
            (GrantRequest { retiring_principal: Some("*".into()), ..good.clone() }, Code::InvalidArn),
            (GrantRequest { name: Some(String::new()), ..good.clone() }, Code::Validation),
            (GrantRequest { name: Some("a b".into()), ..good.clone() }, Code::Validation),
            (GrantRequest { name: Some("x".repeat(257)), ..good.clone() }, Code::Validation),
            (GrantRequest { constraints: pairs(0), ..good.clone() }, Code::Validation),
            (GrantRequest { constraints: pairs(9), ..good.clone() }, Code::Validation),
        ];
        for (bad, code) in cases {
            assert_eq!(kms.create_grant(&arn, &bad, &[], &ROOT).unwrap_err().code, code, "{bad:?}");
        }
        let text = "ARN does not refer to a valid principal: alice";
        assert_eq!(kms.list_retirable_grants("alice"), Err(Error::new(Code::InvalidArn, text)));
        let token = kms.create_grant(&arn, &good, &["0".into()], &ROOT).unwrap_err();
        assert_eq!(token, Error::new(Code::InvalidGrantToken, "The grant token is invalid."));
        let text = "The grant ID 'x' is invalid: it has 64 hexadecimal digits.";
        let invalid = Error::new(Code::InvalidGrantId, text);
        assert_eq!(kms.revoke_grant(&arn, "x", &ROOT), Err(invalid.clone()));
        assert_eq!(kms.list_grants(&arn, Some("x"), None, &ROOT), Err(invalid.clone()));
        assert_eq!(kms.retire_grant(&Retired::Id { key_id: arn.clone(), grant_id: "x".into() }, &ROOT), Err(invalid));
        assert_eq!(kms.list_grants(&arn, None, None, &ROOT).unwrap(), [], "nothing was granted");
        let granted =
            kms.create_grant(&arn, &GrantRequest { constraints: pairs(8), ..good.clone() }, &[], &ROOT).unwrap();
        assert!(kms.create_grant(&arn, &good, &[granted.grant_token], &ROOT).is_ok());
        let denied = |action| access_denied("user/uid:4000002", action, &arn);
        assert_eq!(kms.list_grants(&arn, None, None, &BOB), Err(denied("ListGrants")));
        assert_eq!(kms.revoke_grant(&arn, &granted.grant_id, &BOB), Err(denied("RevokeGrant")));
    }

    #[test]
    fn a_disabled_key_gets_no_grants_and_keeps_those_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let good = request("user/uid:4000001", &["Decrypt"]);
        let before = kms.create_grant(&arn, &good, &[], &ROOT).unwrap();
        kms.set_enabled(&arn, false).unwrap();
        let disabled = Error::new(Code::Disabled, format!("{arn} is disabled."));
        assert_eq!(kms.create_grant(&arn, &good, &[], &ROOT), Err(disabled));
        assert_eq!(kms.list_grants(&arn, None, None, &ROOT).unwrap().len(), 1);
        assert_eq!(kms.revoke_grant(&arn, &before.grant_id, &ROOT), Ok(()));
    }

    #[test]
    fn a_key_has_50000_grants_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let (kms, arn) = fixture(&dir);
        let one = kms.create_grant(&arn, &request("user/uid:4000001", &["Decrypt"]), &[], &ROOT).unwrap();
        let mut grants = vec![one.clone(); MOST - 1];
        assert!(add(&mut grants, one.clone(), &arn).is_ok());
        let text = format!("{arn} has 50000 grants, which is the most.");
        assert_eq!(add(&mut grants, one, &arn), Err(Error::new(Code::LimitExceeded, text)));
        assert_eq!(grants.len(), MOST);
    }
}
