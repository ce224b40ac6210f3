//! A worker and what asks it, as the process that speaks HTTP does: over a socket, in frames.

use crate::harness::Store;
use kmsfs_gateway::wire::{Request, Response, receive, send};
use kmsfs_gateway::{Body, Locks, Worker, serve};
use kmsfs_s3::answer::{Object, Objects, Owner, Written};
use kmsfs_s3::operation::{
    CreateBucket, DeleteObject, GetObject, ListObjectsV2, Overrides, PutBucketEncryption, PutObject,
};
use kmsfs_s3::{Answer, Checksum, Error, Metadata, ObjectKey, Operation, Preconditions, StorageClass, Tags};
use kmsfs_sse::{BucketName, Configuration};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// In whose environment a process of this program is a worker: the mount point, and the user's number.
const MOUNTPOINT: &str = "KMSFS_TEST_WORKER_MOUNT";
const USER: &str = "KMSFS_TEST_WORKER_USER";
/// Where such a process has the locks that it shares.
const LOCKS: &str = "KMSFS_TEST_WORKER_LOCKS";

/// Asks one worker, from any number of threads, one request at a time.
pub struct Client {
    socket: Mutex<(UnixStream, u64)>,
    worker: Running,
}

enum Running {
    Thread(Option<JoinHandle<()>>),
    Process(Child),
}

