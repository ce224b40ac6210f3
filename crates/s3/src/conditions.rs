//! What must hold of an object before it is read or replaced.

use crate::error::{Code, Error};
use crate::request::Headers;
use crate::{ETag, Timestamp};
use serde::{Deserialize, Serialize};

/// `If-Match` and `If-None-Match`: `*` or a list of tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtagMatch {
    /// `*`: any object.
    Any,
    /// One of these.
    OneOf(Vec<ETag>),
}

impl EtagMatch {
    /// As headers have it. Weak tags (`W/`) are equal to none, and tags without quotes are taken, as S3 does.
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        Self::OneOf(text.split(',').map(|tag| ETag::new(tag.trim())).collect())
    }

    fn holds(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

/// The conditions of a GET, a HEAD, or of the source of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preconditions {
    /// `If-Match`.
    pub if_match: Option<EtagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<EtagMatch>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<Timestamp>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<Timestamp>,
}

impl Preconditions {
    /// Of headers with these four names or, with a prefix, of those that are of a copy's source.
    ///
    /// # Errors
    /// `InvalidArgument`: one is there twice. A date that is none does not count (RFC 9110, 13.1.3).
    pub(crate) fn read(headers: Headers<'_>, prefix: &str) -> Result<Self, Error> {
        let text = |name: &str| headers.get(&format!("{prefix}{name}"));
        Ok(Self {
            if_match: text("if-match")?.map(EtagMatch::parse),
            if_none_match: text("if-none-match")?.map(EtagMatch::parse),
            if_modified_since: text("if-modified-since")?.and_then(Timestamp::parse_http_date),
            if_unmodified_since: text("if-unmodified-since")?.and_then(Timestamp::parse_http_date),
        })
    }

    /// Of a GET or HEAD of an object that is there. A condition on times counts only where there is none on tags (RFC
    /// 9110, 13.2.2; Amazon S3 API Reference, GetObject, "Additional considerations about request headers").
    ///
    /// # Errors
    /// `PreconditionFailed`, or `NotModified` with the headers that a 304 has.
    pub fn check(&self, etag: &ETag, modified: Timestamp) -> Result<(), Error> {
        match self.failing(etag, modified) {
            None => Ok(()),
            Some(Condition::Changed(name)) => Err(failed(name)),
            Some(Condition::Unchanged(_)) => Err(Error::new(Code::NotModified)
                .with_header("ETag", etag.quoted())
                .with_header("Last-Modified", modified.http_date())),
        }
    }

    /// Of the source of a copy: whatever fails is a 412 (Amazon S3 API Reference, CopyObject).
    ///
    /// # Errors
    /// `PreconditionFailed`.
    pub fn check_source(&self, etag: &ETag, modified: Timestamp) -> Result<(), Error> {
        match self.failing(etag, modified) {
            None => Ok(()),
            Some(Condition::Changed(name) | Condition::Unchanged(name)) => {
                Err(failed(&format!("x-amz-copy-source-{name}")))
            }
        }
    }

    fn failing(&self, etag: &ETag, modified: Timestamp) -> Option<Condition> {
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !tags.holds(etag) => return Some(Condition::Changed("If-Match")),
            (None, Some(time)) if modified > time => return Some(Condition::Changed("If-Unmodified-Since")),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if tags.holds(etag) => Some(Condition::Unchanged("If-None-Match")),
            (None, Some(time)) if modified <= time => Some(Condition::Unchanged("If-Modified-Since")),
            _ => None,
        }
    }
}

