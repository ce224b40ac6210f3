//! Whether somebody may do something with a key: its policy and its grants.

use super::keyring::{Contents, GRANTS, Key, POLICY};
use super::local::LocalKms;
use super::principal::Principals;
use super::{admin, grants};
use kmsfs_kms::api::{self, Grant, KeyManager};
use kmsfs_kms::policy::{self, Decision, Judgement, Known, Policy, Request, aws_s3_policy, default_policy};
use kmsfs_kms::{Authorizer, Caller, Code, EncryptionContext, Error, KeyUse, Principal};
use kmsfs_locks::{RwLock, ranks};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A request as policies see it.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// AWS's name of the operation, without `kms:`.
    pub action: &'a str,
    /// Who asks.
    pub caller: &'a Principal,
    /// Through a mount or another command on the store's objects: S3 asks on the caller's behalf.
    pub through_s3: bool,
    /// Of cryptographic operations.
    pub context: Option<&'a EncryptionContext>,
    /// The alias that the key was named by.
    pub alias: Option<&'a str>,
    /// When, in nanoseconds since 1970.
    pub now: i64,
    /// Other condition keys, named in small letters, and their values.
    pub more: &'a [(&'a str, Vec<String>)],
}

impl<'a> Ask<'a> {
    /// A call on the command line.
    pub fn direct(action: &'a str, caller: &'a Principal, now: i64) -> Self {
        Self { action, caller, through_s3: false, context: None, alias: None, now, more: &[] }
    }

    /// A call through a mount.
    pub fn through_s3(action: &'a str, context: &'a EncryptionContext, caller: &'a Principal, now: i64) -> Self {
        Self { through_s3: true, context: Some(context), ..Self::direct(action, caller, now) }
    }

    /// The key was named so.
    #[must_use]
    pub fn naming(self, key_id: &'a str) -> Self {
        let name = key_id.rsplit(':').next().unwrap_or(key_id);
        Self { alias: Some(name).filter(|name| name.starts_with("alias/")), ..self }
    }
}

/// Policies and grants of one generation of the keyring, each read when it is first needed.
#[derive(Default)]
pub(crate) struct Rules {
    of_keys: RwLock<ranks::KeyRules, HashMap<[u8; 16], Arc<KeyRules>>>,
    /// Of keys of other KMSs.
    elsewhere: OnceLock<Result<Policy, Error>>,
}

pub(crate) struct KeyRules {
    policy: Result<Policy, Error>,
    grants: Result<Vec<Grant>, Error>,
}

/// A copy is made to be changed.
impl Clone for Rules {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

impl Contents {
    /// The policy document of a key: what was put, or what keys have for which nobody put one.
    pub fn policy_text(&self, key: &Key) -> Result<String, Error> {
        match self.attribute(&key.id, POLICY) {
            Some(bytes) => String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::new(Code::KmsInternal, "the key's policy in the keyring is not text")),
            None if key.manager == KeyManager::Aws => Ok(aws_s3_policy(&self.account_id, &self.region)),
            None => Ok(default_policy(&self.account_id, &self.region)),
        }
    }

    pub fn grants(&self, key: &Key) -> Result<Vec<Grant>, Error> {
        self.attribute(&key.id, GRANTS).map_or_else(|| Ok(Vec::new()), grants::decode)
    }

    fn rules_of(&self, key: &Key) -> Arc<KeyRules> {
        if let Some(known) = self.rules.of_keys.read().get(&key.id) {
            return known.clone();
        }
        let policy = self.policy_text(key).and_then(|text| Policy::parse(&text));
        let rules = Arc::new(KeyRules { policy, grants: self.grants(key) });
        self.rules.of_keys.write().insert(key.id, rules.clone());
        rules
    }

    /// Decides by the key's policy and grants.
    pub fn permit(&self, key: &Key, who: &Principals, ask: &Ask<'_>) -> Result<(), Error> {
        self.permit_if(key, who, ask, |rules| {
            let grants = rules.grants.as_ref().map_err(Clone::clone)?;
            let subject = who.subject();
            Ok(policy::any(grants.iter().map(|grant| grant.allows(ask.action, ask.context, &subject))))
        })
    }

    /// Decides by the key's policy alone.
    pub fn permit_by_policy(&self, key: &Key, who: &Principals, ask: &Ask<'_>) -> Result<(), Error> {
        self.permit_if(key, who, ask, |_| Ok(Ok(false)))
    }

