//! Requests to S3.

use crate::answers;
use crate::body::{Content, Outgoing};
use crate::late::{self, Performed, Telling};
use crate::receiving::Incoming;
use crate::service::{Known, Peer, Service};
use crate::turns::Turns;
use crate::upload::{Checked, Expected, Upload};
use crate::workers::{Begun, Worker};
use hyper::Response;
use hyper::header::HOST;
use hyper::http::request::Parts;
use kmsfs_gateway::Body as Received;
use kmsfs_gateway::wire::SHORT;
use kmsfs_s3::{Answer, Body, Code, Document, Error, Operation, Route, Server, response, route};
use kmsfs_sigv4::{Endpoint, prepare};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use time::OffsetDateTime;

/// Does what is asked for. What it is stands in `known` as soon as that is known.
pub(crate) async fn answer(
    service: &Service,
    head: &Parts,
    incoming: &mut Incoming,
    (peer, request_id): (Peer, &str),
    known: &mut Known,
) -> Result<Response<Outgoing>, Error> {
    Incoming::check(head)?;
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let method = head.method.as_str();
    let request = kmsfs_sigv4::Request {
        method,
        path: head.uri.path().as_bytes(),
        query: head.uri.query().unwrap_or_default().as_bytes(),
        headers: &headers,
    };
    let (region, now) = (&service.endpoint.region, OffsetDateTime::now_utc());
    let prepared = prepare(&request, &Endpoint { region, service: kmsfs_sigv4::Service::S3, now })?;
    let (verified, signer) = service.verified(prepared, peer).await?;
    known.signed_by(service, &signer.user);
    let (path, query) = (verified.path(), verified.query());
    let request = kmsfs_s3::Request { method, path, query, headers: &headers, anonymous: false };
    let routed = route(&request, &service.endpoint)?;
    let worker = service.worker(&signer).await?;
    let body = verified.into_body();
    let (operation, body) = match routed {
        Route::Operation(operation) => (*operation, Some(body)),
        Route::Document(document) => {
            let _turn = worker.turns.document().await?;
            (read(document, body, incoming).await?, None)
        }
    };
    known.operation = Some(operation.clone());
    let scheme = if peer.secure { "https" } else { "http" };
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let url = format!("{scheme}://{host}");
    let (answer, file) = match body {
        Some(body) if operation.content_length().is_some() => {
            (put(&worker, operation.clone(), body, incoming).await?, None)
        }
        _ if late::may_take_long(&operation) => {
            let (region, request_id) = (service.endpoint.region.clone(), request_id.to_owned());
            let (operation, url, host_id) = (operation.clone(), url.clone(), service.host_id.clone());
            match late::perform(&worker, Telling { operation, region, url, request_id, host_id }).await? {
                Performed::Early(answer, file) => (answer, file),
                Performed::Late(response) => return Ok(*response),
            }
        }
        _ => worker.perform(operation.clone()).await?,
    };
    known.object_size = match &answer {
        Answer::Object(object) => Some(object.size),
        _ => operation.content_length(),
    };
    let response = response(&operation, &answer, Server { region: &service.endpoint.region, url: &url })?;
    let content = match (&response.body, file) {
        (Body::Object { offset, length }, Some(file)) => {
            Some(content(file, *offset..*offset + *length, &worker.turns).await?)
        }
        _ => None,
    };
    Ok(answers::to_http(response, content, &head.method))
}

