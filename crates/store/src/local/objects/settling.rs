//! Inode numbers that change hands, and inodes whose objects just come into memory.
//!
//! Whoever opens an object that is not in memory has its inode for as long as that takes, against others who open it
//! and against whoever takes its last name away. The latter is let through while the opener asks the KMS, which may
//! take long: the opener is told afterwards, and looks again.

use super::Objects;
use crate::{Ino, Result};
use kmsfs_kms::{Waits, WouldWait, deadline, waits};
use kmsfs_locks::{Condvar, Mutex, Turn, ranks};
use kmsfs_sse::RequestError;
use std::collections::HashMap;

/// Inode numbers that somebody has.
#[derive(Default)]
pub(super) struct Numbers {
    held: Mutex<ranks::InodesSettling, HashMap<Ino, Number>>,
    changed: Condvar,
}

#[derive(Default)]
struct Number {
    /// It is being opened. What whoever does so may be waiting for now.
    opening: Option<Waits>,
    settling: bool,
    /// It was settled while its opener asked the KMS.
    passed: bool,
}

/// An inode number that this thread settles; see [`Objects::settling`].
pub(crate) struct Settling<'a> {
    numbers: &'a Numbers,
    ino: Ino,
    _turn: Turn<ranks::Settling>,
}

/// An inode that this thread opens; see [`Objects::opening`].
pub(super) struct Opening<'a> {
    numbers: &'a Numbers,
    ino: Ino,
    _turn: Turn<ranks::Opening>,
}

impl Objects {
    /// Held while an inode number changes hands, never for long: from before its last name goes until the object behind
    /// it is known to be dead, and while a new one comes into memory. Backing file systems use a number again at once.
    pub(crate) fn settling(&self, ino: Ino) -> Settling<'_> {
        waits::whatever_it_takes(|| self.settle(ino)).expect("whoever may wait for everything is not refused")
    }

    /// The same before anything has been done. Refused where this thread must not wait for what the inode's opener
    /// waits for.
    pub(crate) fn settle(&self, ino: Ino) -> Result<Settling<'_>> {
        Ok(self.numbers.settle(ino)?)
    }

    /// Held by whoever brings an inode's object into memory. Refused where this thread must not wait for what another
    /// one who does so waits for, or has waited for the KMS with it until its deadline.
    pub(super) fn opening(&self, ino: Ino) -> Result<Opening<'_>> {
        Ok(self.numbers.open(ino)?)
    }
}

impl Numbers {
    fn settle(&self, ino: Ino) -> std::result::Result<Settling<'_>, WouldWait> {
        let turn = Turn::take();
        let mut held = self.held.lock();
        loop {
            let number = held.entry(ino).or_default();
            match number.opening {
                _ if number.settling => {}
                None => break,
                Some(Waits::Kms) => {
                    number.passed = true;
                    break;
                }
                Some(opening) => waits::may_wait(opening)?,
            }
            self.changed.wait(&mut held);
        }
        held.entry(ino).or_default().settling = true;
        Ok(Settling { numbers: self, ino, _turn: turn })
    }

    fn open(&self, ino: Ino) -> std::result::Result<Opening<'_>, RequestError> {
        let turn = Turn::take();
        let mut held = self.held.lock();
        loop {
            let number = held.entry(ino).or_default();
            let opening = number.opening;
            match opening {
                Some(opening) => waits::may_wait(opening)?,
                None if number.settling => {}
                None => break,
            }
            match deadline::current() {
                // The answer that the opener waits for is waited for no longer here than it would be asked for.
                Some(deadline) if opening == Some(Waits::Kms) => {
                    if deadline.has_passed() {
                        return Err(deadline::missed().into());
                    }
                    self.changed.wait_for(&mut held, deadline.left());
                }
                _ => self.changed.wait(&mut held),
            }
        }
        held.entry(ino).or_default().opening = Some(Waits::Nothing);
        Ok(Opening { numbers: self, ino, _turn: turn })
    }

    /// Nobody has it any more, unless `other` still has.
    fn leave(&self, ino: Ino, left: impl FnOnce(&mut Number) -> bool) {
        let mut held = self.held.lock();
        if held.get_mut(&ino).is_some_and(left) {
            held.remove(&ino);
        }
        self.changed.notify_all();
    }
}

