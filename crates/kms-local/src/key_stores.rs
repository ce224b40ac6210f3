//! Custom key stores: which KMSs are elsewhere, and the ARNs of the keys that each keeps.
//!
//! They are in the sealed keyring: whoever writes the store, or the keyring's files, can neither point a key to another
//! KMS nor take a route away unnoticed.

use super::keyring::Contents;
use super::local::LocalKms;
use kmsfs_crypto::random;
use kmsfs_kms::api::{Answer, KeyStore, KeyStoreChange, KeyStoreLimits, KeyStoreRequest, NewKeyStore};
use kmsfs_kms::{Code, Error, Principal};
use std::path::Path;

/// As AWS has it.
const LONGEST_NAME: usize = 256;
const LONGEST_ARN: usize = 2048;
const MOST: usize = 10;
const MOST_ARNS: usize = 100;

impl LocalKms {
    /// The custom key stores, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// The keyring cannot be read.
    pub fn key_stores(&self) -> Result<Vec<KeyStore>, Error> {
        self.ask(|contents| Ok(contents.key_stores().to_vec()))
    }

    /// Whether somebody has not disconnected it, or taken it away.
    ///
    /// # Errors
    ///
    /// The keyring cannot be read.
    pub fn is_connected(&self, id: &str) -> Result<bool, Error> {
        self.ask(|contents| Ok(contents.key_stores().iter().any(|store| store.id == id && store.connected)))
    }

    pub(super) fn call_key_stores(&self, request: &KeyStoreRequest, caller: &Principal) -> Result<Answer, Error> {
        let who = self.directory.principals(caller);
        if !who.is_root {
            let (arn, action) = (who.arn(), request.name());
            let text = format!(
                "User: {arn} is not authorized to perform: kms:{action} because no identity-based policy allows the \
                 kms:{action} action"
            );
            return Err(Error::new(Code::AccessDenied, text));
        }
        match request {
            KeyStoreRequest::Create(new) => self.create_key_store(new),
            KeyStoreRequest::Update { id, change } => self.update_key_store(id, change),
            KeyStoreRequest::Delete { id } => self.change(|contents, _| {
                let (mut stores, at) = named(contents, id)?;
                check_disconnected(&stores[at])?;
                stores.remove(at);
                contents.set_key_stores(stores);
                Ok(Answer::Done)
            }),
            KeyStoreRequest::Describe { id, name } => self.ask(|contents| {
                let is_meant = |store: &&KeyStore| {
                    id.as_ref().is_none_or(|id| *id == store.id) && name.as_ref().is_none_or(|name| *name == store.name)
                };
                let found: Vec<_> = contents.key_stores().iter().filter(is_meant).cloned().collect();
                if found.is_empty() && (id.is_some() || name.is_some()) {
                    return Err(not_found(id.as_deref().or(name.as_deref()).unwrap_or_default()));
                }
                Ok(Answer::KeyStores(found))
            }),
            KeyStoreRequest::Connect { id } => self.set_connected(id, true),
            KeyStoreRequest::Disconnect { id } => self.set_connected(id, false),
        }
    }

    fn create_key_store(&self, new: &NewKeyStore) -> Result<Answer, Error> {
        let id = format!("cks-{}", &hex::encode(random::bytes::<16>())[..17]);
        self.change(|contents, _| {
            let mut stores = contents.key_stores().to_vec();
            if stores.len() >= MOST {
                return Err(Error::new(Code::LimitExceeded, format!("There are {MOST} custom key stores already.")));
            }
            stores.push(KeyStore {
                id: id.clone(),
                name: new.name.clone(),
                provider: new.provider.clone(),
                key_arns: new.key_arns.clone(),
                configuration: new.configuration.clone(),
                limits: new.limits,
                connected: false,
                created: self.now(),
            });
            check(&stores, stores.len() - 1, &own(contents))?;
            contents.set_key_stores(stores);
            Ok(Answer::KeyStoreId(id.clone()))
        })
    }

    fn update_key_store(&self, id: &str, change: &KeyStoreChange) -> Result<Answer, Error> {
        self.change(|contents, _| {
            let (mut stores, at) = named(contents, id)?;
            let store = &mut stores[at];
            let KeyStoreChange { name, provider, key_arns, configuration, limits } = change;
            if provider.is_some() || key_arns.is_some() || configuration.is_some() {
                check_disconnected(store)?;
            }
            store.name = name.clone().unwrap_or_else(|| store.name.clone());
            store.provider = provider.clone().unwrap_or_else(|| store.provider.clone());
            store.key_arns = key_arns.clone().unwrap_or_else(|| store.key_arns.clone());
            store.limits = limits.or(store.limits);
            store.configuration = configuration.clone().or_else(|| store.configuration.clone());
            check(&stores, at, &own(contents))?;
            contents.set_key_stores(stores);
            Ok(Answer::Done)
        })
    }

