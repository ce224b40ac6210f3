//! What a KMS asks of the machine that it runs on.

use crate::kms::keyring;
use crate::kms::users::{SystemUsers, UserDatabase};
use std::sync::Arc;

/// Tells the time, in nanoseconds since 1970.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

pub struct Machine {
    pub clock: Clock,
    pub users: Arc<dyn UserDatabase>,
}

impl Default for Machine {
    /// Its clock, and NSS in this process.
    fn default() -> Self {
        Self { clock: Box::new(keyring::now), users: Arc::new(SystemUsers) }
    }
}
