//! `kmsfs serve`: the real program on a real mount, asked by requests that AWS's own signer has signed.

mod bad_input;
mod bodies;
mod calls;
mod chunks;
mod client;
mod clients;
mod limits;
mod objects;
mod operating;
mod processes;
mod sending;
mod signatures;
mod tls;
mod uploads;

use crate::harness::{Store, json, kmsfs, wait_until};
use client::{AccessKey, Client};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server on a store's mount, which must be there. It ends when it is dropped.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    said: PathBuf,
    /// What it says of itself on standard output, behind where it is.
    rest: std::cell::RefCell<BufReader<std::process::ChildStdout>>,
}

impl Server {
    /// On a free port.
    #[track_caller]
    pub fn start(store: &Store, options: &str) -> Self {
        Self::of(store, &store.mountpoint(), options)
    }

    /// `place`: a mount or a store.
    #[track_caller]
    pub fn of(store: &Store, place: &Path, options: &str) -> Self {
        Self::by(store, place, &[], options)
    }

    /// `by`: words of a program that runs the one that follows.
    #[track_caller]
    pub fn by(store: &Store, place: &Path, by: &[&str], options: &str) -> Self {
        let said = store.path("serve.said");
        let program = kmsfs();
        let words = by.iter().map(AsRef::as_ref).chain([program.get_program()]).collect::<Vec<_>>();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .args(["serve", "--listen", "127.0.0.1:0", "--key-file"])
            .arg(store.path("key"))
            .args(options.split_whitespace())
            .arg(place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut rest = BufReader::new(child.stdout.take().expect("a pipe"));
        rest.read_line(&mut line).unwrap();
        // Made first, so that the process ends whatever comes.
        let mut server = Self { child, address: String::new(), said, rest: rest.into() };
        let (_, address) = line.trim().rsplit_once("://").unwrap_or_else(|| panic!("{line:?}: {}", server.said()));
        server.address = address.to_owned();
        server
    }

    /// Where it tells what has been done; of a server that does.
    pub fn metrics_address(&self) -> String {
        let mut line = String::new();
        self.rest.borrow_mut().read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("kmsfs: metrics at http://").and_then(|url| url.strip_suffix("/metrics"));
        address.unwrap_or_else(|| panic!("{line:?}")).to_owned()
    }

    /// What it has said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub fn client(&self, key: &AccessKey) -> Client {
        Client::new(&self.address, key)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it as a service manager does, and expects that it ends well.
    #[track_caller]
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        let mut ended = None;
        wait_until(|| {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}: {}", self.said());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A new access key of that user.
#[track_caller]
pub fn access_key(store: &Store, user: &str) -> AccessKey {
    let made = store.sh(&format!("kmsfs iam --store $STORE --key-file $KEY create-access-key --user-name {user}"));
    let made = &json(&made)["AccessKey"];
    let text = |name: &str| made[name].as_str().expect(name).to_owned();
    AccessKey { id: text("AccessKeyId"), secret: text("SecretAccessKey") }
}

/// A mounted store that everybody may use, with a server on it.
pub struct Served {
    // In this order: the server ends before the mount, and the mount before the store.
    pub server: Server,
    pub mount: crate::harness::Mount,
    pub store: Store,
}

impl Served {
    #[track_caller]
    pub fn new() -> Self {
        Self::with("")
    }

    /// `options`: of the server.
    #[track_caller]
    pub fn with(options: &str) -> Self {
        let store = Store::on_tmpfs();
        store.open_to_all();
        let mount = store.mount_with("allow_other");
        let server = Server::start(&store, options);
        Self { server, mount, store }
    }

    /// The server run by another program: see [`Server::by`].
    #[track_caller]
    pub fn by(by: &[&str], options: &str) -> Self {
        let store = Store::on_tmpfs();
        store.open_to_all();
        let mount = store.mount_with("allow_other");
        let server = Server::by(&store, &store.mountpoint(), by, options);
        Self { server, mount, store }
    }

    /// As that user, with a new access key.
    #[track_caller]
    pub fn client(&self, user: &str) -> Client {
        self.server.client(&access_key(&self.store, user))
    }
}