    fn set_connected(&self, id: &str, connected: bool) -> Result<Answer, Error> {
        self.change(|contents, _| {
            let (mut stores, at) = named(contents, id)?;
            stores[at].connected = connected;
            contents.set_key_stores(stores);
            Ok(Answer::Done)
        })
    }
}

fn own(contents: &Contents) -> String {
    format!("arn:aws:kms:{}:{}:", contents.region, contents.account_id)
}

fn named(contents: &Contents, id: &str) -> Result<(Vec<KeyStore>, usize), Error> {
    let stores = contents.key_stores().to_vec();
    let at = stores.iter().position(|store| store.id == id).ok_or_else(|| not_found(id))?;
    Ok((stores, at))
}

fn not_found(which: &str) -> Error {
    Error::new(Code::CustomKeyStoreNotFound, format!("There is no custom key store {which}."))
}

fn check_disconnected(store: &KeyStore) -> Result<(), Error> {
    if store.connected {
        let text = format!("{} is connected: disconnect it first.", store.id);
        return Err(Error::new(Code::CustomKeyStoreInvalidState, text));
    }
    Ok(())
}

/// Providers that come with kmsfs, each of which needs a configuration.
pub const BUILT_IN: [&str; 3] = ["aws", "pkcs11", "vault"];

/// That the one that is new, or has changed, can be asked, and that it is clear which keeps a key. The others were
/// judged when they were made, by whichever kmsfs that was.
fn check(stores: &[KeyStore], at: usize, own: &str) -> Result<(), Error> {
    let store = &stores[at];
    check_alone(store, own)?;
    for (_, other) in stores.iter().enumerate().filter(|(number, _)| *number != at) {
        if other.name == store.name {
            return Err(Error::new(
                Code::CustomKeyStoreNameInUse,
                format!("{} is another custom key store.", store.name),
            ));
        }
        if let Some(arn) = store.key_arns.iter().find(|arn| other.key_arns.contains(arn)) {
            return Err(invalid(format!("{arn} is named twice.")));
        }
    }
    Ok(())
}

fn invalid(text: String) -> Error {
    Error::new(Code::Validation, text)
}

fn check_alone(store: &KeyStore, own: &str) -> Result<(), Error> {
    let KeyStore { name, provider, key_arns, configuration, .. } = store;
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(invalid(format!("The name of a custom key store has 1 to {LONGEST_NAME} characters.")));
    }
    match provider.split_once(':') {
        Some(("exec", program)) if Path::new(program).is_absolute() => {}
        None if BUILT_IN.contains(&provider.as_str()) && configuration.is_some() => {}
        None if BUILT_IN.contains(&provider.as_str()) => {
            return Err(invalid(format!("{provider} needs a configuration: docs/KMS.md, Keys elsewhere.")));
        }
        _ => {
            let known = BUILT_IN.join(", ");
            let text = format!("{provider} is no provider: {known}, or exec: and the absolute path of a program.");
            return Err(invalid(text));
        }
    }
    if configuration.as_ref().is_some_and(|path| !Path::new(path).is_absolute()) {
        return Err(invalid("The configuration is named by an absolute path.".into()));
    }
    if let Some(dir) = configuration.as_deref().map(Path::new).and_then(Path::parent).filter(|dir| is_shared(dir)) {
        let text = "is not a provider's alone: put its configuration into a directory of its own, which it may write.";
        return Err(invalid(format!("{} {text}", dir.display())));
    }
    check_limits(store.limits)?;
    if key_arns.is_empty() || key_arns.len() > MOST_ARNS {
        return Err(invalid(format!("A custom key store keeps 1 to {MOST_ARNS} keys, or beginnings of their ARNs.")));
    }
    for (number, arn) in key_arns.iter().enumerate() {
        check_arns(arn, own).map_err(invalid)?;
        // A provider calls a key as its ARN ends: with several regions or accounts one key would have several ARNs,
        // each with policies of its own. AWS's own looks at the whole ARN.
        if provider != "aws" && place(arn) != place(&key_arns[0]) {
            let text = "a custom key store keeps the keys of one account and region.";
            return Err(invalid(format!("{arn} and {}: {text}", key_arns[0])));
        }
        if key_arns[..number].contains(arn) {
            return Err(invalid(format!("{arn} is named twice.")));
        }
    }
    Ok(())
}

