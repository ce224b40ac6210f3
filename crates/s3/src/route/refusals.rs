//! Parameters and headers that an operation does not know.

use super::table::Row;
use crate::error::{Code, Error};
use crate::request::{Endpoint, Headers, Query};

/// Headers of AWS that any request may have, and that change nothing or are looked at elsewhere.
const ANYWHERE: &[&str] = &[
    // Of the signature and of the body's form: the verifier has looked at them.
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    // Who is the client's program.
    "x-amz-user-agent",
    "x-amz-id-2",
    "x-amz-request-id",
    // Nobody is charged.
    "x-amz-request-payer",
    // Looked at below.
    "x-amz-expected-bucket-owner",
    "x-amz-source-expected-bucket-owner",
];

/// Parameters that begin with `x-` S3 leaves to clients, for the access log ("Amazon S3 server access log format",
/// "Custom access log information"); SDKs say with `x-id` which operation they mean. Those that begin with `x-amz-` are
/// of the signature, which the verifier has looked at, or are headers and among them.
fn is_anywhere(parameter: &[u8]) -> bool {
    parameter.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-"))
}

/// Refuses what the row does not name.
pub(super) fn check(row: &Row, query: Query<'_>, headers: Headers<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    for (name, _) in query.0 {
        let known = |known: &&str| !name.is_empty() && known.as_bytes() == name.as_slice();
        let mut parameters = row.parameters.iter().copied().flatten();
        if !is_anywhere(name) && !known(&row.sub_resource) && !parameters.any(known) {
            return Err(Error::new(Code::NotImplemented)
                .saying("A parameter you provided implies functionality that is not implemented")
                .with("Parameter", String::from_utf8_lossy(name)));
        }
    }
    for name in headers.of_amazon() {
        let known = |known: &&str| known.strip_suffix('*').map_or(*known == name, |start| name.starts_with(start));
        if !ANYWHERE.iter().any(known) && !row.headers.iter().any(|group| group.iter().any(known)) {
            return Err(unknown(row, &name, headers));
        }
    }
    check_acl(row, headers)?;
    for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
        match headers.get(name)? {
            Some(account) if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) => {
                let message = format!(
                    "The value of the expected bucket owner parameter must be an AWS Account ID... [{account}]"
                );
                return Err(Error::argument(message, name, account));
            }
            Some(account) if account != endpoint.account_id => return Err(Code::AccessDenied.into()),
            _ => {}
        }
    }
    Ok(())
}

/// What a new bucket answers to a header that this operation has on S3; for all others that it is not implemented.
fn unknown(row: &Row, name: &str, headers: Headers<'_>) -> Error {
    let value = headers.get(name).ok().flatten().unwrap_or_default();
    if name.starts_with("x-amz-server-side-encryption-customer-") || name.starts_with("x-amz-copy-source-server-side-")
    {
        return match row.method {
            // A bucket made since April 2026 blocks SSE-C (Amazon S3 User Guide, "Blocking or unblocking SSE-C").
            "PUT" | "POST" => Code::AccessDenied.into(),
            _ => {
                Error::new(Code::InvalidRequest).saying("The encryption parameters are not applicable to this object.")
            }
        };
    }
    if name.starts_with("x-amz-server-side-encryption") {
        return Error::argument(format!("{name} header is not supported for this operation."), name, value);
    }
    if name.starts_with("x-amz-grant-") {
        return Code::AccessControlListNotSupported.into();
    }
    if name.starts_with("x-amz-object-lock-") {
        return Error::new(Code::InvalidRequest).saying("Bucket is missing Object Lock Configuration");
    }
    Error::header_not_implemented(name)
}

/// A new bucket has no ACLs (`BucketOwnerEnforced`): it takes those that say so, and refuses all others (Amazon S3 User
/// Guide, "Controlling ownership of objects and disabling ACLs for your bucket").
fn check_acl(row: &Row, headers: Headers<'_>) -> Result<(), Error> {
    match headers.get("x-amz-acl")? {
        None | Some("private") => Ok(()),
        Some("bucket-owner-full-control" | "bucket-owner-read") if row.name != "CreateBucket" => Ok(()),
        Some(
            "public-read"
            | "public-read-write"
            | "authenticated-read"
            | "aws-exec-read"
            | "log-delivery-write"
            | "bucket-owner-read"
            | "bucket-owner-full-control",
        ) => match row.name {
            "CreateBucket" => Err(Code::InvalidBucketAclWithObjectOwnership.into()),
            _ => Err(Code::AccessControlListNotSupported.into()),
        },
        Some(other) => Err(Error::argument("", "x-amz-acl", other)),
    }
}
