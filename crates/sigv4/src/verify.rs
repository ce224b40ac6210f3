//! The verification of a request's line and headers.

use crate::body::{Body, Chain, Framing};
use crate::canonical::{self, Escapes};
use crate::claim::{Claim, SIGNATURE};
use crate::credential::{Credential, Form};
use crate::error::{Error, Mismatch};
use crate::key::{Signature, SigningKey};
use crate::payload::{self, Payload};
use crate::question::{self, Finding, Question};
use crate::request::{Headers, Query, Request};
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// The server that a request has come to.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The only region that is accepted, such as `us-east-1`.
    pub region: &'a str,
    /// The service, and what its requests are canonicalized by.
    pub service: Service<'a>,
    /// The time now.
    pub now: OffsetDateTime,
}

/// What a request is for. The rules of S3 differ from those of all other services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service<'a> {
    /// Paths are keys, encoded once and not normalized; the body is described by `x-amz-content-sha256`.
    S3,
    /// Paths are normalized and encoded twice; the body has been read before, and its hash is what has to be signed.
    Other {
        /// Such as `kms`.
        name: &'a str,
        /// SHA-256 of the whole body.
        body_sha256: [u8; 32],
    },
}

impl Service<'_> {
    fn name(&self) -> &str {
        match self {
            Self::S3 => "s3",
            Self::Other { name, .. } => name,
        }
    }
}

/// A request whose signature is right.
///
/// Its path and parameters are those that were verified, decoded once: whoever acts on a request takes them from here,
/// and not from a second reading by other rules.
#[derive(Debug)]
pub struct Verified {
    credential: Credential,
    presigned: bool,
    path: Vec<u8>,
    query: Vec<(Vec<u8>, Vec<u8>)>,
    payload: Payload,
    body: Body,
}

impl Verified {
    /// Who signed it, and for what.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether the signature was in the query.
    pub fn is_presigned(&self) -> bool {
        self.presigned
    }

    /// The path, without escapes.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The parameters in the order of their coming, without escapes; those of the authentication are among them.
    pub fn query(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.query
    }

    /// How the body is covered by the signature.
    pub fn payload(&self) -> Payload {
        self.payload
    }

    /// Bytes of the object, where the body comes in chunks: its `x-amz-decoded-content-length`, which it will have.
    pub fn decoded_length(&self) -> Option<u64> {
        self.body.decoded_length()
    }

    /// What the body is read through.
    pub fn into_body(self) -> Body {
        self.body
    }
}

/// Verifies a request's signature, and all that must be signed with it.
///
/// `key_of` gives the signing key for the access key, date, region and service that the request names; it is called at
/// most once, after all that can be checked without a key, and knows nothing yet of who has sent the request. Where the
/// keys are in another process, [`prepare`] and [`Prepared::complete`] are this in two steps.
pub fn verify(
    request: &Request<'_>,
    endpoint: &Endpoint<'_>,
    key_of: impl FnOnce(&Credential) -> Option<SigningKey>,
) -> Result<Verified, Error> {
    let prepared = prepare(request, endpoint)?;
    let key = key_of(&prepared.question.credential);
    let finding = prepared.question.examine(key);
    prepared.complete(finding)
}

/// Checks all that can be checked of a request without a key. What is left is the signature itself:
/// [`Prepared::question`].
pub fn prepare(request: &Request<'_>, endpoint: &Endpoint<'_>) -> Result<Prepared, Error> {
    let headers = Headers::new(request.headers)?;
    if !request.method.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::InvalidHeader);
    }
    let query = Query::parse(request.query)?;
    let claim = Claim::read(headers, &query)?;
    refuse_token(headers, &query)?;
    claim.credential.check(endpoint.region, endpoint.service.name(), claim.signed_at, claim.form)?;
    claim.check_time(endpoint.now)?;
    let (payload, payload_text) = payload_of(endpoint.service, claim.form, headers, &query)?;
    check_signed_headers(headers, &claim.signed_headers)?;
    let path = canonical::decoded(request.path, Escapes::Percent).ok_or(Error::InvalidUri)?;

    let canonical_path = match endpoint.service {
        Service::S3 => canonical::path_of_s3(&path),
        Service::Other { .. } => canonical::path_of_others(request.path),
    };
    let left_out = (claim.form == Form::Query).then_some(SIGNATURE);
    let mut canonical =
        format!("{}\n{canonical_path}\n{}\n", request.method, canonical::query(&query, left_out)).into_bytes();
    canonical.extend(canonical::headers(headers, &claim.signed_headers));
    canonical.extend(format!("\n{}\n{payload_text}", claim.signed_headers.join(";")).into_bytes());
    let string_to_sign =
        question::string_to_sign(claim.signed_at, &claim.credential, &hex::encode(Sha256::digest(&canonical)));
    let framing = match endpoint.service {
        Service::S3 => Framing::read(payload, headers),
        Service::Other { .. } => Ok(Framing::Whole(payload)),
    };
    let question = Question {
        credential: claim.credential,
        string_to_sign,
        signature: claim.signature,
        canonical_request: payload.has_signed_chunks().then(|| canonical.clone()),
    };
    let presigned = claim.form == Form::Query;
    Ok(Prepared { question, canonical, signed_at: claim.signed_at, presigned, path, query: query.0, payload, framing })
}

