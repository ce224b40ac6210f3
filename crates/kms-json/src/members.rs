//! The members of a structure, by their names and types. What has another type is refused at once; what is missing or
//! out of its range is collected, since AWS tells all of it.

use crate::Refusal;
use crate::json::{Json, Text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

pub(crate) struct Members<'j, 'a> {
    members: &'j [(Text<'a>, Json<'a>)],
    /// What is wrong, in AWS's words.
    wrong: RefCell<Vec<String>>,
}

const IN_ITS_PLACE: &str = "found where not expected";

impl<'j, 'a> Members<'j, 'a> {
    pub(crate) fn of(value: &'j Json<'a>) -> Result<Self, Refusal> {
        let Json::Object(members) = value else { return Err(mistyped(value, "a Structure")) };
        Ok(Self { members, wrong: RefCell::default() })
    }

    /// `null` is as if there were none.
    fn get(&self, name: &str) -> Option<&'j Json<'a>> {
        let found = self.members.iter().rev().find(|(known, _)| known.as_str() == name);
        found.map(|(_, value)| value).filter(|value| !matches!(value, Json::Null))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// What was collected, if something was.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let wrong = self.wrong.into_inner();
        let (count, errors) = (wrong.len(), if wrong.len() == 1 { "error" } else { "errors" });
        if count == 0 {
            return Ok(());
        }
        let text = format!("{count} validation {errors} detected: {}", wrong.join("; "));
        Err(Refusal::new("ValidationException", text))
    }

    fn say(&self, value: impl Display, name: &str, constraint: &str) {
        let at = small(name);
        let text = format!("Value {value} at '{at}' failed to satisfy constraint: {constraint}");
        self.wrong.borrow_mut().push(text);
    }

    /// There has to be one: a value of any kind goes on where there is none.
    pub(crate) fn required<T: Default>(&self, name: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.say("null", name, "Member must not be null");
            T::default()
        })
    }

    /// Of a number of characters.
    pub(crate) fn text(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<String>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = text(value)?;
        self.measure(text.chars().count(), &range, name, || format!("'{text}'"));
        Ok(Some(text.to_owned()))
    }

    fn measure(&self, len: usize, range: &RangeInclusive<usize>, name: &str, shown: impl FnOnce() -> String) {
        if len < *range.start() {
            let constraint = format!("Member must have length greater than or equal to {}", range.start());
            self.say(shown(), name, &constraint);
        } else if len > *range.end() {
            let constraint = format!("Member must have length less than or equal to {}", range.end());
            self.say(shown(), name, &constraint);
        }
    }

    /// One of AWS's words; what each means here.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = text(value)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let constraint = format!("Member must satisfy enum value set: [{}]", words.join(", "));
            self.say(format!("'{text}'"), name, &constraint);
        }
        Ok(found.map(|(_, meaning)| *meaning))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Json::Bool(value)) => Ok(*value),
            Some(other) => Err(mistyped(other, "a Boolean")),
        }
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let value = match self.get(name) {
            None => return Ok(None),
            Some(Json::Integer(value)) => *value,
            // A whole number may be written as a fraction.
            Some(Json::Fraction(value)) if value.fract() == 0.0 && value.abs() < 1e15 => *value as i128,
            Some(other) => return Err(mistyped(other, "an Integer")),
        };
        if i32::try_from(value).is_err() {
            return Err(Refusal::serialization("NUMBER_VALUE can not be converted to an Integer"));
        }
        if value < i128::from(*range.start()) {
            let constraint = format!("Member must have value greater than or equal to {}", range.start());
            self.say(format!("'{value}'"), name, &constraint);
        } else if value > i128::from(*range.end()) {
            let constraint = format!("Member must have value less than or equal to {}", range.end());
            self.say(format!("'{value}'"), name, &constraint);
        }
        Ok(Some(u64::try_from(value).unwrap_or_default()))
    }

    /// A time in seconds since 1970, maybe with a fraction; in nanoseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let nanoseconds = match self.get(name) {
            None => return Ok(None),
            Some(Json::Integer(seconds)) => seconds.checked_mul(1_000_000_000),
            // Beyond milliseconds a fraction of today's numbers says nothing.
            Some(Json::Fraction(seconds)) => {
                (seconds.abs() < 1e12).then(|| (seconds * 1000.0).round() as i128 * 1_000_000)
            }
            Some(other) => return Err(mistyped(other, "a Timestamp")),
        };
        let time = nanoseconds.and_then(|time| i64::try_from(time).ok());
        time.map(Some).ok_or_else(|| Refusal::serialization("NUMBER_VALUE can not be converted to a Timestamp"))
    }

    /// Bytes in base64, of a number of bytes.
    pub(crate) fn bytes(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = match value {
            Json::Text(text) => text.as_str(),
            other => return Err(mistyped(other, "a Blob")),
        };
        // At once, since a vector that grows leaves copies.
        let mut bytes = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
        let decoded = STANDARD.decode_slice(text, &mut bytes).ok();
        let len = decoded.ok_or_else(|| Refusal::serialization("STRING_VALUE can not be converted to a Blob"))?;
        bytes.truncate(len);
        // As AWS shows them: not at all.
        self.measure(len, &range, name, || format!("'java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]'"));
        Ok(Some(bytes))
    }

    /// What is in a list, each read by `read`, which is given where it is.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&'j Json<'a>) -> Result<T, Refusal>,
    ) -> Result<Option<Vec<T>>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::List(values)) => values.iter().map(read).collect::<Result<_, _>>().map(Some),
            Some(other) => Err(mistyped(other, "a List")),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        self.list(name, |value| text(value).map(str::to_owned))
    }

    /// Pairs of texts.
    pub(crate) fn map<M: Default + Extend<(String, String)>>(&self, name: &str) -> Result<M, Refusal> {
        let mut pairs = M::default();
        match self.get(name) {
            None => {}
            Some(Json::Object(members)) => {
                for (name, value) in members {
                    pairs.extend([(name.as_str().to_owned(), text(value)?.to_owned())]);
                }
            }
            Some(other) => return Err(mistyped(other, "a Map")),
        }
        Ok(pairs)
    }

    pub(crate) fn structure(&self, name: &str) -> Result<Option<Self>, Refusal> {
        self.get(name).map(Self::of).transpose()
    }
}

fn text<'j>(value: &'j Json<'_>) -> Result<&'j str, Refusal> {
    match value {
        Json::Text(text) => Ok(text.as_str()),
        other => Err(mistyped(other, "a String")),
    }
}

/// In the words of AWS's parser. Nothing of the value is in it.
fn mistyped(value: &Json<'_>, wanted: &str) -> Refusal {
    let what = match value {
        Json::Null => "NULL_VALUE",
        Json::Bool(true) => "TRUE_VALUE",
        Json::Bool(false) => "FALSE_VALUE",
        Json::Integer(_) => "NUMBER_VALUE",
        Json::Fraction(_) => "DECIMAL_VALUE",
        Json::Text(_) => "STRING_VALUE",
        Json::List(_) => return Refusal::serialization(format!("Start of list {IN_ITS_PLACE}")),
        Json::Object(_) => return Refusal::serialization(format!("Start of structure or map {IN_ITS_PLACE}")),
    };
    Refusal::serialization(format!("{what} can not be converted to {wanted}"))
}

/// A member's name as messages have it.
fn small(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}
