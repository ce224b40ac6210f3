//! S3's `ServerSideEncryptionConfiguration`: what `.encryption.json` holds and PutBucketEncryption takes.

use super::json::{Object, present};
use super::{Algorithm, Encryption, RequestError};
use kmsfs_kms::EncryptionContext;
use serde::{Deserialize, Deserializer, Serialize};

/// A file of this name holds its directory's configuration.
pub const CONFIGURATION_FILE: &str = ".encryption.json";

/// The default encryption of a directory, valid as a whole. It remembers what was put, as GetBucketEncryption echoes
/// it; whether the key it names exists is seen only when the key is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    default: ByDefault,
    bucket_key_enabled: Option<bool>,
    blocked: Option<Vec<BlockedEncryptionType>>,
}

impl Configuration {
    /// The longest content that is accepted, in bytes.
    pub const MAX_LEN: usize = 64 * 1024;

    /// `{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": …, "KMSMasterKeyID": …}, "BucketKeyEnabled":
    /// …}]}`
    pub fn parse(content: &[u8]) -> Result<Self, RequestError> {
        if content.len() > Self::MAX_LEN {
            return Err(malformed(format!("it has {} bytes, at most {} are allowed", content.len(), Self::MAX_LEN)));
        }
        let text = std::str::from_utf8(content).map_err(|error| malformed(not_utf8(content, error.valid_up_to())))?;
        let Object(document) =
            serde_json::from_str::<Object<Document>>(text).map_err(|error| malformed(wrong(&error)))?;
        let rules = document.rules()?;
        let count = rules.len();
        let [Object(rule)] = <[_; 1]>::try_from(rules)
            .map_err(|_| malformed(format!("\"Rules\" holds {count} rules, S3 takes exactly one")))?;
        rule.validate()
    }

    /// What a new object gets when its request says nothing. The bucket key is as it was put, also with AES256, which
    /// has no use for it: a request for `aws:kms` inherits it.
    pub fn encryption(&self) -> Encryption {
        Encryption {
            algorithm: self.default.algorithm,
            key_id: self.default.key_id.clone(),
            bucket_key: self.bucket_key_enabled.unwrap_or(false),
            context: EncryptionContext::new(),
        }
    }

    /// The same document that [`Self::parse`] takes.
    pub fn to_json(&self) -> serde_json::Value {
        let rule = RuleJson {
            default: &self.default,
            bucket_key_enabled: self.bucket_key_enabled,
            blocked: self.blocked.as_ref().map(|types| BlockedTypesJson { types }),
        };
        serde_json::json!({ "Rules": [rule] })
    }
}

impl Default for Configuration {
    /// What every bucket has had since 2023.
    fn default() -> Self {
        let default = ByDefault { algorithm: Algorithm::Aes256, key_id: None };
        Self { default, bucket_key_enabled: Some(false), blocked: None }
    }
}

/// A kind of encryption that requests may not ask for. kmsfs has no requests with SSE-C, so it only keeps what was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum BlockedEncryptionType {
    #[serde(rename = "NONE")]
    None,
    #[serde(rename = "SSE-C")]
    SseC,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByDefault {
    #[serde(rename = "SSEAlgorithm", deserialize_with = "algorithm")]
    algorithm: Algorithm,
    #[serde(rename = "KMSMasterKeyID", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

/// The configuration itself, or what `aws s3api get-bucket-encryption` and `kmsfs stat` print, which have it under a
/// name; the latter say also where it comes from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "Rules", default, deserialize_with = "present")]
    rules: Option<Vec<Object<Rule>>>,
    #[serde(rename = "ServerSideEncryptionConfiguration", default, deserialize_with = "present")]
    named: Option<Object<Rules>>,
    #[serde(rename = "Source", default)]
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(rename = "Rules")]
    rules: Vec<Object<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(rename = "ApplyServerSideEncryptionByDefault")]
    default: Object<ByDefault>,
    #[serde(rename = "BucketKeyEnabled", default, deserialize_with = "present")]
    bucket_key_enabled: Option<bool>,
    #[serde(rename = "BlockedEncryptionTypes", default, deserialize_with = "present")]
    blocked: Option<Object<BlockedTypes>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockedTypes {
    #[serde(rename = "EncryptionType")]
    types: Vec<String>,
}

#[derive(Serialize)]
struct RuleJson<'a> {
    #[serde(rename = "ApplyServerSideEncryptionByDefault")]
    default: &'a ByDefault,
    #[serde(rename = "BucketKeyEnabled", skip_serializing_if = "Option::is_none")]
    bucket_key_enabled: Option<bool>,
    #[serde(rename = "BlockedEncryptionTypes", skip_serializing_if = "Option::is_none")]
    blocked: Option<BlockedTypesJson<'a>>,
}

#[derive(Serialize)]
struct BlockedTypesJson<'a> {
    #[serde(rename = "EncryptionType")]
    types: &'a [BlockedEncryptionType],
}

