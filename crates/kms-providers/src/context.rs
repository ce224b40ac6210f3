//! The encryption context as additional authenticated data.

use kmsfs_kms::EncryptionContext;

/// JSON without white space, members in the order of their names' bytes: what is bound to a blob where the KMS takes
/// bytes and no pairs. Part of the format: blobs of today must open with it for ever.
pub(crate) fn canonical(context: &EncryptionContext) -> Vec<u8> {
    serde_json::to_vec(context).expect("strings are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_what_it_was() {
        let context = [("b", "2\u{e9}"), ("aws:s3:arn", "arn:aws:s3:::x/a \"q\"\n")];
        let context = context.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let text = "{\"aws:s3:arn\":\"arn:aws:s3:::x/a \\\"q\\\"\\n\",\"b\":\"2\u{e9}\"}";
        assert_eq!(String::from_utf8(canonical(&context)).unwrap(), text);
        assert_eq!(canonical(&EncryptionContext::new()), b"{}");
    }
}