/// An operation with a body. Whatever goes wrong on the way, and if the client goes, nothing is left of it. A refusal
/// is answered after that.
async fn put(
    worker: &Arc<Worker>,
    operation: Operation,
    body: kmsfs_sigv4::Body,
    incoming: &mut Incoming,
) -> Result<Answer, Error> {
    let length = operation.content_length().unwrap_or_default();
    let operation = match operation {
        // Who waits to be told to go on is told what is wrong before he sends it.
        Operation::PutObject(put) if length <= SHORT as u64 && !incoming.waits() => {
            let expected = Expected { checksum: put.checksum.clone(), content_md5: put.content_md5, wants_md5: false };
            let (content, received) = whole(Checked::new(body, expected), length, incoming).await?;
            return worker.put(put, content, received).await;
        }
        operation => operation,
    };
    let (checksum, content_md5) = match &operation {
        Operation::PutObject(put) => (put.checksum.clone(), put.content_md5),
        Operation::UploadPart(part) => (part.checksum.clone(), part.content_md5),
        _ => (None, None),
    };
    let (begun, file) = worker.begin(operation).await?;
    let checked = Checked::new(body, Expected { checksum, content_md5, wants_md5: begun.wants_md5 });
    match receive(&worker.turns, begun, Upload::new(checked, file, length), incoming).await? {
        (begun, Ok(received)) => begun.finish(received).await,
        (begun, Err(refusal)) => {
            // Whoever is refused finds nothing of it left.
            begun.abandon().await;
            Err(refusal)
        }
    }
}

/// A short body, all of which was right.
async fn whole(mut checked: Checked, length: u64, incoming: &mut Incoming) -> Result<(Vec<u8>, Received), Error> {
    let mut content = Vec::with_capacity(length as usize);
    loop {
        let batch = incoming.batch().await?;
        if batch.is_empty() {
            break;
        }
        checked.take(&batch, |bytes| {
            if (content.len() + bytes.len()) as u64 > length {
                return Err(Error::new(Code::IncompleteBody));
            }
            content.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    let received = checked.finish()?;
    if content.len() as u64 == length { Ok((content, received)) } else { Err(Error::new(Code::IncompleteBody)) }
}

/// Puts the body where it belongs. The upload goes along, so that it is abandoned after the last write, wherever that
/// is when the client goes.
async fn receive(
    turns: &Turns,
    mut begun: Begun,
    mut upload: Upload,
    incoming: &mut Incoming,
) -> Result<(Begun, Result<Received, Error>), Error> {
    loop {
        let batch = match incoming.batch().await {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => batch,
            Err(error) => return Ok((begun, Err(error))),
        };
        if upload.only_collects(&batch) {
            let Err(error) = upload.take(&batch) else { continue };
            // Closing a file may take its time.
            turns.with_file(move || drop(upload)).await?;
            return Ok((begun, Err(error)));
        }
        let (still_begun, taken) = turns.with_file(move || (begun, upload.take(&batch).map(|()| upload))).await?;
        begun = still_begun;
        match taken {
            Ok(more) => upload = more,
            Err(error) => return Ok((begun, Err(error))),
        }
    }
    turns.with_file(move || (begun, upload.finish())).await
}

/// A body that says what is to be done.
async fn read(document: Document, body: kmsfs_sigv4::Body, incoming: &mut Incoming) -> Result<Operation, Error> {
    let (checksum, content_md5) = (document.checksum().cloned(), document.content_md5());
    let mut checked = Checked::new(body, Expected { checksum, content_md5, wants_md5: false });
    let mut text = Vec::new();
    loop {
        let batch = incoming.batch().await?;
        if batch.is_empty() {
            break;
        }
        checked.take(&batch, |bytes| {
            if text.len() + bytes.len() > Document::MAX_LEN {
                return Err(Error::new(Code::MaxMessageLengthExceeded));
            }
            text.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    checked.finish()?;
    document.read(&text)
}

/// The content of an object, of which the first piece is read before anything is answered.
async fn content(file: OwnedFd, range: Range<u64>, turns: &Turns) -> Result<Outgoing, Error> {
    let next = turns.clone();
    let begun = turns.with_file(move || Content::begin(file, range, next)).await?;
    begun.map(Outgoing::content).map_err(|error| {
        log::warn!("an object cannot be read: {error}");
        Error::new(Code::InternalError)
    })
}
