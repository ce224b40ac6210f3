//! One KMS that is several: which of them keeps a key is told by its ARN.

use crate::api::{Answer, Plaintext, Request, Service};
use crate::audit::{Done, Identity, RecordSource};
use crate::elsewhere::{Outage, ProviderStatus};
use crate::{Authorizer, Code, EncryptionContext, Error, GeneratedDataKey, Kms, KmsCalls, Operation, Principal, iam};
use kmsfs_crypto::SecretKey;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The KMS of this store: it names keys by aliases, keeps access keys and the policies of keys of others, and says what
/// audit records are made of.
pub trait Home: Kms + Service + iam::Service + RecordSource + Authorizer {}

impl<K: Kms + Service + iam::Service + RecordSource + Authorizer + ?Sized> Home for K {}

/// A KMS that keeps keys elsewhere, for mounts and for direct calls.
pub trait Provider: Kms + Service {}

impl<K: Kms + Service + ?Sized> Provider for K {}

/// Passes each call on to the KMS that keeps its key. A key's ARN is looked up in a table, in which the longest entry
/// counts; what no entry is for is the home KMS's. What is no key's ARN (an alias, a bare key id) the home KMS resolves
/// first: a name is not shown to others to find out whose it is. A key's ARN of the home KMS's own account and region
/// is its own, unless an entry says otherwise of that very key.
///
/// Policies, grants, tags and aliases of a key are the home KMS's, wherever the key is.
///
/// ReEncrypt from one of them to another is Decrypt there and Encrypt here, as whoever calls would have to do it: it
/// takes those permissions. A blob says nothing of who made it: without a key it is the home KMS's to open.
pub struct Router {
    home: Arc<dyn Home>,
    /// The beginning of the ARNs of the home KMS.
    own: String,
    /// The longest first.
    routes: Vec<Route>,
}

struct Route {
    /// The beginning of ARNs, which ends where a part of them does, or the ARN of one key.
    arns: String,
    name: String,
    kms: Arc<dyn Provider>,
}

/// Who keeps a key.
#[derive(Clone, Copy)]
enum Keeper<'a> {
    Home,
    Elsewhere(&'a Route),
}

impl Route {
    fn is_for(&self, arn: &str) -> bool {
        if self.arns.ends_with([':', '/']) { arn.starts_with(&self.arns) } else { arn == self.arns }
    }

    /// A call about a key that is kept there; `arn` is what it is called there, where that is not how it was named.
    fn call(&self, request: &Request, arn: Option<String>, caller: &Principal) -> Result<Answer, Error> {
        let named = |key_id: &String| arn.clone().unwrap_or_else(|| key_id.clone());
        let request = match request {
            Request::DescribeKey { key_id } => Request::DescribeKey { key_id: named(key_id) },
            Request::Encrypt { key_id, plaintext, encryption_context } => Request::Encrypt {
                key_id: named(key_id),
                plaintext: plaintext.clone(),
                encryption_context: encryption_context.clone(),
            },
            Request::Decrypt { ciphertext_blob, encryption_context, key_id } => Request::Decrypt {
                ciphertext_blob: ciphertext_blob.clone(),
                encryption_context: encryption_context.clone(),
                key_id: key_id.as_ref().map(named),
            },
            Request::GenerateDataKey(asked) => {
                let mut asked = asked.clone();
                asked.key_id = named(&asked.key_id);
                Request::GenerateDataKey(asked)
            }
            Request::GenerateDataKeyWithoutPlaintext(asked) => {
                let mut asked = asked.clone();
                asked.key_id = named(&asked.key_id);
                Request::GenerateDataKeyWithoutPlaintext(asked)
            }
            Request::ListObjects { key_id, count: _ } => {
                let describe = Request::DescribeKey { key_id: named(key_id) };
                return match self.kms.call(&describe, caller)? {
                    Answer::Key(key) => Ok(Answer::KeyId(key.arn)),
                    _ => Err(unexpected(&self.name, &describe)),
                };
            }
            _ => {
                let text = format!("The key is kept by {}: {} is for that KMS.", self.name, request.name());
                return Err(Error::new(Code::UnsupportedOperation, text));
            }
        };
        self.kms.call(&request, caller)
    }
}

impl Router {
    /// All keys are this one's.
    pub fn new(home: Arc<dyn Home>) -> Self {
        let (account, region) = home.place();
        Self { home, own: format!("arn:aws:kms:{region}:{account}:"), routes: Vec::new() }
    }

