//! What SIGHUP does: the certificate and its key are read again, and the access log is opened by its name again. This
//! process reaches neither any more; the broker opens them, as far as it was told of them at its start.

use super::front::Started;
use super::listening::{ListenArgs, Pem};
use crate::cli::exit::{Failure, describe};
use crate::cli::helper::broker::Broker;
use crate::cli::text::shown;
use std::io;
use std::path::{Path, PathBuf};

/// Which files there are.
pub struct Renewing {
    /// Of the certificate and its key.
    pem: Option<(PathBuf, PathBuf)>,
    access_log: Option<PathBuf>,
}

impl Renewing {
    /// By absolute paths.
    pub fn of(listen: &ListenArgs, access_log: Option<&Path>) -> Result<Self, Failure> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {}", shown(path), describe(&e))))
        };
        let pem = listen.pem_files().map(|(certificate, key)| Ok((absolute(certificate)?, absolute(key)?)));
        Ok(Self { pem: pem.transpose()?, access_log: access_log.map(absolute).transpose()? })
    }

    pub fn logs(&self) -> Vec<PathBuf> {
        self.access_log.clone().into_iter().collect()
    }

    pub fn reads(&self) -> Vec<PathBuf> {
        self.pem.clone().into_iter().flat_map(|(certificate, key)| [certificate, key]).collect()
    }

    /// What cannot be renewed stays as it was, and the log says why.
    pub fn renew(&self, front: &Started, broker: &Broker) {
        if let Some((certificate, key)) = &self.pem {
            let open = |path, secret| broker.open_file(path, secret);
            let pem = open(certificate, false).and_then(|file| Pem::read(file, open(key, true)?));
            match pem.and_then(|pem| front.renew(&pem)) {
                Ok(()) => log::info!("SIGHUP: connections are made under what {} has now", shown(certificate)),
                Err(error) => stays("the certificate", certificate, &error),
            }
        }
        if let Some(path) = &self.access_log {
            match broker.open_log(path).and_then(|file| front.log_to(&file)) {
                Ok(()) => {
                    log::info!("SIGHUP: requests are written to the file of the name {} from now on", shown(path));
                }
                Err(error) => stays("the access log", path, &error),
            }
        }
    }
}

fn stays(what: &str, path: &Path, error: &io::Error) {
    log::error!("SIGHUP: {what} stays the one before: {}: {}", shown(path), describe(error));
}
