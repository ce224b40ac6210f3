//! The keyring: all KMS keys, sealed under one root key that each unlock slot wraps. docs/FORMAT.md has the bytes.

mod contents;
mod files;
mod slots;

pub use contents::{Alias, Contents, Key, KeyManager, KeyOrigin, KeyState};
pub use files::{Keyring, Stamp, now};
pub use slots::Unlock;

/// Why a keyring cannot be opened or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// No slot opens with this key file or passphrase.
    WrongKey,
    /// What is wrong and what to do.
    Other(String),
}

impl OpenError {
    fn io(what: &str, error: &std::io::Error) -> Self {
        Self::Other(format!("{what}: {error}"))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongKey => f.write_str("this key file or passphrase does not open the keyring"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for OpenError {}

/// Hexadecimal in small letters.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Of what `hex` writes and nothing else, so that no flipped bit goes unseen.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() % 2 != 0 {
        return None;
    }
    bytes.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
