//! What S3 allows as the name of a general purpose bucket (S3 User Guide, "General purpose bucket naming rules").

use std::ffi::OsStr;
use std::fmt;

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 4] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3"];

/// A name that S3 would accept for a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketName(String);

impl BucketName {
    /// Checks a name against all rules.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(name: impl AsRef<OsStr>) -> Result<Self, BucketNameError> {
        let name = name.as_ref();
        // What is not UTF-8 has a byte outside of the allowed characters in any case.
        let text = name.to_str().ok_or(BucketNameError::Character('\u{fffd}'))?;
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule that a name breaks. Its text is meant for the log line that goes with EINVAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketNameError {
    /// In bytes.
    #[error("{INVALID}: a bucket name has 3 to 63 characters, this one has {0}")]
    Length(usize),
    /// A character that no bucket name has.
    #[error("{INVALID}: a bucket name consists of a-z, 0-9, '.' and '-', this one contains {0:?}")]
    Character(char),
    /// It begins with this one.
    #[error("{INVALID}: a bucket name begins with a letter or digit, this one with {0:?}")]
    Beginning(char),
    /// It ends with this one.
    #[error("{INVALID}: a bucket name ends with a letter or digit, this one with {0:?}")]
    End(char),
    /// Two dots in a row.
    #[error("{INVALID}: a bucket name has no two dots in a row")]
    AdjacentDots,
    /// It looks like an IPv4 address.
    #[error("{INVALID}: a bucket name is not formed like an IPv4 address")]
    IpAddress,
    /// A beginning that S3 keeps for itself.
    #[error("{INVALID}: a bucket name does not begin with {0:?}")]
    ReservedPrefix(&'static str),
    /// An end that S3 keeps for itself.
    #[error("{INVALID}: a bucket name does not end with {0:?}")]
    ReservedSuffix(&'static str),
}

/// S3's code and message.
const INVALID: &str = "InvalidBucketName: The specified bucket is not valid";

fn check(name: &str) -> Result<(), BucketNameError> {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some(c) = name.chars().find(|&c| !is_alphanumeric(c) && c != '.' && c != '-') {
        return Err(BucketNameError::Character(c));
    }
    if !(3..=63).contains(&name.len()) {
        return Err(BucketNameError::Length(name.len()));
    }
    if let Some(c) = name.chars().next().filter(|&c| !is_alphanumeric(c)) {
        return Err(BucketNameError::Beginning(c));
    }
    if let Some(c) = name.chars().next_back().filter(|&c| !is_alphanumeric(c)) {
        return Err(BucketNameError::End(c));
    }
    if name.contains("..") {
        return Err(BucketNameError::AdjacentDots);
    }
    if is_like_ipv4(name) {
        return Err(BucketNameError::IpAddress);
    }
    if let Some(prefix) = RESERVED_PREFIXES.into_iter().find(|p| name.starts_with(p)) {
        return Err(BucketNameError::ReservedPrefix(prefix));
    }
    if let Some(suffix) = RESERVED_SUFFIXES.into_iter().find(|s| name.ends_with(s)) {
        return Err(BucketNameError::ReservedSuffix(suffix));
    }
    Ok(())
}

/// Four groups of one to three digits; whether they are below 256 does not matter.
fn is_like_ipv4(name: &str) -> bool {
    let mut groups = 0;
    name.split('.').all(|group| {
        groups += 1;
        matches!(group.len(), 1..=3) && group.bytes().all(|b| b.is_ascii_digit())
    }) && groups == 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn error(name: &str) -> BucketNameError {
        BucketName::parse(name).expect_err(name)
    }

    #[test]
    fn ordinary_names_are_accepted() {
        let longest = "a".repeat(63);
        for name in
            ["abc", "my-bucket", "logs.2024.example", "0-0", "1.2.3", "1.2.3.4.5", "a.b-c", "1234.1.1.1", &longest]
        {
            assert_eq!(BucketName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn every_rule_is_named() {
        assert_eq!(error("ab"), BucketNameError::Length(2));
        assert_eq!(error(""), BucketNameError::Length(0));
        assert_eq!(error(&"a".repeat(64)), BucketNameError::Length(64));
        assert_eq!(error("MyBucket"), BucketNameError::Character('M'));
        assert_eq!(error("my_bucket"), BucketNameError::Character('_'));
        assert_eq!(error("bücher"), BucketNameError::Character('ü'));
        assert_eq!(error("-abc"), BucketNameError::Beginning('-'));
        assert_eq!(error(".abc"), BucketNameError::Beginning('.'));
        assert_eq!(error("abc-"), BucketNameError::End('-'));
        assert_eq!(error("a..b"), BucketNameError::AdjacentDots);
        assert_eq!(error("192.168.5.4"), BucketNameError::IpAddress);
        assert_eq!(error("999.1.1.1"), BucketNameError::IpAddress);
        assert_eq!(error("xn--abc"), BucketNameError::ReservedPrefix("xn--"));
        assert_eq!(error("sthree-abc"), BucketNameError::ReservedPrefix("sthree-"));
        assert_eq!(error("amzn-s3-demo-bucket"), BucketNameError::ReservedPrefix("amzn-s3-demo-"));
        assert_eq!(error("abc-s3alias"), BucketNameError::ReservedSuffix("-s3alias"));
        assert_eq!(error("abc--ol-s3"), BucketNameError::ReservedSuffix("--ol-s3"));
        assert_eq!(error("abc.mrap"), BucketNameError::ReservedSuffix(".mrap"));
        assert_eq!(error("abc--x-s3"), BucketNameError::ReservedSuffix("--x-s3"));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let error = BucketName::parse(OsStr::from_bytes(b"ab\xff")).unwrap_err();
        assert_eq!(error, BucketNameError::Character('\u{fffd}'));
    }

    #[test]
    fn the_message_says_which_rule() {
        assert_eq!(
            error("MyBucket").to_string(),
            "InvalidBucketName: The specified bucket is not valid: a bucket name consists of a-z, 0-9, '.' and '-', \
             this one contains 'M'"
        );
    }
}
