//! From an answer to what the client gets.

mod lists;
mod object;
mod settings;

use crate::answer::{Answer, Buckets, EncryptionConfiguration, Owner, ServerSideEncryption};
use crate::error::{Code, Error};
use crate::operation::{DeleteObjects, ListBuckets};
use crate::xml::write::Writer;
use crate::{Operation, Tags, token};

pub use crate::xml::write::DECLARATION;

/// A response, to which the server adds what all have: `Date`, `Server`, `x-amz-request-id`, `x-amz-id-2`, and the
/// length of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, each of which is valid HTTP: no value has a control character.
    pub headers: Vec<(String, String)>,
    /// What follows.
    pub body: Body,
}

/// A response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// None. `Content-Length` may say what a GET would have sent.
    Empty,
    /// A document, which begins with the [`DECLARATION`].
    Document(Vec<u8>),
    /// These bytes of the object, of which `Content-Length` is said.
    Object {
        /// The first byte's offset.
        offset: u64,
        /// How many.
        length: u64,
    },
}

/// What the server knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Such as `us-east-1`.
    pub region: &'a str,
    /// As the client has reached it, without a slash at the end: `http://127.0.0.1:9000`.
    pub url: &'a str,
}

/// The response to an operation that was done.
///
/// # Errors
/// What a bucket says of a setting that it does not have; `InternalError` for an answer that is none to this operation.
pub fn response(operation: &Operation, answer: &Answer, server: Server<'_>) -> Result<Response, Error> {
    match (operation, answer) {
        (Operation::ListBuckets(list), Answer::Buckets(buckets)) => Ok(list_buckets(list, buckets, server)),
        (Operation::ListObjects(list), Answer::Objects(page)) => Ok(lists::objects(list, page)),
        (Operation::ListObjectsV2(list), Answer::Objects(page)) => Ok(lists::objects_v2(list, page)),
        (Operation::ListObjectVersions(list), Answer::Objects(page)) => Ok(lists::versions(list, page)),
        (Operation::ListMultipartUploads(list), Answer::Uploads(page)) => Ok(lists::uploads(list, page)),
        (Operation::ListParts(list), Answer::Parts(page)) => Ok(lists::parts(list, page)),
        (Operation::DeleteObjects(delete), Answer::Deleted(outcomes)) => deleted(delete, outcomes),
        (Operation::GetBucketEncryption(_), Answer::Encryption(configuration)) => Ok(encryption(configuration)),
        (Operation::GetBucketTagging(_), Answer::Tags(tags)) if tags.is_empty() => Err(Code::NoSuchTagSet.into()),
        (Operation::GetBucketTagging(_) | Operation::GetObjectTagging(_), Answer::Tags(tags)) => {
            let version = matches!(operation, Operation::GetObjectTagging(get) if get.null_version);
            Ok(tagging(tags).version(version))
        }
        (Operation::GetBucketSetting(get), Answer::Owner(owner)) => settings::response(get.setting, owner),
        (Operation::GetObjectAcl(get), Answer::Owner(owner)) => Ok(settings::acl(owner).version(get.null_version)),
        (Operation::GetObject(get), Answer::Object(object)) => Ok(object::read(get, object, false)),
        (Operation::HeadObject(get), Answer::Object(object)) => Ok(object::read(get, object, true)),
        (Operation::GetObjectAttributes(get), Answer::Attributes(found)) => Ok(object::attributes(get, found)),
        (Operation::CreateMultipartUpload(create), Answer::Upload(upload)) => Ok(object::created(create, upload)),
        (_, Answer::Written(written)) => object::written(operation, written, server),
        (_, Answer::Done) => done(operation, server),
        _ => Err(mismatch()),
    }
}

/// The response to an operation of which it is not known yet what comes of it: the document has begun with the
/// [`DECLARATION`], and goes on with white space. `encryption`: the object's, if that is known.
pub fn begun(encryption: Option<&ServerSideEncryption>) -> Response {
    let mut response = Response::document(DECLARATION.into());
    if let Some(encryption) = encryption {
        response.push_encryption(encryption);
    }
    response
}

