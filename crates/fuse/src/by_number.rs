//! LOOKUP of "." and "..", by which the kernel asks for an inode whose number a file handle has told it.

use super::served::Served;
use super::statistics::Call;
use fuser::ReplyEntry;
use parking_lot::Mutex;

/// Who waits for which inode. One thread at a time looks for all that wait: a walk of the tree finds many as fast as one.
#[derive(Default)]
pub struct ByNumber(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    replies: Vec<(u64, ReplyEntry)>,
    is_answered: bool,
}

impl ByNumber {
    /// Puts one more there. True if nobody answers yet: the caller has to see to it.
    pub fn wait(&self, ino: u64, reply: ReplyEntry) -> bool {
        let mut waiting = self.0.lock();
        waiting.replies.push((ino, reply));
        !std::mem::replace(&mut waiting.is_answered, true)
    }

    /// Answers until nobody waits.
    pub fn answer(&self, served: &Served) {
        loop {
            let replies = {
                let mut waiting = self.0.lock();
                waiting.is_answered = !waiting.replies.is_empty();
                std::mem::take(&mut waiting.replies)
            };
            if replies.is_empty() {
                return;
            }
            let numbers: Vec<u64> = replies.iter().map(|(ino, _)| *ino).collect();
            for ((_, reply), found) in replies.into_iter().zip(served.fs.find(&numbers)) {
                served.reply_entry(reply, served.attempt(Call::Lookup, || found));
            }
        }
    }
}
