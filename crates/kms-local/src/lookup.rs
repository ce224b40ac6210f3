//! Naming keys: by key id, key ARN, alias name or alias ARN, with AWS's errors for those that name none.

use super::keyring::{Contents, Key};
use kmsfs_kms::{Code, Error};
use uuid::Uuid;

/// The alias of the AWS managed key for S3.
pub(crate) const AWS_S3: &str = "alias/aws/s3";

impl Contents {
    /// Of a key of another KMS, its own.
    pub fn key_arn(&self, id: &[u8; 16]) -> String {
        match self.arn_elsewhere(id) {
            Some(arn) => arn.to_owned(),
            None => format!("{}key/{}", self.arn_prefix(), Uuid::from_bytes(*id)),
        }
    }

    /// The end of its ARN.
    pub fn key_id(&self, id: &[u8; 16]) -> String {
        let arn = self.key_arn(id);
        arn.split_once(":key/").map_or(arn.clone(), |(_, key_id)| key_id.to_owned())
    }

    pub fn alias_arn(&self, name: &str) -> String {
        format!("{}{name}", self.arn_prefix())
    }

    fn arn_prefix(&self) -> String {
        format!("arn:aws:kms:{}:{}:", self.region, self.account_id)
    }

    /// The key that an id, an ARN or an alias names: one of another KMS too, if something is kept of it here.
    pub fn find(&self, key_id: &str) -> Result<&Key, Error> {
        if let Some(key) = self.elsewhere(key_id) {
            return Ok(key);
        }
        let name = self.resource(key_id)?;
        if name.starts_with("alias/") {
            let alias = self.alias(name).and_then(|alias| self.key(&alias.key));
            return alias
                .ok_or_else(|| Error::new(Code::NotFound, format!("Alias {} is not found.", self.alias_arn(name))));
        }
        let invalid = || Error::new(Code::InvalidKeyId, format!("Invalid keyId '{key_id}'"));
        let text = if key_id.starts_with("arn:") { name.strip_prefix("key/").unwrap_or(name) } else { name };
        // Only the form with hyphens, as AWS prints it.
        let id = Uuid::try_parse(text).ok().filter(|id| id.to_string() == text).ok_or_else(invalid)?;
        let missing = || Error::new(Code::NotFound, format!("Key '{}' does not exist", self.key_arn(id.as_bytes())));
        self.keys.iter().find(|key| key.id == *id.as_bytes()).ok_or_else(missing)
    }

    /// The key that an id or an ARN names: AWS takes no alias where a key is administered.
    pub fn find_by_id(&self, key_id: &str) -> Result<&Key, Error> {
        if key_id.starts_with("alias/") || key_id.contains(":alias/") {
            return Err(Error::new(Code::InvalidKeyId, format!("Invalid keyId '{key_id}'")));
        }
        self.find(key_id)
    }

    /// What follows the account in an ARN, or the name itself.
    fn resource<'a>(&self, key_id: &'a str) -> Result<&'a str, Error> {
        if !key_id.starts_with("arn:") {
            return Ok(key_id);
        }
        let parts: Vec<_> = key_id.splitn(6, ':').collect();
        let [_, "aws", "kms", region, account, resource] = parts[..] else {
            return Err(Error::new(Code::InvalidArn, format!("Invalid arn {key_id}")));
        };
        if region != self.region {
            return Err(Error::new(Code::InvalidKeyId, format!("Invalid arn {region}")));
        }
        if account != self.account_id {
            return Err(Error::new(Code::NotFound, format!("Key '{key_id}' does not exist")));
        }
        if resource.starts_with("key/") || resource.starts_with("alias/") {
            Ok(resource)
        } else {
            Err(Error::new(Code::InvalidArn, format!("Invalid arn {key_id}")))
        }
    }
}

/// `alias/` and [a-zA-Z0-9/_-]+, not `alias/aws/...`, at most 256 characters.
pub(crate) fn check_alias_name(name: &str) -> Result<(), Error> {
    let constraint = |what: &str| {
        Error::new(
            Code::Validation,
            format!("1 validation error detected: Value '{name}' at 'aliasName' failed to satisfy constraint: {what}"),
        )
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    if name.is_empty() || name.len() > 256 {
        return Err(constraint("Member must have length between 1 and 256"));
    }
    if !name.strip_prefix("alias/").unwrap_or(name).bytes().all(legal) {
        return Err(constraint("Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"));
    }
    match name.strip_prefix("alias/") {
        None => Err(Error::new(
            Code::Validation,
            "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        )),
        Some("") => Err(constraint("Member must have length greater than or equal to 1 after 'alias/'")),
        Some(rest) if rest.starts_with("aws/") => {
            Err(Error::new(Code::InvalidAliasName, "Alias must not start with alias/aws/"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_names_are_those_that_aws_takes() {
        for good in ["alias/x", "alias/a/b_c-9", "alias/awsome"] {
            assert_eq!(check_alias_name(good), Ok(()), "{good}");
        }
        let longest = format!("alias/{}", "x".repeat(250));
        assert_eq!(check_alias_name(&longest), Ok(()));
        let cases = [
            ("", Code::Validation),
            ("x", Code::Validation),
            ("alias/", Code::Validation),
            ("alias/a b", Code::Validation),
            ("alias/é", Code::Validation),
            (&format!("{longest}x"), Code::Validation),
            ("alias/aws/s3", Code::InvalidAliasName),
        ];
        for (bad, expected) in cases {
            assert_eq!(check_alias_name(bad).unwrap_err().code, expected, "{bad}");
        }
    }
}
