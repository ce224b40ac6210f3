//! How the keyring keeps grants.

use kmsfs_kms::api::Grant;
use kmsfs_kms::{Code, Error};

/// As the attribute `grants` of a key holds them: JSON.
pub fn encode(grants: &[Grant]) -> Result<Vec<u8>, Error> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(grants).map_err(|error| Error::new(Code::KmsInternal, format!("grants: {error}")))
}

pub fn decode(bytes: &[u8]) -> Result<Vec<Grant>, Error> {
    let fail =
        |error| Error::new(Code::KmsInternal, format!("the key's grants in the keyring cannot be read: {error}"));
    serde_json::from_slice(bytes).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_kms::EncryptionContext;
    use kmsfs_kms::api::Constraints;

    const ALICE: &str = "arn:aws:iam::111122223333:user/uid:4000001";

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    fn grant(operations: &[&str], constraints: Constraints) -> Grant {
        Grant {
            grant_id: "0a".into(),
            grant_token: "token".into(),
            name: None,
            creation_date: 5,
            grantee_principal: ALICE.into(),
            retiring_principal: None,
            issuing_account: "arn:aws:iam::111122223333:root".into(),
            operations: operations.iter().map(|operation| (*operation).to_string()).collect(),
            constraints,
        }
    }

    fn subset(pairs: &[(&str, &str)]) -> Constraints {
        Constraints { encryption_context_subset: Some(context(pairs)), ..Constraints::default() }
    }

    #[test]
    fn grants_are_kept_as_docs_format_has_them() {
        let bytes = encode(&[grant(&["Decrypt"], subset(&[("a", "1")]))]).unwrap();
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
