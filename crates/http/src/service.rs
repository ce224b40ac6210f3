//! A request from its head to its answer: who signed it, what it asks for, and who does that.

use crate::access_log::{AccessLog, Answered};
use crate::authority::{Ask, Authority, Found, Signed, Told, User as Named};
use crate::body::Outgoing;
use crate::calls::{self, Called};
use crate::front::Settings;
use crate::metrics::{Metrics, What};
use crate::receiving::Incoming;
use crate::workers::{User, Users, Worker};
use crate::{answers, health, s3};
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Response};
use kmsfs_crypto::random;
use kmsfs_s3::{Code, Endpoint, Error, Operation, refusal};
use kmsfs_sigv4::{Finding, Prepared, Verified};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::spawn_blocking;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its address; `None` for a process of this machine that came by a socket in the file system.
    pub(crate) source: Option<IpAddr>,
    /// Whether by TLS.
    pub(crate) secure: bool,
}

/// What all connections have together.
pub(crate) struct Service {
    authority: Arc<Authority>,
    pub(crate) users: Users,
    pub(crate) endpoint: Endpoint,
    /// `x-amz-id-2`: which process answered.
    pub(crate) host_id: String,
    access_log: Option<Arc<AccessLog>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Service {
    pub(crate) fn new(authority: Authority, settings: Settings, access_log: Option<Arc<AccessLog>>) -> Self {
        let host_id = hex::encode_upper(random::bytes::<24>());
        let Settings { region, account_id, mut names, worker_lifetime } = settings;
        names.push("localhost".to_owned());
        let endpoint = Endpoint { names, region, account_id };
        let users = Users::new(worker_lifetime);
        Self { authority: Arc::new(authority), users, endpoint, host_id, access_log, metrics: Arc::default() }
    }

    /// There is an answer to everything.
    pub(crate) async fn respond(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
        peer: Peer,
    ) -> Result<Response<Outgoing>, Infallible> {
        let began = Instant::now();
        let request_id = hex::encode_upper(random::bytes::<8>());
        let (head, body) = request.into_parts();
        let mut body = Incoming::new(&head, body, Arc::clone(&self.metrics));
        let mut known = Known::default();
        let called = Called::of(&head);
        let mut measured = self.metrics.measure(What { service: called.map_or("s3", Called::name), operation: "" });
        let answered = match called {
            _ if health::is_asked(&head, peer) => match Incoming::check(&head) {
                Ok(()) => Ok(health::answer(&self, &head).await),
                Err(error) => Err(error),
            },
            None => s3::answer(&self, &head, &mut body, (peer, &request_id), &mut known).await,
            Some(called) => calls::answer(&self, called, &head, &mut body, (peer, &request_id), &mut known).await,
        };
        // What the client is still sending is not to keep it from reading the answer.
        body.discard();
        let mut answer = answered.unwrap_or_else(|error| {
            known.error = Some(error.code().name().into_owned());
            let refused = refusal(&error, known.operation.as_ref(), &request_id, &self.host_id);
            answers::to_http(refused, None, &head.method)
        });
        answers::sign(&mut answer, &request_id, &self.host_id);
        measured.what.operation = known.operation.as_ref().map_or(known.call, Operation::name);
        measured.status = answer.status().as_u16();
        answer.body_mut().measured = Some(measured);
        if head.headers.contains_key(TRANSFER_ENCODING) {
            // Where such a body ends only the parser knows: nothing behind it is looked at.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(log) = &self.access_log {
            let status = answer.status().as_u16();
            let answered = Answered { status, request_id: &request_id, host_id: &self.host_id };
            answer.body_mut().entry = Some(log.entry(began, &head, peer, &known, answered));
        }
        Ok(answer)
    }

    /// The request, if it is signed as it says, and the user who signed it.
    pub(crate) async fn verified(&self, prepared: Prepared, peer: Peer) -> Result<(Verified, Signer), Error> {
        let signed = Signed::from(prepared.question());
        let ask = Ask::Verify { signed: signed.clone(), connect: false, source: peer.source };
        let (found, _) = self.ask(ask).await?;
        let verified = prepared.complete(Finding::from(&found))?;
        match found {
            Found::Right { user, .. } => Ok((verified, Signer { user, signed, source: peer.source })),
            Found::NoSuchKey | Found::Wrong => Err(Error::new(Code::AccessDenied)),
        }
    }

    /// The worker that acts as the user who signed it.
    pub(crate) async fn worker(&self, signer: &Signer) -> Result<Arc<Worker>, Error> {
        let known = self.user(signer);
        if let Some(worker) = known.worker() {
            return Ok(worker);
        }
        // One connection is enough for all that come meanwhile.
        let _connecting = known.connecting.lock().await;
        if let Some(worker) = known.worker() {
            return Ok(worker);
        }
        let ask = Ask::Verify { signed: signer.signed.clone(), connect: true, source: signer.source };
        match self.ask(ask).await? {
            (Found::Right { user, .. }, Some(connection)) if user.uid == signer.user.uid => {
                known.connect(connection).map_err(|error| unavailable(&error))
            }
            _ => Err(Error::new(Code::AccessDenied)),
        }
    }

    /// What is kept of whoever signed.
    pub(crate) fn user(&self, signer: &Signer) -> Arc<User> {
        self.users.user(signer.user.uid)
    }

    async fn ask(&self, ask: Ask) -> Result<(Found, Option<OwnedFd>), Error> {
        match self.asked(ask).await? {
            (Told::Verified(found), descriptor) => Ok((found, descriptor)),
            _ => Err(unavailable(&io::Error::other("the authority answers what it was not asked"))),
        }
    }

    /// What the authority says.
    ///
    /// # Errors
    /// `AccessDenied` where the user is not served here, `ServiceUnavailable` where nobody can be asked.
    pub(crate) async fn asked(&self, ask: Ask) -> Result<(Told, Option<OwnedFd>), Error> {
        let authority = Arc::clone(&self.authority);
        let room = Arc::clone(&authority.channels_for(&ask).room)
            .acquire_owned()
            .await
            .map_err(|gone| unavailable(&io::Error::other(gone)))?;
        let asking = move || {
            // Until there is an answer, wherever the client is by then.
            let _room = room;
            authority.channels_for(&ask).ask(&ask)
        };
        let asked = spawn_blocking(asking).await;
        let asked = asked.unwrap_or_else(|gone| Err(io::Error::other(gone)));
        match asked.map_err(|error| unavailable(&error))? {
            (Told::NotServed(why), _) => Err(Error::new(Code::AccessDenied).saying(why)),
            (Told::Outage(why), _) => Err(unavailable(&io::Error::other(why))),
            told => Ok(told),
        }
    }
}

/// What was found out about a request by the time of its answer.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) operation: Option<Operation>,
    /// The name of a call of KMS or STS; empty if it is none.
    pub(crate) call: &'static str,
    /// The ARN of the user who signed it.
    pub(crate) requester: Option<String>,
    /// Bytes of the object that is read or written.
    pub(crate) object_size: Option<u64>,
    /// The code of its refusal.
    pub(crate) error: Option<String>,
}

impl Known {
    /// The signature is right.
    pub(crate) fn signed_by(&mut self, service: &Service, user: &Named) {
        self.requester = Some(format!("arn:aws:iam::{}:user/{}", service.endpoint.account_id, user.name));
    }
}

/// Whoever signed a request.
pub(crate) struct Signer {
    pub(crate) user: Named,
    /// By which it was found out.
    signed: Signed,
    source: Option<IpAddr>,
}

fn unavailable(error: &io::Error) -> Error {
    log::error!("a request cannot be served: {error}");
    Error::new(Code::ServiceUnavailable).saying("The service cannot serve the request now. Please try again.")
}
