//! Access keys: IAM's calls, and what the signature of a request is verified with.

use crate::blob::Names;
use crate::keyring::{AccessKey, Contents, access_key_secret, random_access_key_id};
use crate::keyring::{Material, Wrapping};
use crate::local::{ACCESS_KEYS, LocalKms};
use crate::users::User;
use kmsfs_crypto::SecretKey;
use kmsfs_kms::iam::{self, Answer, Code, NewAccessKey, Request, Service, Status};
use kmsfs_kms::{AccessKeyId, Error, Principal, SignedRequest};
use kmsfs_sigv4::{Credential, SecretAccessKey, SigningKey};
use std::net::IpAddr;
use std::sync::Arc;

/// IAM's quota.
const MOST_OF_A_USER: usize = 2;

/// Whoever has signed a request, if the signature is right.
#[derive(Debug)]
pub struct Signer {
    /// The access key.
    pub access_key: AccessKeyId,
    /// Whose it is.
    pub user: User,
    /// For the scope of the credential; the secret itself stays here.
    pub key: SigningKey,
}

impl Signer {
    /// Who asks, once the signature was found to be right: from where, and with what program by its own word.
    pub fn principal(&self, source: Option<IpAddr>, user_agent: Option<Arc<str>>) -> Principal {
        let User { uid, gid, .. } = self.user;
        Principal::Request(SignedRequest { access_key: self.access_key, uid, gid, source, user_agent })
    }
}

impl LocalKms {
    /// Who a credential names, and the signing key for its scope. `None` where there is no such access key, it is
    /// inactive, or its user is gone: AWS tells none of these apart.
    ///
    /// # Errors
    ///
    /// An outage: the keyring cannot be read, or the user database cannot be asked.
    pub fn signer(&self, credential: &Credential) -> Result<Option<Signer>, Error> {
        let Some(id) = AccessKeyId::parse(&credential.access_key_id) else { return Ok(None) };
        let find = || {
            self.ask(|contents| {
                let key = contents.access_keys().iter().find(|key| key.id == id && key.is_active());
                Ok(key.map(|key| (key.user_name.clone(), key.material.id)))
            })
        };
        let mut found = find()?;
        if found.is_none() {
            // It may have been made a moment ago.
            self.look_now();
            found = find()?;
        }
        let Some((user_name, material)) = found else { return Ok(None) };
        let Some(user) = self.directory.user_named(&user_name)? else { return Ok(None) };
        let material = self.unwrapped(Names { key: ACCESS_KEYS, material })?;
        let secret = SecretAccessKey::new(&access_key_secret(&material));
        let key = SigningKey::derive(&secret, &credential.date, &credential.region, &credential.service);
        Ok(Some(Signer { access_key: id, user, key }))
    }

    fn create_access_key(&self, user_name: &str) -> Result<NewAccessKey, iam::Error> {
        let user = self.existing_user(user_name)?.ok_or_else(|| iam::Error::no_such_user(user_name))?;
        self.change_or_refuse(|contents, wrapping| {
            let mut keys = contents.access_keys().to_vec();
            if keys.iter().filter(|key| key.user_name == user.name).count() >= MOST_OF_A_USER {
                let text = format!("Cannot exceed quota for AccessKeysPerUser: {MOST_OF_A_USER}");
                return Err(iam::Error::new(Code::LimitExceeded, text));
            }
            let (key, secret) = self.new_access_key(&user.name, &keys, wrapping)?;
            let made = NewAccessKey { key: shown(&key), secret: access_key_secret(&secret) };
            keys.push(key);
            contents.set_access_keys(keys);
            Ok(made)
        })
    }

    fn new_access_key(
        &self,
        user_name: &str,
        others: &[AccessKey],
        wrapping: &Wrapping,
    ) -> Result<(AccessKey, SecretKey), Error> {
        let mut id = random_access_key_id();
        while others.iter().any(|other| other.id == id) {
            id = random_access_key_id();
        }
        let (secret, create_date) = (SecretKey::random(), self.now());
        let material = Material::of(&secret, wrapping, create_date)?;
        let key = AccessKey { id, user_name: user_name.into(), status: Status::Active, create_date, material };
        Ok((key, secret))
    }

    fn list_access_keys(&self, user_name: Option<&str>) -> Result<Vec<iam::AccessKey>, iam::Error> {
        let is_theirs = |key: &&AccessKey| user_name.is_none_or(|name| name == key.user_name);
        let keys: Vec<_> =
            self.ask(|contents| Ok(contents.access_keys().iter().filter(is_theirs).map(shown).collect()))?;
        match user_name {
            // Those of a user who is gone are shown, so that they can be deleted.
            Some(name) if keys.is_empty() && self.existing_user(name)?.is_none() => Err(iam::Error::no_such_user(name)),
            _ => Ok(keys),
        }
    }

    /// `None` if nobody has this name, or nobody can.
    fn existing_user(&self, name: &str) -> Result<Option<User>, Error> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Ok(None);
        }
        Ok(self.directory.user_named(name)?)
    }

    /// Refuses whoever is not the account's root: no policy says of others that they may.
    fn permit_iam(&self, request: &Request, caller: &Principal) -> Result<(), iam::Error> {
        let who = self.directory.principals(caller);
        if who.is_root {
            return Ok(());
        }
        let (arn, action) = (who.arn(), request.name());
        let resource = format!("user {}", request.user_name().unwrap_or("*"));
        Err(iam::Error::new(
            Code::AccessDenied,
            format!(
                "User: {arn} is not authorized to perform: iam:{action} on resource: {resource} because no \
                 identity-based policy allows the iam:{action} action"
            ),
        ))
    }
}

impl Service for LocalKms {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, iam::Error> {
        self.permit_iam(request, caller)?;
        match request {
            Request::CreateAccessKey { user_name } => self.create_access_key(user_name).map(Answer::Created),
            Request::ListAccessKeys { user_name } => {
                self.list_access_keys(user_name.as_deref()).map(Answer::AccessKeys)
            }
            Request::UpdateAccessKey { user_name, access_key_id, status } => self.change_or_refuse(|contents, _| {
                let (mut keys, at) = named(contents, access_key_id, user_name.as_deref())?;
                keys[at].status = *status;
                contents.set_access_keys(keys);
                Ok(Answer::Done)
            }),
            Request::DeleteAccessKey { user_name, access_key_id } => self.change_or_refuse(|contents, _| {
                let (mut keys, at) = named(contents, access_key_id, user_name.as_deref())?;
                keys.remove(at);
                contents.set_access_keys(keys);
                Ok(Answer::Done)
            }),
        }
    }
}

/// All access keys, and which of them is named: of that user, if one is.
fn named(contents: &Contents, id: &str, user_name: Option<&str>) -> Result<(Vec<AccessKey>, usize), iam::Error> {
    let keys = contents.access_keys().to_vec();
    let is_meant = |key: &AccessKey| key.id.to_string() == id && user_name.is_none_or(|name| name == key.user_name);
    let at = keys.iter().position(is_meant).ok_or_else(|| iam::Error::no_such_access_key(id))?;
    Ok((keys, at))
}

fn shown(key: &AccessKey) -> iam::AccessKey {
    iam::AccessKey { user_name: key.user_name.clone(), id: key.id, status: key.status, created: key.create_date }
}
