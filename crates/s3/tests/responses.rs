//! Answers, and what the client gets of them: byte for byte as S3 writes it.

use kmsfs_s3::answer::{self, Answer, Owner, ServerSideEncryption};
use kmsfs_s3::operation::{self, Setting};
use kmsfs_s3::{
    Body, Checksum, ChecksumAlgorithm, ChecksumType, Code, DECLARATION, ETag, Error, Metadata, ObjectKey, Operation,
    Preconditions, Range, Response, Server, StorageClass, Tags, Timestamp, UploadId, refusal, response,
};
use kmsfs_sse::{Algorithm, BucketName};

const SERVER: Server<'static> = Server { region: "eu-west-1", url: "http://127.0.0.1:9000" };
const XMLNS: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
const OWNER_XML: &str = "<ID>64</ID><DisplayName>alice</DisplayName>";

fn bucket() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn key() -> ObjectKey {
    ObjectKey::parse("a b/ä").unwrap()
}

fn owner() -> Owner {
    Owner { id: "64".into(), display_name: "alice".into() }
}

fn time() -> Timestamp {
    Timestamp::from_unix(784_111_777)
}

fn kms() -> ServerSideEncryption {
    ServerSideEncryption { algorithm: Algorithm::AwsKms, key_arn: Some("arn:k".into()), bucket_key: true }
}

fn crc32() -> Checksum {
    Checksum::of_bytes(ChecksumAlgorithm::Crc32, vec![0; 4])
}

#[track_caller]
fn responded(operation: impl Into<Operation>, answer: Answer) -> Response {
    response(&operation.into(), &answer, SERVER).unwrap()
}

/// The document without its declaration; the namespace as `*`.
#[track_caller]
fn document(response: &Response) -> String {
    let Body::Document(bytes) = &response.body else { panic!("{response:?}") };
    let text = std::str::from_utf8(bytes).unwrap();
    text.strip_prefix(DECLARATION).expect("a declaration").replace(XMLNS, "*")
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn get(range: Option<Range>) -> operation::GetObject {
    operation::GetObject {
        bucket: bucket(),
        key: key(),
        null_version: false,
        conditions: Preconditions::default(),
        range,
        part_number: None,
        checksum_mode: true,
        overrides: operation::Overrides::default(),
    }
}

fn object() -> answer::Object {
    answer::Object {
        modified: time(),
        etag: ETag::new("e"),
        size: 10,
        range: None,
        parts_count: None,
        encryption: kms(),
        metadata: Metadata::default(),
        storage_class: StorageClass::Standard,
        tag_count: 0,
        checksum: Some(crc32()),
    }
}

#[test]
fn a_get_has_the_objects_headers() {
    let mut object = object();
    object.metadata.user = [("a".to_owned(), "ä".to_owned()), ("b".to_owned(), "x".to_owned())].into();
    object.metadata.cache_control = Some("no-store".into());
    object.storage_class = StorageClass::GlacierIr;
    object.tag_count = 2;
    let response = responded(get(None), Answer::Object(Box::new(object)));
    let headers: Vec<_> = response.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        headers.join("\n"),
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nETag: \"e\"\nAccept-Ranges: bytes\nContent-Length: 10\nCache-Control: no-store\nContent-Type: binary/octet-stream\nx-amz-meta-a: =?UTF-8?B?w6Q=?=\nx-amz-meta-b: x\nx-amz-server-side-encryption: aws:kms\nx-amz-server-side-encryption-aws-kms-key-id: arn:k\nx-amz-server-side-encryption-bucket-key-enabled: true\nx-amz-storage-class: GLACIER_IR\nx-amz-tagging-count: 2\nx-amz-checksum-crc32: AAAAAA==\nx-amz-checksum-type: FULL_OBJECT"
    );
    assert_eq!((response.status, response.body), (200, Body::Object { offset: 0, length: 10 }));
}