impl Document {
    fn rules(self) -> Result<Vec<Object<Rule>>, RequestError> {
        match (self.rules, self.named, self.source) {
            (Some(rules), None, None) => Ok(rules),
            (None, Some(Object(named)), _) => Ok(named.rules),
            (None, None, _) => Err(malformed("missing field `Rules`")),
            (Some(_), ..) => Err(malformed("\"Rules\" is beside another member, expected it alone")),
        }
    }
}

impl Rule {
    fn validate(self) -> Result<Configuration, RequestError> {
        let Object(default) = self.default;
        if default.algorithm == Algorithm::Aes256 && default.key_id.is_some() {
            return Err(RequestError::invalid_argument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            ));
        }
        if default.key_id.as_deref() == Some("") {
            return Err(malformed("\"KMSMasterKeyID\" is empty: name a key, or leave it out for aws/s3"));
        }
        let blocked = self.blocked.map(|Object(blocked)| blocked.validate()).transpose()?;
        Ok(Configuration { default, bucket_key_enabled: self.bucket_key_enabled, blocked })
    }
}

impl BlockedTypes {
    fn validate(self) -> Result<Vec<BlockedEncryptionType>, RequestError> {
        if self.types.is_empty() {
            return Err(malformed("\"EncryptionType\" is an empty list, expected \"NONE\" or \"SSE-C\" in it"));
        }
        let parse = |name: String| match name.as_str() {
            "NONE" => Ok(BlockedEncryptionType::None),
            "SSE-C" => Ok(BlockedEncryptionType::SseC),
            _ => Err(malformed(format!("unknown \"EncryptionType\" {name:?}, expected \"NONE\" or \"SSE-C\""))),
        };
        self.types.into_iter().map(parse).collect()
    }
}

/// Through a string: serde would also take `{"AES256": null}` for an enum.
fn algorithm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Algorithm, D::Error> {
    let name = String::deserialize(deserializer)?;
    Algorithm::parse(&name).ok_or_else(|| {
        serde::de::Error::custom(format_args!(
            "unknown SSEAlgorithm {name:?}, expected \"AES256\", \"aws:kms\" or \"aws:kms:dsse\""
        ))
    })
}

fn malformed(finding: impl std::fmt::Display) -> RequestError {
    RequestError::malformed(format!(
        "the encryption configuration is refused: {finding}. It should look like \
         {{\"Rules\":[{{\"ApplyServerSideEncryptionByDefault\":{{\"SSEAlgorithm\":\"aws:kms\"}}}}]}}"
    ))
}

/// serde_json's text ends with line and column.
fn wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        serde_json::error::Category::Data => text,
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof | serde_json::error::Category::Io => {
            format!("it is not JSON: {text}")
        }
    }
}