/// The response to a request that is refused. `operation` is what it was, where that was found out. A HEAD has no body:
/// the server sends the rest.
pub fn refusal(error: &Error, operation: Option<&Operation>, request_id: &str, host_id: &str) -> Response {
    let mut response = Response { status: error.status(), headers: Vec::new(), body: Body::Empty };
    for (name, value) in error.headers() {
        response.push(name, value);
    }
    if error.code() == &Code::NotModified {
        return response;
    }
    let named = |name: &str| error.elements().iter().any(|(known, _)| known == name);
    let subject = match error.code() {
        Code::NoSuchBucket | Code::BucketNotEmpty | Code::BucketAlreadyOwnedByYou | Code::BucketAlreadyExists => {
            operation.and_then(Operation::bucket).map(|bucket| ("BucketName", bucket.as_str()))
        }
        Code::NoSuchKey => operation.and_then(Operation::key).map(|key| ("Key", key.as_str())),
        _ => None,
    };
    let body = Writer::plain_document("Error", |xml| {
        xml.text("Code", error.code().name());
        xml.text("Message", error.message());
        if let Some((name, value)) = subject.filter(|(name, _)| !named(name)) {
            xml.text(name, value);
        }
        for (name, value) in error.elements() {
            xml.text(name, value);
        }
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
    });
    response.with_document(body)
}

impl Response {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty }
    }

    fn document(body: Vec<u8>) -> Self {
        Self::new(200).with_document(body)
    }

    fn with_document(mut self, body: Vec<u8>) -> Self {
        self.push("Content-Type", "application/xml");
        self.body = Body::Document(body);
        self
    }

    /// A header whose value may be anybody's: one that would be no value, or another header, is left out. Returns
    /// whether it is there.
    fn push(&mut self, name: &str, value: &str) -> bool {
        let valid = !value.chars().any(char::is_control) && is_token(name);
        if valid {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        valid
    }

    /// `x-amz-version-id: null`, where the request named that version.
    fn version(mut self, named: bool) -> Self {
        if named {
            self.push("x-amz-version-id", "null");
        }
        self
    }

    fn push_encryption(&mut self, encryption: &ServerSideEncryption) {
        use kmsfs_sse::request::{ALGORITHM, BUCKET_KEY_ENABLED, KEY_ID};
        self.push(ALGORITHM, encryption.algorithm.as_str());
        if let Some(arn) = &encryption.key_arn {
            self.push(KEY_ID, arn);
        }
        if encryption.bucket_key {
            self.push(BUCKET_KEY_ENABLED, "true");
        }
    }
}

/// RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn mismatch() -> Error {
    Code::InternalError.into()
}

/// What says no more than that it was done.
fn done(operation: &Operation, server: Server<'_>) -> Result<Response, Error> {
    match operation {
        Operation::CreateBucket(create) => {
            let mut response = Response::new(200);
            response.push("Location", &format!("/{}", create.bucket));
            Ok(response)
        }
        Operation::HeadBucket(_) => {
            let mut response = Response::new(200);
            response.push("x-amz-bucket-region", server.region);
            response.push("x-amz-access-point-alias", "false");
            Ok(response)
        }
        Operation::GetBucketLocation(_) => {
            // The first region has no name.
            let name = Some(server.region).filter(|region| *region != "us-east-1").unwrap_or_default();
            Ok(Response::document(Writer::document("LocationConstraint", |xml| xml.content(name))))
        }
        Operation::PutBucketEncryption(_) | Operation::PutBucketSetting(_) => Ok(Response::new(200)),
        Operation::UpdateObjectEncryption(update) => Ok(Response::new(200).version(update.null_version)),
        Operation::PutObjectTagging(put) => Ok(Response::new(200).version(put.null_version)),
        Operation::DeleteObjectTagging(delete) => Ok(Response::new(204).version(delete.null_version)),
        Operation::DeleteObject(delete) => Ok(Response::new(204).version(delete.null_version)),
        Operation::DeleteBucket(_)
        | Operation::DeleteBucketEncryption(_)
        | Operation::PutBucketTagging(_)
        | Operation::DeleteBucketTagging(_)
        | Operation::AbortMultipartUpload(_) => Ok(Response::new(204)),
        _ => Err(mismatch()),
    }
}

