//! The last refusals of a mount whose errno does not say why: `kmsfs status` shows them.

use kmsfs_locks::{Mutex, ranks};
use log::Level;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// So many are kept, the newest. All of them have to fit into an attribute of 64 KiB, and JSON doubles quotes.
const KEPT: usize = 20;
/// Bytes of a path that are kept, of its end.
const LONGEST_PATH: usize = 400;
/// Bytes of a reason, of its beginning.
const LONGEST_REASON: usize = 600;

/// One refusal, and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    when: SystemTime,
    times: u64,
    call: String,
    path: Option<String>,
    errno: i32,
    why: String,
}

/// Those of one mount; any thread notes.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<ranks::Refusals, VecDeque<Refused>>);

impl Refusals {
    /// The same again, however many others came in between, is counted and not kept twice.
    pub(crate) fn note(&self, call: &str, path: Option<&str>, errno: i32, why: &str) {
        let mut new = Refused {
            when: SystemTime::now(),
            times: 1,
            call: call.to_owned(),
            path: path.map(|path| end_of(&plain(path)).to_owned()),
            errno,
            why: beginning_of(&plain(why)).to_owned(),
        };
        let mut kept = self.0.lock();
        let is_same =
            |one: &Refused| (&one.call, &one.path, one.errno, &one.why) == (&new.call, &new.path, new.errno, &new.why);
        if let Some(before) = kept.iter().position(is_same).and_then(|at| kept.remove(at)) {
            new.times += before.times;
        }
        kept.push_back(new);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// The newest first.
    pub(crate) fn to_json(&self) -> Value {
        let kept = self.0.lock().clone();
        let one = |one: &Refused| {
            let when =
                OffsetDateTime::from(one.when).replace_nanosecond(0).ok().and_then(|when| when.format(&Rfc3339).ok());
            json!({
                "Time": when,
                "Call": one.call,
                "Path": one.path,
                "Errno": one.errno,
                "Reason": one.why,
                "Times": one.times,
            })
        };
        kept.iter().rev().map(one).collect()
    }
}

/// The line for the log: the file is named where the reason does not name it.
pub(crate) fn line((level, line): (Level, String), path: Option<&str>) -> (Level, String) {
    match path {
        Some(path) if !path.is_empty() && !line.contains(path) => (level, format!("{path}: {line}")),
        _ => (level, line),
    }
}

/// Without control characters, each of which would be six in JSON.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn beginning_of(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn end_of(text: &str) -> &str {
    let mut start = text.len().saturating_sub(LONGEST_PATH);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_the_same_one_is_counted() {
        let refusals = Refusals::default();
        for n in 0..KEPT + 8 {
            refusals.note("open", Some(&format!("b/{n:03}")), libc::EACCES, "denied");
        }
        refusals.note("open", Some("b/020"), libc::EACCES, "denied");
        let shown = refusals.to_json();
        let shown = shown.as_array().unwrap();
        assert_eq!(shown.len(), KEPT);
        assert_eq!((&shown[0]["Path"], &shown[0]["Times"]), (&json!("b/020"), &json!(2)));
        assert_eq!((&shown[1]["Path"], &shown[1]["Times"]), (&json!(format!("b/{:03}", KEPT + 7)), &json!(1)));
        assert!(shown.iter().all(|one| one["Path"] != "b/007"));
    }

    #[test]
    fn all_of_them_fit_into_an_attribute_whatever_names_are_like() {
        let refusals = Refusals::default();
        for n in 0..KEPT {
            for c in ["\"", "\n", "ä"] {
                refusals.note("setxattr", Some(&format!("{}{n}", c.repeat(5000))), libc::EIO, &c.repeat(5000));
            }
        }
        let shown = refusals.to_json();
        assert!(shown.to_string().len() < 48 << 10, "{}", shown.to_string().len());
        assert!(shown[0]["Path"].as_str().unwrap().ends_with("ä19"));
        refusals.note("open", None, libc::EIO, "no path");
        assert_eq!(refusals.to_json()[0]["Path"], Value::Null);
    }

    #[test]
    fn a_line_names_its_file_once() {
        let named = |text: &str, path| line((Level::Warn, text.into()), path).1;
        assert_eq!(
            named("open: KMS.DisabledException: k is disabled.", Some("b/f")),
            "b/f: open: KMS.DisabledException: k is disabled."
        );
        assert_eq!(named("b/f: torn", Some("b/f")), "b/f: torn");
        assert_eq!(named("mkdir X: too short", None), "mkdir X: too short");
    }
}
