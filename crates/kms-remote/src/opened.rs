//! What was opened lately, for while a KMS is away: where somebody has asked for that (`offline`), and nowhere else.

use kmsfs_kms::EncryptionContext;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Blobs.
const MOST: usize = 1024;

/// By key, blob and context.
#[derive(Default)]
pub(crate) struct Opened(HashMap<(String, Vec<u8>, EncryptionContext), Kept>);

struct Kept {
    plaintext: Zeroizing<Vec<u8>>,
    when: Instant,
}

impl Opened {
    /// It was opened now. What was not within `offline` is forgotten.
    pub(crate) fn keep(
        &mut self,
        (key_id, blob, context): (&str, &[u8], &EncryptionContext),
        plaintext: &Zeroizing<Vec<u8>>,
        now: Instant,
        offline: Duration,
    ) {
        let question = (key_id.to_owned(), blob.to_owned(), context.clone());
        if !self.0.contains_key(&question) {
            self.0.retain(|_, kept| now.saturating_duration_since(kept.when) <= offline);
            if self.0.len() >= MOST
                && let Some(oldest) = self.0.iter().min_by_key(|(_, kept)| kept.when).map(|(oldest, _)| oldest.clone())
            {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(question, Kept { plaintext: plaintext.clone(), when: now });
    }

    /// What it was opened to within `offline`.
    pub(crate) fn find(
        &self,
        (key_id, blob, context): (&str, &[u8], &EncryptionContext),
        now: Instant,
        offline: Duration,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let kept = self.0.get(&(key_id.to_owned(), blob.to_owned(), context.clone()))?;
        (now.saturating_duration_since(kept.when) <= offline).then(|| kept.plaintext.clone())
    }

    /// It does not open any more.
    pub(crate) fn forget(&mut self, (key_id, blob, context): (&str, &[u8], &EncryptionContext)) {
        self.0.remove(&(key_id.to_owned(), blob.to_owned(), context.clone()));
    }

    /// The key was refused with that context.
    pub(crate) fn forget_context(&mut self, key_id: &str, context: &EncryptionContext) {
        self.0.retain(|(of, _, with), _| of != key_id || with != context);
    }

    /// The key was refused.
    pub(crate) fn forget_key(&mut self, key_id: &str) {
        self.0.retain(|(of, ..), _| of != key_id);
    }

    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// What nobody could be served any more.
    pub(crate) fn expire(&mut self, now: Instant, offline: Duration) {
        self.0.retain(|_, kept| now.saturating_duration_since(kept.when) <= offline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_is_kept_for_so_long_and_until_the_key_is_refused() {
        const OFFLINE: Duration = Duration::from_secs(60);
        let (mut opened, start, context) = (Opened::default(), Instant::now(), EncryptionContext::new());
        let plaintext = Zeroizing::new(vec![7; 32]);
        for key in ["a", "b"] {
            opened.keep((key, &[1], &context), &plaintext, start, OFFLINE);
        }
        let find = |opened: &Opened, key: &str, blob: u8, at| opened.find((key, &[blob], &context), at, OFFLINE);
        assert_eq!(find(&opened, "a", 1, start + OFFLINE), Some(plaintext.clone()));
        assert_eq!(find(&opened, "a", 2, start), None);
        assert_eq!(find(&opened, "a", 1, start + 2 * OFFLINE), None);
        opened.keep(("a", &[2], &context), &plaintext, start, OFFLINE);
        opened.forget(("a", &[2], &context));
        opened.forget_context("a", &[("other".to_owned(), "context".to_owned())].into());
        assert_eq!((find(&opened, "a", 2, start), find(&opened, "a", 1, start)), (None, Some(plaintext.clone())));
        opened.keep(("a", &[2], &context), &plaintext, start, OFFLINE);
        opened.forget_context("a", &context);
        assert_eq!((find(&opened, "a", 1, start), find(&opened, "a", 2, start)), (None, None));
        opened.keep(("a", &[1], &context), &plaintext, start, OFFLINE);
        opened.forget_key("a");
        assert_eq!((find(&opened, "a", 1, start), find(&opened, "b", 1, start)), (None, Some(plaintext.clone())));
        opened.expire(start + 2 * OFFLINE, OFFLINE);
        assert!(opened.0.is_empty());
        for blob in 0..2000_u32 {
            opened.keep(("a", &blob.to_le_bytes(), &context), &plaintext, start, OFFLINE);
        }
        assert_eq!(opened.0.len(), MOST);
    }
}
