//! The calls of AWS KMS as values: what is asked for, and what is answered. The command line, the audit trail and whatever
//! else carries calls share them; how a call is spelled (arguments, JSON) is the carrier's alone.

mod answer;
mod request;

pub use answer::{Answer, TimeForm};
pub use request::{DataKeyRequest, ImportType, IncludeKeyMaterial, KeySpec, Request, WrappingAlgorithm};
pub(super) use request::{as_constraints, as_tags};

use super::{Caller, Error};

/// A KMS that administers keys and encrypts for whoever calls it directly, rather than through a mount.
pub trait Service: Send + Sync {
    /// Makes the call on behalf of the caller.
    ///
    /// # Errors
    ///
    /// AWS's error for it: a refusal, or `Error::is_outage` where the KMS could not answer.
    fn call(&self, request: &Request, caller: &Caller) -> Result<Answer, Error>;
}
