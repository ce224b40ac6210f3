//! What a provider has to be told.

use crate::{Backend, Secret, aws, pkcs11, vault};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which provider, and its configuration: a JSON object with one member. Members that are not known are refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Configuration {
    /// Vault or OpenBao, its transit secrets engine.
    Vault(vault::Configuration),
    /// AWS KMS, or what speaks as it does.
    Aws(aws::Configuration),
    /// A library with PKCS#11's functions.
    Pkcs11(pkcs11::Configuration),
}

/// Why there is no provider by that configuration; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// What the process must be let do, beside its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files that are read, now and again: secrets, certificates, the library.
    pub files: Vec<PathBuf>,
    /// Whether a command gives a secret.
    pub starts_programs: bool,
    /// Whether connections are made over the network.
    pub network: bool,
}

impl Configuration {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is not JSON, lacks something, or has something that no provider knows.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        let configuration: Self =
            serde_json::from_str(json).map_err(|error| Invalid(format!("the provider's configuration: {error}")))?;
        match &configuration {
            Self::Vault(vault) => vault.check()?,
            Self::Aws(aws) => aws.check()?,
            Self::Pkcs11(pkcs11) => pkcs11.check()?,
        }
        Ok(configuration)
    }

    /// `vault`, `aws` or `pkcs11`.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Aws(_) => "aws",
            Self::Pkcs11(_) => "pkcs11",
        }
    }

    /// What its process must be let do.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Vault(vault) => vault.needs(),
            Self::Aws(aws) => aws.needs(),
            Self::Pkcs11(pkcs11) => pkcs11.needs(),
        }
    }

    /// The backend; `file` is what the configuration was read from, beside which is kept what has to be remembered. No
    /// connection is made here: a KMS that is away is an outage of the calls, and no reason not to start.
    ///
    /// # Errors
    ///
    /// A file or a library is not there or not what it should be.
    pub fn open(self, file: Option<&Path>) -> Result<Arc<dyn Backend>, Invalid> {
        Ok(match self {
            Self::Vault(vault) => Arc::new(vault::Vault::new(vault)?),
            Self::Aws(aws) => Arc::new(aws::Aws::new(aws)?),
            Self::Pkcs11(pkcs11) => Arc::new(pkcs11::Pkcs11::new(pkcs11, file)?),
        })
    }
}

impl Needs {
    pub(crate) fn secret(&mut self, secret: &Secret) {
        match secret {
            Secret::File(path) => self.files.push(path.clone()),
            Secret::Credential(name) => self.files.extend(Secret::credential_file(name).ok()),
            Secret::Command(_) => self.starts_programs = true,
        }
    }
}
