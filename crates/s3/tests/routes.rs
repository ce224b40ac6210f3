//! Requests, and what they are.

use kmsfs_s3::operation::CopySource;
use kmsfs_s3::{
    Code, Endpoint, Error, ExpectedChecksum, Operation, Request, Route, StorageClass, WriteCondition, route,
};
use std::fmt::Write as _;

/// A request in short: `PUT /bucket/key?a=b&c` and headers.
struct Asking {
    method: String,
    path: Vec<u8>,
    query: Vec<(Vec<u8>, Vec<u8>)>,
    headers: Vec<(String, Vec<u8>)>,
    anonymous: bool,
}

fn asking(line: &str) -> Asking {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.as_bytes().to_vec(), value.as_bytes().to_vec())
    };
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    let headers = vec![("Host".to_owned(), b"s3.example:9000".to_vec()), ("Content-Length".to_owned(), b"3".to_vec())];
    Asking { method: method.into(), path: path.as_bytes().to_vec(), query, headers, anonymous: false }
}

impl Asking {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn route(&self) -> Result<Route, Error> {
        self.route_in("us-east-1")
    }

    fn route_in(&self, region: &str) -> Result<Route, Error> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
        let request = Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            anonymous: self.anonymous,
        };
        let names = vec!["s3.example".to_owned(), "example".to_owned()];
        route(&request, &Endpoint { names, region: region.into(), account_id: "123456789012".into() })
    }

    /// What it is, where the document is this.
    fn operation_with(&self, body: &str) -> Result<Operation, Error> {
        match self.route()? {
            Route::Operation(operation) => Ok(*operation),
            Route::Document(document) => document.read(body.as_bytes()),
        }
    }

    #[track_caller]
    fn operation(&self) -> Operation {
        self.operation_with("").unwrap()
    }

    /// Name and value of the refusal's last element.
    #[track_caller]
    fn refusal(&self) -> (Code, String) {
        let error = self.route().expect_err("a refusal");
        let last = error.elements().last().map(|(_, value)| value.clone()).unwrap_or_default();
        (error.code().clone(), last)
    }
}

#[track_caller]
fn code(line: &str) -> Code {
    asking(line).route().expect_err(line).code().clone()
}

#[test]
fn every_operation_has_its_request() {
    let id = "uploadId=abc";
    for (line, name) in [
        ("GET /", "ListBuckets"),
        ("GET /?x-id=ListBuckets&prefix=a&max-buckets=3", "ListBuckets"),
        ("PUT /bucket", "CreateBucket"),
        ("PUT /bucket/", "CreateBucket"),
        ("DELETE /bucket", "DeleteBucket"),
        ("HEAD /bucket", "HeadBucket"),
        ("GET /bucket", "ListObjects"),
        ("GET /bucket?list-type=2&encoding-type=url&fetch-owner=true", "ListObjectsV2"),
        ("GET /bucket?versions", "ListObjectVersions"),
        ("GET /bucket?uploads=", "ListMultipartUploads"),
        ("GET /bucket?location", "GetBucketLocation"),
        ("GET /bucket?encryption", "GetBucketEncryption"),
        ("DELETE /bucket?encryption", "DeleteBucketEncryption"),
        ("GET /bucket?tagging", "GetBucketTagging"),
        ("DELETE /bucket?tagging", "DeleteBucketTagging"),
        ("GET /bucket?policy", "GetBucketSetting"),
        ("GET /bucket?inventory&id=x", "GetBucketSetting"),
        ("PUT /bucket/key", "PutObject"),
        ("PUT /bucket/a/b/", "PutObject"),
        ("GET /bucket/key?partNumber=2&versionId=null", "GetObject"),
        ("HEAD /bucket/key", "HeadObject"),
        ("DELETE /bucket/key", "DeleteObject"),
        ("GET /bucket/key?acl", "GetObjectAcl"),
        ("GET /bucket/key?tagging", "GetObjectTagging"),
        ("DELETE /bucket/key?tagging", "DeleteObjectTagging"),
        ("POST /bucket/key?uploads", "CreateMultipartUpload"),
        (&format!("PUT /bucket/key?partNumber=1&{id}"), "UploadPart"),
        (&format!("DELETE /bucket/key?{id}"), "AbortMultipartUpload"),
        (&format!("GET /bucket/key?{id}&max-parts=3"), "ListParts"),
    ] {
        let operation = asking(line).operation();
        assert_eq!(operation.name(), name, "{line}");
        let bucket = line.contains("/bucket").then_some("bucket");
        assert_eq!(operation.bucket().map(kmsfs_sse::BucketName::as_str), bucket);
    }
}

