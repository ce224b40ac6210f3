//! What goes between the processes of `kmsfs serve`: one that was taken over sends what it likes.

use kmsfs_gateway::wire;
use kmsfs_http::authority::{Ask, Told, serve};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use std::fmt::Debug;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// More than a socket takes at a time.
const MOST: usize = 64 << 10;

/// To a worker, and from it. What is taken once is the same when it is sent again.
pub(super) fn gateway_frame(bytes: &[u8]) {
    fn received<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + Debug>(bytes: &[u8]) {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.write_all(&bytes[..bytes.len().min(MOST)]).expect("room for it");
        drop(ours);
        while let Ok(Some((number, payload, descriptor))) = wire::receive::<T>(&theirs) {
            assert!(descriptor.is_none(), "nobody has sent one");
            let (ours, again) = UnixStream::pair().expect("a pair of sockets");
            if wire::encode(&payload).is_ok_and(|encoded| encoded.len() < MOST) {
                wire::send(&ours, number, &payload, None).expect("what was received can be sent");
                let (known, same, _) = wire::receive::<T>(&again).expect("and received").expect("a frame");
                assert_eq!((known, same), (number, payload));
            }
        }
    }
    received::<wire::Request>(bytes);
    received::<wire::Response>(bytes);
}

/// To the authority, which hears nothing more of who sends what is none.
pub(super) fn authority_frame(bytes: &[u8]) {
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair().expect("a pair of sockets");
    if send(&ours, &bytes[..bytes.len().min(MOST)], SendFlags::empty()).is_err() {
        return;
    }
    drop(ours);
    let differs = AtomicBool::new(false);
    let _ = serve(theirs, |ask| {
        let sent = bincode::serialize(&ask).unwrap_or_default();
        let again = bincode::deserialize::<Ask>(&sent).and_then(|again| bincode::serialize(&again)).unwrap_or_default();
        differs.fetch_or(sent.is_empty() || sent != again, Ordering::Relaxed);
        (Told::NotServed(String::new()), None)
    });
    assert!(!differs.into_inner(), "what was received is another when it is sent");
}