fn check_limits(limits: KeyStoreLimits) -> Result<(), Error> {
    let KeyStoreLimits { deadline, revalidate, offline } = limits;
    let all =
        [("deadline", deadline, 1, 60), ("revalidate", revalidate, 1, 86_400), ("offline", offline, 0, 2_592_000)];
    for (name, seconds, least, most) in all {
        if seconds.is_some_and(|seconds| !(least..=most).contains(&seconds)) {
            return Err(Error::new(Code::Validation, format!("{name} is {least} to {most} seconds.")));
        }
    }
    Ok(())
}

/// Directories that others use too: `/etc` and the like, and what the system consists of.
fn is_shared(dir: &Path) -> bool {
    let of_the_system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", "/sys", "/dev", "/boot"];
    dir.components().count() < 3 || of_the_system.iter().any(|system| dir.starts_with(system))
}

fn check_arns(arns: &str, own: &str) -> Result<(), String> {
    if arns.len() > LONGEST_ARN || arns.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("A key's ARN has no spaces, and 2048 characters at most.".into());
    }
    kmsfs_kms::check_route(arns, own)?;
    match place(arns) {
        (Some(region), Some(account)) if !region.is_empty() && !account.is_empty() => Ok(()),
        _ => Err(format!("{arns} has to name region and account: arn:aws:kms:eu-central-1:111122223333:")),
    }
}

