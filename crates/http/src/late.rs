//! Answers that are begun before it is known what they tell, as S3 begins them: where an operation takes long, its
//! status is sent, the beginning of its document, and white space while it goes on, so that neither the client nor who
//! stands between takes the connection for a dead one. What came of it follows in the document; a refusal too.

use crate::answers;
use crate::body::Outgoing;
use crate::workers::Worker;
use bytes::Bytes;
use hyper::{Method, Response};
use kmsfs_s3::answer::ServerSideEncryption;
use kmsfs_s3::operation::ListParts;
use kmsfs_s3::{Answer, Body, Code, DECLARATION, Error, Operation, Server, begun, refusal, response};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, interval_at, timeout};

/// Until an answer is begun, and from one space to the next: what gives up first are proxies, after 30 seconds or more.
const PATIENCE: Duration = Duration::from_secs(10);
/// For what headers tell that are sent early, and can do without.
const MOMENT: Duration = Duration::from_secs(5);

/// What is told of an operation when its request is gone.
pub(crate) struct Telling {
    pub(crate) operation: Operation,
    pub(crate) region: String,
    pub(crate) url: String,
    pub(crate) request_id: String,
    pub(crate) host_id: String,
}

/// An operation that may take long.
pub(crate) enum Performed {
    /// It did not.
    Early(Answer, Option<OwnedFd>),
    /// It goes on.
    Late(Box<Response<Outgoing>>),
}

/// Those that S3 begins to answer early, and whose documents clients look into for a refusal.
pub(crate) fn may_take_long(operation: &Operation) -> bool {
    matches!(operation, Operation::CompleteMultipartUpload(_) | Operation::CopyObject(_) | Operation::UploadPartCopy(_))
}

/// Does it. An upload is completed where the client does not wait for it too, and will ask again; what else there is,
/// is withdrawn then.
///
/// # Errors
/// It is refused soon.
pub(crate) async fn perform(worker: &Arc<Worker>, telling: Telling) -> Result<Performed, Error> {
    perform_within(PATIENCE, worker, telling).await
}

async fn perform_within(patience: Duration, worker: &Arc<Worker>, telling: Telling) -> Result<Performed, Error> {
    let (doing, operation) = (Arc::clone(worker), telling.operation.clone());
    let goes_on = matches!(operation, Operation::CompleteMultipartUpload(_));
    let task = tokio::spawn(async move { doing.perform(operation).await });
    let mut task = Task { task, goes_on };
    if let Ok(done) = timeout(patience, &mut task.task).await {
        let (answer, file) = done.unwrap_or_else(|_| Err(Error::new(Code::InternalError)))?;
        return Ok(Performed::Early(answer, file));
    }
    let encryption = encryption_of(worker, &telling.operation).await;
    let mut begun = answers::to_http(begun(encryption.as_ref()), None, &Method::POST);
    let rest = tokio::spawn(async move { telling.rest((&mut task.task).await) });
    let rest = Task { task: rest, goes_on };
    let beat = interval_at(Instant::now() + patience, patience);
    *begun.body_mut() = Outgoing::late(Late { begun: false, rest: Some(rest), refused: None, beat });
    Ok(Performed::Late(Box::new(begun)))
}

/// What is being done, with or without anybody who waits for it.
#[derive(Debug)]
struct Task<T> {
    task: JoinHandle<T>,
    goes_on: bool,
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.goes_on {
            self.task.abort();
        }
    }
}

/// How the object of an upload in parts is encrypted, which is known before it is there.
async fn encryption_of(worker: &Worker, operation: &Operation) -> Option<ServerSideEncryption> {
    let (bucket, key, upload_id) = match operation {
        Operation::CompleteMultipartUpload(of) => (&of.bucket, &of.key, &of.upload_id),
        Operation::UploadPartCopy(of) => (&of.bucket, &of.key, &of.upload_id),
        _ => return None,
    };
    let (bucket, key, upload_id) = (bucket.clone(), key.clone(), upload_id.clone());
    let list = ListParts { bucket, key, upload_id, part_number_marker: 0, max_parts: 0 };
    match timeout(MOMENT, worker.perform(list.into())).await {
        Ok(Ok((Answer::Parts(parts), _))) => Some(parts.encryption),
        _ => None,
    }
}

/// The rest of a document, and the code of what it refuses.
type Rest = (Bytes, Option<String>);

impl Telling {
    fn rest(&self, done: Result<Result<(Answer, Option<OwnedFd>), Error>, tokio::task::JoinError>) -> Rest {
        let done = done.unwrap_or_else(|_| Err(Error::new(Code::InternalError)));
        let server = Server { region: &self.region, url: &self.url };
        let told = done.and_then(|(answer, _)| response(&self.operation, &answer, server));
        let (told, refused) = match told {
            Ok(told) => (told, None),
            Err(error) => {
                let refused = refusal(&error, Some(&self.operation), &self.request_id, &self.host_id);
                (refused, Some(error.code().name().into_owned()))
            }
        };
        let document = match told.body {
            Body::Document(document) => Bytes::from(document),
            Body::Empty | Body::Object { .. } => Bytes::new(),
        };
        let declared = document.starts_with(DECLARATION.as_bytes());
        (document.slice(if declared { DECLARATION.len() } else { 0 }..), refused)
    }
}

/// The body of such an answer.
#[derive(Debug)]
pub(crate) struct Late {
    /// Whether the document's beginning was sent.
    begun: bool,
    /// What comes at last; `None` once it was sent.
    rest: Option<Task<Rest>>,
    /// The code of a refusal, as soon as it was sent.
    pub(crate) refused: Option<String>,
    beat: Interval,
}

