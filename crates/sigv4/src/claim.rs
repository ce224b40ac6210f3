//! What a request says of its own authentication, before anything of it is believed.

use crate::credential::{Credential, Form, signed_headers};
use crate::error::{Error, MAX_SKEW};
use crate::request::{Headers, Query};
use crate::timestamp::Timestamp;
use time::{Duration, OffsetDateTime};

/// The only algorithm: HMAC-SHA-256.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A presigned URL's parameter that is not part of what is signed.
pub(crate) const SIGNATURE: &str = "X-Amz-Signature";

pub(crate) struct Claim {
    pub(crate) form: Form,
    pub(crate) credential: Credential,
    /// In lower case and sorted.
    pub(crate) signed_headers: Vec<String>,
    /// As the request has it.
    pub(crate) signature: String,
    pub(crate) signed_at: Timestamp,
    /// For how many seconds a presigned URL is for.
    expires: Option<u32>,
}

impl Claim {
    /// # Errors
    /// [`Error::Anonymous`] if the request says nothing.
    pub(crate) fn read(headers: Headers<'_>, query: &Query) -> Result<Self, Error> {
        let authorization = headers.text("authorization")?;
        let presigned = ["X-Amz-Algorithm", "X-Amz-Credential", SIGNATURE].iter().any(|name| query.has(name));
        let version_two = query.has("AWSAccessKeyId") && query.has("Signature");
        match authorization {
            Some(authorization) if presigned || version_two => {
                Err(Error::TwoMechanisms { authorization: authorization.to_owned() })
            }
            Some(authorization) => Self::of_header(authorization, headers),
            None if presigned => Self::of_query(query),
            None if version_two => Err(Error::VersionTwo),
            None => Err(Error::Anonymous),
        }
    }

    /// `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, in any order, with or without spaces behind the
    /// commas (Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header").
    fn of_header(authorization: &str, headers: Headers<'_>) -> Result<Self, Error> {
        let whole = || authorization.to_owned();
        let (algorithm, rest) =
            authorization.split_once([' ', '\t']).ok_or_else(|| Error::NoSpace { authorization: whole() })?;
        match algorithm {
            ALGORITHM => {}
            "AWS" => return Err(Error::VersionTwo),
            _ => return Err(Error::UnsupportedType { authorization: whole() }),
        }
        let [mut credential, mut names, mut signature] = [None; 3];
        for component in rest.split(',').map(str::trim) {
            let malformed = || Form::Header.refuse_component(component);
            let (name, value) = component.split_once('=').ok_or_else(malformed)?;
            let place = match name.trim_end() {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut names,
                "Signature" => &mut signature,
                _ => return Err(malformed()),
            };
            if place.replace(value.trim_start()).is_some() {
                return Err(malformed());
            }
        }
        let missing = |name: &str| Form::Header.refuse(&format!("missing {name}."));
        let credential = Credential::parse(credential.ok_or_else(|| missing("Credential"))?, Form::Header)?;
        let signed_headers = signed_headers(names.ok_or_else(|| missing("SignedHeaders"))?, Form::Header)?;
        let signature = signature.ok_or_else(|| missing("Signature"))?.to_owned();
        let signed_at = match headers.text("x-amz-date")? {
            Some(date) => Timestamp::parse(date),
            None => headers.text("date")?.and_then(Timestamp::parse_date_header),
        };
        let signed_at = signed_at.ok_or(Error::NoDate)?;
        Ok(Self { form: Form::Header, credential, signed_headers, signature, signed_at, expires: None })
    }

    /// Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters".
    fn of_query(query: &Query) -> Result<Self, Error> {
        let one =
            |name| query.text(name)?.filter(|value| !value.is_empty()).ok_or_else(|| Form::Query.refuse(ALL_NEEDED));
        if one("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Form::Query.refuse(&format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"")));
        }
        let credential = Credential::parse(one("X-Amz-Credential")?, Form::Query)?;
        let signed_at = Timestamp::parse(one("X-Amz-Date")?).ok_or_else(|| {
            Form::Query.refuse("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let expires = seconds(one("X-Amz-Expires")?)?;
        let signed_headers = signed_headers(one("X-Amz-SignedHeaders")?, Form::Query)?;
        let signature = one(SIGNATURE)?.to_owned();
        Ok(Self { form: Form::Query, credential, signed_headers, signature, signed_at, expires: Some(expires) })
    }

    /// A header's signature is of these 15 minutes, before and after; a presigned URL's of as many seconds as it says.
    pub(crate) fn check_time(&self, now: OffsetDateTime) -> Result<(), Error> {
        let signed_at = self.signed_at.time();
        let Some(seconds) = self.expires else {
            let skewed = || Error::RequestTimeTooSkewed { request_time: self.signed_at.to_string(), server_time: now };
            return if (now - signed_at).abs() > MAX_SKEW { Err(skewed()) } else { Ok(()) };
        };
        if signed_at - now > MAX_SKEW {
            return Err(Error::NotYetValid);
        }
        // A signature of the last week of the last year that a date may have never expires, as long as dates have four
        // digits.
        match signed_at.checked_add(Duration::seconds(seconds.into())) {
            Some(expires) if now > expires => Err(Error::Expired { seconds, expires, server_time: now }),
            _ => Ok(()),
        }
    }
}

const ALL_NEEDED: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
    X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";

/// From 1 to a week's, in decimal digits.
fn seconds(text: &str) -> Result<u32, Error> {
    const WEEK: u32 = 604_800;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let what = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "X-Amz-Expires should be a number"
    } else if digits.len() < text.len() {
        "X-Amz-Expires must be non-negative"
    } else {
        match digits.parse() {
            Ok(seconds @ 1..=WEEK) => return Ok(seconds),
            // kmsfs's words: such a URL would be over when it is made.
            Ok(0) => "X-Amz-Expires must be at least 1 second",
            _ => {
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
                 604800 seconds"
            }
        }
    };
    Err(Form::Query.refuse(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_for_a_second_to_a_week() {
        assert_eq!((seconds("1"), seconds("604800"), seconds("086400")), (Ok(1), Ok(604_800), Ok(86_400)));
        for text in ["0", "604801", "-1", "", "-", "1s", "+1", " 1", "99999999999999999999"] {
            assert_eq!(seconds(text).unwrap_err().code(), "AuthorizationQueryParametersError", "{text}");
        }
    }
}