    /// Keys with these ARNs are kept by another: `arns` is one key's, or the beginning of many, which ends with `:` or
    /// `/`. `name` is what the audit trail calls it.
    ///
    /// # Errors
    ///
    /// What is wrong with `arns`: it is none, takes more than single keys of the home KMS's place, or has a route
    /// already.
    pub fn with_route(mut self, arns: &str, name: &str, kms: Arc<dyn Provider>) -> Result<Self, String> {
        check_route(arns, &self.own)?;
        if self.routes.iter().any(|route| route.arns == arns) {
            return Err(format!("{arns} has a KMS already"));
        }
        self.routes.push(Route { arns: arns.to_owned(), name: name.to_owned(), kms });
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.arns.len()));
        Ok(self)
    }

    /// Who keeps the key that is named so, and its name there.
    fn keeper(&self, key_id: &str) -> (Keeper<'_>, Option<String>) {
        if self.routes.is_empty() {
            return (Keeper::Home, None);
        }
        if is_key_arn(key_id) {
            return (self.keeper_of(key_id), None);
        }
        match self.home.arn_of(key_id) {
            // Named as the caller does, since policies look at that.
            Some(arn) => match self.keeper_of(&arn) {
                Keeper::Home => (Keeper::Home, None),
                elsewhere @ Keeper::Elsewhere(_) => (elsewhere, Some(arn)),
            },
            None if key_id.starts_with("arn:") => (self.keeper_of(key_id), None),
            None => (Keeper::Home, None),
        }
    }

    fn keeper_of(&self, arn: &str) -> Keeper<'_> {
        let route = self.routes.iter().find(|route| route.is_for(arn));
        let is_own = |route: &&Route| arn.starts_with(&self.own) && route.arns.len() < self.own.len();
        route.filter(|route| !is_own(route)).map_or(Keeper::Home, Keeper::Elsewhere)
    }

    /// Asks whoever keeps the key, with its name there.
    fn ask<T>(&self, key_id: &str, ask: impl FnOnce(&dyn Kms, &str) -> T) -> T {
        let (keeper, arn) = self.keeper(key_id);
        ask(keeper.kms(self), arn.as_deref().unwrap_or(key_id))
    }

    /// The key that a KMS says it has used must be the one that was asked for, or one of its own if that was asked for
    /// by another name: a sidecar names it, and whoever opens it asks by that name. `arn` is what the key was called
    /// there, where that is not how it was named.
    fn check(&self, key_id: &str, key_arn: &str) -> Result<(), Error> {
        let (asked, arn) = self.keeper(key_id);
        self.check_used(asked, arn.as_deref().unwrap_or(key_id), key_arn)
    }

    fn check_used(&self, asked: Keeper<'_>, key_id: &str, key_arn: &str) -> Result<(), Error> {
        let Keeper::Elsewhere(route) = asked else { return Ok(()) };
        let is_it = if is_key_arn(key_id) {
            key_arn == key_id
        } else {
            is_key_arn(key_arn) && self.keeper_of(key_arn).is(asked)
        };
        if is_it {
            return Ok(());
        }
        let text = format!("{} was asked to use {key_id} and says that it used {key_arn}", route.name);
        Err(Error::new(Code::KmsInternal, text))
    }

    /// Asks whoever keeps the key that is named there as `key_id`, and takes no answer that names another one.
    fn call_checked(
        &self,
        keeper: Keeper<'_>,
        key_id: Option<&str>,
        request: &Request,
        caller: &Principal,
    ) -> Result<Answer, Error> {
        let answer = keeper.service(self).call(request, caller)?;
        if let (Keeper::Elsewhere(route), Some(key_id)) = (keeper, key_id) {
            let key_arn = answer.key_arn().ok_or_else(|| unexpected(&route.name, request))?;
            self.check_used(keeper, key_id, key_arn)?;
        }
        Ok(answer)
    }

    fn is_routed(&self, request: &Request) -> bool {
        !self.routes.is_empty() && (matches!(request, Request::ReEncrypt { .. }) || request.key_id().is_some())
    }

    fn re_encrypt(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        let Request::ReEncrypt {
            ciphertext_blob,
            source_encryption_context,
            source_key_id,
            destination_key_id,
            destination_encryption_context,
        } = request
        else {
            unreachable!("it is asked of ReEncrypt alone")
        };
        let (source, source_arn) = source_key_id.as_deref().map_or((Keeper::Home, None), |key_id| self.keeper(key_id));
        let (destination, arn) = self.keeper(destination_key_id);
        let source_key_id = source_arn.or_else(|| source_key_id.clone());
        let destination_key_id = arn.unwrap_or_else(|| destination_key_id.clone());
        if source.is(destination) {
            let request = Request::ReEncrypt {
                ciphertext_blob: ciphertext_blob.clone(),
                source_encryption_context: source_encryption_context.clone(),
                source_key_id: source_key_id.clone(),
                destination_key_id: destination_key_id.clone(),
                destination_encryption_context: destination_encryption_context.clone(),
            };
            let answer = self.call_checked(destination, Some(&destination_key_id), &request, caller)?;
            if let (Answer::ReEncrypted { source: from, .. }, Some(key_id)) = (&answer, &source_key_id) {
                self.check_used(source, key_id, &from.key_arn)?;
            }
            return Ok(answer);
        }
        let decrypt = Request::Decrypt {
            ciphertext_blob: ciphertext_blob.clone(),
            encryption_context: source_encryption_context.clone(),
            key_id: source_key_id.clone(),
        };
        let Answer::Decrypted(Plaintext { key_arn, material_id, bytes }) =
            self.call_checked(source, source_key_id.as_deref(), &decrypt, caller)?
        else {
            return Err(unexpected(source.name(), &decrypt));
        };
        let encrypt = Request::Encrypt {
            key_id: destination_key_id.clone(),
            plaintext: bytes,
            encryption_context: destination_encryption_context.clone(),
        };
        match self.call_checked(destination, Some(&destination_key_id), &encrypt, caller)? {
            Answer::Encrypted(destination) => {
                let source = Plaintext { key_arn, material_id, bytes: Zeroizing::default() };
                Ok(Answer::ReEncrypted { source, destination })
            }
            _ => Err(unexpected(destination.name(), &encrypt)),
        }
    }
}

