//! `--cli-input-json` and `--generate-cli-skeleton`: an operation's parameters as one document.

use super::aws::{Usage, parameter};
use super::text::escape;
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value, json};
use std::ffi::OsString;

const INPUT: &str = "--cli-input-json";
const SKELETON: &str = "--generate-cli-skeleton";

/// What to do with a command line of an operation.
pub enum Line {
    /// With the document's parameters as options, where the line has none of that name.
    Words(Vec<OsString>),
    Skeleton(Value),
}

/// `words`: the whole line, the command's name second. `command` is that command's definition.
pub fn read(words: Vec<OsString>, command: &Command) -> Result<Line, Usage> {
    let operation = words.iter().skip(2).find_map(|word| command.find_subcommand(word));
    let Some(operation) = operation else { return Ok(Line::Words(words)) };
    let asks = |word: &OsString| word == SKELETON || word.to_string_lossy().starts_with(&format!("{SKELETON}="));
    if words.iter().any(asks) {
        return Ok(Line::Skeleton(skeleton(operation)));
    }
    let Some(text) = value_of(&words, INPUT) else { return Ok(Line::Words(words)) };
    let bad = |why: String| Usage(format!("Error parsing parameter 'cli-input-json': {why}"));
    let text = parameter(&text, "cli-input-json")?;
    let document: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| bad(format!("Invalid JSON received: {error}")))?;
    let mut words = words;
    for (name, value) in document {
        let option = kebab(&name);
        let Some(argument) = parameters(operation).find(|argument| argument.get_long() == Some(&option)) else {
            let known: Vec<_> = parameters(operation).filter_map(Arg::get_long).map(pascal).collect();
            let text =
                format!("Unknown parameter in input: \"{}\", must be one of: {}", escape(&name), known.join(", "));
            return Err(Usage(format!("Parameter validation failed:\n{text}")));
        };
        if names_file(&value) {
            let why = "file:// and fileb:// are not read within the document: put the content there";
            return Err(bad(format!("{}: {why}", escape(&name))));
        }
        if !is_given(&words, &option) {
            words.extend(as_words(&option, argument, &value));
        }
    }
    Ok(Line::Words(words))
}

/// The operation's own, without those that every operation has.
fn parameters(operation: &Command) -> impl Iterator<Item = &Arg> {
    operation.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
}

fn value_of(words: &[OsString], option: &str) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if word == option {
            return words.next().map(|value| value.to_string_lossy().into_owned());
        }
        if let Some(value) = word.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

fn is_given(words: &[OsString], option: &str) -> bool {
    let is_it = |word: &str| {
        let name = word.strip_prefix("--").map(|word| word.split('=').next().unwrap_or_default());
        name.is_some_and(|name| name == option || name.strip_prefix("no-") == Some(option))
    };
    words.iter().any(|word| is_it(&word.to_string_lossy()))
}

/// Whoever writes the document is not to choose which files are read, as with aws.
fn names_file(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("file://") || text.starts_with("fileb://"),
        Value::Array(list) => list.iter().any(names_file),
        _ => false,
    }
}

/// What options take: text, JSON for what has members, an option for each of several texts. Name and value are one
/// word, so that no value is taken for an option, whatever it begins with.
fn as_words(option: &str, argument: &Arg, value: &Value) -> Vec<OsString> {
    let with = |value: String| OsString::from(format!("--{option}={value}"));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let takes_several = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    match value {
        Value::Null | Value::Bool(false) if !argument.get_action().takes_values() => Vec::new(),
        Value::Null => Vec::new(),
        Value::Bool(true) if !argument.get_action().takes_values() => vec![format!("--{option}").into()],
        Value::Array(list) if list.is_empty() => Vec::new(),
        Value::Array(list) if takes_several && list.iter().all(Value::is_string) => {
            list.iter().map(|value| with(text(value))).collect()
        }
        value => vec![with(text(value))],
    }
}

