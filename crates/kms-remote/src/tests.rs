//! A KMS behind providers that do as they should, and behind others.

use crate::protocol::{Call, Frame, Reply, Request, Response, Trace, read_frame};
use crate::{Backend, Connect, Identity, RemoteKms, Settings, serve};
use kmsfs_crypto::SecretKey;
use kmsfs_kms::api::{Answer, Request as Asked, Service};
use kmsfs_kms::deadline::Deadline;
use kmsfs_kms::{Caller, Code, EncryptionContext, Error, Kms, Operation, Principal};
use kmsfs_locks::{Mutex, ranks};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/k";

fn root() -> Principal {
    Principal::Process(Caller { uid: 0, gid: 0, pid: 1 })
}

fn context() -> EncryptionContext {
    [("a".to_owned(), "b".to_owned())].into()
}

/// Wraps by adding one to each byte; does as it is told.
#[derive(Default)]
struct Adding {
    /// What it fails with.
    error: Mutex<ranks::InTests, Option<Error>>,
    /// A key, or a value of contexts, that alone it fails for.
    only: Mutex<ranks::InTests, Option<&'static str>>,
    delay: Mutex<ranks::InTests, Duration>,
    decrypts: AtomicUsize,
    /// Blobs that it makes are not of the key that it says.
    is_confused: AtomicBool,
}

impl Backend for Adding {
    fn identity(&self) -> Identity {
        Identity { provider: "adding".into(), endpoint: "here".into() }
    }

    fn call(&self, call: &Call, _: Duration, _: &mut Trace) -> Result<Reply, Error> {
        let delay = *self.delay.lock();
        thread::sleep(delay);
        if matches!(call, Call::Decrypt { .. }) {
            self.decrypts.fetch_add(1, Ordering::SeqCst);
        }
        let only = *self.only.lock();
        let is_meant = |only: &str| call.key_id() == Some(only) || context_of(call).values().any(|value| value == only);
        if let Some(error) = self.error.lock().clone().filter(|_| only.is_none_or(is_meant)) {
            return Err(error);
        }
        let add = |bytes: &[u8], by: u8| bytes.iter().map(|byte| byte.wrapping_add(by)).collect::<Vec<_>>();
        let step = if self.is_confused.load(Ordering::SeqCst) { 2 } else { 1 };
        Ok(match call {
            Call::GenerateDataKey { key_id, .. } => {
                let plaintext = SecretKey::random();
                let ciphertext_blob = add(&plaintext.duplicate().into_plaintext(), step);
                Reply::DataKey { key_id: key_id.clone(), plaintext, ciphertext_blob }
            }
            Call::Encrypt { key_id, plaintext, .. } => {
                Reply::Encrypted { key_id: key_id.clone(), ciphertext_blob: add(plaintext, step) }
            }
            Call::Decrypt { key_id, ciphertext_blob, .. } => {
                Reply::Decrypted { key_id: key_id.clone(), plaintext: add(ciphertext_blob, 255).into() }
            }
            Call::DescribeKey { key_id } => {
                Reply::Key { key_id: key_id.clone(), key_state: "Enabled".into(), description: None }
            }
            _ => return Err(Error::new(Code::UnsupportedOperation, "")),
        })
    }
}

fn context_of(call: &Call) -> EncryptionContext {
    match call {
        Call::GenerateDataKey { context, .. } | Call::Encrypt { context, .. } | Call::Decrypt { context, .. } => {
            context.clone()
        }
        _ => EncryptionContext::new(),
    }
}

fn connect(backend: &Arc<Adding>, started: &Arc<AtomicUsize>) -> Connect {
    let (backend, started) = (Arc::clone(backend), Arc::clone(started));
    Box::new(move || {
        started.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = UnixStream::pair()?;
        let (backend, writer) = (Arc::clone(&backend), theirs.try_clone()?);
        thread::spawn(move || serve(theirs, writer, backend, 4));
        Ok(ours)
    })
}

fn quick() -> Settings {
    let (deadline, revalidate) = (Duration::from_secs(20), Duration::from_millis(50));
    Settings { deadline, revalidate, concurrency: 4, ..Settings::default() }
}

