//! One question for all who ask the same at the same time.

use kmsfs_kms::deadline::{self, Deadline};
use kmsfs_kms::elsewhere::RemoteCall;
use kmsfs_kms::{Code, EncryptionContext, Error};
use kmsfs_locks::{Mutex, ranks};
use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use zeroize::Zeroizing;

/// And how it was asked for, which all who wanted it have in their records.
type Opened = (Result<Zeroizing<Vec<u8>>, Error>, Vec<RemoteCall>);
/// Key, blob and context.
type Question = (String, Vec<u8>, EncryptionContext);

/// Blobs that are being opened, and who else waits for each.
#[derive(Default)]
pub(crate) struct Joins(Mutex<ranks::ProviderJoins, HashMap<Question, Vec<Sender<Opened>>>>);

impl Joins {
    /// What `open` returns, of this thread or of another that opens the same just now.
    pub(crate) fn open(
        &self,
        (key_id, blob, context): (&str, &[u8], &EncryptionContext),
        deadline: Deadline,
        open: impl Fn() -> Opened,
    ) -> Opened {
        let question = (key_id.to_owned(), blob.to_owned(), context.clone());
        loop {
            let told = {
                let mut asked = self.0.lock();
                if let Some(others) = asked.get_mut(&question) {
                    let (tell, told) = channel();
                    others.push(tell);
                    told
                } else {
                    asked.insert(question.clone(), Vec::new());
                    break;
                }
            };
            match told.recv_timeout(deadline.left()) {
                // Whoever asked had less time than there is here.
                Ok((Err(error), _)) if error.code == Code::DependencyTimeout && !deadline.has_passed() => {}
                Ok(opened) => return opened,
                Err(_) if deadline.has_passed() => return (Err(deadline::missed()), Vec::new()),
                // Whoever asked has panicked.
                Err(_) => {}
            }
        }
        let asking = Asking(self, &question);
        let opened = open();
        for tell in asking.end() {
            let _ = tell.send(opened.clone());
        }
        opened
    }
}

/// Ends the question also where asking panics.
struct Asking<'a>(&'a Joins, &'a Question);

impl Asking<'_> {
    fn end(self) -> Vec<Sender<Opened>> {
        self.0.0.lock().remove(self.1).unwrap_or_default()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.lock().remove(self.1);
        }
    }
}