/// A request of which only the signature is not verified yet. Nothing of it is to be believed.
#[derive(Debug)]
pub struct Prepared {
    question: Question,
    /// The canonical request.
    canonical: Vec<u8>,
    signed_at: Timestamp,
    presigned: bool,
    path: Vec<u8>,
    query: Vec<(Vec<u8>, Vec<u8>)>,
    payload: Payload,
    /// Told only to whoever signed the request.
    framing: Result<Framing, Error>,
}

impl Prepared {
    /// What has to be found out by whoever has the keys.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The request, if the signature was found to be right.
    pub fn complete(self, finding: Finding) -> Result<Verified, Error> {
        let Self { question, canonical, signed_at, presigned, path, query, payload, framing } = self;
        let key = match finding {
            Finding::NoSuchKey => {
                return Err(Error::InvalidAccessKeyId { access_key_id: question.credential.access_key_id });
            }
            Finding::Right(None) if question.canonical_request.is_some() => None,
            Finding::Right(key) => Some(key),
            Finding::Wrong => None,
        };
        let signature = Signature::parse(question.signature.as_bytes());
        let (Some(key), Some(signature)) = (key, signature) else {
            return Err(Error::SignatureDoesNotMatch(Box::new(Mismatch {
                access_key_id: question.credential.access_key_id,
                string_to_sign: question.string_to_sign,
                signature_provided: question.signature,
                canonical_request: Some(String::from_utf8_lossy(&canonical).into_owned()),
            })));
        };
        let (credential, signs_chunks) = (question.credential, question.canonical_request.is_some());
        let chain = key.filter(|_| signs_chunks).map(|key| Chain::new(key, signature, signed_at, credential.clone()));
        let body = Body::new(framing?, chain);
        Ok(Verified { credential, presigned, path, query, payload, body })
    }
}

/// Session tokens are of AWS STS; an access key of kmsfs has none, so that a request with one is of somebody who takes
/// this for AWS.
fn refuse_token(headers: Headers<'_>, query: &Query) -> Result<(), Error> {
    let of_header = headers.text("x-amz-security-token")?;
    match of_header.map_or_else(|| query.text("X-Amz-Security-Token"), |token| Ok(Some(token)))? {
        Some(token) => Err(Error::InvalidToken { token: token.to_owned() }),
        None => Ok(()),
    }
}

/// What is said of the body, and the text that stands for it in the canonical request.
fn payload_of(
    service: Service<'_>,
    form: Form,
    headers: Headers<'_>,
    query: &Query,
) -> Result<(Payload, String), Error> {
    if let Service::Other { body_sha256, .. } = service {
        return Ok((Payload::Sha256(body_sha256), hex::encode(body_sha256)));
    }
    let of_header = headers.text("x-amz-content-sha256")?;
    let text = match form {
        Form::Header => of_header.ok_or(Error::NoContentSha256)?,
        Form::Query => match (query.text("X-Amz-Content-Sha256")?, of_header) {
            (Some(of_query), Some(of_header)) if of_query != of_header => {
                return Err(Error::Repeated { name: "x-amz-content-sha256" });
            }
            (of_query, of_header) => of_query.or(of_header).unwrap_or(payload::UNSIGNED),
        },
    };
    Ok((Payload::parse(text)?, text.to_owned()))
}

/// Host, and all that AWS gives a meaning to, must be signed: otherwise somebody who has a signed request in hand could
/// add to what it does (Amazon S3 API Reference, "Signature Calculations for the Authorization Header",
/// `CanonicalHeaders`). `x-amz-content-sha256` need not be among the signed headers, since its value is the canonical
/// request's last line.
fn check_signed_headers(headers: Headers<'_>, signed: &[String]) -> Result<(), Error> {
    let must_be = |name: &String| name == "host" || name.starts_with("x-amz-") && name != "x-amz-content-sha256";
    let is_not = |name: &String| signed.binary_search(name).is_err();
    let mut names: Vec<String> = headers.names().filter(|name| must_be(name) && is_not(name)).collect();
    if headers.one("host")?.is_none() || is_not(&"host".to_owned()) {
        names.push("host".to_owned());
    }
    names.sort();
    names.dedup();
    if names.is_empty() { Ok(()) } else { Err(Error::HeadersNotSigned { names }) }
}
