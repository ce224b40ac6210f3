//! What speaks to KMSs that are elsewhere, each a [`Backend`]: Vault and OpenBao ([`vault`]), AWS KMS ([`aws`]), and
//! hardware with PKCS#11 ([`pkcs11`]).
//!
//! A provider's process reads its [`Configuration`], opens the backend and serves it (`kmsfs_kms_remote::serve`). The
//! backends try again what may pass by itself (connections, 5xx, throttling), and nothing else, for as long as a call
//! is waited for. They are strict in one thing: a refusal is passed on only where the KMS has refused the use of the
//! key to this machine's identity. Whatever else is wrong (the identity is not known there any more, its secret has
//! expired, the clock is wrong, the KMS is sealed, what came is no answer) is an outage, which takes no open file away.
//!
//! Secrets come from a [`Secret`]: a file, a systemd credential or a command, and never from the configuration itself.
//!
//! ```
//! use kmsfs_kms_providers::Configuration;
//!
//! let text = r#"{"vault": {
//!     "endpoints": ["https://vault.example:8200"],
//!     "auth": {"token": {"credential": "vault-token"}},
//!     "keys": {"arn:aws:kms:eu-central-1:111122223333:key/orders": "orders"}
//! }}"#;
//! let configuration = Configuration::parse(text).unwrap();
//! assert_eq!(configuration.provider(), "vault");
//! assert!(!configuration.needs().starts_programs);
//!
//! let refused = Configuration::parse(r#"{"vault": {"endpoint": "https://vault.example:8200"}}"#).unwrap_err();
//! assert!(refused.to_string().contains("unknown field `endpoint`"));
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod aws;
mod configuration;
mod context;
mod http;
mod names;
pub mod pkcs11;
mod retry;
mod secret;
pub mod vault;

pub use configuration::{Configuration, Invalid, Needs};
pub use http::Tls;
pub use names::KeyNames;
pub use secret::Secret;

/// What a provider's process serves.
pub use kmsfs_kms_remote::Backend;