#[test]
fn a_range_is_a_part_of_the_object_without_its_checksum() {
    let ranged = answer::Object { range: Some((3, 7)), ..object() };
    let mut get = get(Some(Range::Suffix(7)));
    get.null_version = true;
    let response = responded(get, Answer::Object(Box::new(ranged)));
    assert_eq!((response.status, &response.body), (206, &Body::Object { offset: 3, length: 4 }));
    assert_eq!(header(&response, "Content-Range"), Some("bytes 3-6/10"));
    assert_eq!(header(&response, "Content-Length"), Some("4"));
    assert_eq!(header(&response, "x-amz-checksum-crc32"), None);
    assert_eq!(header(&response, "x-amz-version-id"), Some("null"));
}

#[test]
fn a_head_says_the_length_of_what_it_does_not_send() {
    let head = Operation::HeadObject(get(None));
    let response = responded(head, Answer::Object(Box::new(object())));
    assert_eq!((header(&response, "Content-Length"), &response.body), (Some("10"), &Body::Empty));
}

#[test]
fn a_request_can_want_other_headers() {
    let mut get = get(None);
    get.overrides.content_type = Some("a/b".into());
    let mut object = object();
    object.metadata.content_type = Some("text/plain".into());
    let response = responded(get, Answer::Object(Box::new(object)));
    assert_eq!(header(&response, "Content-Type"), Some("a/b"));
    assert_eq!(response.headers.iter().filter(|(name, _)| name == "Content-Type").count(), 1);
}

/// The owner of a file can write its attribute with setfattr(1), past all checks of a PUT.
#[test]
fn what_is_no_header_makes_none() {
    let mut object = object();
    object.metadata.content_type = Some("a\r\nSet-Cookie: x".into());
    object.metadata.user = [("a: b\r\nc", "x"), ("d", "y\nz"), ("e", "f"), ("ü", "g"), ("", "h")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let response = responded(get(None), Answer::Object(Box::new(object)));
    assert_eq!(header(&response, "Content-Type"), None);
    let user: Vec<_> = response.headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta")).collect();
    assert_eq!(user.len(), 2, "{user:?}");
    assert_eq!(header(&response, "x-amz-missing-meta"), Some("3"));
    assert!(
        response.headers.iter().all(|(name, value)| !name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']))
    );
}

#[test]
fn writes_say_tag_encryption_and_checksum() {
    let written =
        || answer::Written { etag: ETag::new("e"), modified: time(), encryption: kms(), checksum: Some(crc32()) };
    let upload_id = UploadId::parse("id").unwrap();
    let part = operation::UploadPart {
        bucket: bucket(),
        key: key(),
        upload_id: upload_id.clone(),
        part_number: 1,
        length: 1,
        checksum: None,
        content_md5: None,
    };
    let response = responded(part, Answer::Written(written()));
    assert_eq!((header(&response, "ETag"), header(&response, "x-amz-checksum-type")), (Some("\"e\""), None));
    assert_eq!(header(&response, "x-amz-server-side-encryption-bucket-key-enabled"), Some("true"));

    let complete = operation::CompleteMultipartUpload {
        bucket: bucket(),
        key: key(),
        upload_id: upload_id.clone(),
        parts: Vec::new(),
        checksum: None,
        checksum_type: None,
        object_size: None,
        condition: None,
    };
    let composite = Checksum { parts: Some(2), ..crc32() };
    let response = responded(complete, Answer::Written(answer::Written { checksum: Some(composite), ..written() }));
    assert_eq!(
        document(&response),
        "<CompleteMultipartUploadResult *><Location>http://127.0.0.1:9000/bucket/a%20b/%C3%A4</Location><Bucket>bucket</Bucket><Key>a b/ä</Key><ETag>&quot;e&quot;</ETag><ChecksumCRC32>AAAAAA==-2</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType></CompleteMultipartUploadResult>"
    );
    assert_eq!(header(&response, "x-amz-server-side-encryption"), Some("aws:kms"));

    let create = operation::CreateMultipartUpload {
        bucket: bucket(),
        key: key(),
        encryption: kmsfs_sse::Request::default(),
        metadata: Metadata::default(),
        storage_class: StorageClass::Standard,
        tags: Tags::default(),
        checksum: Some((ChecksumAlgorithm::Sha1, ChecksumType::Composite)),
    };
    let response = responded(create, Answer::Upload(answer::Upload { upload_id, encryption: kms() }));
    assert_eq!(
        document(&response),
        "<InitiateMultipartUploadResult *><Bucket>bucket</Bucket><Key>a b/ä</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>"
    );
    assert_eq!(header(&response, "x-amz-checksum-algorithm"), Some("SHA1"));
}

fn page() -> answer::Objects {
    let object = answer::ListedObject {
        key: "a b/\u{1}".into(),
        modified: time(),
        etag: ETag::new("e"),
        size: 7,
        storage_class: StorageClass::Standard,
        checksum: Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject)),
    };
    answer::Objects { owner: owner(), objects: vec![object], prefixes: vec!["b+/".into()], next: Some("b+/".into()) }
}

