//! `--output yaml`, in blocks.

use serde_json::Value;
use std::fmt::Write as _;

pub fn of(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => block(value, 0, &mut text),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut text),
        value => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
    text
}

/// What is not empty, from the beginning of a line on.
fn block(value: &Value, indent: usize, text: &mut String) {
    let space = " ".repeat(indent);
    match value {
        Value::Object(members) => {
            for (number, (name, value)) in members.iter().enumerate() {
                // The first one stands behind whatever the line begins with.
                let space = if number == 0 { "" } else { &space };
                let _ = write!(text, "{space}{}:", scalar(&Value::String(name.clone())));
                inner(value, indent, text);
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                let space = if number == 0 { "" } else { &space };
                let _ = write!(text, "{space}-");
                match value {
                    Value::Object(members) if !members.is_empty() => {
                        text.push(' ');
                        block(value, indent + 2, text);
                    }
                    Value::Array(list) if !list.is_empty() => {
                        text.push(' ');
                        block(value, indent + 2, text);
                    }
                    value => {
                        let _ = writeln!(text, " {}", scalar(value));
                    }
                }
            }
        }
        value => {
            let _ = writeln!(text, "{}", scalar(value));
        }
    }
}

/// Behind a name and its colon.
fn inner(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let _ = write!(text, "\n{}", " ".repeat(indent + 2));
            block(value, indent + 2, text);
        }
        // A list stands where its name stands.
        Value::Array(list) if !list.is_empty() => {
            let _ = write!(text, "\n{}", " ".repeat(indent));
            block(value, indent, text);
        }
        value => {
            let _ = writeln!(text, " {}", scalar(value));
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        // JSON's strings are YAML's in double quotes.
        Value::String(text) if text.chars().any(char::is_control) => Value::String(text.clone()).to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        value => value.to_string(),
    }
}

/// Which nobody takes for a number, a date, a truth value or a piece of syntax.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/_-.:+=@, ()".contains(c);
    begins
        && text.chars().all(goes_on)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_stand_where_their_name_stands_and_what_looks_like_something_else_is_quoted() {
        let answer = json!({"Keys": [{"KeyId": "12", "KeyArn": "arn:aws:kms:us-east-1:000000000000:key/a"}], "Truncated": false,
            "None": null, "Empty": [], "Deep": {"A": {"B": ["x", [1, 2]]}}, "Text": "a\nb", "Yes": "yes", "Note": "it's: so"});
        let expected = "\
Keys:
- KeyId: '12'
  KeyArn: arn:aws:kms:us-east-1:000000000000:key/a
Truncated: false
None: null
Empty: []
Deep:
  A:
    B:
    - x
    - - 1
      - 2
Text: \"a\\nb\"
Yes: 'yes'
Note: 'it''s: so'
";
        // A name that means something else in YAML is quoted too.
        assert_eq!(of(&answer), expected.replace("\nYes:", "\n'Yes':"));
        assert_eq!((of(&json!("x")), of(&json!([])), of(&json!(null))), ("x\n".into(), "[]\n".into(), "null\n".into()));
    }
}
