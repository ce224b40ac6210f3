//! Signs what kmsfs itself asks of a service elsewhere, by the canonical form that [`verify`](crate::verify) has.

use crate::canonical;
use crate::claim::ALGORITHM;
use crate::credential::Credential;
use crate::error::Error;
use crate::key::{SecretAccessKey, SigningKey};
use crate::question;
use crate::request::{Headers, Query, Request};
use crate::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// An access key, and the service of one region that it signs requests to.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// Of whoever signs.
    pub access_key_id: &'a str,
    /// The other half of the access key.
    pub secret: &'a SecretAccessKey,
    /// Such as `eu-central-1`.
    pub region: &'a str,
    /// Such as `kms`; not S3, whose rules are others.
    pub service: &'a str,
}

impl Signer<'_> {
    /// The headers `X-Amz-Date` and `Authorization` to add to the request. All that it has are signed: Host must be
    /// among them, and neither of these two.
    ///
    /// # Errors
    /// [`Error::InvalidHeader`] and [`Error::InvalidUri`] where the request is no valid HTTP.
    pub fn sign(
        &self,
        request: &Request<'_>,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<[(&'static str, String); 2], Error> {
        let signed_at = Timestamp::at(now);
        let date = signed_at.to_string();
        let mut all = request.headers.to_vec();
        all.push((DATE.as_bytes(), date.as_bytes()));
        let headers = Headers::new(&all)?;
        let mut names: Vec<String> = headers.names().collect();
        names.sort();
        names.dedup();
        let path = canonical::path_of_others(request.path);
        let query = canonical::query(&Query::parse(request.query)?, None);
        let mut text = format!("{}\n{path}\n{query}\n", request.method).into_bytes();
        text.extend(canonical::headers(headers, &names));
        text.extend(format!("\n{}\n{}", names.join(";"), hex::encode(Sha256::digest(body))).into_bytes());
        let credential = Credential {
            access_key_id: self.access_key_id.to_owned(),
            date: signed_at.date(),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        };
        let string = question::string_to_sign(signed_at, &credential, &hex::encode(Sha256::digest(&text)));
        let key = SigningKey::derive(self.secret, &credential.date, &credential.region, &credential.service);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            credential.scope(),
            names.join(";"),
            key.sign(&string)
        );
        Ok([(DATE, date), ("Authorization", authorization)])
    }
}

const DATE: &str = "X-Amz-Date";
