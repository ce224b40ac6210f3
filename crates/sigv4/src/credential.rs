//! Who signed, and for what: `Credential` and `SignedHeaders`, which a header and a presigned URL have alike.

use crate::error::Error;
use crate::key::TERMINAL;
use crate::timestamp::{self, Timestamp};

/// An access key, and the scope that its signing key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The access key id, as the request names it: nothing is known of it until the signature has been verified.
    pub access_key_id: String,
    /// The day, as `20130524`.
    pub date: String,
    /// The region; the server's.
    pub region: String,
    /// The service; the server's.
    pub service: String,
}

impl Credential {
    /// `DATE/REGION/SERVICE/aws4_request`, as it is signed.
    pub fn scope(&self) -> String {
        format!("{}/{}/{}/{TERMINAL}", self.date, self.region, self.service)
    }

    /// From `ACCESS-KEY/DATE/REGION/SERVICE/aws4_request`.
    pub(crate) fn parse(text: &str, form: Form) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let [access_key_id, date, region, service, terminal] = parts[..] else {
            return Err(form.refuse_credential(
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ));
        };
        if terminal != TERMINAL {
            let what = format!("incorrect terminal \"{terminal}\". This endpoint uses \"{TERMINAL}\".");
            return Err(form.refuse_credential(&what));
        }
        if access_key_id.is_empty() || !timestamp::is_scope_date(date) {
            let what = format!(
                "incorrect date format \"{date}\". This date in the credential must be in the format \"yyyyMMdd\"."
            );
            return Err(form.refuse_credential(&what));
        }
        let [access_key_id, date, region, service] = [access_key_id, date, region, service].map(str::to_owned);
        Ok(Self { access_key_id, date, region, service })
    }

    /// The scope must be that of the server and of the time of signing.
    pub(crate) fn check(&self, region: &str, service: &str, signed_at: Timestamp, form: Form) -> Result<(), Error> {
        if self.service != service {
            let what = format!("incorrect service \"{}\". This endpoint belongs to \"{service}\".", self.service);
            return Err(form.refuse_credential(&what));
        }
        if self.region != region {
            return Err(form.refuse_region(&self.region, region));
        }
        let day = signed_at.date();
        if self.date != day {
            let what = format!(
                "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{day}\".",
                self.date
            );
            return Err(form.refuse(&what));
        }
        Ok(())
    }
}

/// The names of signed headers, from `host;x-amz-date`: in lower case and each once, as clients have to write them; the
/// order is that of the canonical request, whatever theirs is.
pub(crate) fn signed_headers(text: &str, form: Form) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = text.split(';').map(str::to_owned).collect();
    names.sort();
    let named = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let lower = names.iter().all(|name| named(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
    if lower && names.windows(2).all(|pair| pair[0] != pair[1]) {
        Ok(names)
    } else {
        Err(form.refuse_component(&format!("SignedHeaders={text}")))
    }
}

/// Where authentication is written, which decides how its mistakes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The Authorization header.
    Header,
    /// A presigned URL.
    Query,
}

impl Form {
    pub(crate) fn refuse(self, what: &str) -> Error {
        match self {
            Self::Header => Error::HeaderMalformed { what: what.to_owned(), region: None },
            Self::Query => Error::QueryMalformed { what: what.to_owned(), region: None },
        }
    }

    pub(crate) fn refuse_component(self, component: &str) -> Error {
        self.refuse(&format!("the authorization component \"{component}\" is malformed."))
    }

    fn refuse_credential(self, what: &str) -> Error {
        match self {
            Self::Header => self.refuse(what),
            Self::Query => self.refuse(&format!("{OF_CREDENTIAL}{what}")),
        }
    }

    fn refuse_region(self, signed: &str, expected: &str) -> Error {
        let what = format!("the region '{signed}' is wrong; expecting '{expected}'");
        let region = Some(expected.to_owned());
        match self {
            Self::Header => Error::HeaderMalformed { what, region },
            Self::Query => Error::QueryMalformed { what: format!("{OF_CREDENTIAL}{what}"), region },
        }
    }
}

const OF_CREDENTIAL: &str = "Error parsing the X-Amz-Credential parameter; ";
