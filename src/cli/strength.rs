//! How long a new passphrase would last against somebody who guesses.

use kmsfs_sys::{Fork, fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use std::fs::File;
use std::io::{Read as _, Write as _};
use zxcvbn::{Score, zxcvbn};

/// Characters that are looked at: what is longer is not weak for its beginning.
const LOOKED_AT: usize = 100;

/// What to say of it, where it is weak. Estimating makes copies of the passphrase that nobody wipes: a process of its
/// own does it, whose memory goes with it. Where there can be none, nothing is said.
pub fn weakness(passphrase: &[u8]) -> Option<String> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    match fork().ok()? {
        Fork::Child => {
            drop(reader);
            let _ = writer.write_all(of(passphrase).unwrap_or_default().as_bytes());
            std::process::exit(0);
        }
        Fork::Parent { child } => {
            drop(writer);
            let mut text = String::new();
            let read = reader.read_to_string(&mut text);
            let _ = waitpid(Some(child), WaitOptions::empty());
            (read.is_ok() && !text.is_empty()).then_some(text)
        }
    }
}

fn of(passphrase: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(passphrase);
    let looked_at: String = text.chars().take(LOOKED_AT).collect();
    let estimate = zxcvbn(&looked_at, &["kmsfs", "aws", "kms", "store", "keyring"]);
    if estimate.score() >= Score::Four {
        return None;
    }
    // A guess takes about a second of one processor: the keyring's Argon2id is made to. Somebody has many.
    let digits = estimate.guesses_log10();
    let mut text =
        format!("the passphrase is weak: about 10^{digits:.0} guesses find it, each a second of a processor");
    if let Some(feedback) = estimate.feedback() {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let advice = warning.into_iter().chain(feedback.suggestions().iter().map(ToString::to_string));
        for sentence in advice {
            text.push_str("; ");
            text.push_str(sentence.trim_end_matches('.'));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_easily_guessed_is_weak_and_several_words_are_not() {
        for weak in ["password", "12345678", "kmsfs", "qwertyuiop", "Tr0ub4dour"] {
            assert!(of(weak.as_bytes()).is_some_and(|said| said.starts_with("the passphrase is weak: ")), "{weak}");
        }
        for strong in ["vexing otter plinth mango 47", "\u{fffd}x9#Lq2!vR8@pZ"] {
            assert_eq!(of(strong.as_bytes()), None, "{strong}");
        }
        // However long it is, and whatever its bytes are.
        assert!(of("a".repeat(4096).as_bytes()).is_some());
        let _ = of(&[0xff; 64]);
        assert!(!of(b"password").unwrap().contains("password is"), "it does not say what was typed");
    }
}