fn remote(settings: Settings) -> (RemoteKms, Arc<Adding>, Arc<AtomicUsize>) {
    let (backend, started) = (Arc::new(Adding::default()), Arc::default());
    (RemoteKms::new("adding", settings, connect(&backend, &started)), backend, started)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn data_keys_and_direct_calls_are_the_provider_s() {
    let (kms, _, started) = remote(Settings::default());
    let made = kms.generate_data_key(KEY, &context(), &root()).unwrap();
    let opened = kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).unwrap();
    assert_eq!(opened.into_plaintext(), made.plaintext.duplicate().into_plaintext());
    let (arn, blob) = kms.encrypt(KEY, &made.plaintext, &context(), &root()).unwrap();
    assert_eq!((arn.as_str(), &blob), (KEY, &made.ciphertext_blob));
    assert_eq!(kms.describe_key(KEY, &root()).unwrap(), KEY);
    let again = Asked::ReEncrypt {
        ciphertext_blob: blob,
        source_encryption_context: context(),
        source_key_id: Some(KEY.into()),
        destination_key_id: KEY.into(),
        destination_encryption_context: context(),
    };
    let Ok(Answer::ReEncrypted { destination, .. }) = kms.call(&again, &root()) else { panic!("it is re-encrypted") };
    assert_eq!(destination.blob, made.ciphertext_blob, "a provider that cannot is asked to decrypt and encrypt");
    assert_eq!(started.load(Ordering::SeqCst), 1);
    let status = kms.status();
    assert_eq!(status.provider.unwrap(), "adding");
    assert!(status.connected && status.away.is_none() && !status.breaker_open && status.counts.answered >= 6);
}

#[test]
fn a_blob_that_does_not_open_again_is_no_data_key() {
    let (kms, backend, _) = remote(Settings::default());
    let made = kms.generate_data_key(KEY, &context(), &root()).unwrap();
    backend.is_confused.store(true, Ordering::SeqCst);
    let refused = kms.generate_data_key(KEY, &context(), &root()).map(|made| made.key_arn).unwrap_err();
    assert!(refused.is_outage() && refused.message.contains("does not open again"), "{refused}");
    let refused = kms.encrypt(KEY, &made.plaintext, &context(), &root()).unwrap_err();
    assert!(refused.is_outage() && refused.message.contains("does not open again"), "{refused}");
    assert!(kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).is_ok(), "what was right is opened");
}

#[test]
fn a_call_ends_at_its_deadline_and_identical_ones_are_made_once() {
    let (kms, backend, _) = remote(Settings::default());
    let made = kms.generate_data_key(KEY, &context(), &root()).unwrap();
    let before = backend.decrypts.load(Ordering::SeqCst);
    *backend.delay.lock() = Duration::from_millis(700);
    thread::scope(|scope| {
        let open = || kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).unwrap().into_plaintext();
        let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        let opened: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(opened.iter().all(|one| *one == made.plaintext.duplicate().into_plaintext()));
    });
    assert!(backend.decrypts.load(Ordering::SeqCst) - before < 8, "at least two of them met");
    *backend.delay.lock() = Duration::from_secs(3);
    let _running = Deadline::after(Duration::from_millis(200)).begin();
    let since = Instant::now();
    let missed = kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).unwrap_err();
    assert!(missed.is_outage() && since.elapsed() < Duration::from_secs(2), "{missed}");
}

#[test]
fn a_refusal_and_a_recovery_are_changes_and_an_outage_is_none() {
    let (kms, backend, _) = remote(quick());
    let made = kms.generate_data_key(KEY, &context(), &root()).unwrap();
    let authorize = || kms.authorize(KEY, Operation::Decrypt, &context(), &root());
    assert_eq!((authorize(), kms.version()), (Ok(()), 0));
    *backend.error.lock() = Some(Error::new(Code::KeyUnavailable, "away"));
    let looked = backend.decrypts.load(Ordering::SeqCst);
    until("canaries go on", || backend.decrypts.load(Ordering::SeqCst) > looked + 1);
    assert_eq!(kms.version(), 0);
    *backend.error.lock() = Some(Error::new(Code::Disabled, "disabled"));
    until("the refusal is noticed", || kms.version() == 1);
    assert_eq!(authorize().unwrap_err().code, Code::Disabled);
    assert_eq!(kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).unwrap_err().code, Code::Disabled);
    *backend.error.lock() = None;
    until("the recovery is noticed", || kms.version() == 2);
    assert_eq!(authorize(), Ok(()));
}

