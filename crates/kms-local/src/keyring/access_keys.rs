//! Access keys, as the keyring keeps them.

use super::material::Material;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kmsfs_crypto::{SecretKey, random};
use kmsfs_kms::AccessKeyId;
use kmsfs_kms::iam::Status;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// An access key of a Linux user. When it was used last is not kept: each use would change the keyring.
///
/// The user is known by the name, as IAM's users are, and is looked up at each use: a number that is given to somebody
/// else, or that is another one on the machine where a backup is restored, takes no access key with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AccessKey {
    #[serde(rename = "AccessKeyId")]
    pub id: AccessKeyId,
    pub user_name: String,
    pub status: Status,
    /// Nanoseconds since 1970.
    pub create_date: i64,
    /// Of which the secret is made: wrapped as that of keys is, so that it is destroyed with it.
    pub material: Material,
}

impl AccessKey {
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }
}

/// A new access key's id: `AKIA` and 16 of the letters and digits of base32, 80 random bits.
pub(crate) fn random_id() -> AccessKeyId {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let rest = random::bytes::<16>().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    let text: String = "AKIA".chars().chain(rest).collect();
    AccessKeyId::parse(&text).expect("20 letters and digits")
}

/// The secret of an access key, as AWS's look: base64 of 30 bytes, which are the first ones of its material.
pub(crate) fn secret_of(material: &SecretKey) -> Zeroizing<String> {
    const BYTES: usize = 30;
    let bytes = material.duplicate().into_plaintext();
    let mut text = Zeroizing::new(String::with_capacity(BYTES / 3 * 4));
    STANDARD.encode_string(&bytes[..BYTES], &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docs/FORMAT.md has it.
    #[test]
    fn the_json_is_that_of_the_format() {
        let text = r#"{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","UserName":"alice","Status":"Inactive","CreateDate":7,"Material":{"id":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"created":7,"wrapped":[2,3]}}"#;
        let key: AccessKey = serde_json::from_str(text).unwrap();
        assert_eq!((key.user_name.as_str(), key.status, key.material.id), ("alice", Status::Inactive, [1; 16]));
        assert_eq!(serde_json::to_string(&key).unwrap(), text);
        for unknown in
            [text.replace("Inactive", "Expired"), text.replace("{\"A", "{\"New\":1,\"A"), text.replace("AKIA", "akia")]
        {
            assert!(serde_json::from_str::<AccessKey>(&unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn ids_and_secrets_look_like_those_of_aws_and_do_not_repeat() {
        let [one, other] = [(); 2].map(|()| random_id().to_string());
        assert!(one.starts_with("AKIA") && one != other, "{one} {other}");
        assert!(one.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte)), "{one}");
        let material = SecretKey::from_plaintext(&[0xfb; 32]).unwrap();
        assert_eq!(secret_of(&material).as_str(), "+/v7".repeat(10));
        let [one, other] = [(); 2].map(|()| secret_of(&SecretKey::random()));
        assert_ne!(one, other);
    }
}
