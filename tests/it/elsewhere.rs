//! A mount whose keys are kept by two KMSs: the one of this machine, and one that is elsewhere and answers when the
//! test lets it. What concerns a key at hand never waits for the other one.

use crate::harness::wait_until;
use crate::revocation::judged::{ANN, creation};
use kmsfs_crypto::SecretKey;
use kmsfs_fs::{Fs, FsOptions, HandleId, Ino, Writer};
use kmsfs_kms::api::{Answer, NewKey, PageRequest, Request, Service, Tag};
use kmsfs_kms::{Authorized, Caller, Code, Error, Principal, Router, Waits, waits};
use kmsfs_kms_local::{KeyringParameters, LocalKms, Unlock};
use kmsfs_sse::KeyService;
use kmsfs_store::{Parameters, Store, StoreOptions};
use kmsfs_testing::disk::SimulatedDisk;
use kmsfs_testing::kms::Moody;
use parking_lot::RwLock;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const ACCOUNT: &str = "000000000000";
/// Of the KMS that is elsewhere.
const FAR: &str = "arn:aws:kms:ap-south-1:444455556666:key/";
/// As many as are asked side by side.
const SIDE_BY_SIDE: usize = 8;

struct World {
    _dir: TempDir,
    home: Arc<LocalKms>,
    far: Arc<Moody>,
    router: Arc<Router>,
    fs: Arc<Fs>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let of_keyring =
            KeyringParameters { store_id: [1; 16], account_id: ACCOUNT.into(), region: "us-east-1".into() };
        let unlock = Unlock::KeyFile(SecretKey::random());
        let home = LocalKms::create(&dir.path().join("keyring"), &of_keyring, &unlock).unwrap();
        let far = Moody::new();
        let authorized = Arc::new(Authorized::new(far.clone(), home.clone()));
        let router = Router::new(home.clone()).with_route("arn:aws:kms:ap-south-1:", "far", authorized).unwrap();
        let router = Arc::new(router);
        let keys = Arc::new(KeyService::new(router.clone(), home.clone()));
        let disk = SimulatedDisk::new();
        let parameters = Parameters { store_id: [1; 16], account_id: ACCOUNT.into(), region: "us-east-1".into() };
        kmsfs_store::create(&disk, &parameters, &*home).unwrap();
        let store = Store::open(Arc::new(disk), keys, StoreOptions::default()).unwrap();
        let options =
            FsOptions { read_only: false, keep_owners: false, noatime: false, open_dirs: 16, most_inodes: None };
        Self { _dir: dir, home, far, router, fs: Fs::new(store, options) }
    }

    fn new_key(&self) -> String {
        let made = self.call(&Request::CreateKey(NewKey::default()));
        let Answer::Key(key) = made else { panic!("it is a key") };
        key.arn
    }

    fn call(&self, request: &Request) -> Answer {
        Service::call(&*self.router, request, &ROOT.into()).unwrap()
    }

    /// A bucket whose objects are under that key.
    fn bucket(&self, name: &str, key: &str) -> Ino {
        let bucket = self.fs.mkdir(self.fs.root(), OsStr::new(name), &creation(0o777, &ANN)).unwrap().ino();
        let (_, handle) = self.fs.create(bucket, OsStr::new(".encryption.json"), &creation(0o666, &ROOT)).unwrap();
        let rule = format!(r#"{{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"{key}"}}"#);
        let text = format!(r#"{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{rule}}}]}}"#);
        self.fs.write(handle, 0, text.as_bytes(), Writer::Privileged).unwrap();
        self.fs.flush(handle).unwrap();
        self.fs.release(handle);
        bucket
    }

    /// A new object, which is open.
    fn open(&self, bucket: Ino, name: &str) -> HandleId {
        let (_, handle) = self.fs.create(bucket, OsStr::new(name), &creation(0o666, &ANN)).unwrap();
        self.fs.write(handle, 0, b"content", Writer::Privileged).unwrap();
        self.fs.flush(handle).unwrap();
        handle
    }

    fn is_refused(&self, handle: HandleId) -> bool {
        match self.fs.read(handle, 0, &mut [0; 7]) {
            Ok(7) => false,
            Err(refusal) if kmsfs_fuse::errno(&refusal) == libc::EACCES => true,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_open_under_a_key_at_hand_stays_where_it_was_begun_and_asks_once() {
    let world = World::new();
    let bucket = world.bucket("near", &world.new_key());
    let handle = world.open(bucket, "object");
    let ino = world.fs.lookup(bucket, OsStr::new("object")).unwrap().ino();
    let before = world.home.calls().decrypt;
    let opened = waits::within(Waits::Nothing, || world.fs.open(ino, false, true, &ANN)).unwrap();
    assert_eq!(world.home.calls().decrypt, before + 1);
    assert!(!world.is_refused(handle) && !world.is_refused(opened));
    // And it is evaluated there, where something has changed since it was asked for.
    let (home, key) = (world.home.clone(), world.new_key());
    let changed = waits::within(Waits::Nothing, || {
        home.call(&Request::EnableKey { key_id: key }, &ROOT.into()).unwrap();
        world.fs.watch_keys_at_hand();
        world.fs.open(ino, false, true, &ANN)
    });
    assert!(!world.is_refused(changed.unwrap()));
    assert_eq!(world.far.calls(), 0);
}

#[test]
fn a_key_at_hand_is_taken_away_while_another_kms_hangs() {
    let world = World::new();
    let key = world.new_key();
    let near = world.open(world.bucket("near", &key), "object");
    let bucket = world.bucket("far", &format!("{FAR}k"));
    let far: Vec<_> = (0..2 * SIDE_BY_SIDE).map(|n| world.open(bucket, &n.to_string())).collect();
    let until = Arc::new(RwLock::new(()));
    let held = until.write();
    let waits = until.clone();
    world.far.answer(move |_| {
        drop(waits.read());
        Ok(())
    });
    world.call(&Request::DisableKey { key_id: key.clone() });
    let refused = thread::scope(|scope| {
        scope.spawn(|| world.fs.watch_keys());
        let refused = wait_until(|| world.is_refused(near));
        // And again, while those who were asked before have not answered yet.
        world.call(&Request::EnableKey { key_id: key.clone() });
        world.fs.watch_keys_at_hand();
        let allowed = !world.is_refused(near);
        drop(held);
        (refused, allowed)
    });
    assert_eq!(refused, (true, true));
    assert!(far.iter().all(|handle| !world.is_refused(*handle)));
}

#[test]
fn an_outage_of_a_key_is_found_once_and_other_keys_are_evaluated_all_the_same() {
    let world = World::new();
    let (away, other) = (world.bucket("away", &format!("{FAR}away")), world.bucket("other", &format!("{FAR}other")));
    let handles: Vec<_> = (0..4 * SIDE_BY_SIDE).map(|n| world.open(away, &n.to_string())).collect();
    let refused = world.open(other, "object");
    world.far.answer(|call| {
        let code = if call.key.ends_with("away") { Code::KeyUnavailable } else { Code::AccessDenied };
        Err(Error::new(code, "no"))
    });
    world.far.change();
    world.fs.watch_keys();
    let asked = world.far.take_calls().iter().filter(|call| call.key.ends_with("away")).count();
    assert!((1..=SIDE_BY_SIDE).contains(&asked), "{asked}");
    assert!(handles.iter().all(|handle| !world.is_refused(*handle)) && world.is_refused(refused));
    world.far.answer(|_| Ok(()));
    world.far.change();
    world.fs.watch_keys();
    assert!(!world.is_refused(refused));
    assert!(world.far.calls() > handles.len() as u64, "it is not remembered for longer");
}

#[test]
fn a_kms_that_takes_its_time_is_asked_several_things_at_once_and_not_everything() {
    let world = World::new();
    let bucket = world.bucket("far", &format!("{FAR}k"));
    let handles: Vec<_> = (0..4 * SIDE_BY_SIDE).map(|n| world.open(bucket, &n.to_string())).collect();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, peak) = (now.clone(), most.clone());
    world.far.answer(move |_| {
        let at_once = asked.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(at_once, Ordering::SeqCst);
        assert!(wait_until(|| peak.load(Ordering::SeqCst) >= SIDE_BY_SIDE));
        // Those beyond that would come now.
        thread::sleep(Duration::from_millis(1));
        asked.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    world.far.change();
    world.fs.watch_keys();
    assert_eq!(most.load(Ordering::SeqCst), SIDE_BY_SIDE);
    assert_eq!(world.far.calls(), handles.len() as u64);
}

#[test]
fn a_bucket_key_that_is_just_being_asked_for_elsewhere_keeps_no_watcher() {
    let world = World::new();
    let near = world.open(world.bucket("near", &world.new_key()), "object");
    let (world, keys) = (&world, world.fs.store().keys());
    let want = kmsfs_sse::Encryption {
        algorithm: kmsfs_sse::Algorithm::AwsKms,
        key_id: Some(format!("{FAR}k")),
        bucket_key: true,
        context: kmsfs_kms::EncryptionContext::new(),
    };
    let (reached, go_on) = world.far.hold_next();
    thread::scope(|scope| {
        let making = scope.spawn(|| keys.new_data_key(&want, "far", "object", Principal::from(ANN)).map(|_| ()));
        reached.recv_timeout(Duration::from_secs(60)).unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        scope.spawn(move || {
            world.fs.watch_keys_at_hand();
            let _ = done.send(());
        });
        let watched = is_done.recv_timeout(Duration::from_secs(60));
        drop(go_on);
        assert_eq!((watched, making.join().unwrap()), (Ok(()), Ok(())));
    });
    assert!(!world.is_refused(near));
}

/// Lets root administer a key, and that user use it through mounts, if given.
fn policy_for(user: Option<u32>) -> String {
    let statement = |who: String, what: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:{who}"}},"Action":"{what}","Resource":"*"}}"#
        )
    };
    let root = Some(statement("root".into(), "kms:*"));
    let user = user.map(|uid| statement(format!("user/uid:{uid}"), "kms:*"));
    let statements: Vec<_> = root.into_iter().chain(user).collect();
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

#[test]
fn a_policy_here_takes_a_key_away_while_its_kms_hangs() {
    let world = World::new();
    let key_id = format!("{FAR}k");
    let handle = world.open(world.bucket("far", &key_id), "object");
    let put = |user: Option<u32>| {
        let (key_id, policy) = (key_id.clone(), policy_for(user));
        let bypass_policy_lockout_safety_check = false;
        world.call(&Request::PutKeyPolicy { key_id, policy_name: None, policy, bypass_policy_lockout_safety_check });
    };
    put(Some(ANN.uid));
    world.fs.watch_keys();
    assert!(!world.is_refused(handle));
    let until = Arc::new(RwLock::new(()));
    let held = until.write();
    let waits = until.clone();
    world.far.answer(move |_| {
        drop(waits.read());
        Ok(())
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            world.far.change();
            world.fs.watch_keys_elsewhere();
        });
        assert!(wait_until(|| world.far.calls() > 0));
        put(None);
        world.fs.watch_keys_at_hand();
        let refused = world.is_refused(handle);
        drop(held);
        assert!(refused);
    });
    assert!(world.is_refused(handle), "what the KMS said of it is about an earlier policy");
    world.fs.watch_keys();
    assert!(world.is_refused(handle));
    put(Some(ANN.uid));
    world.fs.watch_keys();
    assert!(!world.is_refused(handle));
}

#[test]
fn what_a_key_elsewhere_is_called_and_who_may_use_it_is_kept_here_and_not_told_there() {
    let world = World::new();
    let key_id = format!("{FAR}k");
    world.call(&Request::CreateAlias { alias_name: "alias/far".into(), target_key_id: key_id.clone() });
    world.call(&Request::TagResource {
        key_id: key_id.clone(),
        tags: vec![Tag { key: "team".into(), value: "billing".into() }],
    });
    for request in [
        Request::GetKeyPolicy { key_id: key_id.clone(), policy_name: None },
        Request::ListAliases { key_id: Some(key_id.clone()), page: PageRequest::default() },
        Request::ListGrants {
            key_id: key_id.clone(),
            grant_id: None,
            grantee_principal: None,
            page: PageRequest::default(),
        },
    ] {
        world.call(&request);
    }
    assert_eq!(world.far.calls(), 0);
    let bucket = world.bucket("far", "alias/far");
    let handle = world.open(bucket, "object");
    assert!(!world.is_refused(handle));
    let calls: Vec<_> = world.far.take_calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls, [format!("GenerateDataKey {key_id} {}", ANN.uid)]);
    let ino = world.fs.lookup(bucket, OsStr::new("object")).unwrap().ino();
    let name = OsStr::new("user.x-amz-server-side-encryption-aws-kms-key-id");
    assert_eq!(world.fs.get_xattr(ino, name, &ANN).unwrap(), key_id.as_bytes());
    // Where no route covers it, nothing is kept.
    let put = Request::TagResource { key_id: "arn:aws:kms:eu-west-1:444455556666:key/k".into(), tags: vec![] };
    assert_eq!(Service::call(&*world.router, &put, &ROOT.into()).err().unwrap().code, Code::InvalidKeyId);
}
