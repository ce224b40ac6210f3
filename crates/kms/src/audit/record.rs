//! CloudTrail's record of a call (eventVersion 1.11).

use super::Identity;
use crate::api::{Answer, Request, TimeForm, small};
use crate::elsewhere::RemoteCall;
use crate::{EncryptionContext, Error, Principal, SignedRequest, iam};
use kmsfs_crypto::random;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

/// One call, or something that KMS did by itself.
pub struct Event<'a> {
    pub source: Source,
    /// AWS's name of the call.
    pub name: &'a str,
    pub account: &'a str,
    pub region: &'a str,
    /// On whose behalf; `None` for what KMS does by itself.
    pub caller: Option<(&'a Principal, &'a Identity)>,
    /// Through a mount: S3 calls on the caller's behalf.
    pub through_s3: bool,
    /// CloudTrail's `requestParameters`.
    pub parameters: Value,
    /// CloudTrail's `responseElements`.
    pub response: Value,
    pub key_arn: Option<String>,
    pub material_id: Option<String>,
    /// The name of the KMS that keeps the key, where that is not this one.
    pub provider: Option<String>,
    /// How that one was asked.
    pub remote_calls: Vec<RemoteCall>,
    pub error: Option<Refusal<'a>>,
}

/// The service that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Kms,
    Iam,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms.amazonaws.com",
            Self::Iam => "iam.amazonaws.com",
        }
    }
}

/// CloudTrail's `errorCode` and `errorMessage`.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    code: &'static str,
    message: &'a str,
}

impl<'a> From<&'a Error> for Refusal<'a> {
    fn from(error: &'a Error) -> Self {
        Self { code: error.code.name(), message: &error.message }
    }
}

impl<'a> From<&'a iam::Error> for Refusal<'a> {
    fn from(error: &'a iam::Error) -> Self {
        Self { code: error.code.name(), message: &error.message }
    }
}

impl Event<'_> {
    /// A JSON object on one line, without its end.
    pub fn to_json(&self) -> String {
        let mut record = Map::new();
        let mut put = |name: &str, value: Value| record.insert(name.to_owned(), value);
        put("eventVersion", "1.11".into());
        put("userIdentity", self.identity());
        put("eventTime", now().into());
        put("eventSource", self.source.name().into());
        put("eventName", self.name.into());
        put("awsRegion", self.region.into());
        let service = format!("s3.{}.amazonaws.com", self.region);
        put("sourceIPAddress", if self.through_s3 { service.into() } else { self.source().into() });
        let process = self.caller.and_then(|(caller, _)| caller.process()?.process_name());
        put("userAgent", self.user_agent(process.as_deref()).into());
        if let Some(error) = self.error {
            put("errorCode", error.code.into());
            put("errorMessage", error.message.into());
        }
        put("requestParameters", self.parameters.clone());
        put("responseElements", self.response.clone());
        put("additionalEventData", self.additional(process));
        put("requestID", random::uuid().to_string().into());
        put("eventID", random::uuid().to_string().into());
        put("readOnly", is_read_only(self.name).into());
        let resource = |arn: &String| json!({"accountId": self.account, "type": "AWS::KMS::Key", "ARN": arn});
        put("resources", self.key_arn.iter().map(resource).collect());
        let by_itself = self.caller.is_none();
        put("eventType", if by_itself { "AwsServiceEvent" } else { "AwsApiCall" }.into());
        put("managementEvent", true.into());
        put("recipientAccountId", self.account.into());
        put("eventCategory", "Management".into());
        Value::Object(record).to_string()
    }

    fn identity(&self) -> Value {
        let Some((caller, Identity { arn, user_name })) = self.caller else {
            return json!({"accountId": self.account, "invokedBy": "kms.amazonaws.com"});
        };
        let mut identity = json!({
            "type": if arn.ends_with(":root") { "Root" } else { "IAMUser" },
            "principalId": caller.uid().to_string(),
            "arn": arn,
            "accountId": self.account,
            "userName": user_name,
        });
        if let Some(key) = caller.access_key() {
            identity["accessKeyId"] = key.to_string().into();
        }
        if self.through_s3 {
            identity["invokedBy"] = "s3.amazonaws.com".into();
        }
        identity
    }

    fn request(&self) -> Option<&SignedRequest> {
        self.caller.and_then(|(caller, _)| caller.request())
    }

    /// Where a direct call comes from.
    fn source(&self) -> String {
        let source = self.request().and_then(|request| request.source);
        source.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string())
    }

    /// What the client says it is, the program's name, or whoever does something by itself. CloudTrail cuts it as well.
    fn user_agent(&self, process: Option<&str>) -> String {
        const LONGEST: usize = 1024;
        let said = self.request().and_then(|request| request.user_agent.as_deref());
        said.or(process).unwrap_or("kmsfs").chars().take(LONGEST).collect()
    }

    fn additional(&self, process: Option<String>) -> Value {
        let mut data = Map::new();
        if let Some(material) = &self.material_id {
            data.insert("keyMaterialId".into(), material.as_str().into());
        }
        if let Some(provider) = &self.provider {
            data.insert("keyProvider".into(), provider.as_str().into());
        }
        if !self.remote_calls.is_empty() {
            data.insert("remoteCalls".into(), self.remote_calls.iter().map(remote_call).collect());
        }
        if let Some(caller) = self.caller.and_then(|(caller, _)| caller.process()) {
            data.insert(
                "process".into(),
                json!({"pid": caller.pid, "uid": caller.uid, "gid": caller.gid, "name": process}),
            );
        }
        Value::Object(data)
    }
}

