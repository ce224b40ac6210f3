//! A KMS whose calls end in time, whether or not it answers.

use crate::api::{Answer, Request, Service};
use crate::deadline::{self, Deadline};
use crate::elsewhere::{Outage, ProviderStatus};
use crate::{Code, EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal};
use kmsfs_crypto::SecretKey;
use kmsfs_locks::{Condvar, Mutex, ranks};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// The number of a call that is to be made.
type Ticket = u64;

/// Makes the calls of a KMS that is elsewhere on threads of its own, a bounded number of them, and gives each up at the
/// caller's [`Deadline`], or after a limit of its own if that is earlier: the caller is told of an outage
/// ([`Code::DependencyTimeout`]), and what comes of the call later is dropped. A call that no thread was free for by
/// then is not made.
///
/// The call is made under that deadline: a KMS that looks at [`deadline::current`] ends by itself, and its thread is
/// free again. One that hangs for ever keeps a thread.
///
/// What a KMS is asked without a call ([`Kms::version`], [`Kms::distinguishes`] and so on) it answers from memory.
pub struct Timely<K: ?Sized> {
    kms: Arc<K>,
    limit: Duration,
    threads: Threads,
}

/// Threads that make calls. They end once this is dropped and the calls are made.
struct Threads(Arc<Shared>);

struct Shared {
    most: usize,
    state: Mutex<ranks::KmsCalls, State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Ticket, Job)>,
    tickets: Ticket,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl<K: ?Sized> Timely<K> {
    /// Gives each call of `kms` up after `limit` at the latest; `most` calls are made at a time. No thread is made
    /// before the first call.
    pub fn new(kms: Arc<K>, limit: Duration, most: usize) -> Self {
        let shared = Shared { most, state: Mutex::default(), ready: Condvar::new() };
        Self { kms, limit, threads: Threads(Arc::new(shared)) }
    }
}

impl<K: Send + Sync + ?Sized + 'static> Timely<K> {
    fn in_time<T: Send + 'static>(
        &self,
        call: impl FnOnce(&K) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let limit = Deadline::after(self.limit);
        let deadline = deadline::current().map_or(limit, |current| current.min(limit));
        let (kms, (answer, answered)) = (Arc::clone(&self.kms), channel());
        let job = move || {
            if deadline.has_passed() {
                return;
            }
            let _running = deadline.begin();
            let made = catch_unwind(AssertUnwindSafe(|| call(&kms)));
            let failed = |_| Err(Error::new(Code::KmsInternal, "a call of the KMS failed: this is a bug"));
            // Nobody waits for it any more where it took too long.
            let _ = answer.send(made.unwrap_or_else(failed));
        };
        let ticket = self.threads.run(Box::new(job))?;
        answered.recv_timeout(deadline.left()).unwrap_or_else(|_| {
            self.threads.give_up(ticket);
            Err(deadline::missed())
        })
    }
}

impl Threads {
    fn run(&self, job: Job) -> Result<Ticket, Error> {
        let mut state = self.0.state.lock();
        if state.jobs.len() >= state.idle && state.threads < self.0.most {
            let shared = Arc::clone(&self.0);
            let made = thread::Builder::new().name("kmsfs-call".into()).spawn(move || shared.work());
            match made {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    return Err(Error::new(Code::KmsInternal, format!("no thread for a call of the KMS: {error}")));
                }
                Err(error) => log::debug!("{} threads have to do: {error}", state.threads),
            }
        }
        state.tickets += 1;
        let ticket = state.tickets;
        state.jobs.push_back((ticket, job));
        drop(state);
        self.0.ready.notify_one();
        Ok(ticket)
    }

    /// Forgets the call, if no thread has begun with it.
    fn give_up(&self, ticket: Ticket) {
        self.0.state.lock().jobs.retain(|(waits, _)| *waits != ticket);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.ready.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                self.ready.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

impl<K: Kms + ?Sized + 'static> Kms for Timely<K> {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let (key_id, context, caller) = (key_id.to_owned(), context.clone(), caller.clone());
        self.in_time(move |kms| kms.generate_data_key(&key_id, &context, &caller))
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let (key_id, context, caller) = (key_id.to_owned(), context.clone(), caller.clone());
        let plaintext = plaintext.duplicate();
        self.in_time(move |kms| kms.encrypt(&key_id, &plaintext, &context, &caller))
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error> {
        let (key_arn, context, caller) = (key_arn.to_owned(), context.clone(), caller.clone());
        let ciphertext_blob = ciphertext_blob.to_vec();
        self.in_time(move |kms| kms.decrypt(&key_arn, &ciphertext_blob, &context, &caller))
    }

    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error> {
        let (key_id, caller) = (key_id.to_owned(), caller.clone());
        self.in_time(move |kms| kms.describe_key(&key_id, &caller))
    }

    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        let (key_id, context, caller) = (key_id.to_owned(), context.clone(), caller.clone());
        self.in_time(move |kms| kms.authorize(&key_id, operation, &context, &caller))
    }

    fn authorize_here(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.kms.authorize_here(key_id, operation, context, caller)
    }

    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.kms.distinguishes(key_arn, context)
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn tick(&self) {
        self.kms.tick();
    }

    fn version(&self) -> u64 {
        self.kms.version()
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        self.kms.providers()
    }

    fn take_outages(&self) -> Vec<Outage> {
        self.kms.take_outages()
    }

    fn calls(&self) -> KmsCalls {
        self.kms.calls()
    }
}

impl<K: Service + ?Sized + 'static> Service for Timely<K> {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        let (request, caller) = (request.clone(), caller.clone());
        self.in_time(move |kms| kms.call(&request, &caller))
    }
}