/// With all sub-resources that S3 has, and with some that it does not have.
#[test]
fn nothing_falls_through_to_another_operation() {
    let of_bucket = [
        "abac",
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "delete",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "lifecycle",
        "list-type",
        "location",
        "logging",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "session",
        "tagging",
        "uploads",
        "versioning",
        "versions",
        "website",
    ];
    let of_object = [
        "acl",
        "annotation",
        "attributes",
        "encryption",
        "legal-hold",
        "renameObject",
        "restore",
        "retention",
        "select",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
    ];
    let invented = ["new-feature", "ACL", "Uploads", "", "partnumber", "versionid", "Expires", "Signature"];
    let plain = [
        "CreateBucket",
        "DeleteBucket",
        "HeadBucket",
        "ListObjects",
        "PutObject",
        "GetObject",
        "HeadObject",
        "DeleteObject",
        "ListBuckets",
    ];
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"] {
        for (place, names) in [
            ("/", &of_bucket[..]),
            ("/bucket", &of_bucket),
            ("/bucket/key", &of_object),
            ("/bucket/key", &of_bucket),
            ("/bucket", &of_object),
        ] {
            for name in names.iter().chain(&invented) {
                for query in [
                    (*name).to_owned(),
                    format!("{name}=1"),
                    format!("{name}&x-id=PutObject"),
                    format!("prefix=&{name}"),
                ] {
                    let line = format!("{method} {place}?{query}");
                    let mut asking = asking(&line);
                    if name.is_empty() {
                        asking.query = vec![(Vec::new(), Vec::new())];
                    }
                    match asking.route() {
                        Ok(Route::Operation(operation)) => {
                            assert!(!plain.contains(&operation.name()), "{line} is {}", operation.name());
                        }
                        Ok(Route::Document(document)) => {
                            let read = document.read(b"<CreateBucketConfiguration/>");
                            assert!(read.is_err(), "{line} is {read:?}");
                        }
                        Err(error) => assert!(error.status() >= 400),
                    }
                }
            }
        }
    }
}