fn skeleton(operation: &Command) -> Value {
    let members = parameters(operation).filter_map(|argument| {
        let name = argument.get_long()?;
        let takes_several = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
        let value = match (name, argument.get_action()) {
            ("tags", _) => json!([{"TagKey": "", "TagValue": ""}]),
            ("encryption-context" | "source-encryption-context" | "destination-encryption-context", _) => {
                json!({"KeyName": ""})
            }
            ("constraints", _) => {
                json!({"EncryptionContextSubset": {"KeyName": ""}, "EncryptionContextEquals": {"KeyName": ""}})
            }
            (_, ArgAction::SetTrue) => json!(true),
            _ if takes_several => json!([""]),
            _ if is_number(argument) => json!(0),
            // As aws does: the first of the words that are possible.
            _ => {
                let first = argument.get_possible_values().first().map(|value| value.get_name().to_owned());
                json!(first.unwrap_or_default())
            }
        };
        Some((pascal(name), value))
    });
    Value::Object(members.collect())
}

fn is_number(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == ValueParser::from(clap::value_parser!(u64)).type_id()
}

/// `KeyId` is `key-id`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

fn pascal(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    name.split('-').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn kms() -> Command {
        let mut command = super::super::Cli::command();
        command.build();
        command.find_subcommand("kms").unwrap().clone()
    }

    fn read_words(operation: &str, document: &str) -> Result<Vec<String>, String> {
        let words = ["kmsfs", "kms", operation, INPUT, document].map(OsString::from).to_vec();
        match read(words, &kms()) {
            Ok(Line::Words(words)) => Ok(words[5..].iter().map(|word| word.to_str().unwrap().to_owned()).collect()),
            Ok(Line::Skeleton(_)) => panic!("it is no skeleton"),
            Err(Usage(why)) => Err(why),
        }
    }

    #[test]
    fn nothing_in_a_document_becomes_an_option() {
        let words = read_words("retire-grant", r#"{"GrantToken": "--passphrase-command=id"}"#).unwrap();
        assert_eq!(words, ["--grant-token=--passphrase-command=id"]);
        let document = r#"{"KeyId": "k", "GranteePrincipal": "p", "Operations": ["Decrypt", "-", "--"],
                           "GrantTokens": ["x", "--passphrase-command=id", "", "a b"]}"#;
        let words = read_words("create-grant", document).unwrap();
        assert!(words.iter().any(|word| word == "--grant-tokens=--passphrase-command=id"), "{words:?}");
        let line = ["kmsfs", "kms", "create-grant"].into_iter().chain(words.iter().map(String::as_str));
        let matches = super::super::Cli::command().try_get_matches_from(line).unwrap();
        let grant = matches.subcommand_matches("kms").unwrap().subcommand_matches("create-grant").unwrap();
        assert_eq!(grant.get_one::<OsString>("passphrase_command"), None);
        let values = |name: &str| grant.get_many::<String>(name).unwrap().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(values("grant_tokens"), ["x", "--passphrase-command=id", "", "a b"]);
        assert_eq!(values("operations"), ["Decrypt", "-", "--"]);
        // Options that every operation has are none of its parameters.
        for name in ["PassphraseCommand", "passphrase-command", "--passphrase-command", "Store", "Query", "Help"] {
            let refused = read_words("create-grant", &json!({ name: "x" }).to_string()).unwrap_err();
            assert!(refused.contains(&format!("Unknown parameter in input: \"{name}\"")), "{refused}");
        }
    }

    #[test]
    fn no_file_is_read_that_a_document_names() {
        for (operation, document) in [
            ("encrypt", r#"{"Plaintext": "fileb:///etc/shadow"}"#),
            ("encrypt", r#"{"Plaintext": "file:///etc/shadow"}"#),
            ("encrypt", r#"{"EncryptionContext": "file:///etc/shadow"}"#),
            ("create-key", r#"{"Policy": "file:///etc/shadow"}"#),
            ("tag-resource", r#"{"Tags": ["file:///etc/shadow"]}"#),
            ("tag-resource", r#"{"Tags": "file:///etc/shadow"}"#),
        ] {
            let refused = read_words(operation, document).unwrap_err();
            assert!(refused.contains("file:// and fileb:// are not read within the document"), "{refused}");
        }
        // What only contains such a name is read by nobody.
        let words = read_words("create-key", r#"{"Description": "see file:///x", "Tags": [{"TagKey": "file://x"}]}"#);
        assert_eq!(words.unwrap(), ["--description=see file:///x", r#"--tags=[{"TagKey":"file://x"}]"#]);
    }
}