#[test]
fn lists_are_in_s3s_order() {
    let v2 = operation::ListObjectsV2 {
        bucket: bucket(),
        prefix: "a".into(),
        delimiter: "/".into(),
        start_after: String::new(),
        continuation: None,
        max_keys: 2,
        url_encoded: true,
        fetch_owner: false,
    };
    let content = "<LastModified>1994-11-06T08:49:37.000Z</LastModified><ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32\
                   </ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size>";
    let response = responded(v2, Answer::Objects(page()));
    assert_eq!(
        document(&response),
        format!(
            "<ListBucketResult *><Name>bucket</Name><Prefix>a</Prefix><NextContinuationToken>1Yisv</NextContinuationToken>\
             <KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>\
             <IsTruncated>true</IsTruncated><Contents><Key>a+b/%01</Key>{content}<StorageClass>STANDARD</StorageClass>\
             </Contents><CommonPrefixes><Prefix>b%2B/</Prefix></CommonPrefixes></ListBucketResult>"
        )
    );
    let v1 = operation::ListObjects {
        bucket: bucket(),
        prefix: String::new(),
        delimiter: "/".into(),
        marker: String::new(),
        max_keys: 2,
        url_encoded: false,
    };
    assert_eq!(
        document(&responded(v1.clone(), Answer::Objects(page()))),
        format!(
            "<ListBucketResult *><Name>bucket</Name><Prefix/><Marker/><NextMarker>b+/</NextMarker><MaxKeys>2</MaxKeys>\
             <Delimiter>/</Delimiter><IsTruncated>true</IsTruncated><Contents><Key>a b/&#x1;</Key>{content}<Owner>\
             {OWNER_XML}</Owner><StorageClass>STANDARD</StorageClass></Contents><CommonPrefixes><Prefix>b+/</Prefix>\
             </CommonPrefixes></ListBucketResult>"
        )
    );
    let plain = operation::ListObjects { delimiter: String::new(), ..v1 };
    let last = answer::Objects { prefixes: Vec::new(), next: Some("a b/\u{1}".into()), ..page() };
    assert!(!document(&responded(plain, Answer::Objects(last.clone()))).contains("NextMarker"));
    let versions = operation::ListObjectVersions {
        bucket: bucket(),
        prefix: String::new(),
        delimiter: String::new(),
        key_marker: String::new(),
        version_id_marker: None,
        max_keys: 1,
        url_encoded: false,
    };
    assert_eq!(
        document(&responded(versions.clone(), Answer::Objects(last))),
        format!(
            "<ListVersionsResult *><Name>bucket</Name><Prefix/><KeyMarker/><VersionIdMarker/><NextKeyMarker>a b/&#x1;\
             </NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker><MaxKeys>1</MaxKeys><IsTruncated>true\
             </IsTruncated><Version><Key>a b/&#x1;</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>{content}\
             <Owner>{OWNER_XML}</Owner><StorageClass>STANDARD</StorageClass></Version></ListVersionsResult>"
        )
    );
    let of_a_prefix = document(&responded(versions, Answer::Objects(page())));
    assert!(of_a_prefix.contains("<NextKeyMarker>b+/</NextKeyMarker><MaxKeys>"), "{of_a_prefix}");
}

