//! Custom key stores.

use super::Ending;
use crate::cli::assembly::Keys;
use clap::{Args, Subcommand, ValueEnum};
use kmsfs_crypto::random;
use kmsfs_kms::api::{KeyStoreChange, KeyStoreLimits, KeyStoreRequest, NewKeyStore, Request};
use kmsfs_kms::elsewhere::ProviderStatus;
use kmsfs_kms::{Code, EncryptionContext, Error};
use kmsfs_kms_remote::RemoteKms;
use kmsfs_kms_remote::protocol::{Call, Reply};
use serde_json::{Map, Value, json};
use std::time::Instant;
use zeroize::Zeroizing;

/// As AWS has it; AWS's other kind is its own.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    #[value(name = "EXTERNAL_KEY_STORE")]
    External,
}

#[derive(Subcommand)]
pub enum Operation {
    /// Say which KMS elsewhere keeps which keys, and what speaks to it
    ///
    /// Its keys can be used once it is connected, in mounts that are made from then on.
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store create-custom-key-store --custom-key-store-name hsm \\\n    --provider exec:/usr/local/bin/kms-provider.py --configuration /etc/kmsfs/hsm/key \\\n    --key-arns arn:aws:kms:eu-central-1:111122223333:"
    )]
    CreateCustomKeyStore {
        /// Of no other key store
        #[arg(long)]
        custom_key_store_name: String,
        /// The only kind that there is
        #[arg(long, value_enum, default_value_t = Kind::External)]
        custom_key_store_type: Kind,
        /// vault, aws or pkcs11; or exec: and the absolute path of a program
        #[arg(long)]
        provider: String,
        /// ARNs of keys that it keeps, or their beginnings, which end with : or /
        #[arg(long, num_args = 1.., required = true)]
        key_arns: Vec<String>,
        /// The provider's own file; the directory that it is in is the provider's alone
        #[arg(long)]
        configuration: Option<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Change a key store that is not connected, or the name of one that is
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store update-custom-key-store --custom-key-store-id cks-ID --new-custom-key-store-name hsm2"
    )]
    UpdateCustomKeyStore {
        /// The key store, as describe-custom-key-stores shows it
        #[arg(long)]
        custom_key_store_id: String,
        /// What it is to be called from now on
        #[arg(long)]
        new_custom_key_store_name: Option<String>,
        /// vault, aws or pkcs11; or exec: and the absolute path of a program
        #[arg(long)]
        provider: Option<String>,
        /// ARNs of keys that it keeps, or their beginnings, which end with : or /
        #[arg(long, num_args = 1..)]
        key_arns: Option<Vec<String>>,
        /// The provider's own file
        #[arg(long)]
        configuration: Option<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Forget a key store that is not connected
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store delete-custom-key-store --custom-key-store-id cks-ID"
    )]
    DeleteCustomKeyStore {
        /// The key store, as describe-custom-key-stores shows it
        #[arg(long)]
        custom_key_store_id: String,
    },
    /// List key stores, or one of them
    #[command(after_help = "Examples:\n  kmsfs kms --store /srv/store describe-custom-key-stores")]
    DescribeCustomKeyStores {
        /// The key store, as describe-custom-key-stores shows it
        #[arg(long)]
        custom_key_store_id: Option<String>,
        /// The key store, by its name
        #[arg(long)]
        custom_key_store_name: Option<String>,
    },
    /// Let the keys of a key store be used
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store connect-custom-key-store --custom-key-store-id cks-ID"
    )]
    ConnectCustomKeyStore {
        /// The key store, as describe-custom-key-stores shows it
        #[arg(long)]
        custom_key_store_id: String,
    },
    /// Take the use of a key store's keys away, from open files too
    #[command(
        after_help = "Examples:\n  kmsfs kms --store /srv/store disconnect-custom-key-store --custom-key-store-id cks-ID"
    )]
    DisconnectCustomKeyStore {
        /// The key store, as describe-custom-key-stores shows it
        #[arg(long)]
        custom_key_store_id: String,
    },
}

/// What mounts that are made from then on go by
#[derive(Args)]
pub struct Limits {
    /// For how long a call is waited for, 1 to 60 (8 without it)
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,
    /// How often a key in use is tried, so that a refusal is seen (30 without it)
    #[arg(long, value_name = "SECONDS")]
    revalidate: Option<u32>,
    /// While the KMS is away, open files go on for so long and no longer, and what was opened before is opened again
    /// from memory; without it they go on, and nothing is opened
    #[arg(long, value_name = "SECONDS")]
    offline: Option<u32>,
}

impl From<Limits> for KeyStoreLimits {
    fn from(Limits { deadline, revalidate, offline }: Limits) -> Self {
        Self { deadline, revalidate, offline }
    }
}

impl Operation {
    pub fn request(self) -> Request {
        Request::KeyStore(match self {
            Self::CreateCustomKeyStore {
                custom_key_store_name: name,
                custom_key_store_type: Kind::External,
                provider,
                key_arns,
                configuration,
                limits,
            } => {
                let limits = limits.into();
                KeyStoreRequest::Create(NewKeyStore { name, provider, key_arns, configuration, limits })
            }
            Self::UpdateCustomKeyStore {
                custom_key_store_id: id,
                new_custom_key_store_name: name,
                provider,
                key_arns,
                configuration,
                limits,
            } => {
                let limits = limits.into();
                let change = KeyStoreChange { name, provider, key_arns, configuration, limits };
                KeyStoreRequest::Update { id, change }
            }
            Self::DeleteCustomKeyStore { custom_key_store_id: id } => KeyStoreRequest::Delete { id },
            Self::DescribeCustomKeyStores { custom_key_store_id: id, custom_key_store_name: name } => {
                KeyStoreRequest::Describe { id, name }
            }
            Self::ConnectCustomKeyStore { custom_key_store_id: id } => KeyStoreRequest::Connect { id },
            Self::DisconnectCustomKeyStore { custom_key_store_id: id } => KeyStoreRequest::Disconnect { id },
        })
    }
}

