//! How the keyring keeps grants.

use kmsfs_kms::api::Grant;
use kmsfs_kms::{Code, Error};

/// As the attribute `grants` of a key holds them: JSON.
pub(crate) fn encode(grants: &[Grant]) -> Result<Vec<u8>, Error> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(grants).map_err(|error| Error::new(Code::KmsInternal, format!("grants: {error}")))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Grant>, Error> {
    let fail =
        |error| Error::new(Code::KmsInternal, format!("the key's grants in the keyring cannot be read: {error}"));
    serde_json::from_slice(bytes).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::api::Constraints;

    #[test]
    fn grants_are_kept_as_docs_format_has_them() {
        let subset = [("a".to_owned(), "1".to_owned())].into();
        let grant = Grant {
            grant_id: "0a".into(),
            grant_token: "token".into(),
            name: None,
            creation_date: 5,
            grantee_principal: "arn:aws:iam::111122223333:user/uid:4000001".into(),
            retiring_principal: None,
            issuing_account: "arn:aws:iam::111122223333:root".into(),
            operations: vec!["Decrypt".into()],
            constraints: Constraints { encryption_context_subset: Some(subset), ..Constraints::default() },
        };
        let bytes = encode(&[grant]).unwrap();
        let text = concat!(
            r#"[{"GrantId":"0a","GrantToken":"token","CreationDate":5,"#,
            r#""GranteePrincipal":"arn:aws:iam::111122223333:user/uid:4000001","#,
            r#""IssuingAccount":"arn:aws:iam::111122223333:root","Operations":["Decrypt"],"#,
            r#""Constraints":{"EncryptionContextSubset":{"a":"1"}}}]"#
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), text);
        assert_eq!(encode(&decode(&bytes).unwrap()).unwrap(), bytes);
        assert_eq!(encode(&[]).unwrap(), Vec::<u8>::new());
        assert_eq!(decode(b"x").unwrap_err().code, Code::KmsInternal);
        assert!(decode(text.replace("Name", "N").replace("GrantToken", "More").as_bytes()).is_err());
    }
}
