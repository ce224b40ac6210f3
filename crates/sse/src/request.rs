//! What a request asks for, in S3's headers, and which encryption follows from it.

use super::json::present;
use super::{Algorithm, Encryption, RequestError, arn};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_kms::EncryptionContext;
use serde::{Deserialize, Serialize};

/// Header of the algorithm.
pub const ALGORITHM: &str = "x-amz-server-side-encryption";
/// Header of the KMS key: key id, key ARN, alias or alias ARN.
pub const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
/// Header of the encryption context, Base64 of JSON.
pub const CONTEXT: &str = "x-amz-server-side-encryption-context";
/// Header of the bucket key, `true` or `false`.
pub const BUCKET_KEY_ENABLED: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// The encryption headers of a request, each well-formed and each optional. As JSON (of `kmsfs put`), the fields have
/// the names that the AWS SDKs give them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RequestJson", into = "RequestJson")]
pub struct Request {
    /// AES256, aws:kms or aws:kms:dsse.
    pub algorithm: Option<Algorithm>,
    /// Key id, key ARN, alias or alias ARN; without it aws:kms means aws/s3.
    pub key_id: Option<String>,
    /// The request's own pairs; S3 adds `aws:s3:arn`, so that a request cannot.
    pub context: Option<EncryptionContext>,
    /// Whether a bucket key wraps the data key.
    pub bucket_key: Option<bool>,
}

impl Request {
    /// Takes one header, by its name in lower case, over whatever was there before.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        match name {
            ALGORITHM => self.algorithm = Some(parse_algorithm(value)?),
            KEY_ID => self.key_id = Some(parse_key_id(value)?),
            CONTEXT => self.context = Some(parse_context(value)?),
            BUCKET_KEY_ENABLED => self.bucket_key = Some(parse_bool(value)?),
            _ => {
                return Err(RequestError::invalid_argument(format!(
                    "{name} is not a header of server-side encryption"
                )));
            }
        }
        Ok(())
    }

    /// Whether it has no header at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses headers that do not go together, whatever the configuration says.
    pub fn check(&self) -> Result<(), RequestError> {
        match self.algorithm {
            None if self.key_id.is_some() || self.context.is_some() => Err(needs_kms()),
            Some(Algorithm::Aes256) => refuse_kms_headers(self),
            Some(Algorithm::AwsKmsDsse) if self.bucket_key == Some(true) => {
                Err(RequestError::invalid_argument("S3 Bucket Keys are not supported for aws:kms:dsse"))
            }
            None | Some(Algorithm::AwsKms | Algorithm::AwsKmsDsse) => Ok(()),
        }
    }
}

/// The encryption of a new object: what the request says, else what the nearest configuration says, else AES256.
pub fn resolve(request: Option<&Request>, configuration: Option<&Encryption>) -> Result<Encryption, RequestError> {
    let absent = Request::default();
    let request = request.unwrap_or(&absent);
    request.check()?;
    let Some(algorithm) = request.algorithm else {
        return resolve_by_default(request, configuration);
    };
    let inherited = configuration.is_some_and(|c| c.bucket_key);
    let bucket_key = match algorithm {
        Algorithm::Aes256 | Algorithm::AwsKmsDsse => false,
        // No key id is aws/s3, whatever key the configuration names; but the bucket key is inherited.
        Algorithm::AwsKms => request.bucket_key.unwrap_or(inherited),
    };
    Ok(Encryption {
        algorithm,
        key_id: request.key_id.clone(),
        bucket_key,
        context: request.context.clone().unwrap_or_default(),
    })
}

/// A request that names no algorithm can only say whether the configuration's KMS key is used through a bucket key.
fn resolve_by_default(request: &Request, configuration: Option<&Encryption>) -> Result<Encryption, RequestError> {
    let mut encryption = configuration.cloned().unwrap_or(Encryption {
        algorithm: Algorithm::Aes256,
        key_id: None,
        bucket_key: false,
        context: EncryptionContext::new(),
    });
    if encryption.algorithm == Algorithm::AwsKms {
        encryption.bucket_key = request.bucket_key.unwrap_or(encryption.bucket_key);
    } else {
        refuse_kms_headers(request)?;
        encryption.bucket_key = false;
    }
    Ok(encryption)
}

fn refuse_kms_headers(request: &Request) -> Result<(), RequestError> {
    let asks = request.key_id.is_some() || request.context.is_some() || request.bucket_key == Some(true);
    if asks { Err(needs_kms()) } else { Ok(()) }
}

/// S3's message for a KMS header without the algorithm.
fn needs_kms() -> RequestError {
    RequestError::invalid_argument(
        "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
    )
}

fn parse_algorithm(value: &str) -> Result<Algorithm, RequestError> {
    Algorithm::parse(value).ok_or_else(|| {
        RequestError::invalid_argument(format!(
            "The encryption method specified is not supported: {value:?}, expected AES256, aws:kms or aws:kms:dsse"
        ))
    })
}

fn parse_key_id(value: &str) -> Result<String, RequestError> {
    if value.is_empty() {
        return Err(RequestError::invalid_argument(format!(
            "{KEY_ID} is empty: name a key, or leave it out for aws/s3"
        )));
    }
    Ok(value.to_owned())
}