/// A condition that does not hold, by the name of its header.
enum Condition {
    /// It asks for an object that has not changed.
    Changed(&'static str),
    /// It asks for one that has.
    Unchanged(&'static str),
}

/// The condition of a write (Amazon S3 User Guide, "How to prevent object overwrites with conditional writes").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteCondition {
    /// `If-None-Match: *`: there is no object of that key.
    Absent,
    /// `If-Match`: there is one, with this tag.
    Is(ETag),
}

impl WriteCondition {
    /// `current` is the tag of the object that is there, if one is.
    ///
    /// # Errors
    /// `PreconditionFailed`, or `NoSuchKey` where an object has to be there and is not.
    pub fn check(&self, current: Option<&ETag>) -> Result<(), Error> {
        match (self, current) {
            (Self::Absent, None) => Ok(()),
            (Self::Absent, Some(_)) => Err(failed("If-None-Match")),
            (Self::Is(_), None) => Err(Error::new(Code::NoSuchKey)),
            (Self::Is(wanted), Some(current)) if wanted == current => Ok(()),
            (Self::Is(_), Some(_)) => Err(failed("If-Match")),
        }
    }
}

/// `PreconditionFailed`, with the header's name as S3 has it.
pub(crate) fn failed(condition: &str) -> Error {
    Error::new(Code::PreconditionFailed).with("Condition", condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: i64 = 1_000_000;

    fn tags(tag: &str) -> EtagMatch {
        EtagMatch::OneOf(vec![ETag::new("other"), ETag::new(tag)])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(MODIFIED + seconds)
    }

    fn status(conditions: &Preconditions) -> u16 {
        let (etag, modified) = (ETag::new("tag"), Timestamp::from_unix(MODIFIED));
        let of_source = conditions.check_source(&etag, modified).map_or_else(|error| error.status(), |()| 200);
        let status = conditions.check(&etag, modified).map_or_else(|error| error.status(), |()| 200);
        assert_eq!(of_source, if status == 304 { 412 } else { status });
        status
    }

    #[test]
    fn tags_come_in_lists_with_quotes_or_without() {
        assert_eq!(EtagMatch::parse("*"), EtagMatch::Any);
        let list = EtagMatch::parse("\"a\",b , W/\"c\"");
        assert!(list.holds(&ETag::new("a")) && list.holds(&ETag::new("b")));
        assert!(!list.holds(&ETag::new("c")) && !list.holds(&ETag::new("")));
        let headers: &[(&[u8], &[u8])] = &[(b"If-Modified-Since", b"yesterday"), (b"x-if-match", b"*")];
        let conditions = Preconditions::read(Headers(headers), "x-").unwrap();
        assert_eq!(conditions, Preconditions { if_match: Some(EtagMatch::Any), ..Preconditions::default() });
        assert_eq!(Preconditions::read(Headers(headers), "").unwrap(), Preconditions::default());
    }

    #[test]
    fn one_condition_alone() {
        let none = Preconditions::default();
        assert_eq!(status(&none), 200);
        for (held, condition) in [(200, Some(tags("tag"))), (200, Some(EtagMatch::Any)), (412, Some(tags("x")))] {
            assert_eq!(status(&Preconditions { if_match: condition, ..none.clone() }), held);
        }
        for (held, condition) in [(304, Some(tags("tag"))), (304, Some(EtagMatch::Any)), (200, Some(tags("x")))] {
            assert_eq!(status(&Preconditions { if_none_match: condition, ..none.clone() }), held);
        }
        for (held, time) in [(304, Some(at(0))), (304, Some(at(1))), (200, Some(at(-1)))] {
            assert_eq!(status(&Preconditions { if_modified_since: time, ..none.clone() }), held);
        }
        for (held, time) in [(200, Some(at(0))), (200, Some(at(1))), (412, Some(at(-1)))] {
            assert_eq!(status(&Preconditions { if_unmodified_since: time, ..none.clone() }), held);
        }
    }

    /// The two rows of S3's table, and RFC 9110's order for the rest.
    #[test]
    fn a_tag_overrules_a_time() {
        let none = Preconditions::default();
        let both = Preconditions { if_match: Some(tags("tag")), if_unmodified_since: Some(at(-1)), ..none.clone() };
        assert_eq!(status(&both), 200);
        let both = Preconditions { if_none_match: Some(tags("tag")), if_modified_since: Some(at(-1)), ..none.clone() };
        assert_eq!(status(&both), 304);
        let both = Preconditions { if_none_match: Some(tags("x")), if_modified_since: Some(at(1)), ..none.clone() };
        assert_eq!(status(&both), 200);
        let both = Preconditions { if_match: Some(tags("x")), if_none_match: Some(tags("tag")), ..none.clone() };
        assert_eq!(status(&both), 412);
        let both = Preconditions { if_match: Some(tags("tag")), if_none_match: Some(tags("tag")), ..none };
        assert_eq!(status(&both), 304);
    }

    #[test]
    fn what_is_not_modified_says_which_one_it_is() {
        let conditions = Preconditions { if_none_match: Some(EtagMatch::Any), ..Preconditions::default() };
        let error = conditions.check(&ETag::new("tag"), Timestamp::from_unix(0)).unwrap_err();
        assert_eq!(error.headers()[0], ("ETag".to_owned(), "\"tag\"".to_owned()));
        assert_eq!(error.headers()[1].1, "Thu, 01 Jan 1970 00:00:00 GMT");
        let failed = conditions.check_source(&ETag::new("tag"), Timestamp::from_unix(0)).unwrap_err();
        assert_eq!(failed.elements(), [("Condition".to_owned(), "x-amz-copy-source-If-None-Match".to_owned())]);
    }

    #[test]
    fn a_write_can_ask_for_absence_or_for_one_tag() {
        let tag = ETag::new("tag");
        let code = |condition: &WriteCondition, current| condition.check(current).map_err(|error| error.code().clone());
        assert_eq!(code(&WriteCondition::Absent, None), Ok(()));
        assert_eq!(code(&WriteCondition::Absent, Some(&tag)), Err(Code::PreconditionFailed));
        assert_eq!(code(&WriteCondition::Is(tag.clone()), Some(&tag)), Ok(()));
        assert_eq!(code(&WriteCondition::Is(ETag::new("x")), Some(&tag)), Err(Code::PreconditionFailed));
        assert_eq!(code(&WriteCondition::Is(tag.clone()), None), Err(Code::NoSuchKey));
    }
}