#[test]
fn buckets_uploads_and_parts_are_listed() {
    let list = operation::ListBuckets { prefix: String::new(), after: None, max: 1, paginated: true };
    let bucket_of_page = answer::Bucket { name: "bucket".into(), created: time() };
    let page = answer::Buckets { owner: owner(), buckets: vec![bucket_of_page], truncated: true };
    assert_eq!(
        document(&responded(list, Answer::Buckets(page))),
        format!(
            "<ListAllMyBucketsResult *><Owner>{OWNER_XML}</Owner><Buckets><Bucket><Name>bucket</Name><CreationDate>\
             1994-11-06T08:49:37.000Z</CreationDate><BucketRegion>eu-west-1</BucketRegion></Bucket></Buckets>\
             <ContinuationToken>1YnVja2V0</ContinuationToken></ListAllMyBucketsResult>"
        )
    );
    let upload_id = UploadId::parse("id").unwrap();
    let list = operation::ListMultipartUploads {
        bucket: bucket(),
        prefix: String::new(),
        delimiter: String::new(),
        key_marker: String::new(),
        upload_id_marker: None,
        max_uploads: 1,
        url_encoded: false,
    };
    let upload = answer::ListedUpload {
        key: "k".into(),
        upload_id: upload_id.clone(),
        initiated: time(),
        storage_class: StorageClass::Standard,
        checksum: None,
    };
    let next = Some(("k".into(), Some(upload_id.clone())));
    let page = answer::Uploads { owner: owner(), uploads: vec![upload], prefixes: Vec::new(), next };
    assert_eq!(
        document(&responded(list, Answer::Uploads(page))),
        format!(
            "<ListMultipartUploadsResult *><Bucket>bucket</Bucket><KeyMarker/><UploadIdMarker/><NextKeyMarker>k\
             </NextKeyMarker><NextUploadIdMarker>id</NextUploadIdMarker><Prefix/><MaxUploads>1</MaxUploads><IsTruncated>\
             true</IsTruncated><Upload><Key>k</Key><UploadId>id</UploadId><Initiator>{OWNER_XML}</Initiator><Owner>\
             {OWNER_XML}</Owner><StorageClass>STANDARD</StorageClass><Initiated>1994-11-06T08:49:37.000Z</Initiated>\
             </Upload></ListMultipartUploadsResult>"
        )
    );
    let list = operation::ListParts { bucket: bucket(), key: key(), upload_id, part_number_marker: 0, max_parts: 1000 };
    let part =
        answer::ListedPart { number: 1, modified: time(), etag: ETag::new("p"), size: 5, checksum: Some(crc32()) };
    let page = answer::Parts {
        owner: owner(),
        parts: vec![part],
        truncated: false,
        storage_class: StorageClass::Standard,
        checksum: Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite)),
        encryption: kms(),
    };
    assert_eq!(
        document(&responded(list, Answer::Parts(Box::new(page)))),
        format!(
            "<ListPartsResult *><Bucket>bucket</Bucket><Key>a b/ä</Key><UploadId>id</UploadId><Initiator>{OWNER_XML}\
             </Initiator><Owner>{OWNER_XML}</Owner><StorageClass>STANDARD</StorageClass><PartNumberMarker>0\
             </PartNumberMarker><NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1000</MaxParts><IsTruncated>false\
             </IsTruncated><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType><Part>\
             <PartNumber>1</PartNumber><LastModified>1994-11-06T08:49:37.000Z</LastModified><ETag>&quot;p&quot;</ETag>\
             <Size>5</Size><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></ListPartsResult>"
        )
    );
}

