//! Tokens: had by logging in, renewed before they end, and had anew when they have.

use super::{Auth, LOOKUP, Vault, answers};
use crate::http::{Answer, Ask};
use crate::retry::Failed;
use crate::secret::Secret;
use kmsfs_kms_remote::protocol::Trace;
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    /// Whether a login has given it, so that it is known to be valid when it is new.
    pub(super) issued_here: bool,
    /// When two thirds of its time are over, where it can be renewed.
    renew: Option<Instant>,
}

pub(super) struct Tokens {
    auth: Auth,
    /// Held while somebody logs in: the others wait for what he gets.
    token: Mutex<Option<Arc<Token>>>,
}

impl Tokens {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, token: Mutex::new(None) }
    }

    /// The token that there is; a login makes the first one.
    pub(super) fn current(&self, vault: &Vault, until: Instant) -> Result<Arc<Token>, Failed> {
        let mut token = self.place(until)?;
        if let Some(current) = &*token {
            if current.renew.is_none_or(|renew| Instant::now() < renew) {
                return Ok(Arc::clone(current));
            }
            let renewed = Arc::new(renewed(current, vault, until));
            return Ok(Arc::clone(token.insert(renewed)));
        }
        let first = Arc::new(self.login(vault, until)?);
        Ok(Arc::clone(token.insert(first)))
    }

    /// Another one than that, which is not valid any more: somebody else's, who was quicker, or by a login.
    pub(super) fn after(&self, ended: &Arc<Token>, vault: &Vault, until: Instant) -> Result<Arc<Token>, Failed> {
        let mut token = self.place(until)?;
        if let Some(newer) = token.as_ref().filter(|newer| !Arc::ptr_eq(newer, ended)) {
            return Ok(Arc::clone(newer));
        }
        *token = None;
        let fresh = Arc::new(self.login(vault, until)?);
        Ok(Arc::clone(token.insert(fresh)))
    }

    fn place(&self, until: Instant) -> Result<MutexGuard<'_, Option<Arc<Token>>>, Failed> {
        let waits = || Failed::passing("another call is logging in, and takes its time");
        self.token.try_lock_until(until).ok_or_else(waits)
    }

    fn login(&self, vault: &Vault, until: Instant) -> Result<Token, Failed> {
        let line = |secret: &Secret| secret.line(left(until)).map_err(Failed::lasting);
        let (path, body) = match &self.auth {
            Auth::Token(secret) => return of_file(line(secret)?, vault, until),
            Auth::AppRole { mount, role_id, secret_id } => {
                let secret_id = line(secret_id)?;
                let body = Zeroizing::new(json!({"role_id": role_id, "secret_id": secret_id.as_str()}).to_string());
                (format!("/v1/auth/{mount}/login"), body)
            }
            Auth::Certificate { mount, role, .. } => {
                let body = role.as_ref().map_or_else(|| json!({}), |role| json!({"name": role}));
                (format!("/v1/auth/{mount}/login"), Zeroizing::new(body.to_string()))
            }
        };
        let ask = Ask { method: "POST", path: &path, body: body.as_bytes(), timeout: left(until) };
        let answer = vault.send(None, ask)?;
        match answer.status {
            200 => issued(&answer),
            // Who asks is not known there any more, which says nothing of the key.
            400..=403 => Err(Failed::lasting(format!("the login is refused: {}", answers::errors(&answer)))),
            _ => Err(answers::failure(&answer, "")),
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn issued(answer: &Answer) -> Result<Token, Failed> {
    let answers::Login { auth } = answer.json()?;
    Ok(Token { text: auth.client_token, issued_here: true, renew: renewal(auth.renewable, auth.lease_duration) })
}

/// A token that somebody else has made is asked how long it lasts. One that may not look itself up is never renewed.
fn of_file(text: Zeroizing<String>, vault: &Vault, until: Instant) -> Result<Token, Failed> {
    let mut token = Token { text, issued_here: false, renew: None };
    let ask = Ask { method: "GET", path: LOOKUP, body: b"", timeout: left(until) };
    let answer = vault.send(Some(&token), ask)?;
    if answer.status == 200 {
        let data: answers::Token = answers::data(&answer, "", &mut Trace::default())?;
        token.renew = renewal(data.renewable, data.ttl);
    }
    Ok(token)
}

fn renewal(renewable: bool, seconds: u64) -> Option<Instant> {
    (renewable && seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds) * 2 / 3)
}

/// The same token with more time. One that cannot be renewed goes on until it ends.
fn renewed(token: &Token, vault: &Vault, until: Instant) -> Token {
    let ask = Ask { method: "POST", path: "/v1/auth/token/renew-self", body: b"{}", timeout: left(until) };
    let renewed = vault.send(Some(token), ask).and_then(|answer| match answer.status {
        200 => answer.json::<answers::Login>(),
        _ => Err(answers::failure(&answer, "")),
    });
    let renew = match renewed {
        Ok(answers::Login { auth }) => renewal(auth.renewable, auth.lease_duration),
        Err(failed) => {
            log::warn!("the token is not renewed: {}", failed.error);
            failed.passes.then(|| Instant::now() + Duration::from_secs(5))
        }
    };
    Token { text: token.text.clone(), issued_here: token.issued_here, renew }
}