/// Find out whether a key store can be reached and a key of it used
///
/// Not a call of AWS's: it asks how the KMS is, describes the key, makes a data key, wraps 32 random bytes, opens both,
/// and tries to open them with another encryption context, which has to fail. What is wrong is said with what to do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  kmsfs kms --store /srv/store test-custom-key-store --custom-key-store-id cks-ID \\\n    --key-id arn:aws:kms:eu-central-1:111122223333:key/invoices"
)]
pub struct Test {
    /// The key store, as describe-custom-key-stores shows it
    #[arg(long)]
    custom_key_store_id: String,
    /// ARN of a key that it keeps
    #[arg(long)]
    key_id: String,
}

impl Test {
    /// Who may ask for the test may ask for this.
    pub fn request(&self) -> Request {
        Request::KeyStore(KeyStoreRequest::Describe { id: Some(self.custom_key_store_id.clone()), name: None })
    }

    pub fn run(&self, keys: &Keys) -> Result<Value, Ending> {
        let refused = |error: Error| Ending::Refused {
            operation: "TestCustomKeyStore",
            code: error.code.name().into(),
            message: error.message,
        };
        let stores = keys.local.key_stores().map_err(refused)?;
        let found = stores.iter().zip(&keys.remotes).find(|(store, _)| store.id == self.custom_key_store_id);
        let (store, remote) =
            found.ok_or_else(|| refused(Error::new(Code::CustomKeyStoreNotFound, self.custom_key_store_id.clone())))?;
        let since = Instant::now();
        let state = self.try_out(remote).map_err(refused)?;
        let milliseconds = since.elapsed().as_millis();
        let ProviderStatus { provider, endpoint, .. } = remote.status();
        Ok(json!({
            "CustomKeyStoreId": store.id,
            "Provider": provider,
            "Endpoint": endpoint,
            "KeyId": self.key_id,
            "KeyState": state,
            "RoundTrip": "OK",
            "Checks": CHECKS.iter().map(|check| ((*check).to_owned(), "OK".into())).collect::<Map<_, _>>(),
            "Milliseconds": u64::try_from(milliseconds).unwrap_or(u64::MAX),
        }))
    }

    /// The key's state, where everything is as it should be.
    fn try_out(&self, remote: &RemoteKms) -> Result<String, Error> {
        if let Some(problem) = remote.problem() {
            return Err(Error::new(Code::KeyUnavailable, problem));
        }
        let wrong = |what: &str| Error::new(Code::KmsInternal, format!("The provider does wrong: {what}."));
        let ask = |call: &Call| {
            let named = call.verb().name();
            remote.ask(call).map(|(reply, _)| reply).map_err(|error| {
                let advice = what_to_do(named, error.code);
                Error { message: format!("{named}: {}{advice}", error.message), ..error }
            })
        };
        let key_id = || self.key_id.clone();
        let context = |value: &str| EncryptionContext::from([("kmsfs:test".to_owned(), value.to_owned())]);
        let Reply::Key { key_state, .. } = ask(&Call::DescribeKey { key_id: key_id() })? else {
            return Err(wrong("it describes no key"));
        };
        let generate = Call::GenerateDataKey { key_id: key_id(), context: context("one") };
        let Reply::DataKey { plaintext, ciphertext_blob: of_data_key, .. } = ask(&generate)? else {
            return Err(wrong("it makes no data key"));
        };
        let bytes = Zeroizing::new(random::bytes::<32>().to_vec());
        let encrypt = Call::Encrypt { key_id: key_id(), plaintext: bytes.clone(), context: context("one") };
        let Reply::Encrypted { ciphertext_blob, .. } = ask(&encrypt)? else {
            return Err(wrong("it encrypts nothing"));
        };
        let decrypt = |blob: &[u8], value: &str| Call::Decrypt {
            key_id: key_id(),
            ciphertext_blob: blob.to_vec(),
            context: context(value),
        };
        for (blob, expected) in [(&of_data_key, plaintext.into_plaintext()), (&ciphertext_blob, bytes)] {
            match ask(&decrypt(blob, "one"))? {
                Reply::Decrypted { plaintext, .. } if plaintext == expected => {}
                _ => return Err(wrong("what it decrypts is not what it has encrypted")),
            }
        }
        match remote.ask(&decrypt(&ciphertext_blob, "two")) {
            Err(error) if !error.is_outage() => Ok(key_state),
            Err(error) => Err(error),
            Ok(_) => Err(wrong("it decrypts with another encryption context too")),
        }
    }
}

/// What is tried, in this order.
const CHECKS: [&str; 6] = ["Reach", "DescribeKey", "GenerateDataKey", "Encrypt", "Decrypt", "EncryptionContext"];

/// About an error, for whoever administers the KMS.
fn what_to_do(call: &str, code: Code) -> String {
    let advice = match code {
        Code::AccessDenied => format!("let this machine's identity use {call} with the key"),
        Code::NotFound => "make the key there, or correct its name, here or in the provider's configuration".into(),
        Code::Disabled => "enable the key there".into(),
        Code::KmsInvalidState => {
            "if it is not connected, connect-custom-key-store; else look at its state there".into()
        }
        Code::KeyUnavailable | Code::DependencyTimeout | Code::KmsInternal => {
            "see whether the KMS answers, and look at address, certificate and login in the configuration".into()
        }
        _ => return String::new(),
    };
    format!(" What to do: {advice}.")
}