fn parse_bool(value: &str) -> Result<bool, RequestError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(RequestError::invalid_argument(format!("{BUCKET_KEY_ENABLED} is {value:?}, expected true or false"))),
    }
}

fn parse_context(value: &str) -> Result<EncryptionContext, RequestError> {
    let pairs: EncryptionContext =
        STANDARD.decode(value).ok().and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(|| {
            RequestError::invalid_argument(format!(
                "The header '{CONTEXT}' shall be Base64-encoded UTF-8 string holding JSON which represents a \
                 string-string map"
            ))
        })?;
    check_context(&pairs)?;
    Ok(pairs)
}

/// A request's own pairs do not hold the one that is added to them.
pub(super) fn check_context(pairs: &EncryptionContext) -> Result<(), RequestError> {
    if pairs.contains_key(arn::CONTEXT_KEY) {
        return Err(RequestError::invalid_argument(format!(
            "The header '{CONTEXT}' shall not hold '{}', which is added to every encryption context",
            arn::CONTEXT_KEY
        )));
    }
    Ok(())
}

/// The request as `kmsfs put` hands it over; the context is in the header's form, as for the AWS CLI.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestJson {
    #[serde(
        rename = "ServerSideEncryption",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    algorithm: Option<String>,
    #[serde(rename = "SSEKMSKeyId", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(
        rename = "SSEKMSEncryptionContext",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    context: Option<String>,
    #[serde(
        rename = "BucketKeyEnabled",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    bucket_key: Option<bool>,
}

impl TryFrom<RequestJson> for Request {
    type Error = RequestError;

    fn try_from(json: RequestJson) -> Result<Self, RequestError> {
        Ok(Self {
            algorithm: json.algorithm.as_deref().map(parse_algorithm).transpose()?,
            key_id: json.key_id.as_deref().map(parse_key_id).transpose()?,
            context: json.context.as_deref().map(parse_context).transpose()?,
            bucket_key: json.bucket_key,
        })
    }
}

