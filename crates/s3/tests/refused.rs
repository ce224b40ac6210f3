//! Operations of S3 that are not done here: each is refused as such, whatever comes with it.

use kmsfs_s3::{Code, Endpoint, Request, Route, route};

/// All of the S3 API Reference that docs/S3_OPERATIONS.md does not have, with the request that each is.
const NOT_DONE: &[(&str, &str, &str, &str)] = &[
    ("CreateBucketMetadataConfiguration", "POST", "/bucket", "metadataConfiguration"),
    ("CreateBucketMetadataTableConfiguration", "POST", "/bucket", "metadataTable"),
    ("CreateSession", "GET", "/bucket", "session"),
    ("DeleteBucketAnalyticsConfiguration", "DELETE", "/bucket", "analytics&id=x"),
    ("DeleteBucketCors", "DELETE", "/bucket", "cors"),
    ("DeleteBucketIntelligentTieringConfiguration", "DELETE", "/bucket", "intelligent-tiering&id=x"),
    ("DeleteBucketInventoryConfiguration", "DELETE", "/bucket", "inventory&id=x"),
    ("DeleteBucketLifecycle", "DELETE", "/bucket", "lifecycle"),
    ("DeleteBucketMetadataConfiguration", "DELETE", "/bucket", "metadataConfiguration"),
    ("DeleteBucketMetadataTableConfiguration", "DELETE", "/bucket", "metadataTable"),
    ("DeleteBucketMetricsConfiguration", "DELETE", "/bucket", "metrics&id=x"),
    ("DeleteBucketOwnershipControls", "DELETE", "/bucket", "ownershipControls"),
    ("DeleteBucketPolicy", "DELETE", "/bucket", "policy"),
    ("DeleteBucketReplication", "DELETE", "/bucket", "replication"),
    ("DeleteBucketWebsite", "DELETE", "/bucket", "website"),
    ("DeletePublicAccessBlock", "DELETE", "/bucket", "publicAccessBlock"),
    ("GetBucketMetadataConfiguration", "GET", "/bucket", "metadataConfiguration"),
    ("GetBucketMetadataTableConfiguration", "GET", "/bucket", "metadataTable"),
    ("GetObjectLegalHold", "GET", "/bucket/key", "legal-hold"),
    ("GetObjectRetention", "GET", "/bucket/key", "retention"),
    ("GetObjectTorrent", "GET", "/bucket/key", "torrent"),
    ("PostObject", "POST", "/bucket", ""),
    ("PutBucketAbac", "PUT", "/bucket", "abac"),
    ("PutBucketAccelerateConfiguration", "PUT", "/bucket", "accelerate"),
    ("PutBucketAcl", "PUT", "/bucket", "acl"),
    ("PutBucketAnalyticsConfiguration", "PUT", "/bucket", "analytics&id=x"),
    ("PutBucketCors", "PUT", "/bucket", "cors"),
    ("PutBucketIntelligentTieringConfiguration", "PUT", "/bucket", "intelligent-tiering&id=x"),
    ("PutBucketInventoryConfiguration", "PUT", "/bucket", "inventory&id=x"),
    ("PutBucketLifecycleConfiguration", "PUT", "/bucket", "lifecycle"),
    ("PutBucketLogging", "PUT", "/bucket", "logging"),
    ("PutBucketMetricsConfiguration", "PUT", "/bucket", "metrics&id=x"),
    ("PutBucketNotificationConfiguration", "PUT", "/bucket", "notification"),
    ("PutBucketPolicy", "PUT", "/bucket", "policy"),
    ("PutBucketReplication", "PUT", "/bucket", "replication"),
    ("PutBucketRequestPayment", "PUT", "/bucket", "requestPayment"),
    ("PutBucketVersioning", "PUT", "/bucket", "versioning"),
    ("PutBucketWebsite", "PUT", "/bucket", "website"),
    ("PutObjectAcl", "PUT", "/bucket/key", "acl"),
    ("PutObjectLegalHold", "PUT", "/bucket/key", "legal-hold"),
    ("PutObjectLockConfiguration", "PUT", "/bucket", "object-lock"),
    ("PutObjectRetention", "PUT", "/bucket/key", "retention"),
    ("RenameObject", "PUT", "/bucket/key", "renameObject"),
    ("RestoreObject", "POST", "/bucket/key", "restore"),
    ("SelectObjectContent", "POST", "/bucket/key", "select&select-type=2"),
    ("UpdateBucketMetadataInventoryTableConfiguration", "PUT", "/bucket", "metadataInventoryTable"),
    ("UpdateBucketMetadataJournalTableConfiguration", "PUT", "/bucket", "metadataJournalTable"),
];

/// Sub-resources that S3 does not have, or has on something else.
const UNKNOWN: &[(&str, &str)] = &[
    ("/", "acl"),
    ("/", "tagging"),
    ("/", "new-feature"),
    ("/bucket", "new-feature"),
    ("/bucket", "torrent"),
    ("/bucket", "restore"),
    ("/bucket", "uploadId=x"),
    ("/bucket", "partNumber=1"),
    ("/bucket/key", "new-feature"),
    ("/bucket/key", "accelerate"),
    ("/bucket/key", "lifecycle"),
    ("/bucket/key", "policy"),
    ("/bucket/key", "versions"),
    ("/bucket/key", "list-type=2"),
    ("/bucket/key", "versioning"),
];

/// The code of the refusal.
fn refused(method: &str, path: &str, query: &str) -> Option<Code> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query: Vec<_> = pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    let headers = [(&b"Host"[..], &b"s3.example"[..]), (b"Content-Length", b"3")];
    let request = Request { method, path: path.as_bytes(), query: &query, headers: &headers, anonymous: false };
    let endpoint = Endpoint { names: vec!["s3.example".into()], region: "r".into(), account_id: "0".repeat(12) };
    match route(&request, &endpoint) {
        Ok(Route::Operation(_) | Route::Document(_)) => None,
        Err(error) => Some(error.code().clone()),
    }
}

#[test]
fn each_operation_that_is_not_done_is_refused_as_such() {
    for (name, method, path, query) in NOT_DONE {
        for query in [(*query).to_owned(), format!("{query}&x-id={name}"), format!("x-id=PutObject&{query}")] {
            assert_eq!(refused(method, path, &query), Some(Code::NotImplemented), "{name}: {method} {path}?{query}");
        }
    }
}

#[test]
fn a_sub_resource_that_nobody_knows_is_no_request_without_it() {
    for (path, query) in UNKNOWN {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            let without = refused(method, path, "");
            let with = refused(method, path, query);
            // Where there is no such request at all, that is said.
            let expected = if without == Some(Code::MethodNotAllowed) { without } else { Some(Code::NotImplemented) };
            assert_eq!(with, expected, "{method} {path}?{query}");
        }
    }
}
