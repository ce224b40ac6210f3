//! The process that speaks HTTP. It is given sockets, and a channel to the authority; it has no privilege, no path and
//! no key, and gets none.

use super::listening::{Listening, Pem};
use crate::cli::helper::{Answer, Duty, Helper, pair};
use crate::cli::logging::{self, Sink};
use crate::cli::{harden, sandbox};
use kmsfs_http::authority::{Authority, Channel, Channels};
use kmsfs_http::{Front, Listener, Running, Settings};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const READY: u8 = 1;
/// Questions that the authority is asked at the same time: about signatures, and calls.
const VERIFYING: usize = 8;
const CALLING: usize = 8;
const CHANNELS: usize = VERIFYING + CALLING;
/// Of nobody, and not the number of the user of that name: whoever runs something as that one could stop the front. The
/// numbers from 65520 to 65533 are neither Debian's (Policy Manual, 9.2.2) nor systemd's ("Users, Groups, UIDs and
/// GIDs") to give away.
const NOBODY: u32 = 65532;

/// What the front is given.
pub struct Given {
    pub listening: Listening,
    pub access_log: Option<File>,
    pub settings: Settings,
    pub confined: bool,
}

/// The front, as the authority sees it.
pub struct Started {
    pub helper: Helper,
    /// To be answered, each from a thread of its own.
    pub questions: Vec<OwnedFd>,
}

#[derive(Serialize, Deserialize)]
pub struct About {
    tcp: usize,
    unix: usize,
    access_log: bool,
    settings: Settings,
    tls: Option<Pem>,
    confined: bool,
    /// By name.
    log_level: String,
}

impl Started {
    pub fn new(given: Given) -> io::Result<Self> {
        let (theirs, ours): (Vec<_>, Vec<_>) =
            (0..CHANNELS).map(|_| pair()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let Given { listening: Listening { tcp, unix, tls, .. }, access_log, settings, confined } = given;
        let descriptors: Vec<_> = (theirs.iter().map(AsFd::as_fd))
            .chain(tcp.iter().map(AsFd::as_fd))
            .chain(unix.iter().map(AsFd::as_fd))
            .chain(access_log.iter().map(AsFd::as_fd))
            .collect();
        let about = About {
            tcp: tcp.len(),
            unix: unix.len(),
            access_log: access_log.is_some(),
            settings,
            tls,
            confined,
            log_level: log::max_level().to_string(),
        };
        let helper = Helper::start_with::<Fronting>(&about, 1, &descriptors)?;
        Ok(Self { helper, questions: ours })
    }

    /// Waits until it accepts connections.
    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()?;
        self.helper.channels[0].ask(READY, &[]).map(drop)
    }
}

/// The process's own side.
pub struct Fronting(Result<Running, String>);

impl Duty for Fronting {
    const WORD: &'static str = "__speak_http";
    const TELLS: bool = true;
    type About = About;

    fn given(about: &About) -> usize {
        CHANNELS + about.tcp + about.unix + usize::from(about.access_log)
    }

    fn begin(about: About, given: Vec<OwnedFd>) -> Self {
        harden::forbid_dumps();
        logging::start(Sink::Stderr, about.log_level.parse().ok());
        Self(begin(about, given).map_err(|error| error.to_string()))
    }

    fn obey(&self, verb: u8, _: &[u8]) -> io::Result<Answer> {
        match (verb, &self.0) {
            (READY, Ok(_)) => Ok(Answer::default()),
            (READY, Err(why)) => Err(io::Error::other(why.clone())),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// What is being answered is answered.
    fn end(&self) {
        if let Ok(running) = &self.0 {
            running.end();
        }
    }
}

fn begin(about: About, given: Vec<OwnedFd>) -> io::Result<Running> {
    let mut given = given.into_iter();
    let mut take = |count: usize| given.by_ref().take(count).collect::<Vec<_>>();
    let mut channels = |count| Channels::new(take(count).into_iter().map(Channel::new).collect());
    let authority = Authority { verifying: channels(VERIFYING), calling: channels(CALLING) };
    let tcp = take(about.tcp).into_iter().map(|socket| Listener::Tcp(socket.into()));
    let mut listeners: Vec<_> = tcp.collect();
    listeners.extend(take(about.unix).into_iter().map(|socket| Listener::Unix(socket.into())));
    let access_log = take(usize::from(about.access_log)).pop().map(File::from);
    let tls = about.tls.map(|pem| kmsfs_http::tls(&pem.certificates, &pem.key)).transpose()?;
    become_nobody()?;
    harden::forbid_dumps();
    if about.confined
        && let Err(reason) = sandbox::enter_as_front()
    {
        log::warn!("{reason}");
    }
    Front { listeners, authority, settings: about.settings, tls, access_log }.run()
}

/// Without groups, and for good.
fn become_nobody() -> io::Result<()> {
    if geteuid().is_root() {
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw(NOBODY))?;
        set_thread_uid(Uid::from_raw(NOBODY))?;
    }
    Ok(())
}