impl From<Request> for RequestJson {
    fn from(request: Request) -> Self {
        Self {
            algorithm: request.algorithm.map(|a| a.as_str().to_owned()),
            key_id: request.key_id,
            context: request.context.map(|pairs| STANDARD.encode(serde_json::json!(pairs).to_string())),
            bucket_key: request.bucket_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (name, value) in headers {
            request.set_header(name, value).unwrap();
        }
        request
    }

    fn message(error: RequestError) -> String {
        match error {
            RequestError::Invalid { code: "InvalidArgument", message } => message,
            other => panic!("{other:?}"),
        }
    }

    fn configuration(algorithm: Algorithm, key_id: Option<&str>, bucket_key: bool) -> Encryption {
        Encryption { algorithm, key_id: key_id.map(str::to_owned), bucket_key, context: EncryptionContext::new() }
    }

    const NEEDS_KMS: &str =
        "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";

    #[test]
    fn nothing_said_anywhere_is_aes256() {
        let plain = configuration(Algorithm::Aes256, None, false);
        assert_eq!(resolve(None, None).unwrap(), plain);
        assert_eq!(resolve(Some(&Request::default()), None).unwrap(), plain);
    }

    #[test]
    fn the_configuration_holds_where_the_request_says_nothing() {
        let kms = configuration(Algorithm::AwsKms, Some("alias/x"), true);
        assert_eq!(resolve(None, Some(&kms)).unwrap(), kms);
        let aes256 = configuration(Algorithm::Aes256, None, true);
        assert!(!resolve(None, Some(&aes256)).unwrap().bucket_key, "AES256 has no bucket key");
    }

    #[test]
    fn the_request_wins_over_the_configuration() {
        let kms = configuration(Algorithm::AwsKms, Some("alias/x"), true);
        let aes256 = resolve(Some(&request(&[(ALGORITHM, "AES256")])), Some(&kms)).unwrap();
        assert_eq!(aes256, configuration(Algorithm::Aes256, None, false));
        let other = resolve(Some(&request(&[(ALGORITHM, "aws:kms"), (KEY_ID, "alias/y")])), Some(&kms)).unwrap();
        assert_eq!(other, configuration(Algorithm::AwsKms, Some("alias/y"), true));
    }

    #[test]
    fn aws_kms_without_a_key_is_aws_s3_even_where_the_default_names_another() {
        let kms = configuration(Algorithm::AwsKms, Some("alias/x"), false);
        let resolved = resolve(Some(&request(&[(ALGORITHM, "aws:kms")])), Some(&kms)).unwrap();
        assert_eq!(resolved, configuration(Algorithm::AwsKms, None, false));
    }

    #[test]
    fn the_bucket_key_is_inherited_unless_the_request_says_otherwise() {
        let aes256 = configuration(Algorithm::Aes256, None, true);
        assert!(resolve(Some(&request(&[(ALGORITHM, "aws:kms")])), Some(&aes256)).unwrap().bucket_key);
        let off = request(&[(ALGORITHM, "aws:kms"), (BUCKET_KEY_ENABLED, "false")]);
        assert!(!resolve(Some(&off), Some(&aes256)).unwrap().bucket_key);
        let kms = configuration(Algorithm::AwsKms, Some("alias/x"), false);
        let on = resolve(Some(&request(&[(BUCKET_KEY_ENABLED, "true")])), Some(&kms)).unwrap();
        assert_eq!(on, configuration(Algorithm::AwsKms, Some("alias/x"), true));
    }

    #[test]
    fn kms_headers_without_aws_kms_are_invalid() {
        let kms = configuration(Algorithm::AwsKms, None, false);
        for headers in [
            &[(KEY_ID, "alias/x")][..],
            &[(CONTEXT, "e30=")],
            &[(ALGORITHM, "AES256"), (KEY_ID, "alias/x")],
            &[(ALGORITHM, "AES256"), (CONTEXT, "e30=")],
            &[(ALGORITHM, "AES256"), (BUCKET_KEY_ENABLED, "true")],
        ] {
            let error = resolve(Some(&request(headers)), Some(&kms)).unwrap_err();
            assert_eq!(message(error), NEEDS_KMS, "{headers:?}");
        }
        let error = resolve(Some(&request(&[(BUCKET_KEY_ENABLED, "true")])), None).unwrap_err();
        assert_eq!(message(error), NEEDS_KMS);
        let off = request(&[(ALGORITHM, "AES256"), (BUCKET_KEY_ENABLED, "false")]);
        assert!(!resolve(Some(&off), None).unwrap().bucket_key);
    }

    #[test]
    fn dsse_has_no_bucket_key() {
        let on = request(&[(ALGORITHM, "aws:kms:dsse"), (BUCKET_KEY_ENABLED, "true")]);
        assert_eq!(message(resolve(Some(&on), None).unwrap_err()), "S3 Bucket Keys are not supported for aws:kms:dsse");
        let kms = configuration(Algorithm::AwsKms, None, true);
        assert!(!resolve(Some(&request(&[(ALGORITHM, "aws:kms:dsse")])), Some(&kms)).unwrap().bucket_key);
    }

    #[test]
    fn a_context_is_base64_of_json_with_strings() {
        // {"project":"bond"}
        let parsed = request(&[(CONTEXT, "eyJwcm9qZWN0IjoiYm9uZCJ9")]).context.unwrap();
        assert_eq!(parsed, EncryptionContext::from([("project".to_owned(), "bond".to_owned())]));
        // not base64; not JSON ("x"); a number as value ({"a":1}); a list ([])
        for value in ["not base64!", "eA==", "eyJhIjoxfQ==", "W10="] {
            let error = Request::default().set_header(CONTEXT, value).unwrap_err();
            assert_eq!(
                message(error),
                "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON \
                 which represents a string-string map",
                "{value}"
            );
        }
    }

    #[test]
    fn a_context_cannot_name_the_arn_itself() {
        let value = STANDARD.encode(r#"{"aws:s3:arn":"arn:aws:s3:::other"}"#);
        let error = Request::default().set_header(CONTEXT, &value).unwrap_err();
        assert!(message(error).contains("shall not hold 'aws:s3:arn'"));
    }

    #[test]
    fn malformed_headers_are_invalid_and_change_nothing() {
        let mut request = request(&[(ALGORITHM, "aws:kms")]);
        let before = request.clone();
        for (name, value) in [
            (ALGORITHM, "aws:fsx"),
            (ALGORITHM, ""),
            (KEY_ID, ""),
            (BUCKET_KEY_ENABLED, "True"),
            ("x-amz-server-side-encryption-customer-key", "x"),
        ] {
            message(request.set_header(name, value).unwrap_err());
        }
        assert_eq!(request, before);
    }

    #[test]
    fn json_has_the_sdks_names() {
        let full = request(&[
            (ALGORITHM, "aws:kms"),
            (KEY_ID, "alias/x"),
            (CONTEXT, "eyJwcm9qZWN0IjoiYm9uZCJ9"),
            (BUCKET_KEY_ENABLED, "true"),
        ]);
        let json = r#"{"ServerSideEncryption":"aws:kms","SSEKMSKeyId":"alias/x","SSEKMSEncryptionContext":"eyJwcm9qZWN0IjoiYm9uZCJ9","BucketKeyEnabled":true}"#;
        assert_eq!(serde_json::to_string(&full).unwrap(), json);
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), full);
        assert_eq!(serde_json::to_string(&Request::default()).unwrap(), "{}");
        assert!(serde_json::from_str::<Request>("{}").unwrap().is_empty());
    }

    #[test]
    fn json_is_checked_as_headers_are() {
        for json in [r#"{"ServerSideEncryption":"x"}"#, r#"{"SSEKMSEncryptionContext":"!"}"#, r#"{"Key":"x"}"#] {
            assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
        }
        let error = serde_json::from_str::<Request>(r#"{"ServerSideEncryption":"x"}"#).unwrap_err().to_string();
        assert!(error.starts_with("InvalidArgument: The encryption method specified is not supported"), "{error}");
    }
}
