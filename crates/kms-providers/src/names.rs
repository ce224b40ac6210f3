//! What a key that is named by an ARN is called where it is.

use kmsfs_kms::{Code, Error};
use serde::Deserialize;
use std::collections::BTreeMap;

/// By key ARN, or by what a key store calls the key: its name there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct KeyNames(BTreeMap<String, String>);

impl KeyNames {
    /// The name of the key there: what the table says, or else the last part of a key's ARN (behind `:key/`), or what
    /// is no ARN as it is.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] where that could not be a name: it is empty, or has other characters than letters, digits,
    /// `-`, `_` and `.`.
    pub(crate) fn name_of<'a>(&'a self, key_id: &'a str) -> Result<&'a str, Error> {
        let by_itself = || match key_id.strip_prefix("arn:") {
            Some(rest) => rest.split_once(":key/").map_or("", |(_, name)| name),
            None => key_id,
        };
        let name = self.0.get(key_id).map_or_else(by_itself, String::as_str);
        if is_name(name) { Ok(name) } else { Err(not_found(key_id)) }
    }

    /// The first of the names that no key can have.
    pub(crate) fn wrong(&self) -> Option<&str> {
        self.0.values().map(String::as_str).find(|name| !is_name(name))
    }
}

/// Neither `.` nor `..` nor a slash: it is part of a path.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 256 && name.bytes().all(plain) && name.bytes().any(|byte| byte != b'.')
}

/// AWS's words for a key that is not there.
pub(crate) fn not_found(key_id: &str) -> Error {
    Error::new(Code::NotFound, format!("Key '{key_id}' does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_called_what_the_table_says_or_the_end_of_its_arn() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/orders";
        let names = KeyNames([(arn.to_owned(), "o-1".to_owned())].into());
        assert_eq!(names.name_of(arn).unwrap(), "o-1");
        assert_eq!(KeyNames::default().name_of(arn).unwrap(), "orders");
        assert_eq!(names.name_of("invoices").unwrap(), "invoices");
        for wrong in
            ["", "arn:aws:kms:r:1:alias/x", "..", "a/b", "../sys/seal", "a b", "a%2fb", "arn:aws:kms:r:1:key/.."]
        {
            assert_eq!(names.name_of(wrong).unwrap_err().code, Code::NotFound, "{wrong}");
        }
    }
}
