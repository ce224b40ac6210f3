//! Calls of the KMS and of STS, as clients send them. What is taken for a call is the same call when it is sent again.

use kmsfs_kms::api::TimeForm;
use kmsfs_kms_json::{Reply, TARGET, request, sts};
use serde_json::Value;

/// The operation's name, a line feed, and the body.
pub(super) fn kms_request(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(operation) = std::str::from_utf8(&bytes[..end]) else { return };
    let target = format!("{TARGET}{operation}");
    match request(&target, bytes.get(end + 1..).unwrap_or_default()) {
        Ok(call) => {
            assert_eq!(call.name(), operation);
            let body = call.to_json(TimeForm::Seconds).to_string();
            let again = request(&target, body.as_bytes()).expect("what is taken once is taken again");
            assert_eq!(again.to_json(TimeForm::Seconds).to_string(), body);
        }
        Err(refusal) => {
            let reply = Reply::refusal(&refusal);
            let body: Value = serde_json::from_slice(&reply.body).expect("a refusal is JSON");
            assert_eq!((body["__type"].as_str(), reply.status < 500), (Some(refusal.exception), true));
        }
    }
}

/// A form.
pub(super) fn sts_request(bytes: &[u8]) {
    let Some(parameters) = sts::form(bytes) else { return };
    if let Err(refusal) = sts::Request::of(&parameters) {
        let xml = refusal.to_xml("id");
        let tags = xml.matches('<').count();
        assert_eq!((tags, xml.matches('>').count()), (12, 12), "what somebody sent is part of the XML: {xml}");
    }
}