    /// Decides about a key of another KMS: by its policy and grants here, or by the policy that keys have for which
    /// nobody put one.
    fn permit_elsewhere(&self, key_arn: &str, who: &Principals, ask: &Ask<'_>) -> Result<(), Error> {
        if let Some(key) = self.elsewhere(key_arn) {
            return self.permit(key, who, ask);
        }
        let policy = self.policy_elsewhere()?;
        match self.judge_of(policy, key_arn, None, who, ask) {
            Judgement { decision: Decision::Allowed, unknown: None } => Ok(()),
            Judgement { decision: Decision::Denied, .. } => Err(denied(Decision::Denied, key_arn, who, ask)),
            Judgement { unknown: Some(unknown), .. } => Err(unknown.into()),
            Judgement { decision, .. } => Err(denied(decision, key_arn, who, ask)),
        }
    }

    fn policy_elsewhere(&self) -> Result<&Policy, Error> {
        let read = || Policy::parse(&default_policy(&self.account_id, &self.region));
        self.rules.elsewhere.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// `granted` is asked where the policy neither allows nor denies.
    fn permit_if(
        &self,
        key: &Key,
        who: &Principals,
        ask: &Ask<'_>,
        granted: impl FnOnce(&KeyRules) -> Result<Known<bool>, Error>,
    ) -> Result<(), Error> {
        let rules = self.rules_of(key);
        let Judgement { decision, unknown } = self.judge(rules.policy.as_ref().map_err(Clone::clone)?, key, who, ask);
        // What cannot be told of a policy is mended by those whom no policy keeps out.
        let mends = who.is_root && matches!(ask.action, "GetKeyPolicy" | "PutKeyPolicy");
        let unknown = unknown.filter(|_| !mends);
        let is_allowed = match (decision, unknown) {
            (Decision::Denied, _) => Ok(false),
            (_, Some(unknown)) => Err(unknown),
            (Decision::Allowed, None) => Ok(true),
            (Decision::NotAllowed, None) => granted(&rules)?,
        };
        if is_allowed? {
            return Ok(());
        }
        Err(denied(decision, &self.key_arn(&key.id), who, ask))
    }

    /// By this policy alone, whether it is the key's or is to become it.
    pub fn judge(&self, policy: &Policy, key: &Key, who: &Principals, ask: &Ask<'_>) -> Judgement {
        self.judge_of(policy, &self.key_arn(&key.id), Some(key), who, ask)
    }

    /// `key` is `None` for one of another KMS.
    fn judge_of(
        &self,
        policy: &Policy,
        key_arn: &str,
        key: Option<&Key>,
        who: &Principals,
        ask: &Ask<'_>,
    ) -> Judgement {
        let values = |name: &str| self.values(name, key, ask);
        policy.judge(&Request {
            action: &format!("kms:{}", ask.action),
            resource: key_arn,
            subject: &who.subject(),
            values: &values,
        })
    }

    /// Whether the key's policy may answer callers differently who ask through S3 at that time.
    pub fn distinguishes(&self, key: &Key, context: &EncryptionContext, now: i64) -> bool {
        let Ok(policy) = &self.rules_of(key).policy else { return true };
        self.distinguishes_by(policy, &self.key_arn(&key.id), Some(key), context, now)
    }

    fn distinguishes_by(
        &self,
        policy: &Policy,
        key_arn: &str,
        key: Option<&Key>,
        context: &EncryptionContext,
        now: i64,
    ) -> bool {
        let nobody = Principal::Process(Caller { uid: u32::MAX, gid: u32::MAX, pid: 0 });
        ["Decrypt", "GenerateDataKey"].iter().any(|action| {
            let ask = Ask::through_s3(action, context, &nobody, now);
            let values = |name: &str| self.values(name, key, &ask);
            !policy.is_for_everybody(&format!("kms:{action}"), key_arn, &values)
        })
    }

    /// The values of a condition key; none if the request has none.
    fn values(&self, name: &str, key: Option<&Key>, ask: &Ask<'_>) -> Vec<String> {
        let one = |value: &str| vec![value.to_string()];
        if let Some(wanted) = name.strip_prefix("kms:encryptioncontext:") {
            let pairs = ask.context.into_iter().flatten();
            // The names of condition keys have no case, so several pairs may be meant.
            let meant = pairs.filter(|(name, _)| name.to_lowercase() == *wanted.to_lowercase());
            return meant.map(|(_, value)| value.clone()).collect();
        }
        match name {
            "kms:viaservice" if ask.through_s3 => vec![format!("s3.{}.amazonaws.com", self.region)],
            "kms:calleraccount" | "aws:principalaccount" => one(&self.account_id),
            "kms:encryptioncontextkeys" => ask.context.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            "kms:requestalias" => ask.alias.map(one).unwrap_or_default(),
            "kms:resourcealiases" => {
                let aliases = self.aliases.iter().filter(|alias| key.is_some_and(|key| alias.key == key.id));
                aliases.map(|alias| alias.name.clone()).collect()
            }
            "kms:keyspec" => one("SYMMETRIC_DEFAULT"),
            "kms:keyusage" => one("ENCRYPT_DECRYPT"),
            "kms:encryptionalgorithm" if ask.context.is_some() => one("SYMMETRIC_DEFAULT"),
            "kms:multiregion" => one("false"),
            "kms:keyorigin" => {
                let own = key.filter(|key| !self.is_elsewhere(&key.id));
                own.map(|key| one(key.origin.name())).unwrap_or_default()
            }
            "aws:userid" => one(&ask.caller.uid().to_string()),
            "aws:currenttime" => {
                let time = OffsetDateTime::from_unix_timestamp_nanos(ask.now.into()).ok();
                time.and_then(|time| time.format(&Rfc3339).ok()).into_iter().collect()
            }
            "aws:epochtime" => one(&ask.now.div_euclid(1_000_000_000).to_string()),
            _ => {
                let more = ask.more.iter().find(|(known, _)| *known == name);
                more.map(|(_, values)| values.clone()).unwrap_or_default()
            }
        }
    }
}

impl LocalKms {
    /// Refuses what the key's policy and grants do not let the caller do.
    pub(super) fn permit(&self, contents: &Contents, key: &Key, ask: &Ask<'_>) -> Result<(), Error> {
        contents.permit(key, &self.directory.principals(ask.caller), ask)
    }

