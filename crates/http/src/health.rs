//! `GET /healthz`: whether requests can be served, for whoever watches over the server. It takes no signature, since it
//! tells nothing of anybody; and is for this machine alone. A bucket of that name is asked for by signed requests.

use crate::authority::{Ask, Signed};
use crate::body::Outgoing;
use crate::service::{Peer, Service};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use std::time::Duration;
use tokio::time::timeout;

const PATH: &str = "/healthz";
/// For the authority.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the request is this one.
pub(crate) fn is_asked(head: &Parts, peer: Peer) -> bool {
    let is_here = peer.source.is_none_or(|source| source.to_canonical().is_loopback());
    let is_unsigned = head.uri.query().is_none() && !head.headers.contains_key(AUTHORIZATION);
    is_here && is_unsigned && head.uri.path() == PATH && [Method::GET, Method::HEAD].contains(&head.method)
}

/// 200 if the process that holds the keys answers, 503 if not.
pub(crate) async fn answer(service: &Service, head: &Parts) -> Response<Outgoing> {
    let nobody = || "healthz".to_owned();
    let signed = Signed {
        access_key_id: nobody(),
        date: String::new(),
        region: String::new(),
        service: "s3".to_owned(),
        string_to_sign: String::new(),
        signature: String::new(),
        canonical_request: None,
    };
    let asked = service.asked(Ask::Verify { signed, connect: false, source: None });
    let is_well = timeout(PATIENCE, asked).await.is_ok_and(|told| told.is_ok());
    let (status, text) =
        if is_well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n") };
    let body = if head.method == Method::HEAD { Outgoing::empty() } else { Outgoing::whole(Bytes::from(text)) };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}
