//! The process that speaks HTTP. It is given sockets, and a channel to the authority; it has no privilege, no path and
//! no key, and gets none.

use super::listening::{Listening, Metrics, Pem};
use crate::cli::helper::{self, Answer, Duty, Helper, pair};
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
use zeroize::Zeroizing;

const READY: u8 = 1;
/// Under another certificate, which is what it is asked with.
const RENEW: u8 = 2;
/// With another file for the access log, which is passed to it before.
const LOG: u8 = 3;
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
    /// By which it is passed files.
    door: OwnedFd,
}

/// Of a socket: whether it is one in the file system.
type IsUnix = bool;

#[derive(Serialize, Deserialize)]
pub struct About {
    tcp: usize,
    unix: usize,
    metrics: Option<IsUnix>,
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
        let Given { listening: Listening { tcp, unix, metrics, tls, .. }, access_log, settings, confined } = given;
        let (door, their_door) = pair()?;
        let descriptors: Vec<_> = (theirs.iter().map(AsFd::as_fd))
            .chain(tcp.iter().map(AsFd::as_fd))
            .chain(unix.iter().map(AsFd::as_fd))
            .chain(metrics.iter().map(Metrics::as_fd))
            .chain(access_log.iter().map(AsFd::as_fd))
            .chain([their_door.as_fd()])
            .collect();
        let about = About {
            tcp: tcp.len(),
            unix: unix.len(),
            metrics: metrics.as_ref().map(|metrics| matches!(metrics, Metrics::Unix(_))),
            access_log: access_log.is_some(),
            settings,
            tls,
            confined,
            log_level: log::max_level().to_string(),
        };
        let helper = Helper::start_with::<Fronting>(&about, 1, &descriptors)?;
        Ok(Self { helper, questions: ours, door })
    }

    /// Waits until it accepts connections.
    pub fn expect_ready(&self) -> io::Result<()> {
        self.helper.expect_ready()?;
        self.helper.channels[0].ask(READY, &[]).map(drop)
    }

    /// Has connections that come made under this certificate.
    ///
    /// # Errors
    /// It is none, and the one before stays.
    pub fn renew(&self, pem: &Pem) -> io::Result<()> {
        self.helper.channels[0].ask(RENEW, &Zeroizing::new(serde_json::to_vec(pem)?)).map(drop)
    }

    /// Has requests that come have their lines in this file.
    pub fn log_to(&self, file: &File) -> io::Result<()> {
        helper::pass(&self.door, file.as_fd())?;
        self.helper.channels[0].ask(LOG, &[]).map(drop)
    }
}

/// The process's own side.
pub struct Fronting {
    running: Result<Running, String>,
    door: Option<OwnedFd>,
}

impl Duty for Fronting {
    const WORD: &'static str = "__speak_http";
    const TELLS: bool = true;
    type About = About;

    fn given(about: &About) -> usize {
        CHANNELS + about.tcp + about.unix + usize::from(about.metrics.is_some()) + usize::from(about.access_log) + 1
    }

    fn begin(about: About, mut given: Vec<OwnedFd>) -> Self {
        harden::forbid_dumps();
        logging::start(Sink::Stderr, about.log_level.parse().ok());
        let door = given.pop();
        Self { running: begin(about, given).map_err(|error| error.to_string()), door }
    }

    fn obey(&self, verb: u8, what: &[u8]) -> io::Result<Answer> {
        let running = self.running.as_ref().map_err(|why| io::Error::other(why.clone()))?;
        match verb {
            READY => Ok(()),
            RENEW => {
                let pem: Pem = serde_json::from_slice(what)?;
                running.renew(kmsfs_http::tls(&pem.certificates, &pem.key)?)
            }
            LOG => {
                let door = self.door.as_ref().ok_or(Errno::INVAL)?;
                running.log_to(helper::take_last(door)?.ok_or(Errno::INVAL)?.into())
            }
            _ => Err(Errno::INVAL.into()),
        }
        .map(|()| Answer::default())
    }

    /// What is being answered is answered.
    fn end(&self) {
        if let Ok(running) = &self.running {
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
    let metrics = about.metrics.zip(take(usize::from(about.metrics.is_some())).pop());
    let metrics = metrics.map(
        |(is_unix, socket)| {
            if is_unix { Listener::Unix(socket.into()) } else { Listener::Tcp(socket.into()) }
        },
    );
    let access_log = take(usize::from(about.access_log)).pop().map(File::from);
    let tls = about.tls.as_ref().map(|pem| kmsfs_http::tls(&pem.certificates, &pem.key)).transpose()?;
    become_nobody()?;
    harden::forbid_dumps();
    if about.confined
        && let Err(reason) = sandbox::enter_as_front()
    {
        log::warn!("{reason}");
    }
    Front { listeners, authority, settings: about.settings, metrics, tls, access_log }.run()
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