/// Region and account, as far as something follows them.
fn place(arns: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = arns.split(':').skip(3);
    let (region, account, rest) = (parts.next(), parts.next(), parts.next());
    (region, account.filter(|_| rest.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyringParameters, Unlock};
    use kmsfs_crypto::SecretKey;
    use kmsfs_kms::Caller;
    use kmsfs_kms::api::{Request, Service};

    const ARNS: &str = "arn:aws:kms:eu-central-1:111122223333:";

    fn new(name: &str, arns: &str) -> NewKeyStore {
        let (provider, key_arns) = ("exec:/usr/bin/provider".to_owned(), vec![arns.to_owned()]);
        NewKeyStore { name: name.into(), provider, key_arns, configuration: None, limits: KeyStoreLimits::default() }
    }

    #[test]
    fn key_stores_are_made_connected_changed_and_forgotten_in_aws_s_words() {
        let dir = tempfile::tempdir().unwrap();
        let unlock = Unlock::KeyFile(SecretKey::random());
        let (account_id, region) = ("000000000000".into(), "us-east-1".into());
        let parameters = KeyringParameters { store_id: [7; 16], account_id, region };
        let kms = LocalKms::create(&dir.path().join("keyring"), &parameters, &unlock).unwrap();
        let root = Principal::Process(Caller { uid: 0, gid: 0, pid: 1 });
        let call = |request| kms.call(&Request::KeyStore(request), &root);
        let code = |request| call(request).err().map(|error| error.code);
        let Ok(Answer::KeyStoreId(id)) = call(KeyStoreRequest::Create(new("one", ARNS))) else { panic!("it is made") };
        assert!(id.len() == 21 && id.starts_with("cks-"), "{id}");
        assert_eq!(code(KeyStoreRequest::Create(new("one", "arn:aws:kms:x:1:"))), Some(Code::CustomKeyStoreNameInUse));
        let own = ["arn:aws:kms:us-east-1:000000000000:", "arn:aws:kms:us-east-1:000000000000:alias/"];
        for arns in [ARNS, "", "arn:aws:s3:::b", "arn:aws:kms:x", own[0], own[1]] {
            assert_eq!(code(KeyStoreRequest::Create(new("two", arns))), Some(Code::Validation), "{arns}");
        }
        for broad in ["arn:aws:kms:", "arn:aws:kms:x:", "arn:aws:kms:x:1", "arn:aws:kms::1:", "arn:aws:kms:x::"] {
            assert_eq!(code(KeyStoreRequest::Create(new("two", broad))), Some(Code::Validation), "{broad}");
        }
        let of = |provider: &str, arns: [&str; 2]| NewKeyStore {
            provider: provider.into(),
            key_arns: arns.map(str::to_owned).into(),
            configuration: Some("/etc/kmsfs/two/two.json".into()),
            ..new("two", "")
        };
        let two = ["arn:aws:kms:x:1:key/k", "arn:aws:kms:y:1:key/k"];
        for provider in ["exec:/usr/bin/provider", "vault", "pkcs11"] {
            assert_eq!(code(KeyStoreRequest::Create(of(provider, two))), Some(Code::Validation), "{provider}");
        }
        let built_in = NewKeyStore { provider: "vault".into(), ..new("two", "arn:aws:kms:x:1:") };
        assert_eq!(code(KeyStoreRequest::Create(built_in)), Some(Code::Validation), "it has no configuration");
        for configuration in ["/etc/vault.json", "/usr/bin/vault.json", "vault.json"] {
            let configuration = Some(configuration.to_owned());
            let shared = NewKeyStore { provider: "vault".into(), configuration, ..new("two", "arn:aws:kms:x:1:") };
            assert_eq!(code(KeyStoreRequest::Create(shared)), Some(Code::Validation));
        }
        let relative = NewKeyStore { provider: "exec:bin/x".into(), ..new("two", "arn:aws:kms:x:1:") };
        assert_eq!(code(KeyStoreRequest::Create(relative)), Some(Code::Validation));
        for (deadline, revalidate, offline) in [(0, 1, 0), (61, 1, 0), (8, 0, 0), (8, 86_401, 0), (8, 1, 2_592_001)] {
            let (deadline, revalidate, offline) = (Some(deadline), Some(revalidate), Some(offline));
            let limits = KeyStoreLimits { deadline, revalidate, offline };
            let wrong = NewKeyStore { limits, ..new("two", "arn:aws:kms:x:1:") };
            assert_eq!(code(KeyStoreRequest::Create(wrong)), Some(Code::Validation), "{limits:?}");
        }
        for (limits, expected) in [
            (KeyStoreLimits { offline: Some(3600), ..KeyStoreLimits::default() }, (None, Some(3600))),
            (KeyStoreLimits { deadline: Some(5), ..KeyStoreLimits::default() }, (Some(5), Some(3600))),
        ] {
            let change = KeyStoreChange { limits, ..KeyStoreChange::default() };
            assert!(call(KeyStoreRequest::Update { id: id.clone(), change }).is_ok());
            let KeyStoreLimits { deadline, revalidate: None, offline } = kms.key_stores().unwrap()[0].limits else {
                panic!("it was not said")
            };
            assert_eq!((deadline, offline), expected);
        }
        assert_eq!(kms.is_connected(&id), Ok(false));
        let before = kms.key_stores().unwrap();
        assert!(call(KeyStoreRequest::Connect { id: id.clone() }).is_ok());
        assert_eq!(kms.is_connected(&id), Ok(true));
        let delete = || KeyStoreRequest::Delete { id: id.clone() };
        assert_eq!(code(delete()), Some(Code::CustomKeyStoreInvalidState));
        let change = KeyStoreChange { key_arns: Some(vec!["arn:aws:kms:x:1:".into()]), ..KeyStoreChange::default() };
        let update = KeyStoreRequest::Update { id: id.clone(), change };
        assert_eq!(code(update.clone()), Some(Code::CustomKeyStoreInvalidState));
        assert!(call(KeyStoreRequest::Disconnect { id: id.clone() }).is_ok());
        assert_eq!(kms.key_stores().unwrap(), before);
        assert!(call(update).is_ok());
        assert_eq!(kms.key_stores().unwrap()[0].key_arns, ["arn:aws:kms:x:1:"]);
        let again = LocalKms::open(&dir.path().join("keyring"), &unlock).unwrap();
        assert_eq!(again.key_stores(), kms.key_stores());
        assert!(call(delete()).is_ok());
        assert_eq!((code(delete()), kms.key_stores()), (Some(Code::CustomKeyStoreNotFound), Ok(vec![])));
    }

    #[test]
    fn only_the_account_s_root_says_where_keys_are() {
        let dir = tempfile::tempdir().unwrap();
        let (account_id, region) = ("000000000000".into(), "us-east-1".into());
        let parameters = KeyringParameters { store_id: [7; 16], account_id, region };
        let unlock = Unlock::KeyFile(SecretKey::random());
        let kms = LocalKms::create(&dir.path().join("keyring"), &parameters, &unlock).unwrap();
        let other = Principal::Process(Caller { uid: 54_321, gid: 54_321, pid: 1 });
        let request = Request::KeyStore(KeyStoreRequest::Create(new("one", ARNS)));
        assert_eq!(kms.call(&request, &other).err().map(|error| error.code), Some(Code::AccessDenied));
        assert_eq!(kms.key_stores(), Ok(vec![]));
    }
}