/// Columns are counted in bytes, as serde_json counts them.
fn not_utf8(content: &[u8], valid: usize) -> String {
    let before = String::from_utf8_lossy(&content[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    format!("it is not UTF-8 at line {line} column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Configuration {
        Configuration::parse(json.as_bytes()).unwrap()
    }

    /// Code and finding, without the advice that follows it.
    fn refusal(content: impl AsRef<[u8]>) -> (&'static str, String) {
        match Configuration::parse(content.as_ref()).unwrap_err() {
            RequestError::Invalid { code, message } => {
                let finding = message.strip_prefix("the encryption configuration is refused: ").unwrap_or(&message);
                (code, finding.split(". It should look like").next().unwrap().to_owned())
            }
            error => panic!("{error:?}"),
        }
    }

    fn rule(default: &str) -> String {
        format!(r#"{{"Rules":[{{"ApplyServerSideEncryptionByDefault":{default}}}]}}"#)
    }

    #[test]
    fn the_articles_configuration_is_aws_s3_without_a_bucket_key() {
        let configuration = parse(
            "{\n  \"Rules\": [\n    {\n      \"ApplyServerSideEncryptionByDefault\": {\n        \
             \"SSEAlgorithm\": \"aws:kms\"\n      }\n    }\n  ]\n}\n",
        );
        let encryption = configuration.encryption();
        assert_eq!(encryption.algorithm, Algorithm::AwsKms);
        assert_eq!(encryption.key_id, None);
        assert!(!encryption.bucket_key);
        assert!(encryption.context.is_empty());
    }

    #[test]
    fn what_was_put_is_echoed() {
        for json in [
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"alias/x"},"BucketKeyEnabled":true}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BucketKeyEnabled":true}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms:dsse"}}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BlockedEncryptionTypes":{"EncryptionType":["NONE"]}}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BlockedEncryptionTypes":{"EncryptionType":["SSE-C"]}}]}"#,
        ] {
            assert_eq!(parse(json).to_json().to_string(), json);
        }
    }

    #[test]
    fn a_directory_without_a_configuration_reads_as_a_fresh_bucket() {
        assert_eq!(
            Configuration::default().to_json().to_string(),
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BucketKeyEnabled":false}]}"#
        );
    }

    #[test]
    fn key_and_bucket_key_reach_the_encryption() {
        let encryption = parse(
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"no such key"},"BucketKeyEnabled":true}]}"#,
        )
        .encryption();
        assert_eq!(encryption.key_id.as_deref(), Some("no such key"));
        assert!(encryption.bucket_key);
    }

    #[test]
    fn what_is_not_json_is_malformed_with_line_and_column() {
        assert_eq!(
            refusal(""),
            ("MalformedXML", "it is not JSON: EOF while parsing a value at line 1 column 0".into())
        );
        assert_eq!(
            refusal("{\n  Rules: []\n}"),
            ("MalformedXML", "it is not JSON: key must be a string at line 2 column 3".into())
        );
        assert_eq!(
            refusal(format!("{} x", rule(r#"{"SSEAlgorithm":"AES256"}"#))).1,
            "it is not JSON: trailing characters at line 1 column 78"
        );
        assert_eq!(refusal(b"{\n\"\xff\"}"), ("MalformedXML", "it is not UTF-8 at line 2 column 2".into()));
    }

    #[test]
    fn more_than_64_kib_are_malformed() {
        let mut content = rule(r#"{"SSEAlgorithm":"AES256"}"#);
        content.push_str(&" ".repeat(64 * 1024 - content.len()));
        assert_eq!(parse(&content).encryption().algorithm, Algorithm::Aes256);
        content.push(' ');
        assert_eq!(refusal(content), ("MalformedXML", "it has 65537 bytes, at most 65536 are allowed".into()));
    }

    #[test]
    fn exactly_one_rule_is_taken() {
        let none = ("MalformedXML", "\"Rules\" holds 0 rules, S3 takes exactly one".to_owned());
        assert_eq!(refusal(r#"{"Rules":[]}"#), none);
        let rule = r#"{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}"#;
        assert_eq!(
            refusal(format!(r#"{{"Rules":[{rule},{rule}]}}"#)).1,
            "\"Rules\" holds 2 rules, S3 takes exactly one"
        );
        assert_eq!(refusal("{}").1, "missing field `Rules`");
    }

    #[test]
    fn an_unknown_algorithm_is_malformed() {
        assert_eq!(
            refusal(rule(r#"{"SSEAlgorithm":"aws:KMS"}"#)),
            (
                "MalformedXML",
                "unknown SSEAlgorithm \"aws:KMS\", expected \"AES256\", \"aws:kms\" or \"aws:kms:dsse\" \
                 at line 1 column 74"
                    .into()
            )
        );
    }

    #[test]
    fn a_key_for_aes256_is_an_invalid_argument() {
        assert_eq!(
            refusal(rule(r#"{"SSEAlgorithm":"AES256","KMSMasterKeyID":"alias/x"}"#)),
            (
                "InvalidArgument",
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse".into()
            )
        );
    }

    #[test]
    fn wrong_types_and_unknown_fields_are_malformed() {
        for content in [
            "null",
            "[]",
            r#"[[[["AES256"]]]]"#,
            r#"{"Rules":{}}"#,
            r#"{"Rules":[[]]}"#,
            r#"{"Rules":[{}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":["AES256"]}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BucketKeyEnabled":"true"}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BucketKeyEnabled":null}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"Priority":1}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BlockedEncryptionTypes":{"EncryptionType":[]}}]}"#,
            r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"},"BlockedEncryptionTypes":{"EncryptionType":["SSE-S3"]}}]}"#,
            r#"{"Rules":[],"Rules":[]}"#,
            &rule(r#"{"SSEAlgorithm":{"AES256":null}}"#),
            &rule(r#"{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":null}"#),
            &rule(r#"{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":5}"#),
            &rule(r#"{"SSEAlgorithm":"aws:kms","KMSMasterKeyID":""}"#),
            &rule(r#"{"SSEAlgorithm":"aws:kms","KmsMasterKeyId":"x"}"#),
            &rule("{}"),
        ] {
            assert_eq!(refusal(content).0, "MalformedXML", "{content}");
        }
        assert_eq!(refusal("{\"Rules\":\n7}").1, "invalid type: integer `7`, expected a sequence at line 2 column 1");
    }

    #[test]
    fn what_get_bucket_encryption_and_stat_print_is_taken() {
        let plain = rule(r#"{"SSEAlgorithm":"aws:kms"}"#);
        for content in [
            format!(r#"{{"ServerSideEncryptionConfiguration":{plain}}}"#),
            format!(r#"{{"ServerSideEncryptionConfiguration":{plain},"Source":"bucket/.encryption.json"}}"#),
            format!(r#"{{"ServerSideEncryptionConfiguration":{plain},"Source":null}}"#),
        ] {
            assert_eq!(parse(&content), parse(&plain), "{content}");
        }
        let rules = r#""Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]"#;
        for content in [
            format!(r#"{{"ServerSideEncryptionConfiguration":{plain},{rules}}}"#),
            format!(r#"{{{rules},"Source":"bucket/.encryption.json"}}"#),
            r#"{"Source":"bucket/.encryption.json","Refused":"MalformedXML: why"}"#.into(),
            r#"{"ServerSideEncryptionConfiguration":null}"#.into(),
        ] {
            assert_eq!(refusal(&content).0, "MalformedXML", "{content}");
        }
    }
}