#[test]
fn a_new_bucket_answers_for_all_its_settings() {
    let setting = |setting| {
        let operation = Operation::from(operation::GetBucketSetting { bucket: bucket(), setting });
        response(&operation, &Answer::Owner(owner()), SERVER).map(|response| document(&response))
    };
    let code = |asked| setting(asked).unwrap_err().code().name().into_owned();
    assert_eq!(code(Setting::Policy), "NoSuchBucketPolicy");
    assert_eq!(code(Setting::PolicyStatus), "NoSuchBucketPolicy");
    assert_eq!(code(Setting::Cors), "NoSuchCORSConfiguration");
    assert_eq!(code(Setting::Lifecycle), "NoSuchLifecycleConfiguration");
    assert_eq!(code(Setting::Website), "NoSuchWebsiteConfiguration");
    assert_eq!(code(Setting::Replication), "ReplicationConfigurationNotFoundError");
    assert_eq!(code(Setting::ObjectLock), "ObjectLockConfigurationNotFoundError");
    assert_eq!(code(Setting::NamedConfiguration), "NoSuchConfiguration");
    for (asked, expected) in [
        (Setting::Accelerate, "<AccelerateConfiguration */>"),
        (Setting::Logging, "<BucketLoggingStatus */>"),
        (Setting::Notification, "<NotificationConfiguration */>"),
        (Setting::Versioning, "<VersioningConfiguration */>"),
        (
            Setting::RequestPayment,
            "<RequestPaymentConfiguration *><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
        ),
        (
            Setting::OwnershipControls,
            "<OwnershipControls *><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
        ),
        (
            Setting::PublicAccessBlock,
            "<PublicAccessBlockConfiguration *><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
             </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true\
             </RestrictPublicBuckets></PublicAccessBlockConfiguration>",
        ),
        (
            Setting::Metrics,
            "<ListMetricsConfigurationsResult *><IsTruncated>false</IsTruncated></ListMetricsConfigurationsResult>",
        ),
    ] {
        assert_eq!(setting(asked).unwrap(), expected);
    }
    assert_eq!(
        setting(Setting::Acl).unwrap(),
        format!(
            "<AccessControlPolicy *><Owner>{OWNER_XML}</Owner><AccessControlList><Grant><Grantee \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">{OWNER_XML}</Grantee>\
             <Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"
        )
    );
}

#[test]
fn buckets_answer_for_location_encryption_and_tags() {
    let location = operation::GetBucketLocation { bucket: bucket() };
    assert_eq!(
        document(&responded(location.clone(), Answer::Done)),
        "<LocationConstraint *>eu-west-1</LocationConstraint>"
    );
    let first = Server { region: "us-east-1", ..SERVER };
    assert_eq!(document(&response(&location.into(), &Answer::Done, first).unwrap()), "<LocationConstraint */>");
    let default = Answer::Encryption(answer::EncryptionConfiguration(kmsfs_sse::Configuration::default()));
    let operation = operation::GetBucketEncryption { bucket: bucket() };
    assert_eq!(
        document(&responded(operation, default)),
        "<ServerSideEncryptionConfiguration *><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256\
         </SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>\
         </ServerSideEncryptionConfiguration>"
    );
    let get = Operation::from(operation::GetBucketTagging { bucket: bucket() });
    let error = response(&get, &Answer::Tags(Tags::default()), SERVER).unwrap_err();
    assert_eq!(error.code(), &Code::NoSuchTagSet);
    let of_object = operation::GetObjectTagging { bucket: bucket(), key: key(), null_version: false };
    let none = document(&responded(of_object, Answer::Tags(Tags::default())));
    assert_eq!(none, "<Tagging *><TagSet/></Tagging>");
    let deleted = responded(operation::DeleteBucketTagging { bucket: bucket() }, Answer::Done);
    assert_eq!((deleted.status, deleted.body), (204, Body::Empty));
}