#[test]
fn what_s3_has_and_is_not_done_is_said_so() {
    for line in [
        "PUT /bucket?policy",
        "DELETE /bucket?policy",
        "PUT /bucket?lifecycle",
        "PUT /bucket?versioning",
        "PUT /bucket?acl",
        "DELETE /bucket?publicAccessBlock",
        "POST /bucket",
        "POST /bucket?metadataTable",
        "GET /bucket?session",
        "PUT /bucket/key?acl",
        "GET /bucket/key?torrent",
        "PUT /bucket/key?retention",
        "GET /bucket/key?legal-hold",
        "POST /bucket/key?restore",
        "POST /bucket/key?select&select-type=2",
        "PUT /bucket/key?renameObject",
        "PUT /bucket/key?annotation&annotationName=x",
        "PUT /bucket/key?versionId=null",
        "PUT /bucket/key?partNumber=1",
        "GET /bucket?new-feature",
        "GET /bucket/key?response-foo=x",
        "PUT /bucket/key?response-expires=x",
    ] {
        let error = asking(line).route().expect_err(line);
        assert_eq!((error.code(), error.status()), (&Code::NotImplemented, 501), "{line}");
    }
    for line in ["POST /", "PUT /", "DELETE /", "PATCH /bucket", "POST /bucket/key", "FOO /bucket/key", "TRACE /"] {
        assert_eq!(code(line), Code::MethodNotAllowed, "{line}");
    }
    assert_eq!(code("OPTIONS /bucket/key"), Code::AccessForbidden);
    assert_eq!(code("GET /bucket?acl&policy"), Code::InvalidArgument);
    assert_eq!(code("PUT /bucket/key?tagging&encryption"), Code::InvalidArgument);
    assert_eq!(code("GET /bucket?list-type=1"), Code::InvalidArgument);
    assert_eq!(code("PUT /bucket/key?uploadId=abc"), Code::InvalidArgument);
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let put = || asking("PUT /bucket/key");
    for name in [
        "x-amz-website-redirect-location",
        "x-amz-write-offset-bytes",
        "x-amz-checksum-sha512",
        "x-amz-checksum-xxhash64",
        "x-amz-mfa",
        "X-Amz-Something-New",
        "x-amz-metadata-directive",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-range",
        "x-amz-checksum-type",
    ] {
        let refusal = put().with(name, "COPY").refusal();
        assert_eq!(refusal, (Code::NotImplemented, name.to_ascii_lowercase()));
    }
    let code = |name, value| put().with(name, value).refusal().0;
    assert_eq!(code("x-amz-acl", "public-read"), Code::AccessControlListNotSupported);
    assert_eq!(code("x-amz-acl", "whatever"), Code::InvalidArgument);
    assert_eq!(code("x-amz-grant-read", "id=1"), Code::AccessControlListNotSupported);
    assert_eq!(code("x-amz-object-lock-mode", "GOVERNANCE"), Code::InvalidRequest);
    assert_eq!(code("x-amz-server-side-encryption-customer-algorithm", "AES256"), Code::AccessDenied);
    assert_eq!(code("x-amz-storage-class", "GLACIER"), Code::NotImplemented);
    assert_eq!(code("x-amz-storage-class", "COLD"), Code::InvalidStorageClass);
    assert_eq!(code("x-amz-expected-bucket-owner", "111111111111"), Code::AccessDenied);
    assert_eq!(code("x-amz-expected-bucket-owner", "me"), Code::InvalidArgument);
    assert_eq!(code("if-none-match", "\"tag\""), Code::NotImplemented);
    assert_eq!(code("content-md5", "x"), Code::InvalidDigest);
    assert_eq!(code("x-amz-checksum-crc32", "AAAA"), Code::InvalidRequest);
    assert_eq!(code("x-amz-sdk-checksum-algorithm", "CRC32"), Code::InvalidRequest);
    let get = |name, value| asking("GET /bucket/key").with(name, value).refusal();
    let sse = "x-amz-server-side-encryption";
    assert_eq!(get(sse, "aws:kms"), (Code::InvalidArgument, "aws:kms".into()));
    assert_eq!(get("x-amz-server-side-encryption-customer-key", "x").0, Code::InvalidRequest);
    assert_eq!(get("x-amz-copy-source", "/b/k").0, Code::NotImplemented);
    let part = asking("PUT /bucket/key?partNumber=1&uploadId=abc");
    assert_eq!(part.with(sse, "AES256").refusal().0, Code::InvalidArgument);
    let bucket = asking("PUT /bucket").with("x-amz-acl", "public-read");
    assert_eq!(bucket.refusal().0, Code::InvalidBucketAclWithObjectOwnership);

    for (name, value) in [
        ("x-amz-acl", "private"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-request-payer", "requester"),
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("x-amz-user-agent", "aws-sdk-js/3"),
        ("x-amz-meta-anything", "x"),
        ("x-unknown", "x"),
        ("Cookie", "x"),
    ] {
        assert_eq!(put().with(name, value).operation().name(), "PutObject", "{name}");
    }
}

/// SDKs of JavaScript and Go write headers of a presigned request so: passed over, an object would not have the key
/// that was asked for.
#[test]
fn a_header_of_amazon_counts_in_the_query_too() {
    let auth = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=x&X-Amz-Date=x&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
                &X-Amz-Signature=x&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&x-id=PutObject";
    let put = |more: &str| asking(&format!("PUT /bucket/key?{auth}&{more}"));
    let Operation::PutObject(kms) = put("X-Amz-Server-Side-Encryption=aws:kms&x-amz-meta-a=b").operation() else {
        panic!()
    };
    assert_eq!(kms.encryption.algorithm, Some(kmsfs_sse::Algorithm::AwsKms));
    assert_eq!(kms.metadata.user["a"], "b");
    assert_eq!(put("x-amz-acl=public-read").refusal().0, Code::AccessControlListNotSupported);
    assert_eq!(put("x-amz-new-feature=on").refusal().0, Code::NotImplemented);
    assert_eq!(put("x-amz-server-side-encryption-customer-key=x").refusal().0, Code::AccessDenied);
    let twice = put("x-amz-storage-class=STANDARD_IA").with("x-amz-storage-class", "STANDARD");
    assert_eq!(twice.refusal().0, Code::InvalidArgument);
    assert_eq!(put("x-amz-copy-source=other/k").operation().name(), "CopyObject");
    let mut line = put("");
    line.query.push((b"x-amz-meta-a".to_vec(), b"b\r\nc".to_vec()));
    assert_eq!(line.refusal().0, Code::InvalidArgument);
}

#[test]
fn conditions_that_a_write_does_not_have_are_not_passed_over() {
    let writes = [
        "PUT /bucket/key",
        "DELETE /bucket/key",
        "POST /bucket/key?uploads",
        "PUT /bucket/key?partNumber=1&uploadId=abc",
        "POST /bucket/key?uploadId=abc",
    ];
    for line in writes {
        for name in ["If-Unmodified-Since", "If-Modified-Since"] {
            let asked = asking(line).with(name, "Sun, 06 Nov 1994 08:49:37 GMT");
            assert_eq!(asked.refusal(), (Code::NotImplemented, name.to_ascii_lowercase()), "{line}");
        }
    }
    for line in [writes[1], writes[2], writes[3]] {
        assert_eq!(asking(line).with("If-None-Match", "*").refusal().0, Code::NotImplemented, "{line}");
    }
    for line in [writes[0], writes[3]] {
        assert_eq!(asking(line).with("Content-Range", "bytes 0-2/10").refusal().0, Code::NotImplemented, "{line}");
    }
}

#[test]
fn an_empty_header_is_no_other_operation() {
    for line in ["PUT /bucket/key", "PUT /bucket/key?partNumber=1&uploadId=abc"] {
        assert_eq!(asking(line).with("x-amz-copy-source", "").refusal().0, Code::InvalidArgument, "{line}");
    }
    for name in ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"] {
        assert_eq!(asking("PUT /bucket/key").with(name, "").refusal().0, Code::InvalidArgument, "{name}");
    }
}

