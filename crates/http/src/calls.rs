//! Calls of KMS and STS, which the authority answers: a short body that is read whole, and an answer that is another.

use crate::authority::{Ask, Found, Signed, Told};
use crate::body::Outgoing;
use crate::receiving::Incoming;
use crate::service::{Known, Peer, Service};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use kmsfs_kms_json::{MOST, Reply, TARGET, sts};
use kmsfs_s3::{Code, Error};
use kmsfs_sigv4::{Endpoint, Finding, Prepared, prepare};
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Whose wire form a request has. That of S3 is another module's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Kms,
    Sts,
}

/// Bodies that are in memory at the same time, all of them of whoever comes: 64 MiB.
static BODIES: Semaphore = Semaphore::const_new(256);
/// How long one may take to come.
const BODY: Duration = Duration::from_secs(30);
const TARGET_HEADER: HeaderName = HeaderName::from_static("x-amz-target");

impl Called {
    /// By the target, or by what the request is signed for; `None` for S3.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        if target(head).starts_with(TARGET) {
            return Some(Self::Kms);
        }
        let in_header = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let of_header = in_header.and_then(|text| text.split_once("Credential=")).map(|(_, rest)| rest.to_owned());
        let in_query = || head.uri.query()?.split_once("X-Amz-Credential=").map(|(_, rest)| rest.replace("%2F", "/"));
        let credential = of_header.or_else(in_query)?;
        match credential.split('/').nth(3)? {
            "kms" => Some(Self::Kms),
            "sts" => Some(Self::Sts),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Sts => "sts",
        }
    }
}

/// Answers the call; what is wrong with it is an answer too.
///
/// # Errors
/// The body did not come, or nobody can say whose the request is.
pub(crate) async fn answer(
    service: &Service,
    called: Called,
    head: &Parts,
    incoming: &mut Incoming,
    (peer, request_id): (Peer, &str),
    known: &mut Known,
) -> Result<Response<Outgoing>, Error> {
    Incoming::check(head)?;
    let _turn = BODIES.acquire().await.map_err(|_| Error::new(Code::InternalError))?;
    let body = timeout(BODY, whole(incoming)).await.map_err(|_| Error::new(Code::RequestTimeout))??;
    let call = Call { called, request_id };
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let request = kmsfs_sigv4::Request {
        method: head.method.as_str(),
        path: head.uri.path().as_bytes(),
        query: head.uri.query().unwrap_or_default().as_bytes(),
        headers: &headers,
    };
    let body_sha256 = Sha256::digest(&body).into();
    let of = kmsfs_sigv4::Service::Other { name: called.name(), body_sha256 };
    let endpoint = Endpoint { region: &service.endpoint.region, service: of, now: OffsetDateTime::now_utc() };
    let prepared = match prepare(&request, &endpoint) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(call.unsigned(&error)),
    };
    let signed = Signed::from(prepared.question());
    let user_agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let source = peer.source;
    let asked = match called {
        Called::Kms => match kmsfs_kms_json::request(target(head), &body) {
            Ok(request) => {
                known.call = request.name();
                Ok(Ask::Kms { signed: signed.clone(), request: Box::new(request), source, user_agent })
            }
            Err(refusal) => Err(replied(Reply::refusal(&refusal))),
        },
        Called::Sts => {
            let parameters = sts::form(&[head.uri.query().unwrap_or_default().as_bytes(), b"&", &body].concat());
            match sts::Request::of(&parameters.unwrap_or_default()) {
                Ok(sts::Request::GetCallerIdentity) => {
                    known.call = "GetCallerIdentity";
                    Ok(Ask::Sts { signed: signed.clone(), source })
                }
                Err(refusal) => Err(call.refused(&refusal)),
            }
        }
    };
    // Who has not signed is not told what else is wrong, and has no turn.
    let found = service.asked(Ask::Verify { signed: signed.clone(), connect: false, source }).await?.0;
    let (told, refusal, _turn) = match (found, asked) {
        (Told::Verified(Found::Right { user, .. }), Ok(ask)) => {
            let turn = service.users.user(user.uid).turns.call().await?;
            (service.asked(ask).await?.0, None, Some(turn))
        }
        (found, asked) => (found, asked.err(), None),
    };
    match (told, refusal) {
        (Told::Called { user, reply }, _) => {
            known.signed_by(service, &user);
            Ok(replied(reply))
        }
        (Told::Caller { user, identity }, _) => {
            known.signed_by(service, &user);
            Ok(answer_with(200, sts::CONTENT_TYPE, identity.to_xml(request_id).into()))
        }
        (Told::Verified(Found::Right { user, .. }), Some(refusal)) => {
            known.signed_by(service, &user);
            Ok(refusal)
        }
        (Told::Verified(found), _) => Ok(call.wrongly_signed(prepared, &found)),
        (Told::NotServed(_) | Told::Outage(_), _) => Err(Error::new(Code::ServiceUnavailable)),
    }
}

fn target(head: &Parts) -> &str {
    head.headers.get(TARGET_HEADER).and_then(|target| target.to_str().ok()).unwrap_or_default()
}

/// All of it, or the beginning of one that is too long, which is refused for that: nobody has signed for it yet.
async fn whole(incoming: &mut Incoming) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while body.len() <= MOST {
        let batch = incoming.batch().await?;
        if batch.is_empty() {
            break;
        }
        for piece in batch {
            body.extend_from_slice(&piece);
        }
    }
    Ok(body)
}

/// A call that is being answered.
#[derive(Clone, Copy)]
struct Call<'a> {
    called: Called,
    request_id: &'a str,
}

impl Call<'_> {
    fn unsigned(self, error: &kmsfs_sigv4::Error) -> Response<Outgoing> {
        match self.called {
            Called::Kms => replied(Reply::unsigned(error)),
            Called::Sts => self.refused(&sts::Refusal::unsigned(error)),
        }
    }

    fn wrongly_signed(self, prepared: Prepared, found: &Found) -> Response<Outgoing> {
        match prepared.complete(Finding::from(found)) {
            Err(error) => self.unsigned(&error),
            // It was asked for something else than whether it is.
            Ok(_) => self.unsigned(&kmsfs_sigv4::Error::Anonymous),
        }
    }

    fn refused(self, refusal: &sts::Refusal) -> Response<Outgoing> {
        answer_with(refusal.status, sts::CONTENT_TYPE, refusal.to_xml(self.request_id).into())
    }
}

fn replied(mut reply: Reply) -> Response<Outgoing> {
    answer_with(reply.status, kmsfs_kms_json::CONTENT_TYPE, Bytes::from(std::mem::take(&mut *reply.body)))
}

fn answer_with(status: u16, content_type: &'static str, body: Bytes) -> Response<Outgoing> {
    let mut answer = Response::new(Outgoing::whole(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
