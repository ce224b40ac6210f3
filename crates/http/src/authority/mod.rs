//! The process that holds the keyring, as the front knows it: what is asked, what is answered, and how that crosses.
//!
//! The front is not believed. The authority verifies each signature itself, and answers about the user whose signature
//! it is and about nobody else: whoever has taken over the front reaches those who talk to it.

mod frames;
mod wire;

pub use frames::{Ask, Found, Key, Signed, Told, User};
pub use wire::{Channel, serve};

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// The asking end. What takes long has channels of its own, so that no signature waits for it.
pub struct Authority {
    /// For [`Ask::Verify`].
    pub verifying: Channels,
    /// For all else.
    pub calling: Channels,
}

impl Authority {
    /// Those that a question goes over.
    pub fn channels_for(&self, question: &Ask) -> &Channels {
        if matches!(question, Ask::Verify { .. }) { &self.verifying } else { &self.calling }
    }
}

/// Several questions may be on their way, each over a channel of its own.
pub struct Channels {
    all: Vec<Channel>,
    turn: AtomicUsize,
    /// As much as there are channels, so that whoever waits for one holds no thread.
    pub(crate) room: Arc<Semaphore>,
}

impl Channels {
    /// `channels`: at least one, each connected to a thread that runs [`serve`].
    pub fn new(channels: Vec<Channel>) -> Self {
        assert!(!channels.is_empty(), "somebody has to be asked");
        let room = Arc::new(Semaphore::new(channels.len()));
        Self { all: channels, turn: AtomicUsize::new(0), room }
    }

    /// Over a channel that nobody waits for, if there is one. Waits for the answer.
    ///
    /// # Errors
    /// The authority has ended, or does not speak as it should.
    pub fn ask(&self, question: &Ask) -> io::Result<(Told, Option<OwnedFd>)> {
        if let Some(answer) = self.all.iter().find_map(|channel| channel.try_exchange(question)) {
            return answer;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len();
        self.all[turn].exchange(question)
    }
}
