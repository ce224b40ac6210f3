//! Policies and grants over a user database that changes its mind and does not always answer.

use super::local::Machine;
use super::tests_of_access::{access_denied, allow, arn_of, context, kms_on, policy};
use super::users::{LIFETIME, User, UserDatabase};
use super::{Ask, LocalKms};
use kmsfs_kms::api::GrantRequest;
use kmsfs_kms::{Caller, Code, Error, Kms, Operation, Principal};
use kmsfs_locks::{Mutex, ranks};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Known = BTreeMap<String, (u32, Vec<u32>)>;

/// Users by name, each with its number and groups; the group 7 has the name `g7`.
pub(crate) struct Users {
    known: Mutex<ranks::InTests, Result<Known, Errno>>,
    asked: AtomicUsize,
}

impl Users {
    pub(crate) fn new(users: &[(&str, u32, &[u32])]) -> Arc<Self> {
        let this = Arc::new(Self { known: Mutex::new(Ok(BTreeMap::new())), asked: AtomicUsize::new(0) });
        this.set(users);
        this
    }

    pub(crate) fn set(&self, users: &[(&str, u32, &[u32])]) {
        let users = users.iter().map(|(name, uid, groups)| ((*name).to_owned(), (*uid, groups.to_vec())));
        *self.known.lock() = Ok(users.collect());
    }

    pub(crate) fn fail(&self, errno: Errno) {
        *self.known.lock() = Err(errno);
    }

    fn find(&self, is: impl Fn(&str, u32) -> bool) -> Result<Option<(User, Vec<u32>)>, Errno> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let known = self.known.lock().clone()?;
        let found = known.into_iter().find(|(name, (uid, _))| is(name, *uid));
        Ok(found.map(|(name, (uid, groups))| (User { name, uid, gid: uid }, groups)))
    }
}

impl UserDatabase for Users {
    fn user(&self, uid: u32) -> Result<Option<User>, Errno> {
        Ok(self.find(|_, known| known == uid)?.map(|(user, _)| user))
    }

    fn user_named(&self, name: &str) -> Result<Option<User>, Errno> {
        Ok(self.find(|known, _| known == name)?.map(|(user, _)| user))
    }

    fn group_name(&self, gid: u32) -> Result<Option<String>, Errno> {
        self.find(|_, _| false)?;
        Ok(Some(format!("g{gid}")))
    }

    fn group_named(&self, name: &str) -> Result<Option<u32>, Errno> {
        self.find(|_, _| false)?;
        Ok(name.strip_prefix('g').and_then(|gid| gid.parse().ok()))
    }

    fn groups_of(&self, user: &User) -> Result<Vec<u32>, Errno> {
        Ok(self.find(|name, _| name == user.name)?.map(|(_, groups)| groups).unwrap_or_default())
    }
}

const ROOT: Principal = caller(0);
const ALICE: Principal = caller(2001);
const BOB: Principal = caller(2002);

/// Of a process that is gone: its groups are those that the database tells.
const fn caller(uid: u32) -> Principal {
    Principal::Process(Caller { uid, gid: uid, pid: 0 })
}

fn fixture(dir: &tempfile::TempDir) -> (Arc<Users>, Arc<LocalKms>, String) {
    let users = Users::new(&[("root", 0, &[0]), ("alice", 2001, &[7]), ("bob", 2002, &[]), ("2001", 2003, &[])]);
    let kms = kms_on(dir, Machine { users: users.clone(), ..Machine::default() });
    let arn = kms.create_key("").unwrap().arn;
    (users, kms, arn)
}

fn put(kms: &LocalKms, arn: &str, statements: &[&str]) -> Result<(), Error> {
    let (root, everyone) = (allow("root", "kms:*"), everyone());
    let all = [&[&*root, &*everyone], statements].concat();
    kms.put_key_policy(arn, None, &policy(&all), false, &ROOT)
}

fn everyone() -> String {
    r#"{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Principal": "*"}"#.into()
}

fn deny(principal: &str, action: &str) -> String {
    allow(principal, action).replace("Allow", "Deny")
}

fn decrypts(kms: &LocalKms, arn: &str, caller: &Principal) -> Result<(), Error> {
    kms.authorize(arn, Operation::Decrypt, &context(&[]), caller)
}

