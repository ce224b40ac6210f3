//! The providers against the servers and libraries that they are for, with faults between.
//!
//! Where a server is not installed, its tests say NOT RUN; scripts/test installs them.

mod aws;
mod pkcs11;
mod proxy;
mod servers;
mod vault;

use kmsfs_kms::{EncryptionContext, Error};
use kmsfs_kms_providers::{Backend, Configuration};
use kmsfs_kms_remote::protocol::{Call, Reply, Trace};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Long enough on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

fn open(configuration: serde_json::Value) -> Arc<dyn Backend> {
    Configuration::parse(&configuration.to_string()).unwrap().open(None).unwrap()
}

fn context(object: &str) -> EncryptionContext {
    [("aws:s3:arn".to_owned(), format!("arn:aws:s3:::bucket/{object}"))].into()
}

fn call(backend: &Arc<dyn Backend>, call: &Call) -> Result<Reply, Error> {
    backend.call(call, LONG, &mut Trace::default())
}

/// A data key and its blob.
fn data_key(backend: &Arc<dyn Backend>, key_id: &str, object: &str) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Error> {
    let made = call(backend, &Call::GenerateDataKey { key_id: key_id.into(), context: context(object) })?;
    let Reply::DataKey { key_id: used, plaintext, ciphertext_blob } = made else { panic!("another reply") };
    assert_eq!(used, key_id);
    Ok((plaintext.into_plaintext(), ciphertext_blob))
}

fn decrypt(backend: &Arc<dyn Backend>, key_id: &str, blob: &[u8], object: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    decrypt_within(backend, key_id, blob, object, LONG).0
}

fn decrypt_within(
    backend: &Arc<dyn Backend>,
    key_id: &str,
    blob: &[u8],
    object: &str,
    timeout: Duration,
) -> (Result<Zeroizing<Vec<u8>>, Error>, Trace) {
    let mut trace = Trace::default();
    let asked = Call::Decrypt { key_id: key_id.into(), ciphertext_blob: blob.to_vec(), context: context(object) };
    let opened = backend.call(&asked, timeout, &mut trace).map(|reply| match reply {
        Reply::Decrypted { key_id: used, plaintext } if used == key_id => plaintext,
        _ => panic!("another reply"),
    });
    (opened, trace)
}

fn encrypt(backend: &Arc<dyn Backend>, key_id: &str, plaintext: &[u8], object: &str) -> Result<Vec<u8>, Error> {
    let plaintext = Zeroizing::new(plaintext.to_vec());
    match call(backend, &Call::Encrypt { key_id: key_id.into(), plaintext, context: context(object) })? {
        Reply::Encrypted { ciphertext_blob, .. } => Ok(ciphertext_blob),
        _ => panic!("another reply"),
    }
}

fn state(backend: &Arc<dyn Backend>, key_id: &str) -> Result<String, Error> {
    match call(backend, &Call::DescribeKey { key_id: key_id.into() })? {
        Reply::Key { key_state, .. } => Ok(key_state),
        _ => panic!("another reply"),
    }
}
