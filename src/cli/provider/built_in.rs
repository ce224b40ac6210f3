//! The providers that come with kmsfs: Vault, AWS KMS and PKCS#11 (crates/kms-providers).

use crate::cli::{harden, sandbox};
use kmsfs_kms::{Code, Error};
use kmsfs_kms_providers::{Backend, Configuration};
use kmsfs_kms_remote::protocol::{Call, Reply, Trace};
use kmsfs_kms_remote::{Identity, serve as serve_backend};
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Calls that it carries out at a time.
const THREADS: usize = 16;
/// Bytes of a configuration.
const LONGEST: u64 = 1 << 20;

/// Serves standard input and output. Whoever asks one that has no usable configuration is told what is wrong with it.
pub(super) fn serve(provider: &str, configuration: &Path, confined: bool) -> ExitCode {
    harden::forbid_dumps();
    let backend = open(provider, configuration, confined).unwrap_or_else(|why| {
        let why = format!("{}: {why}", configuration.display());
        Arc::new(Unusable { provider: provider.to_owned(), why })
    });
    match serve_backend(io::stdin(), io::stdout(), backend, THREADS) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn open(provider: &str, path: &Path, confined: bool) -> Result<Arc<dyn Backend>, String> {
    super::check(path, 0).map_err(|error| error.to_string())?;
    if fs::metadata(path).map_err(|error| error.to_string())?.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let configuration = Configuration::parse(&text).map_err(|error| error.to_string())?;
    if configuration.provider() != provider {
        return Err(format!("it is for {}, and the custom key store is for {provider}", configuration.provider()));
    }
    if confined {
        // As much as this kernel has. What is replaced by another file of that name is read there.
        let files = configuration.needs().files;
        let around = files.iter().filter_map(|file| file.parent().map(Path::to_owned));
        let _ = sandbox::enter_as_provider(&around.collect::<Vec<_>>(), path.parent());
    }
    configuration.open(Some(path)).map_err(|error| error.to_string())
}

/// A provider that cannot be one: an outage, which takes no open file away.
struct Unusable {
    provider: String,
    why: String,
}

impl Backend for Unusable {
    fn identity(&self) -> Identity {
        Identity { provider: self.provider.clone(), endpoint: "none".into() }
    }

    fn call(&self, _: &Call, _: Duration, _: &mut Trace) -> Result<Reply, Error> {
        Err(Error::new(Code::KeyUnavailable, self.why.clone()))
    }
}
