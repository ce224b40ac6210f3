use crate::error::{Code, Error};
use serde::{Deserialize, Serialize};

/// Name of a multipart upload: up to 128 letters, digits, `-` and `_`, so that it is safe as a file's name too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(String);

impl UploadId {
    /// The longest that is given out.
    pub const MAX_LEN: usize = 128;

    /// # Errors
    /// `NoSuchUpload`: no upload has ever had an id of another form.
    pub fn parse(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(safe) {
            Ok(Self(text))
        } else {
            Err(Error::new(Code::NoSuchUpload).with("UploadId", text))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UploadId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_path() {
        assert_eq!(UploadId::parse("2~aB_9").unwrap_err().code(), &Code::NoSuchUpload);
        assert_eq!(UploadId::parse("aB_9-0").unwrap().as_str(), "aB_9-0");
        for wrong in ["", "..", "a/b", "a.b", "a b", "a\0", "ä", &"a".repeat(129)] {
            assert!(UploadId::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(UploadId::parse("a".repeat(128)).is_ok());
    }
}