pub fn bucket_name(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

pub fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

/// A PUT with nothing but a key and a length.
pub fn plain_put(bucket: &str, of: &str, length: usize) -> PutObject {
    PutObject {
        bucket: bucket_name(bucket),
        key: key(of),
        length: length as u64,
        encryption: kmsfs_sse::Request::default(),
        metadata: Metadata::default(),
        storage_class: StorageClass::Standard,
        tags: Tags::default(),
        condition: None,
        checksum: None,
        content_md5: None,
    }
}

pub fn plain_get(bucket: &str, of: &str) -> GetObject {
    GetObject {
        bucket: bucket_name(bucket),
        key: key(of),
        null_version: false,
        conditions: Preconditions::default(),
        range: None,
        part_number: None,
        checksum_mode: false,
        overrides: Overrides::default(),
    }
}

pub fn plain_list(bucket: &str) -> ListObjectsV2 {
    ListObjectsV2 {
        bucket: bucket_name(bucket),
        prefix: String::new(),
        delimiter: String::new(),
        start_after: String::new(),
        continuation: None,
        max_keys: 1000,
        url_encoded: false,
        fetch_owner: false,
    }
}

impl Client {
    /// Of a worker in this process, which is root.
    pub fn new(store: &Store) -> Self {
        Self::with_locks(store, &Locks::new().unwrap())
    }

    pub fn with_locks(store: &Store, locks: &Locks) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let locks = Locks::of(locks.descriptor().try_clone_to_owned().unwrap());
        let worker = Worker::open(&store.mountpoint(), locks, owner("root")).unwrap();
        let thread = std::thread::spawn(move || serve(&worker, &theirs, Duration::MAX).unwrap());
        Self { socket: Mutex::new((ours, 0)), worker: Running::Thread(Some(thread)) }
    }

    /// Of a worker in a process of another user's, who is in no group but the one of the same number.
    pub fn of_user(store: &Store, user: u32, locks: &Locks) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Not closed on exec: dup(2) for the child, which is where it goes.
        let locks = rustix::io::dup(locks.descriptor()).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["gateway::client::a_worker_in_a_process_of_its_own", "--exact", "--nocapture"])
            .env(MOUNTPOINT, store.mountpoint())
            .env(USER, user.to_string())
            .env(LOCKS, locks.as_raw_fd().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket: Mutex::new((ours, 0)), worker: Running::Process(child) }
    }

    pub fn ask(&self, request: &Request) -> Result<(Response, Option<OwnedFd>), Error> {
        let mut socket = self.socket.lock();
        socket.1 += 1;
        send(&socket.0, socket.1, request, None).unwrap();
        let (number, response, descriptor) = receive(&socket.0).unwrap().expect("a response");
        assert_eq!(number, socket.1);
        match response {
            Response::Refused(error) => Err(error),
            response => Ok((response, descriptor)),
        }
    }

    /// `None` where the worker ends before it has responded.
    pub fn perform_if_it_lives(&self, operation: impl Into<Operation>) -> Option<Result<Answer, Error>> {
        let mut socket = self.socket.lock();
        socket.1 += 1;
        send(&socket.0, socket.1, &Request::Perform(Box::new(operation.into())), None).ok()?;
        match receive(&socket.0).ok()??.1 {
            Response::Done(answer) => Some(Ok(*answer)),
            Response::Refused(error) => Some(Err(error)),
            response => panic!("{response:?}"),
        }
    }

    /// Of the worker's process, where it has one of its own.
    pub fn pid(&self) -> u32 {
        match &self.worker {
            Running::Thread(_) => std::process::id(),
            Running::Process(child) => child.id(),
        }
    }

    pub fn perform(&self, operation: impl Into<Operation>) -> Result<(Answer, Option<OwnedFd>), Error> {
        let (response, descriptor) = self.ask(&Request::Perform(Box::new(operation.into())))?;
        let Response::Done(answer) = response else { panic!("{response:?}") };
        Ok((*answer, descriptor))
    }

    /// Writes the body of a PUT, and says how it may be finished.
    pub fn begin(&self, put: impl Into<Operation>, content: &[u8]) -> Result<u64, Error> {
        let (response, file) = self.ask(&Request::Begin(Box::new(put.into())))?;
        let Response::Begun { upload, .. } = response else { panic!("{response:?}") };
        File::from(file.expect("a file to write to")).write_all(content).unwrap();
        Ok(upload)
    }

    pub fn finish(&self, upload: u64, length: usize, checksum: Option<Checksum>) -> Result<Written, Error> {
        let body = Body { length: length as u64, md5: None, checksum };
        let (response, _) = self.ask(&Request::Finish { upload, body })?;
        let Response::Done(answer) = response else { panic!("{response:?}") };
        let Answer::Written(written) = *answer else { panic!("{answer:?}") };
        Ok(written)
    }

    pub fn put_as(&self, put: PutObject, content: &[u8]) -> Result<Written, Error> {
        let upload = self.begin(put, content)?;
        self.finish(upload, content.len(), None)
    }

    pub fn put(&self, bucket: &str, of: &str, content: impl AsRef<[u8]>) -> Result<Written, Error> {
        let content = content.as_ref();
        self.put_as(plain_put(bucket, of, content.len()), content)
    }

    /// What is known of the object, and the part of it that was asked for.
    pub fn get_as(&self, get: GetObject) -> Result<(Object, Vec<u8>), Error> {
        let (answer, file) = self.perform(get)?;
        let Answer::Object(object) = answer else { panic!("{answer:?}") };
        let mut content = Vec::new();
        File::from(file.expect("a file to read from")).read_to_end(&mut content).unwrap();
        if let Some((start, end)) = object.range {
            content = content[start as usize..end as usize].to_vec();
        }
        Ok((*object, content))
    }

    pub fn get(&self, bucket: &str, of: &str) -> Result<(Object, Vec<u8>), Error> {
        self.get_as(plain_get(bucket, of))
    }

    pub fn head(&self, bucket: &str, of: &str) -> Result<Object, Error> {
        let (answer, file) = self.perform(Operation::HeadObject(plain_get(bucket, of)))?;
        assert!(file.is_none());
        let Answer::Object(object) = answer else { panic!("{answer:?}") };
        Ok(*object)
    }

    pub fn delete(&self, bucket: &str, of: &str) -> Result<(), Error> {
        let delete = DeleteObject { bucket: bucket_name(bucket), key: key(of), null_version: false, if_match: None };
        self.perform(delete).map(|(answer, _)| assert_eq!(answer, Answer::Done))
    }

    pub fn create_bucket(&self, name: &str) -> Result<(), Error> {
        let create = CreateBucket { bucket: bucket_name(name), idempotent: true, tags: Tags::default() };
        self.perform(create).map(|(answer, _)| assert_eq!(answer, Answer::Done))
    }

    pub fn set_default(&self, bucket: &str, configuration: &str) -> Result<(), Error> {
        let configuration = Configuration::parse(configuration.as_bytes()).unwrap();
        self.perform(PutBucketEncryption { bucket: bucket_name(bucket), configuration }).map(drop)
    }

    pub fn list_as(&self, list: ListObjectsV2) -> Result<Objects, Error> {
        let (answer, _) = self.perform(list)?;
        let Answer::Objects(objects) = answer else { panic!("{answer:?}") };
        Ok(objects)
    }

    /// All keys, from pages of so many.
    pub fn keys(&self, list: &ListObjectsV2, at_once: u32) -> Vec<String> {
        let mut keys = Vec::new();
        let mut continuation = None;
        loop {
            let page = ListObjectsV2 { max_keys: at_once, continuation: continuation.clone(), ..list.clone() };
            let page = self.list_as(page).unwrap();
            let mut names: Vec<String> =
                page.objects.into_iter().map(|object| object.key).chain(page.prefixes).collect();
            names.sort();
            assert!(names.len() <= at_once as usize);
            assert!(page.next.is_none() || page.next == names.last().cloned());
            keys.extend(names);
            if page.next.is_none() {
                return keys;
            }
            continuation = page.next;
        }
    }
}

impl Drop for Client {
    /// The worker ends with the connection, so that nothing of the mount is open any more.
    fn drop(&mut self) {
        let _ = self.socket.lock().0.shutdown(std::net::Shutdown::Both);
        match &mut self.worker {
            Running::Thread(thread) => {
                let ended = thread.take().map(JoinHandle::join);
                assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
            }
            Running::Process(child) => {
                let _ = child.wait();
            }
        }
    }
}

/// Somebody of that name.
fn owner(name: &str) -> Owner {
    Owner { id: "0".repeat(64), display_name: name.to_owned() }
}

/// No test by itself: what [`Client::of_user`] starts.
#[test]
fn a_worker_in_a_process_of_its_own() {
    let Ok(mountpoint) = std::env::var(MOUNTPOINT) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let user = number(USER);
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(user.into()).unwrap();
    nix::unistd::setuid(user.into()).unwrap();
    let locks = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", number(LOCKS))).unwrap();
    let socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).unwrap());
    let worker = Worker::open(Path::new(&mountpoint), Locks::of(locks.into()), owner("user")).unwrap();
    serve(&worker, &socket, Duration::MAX).unwrap();
}