#[test]
fn a_key_of_which_nothing_comes_takes_no_other_away() {
    const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/other";
    let (kms, backend, started) = remote(Settings { concurrency: 4, ..Settings::default() });
    let opens = |key: &str| kms.decrypt(key, &[7; 32], &context(), &root());
    opens(KEY).unwrap();
    (*backend.error.lock(), *backend.only.lock()) = (Some(Error::new(Code::KeyUnavailable, "away")), Some(KEY));
    until("it is left alone", || {
        assert!(opens(KEY).unwrap_err().is_outage());
        opens(OTHER).unwrap();
        kms.status().breaker_open
    });
    (0..20).for_each(|_| drop(opens(OTHER).unwrap()));
    assert_eq!(kms.status().keys_away, [KEY]);
    assert_eq!(started.load(Ordering::SeqCst), 1);
    *backend.only.lock() = Some("nobody");
    until("it comes back", || opens(KEY).is_ok());
    assert_eq!((kms.status().keys_away, kms.status().away), (vec![], None));
}

#[test]
fn calls_about_one_key_leave_places_for_others() {
    let kms = behind(|_, request, stream| {
        if request.call.key_id() == Some("other") {
            opened(stream, request.id, "other", 32);
        }
    });
    thread::scope(|scope| {
        let hangs = || kms.decrypt(KEY, &[scope_number()], &context(), &root()).unwrap_err();
        let all: Vec<_> = (0..24).map(|_| scope.spawn(hangs)).collect();
        until("half of the places are taken", || kms.status().in_flight >= 8);
        while !all.iter().all(thread::ScopedJoinHandle::is_finished) {
            kms.decrypt("other", &[1], &context(), &root()).unwrap();
        }
    });
}

/// Another number each time, so that calls are not the same.
fn scope_number() -> u8 {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    NUMBER.fetch_add(1, Ordering::SeqCst) as u8
}

#[test]
fn an_object_that_is_denied_takes_no_other_of_the_key_away() {
    let (kms, backend, _) = remote(quick());
    let of = |object: &str| EncryptionContext::from([("object".to_owned(), object.to_owned())]);
    let blob = |object: &str| kms.generate_data_key(KEY, &of(object), &root()).unwrap().ciphertext_blob;
    let (denied, other) = (blob("denied"), blob("other"));
    let authorize = |object: &str| kms.authorize(KEY, Operation::Decrypt, &of(object), &root());
    (*backend.error.lock(), *backend.only.lock()) = (Some(Error::new(Code::AccessDenied, "no")), Some("denied"));
    until("it is noticed", || kms.version() > 0);
    assert_eq!(authorize("denied").unwrap_err().code, Code::AccessDenied);
    assert_eq!(kms.decrypt(KEY, &denied, &of("denied"), &root()).map(drop).unwrap_err().code, Code::AccessDenied);
    for _ in 0..20 {
        assert_eq!((authorize("other"), authorize("never seen")), (Ok(()), Ok(())));
        assert!(kms.decrypt(KEY, &other, &of("other"), &root()).is_ok());
        assert!(authorize("denied").is_err());
        thread::sleep(Duration::from_millis(10));
    }
    let before = kms.version();
    *backend.only.lock() = None;
    until("all of it is denied", || authorize("other").is_err());
    *backend.error.lock() = None;
    until("all of it comes back", || authorize("other").is_ok() && authorize("denied").is_ok());
    assert!(kms.version() >= before + 2);
}