impl Keeper<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Home => "this KMS",
            Self::Elsewhere(route) => &route.name,
        }
    }

    fn kms<'r>(&'r self, router: &'r Router) -> &'r dyn Kms {
        match self {
            Self::Home => &*router.home,
            Self::Elsewhere(route) => &*route.kms,
        }
    }

    fn service<'r>(&'r self, router: &'r Router) -> &'r dyn Service {
        match self {
            Self::Home => &*router.home,
            Self::Elsewhere(route) => &*route.kms,
        }
    }

    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Home, Self::Home) => true,
            (Self::Elsewhere(one), Self::Elsewhere(other)) => Arc::ptr_eq(&one.kms, &other.kms),
            _ => false,
        }
    }
}

/// Whether keys with these ARNs can be another KMS's ([`Router::with_route`]); `own` is the beginning of the home
/// KMS's, `arn:aws:kms:REGION:ACCOUNT:`.
///
/// # Errors
///
/// Why they cannot, for people.
pub fn check_route(arns: &str, own: &str) -> Result<(), String> {
    let parts: Vec<_> = arns.splitn(6, ':').collect();
    if parts.len() < 4 || parts[..3] != ["arn", "aws", "kms"] {
        return Err(format!("{arns} is not the beginning of key ARNs: it must begin with arn:aws:kms:"));
    }
    let is_key = is_key_arn(arns) && !arns.ends_with('/');
    if !is_key && !arns.ends_with([':', '/']) {
        return Err(format!("{arns} is not one key's ARN, and must end with : or / as the beginning of several"));
    }
    if !is_key && arns.starts_with(own) {
        return Err(format!("{arns} is where this store's own keys are"));
    }
    Ok(())
}

/// `arn:aws:kms:REGION:ACCOUNT:key/...`
fn is_key_arn(text: &str) -> bool {
    text.starts_with("arn:") && text.splitn(6, ':').nth(5).is_some_and(|resource| resource.starts_with("key/"))
}

fn unexpected(who: &str, request: &Request) -> Error {
    Error::new(Code::KmsInternal, format!("{who} answered something else than {} asks for", request.name()))
}

