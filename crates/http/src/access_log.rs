//! The server access log, in S3's form (Amazon S3 User Guide, "Amazon S3 server access log format"): a line a request,
//! with `-` for what is not known.

use crate::service::{Known, Peer};
use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderName, REFERER, USER_AGENT};
use hyper::http::request::Parts;
use kmsfs_s3::Operation;
use parking_lot::RwLock;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;
use time::macros::format_description;

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct AccessLog(RwLock<File>);

/// What its answer says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) status: u16,
    pub(crate) request_id: &'a str,
    pub(crate) host_id: &'a str,
}

/// A request that has no line yet. It gets one when this is dropped: when the last byte of its answer was handed to the
/// connection, or the client has gone.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Arc<AccessLog>,
    /// The line up to the status.
    beginning: String,
    status: u16,
    /// The code of a refusal.
    pub(crate) error: Option<String>,
    /// Bytes of the answer's body so far.
    pub(crate) sent: u64,
    /// All bytes of the object.
    object: Option<u64>,
    began: Instant,
    /// Milliseconds until there was an answer.
    turn_around: u128,
    /// The line from the referer on.
    end: String,
}

impl AccessLog {
    pub(crate) fn new(file: File) -> Self {
        Self(RwLock::new(file))
    }

    /// Whoever is writing a line writes it to its end before.
    pub(crate) fn replace(&self, file: File) {
        *self.0.write() = file;
    }

    /// A request that came at `began` and has an answer now.
    pub(crate) fn entry(
        self: &Arc<Self>,
        began: Instant,
        head: &Parts,
        peer: Peer,
        known: &Known,
        answer: Answered<'_>,
    ) -> Entry {
        let Answered { status, request_id, host_id } = answer;
        let operation = known.operation.as_ref();
        let bucket = operation.and_then(Operation::bucket).map_or("-", |bucket| bucket.as_str());
        let key = operation.and_then(Operation::key).map_or("-".into(), |key| escaped(key.as_str()));
        let now = OffsetDateTime::now_utc();
        let form = format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
        let time = now.format(form).unwrap_or_default();
        let source = peer.source.map_or("-".into(), |source| source.to_string());
        let requester = known.requester.as_deref().unwrap_or("-");
        let what =
            operation.map_or_else(|| format!("REST.{}.-", head.method), |operation| name(operation, &head.method));
        let uri = format!("{} {} {:?}", head.method, head.uri, head.version);
        let beginning =
            format!("- {bucket} [{time}] {source} {requester} {request_id} {what} {key} {}", quoted(Some(&uri)));
        let header = |name: HeaderName| text(&head.headers, &name);
        let auth = match &known.requester {
            None => "-",
            Some(_) if head.headers.contains_key(hyper::header::AUTHORIZATION) => "AuthHeader",
            Some(_) => "QueryString",
        };
        let version = if known.requester.is_some() { "SigV4" } else { "-" };
        let end = format!(
            "{} {} - {host_id} {version} - {auth} {} {} - -",
            quoted(header(REFERER)),
            quoted(header(USER_AGENT)),
            escaped(header(HOST).unwrap_or("-")),
            if peer.secure { "TLS" } else { "-" },
        );
        let turn_around = began.elapsed().as_millis();
        let (error, object) = (known.error.clone(), known.object_size);
        Entry { log: Arc::clone(self), beginning, status, error, sent: 0, object, began, turn_around, end }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let line = format!(
            "{} {} {} {} {} {} {} {}\n",
            self.beginning,
            self.status,
            self.error.as_deref().unwrap_or("-"),
            number(Some(self.sent).filter(|sent| *sent > 0)),
            number(self.object),
            self.began.elapsed().as_millis(),
            self.turn_around,
            self.end
        );
        // One write, so that lines of several threads do not mix.
        if let Err(error) = (&*self.log.0.read()).write_all(line.as_bytes()) {
            log::warn!("the access log cannot be written: {error}");
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn quoted(text: Option<&str>) -> String {
    text.map_or("\"-\"".to_owned(), |text| format!("\"{}\"", text.replace('"', "%22")))
}

/// As S3 writes keys: what would end a field or a line is an escape.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"%".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// S3's name in these logs.
fn name(operation: &Operation, method: &Method) -> String {
    let resource = match operation.name() {
        "ListBuckets" => "SERVICE",
        "UploadPart" | "UploadPartCopy" => "PART",
        "CreateMultipartUpload" | "ListMultipartUploads" => "UPLOADS",
        "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts" => "UPLOAD",
        "DeleteObjects" => "MULTI_OBJECT_DELETE",
        "GetBucketLocation" => "LOCATION",
        "ListObjectVersions" => "BUCKETVERSIONS",
        "CopyObject" => return "REST.COPY.OBJECT".to_owned(),
        name if name.ends_with("BucketEncryption") => "ENCRYPTION",
        name if name.ends_with("BucketTagging") => "TAGGING",
        name if name.ends_with("ObjectTagging") => "OBJECT_TAGGING",
        "GetObjectAcl" => "ACL",
        "GetObjectAttributes" => "OBJECT_ATTRIBUTES",
        _ if operation.key().is_some() => "OBJECT",
        _ => "BUCKET",
    };
    format!("REST.{method}.{resource}")
}
