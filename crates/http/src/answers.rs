//! From S3's responses to HTTP's, and what all of them have.

use crate::body::Outgoing;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::{Method, Response, StatusCode};
use kmsfs_s3::Body;

/// `content`: the bytes of the object, where the response has some of them.
pub(crate) fn to_http(response: kmsfs_s3::Response, content: Option<Outgoing>, method: &Method) -> Response<Outgoing> {
    let mut answer = Response::new(match response.body {
        _ if method == Method::HEAD => Outgoing::empty(),
        Body::Document(text) => Outgoing::whole(Bytes::from(text)),
        Body::Object { .. } => content.unwrap_or_else(Outgoing::empty),
        Body::Empty => Outgoing::empty(),
    });
    *answer.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        match (HeaderName::try_from(&name), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => {
                answer.headers_mut().append(name, value);
            }
            _ => log::warn!("a header of an answer is left out: {name}"),
        }
    }
    answer
}

/// What all answers have; `Date` comes by itself.
pub(crate) fn sign(answer: &mut Response<Outgoing>, request_id: &str, host_id: &str) {
    let headers = answer.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("AmazonS3"));
    for (name, value) in [("x-amz-request-id", request_id), ("x-amz-id-2", host_id)] {
        headers.insert(name, HeaderValue::from_str(value).expect("hexadecimal digits"));
    }
}
