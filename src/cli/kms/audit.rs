//! What the audit log says of a call, and checking such a log.

use super::super::exit::Failure;
use super::super::text::escape;
use super::{Answer, Operation, Refused, input};
use crate::kms::{LocalKms, Outcome, Writer, verify_log};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Findings that are printed; a log that was rewritten has one for every line.
const MOST: usize = 100;

/// Check that the records of an audit log are what was written, all of it, in that order
///
/// The files of a log that was rotated are given together, the oldest first.
#[derive(Args, Serialize)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct VerifyAuditLog {
    /// The log's files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// They are files of the system's log: lines of other programs are passed over, and counted
    #[arg(long)]
    syslog: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs kms --store /srv/store verify-audit-log /var/log/kmsfs/audit.log
  kmsfs kms --store /srv/store verify-audit-log audit.log.2 audit.log.1 audit.log
  kmsfs kms --store /srv/store verify-audit-log --syslog /var/log/auth.log

Exit codes: 0 if nothing was changed or added, 1 if something was: standard error says which line of which file.
The last line of standard output has the number and the hash of the last record. Who notes it elsewhere can tell
later whether it is still there.";

impl VerifyAuditLog {
    pub fn run(&self, kms: &LocalKms) -> Result<(), Failure> {
        let writer = if self.syslog { Writer::Syslog } else { Writer::Kmsfs };
        let found = verify_log(kms, &self.files, writer).map_err(|error| Failure::new(escape(&error.to_string())))?;
        for notice in &found.notices {
            eprintln!("kmsfs: {}", escape(notice));
        }
        for finding in found.findings.iter().take(MOST) {
            let place = format!("{}:{}", finding.file.display(), finding.line);
            eprintln!("kmsfs: {}: {}", escape(&place), finding.what);
        }
        match found.records {
            1 => println!("1 record is authentic"),
            count => println!("{count} records are authentic"),
        }
        match found.others {
            0 => {}
            1 => println!("1 line of other programs was passed over"),
            count => println!("{count} lines of other programs were passed over"),
        }
        if let Some((number, hash)) = &found.last {
            println!("the last is number {number} with the hash {hash}");
        }
        match found.findings.len() {
            0 if found.records == 0 => Err(Failure::new("there is no record of this store in it")),
            0 => Ok(()),
            1 => Err(Failure::new("the audit log was changed in 1 place")),
            count => Err(Failure::new(format!("the audit log was changed in {count} places"))),
        }
    }
}

/// CloudTrail's `requestParameters`. Plaintexts, blobs and tokens are in none.
pub fn parameters(operation: &Operation) -> Value {
    let mut value = serde_json::to_value(operation).unwrap_or_default();
    // An operation's own enum has its name around its fields.
    if let Some(fields) = value.as_object_mut()
        && fields.len() == 1
        && let Some(inner @ Value::Object(_)) = fields.values_mut().next()
    {
        value = inner.take();
    }
    let Value::Object(fields) = value else { return Value::Null };
    let told = fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
        let value = read(&name, &value).unwrap_or(value);
        (name, value)
    });
    Value::Object(told.collect())
}

/// What an argument stands for, rather than the file that it names.
fn read(name: &str, value: &Value) -> Option<Value> {
    let text = value.as_str()?;
    if name.to_lowercase().ends_with("encryptioncontext") {
        return serde_json::to_value(input::context(Some(text)).ok()?).ok();
    }
    (name == "policy").then(|| input::text(text, name).map(Value::from).ok())?
}

/// What the call came to; `None` if it was none.
pub fn outcome(is_read_only: bool, parameters: &Value, answer: &Answer) -> Option<Outcome> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let asked = || text(&parameters["keyId"]).or_else(|| text(&parameters["targetKeyId"]));
    match answer {
        Ok(answer) => {
            let answer = answer.as_ref().unwrap_or(&Value::Null);
            let answered = text(&answer["KeyMetadata"]["Arn"]).or_else(|| text(&answer["KeyId"]));
            Some(Outcome {
                key_id: answered.or_else(asked),
                material_id: text(&answer["KeyMaterialId"]),
                response: if is_read_only { Value::Null } else { as_cloudtrail(answer) },
                error: None,
            })
        }
        Err(Refused::Service(error)) => {
            Some(Outcome { key_id: asked(), error: Some(error.clone()), ..Outcome::default() })
        }
        Err(Refused::Usage(_)) => None,
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

fn small(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::super::KmsArgs;
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        kms: KmsArgs,
    }

    fn of(words: &[&str]) -> Value {
        let line = Line::try_parse_from([&["kms", "--store", "s"], words].concat()).unwrap();
        parameters(&line.kms.operation)
    }

    #[test]
    fn parameters_are_cloudtrails_and_have_nothing_secret() {
        let encrypt = of(&["encrypt", "--key-id", "alias/x", "--plaintext", "c2VjcmV0", "--encryption-context", "a=1"]);
        assert_eq!(encrypt, json!({"keyId": "alias/x", "encryptionContext": {"a": "1"}}));
        let data_key = of(&["generate-data-key", "--key-id", "alias/x", "--key-spec", "AES_256"]);
        assert_eq!(data_key, json!({"keyId": "alias/x", "keySpec": "AES_256"}));
        let import =
            of(&["import-key-material", "--key-id", "k", "--import-token", "t", "--encrypted-key-material", "m"]);
        assert_eq!(import, json!({"keyId": "k", "expirationModel": "KEY_MATERIAL_EXPIRES"}));
        let policy = of(&["put-key-policy", "--key-id", "k", "--policy", "{}"]);
        assert_eq!(policy, json!({"keyId": "k", "policy": "{}", "bypassPolicyLockoutSafetyCheck": false}));
        assert_eq!(of(&["list-keys", "--limit", "3"]), json!({}));
        assert_eq!(of(&["list-objects", "--key-id", "k"]), json!({"keyId": "k", "count": false}));
        let decrypt = of(&["decrypt", "--ciphertext-blob", "AAAA"]);
        assert_eq!(decrypt, json!({}));
    }

    #[test]
    fn a_response_is_told_of_what_changes_something_without_the_grants_token() {
        let answer = Ok(Some(json!({"GrantId": "g", "GrantToken": "secret"})));
        let outcome = outcome(false, &json!({"keyId": "k"}), &answer).unwrap();
        assert_eq!((outcome.response, outcome.key_id), (json!({"grantId": "g"}), Some("k".into())));
        assert!(super::outcome(true, &Value::Null, &Err(Refused::Usage(String::new()))).is_none());
    }
}