/// How a KMS that is elsewhere was asked; its request's number is what its own records have.
fn remote_call(call: &RemoteCall) -> Value {
    json!({
        "eventName": call.operation,
        "provider": call.provider,
        "endpoint": call.endpoint,
        "requestID": call.request_id,
        "attempts": call.attempts,
        "milliseconds": u64::try_from(call.latency.as_millis()).unwrap_or(u64::MAX),
    })
}

/// `requestParameters` of a cryptographic call.
pub(crate) fn parameters(key_id: &str, context: &EncryptionContext, key_spec: Option<&str>) -> Value {
    let mut parameters = json!({"keyId": key_id, "encryptionContext": context});
    match key_spec {
        Some(spec) => parameters["keySpec"] = spec.into(),
        None => parameters["encryptionAlgorithm"] = "SYMMETRIC_DEFAULT".into(),
    }
    parameters
}

/// CloudTrail's `responseElements` of a direct call, which are told of what changes something.
pub(crate) fn response(request: &Request, answer: &Answer) -> Value {
    match answer.to_json(TimeForm::Text) {
        Some(answer) if !is_read_only(request.name()) => as_cloudtrail(&answer),
        _ => Value::Null,
    }
}

/// Names begin with a small letter there. A grant's token lets its bearer in.
fn as_cloudtrail(answer: &Value) -> Value {
    match answer {
        Value::Object(fields) => {
            let told = fields.iter().filter(|(name, _)| *name != "GrantToken");
            Value::Object(told.map(|(name, value)| (small(name), as_cloudtrail(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(as_cloudtrail).collect(),
        value => value.clone(),
    }
}

fn now() -> String {
    // CloudTrail's own have whole seconds; these are put in order by `chain.sequence`.
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

/// Calls that change neither a key nor who may use it.
pub(crate) fn is_read_only(name: &str) -> bool {
    ["Get", "List", "Describe", "Decrypt", "Encrypt", "ReEncrypt", "GenerateDataKey", "GenerateRandom"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GrantRequest;
    use crate::{AccessKeyId, Caller, Code};

    fn identity() -> Identity {
        Identity { arn: "arn:aws:iam::111122223333:user/uid:4000001".into(), user_name: "uid:4000001".into() }
    }

    fn decrypt<'a>(
        caller: &'a Principal,
        identity: &'a Identity,
        context: &EncryptionContext,
        error: &'a Error,
    ) -> Event<'a> {
        Event {
            source: Source::Kms,
            name: "Decrypt",
            account: "111122223333",
            region: "eu-central-1",
            caller: Some((caller, identity)),
            through_s3: true,
            parameters: parameters("arn:aws:kms:x", context, None),
            response: Value::Null,
            key_arn: Some("arn:aws:kms:x".into()),
            material_id: Some("ab".into()),
            provider: None,
            remote_calls: Vec::new(),
            error: Some(error.into()),
        }
    }

    #[test]
    fn a_refused_call_has_cloudtrails_fields_on_one_line() {
        let caller = Principal::Process(Caller { uid: 1000, gid: 100, pid: std::process::id() });
        let error = Error::new(Code::AccessDenied, "User: eve is not authorized");
        let context = [("aws:s3:arn".into(), "arn:aws:s3:::b/a\n\"\u{7}".into())].into();
        let identity = identity();
        let line = decrypt(&caller, &identity, &context, &error).to_json();
        assert!(!line.contains('\n'), "{line}");
        let record: Value = serde_json::from_str(&line).unwrap();
        let identity = json!({"type": "IAMUser", "principalId": "1000",
            "arn": "arn:aws:iam::111122223333:user/uid:4000001", "accountId": "111122223333",
            "userName": "uid:4000001", "invokedBy": "s3.amazonaws.com"});
        assert_eq!(record["userIdentity"], identity);
        assert_eq!(record["requestParameters"]["encryptionContext"]["aws:s3:arn"], "arn:aws:s3:::b/a\n\"\u{7}");
        assert_eq!((&record["errorCode"], &record["readOnly"]), (&"AccessDeniedException".into(), &true.into()));
        assert_eq!(record["resources"][0]["ARN"], "arn:aws:kms:x");
        assert_eq!(record["additionalEventData"]["keyMaterialId"], "ab");
        assert_eq!(record["additionalEventData"]["process"]["uid"], 1000);
        assert_eq!(record["eventType"], "AwsApiCall");
    }

    #[test]
    fn a_signed_request_is_recorded_with_its_access_key_address_and_user_agent_and_no_process() {
        let access_key = AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").unwrap();
        let source = Some("192.0.2.7".parse().unwrap());
        let user_agent = Some("aws-cli/2.15 \"x\"\n".into());
        let caller = Principal::Request(SignedRequest { access_key, uid: 1000, gid: 100, source, user_agent });
        let (error, identity) = (Error::new(Code::AccessDenied, ""), identity());
        let event = decrypt(&caller, &identity, &EncryptionContext::new(), &error);
        let record: Value = serde_json::from_str(&Event { through_s3: false, ..event }.to_json()).unwrap();
        assert_eq!(record["userIdentity"]["accessKeyId"], "AKIAIOSFODNN7EXAMPLE");
        assert_eq!(record["userIdentity"]["principalId"], "1000");
        assert_eq!(record["sourceIPAddress"], "192.0.2.7");
        assert_eq!(record["userAgent"], "aws-cli/2.15 \"x\"\n");
        assert_eq!(record["additionalEventData"].get("process"), None);
    }

    #[test]
    fn a_response_is_told_of_what_changes_something_without_the_grants_token() {
        let key_id = || "k".to_owned();
        let create = Request::CreateGrant { key_id: key_id(), grant: GrantRequest::default(), grant_tokens: vec![] };
        let answer = Answer::Grant { id: "g".into(), token: "secret".into() };
        assert_eq!(response(&create, &answer), json!({"grantId": "g"}));
        let get = Request::GetKeyPolicy { key_id: key_id(), policy_name: None };
        assert_eq!(response(&get, &Answer::Policy("{}".into())), Value::Null);
        assert_eq!(response(&Request::DisableKey { key_id: key_id() }, &Answer::Done), Value::Null);
    }

    #[test]
    fn what_changes_a_key_is_not_read_only() {
        for name in ["CreateKey", "PutKeyPolicy", "DisableKey", "RotateKey", "DeleteKey", "ImportKeyMaterial"] {
            assert!(!is_read_only(name), "{name}");
        }
        assert!(is_read_only("GenerateDataKeyWithoutPlaintext") && is_read_only("ListKeys"));
    }
}