impl Opening<'_> {
    /// From here on it may take long: others who must not wait for that do not.
    pub(super) fn waits_for(&self, what: Waits) -> Result<()> {
        waits::may_wait(what)?;
        self.wait_for(Some(what));
        Ok(())
    }

    /// Asks the KMS, while others may settle the inode. Returns also whether nobody did: if somebody has, what was
    /// known of the inode before may be out of date.
    pub(super) fn ask<T>(&self, ask: impl FnOnce() -> T) -> (T, bool) {
        let before = self.wait_for(Some(Waits::Kms));
        let asked = ask();
        let mut held = self.numbers.held.lock();
        while held.get(&self.ino).is_some_and(|number| number.settling) {
            self.numbers.changed.wait(&mut held);
        }
        let number = held.entry(self.ino).or_default();
        number.opening = before;
        (asked, !std::mem::take(&mut number.passed))
    }

    /// Returns what was waited for before.
    fn wait_for(&self, what: Option<Waits>) -> Option<Waits> {
        let mut held = self.numbers.held.lock();
        let before = std::mem::replace(&mut held.entry(self.ino).or_default().opening, what);
        self.numbers.changed.notify_all();
        before
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.numbers.leave(self.ino, |number| {
            number.settling = false;
            number.opening.is_none()
        });
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.numbers.leave(self.ino, |number| {
            (number.opening, number.passed) = (None, false);
            !number.settling
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_inode_is_settled_while_its_opener_asks_who_is_told_so() {
        let numbers = Numbers::default();
        let opening = numbers.open(Ino(5)).unwrap();
        let ((), alone) = opening.ask(|| drop(numbers.settle(Ino(5)).unwrap()));
        assert!(!alone);
        let ((), alone) = opening.ask(|| drop(numbers.settle(Ino(6)).unwrap()));
        assert!(alone, "of another inode");
        drop(opening);
        assert!(numbers.held.lock().is_empty());
    }

    #[test]
    fn an_opener_goes_on_once_the_inode_is_settled() {
        let numbers = Numbers::default();
        let (asking, asks) = channel();
        let (answered, answer) = channel::<()>();
        let settled = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ask = move || {
                    asking.send(()).unwrap();
                    answer.recv().unwrap();
                };
                let opening = numbers.open(Ino(5)).unwrap();
                assert!(!opening.ask(ask).1);
                assert!(settled.load(Ordering::SeqCst), "it goes on while somebody settles it");
            });
            asks.recv_timeout(LONG).unwrap();
            let settling = numbers.settle(Ino(5)).unwrap();
            answered.send(()).unwrap();
            // It waits, if it is quick enough to be there already.
            thread::yield_now();
            settled.store(true, Ordering::SeqCst);
            drop(settling);
        });
    }

    #[test]
    fn who_must_not_wait_for_what_an_opener_waits_for_is_refused() {
        let numbers = Numbers::default();
        let opening = numbers.open(Ino(5)).unwrap();
        // By others: a thread opens one inode at a time.
        let elsewhere = |most, act: &(dyn Fn() -> std::result::Result<(), WouldWait> + Sync)| {
            std::thread::scope(|scope| scope.spawn(|| waits::within(most, act)).join().unwrap())
        };
        let open = |most| {
            elsewhere(most, &|| match numbers.open(Ino(5)) {
                Ok(_) => Ok(()),
                Err(RequestError::WouldWait(wait)) => Err(wait),
                Err(other) => panic!("{other}"),
            })
        };
        let ((), _) = opening.ask(|| {
            assert_eq!([Waits::Nothing, Waits::Disk].map(open), [Err(WouldWait(Waits::Kms)); 2]);
        });
        opening.waits_for(Waits::Disk).unwrap();
        assert_eq!(open(Waits::Nothing), Err(WouldWait(Waits::Disk)));
        let settled = elsewhere(Waits::Nothing, &|| numbers.settle(Ino(5)).map(drop));
        assert_eq!(settled, Err(WouldWait(Waits::Disk)));
        drop(opening);
        assert_eq!(open(Waits::Nothing), Ok(()));
    }
}
