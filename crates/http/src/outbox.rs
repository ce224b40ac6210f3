//! Frames on their way to a worker that may take its time. Whoever sends one does not wait.

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

/// What a connection has to send. How many frames there are is for those that send them to bound.
#[derive(Debug)]
pub(crate) struct Outbox {
    socket: UnixStream,
    left: Mutex<Left>,
}

/// What the worker has not taken at once.
#[derive(Debug, Default)]
struct Left {
    frames: VecDeque<Vec<u8>>,
    /// A thread waits for the worker to take them. Nobody else sends meanwhile.
    is_attended: bool,
}

impl Outbox {
    pub(crate) fn new(socket: UnixStream) -> Arc<Self> {
        Arc::new(Self { socket, left: Mutex::default() })
    }

    /// Sends it behind all that was sent before; in the background, if the worker does not take it at once.
    ///
    /// # Errors
    /// The worker has gone, or there is no thread to wait for it: the connection has ended.
    pub(crate) fn send(self: &Arc<Self>, mut frame: Vec<u8>) -> io::Result<()> {
        let mut left = self.left.lock();
        if !left.is_attended {
            match send(&self.socket, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) if sent == frame.len() => return Ok(()),
                Ok(sent) => drop(frame.drain(..sent)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let outbox = Arc::clone(self);
            let attending = thread::Builder::new().name("kmsfs-sends".into()).spawn(move || outbox.attend());
            // A part of a frame may be sent.
            attending.inspect_err(|_| self.end())?;
            left.is_attended = true;
        }
        left.frames.push_back(frame);
        Ok(())
    }

    /// Ends the connection; whoever waits to send over it does not wait any more.
    pub(crate) fn end(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn attend(&self) {
        while let Some(frame) = self.next() {
            if let Err(error) = (&self.socket).write_all(&frame) {
                log::debug!("a worker has gone: {error}");
                self.end();
            }
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut left = self.left.lock();
        let next = left.frames.pop_front();
        left.is_attended = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn nobody_waits_for_a_worker_that_takes_nothing_and_all_arrives_in_its_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours);
        let frames: Vec<Vec<u8>> = (0..64).map(|number| vec![number; 100_000]).collect();
        for frame in &frames {
            outbox.send(frame.clone()).unwrap();
        }
        let mut received = vec![0; 6_400_000];
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(received, frames.concat());
        outbox.send(b"and more".to_vec()).unwrap();
        outbox.send(vec![7; 1_000_000]).unwrap();
        outbox.end();
        received.clear();
        theirs.read_to_end(&mut received).unwrap();
        assert!(received.starts_with(b"and more"));
    }
}
