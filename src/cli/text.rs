//! Names and messages made fit for one line of a log or a terminal, and for a shell.

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::fmt::Write as _;
use std::path::Path;

/// `text` without anything that could break a line or drive a terminal: control characters (C0, DEL, C1), line and
/// paragraph separators and bidirectional overrides become escapes. Everything else stays as it is.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() || reorders(c) => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn reorders(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of things, for a message.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A path for a message: escaped, what is not UTF-8 replaced.
pub fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// A path as a word of a shell command.
pub fn shell_word(path: &Path) -> String {
    let word = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// JSON as aws prints it: four spaces a level and a line break at the end.
pub fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    // Writing a `Value` to memory cannot fail.
    let _ = value.serialize(&mut serializer);
    text.push(b'\n');
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_a_line_or_drives_a_terminal() {
        assert_eq!(escape("a\nb\rc\td"), r"a\nb\rc\td");
        assert_eq!(escape("\x1b[31m\x07\x7f\0"), r"\x1b[31m\x07\x7f\x00");
        assert_eq!(escape("\u{85}\u{9b}\u{2028}\u{202e}"), r"\u{85}\u{9b}\u{2028}\u{202e}");
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        let text = r#"größe 名前 \n "quoted" 100% /a/b"#;
        assert_eq!(escape(text), text);
    }

    #[test]
    fn shell_words_are_quoted_only_where_needed() {
        assert_eq!(shell_word(Path::new("/srv/store-1")), "/srv/store-1");
        assert_eq!(shell_word(Path::new("/srv/my store")), "'/srv/my store'");
        assert_eq!(shell_word(Path::new("/it's")), r"'/it'\''s'");
    }
}
