//! Values as the AWS command line takes them: text or `file://`, bytes as `fileb://` or base64, maps as shorthand or
//! JSON.

use super::Usage;
use crate::cli::aws::{self, unreadable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_kms::EncryptionContext;
use kmsfs_kms::api::Tag;
use std::fs;
use std::io::Read;
use zeroize::Zeroizing;

/// Bytes: `fileb://PATH` (`-` or `/dev/stdin` is standard input), `file://PATH` with base64 in it, or base64.
pub fn bytes(argument: &str, parameter: &str) -> Result<Zeroizing<Vec<u8>>, Usage> {
    if let Some(path) = argument.strip_prefix("fileb://") {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = if path == "-" {
            std::io::stdin().lock().read_to_end(&mut bytes)
        } else {
            fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
        };
        return match read {
            Ok(_) => Ok(bytes),
            Err(error) => Err(unreadable(parameter, argument, &error)),
        };
    }
    let text = Zeroizing::new(aws::parameter(argument, parameter)?);
    let decoded = STANDARD.decode(text.trim());
    decoded.map(Zeroizing::new).map_err(|_| Usage(format!("Invalid base64: the value of {parameter}")))
}

/// `key=value,key2=value2`, or a JSON object of strings.
pub fn context(argument: Option<&str>) -> Result<EncryptionContext, Usage> {
    const PARAMETER: &str = "--encryption-context";
    let Some(argument) = argument else { return Ok(EncryptionContext::new()) };
    let text = aws::parameter(argument, PARAMETER)?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text)
            .map_err(|why| Usage(format!("Error parsing parameter '{PARAMETER}': Invalid JSON: {why}")));
    }
    pairs(&text, PARAMETER).map(|pairs| pairs.into_iter().collect())
}

fn pairs(text: &str, parameter: &str) -> Result<Vec<(String, String)>, Usage> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        (!name.is_empty()).then(|| (name.trim().to_owned(), value.to_owned()))
    };
    let all = text.split(',').map(pair).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| {
        Usage(format!("Error parsing parameter '{parameter}': Expected: '=', received something else in: {text}"))
    })
}

/// `TagKey=K,TagValue=V`, each an argument, or one JSON list of such objects.
pub fn tags(arguments: &[String]) -> Result<Vec<Tag>, Usage> {
    const PARAMETER: &str = "--tags";
    let invalid = |why: &str| Usage(format!("Error parsing parameter '{PARAMETER}': {why}"));
    if let [one] = arguments
        && let text = aws::parameter(one, PARAMETER)?
        && text.trim_start().starts_with('[')
    {
        let list: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&text).map_err(|why| invalid(&format!("Invalid JSON: {why}")))?;
        let field = |map: &serde_json::Map<String, serde_json::Value>, name: &str| {
            map.get(name).and_then(|value| value.as_str()).map(str::to_owned)
        };
        let tag = |map| Some(Tag { key: field(map, "TagKey")?, value: field(map, "TagValue")? });
        let tags = list.iter().map(tag).collect::<Option<_>>();
        return tags.ok_or_else(|| invalid("Missing required parameter: \"TagKey\" or \"TagValue\""));
    }
    let tag = |argument: &String| {
        let pairs = pairs(argument, PARAMETER)?;
        let find = |name: &str| pairs.iter().find(|(there, _)| there == name).map(|(_, value)| value.clone());
        match (find("TagKey"), find("TagValue")) {
            (Some(key), Some(value)) => Ok(Tag { key, value }),
            _ => Err(invalid("Missing required parameter: \"TagKey\" or \"TagValue\"")),
        }
    };
    arguments.iter().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage<T>(answer: Result<T, Usage>) -> String {
        match answer {
            Err(Usage(text)) => text,
            Ok(_) => panic!("it was taken"),
        }
    }

    fn taken<T>(answer: Result<T, Usage>) -> T {
        answer.unwrap_or_else(|_| panic!("it was refused"))
    }

    #[test]
    fn contexts_are_shorthand_or_json() {
        let expected: EncryptionContext = [("a".into(), "1".into()), ("b".into(), "x=y".into())].into();
        assert_eq!(taken(context(Some("a=1,b=x=y"))), expected);
        assert_eq!(taken(context(Some(r#"{"a": "1", "b": "x=y"}"#))), expected);
        assert_eq!(taken(context(None)), EncryptionContext::new());
        assert!(usage(context(Some("a"))).starts_with("Error parsing parameter '--encryption-context': Expected: '='"));
        assert!(usage(context(Some(r#"{"a": 1}"#))).contains("Invalid JSON"));
    }

    #[test]
    fn tags_are_shorthand_or_json() {
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let arguments = ["TagKey=a,TagValue=1".to_owned(), "TagKey=b,TagValue=".to_owned()];
        assert_eq!(taken(tags(&arguments)), [tag("a", "1"), tag("b", "")]);
        let json = [r#"[{"TagKey": "a", "TagValue": "1"}]"#.to_owned()];
        assert_eq!(taken(tags(&json)), [tag("a", "1")]);
        assert!(usage(tags(&["TagKey=a".to_owned()])).contains("Missing required parameter"));
    }

    #[test]
    fn bytes_are_a_file_or_base64() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        fs::write(&path, [0, 255]).unwrap();
        assert_eq!(&taken(bytes(&format!("fileb://{}", path.display()), "--plaintext"))[..], [0, 255]);
        assert_eq!(&taken(bytes("AP8=", "--plaintext"))[..], [0, 255]);
        assert_eq!(usage(bytes("no base64!", "--plaintext")), "Invalid base64: the value of --plaintext");
        let missing = usage(bytes("fileb:///nowhere/file", "--plaintext"));
        assert!(missing.contains("Unable to load paramfile fileb:///nowhere/file: No such file"), "{missing}");
    }
}