    /// The same for a call on the command line, whose key is named as the call names it.
    pub fn permit_call(&self, key_id: &str, ask: &Ask<'_>) -> Result<(), Error> {
        self.ask(|contents| self.permit(contents, contents.find(key_id)?, &ask.naming(key_id)))
    }
}

/// Keys of other KMSs have policies, grants, tags and aliases in this keyring. One for which nobody put a policy is
/// used by whom this keyring's default policy lets use keys.
impl Authorizer for LocalKms {
    fn permit(&self, asked: &KeyUse<'_>) -> Result<(), Error> {
        let ask = Ask {
            context: asked.context,
            through_s3: asked.through_s3,
            ..Ask::direct(asked.action, asked.caller, self.now())
        };
        let who = self.directory.principals(asked.caller);
        self.ask(|contents| contents.permit_elsewhere(asked.key_arn, &who, &ask))
    }

    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        let now = self.now();
        let found = self.ask(|contents| match contents.elsewhere(key_arn) {
            Some(key) => Ok(contents.distinguishes(key, context, now)),
            None => Ok(contents.distinguishes_by(contents.policy_elsewhere()?, key_arn, None, context, now)),
        });
        found.unwrap_or(true)
    }

    fn administer(&self, key_arn: &str, request: &api::Request, caller: &Principal) -> Result<api::Answer, Error> {
        if !request.is_about_users_or_names() {
            return Err(admin::is_elsewhere(key_arn, request.name()));
        }
        self.administer_elsewhere(key_arn, caller).call(request)
    }

    fn version(&self) -> u64 {
        self.version_now()
    }
}

fn denied(decision: Decision, key_arn: &str, who: &Principals, ask: &Ask<'_>) -> Error {
    let action = format!("kms:{}", ask.action);
    let because = match decision {
        Decision::Denied => "with an explicit deny in a resource-based policy".to_string(),
        _ => format!("because no resource-based policy allows the {action} action"),
    };
    let user = who.arn();
    let text = format!("User: {user} is not authorized to perform: {action} on resource: {key_arn} {because}");
    Error::new(Code::AccessDenied, text)
}