/// What was looked up before is forgotten.
pub(crate) fn outlive_answers() {
    let until = Instant::now() + LIFETIME;
    while Instant::now() <= until {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_deny_on_a_user_or_a_group_holds_while_the_user_database_is_away() {
    for principal in ["user/alice", "role/g7"] {
        let dir = tempfile::tempdir().unwrap();
        let (users, kms, arn) = fixture(&dir);
        put(&kms, &arn, &[&deny(principal, "kms:Decrypt")]).unwrap();
        assert_eq!(decrypts(&kms, &arn, &ALICE).unwrap_err().code, Code::AccessDenied, "{principal}");
        assert_eq!(decrypts(&kms, &arn, &BOB), Ok(()));
        for errno in [Errno::ECONNREFUSED, Errno::ENOENT, Errno::ESRCH, Errno::ETIMEDOUT] {
            users.fail(errno);
            outlive_answers();
            for caller in [&ALICE, &BOB] {
                let error = decrypts(&kms, &arn, caller).unwrap_err();
                assert!(error.is_outage(), "{principal}, {errno}: {error:?}");
                assert!(error.message.starts_with("the user database cannot be asked about"), "{}", error.message);
            }
        }
        // As glibc answers where a service of several is away, and as a user that was removed looks.
        users.set(&[("root", 0, &[0])]);
        outlive_answers();
        if principal == "user/alice" {
            assert!(decrypts(&kms, &arn, &ALICE).unwrap_err().is_outage());
            assert!(decrypts(&kms, &arn, &BOB).unwrap_err().message.contains("user/alice"));
        }
    }
}

#[test]
fn who_has_no_name_in_the_policy_needs_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let (users, kms, arn) = fixture(&dir);
    put(&kms, &arn, &[&deny("user/uid:2001", "kms:Decrypt")]).unwrap();
    users.fail(Errno::EIO);
    outlive_answers();
    assert_eq!(decrypts(&kms, &arn, &ALICE).unwrap_err().code, Code::AccessDenied);
    assert_eq!(decrypts(&kms, &arn, &BOB), Ok(()));
}

#[test]
fn a_user_whose_name_is_a_number_is_not_the_user_of_that_number() {
    let dir = tempfile::tempdir().unwrap();
    let (_users, kms, arn) = fixture(&dir);
    put(&kms, &arn, &[&deny("user/2001", "kms:Decrypt")]).unwrap();
    assert_eq!(decrypts(&kms, &arn, &ALICE), Ok(()));
    assert_eq!(decrypts(&kms, &arn, &caller(2003)).unwrap_err().code, Code::AccessDenied);
}

#[test]
fn a_deny_of_somebody_unknown_is_not_put_and_root_can_mend_one_that_became_so() {
    let dir = tempfile::tempdir().unwrap();
    let (users, kms, arn) = fixture(&dir);
    let error = put(&kms, &arn, &[&deny("user/ghost", "kms:Decrypt")]).unwrap_err();
    let text = "Policy contains a statement with one or more invalid principals. (The user database does not know \
                user/ghost; by its number it is user/uid:NUMBER)";
    assert_eq!(error, Error::new(Code::MalformedPolicyDocument, text));
    let policy = kms.get_key_policy(&arn, None, &ROOT).unwrap();
    assert!(!policy.contains("ghost"));
    put(&kms, &arn, &[&deny("user/bob", "kms:*")]).unwrap();
    users.set(&[("root", 0, &[0]), ("alice", 2001, &[])]);
    outlive_answers();
    let call = |action| kms.permit_call(&arn, &Ask::direct(action, &ROOT, kms.now()));
    assert!(call("DisableKey").unwrap_err().is_outage());
    assert!(decrypts(&kms, &arn, &ALICE).unwrap_err().is_outage());
    assert!(kms.get_key_policy(&arn, None, &ALICE).unwrap_err().is_outage());
    assert!(kms.get_key_policy(&arn, None, &ROOT).unwrap().contains("user/bob"));
    put(&kms, &arn, &[&deny("user/uid:2002", "kms:*")]).unwrap();
    assert_eq!((call("DisableKey"), decrypts(&kms, &arn, &ALICE)), (Ok(()), Ok(())));
    assert_eq!(decrypts(&kms, &arn, &BOB).unwrap_err().code, Code::AccessDenied);
}

#[test]
fn the_account_in_a_deny_is_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let (_users, kms, arn) = fixture(&dir);
    put(&kms, &arn, &[&deny("root", "kms:Decrypt")]).unwrap();
    for caller in [ROOT, ALICE, BOB, caller(4_000_000)] {
        assert_eq!(decrypts(&kms, &arn, &caller).unwrap_err().code, Code::AccessDenied, "{caller:?}");
    }
}

