//! Data keys wrapped anew: what it costs, and others who change the same object meanwhile.

use super::*;
use kmsfs_kms::Code;
use kmsfs_testing::disk::Call;

/// More than the closed objects that may keep a descriptor.
const OBJECTS: u64 = 600;

#[test]
fn re_wrapping_a_closed_object_is_two_reads_and_one_write_and_keeps_no_descriptor() {
    let (disk, keys) = new_disk();
    let store = open(&disk, &keys);
    let dir = bucket(&store);
    for n in 0..OBJECTS {
        let object = create(&store, &dir, &n.to_string());
        object.write(0, &pattern(n, 100)).unwrap();
        object.commit().unwrap();
        store.release(&object);
    }
    store.close().unwrap();

    let store = open(&disk, &keys);
    let dir = bucket(&store);
    let before = disk.calls();
    for n in 0..OBJECTS {
        let name = n.to_string();
        let object = open_object(&store, &dir, &name);
        store.rewrap(&object, &aws_kms("one"), &name, &CALLER).unwrap();
        store.release(&object);
    }
    let calls = disk.calls().since(&before);
    // Header and record are read, another record goes to the log: no checkpoint brings it home for long.
    let of = |call| calls.of(call);
    assert_eq!((of(Call::OpenFile), of(Call::Read), of(Call::Write)), (OBJECTS, 2 * OBJECTS, OBJECTS), "{calls:?}");
    assert_eq!(of(Call::Sync) + of(Call::SyncData) + of(Call::SyncAll), 0, "{calls:?}");

    let killed = disk.crash_point().kill();
    store.close().unwrap();
    for disk in [killed, disk] {
        let store = open(&disk, &keys);
        let dir = bucket(&store);
        for n in 0..OBJECTS {
            let object = open_object(&store, &dir, &n.to_string());
            assert_eq!(object.encryption().key_arn, Some(arn("one")));
            assert_eq!(content(&object), pattern(n, 100));
            store.release(&object);
        }
        store.close().unwrap();
    }
}

/// The older data key's wrapping took the place of the newer one's, and the object could not be opened any more.
#[test]
fn a_data_key_that_is_new_when_the_kms_answers_is_not_replaced_by_the_old_one() {
    let kms = Moody::new();
    let keys = Arc::new(KeyService::new(kms.clone(), Arc::new(OneKey::new())));
    let disk = disk_for(&keys);
    let store = open_with(&disk, &keys, StoreOptions { rewritten: 0, ..StoreOptions::default() });
    let dir = bucket(&store);
    let object = create(&store, &dir, "o");
    object.write(0, &pattern(1, 100_000)).unwrap();
    store.rewrap(&object, &aws_kms("one"), "o", &CALLER).unwrap();
    let (store_too, object_too) = (store.clone(), object.clone());
    kms.answer(move |call| {
        // While it is asked to wrap; what that asks for itself is answered.
        if call.number == 1 {
            store_too.begin_epoch(&object_too, &aws_kms("two"), "o", &CALLER).unwrap();
        }
        Ok(())
    });
    store.rewrap(&object, &aws_kms("three"), "o", &CALLER).unwrap();
    assert_eq!(object.encryption().key_arn, Some(arn("three")));
    assert_eq!(object.kms_keys().len(), 2, "chunks are under the older data key still");
    store.release(&object);
    store.close().unwrap();

    let store = open(&disk, &keys);
    let object = open_object(&store, &bucket(&store), "o");
    assert_eq!(content(&object), pattern(1, 100_000));
    store.release(&object);
    store.close().unwrap();
}

/// Whoever might use the newest key alone read chunks under the older one, as long as somebody had the object open.
#[test]
fn an_object_between_two_data_keys_is_opened_by_whoever_may_use_both() {
    let kms = Moody::new();
    let keys = Arc::new(KeyService::new(kms.clone(), Arc::new(OneKey::new())));
    let disk = disk_for(&keys);
    let store = open_with(&disk, &keys, StoreOptions { rewritten: 0, ..StoreOptions::default() });
    let dir = bucket(&store);
    let object = create(&store, &dir, "o");
    object.write(0, &pattern(1, 100_000)).unwrap();
    store.rewrap(&object, &aws_kms("one"), "o", &CALLER).unwrap();
    store.begin_epoch(&object, &aws_kms("two"), "o", &CALLER).unwrap();
    object.reencrypt_some(0, 3).unwrap();
    let refuse = |key: Option<&str>| {
        let refused = key.map(arn);
        kms.answer(move |call| match &refused {
            Some(refused) if call.key == *refused => Err(Error::new(Code::AccessDenied, "no")),
            _ => Ok(()),
        });
    };
    let opens = || {
        let by_name = store.open_object(&dir, OsStr::new("o"), &CALLER).map(|object| store.release(&object)).is_ok();
        let again = store.open_again(object.ino(), &CALLER).map(|object| store.release(&object.unwrap())).is_ok();
        assert_eq!(by_name, again);
        by_name
    };
    assert!(opens());
    for key in ["one", "two"] {
        refuse(Some(key));
        assert!(!opens(), "{key}");
        // The same of one that nobody had open.
        let is_locked = object.lock().map(|()| object.is_locked()).unwrap();
        assert!(is_locked && !opens(), "{key}");
        refuse(None);
        assert!(opens() && !object.is_locked(), "{key}");
    }
    assert_eq!(object.reencrypt_some(3, 100).unwrap(), None);
    refuse(Some("one"));
    assert!(opens(), "nothing is under the older one any more");
    store.release(&object);
    store.close().unwrap();
}
