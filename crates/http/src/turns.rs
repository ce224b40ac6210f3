//! What waits for files, and for the KMS, waits on few threads for all. Each user has a part of them, so that nobody
//! waits for what another user asks for.

use kmsfs_s3::{Code, Error};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Threads that read and write a user's objects at a time.
pub(crate) const FILES: usize = 16;
/// A user's calls of KMS that are made at a time.
const CALLS: usize = 2;
/// Documents of a user's that are received at a time: all of each is in memory.
const DOCUMENTS: usize = 8;
/// How long a call, or a document, waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of one user.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    files: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    documents: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let [files, calls, documents] = [FILES, CALLS, DOCUMENTS].map(|turns| Arc::new(Semaphore::new(turns)));
        Self { files, calls, documents }
    }
}

impl Turns {
    /// Does what may wait for the mount. It is done to its end, wherever the caller is by then.
    ///
    /// # Errors
    /// `InternalError`: it panicked.
    pub(crate) async fn with_file<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.files).acquire_owned().await.map_err(|_| Error::new(Code::InternalError))?;
        act_in(turn, act).await.map_err(|_| Error::new(Code::InternalError))
    }

    /// The same, in the background.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> JoinHandle<io::Result<T>> {
        let files = Arc::clone(&self.files);
        match Arc::clone(&files).try_acquire_owned() {
            Ok(turn) => act_in(turn, act),
            Err(_) => tokio::spawn(async move {
                let turn = files.acquire_owned().await.map_err(io::Error::other)?;
                act_in(turn, act).await.unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }),
        }
    }

    /// All turns for files, when they are to be had.
    #[cfg(test)]
    pub(crate) async fn take_all(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.files).acquire_many_owned(FILES as u32).await.unwrap()
    }

    /// To be held while the KMS is called.
    ///
    /// # Errors
    /// `SlowDown`: there are too many calls of this user.
    pub(crate) async fn call(&self) -> Result<OwnedSemaphorePermit, Error> {
        wait_for(&self.calls).await
    }

    /// To be held while a document is received and read.
    ///
    /// # Errors
    /// `SlowDown`: there are too many of this user.
    pub(crate) async fn document(&self) -> Result<OwnedSemaphorePermit, Error> {
        wait_for(&self.documents).await
    }
}

async fn wait_for(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let turn = timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| Error::new(Code::SlowDown))
}

fn act_in<T: Send + 'static>(turn: OwnedSemaphorePermit, act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(move || {
        let _turn = turn;
        act()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A user's reads and calls that do not come to an end are in no other user's way.
    #[tokio::test]
    async fn each_user_has_turns_of_the_own() {
        let (one, other) = (Turns::default(), Turns::default());
        let held: Vec<_> = (0..FILES)
            .map(|_| {
                let (go, wait) = mpsc::channel::<()>();
                (go, one.spawn(move || Ok(wait.recv())))
            })
            .collect();
        let late = one.spawn(|| Ok(()));
        assert!(other.with_file(|| 7).await.is_ok_and(|seven| seven == 7));
        assert!(one.files.try_acquire().is_err() && !late.is_finished());
        let calls = (one.call().await.unwrap(), one.call().await.unwrap());
        assert!(one.calls.try_acquire().is_err());
        assert!(other.call().await.is_ok());
        drop(calls);
        let mut documents = Vec::new();
        for _ in 0..DOCUMENTS {
            documents.push(one.document().await.unwrap());
        }
        assert!(one.documents.try_acquire().is_err());
        assert!(other.document().await.is_ok());
        drop(documents);
        for (go, held) in held {
            go.send(()).unwrap();
            held.await.unwrap().unwrap().unwrap();
        }
        late.await.unwrap().unwrap();
    }
}