#[test]
fn a_grant_is_its_grantees_by_number_and_nobodys_while_the_database_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let (users, kms, arn) = fixture(&dir);
    kms.put_key_policy(&arn, None, &policy(&[&allow("root", "kms:*")]), false, &ROOT).unwrap();
    let grant = |grantee: &str| GrantRequest {
        grantee_principal: arn_of(grantee),
        operations: vec!["Decrypt".into()],
        ..GrantRequest::default()
    };
    kms.create_grant(&arn, &grant("user/2001"), &[], &ROOT).unwrap();
    assert_eq!(decrypts(&kms, &arn, &ALICE), Err(access_denied("user/alice", "Decrypt", &arn)));
    assert_eq!(decrypts(&kms, &arn, &caller(2003)), Ok(()));
    // Another user has the name now.
    users.set(&[("root", 0, &[0]), ("alice", 2003, &[]), ("2001", 2001, &[])]);
    outlive_answers();
    assert_eq!(decrypts(&kms, &arn, &ALICE), Ok(()));
    assert_eq!(decrypts(&kms, &arn, &caller(2003)).unwrap_err().code, Code::AccessDenied);
    users.fail(Errno::EIO);
    outlive_answers();
    assert!(decrypts(&kms, &arn, &ALICE).unwrap_err().is_outage(), "it is not taken from her either");
    users.set(&[("root", 0, &[0])]);
    outlive_answers();
    kms.create_grant(&arn, &grant("user/uid:2001"), &[], &ROOT).unwrap();
    users.fail(Errno::EIO);
    outlive_answers();
    assert_eq!(decrypts(&kms, &arn, &ALICE), Ok(()));
}

#[test]
fn who_may_grant_to_nobody_of_that_name_may_not_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let (_users, kms, arn) = fixture(&dir);
    let condition = format!(r#""Condition": {{"ArnEquals": {{"kms:GranteePrincipal": "{}"}}}}, "#, arn_of("user/bob"));
    let never_bob = deny("root", "kms:CreateGrant").replacen('{', &format!("{{{condition}"), 1);
    put(&kms, &arn, &[&never_bob]).unwrap();
    let make = |grantee: &str| {
        let grantee_principal = arn_of(grantee);
        let request = GrantRequest { grantee_principal, operations: vec!["Decrypt".into()], ..GrantRequest::default() };
        kms.create_grant(&arn, &request, &[], &ROOT).map(|_| ()).map_err(|error| error.code)
    };
    assert_eq!(make("user/bob"), Err(Code::AccessDenied));
    assert_eq!(make("user/uid:2002"), Err(Code::AccessDenied));
    assert_eq!(make("user/uid:2001"), Ok(()));
}

#[test]
fn answers_are_kept_so_that_requests_cost_no_look_ups() {
    let dir = tempfile::tempdir().unwrap();
    let (users, kms, arn) = fixture(&dir);
    put(&kms, &arn, &[&deny("user/alice", "kms:Decrypt"), &deny("role/g9", "kms:Decrypt")]).unwrap();
    let (begun, before) = (Instant::now(), users.asked.load(Ordering::SeqCst));
    let mut requests = 0;
    while begun.elapsed() < 2 * LIFETIME {
        assert_eq!(decrypts(&kms, &arn, &BOB), Ok(()));
        requests += 1;
    }
    let asked = users.asked.load(Ordering::SeqCst) - before;
    let rounds = begun.elapsed().as_millis() / LIFETIME.as_millis() + 2;
    assert!(asked as u128 <= 4 * rounds, "{asked} look-ups of {requests} requests in {:?}", begun.elapsed());
}