impl Late {
    pub(crate) fn has_ended(&self) -> bool {
        self.rest.is_none()
    }

    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(Ok(Bytes::from_static(DECLARATION.as_bytes()))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        if let Poll::Ready(rest) = Pin::new(&mut rest.task).poll(cx) {
            self.rest = None;
            return Poll::Ready(Some(rest.map_err(io::Error::other).map(|(document, refused)| {
                self.refused = refused;
                document
            })));
        }
        ready!(self.beat.poll_tick(cx));
        Poll::Ready(Some(Ok(Bytes::from_static(b" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Users;
    use bytes::Buf as _;
    use hyper::body::Body as _;
    use kmsfs_gateway::wire::{self, Request};
    use kmsfs_s3::answer::{Owner, Parts, Written};
    use kmsfs_s3::operation::{CompleteMultipartUpload, CompletedPart};
    use kmsfs_s3::{ETag, ObjectKey, StorageClass, Timestamp, UploadId};
    use kmsfs_sse::{Algorithm, BucketName};
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;

    const SOON: Duration = Duration::from_millis(20);

    fn encryption() -> ServerSideEncryption {
        ServerSideEncryption { algorithm: Algorithm::AwsKms, key_arn: Some("arn".into()), bucket_key: true }
    }

    fn telling() -> Telling {
        let complete = CompleteMultipartUpload {
            bucket: BucketName::parse("bucket").unwrap(),
            key: ObjectKey::parse("key").unwrap(),
            upload_id: UploadId::parse("id").unwrap(),
            parts: vec![CompletedPart { number: 1, etag: ETag::new("e"), checksums: Vec::new() }],
            checksum: None,
            checksum_type: None,
            object_size: None,
            condition: None,
        };
        let text = str::to_owned;
        Telling {
            operation: complete.into(),
            region: text("us-east-1"),
            url: text("http://host"),
            request_id: text("request"),
            host_id: text("host"),
        }
    }

    fn parts() -> Parts {
        Parts {
            owner: Owner { id: String::new(), display_name: String::new() },
            parts: Vec::new(),
            truncated: false,
            storage_class: StorageClass::Standard,
            checksum: None,
            encryption: encryption(),
        }
    }

    fn written() -> Written {
        let (etag, modified) = (ETag::new("e-1"), Timestamp::from_unix(0));
        Written { etag, modified, encryption: encryption(), checksum: None }
    }

    /// A worker that completes an upload when it is told how.
    fn worker() -> (Arc<Worker>, mpsc::Sender<Result<(), Code>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut completing = 0;
            while let Ok(Some((number, request, _))) = wire::receive::<Request>(&theirs) {
                let respond = |number, response| wire::send(&theirs, number, &response, None).unwrap();
                let completed = |how: Result<(), Code>| match how {
                    Ok(()) => wire::Response::Done(Box::new(Answer::Written(written()))),
                    Err(code) => wire::Response::Refused(Error::new(code)),
                };
                match request {
                    // It is asked for what is in the headers, so that it has begun to be late.
                    Request::Perform(operation) if matches!(*operation, Operation::ListParts(_)) => {
                        respond(number, wire::Response::Done(Box::new(Answer::Parts(Box::new(parts())))));
                        respond(completing, completed(told.recv().unwrap()));
                    }
                    _ => match told.try_recv() {
                        Ok(how) => respond(number, completed(how)),
                        Err(_) => completing = number,
                    },
                }
            }
        });
        (Users::new(Duration::from_secs(600)).user(0).connect(ours.into()).unwrap(), tell)
    }

    fn run<T>(of: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(of)
    }

    /// A late answer's body: what comes while the worker goes on, and all of it once it was told how to end.
    async fn read(mut body: Outgoing, tell: &mpsc::Sender<Result<(), Code>>, how: Result<(), Code>) -> String {
        let mut text = String::new();
        let mut frames = 0;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            text.push_str(std::str::from_utf8(frame.unwrap().into_data().unwrap().chunk()).unwrap());
            frames += 1;
            if frames == 4 {
                assert_eq!(text, format!("{}   ", kmsfs_s3::DECLARATION));
                assert!(!body.is_end_stream() && body.size_hint().exact().is_none());
                tell.send(how.clone()).unwrap();
            }
        }
        assert!(body.is_end_stream());
        text
    }

    #[test]
    fn white_space_is_sent_until_it_is_known_what_came_of_it() {
        for (how, expected) in [
            (Ok(()), "<ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>"),
            (Err(Code::InvalidPart), "<RequestId>request</RequestId><HostId>host</HostId></Error>"),
        ] {
            let (worker, tell) = worker();
            let text = run(async {
                let performed = perform_within(SOON, &worker, telling()).await.unwrap();
                let Performed::Late(response) = performed else { panic!("it was not late") };
                assert_eq!(response.status(), 200);
                let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
                assert_eq!(header("content-type"), "application/xml");
                assert_eq!(header("x-amz-server-side-encryption"), "aws:kms");
                assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), "arn");
                read(response.into_body(), &tell, how).await
            });
            assert!(text.ends_with(expected), "{text}");
            assert_eq!(text.matches("<?xml").count(), 1, "{text}");
        }
    }

    #[test]
    fn what_is_soon_done_has_its_own_status() {
        let (worker, tell) = worker();
        run(async {
            tell.send(Ok(())).unwrap();
            let performed = perform(&worker, telling()).await.unwrap();
            assert!(matches!(performed, Performed::Early(Answer::Written(_), None)));
            tell.send(Err(Code::InvalidPart)).unwrap();
            let refused = perform(&worker, telling()).await.map(drop);
            assert_eq!(refused.unwrap_err().code(), &Code::InvalidPart);
        });
    }
}