#[test]
fn each_object_of_many_has_its_outcome() {
    let object = |key: &str| operation::ObjectToDelete { key: key.into(), version: None, etag: None };
    let delete = |quiet| operation::DeleteObjects { bucket: bucket(), quiet, objects: vec![object("a"), object("<")] };
    let answer = || Answer::Deleted(vec![Ok(()), Err(Error::new(Code::AccessDenied))]);
    let error = "<Error><Key>&lt;</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    assert_eq!(
        document(&responded(delete(false), answer())),
        format!("<DeleteResult *><Deleted><Key>a</Key></Deleted>{error}</DeleteResult>")
    );
    assert_eq!(document(&responded(delete(true), answer())), format!("<DeleteResult *>{error}</DeleteResult>"));
    let short = response(&delete(false).into(), &Answer::Deleted(Vec::new()), SERVER).unwrap_err();
    assert_eq!(short.code(), &Code::InternalError);
}

#[test]
fn attributes_are_those_that_were_asked_for() {
    let attributes = operation::Attributes { etag: true, checksum: true, object_size: true, ..Default::default() };
    let get = operation::GetObjectAttributes {
        bucket: bucket(),
        key: key(),
        null_version: false,
        attributes,
        max_parts: 1000,
        part_number_marker: 0,
    };
    let found = answer::Attributes {
        modified: time(),
        etag: ETag::new("e-2"),
        size: 10,
        storage_class: StorageClass::Standard,
        checksum: Some(crc32()),
        parts: Some(answer::ObjectParts { count: 2, parts: Vec::new(), truncated: false }),
    };
    let response = responded(get.clone(), Answer::Attributes(Box::new(found.clone())));
    assert_eq!(
        document(&response),
        "<GetObjectAttributesResponse *><ETag>e-2</ETag><Checksum><ChecksumCRC32>AAAAAA==</ChecksumCRC32><ChecksumType>\
         FULL_OBJECT</ChecksumType></Checksum><ObjectSize>10</ObjectSize></GetObjectAttributesResponse>"
    );
    let attributes = operation::Attributes { object_parts: true, ..Default::default() };
    let get = operation::GetObjectAttributes { attributes, ..get };
    assert_eq!(
        document(&responded(get, Answer::Attributes(Box::new(found)))),
        "<GetObjectAttributesResponse *><ObjectParts><PartsCount>2</PartsCount></ObjectParts></GetObjectAttributesResponse>"
    );
}

#[test]
fn refusals_name_what_they_are_of() {
    let get = Operation::GetObject(get(None));
    let response = refusal(&Error::new(Code::NoSuchKey), Some(&get), "R", "H");
    assert_eq!(response.status, 404);
    assert_eq!(
        document(&response),
        "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>a b/ä</Key><RequestId>R\
         </RequestId><HostId>H</HostId></Error>"
    );
    let kms = Error::new(Code::Kms("DisabledException".into())).saying("arn:k is disabled.");
    let response = refusal(&kms, Some(&get), "R", "H");
    assert_eq!(response.status, 400);
    assert!(document(&response).starts_with("<Error><Code>KMS.DisabledException</Code><Message>arn:k is disabled."));
    let range = Range::Suffix(0).resolve(10).unwrap_err();
    let response = refusal(&range, Some(&get), "R", "H");
    assert_eq!((response.status, header(&response, "Content-Range")), (416, Some("bytes */10")));
    let unchanged = Error::new(Code::NotModified).with_header("ETag", "\"e\"");
    let response = refusal(&unchanged, Some(&get), "R", "H");
    assert_eq!((response.status, header(&response, "ETag"), &response.body), (304, Some("\"e\""), &Body::Empty));
    let argument = Error::argument("no", "key", "a<\u{1}\u{202e}");
    assert!(
        document(&refusal(&argument, None, "R", "H")).contains("<ArgumentValue>a&lt;&#x1;\u{202e}</ArgumentValue>")
    );
}

#[test]
fn an_answer_to_another_operation_is_none() {
    let head = Operation::from(operation::HeadBucket { bucket: bucket() });
    for answer in [Answer::Owner(owner()), Answer::Objects(page()), Answer::Tags(Tags::default())] {
        assert_eq!(response(&head, &answer, SERVER).unwrap_err().code(), &Code::InternalError);
    }
    let get = Operation::GetObject(get(None));
    assert_eq!(response(&get, &Answer::Done, SERVER).unwrap_err().code(), &Code::InternalError);
}