#[test]
fn a_call_that_is_never_answered_is_forgotten_and_its_late_answer_ends_nothing() {
    let late = Arc::new(Mutex::<ranks::InTests, Option<u64>>::default());
    let (number, started) = (Arc::clone(&late), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&started);
    let kms = behind(move |connection, request, stream| {
        counted.fetch_max(connection + 1, Ordering::SeqCst);
        if request.call.key_id() == Some("hangs") {
            *number.lock() = Some(request.id);
            return;
        }
        if matches!(request.call, Call::DescribeKey { .. }) {
            let late = number.lock().take();
            if let Some(id) = late {
                opened(stream, id, "hangs", 32);
            }
            let key = Reply::Key { key_id: KEY.into(), key_state: "Enabled".into(), description: None };
            return answer(stream, request.id, key);
        }
        opened(stream, request.id, KEY, 32);
    });
    let asked = Instant::now();
    {
        let _running = Deadline::after(Duration::from_millis(50)).begin();
        assert!(kms.decrypt("hangs", &[1], &context(), &root()).unwrap_err().is_outage());
    }
    // Twice the patience of three seconds, in which others are answered.
    while asked.elapsed() < Duration::from_secs(8) {
        kms.decrypt(KEY, &[1], &context(), &root()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    kms.describe_key(KEY, &root()).unwrap();
    assert!(late.lock().is_none(), "it was answered late");
    kms.decrypt(KEY, &[1], &context(), &root()).unwrap();
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

#[test]
fn a_call_that_is_lost_ends_nothing_and_an_outage_that_lasts_does() {
    let revalidate = Duration::from_secs(3600);
    let offline = Some(Duration::from_millis(100));
    let (kms, backend, _) = remote(Settings { revalidate, offline, ..Settings::default() });
    let blob = kms.generate_data_key(KEY, &context(), &root()).unwrap().ciphertext_blob;
    let authorize = || kms.authorize(KEY, Operation::Decrypt, &context(), &root());
    *backend.error.lock() = Some(Error::new(Code::KeyUnavailable, "lost"));
    assert!(kms.generate_data_key(KEY, &context(), &root()).is_err());
    *backend.error.lock() = None;
    assert_eq!(authorize(), Ok(()));
    until("somebody asks again, long before that is due", || kms.status().away.is_none());
    let version = kms.version();
    thread::sleep(Duration::from_millis(300));
    assert_eq!((authorize(), kms.version()), (Ok(()), version));
    assert!(kms.decrypt(KEY, &blob, &context(), &root()).is_ok());

    *backend.error.lock() = Some(Error::new(Code::KeyUnavailable, "away"));
    assert!(kms.generate_data_key(KEY, &context(), &root()).is_err());
    until("what is open ends", || authorize().is_err());
    let ended = authorize().unwrap_err();
    assert_eq!((ended.code, ended.code.name()), (Code::AwayTooLong, "KeyUnavailableException"));
    *backend.error.lock() = None;
    until("it goes on", || authorize().is_ok());
}

#[test]
fn what_is_disconnected_is_refused_at_once_and_comes_back() {
    let (kms, backend, _) = remote(Settings::default());
    let made = kms.generate_data_key(KEY, &context(), &root()).unwrap();
    kms.set_connected(false);
    assert_eq!(kms.version(), 1);
    let asked = backend.decrypts.load(Ordering::SeqCst);
    for refused in [
        kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).map(drop).unwrap_err(),
        kms.authorize(KEY, Operation::Decrypt, &context(), &root()).unwrap_err(),
    ] {
        assert!(refused.code == Code::KmsInvalidState && !refused.is_outage(), "{refused}");
    }
    assert_eq!(backend.decrypts.load(Ordering::SeqCst), asked);
    kms.set_connected(true);
    assert_eq!(kms.version(), 2);
    assert!(kms.decrypt(KEY, &made.ciphertext_blob, &context(), &root()).is_ok());
}

/// Providers that answer `respond(request)` after `Hello`, one for each connection.
fn behind(respond: impl Fn(usize, Request, &mut UnixStream) + Send + Sync + 'static) -> RemoteKms {
    let (respond, number) = (Arc::new(respond), AtomicUsize::new(0));
    let connect = move || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let (ours, mut theirs) = UnixStream::pair()?;
        let respond = Arc::clone(&respond);
        thread::spawn(move || {
            while let Ok(Some(json)) = read_frame(&mut theirs) {
                let Ok(Ok(request)) = Request::parse(&json) else { return };
                if let Call::Hello { version } = request.call {
                    let hello = Reply::Hello { version, provider: "lying".into(), endpoint: String::new() };
                    answer(&mut theirs, request.id, hello);
                } else {
                    respond(number, request, &mut theirs);
                }
            }
        });
        Ok(ours)
    };
    RemoteKms::new("lying", Settings { deadline: Duration::from_secs(3), ..Settings::default() }, Box::new(connect))
}

fn answer(stream: &mut UnixStream, id: u64, reply: Reply) {
    let _ = Response { id, outcome: Ok(reply), trace: Trace::default() }.frame().unwrap().write(stream);
}

fn opened(stream: &mut UnixStream, id: u64, key_id: &str, len: usize) {
    answer(stream, id, Reply::Decrypted { key_id: key_id.into(), plaintext: vec![7; len].into() });
}

#[test]
fn whatever_makes_no_sense_is_an_outage_and_the_next_provider_is_asked() {
    type Lie = fn(&Request, &mut UnixStream);
    let lies: [(&str, Lie); 8] = [
        ("another request's", |request, stream| opened(stream, request.id + 1, KEY, 32)),
        ("of another key", |request, stream| opened(stream, request.id, "arn:aws:kms:x:1:key/other", 32)),
        ("too short a key", |request, stream| opened(stream, request.id, KEY, 31)),
        ("not JSON", |_, stream| drop(stream.write_all(b"\0\0\0\x05hello"))),
        ("endless", |_, stream| while stream.write_all(&[b'x'; 1 << 12]).is_ok() {}),
        ("half a frame", |_, stream| drop(stream.write_all(b"\0\0\0\x05{"))),
        ("nothing at all", |_, _| {}),
        ("it ends", |_, stream| drop(stream.shutdown(std::net::Shutdown::Both))),
    ];
    for (what, lie) in lies {
        let kms = behind(move |number, request, stream| match number {
            0 => lie(&request, stream),
            _ => opened(stream, request.id, KEY, 32),
        });
        let since = Instant::now();
        // A provider that has ended is asked once more, as another one.
        match kms.decrypt(KEY, &[1], &context(), &root()) {
            Ok(opened) => assert_eq!(*opened.into_plaintext(), [7; 32], "{what}"),
            Err(error) => assert!(error.is_outage(), "{what}: {error}"),
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        until(what, || kms.decrypt(KEY, &[1], &context(), &root()).is_ok());
        assert_eq!(kms.version(), 0, "{what}: nothing was revoked");
    }
}

#[test]
fn a_provider_that_cannot_be_started_is_an_outage_and_is_left_alone() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let connect = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(std::io::Error::other("no such program"))
    };
    let kms = RemoteKms::new("none", Settings::default(), Box::new(connect));
    let open = || kms.decrypt(KEY, &[1], &context(), &root()).unwrap_err();
    assert!(open().message.contains("no such program"));
    let since = Instant::now();
    (0..100).for_each(|_| assert!(open().is_outage()));
    let probes = 5 + since.elapsed().as_secs() as usize + 2;
    assert!(tries.load(Ordering::SeqCst) <= probes, "{} tries", tries.load(Ordering::SeqCst));
    assert!(kms.status().breaker_open && kms.status().away.is_some());
}

#[test]
fn what_does_not_fit_into_a_frame_is_refused_here() {
    assert!(Frame::new(&"x".repeat(70_000)).is_err());
    let (kms, _, _) = remote(Settings::default());
    let long: EncryptionContext = [("a".to_owned(), "x".repeat(70_000))].into();
    assert_eq!(kms.generate_data_key(KEY, &long, &root()).err().unwrap().code, Code::Validation);
    assert!(kms.generate_data_key(KEY, &context(), &root()).is_ok());
}