fn list_buckets(list: &ListBuckets, page: &Buckets, server: Server<'_>) -> Response {
    let last = page.buckets.last().filter(|_| page.truncated);
    Response::document(Writer::document("ListAllMyBucketsResult", |xml| {
        owner(xml, "Owner", &page.owner);
        xml.within("Buckets", |xml| {
            for bucket in &page.buckets {
                xml.within("Bucket", |xml| {
                    xml.text("Name", &bucket.name);
                    xml.text("CreationDate", bucket.created.iso8601());
                    xml.optional("BucketRegion", list.paginated.then_some(server.region));
                });
            }
        });
        xml.optional("ContinuationToken", last.map(|bucket| token::encode(&bucket.name)));
        xml.optional("Prefix", Some(&list.prefix).filter(|prefix| !prefix.is_empty()));
    }))
}

fn deleted(delete: &DeleteObjects, outcomes: &[Result<(), Error>]) -> Result<Response, Error> {
    if outcomes.len() != delete.objects.len() {
        return Err(mismatch());
    }
    Ok(Response::document(Writer::document("DeleteResult", |xml| {
        for (object, outcome) in delete.objects.iter().zip(outcomes) {
            let element = if outcome.is_ok() { "Deleted" } else { "Error" };
            if outcome.is_ok() && delete.quiet {
                continue;
            }
            xml.within(element, |xml| {
                xml.text("Key", &object.key);
                xml.optional("VersionId", object.version.as_ref());
                if let Err(error) = outcome {
                    xml.text("Code", error.code().name());
                    xml.text("Message", error.message());
                }
            });
        }
    })))
}

/// The JSON form's fields in XML's order.
fn encryption(EncryptionConfiguration(configuration): &EncryptionConfiguration) -> Response {
    let json = configuration.to_json();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Response::document(Writer::document("ServerSideEncryptionConfiguration", |xml| {
        for rule in json["Rules"].as_array().into_iter().flatten() {
            xml.within("Rule", |xml| {
                let default = &rule["ApplyServerSideEncryptionByDefault"];
                xml.within("ApplyServerSideEncryptionByDefault", |xml| {
                    xml.optional("SSEAlgorithm", text(&default["SSEAlgorithm"]));
                    xml.optional("KMSMasterKeyID", text(&default["KMSMasterKeyID"]));
                });
                // S3 fills in what a rule leaves out.
                xml.text("BucketKeyEnabled", rule["BucketKeyEnabled"].as_bool().unwrap_or(false));
                if let Some(types) = rule["BlockedEncryptionTypes"]["EncryptionType"].as_array() {
                    xml.within("BlockedEncryptionTypes", |xml| {
                        types.iter().filter_map(text).for_each(|name| xml.text("EncryptionType", name));
                    });
                }
            });
        }
    }))
}

fn tagging(tags: &Tags) -> Response {
    Response::document(Writer::document("Tagging", |xml| {
        xml.within("TagSet", |xml| {
            for (key, value) in tags.pairs() {
                xml.within("Tag", |xml| {
                    xml.text("Key", key);
                    xml.text("Value", value);
                });
            }
        });
    }))
}

fn owner(xml: &mut Writer, element: &str, owner: &Owner) {
    xml.within(element, |xml| {
        xml.text("ID", &owner.id);
        xml.text("DisplayName", &owner.display_name);
    });
}
