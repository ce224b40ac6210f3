//! `--cli-input-json` and `--generate-cli-skeleton`: an operation's parameters as one document.

use super::aws::Usage;
use super::exit::describe;
use super::text::escape;
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs;

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
    let text = match text.strip_prefix("file://") {
        None => text,
        Some(path) => fs::read_to_string(path)
            .map_err(|error| bad(format!("Unable to load paramfile {}: {}", escape(&text), describe(&error))))?,
    };
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

/// What options take: text, JSON for what has members, a word for each of several texts.
fn as_words(option: &str, argument: &Arg, value: &Value) -> Vec<OsString> {
    let with = |value: String| vec![OsString::from(format!("--{option}={value}"))];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let takes_several = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    match value {
        Value::Null | Value::Bool(false) if !argument.get_action().takes_values() => Vec::new(),
        Value::Null => Vec::new(),
        Value::Bool(true) if !argument.get_action().takes_values() => vec![format!("--{option}").into()],
        Value::Array(list) if list.is_empty() => Vec::new(),
        Value::Array(list) if takes_several && list.iter().all(Value::is_string) => {
            let values = list.iter().map(|value| OsString::from(text(value)));
            std::iter::once(OsString::from(format!("--{option}"))).chain(values).collect()
        }
        value => with(text(value)),
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
