//! The process that holds the keyring: it verifies signatures, and connects whoever signed with the worker of that
//! user.

use super::spawner::Spawner;
use super::worker::Identity;
use crate::cli::helper::broker::Broker;
use kmsfs_http::authority::{Ask, Found, Key, Signed, Told, User as Signer};
use kmsfs_kms::api::Service;
use kmsfs_kms::{AccessKeyId, Principal, SignedRequest};
use kmsfs_kms_json::Reply;
use kmsfs_kms_json::sts::CallerIdentity;
use kmsfs_kms_local::{LocalKms, User, UserDatabase};
use kmsfs_sigv4::{Finding, Question, SigningKey};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use time::OffsetDateTime;

/// What requests are signed for here.
const SERVICES: [&str; 3] = ["s3", "kms", "sts"];

pub struct Authority {
    /// Whose access keys sign requests.
    pub keyring: Arc<LocalKms>,
    /// Every KMS key, audited where that is asked for.
    pub service: Arc<dyn Service>,
    pub users: Arc<Broker>,
    pub spawner: Spawner,
    pub account: String,
    pub region: String,
    /// Where this is not root: the only user who is served.
    pub only: Option<u32>,
}

impl Authority {
    /// Nothing of the question is believed before its signature is verified.
    pub fn answer(&self, ask: Ask) -> (Told, Option<OwnedFd>) {
        match ask {
            // A worker does what S3 is asked for.
            Ask::Verify { signed, connect: true, .. } => {
                self.told(signed, &["s3"], |key, user, _| self.right(key, user, true))
            }
            Ask::Verify { signed, connect: false, .. } => {
                self.told(signed, &SERVICES, |key, user, _| self.right(key, user, false))
            }
            Ask::Kms { signed, request, source, user_agent } => self.told(signed, &["kms"], |_, user, access_key| {
                let user_agent = user_agent.map(Into::into);
                let asks = SignedRequest { access_key, uid: user.uid, gid: user.gid, source, user_agent };
                let answer = self.service.call(&request, &Principal::Request(asks));
                Ok((Told::Called { user: signer(&user), reply: Reply::new(&answer) }, None))
            }),
            Ask::Sts { signed, source } => self.told(signed, &["sts"], |_, user, access_key| {
                let asks = SignedRequest { access_key, uid: user.uid, gid: user.gid, source, user_agent: None };
                let identity = CallerIdentity::of(&Principal::Request(asks), &*self.keyring);
                Ok((Told::Caller { user: signer(&user), identity }, None))
            }),
        }
    }

    /// `act`, if the signature is right and for one of these services, and its user is one who is served here.
    fn told(
        &self,
        signed: Signed,
        services: &[&str],
        act: impl FnOnce(Option<SigningKey>, User, AccessKeyId) -> Result<(Told, Option<OwnedFd>), String>,
    ) -> (Told, Option<OwnedFd>) {
        let question = Question::from(signed);
        if !services.contains(&question.credential.service.as_str()) {
            return (Told::Verified(Found::Wrong), None);
        }
        let (finding, who) = match self.examine(&question) {
            Ok(found) => found,
            Err(why) => return (Told::Outage(why), None),
        };
        let (key, (user, access_key)) = match (finding, who) {
            (Finding::Right(key), Some(who)) => (key, who),
            (Finding::NoSuchKey, _) => return (Told::Verified(Found::NoSuchKey), None),
            _ => return (Told::Verified(Found::Wrong), None),
        };
        if let Some(only) = self.only.filter(|only| *only != user.uid) {
            let text = format!("This server is run by uid {only}, and serves the access keys of that user alone");
            return (Told::NotServed(text), None);
        }
        act(key, user, access_key).unwrap_or_else(|why| (Told::Outage(why), None))
    }

    fn right(&self, key: Option<SigningKey>, user: User, connect: bool) -> Result<(Told, Option<OwnedFd>), String> {
        let connection = connect.then(|| self.connect(&user)).transpose();
        let connection = connection.map_err(|error| format!("no worker for {}: {error}", user.name))?;
        Ok((Told::Verified(Found::Right { user: signer(&user), key: key.map(Key::from) }), connection))
    }

    fn examine(&self, question: &Question) -> Result<(Finding, Option<(User, AccessKeyId)>), String> {
        let credential = &question.credential;
        if credential.region != self.region || !question.is_of_a_request(OffsetDateTime::now_utc()) {
            return Ok((Finding::Wrong, None));
        }
        let signer = self.keyring.signer(credential).map_err(|error| error.message)?;
        let (key, who) = signer.map(|signer| (signer.key, (signer.user, signer.access_key))).unzip();
        Ok((question.examine(key), who))
    }

    fn connect(&self, user: &User) -> io::Result<OwnedFd> {
        let mut groups = self.users.groups_of(user).map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        groups.sort_unstable();
        groups.dedup();
        let (uid, gid, name, account) = (user.uid, user.gid, user.name.clone(), self.account.clone());
        self.spawner.connect(&Identity { uid, gid, groups, name, account })
    }
}

fn signer(user: &User) -> Signer {
    Signer { uid: user.uid, name: user.name.clone() }
}