#[test]
fn a_header_that_decides_is_there_once() {
    for name in
        ["x-amz-server-side-encryption", "x-amz-storage-class", "If-None-Match", "Content-Type", "x-amz-tagging"]
    {
        let twice = asking("PUT /bucket/key").with(name, "AES256").with(&name.to_ascii_uppercase(), "AES256");
        assert_eq!(twice.refusal().0, Code::InvalidArgument, "{name}");
    }
    let two_lengths = asking("PUT /bucket/key").with("content-length", "3");
    assert_eq!(two_lengths.refusal().0, Code::InvalidArgument);
    assert_eq!(code("GET /bucket?prefix=a&prefix=b"), Code::InvalidArgument);
    assert_eq!(code("GET /bucket/key?versionId=null&versionId=null"), Code::InvalidArgument);
    let two_checksums = asking("PUT /bucket/key")
        .with("x-amz-checksum-crc32", "AAAAAA==")
        .with("x-amz-trailer", "x-amz-checksum-crc32");
    assert_eq!(two_checksums.refusal().0, Code::InvalidRequest);
}

#[test]
fn a_put_says_all_of_the_object() {
    let put = asking("PUT /bucket/a/b c")
        .with("x-amz-decoded-content-length", "1000")
        .with("x-amz-server-side-encryption", "aws:kms")
        .with("x-amz-server-side-encryption-bucket-key-enabled", "True")
        .with("x-amz-storage-class", "STANDARD_IA")
        .with("x-amz-tagging", "a=b")
        .with("Content-Encoding", "aws-chunked")
        .with("x-amz-meta-X", "y")
        .with("If-None-Match", "*")
        .with("x-amz-trailer", "x-amz-checksum-crc64nvme")
        .with("x-amz-sdk-checksum-algorithm", "CRC64NVME")
        .with("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    let Operation::PutObject(put) = put.operation() else { panic!() };
    assert_eq!((put.key.as_str(), put.length), ("a/b c", 1000));
    assert_eq!((put.encryption.algorithm, put.encryption.bucket_key), (Some(kmsfs_sse::Algorithm::AwsKms), Some(true)));
    assert_eq!((put.storage_class, put.tags.pairs().len()), (StorageClass::StandardIa, 1));
    assert_eq!((put.metadata.content_encoding, put.metadata.user["x"].as_str()), (None, "y"));
    assert_eq!(put.condition, Some(WriteCondition::Absent));
    assert!(matches!(put.checksum, Some(ExpectedChecksum::Trailer(_))));
    assert_eq!(put.content_md5.unwrap()[0], 0xd4);

    let put = asking("PUT /bucket/key").without("Content-Length");
    assert_eq!(put.refusal().0, Code::MissingContentLength);
    let large = asking("PUT /bucket/key").with("x-amz-decoded-content-length", "5368709121");
    assert_eq!(large.refusal().0, Code::EntityTooLarge);
    let key = asking("PUT /bucket/key").with("x-amz-server-side-encryption-aws-kms-key-id", "alias/x");
    let error = key.route().unwrap_err();
    assert_eq!(error.code(), &Code::InvalidArgument);
    assert!(error.message().starts_with("Server Side Encryption with AWS KMS managed key requires"));
}

#[test]
fn a_copy_is_no_put() {
    let copy = |source: &str| asking("PUT /bucket/key").with("x-amz-copy-source", source);
    let source = |text: &str| match copy(text).operation() {
        Operation::CopyObject(copy) => copy.source,
        other => panic!("{}", other.name()),
    };
    let CopySource { bucket, key, null_version } = source("/other/a%20b%2Bc+d/%C3%A4?versionId=null");
    assert_eq!((bucket.as_str(), key.as_str(), null_version), ("other", "a b+c d/ä", true));
    assert_eq!(source("other/k%3FversionId=x").key.as_str(), "k?versionId=x");
    for wrong in [
        "other",
        "/other/",
        "other/%zz",
        "other/%ff",
        "Other/k",
        "other/../k",
        "arn:aws:s3:::b/k",
        "other/k?versionId=3",
    ] {
        assert!(copy(wrong).route().is_err(), "{wrong}");
    }
    assert_eq!(copy("bucket/key").refusal().0, Code::InvalidRequest, "a copy onto itself that changes nothing");
    let replace = copy("bucket/key").with("x-amz-metadata-directive", "REPLACE").with("x-amz-meta-a", "b");
    let Operation::CopyObject(replace) = replace.operation() else { panic!() };
    assert_eq!(replace.metadata.unwrap().user["a"], "b");
    assert_eq!(copy("other/k").with("x-amz-metadata-directive", "MERGE").refusal().0, Code::InvalidArgument);
    let part = asking("PUT /bucket/key?uploadId=abc&partNumber=7").with("x-amz-copy-source", "b-b/k");
    let Operation::UploadPartCopy(part) = part.with("x-amz-copy-source-range", "bytes=0-4").operation() else {
        panic!()
    };
    assert_eq!((part.part_number, part.source_range), (7, Some((0, 4))));
}

#[test]
fn a_get_says_which_bytes_and_under_which_conditions() {
    let get = asking("GET /bucket/key?response-content-type=a/b&response-expires=x")
        .with("Range", "bytes=1-2")
        .with("If-Match", "\"t\"");
    let Operation::GetObject(get) = get.with("x-amz-checksum-mode", "ENABLED").operation() else { panic!() };
    assert_eq!(get.range.unwrap().to_string(), "bytes=1-2");
    assert!(get.conditions.if_match.is_some() && get.checksum_mode);
    assert_eq!(get.overrides.content_type.as_deref(), Some("a/b"));
    let mut anonymous = asking("GET /bucket/key?response-expires=x");
    anonymous.anonymous = true;
    assert_eq!(anonymous.refusal().0, Code::InvalidRequest);
    let mut split = asking("GET /bucket/key");
    split.query = vec![(b"response-content-type".to_vec(), b"a\r\nSet-Cookie: x".to_vec())];
    assert_eq!(split.refusal().0, Code::InvalidArgument);
    let both = asking("GET /bucket/key?partNumber=1").with("Range", "bytes=0-1");
    assert_eq!(both.refusal().0, Code::InvalidRequest);
    for wrong in ["partNumber=0", "partNumber=10001", "partNumber=x", "versionId=3/L4"] {
        assert_eq!(code(&format!("GET /bucket/key?{wrong}")), Code::InvalidArgument);
    }
    let attributes = asking("GET /bucket/key?attributes").with("x-amz-object-attributes", "ETag, ObjectSize");
    let Operation::GetObjectAttributes(attributes) = attributes.operation() else { panic!() };
    assert!(attributes.attributes.etag && attributes.attributes.object_size && !attributes.attributes.checksum);
    assert_eq!(code("GET /bucket/key?attributes"), Code::InvalidArgument);
}

#[test]
fn a_bucket_is_in_the_path_or_before_the_servers_name() {
    let at = |host: &str, path: &str| {
        let operation = asking(&format!("GET {path}")).without("Host").with("Host", host).operation_with("");
        let operation = operation.map_err(|error| error.code().clone())?;
        let name = operation.bucket().map_or_else(String::new, |bucket| bucket.as_str().to_owned());
        Ok::<_, Code>((name, operation.key().map_or_else(String::new, |key| key.as_str().to_owned())))
    };
    let is = |bucket: &str, key: &str| Ok((bucket.to_owned(), key.to_owned()));
    assert_eq!(at("bucket.s3.example:9000", "/a/b"), is("bucket", "a/b"));
    assert_eq!(at("a.b.S3.Example", "/key"), is("a.b", "key"), "of two names the longer one is the server's");
    assert_eq!(at("bucket.example", "/"), is("bucket", ""));
    assert_eq!(at("S3.example", "/bucket/key"), is("bucket", "key"), "the server's own name is not a bucket's");
    for host in ["127.0.0.1:9000", "[::1]:9000", "[::1]", "localhost", "other.org", "xs3.example.org", ""] {
        assert_eq!(at(host, "/bucket/key"), is("bucket", "key"), "{host}");
    }
    assert_eq!(at("Bucket.s3.example", "/key"), Err(Code::InvalidBucketName));
    assert_eq!(at(".s3.example", "/key"), Err(Code::InvalidBucketName));
    assert_eq!(at("../x.s3.example", "/key"), Err(Code::InvalidBucketName));
}

#[test]
fn names_that_are_none_are_refused() {
    for line in [
        "GET //",
        "GET //key",
        "GET /a/key",
        "GET /Bucket/key",
        "GET /../key",
        "GET /.kmsfs-uploads/x",
        "GET /192.168.0.1/x",
    ] {
        assert_eq!(code(line), Code::InvalidBucketName, "{line}");
    }
    for line in [
        "GET /bucket//key",
        "PUT /bucket/a/../b",
        "DELETE /bucket/.encryption.json",
        "GET /bucket//",
        "PUT /bucket/./a",
    ] {
        assert_eq!(code(line), Code::InvalidArgument, "{line}");
    }
    let mut long = String::from("GET /bucket/");
    for _ in 0..300 {
        let _ = write!(long, "abc/");
    }
    assert_eq!(code(&long), Code::KeyTooLongError);
    for path in [&b"/bucket/\xff"[..], b"bucket/key", b"", b"*", b"/\xc3\x28/k"] {
        let mut asking = asking("GET /");
        asking.path = path.to_vec();
        assert_eq!(asking.refusal().0, Code::InvalidURI);
    }
}

#[test]
fn a_location_is_the_servers_region() {
    let make = |region: &str, body: &str| match asking("PUT /bucket").route_in(region).unwrap() {
        Route::Document(document) => match document.read(body.as_bytes()) {
            Ok(Operation::CreateBucket(create)) => Ok(create.idempotent),
            Ok(other) => panic!("{}", other.name()),
            Err(error) => Err(error.code().clone()),
        },
        Route::Operation(operation) => panic!("{}", operation.name()),
    };
    let at = |place: &str| {
        format!(
            "<CreateBucketConfiguration><LocationConstraint>{place}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    assert_eq!(make("us-east-1", ""), Ok(true));
    assert_eq!(make("us-east-1", &at("")), Ok(true));
    assert_eq!(make("us-east-1", &at("us-east-1")), Err(Code::InvalidLocationConstraint));
    assert_eq!(make("us-east-1", &at("eu-west-1")), Err(Code::IllegalLocationConstraintException));
    assert_eq!(make("eu-west-1", &at("eu-west-1")), Ok(false));
    assert_eq!(make("eu-west-1", &at("EU")), Ok(false));
    assert_eq!(make("eu-west-1", ""), Err(Code::IllegalLocationConstraintException));
}

#[test]
fn documents_say_the_rest() {
    let delete = "<Delete><Object><Key>a</Key></Object></Delete>";
    assert_eq!(code("POST /bucket?delete"), Code::InvalidRequest, "without a digest");
    let with_md5 = asking("POST /bucket?delete").with("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(with_md5.operation_with(delete).unwrap().name(), "DeleteObjects");
    let sse = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms\
               </SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    assert_eq!(asking("PUT /bucket?encryption").operation_with(sse).unwrap().name(), "PutBucketEncryption");
    let rewrap = "<ObjectEncryption><SSE-KMS><KMSKeyArn>arn:aws:kms:r:1:key/k</KMSKeyArn></SSE-KMS></ObjectEncryption>";
    assert_eq!(asking("PUT /bucket/key?encryption").operation_with(rewrap).unwrap().name(), "UpdateObjectEncryption");
    let tags = "<Tagging><TagSet/></Tagging>";
    assert_eq!(asking("PUT /bucket?tagging").operation_with(tags).unwrap().name(), "PutBucketTagging");
    assert_eq!(asking("PUT /bucket/key?tagging").operation_with(tags).unwrap().name(), "PutObjectTagging");
    let parts =
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>";
    let complete = asking("POST /bucket/key?uploadId=abc").with("x-amz-checksum-crc32", "AAAAAA==-1");
    let Operation::CompleteMultipartUpload(complete) = complete.operation_with(parts).unwrap() else { panic!() };
    assert_eq!(complete.checksum.unwrap().parts, Some(1));
    let private = "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
    let error = asking("PUT /bucket?ownershipControls").operation_with(private).unwrap_err();
    assert_eq!(error.code(), &Code::NotImplemented);
    let enforced = private.replace("ObjectWriter", "BucketOwnerEnforced");
    assert_eq!(asking("PUT /bucket?ownershipControls").operation_with(&enforced).unwrap().name(), "PutBucketSetting");
}