impl Kms for Router {
    fn generate_data_key(
        &self,
        key_id: &str,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<GeneratedDataKey, Error> {
        let made = self.ask(key_id, |kms, key_id| kms.generate_data_key(key_id, context, caller))?;
        self.check(key_id, &made.key_arn)?;
        Ok(made)
    }

    fn encrypt(
        &self,
        key_id: &str,
        plaintext: &SecretKey,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(String, Vec<u8>), Error> {
        let (key_arn, blob) = self.ask(key_id, |kms, key_id| kms.encrypt(key_id, plaintext, context, caller))?;
        self.check(key_id, &key_arn)?;
        Ok((key_arn, blob))
    }

    fn decrypt(
        &self,
        key_arn: &str,
        ciphertext_blob: &[u8],
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<SecretKey, Error> {
        self.ask(key_arn, |kms, key_arn| kms.decrypt(key_arn, ciphertext_blob, context, caller))
    }

    fn describe_key(&self, key_id: &str, caller: &Principal) -> Result<String, Error> {
        let key_arn = self.ask(key_id, |kms, key_id| kms.describe_key(key_id, caller))?;
        self.check(key_id, &key_arn)?;
        Ok(key_arn)
    }

    fn authorize(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.ask(key_id, |kms, key_id| kms.authorize(key_id, operation, context, caller))
    }

    fn authorize_here(
        &self,
        key_id: &str,
        operation: Operation,
        context: &EncryptionContext,
        caller: &Principal,
    ) -> Result<(), Error> {
        self.ask(key_id, |kms, key_id| kms.authorize_here(key_id, operation, context, caller))
    }

    fn distinguishes(&self, key_arn: &str, context: &EncryptionContext) -> bool {
        self.ask(key_arn, |kms, key_arn| kms.distinguishes(key_arn, context))
    }

    fn may_wait(&self) -> bool {
        self.home.may_wait() || self.routes.iter().any(|route| route.kms.may_wait())
    }

    fn may_wait_for(&self, key_id: &str) -> bool {
        self.ask(key_id, |kms, key_id| kms.may_wait_for(key_id))
    }

    fn tick(&self) {
        self.home.tick();
        self.routes.iter().for_each(|route| route.kms.tick());
    }

    fn version(&self) -> u64 {
        self.routes.iter().fold(Kms::version(&*self.home), |sum, route| sum.wrapping_add(route.kms.version()))
    }

    /// Each once, however many routes it has.
    fn providers(&self) -> Vec<ProviderStatus> {
        let mut all: Vec<_> = self.routes.iter().flat_map(|route| route.kms.providers()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all.dedup_by(|one, other| one.name == other.name);
        all
    }

    fn take_outages(&self) -> Vec<Outage> {
        self.routes.iter().flat_map(|route| route.kms.take_outages()).collect()
    }

    fn calls(&self) -> KmsCalls {
        self.routes.iter().fold(self.home.calls(), |sum, route| sum + route.kms.calls())
    }
}

impl Service for Router {
    fn call(&self, request: &Request, caller: &Principal) -> Result<Answer, Error> {
        if !self.is_routed(request) {
            return Service::call(&*self.home, request, caller);
        }
        let Some(key_id) = request.key_id() else { return self.re_encrypt(request, caller) };
        match self.keeper(key_id) {
            (Keeper::Home, _) => Service::call(&*self.home, request, caller),
            (Keeper::Elsewhere(_), arn) if request.is_about_users_or_names() => {
                self.home.administer(arn.as_deref().unwrap_or(key_id), request, caller)
            }
            (keeper @ Keeper::Elsewhere(route), arn) => {
                let named = arn.clone();
                let answer = route.call(request, arn, caller)?;
                let key_arn = answer.key_arn().ok_or_else(|| unexpected(&route.name, request))?;
                self.check_used(keeper, named.as_deref().unwrap_or(key_id), key_arn)?;
                Ok(answer)
            }
        }
    }
}

/// Access keys are the home KMS's.
impl iam::Service for Router {
    fn call(&self, request: &iam::Request, caller: &Principal) -> Result<iam::Answer, iam::Error> {
        iam::Service::call(&*self.home, request, caller)
    }
}

impl RecordSource for Router {
    fn place(&self) -> (String, String) {
        self.home.place()
    }

    fn identity(&self, who: &Principal) -> Identity {
        self.home.identity(who)
    }

    fn arn_of(&self, key_id: &str) -> Option<String> {
        match self.keeper(key_id) {
            (Keeper::Home, _) => self.home.arn_of(key_id),
            (Keeper::Elsewhere(_), arn) => Some(arn.unwrap_or_else(|| key_id.to_owned())),
        }
    }

    fn material_of(&self, key_id: &str, ciphertext_blob: &[u8]) -> Option<String> {
        match self.keeper(key_id) {
            (Keeper::Home, _) => self.home.material_of(key_id, ciphertext_blob),
            // What its blobs say is its own.
            (Keeper::Elsewhere(_), _) => None,
        }
    }

    fn provider_of(&self, key_id: &str) -> Option<String> {
        match self.keeper(key_id) {
            (Keeper::Home, _) => None,
            (Keeper::Elsewhere(route), _) => Some(route.name.clone()),
        }
    }

    fn take_done(&self) -> Vec<Done> {
        self.home.take_done()
    }

    fn take_outages(&self) -> Vec<Outage> {
        Kms::take_outages(self)
    }

    fn version_now(&self) -> u64 {
        self.routes.iter().fold(self.home.version_now(), |sum, route| sum.wrapping_add(route.kms.version()))
    }
}
