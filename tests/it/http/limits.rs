//! What one user, one worker or one client has of what all have together.

use super::Served;
use super::client::Connection;
use super::processes::family;
use crate::harness::{NOBODY, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;

/// The worker is stopped as only root can, and is sent more than the kernel keeps for it.
#[test]
fn a_worker_that_takes_nothing_is_in_nobody_elses_way() {
    let served = Served::new();
    let (root, nobody) = (served.client("root"), served.client("nobody"));
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/x", b"content").expect(200);
    served.store.sh("chmod 755 $MNT/bucket; chmod 644 $MNT/bucket/x");
    nobody.get("/").expect(200);
    let worker = all_workers(served.server.pid()).into_iter().find(|(_, uid)| *uid == NOBODY);
    let (worker, _) = worker.expect("a worker");
    let signal = |signal| kill_process(Pid::from_raw(worker).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    let tags = vec!["\"0123456789abcdef0123456789abcdef\""; 200].join(", ");
    let mut waiting: Vec<_> = (0..100)
        .map(|_| {
            let request = nobody.sign("GET", "/bucket/x", &[("if-none-match", &tags)], b"");
            let mut connection = Connection::open(&nobody.address);
            connection.send(request.head().as_bytes());
            connection
        })
        .collect();
    for _ in 0..5 {
        root.put("/bucket/x", b"content").expect(200);
        assert_eq!(root.get("/bucket/x").expect(200).body, b"content");
    }
    // Who is new needs a worker of the spawner.
    served.client("daemon").get("/").expect(200);
    signal(Signal::CONT);
    for connection in &mut waiting {
        assert_eq!(connection.reply("GET").expect(200).body, b"content");
    }
    served.server.end();
}

/// What waits in front of a worker that does nothing for a while is given up by its client, who puts something else.
#[test]
fn what_a_client_has_given_up_does_not_come_later() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/deleted", b"content").expect(200);
    let (worker, _) = all_workers(served.server.pid())[0];
    let signal = |signal| kill_process(Pid::from_raw(worker).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    let given_up = (0..20).map(|number| root.sign("PUT", &format!("/bucket/{number}"), &[], b"given up"));
    let given_up = given_up.chain([root.sign("DELETE", "/bucket/deleted", &[], b"")]);
    let open: Vec<_> = given_up
        .map(|request| {
            let mut connection = Connection::open(&root.address);
            connection.send(&[request.head().as_bytes(), &request.body].concat());
            connection
        })
        .collect();
    let port = root.address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    // All of them have been read, and are waited for.
    assert!(wait_until(|| unread(port) == Some(0)));
    let ports: Vec<u16> = open.iter().map(|open| open.0.get_ref().local_addr().unwrap().port()).collect();
    drop(open);
    assert!(wait_until(|| ports.iter().all(|client| !is_connected(port, *client))));
    let later: Vec<_> = ["0", "19", "deleted"]
        .map(|name| {
            let request = root.sign("PUT", &format!("/bucket/{name}"), &[], b"later");
            let mut connection = Connection::open(&root.address);
            connection.send(&[request.head().as_bytes(), &request.body].concat());
            connection
        })
        .into();
    signal(Signal::CONT);
    for mut connection in later {
        connection.reply("PUT").expect(200);
    }
    // A worker that ends has done what it was asked for.
    served.server.end();
    for name in ["0", "19", "deleted"] {
        assert_eq!(fs::read(served.mount.path(&format!("bucket/{name}"))).unwrap(), b"later", "{name}");
    }
    let names = crate::harness::names_in(&served.mount.path("bucket"));
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
}

/// The server's ends of connections: the client's port, and bytes that the server has not read.
fn server_ends(port: u16) -> Vec<(u16, u64)> {
    let of_port = |address: &str| u16::from_str_radix(address.rsplit_once(':').unwrap().1, 16).unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Neither those that listen nor those that are waited for after both ends have gone.
    let there = fields.filter(|fields| of_port(fields[1]) == port && !["0A", "06"].contains(&fields[3]));
    there
        .map(|fields| (of_port(fields[2]), u64::from_str_radix(fields[4].rsplit_once(':').unwrap().1, 16).unwrap()))
        .collect()
}

/// By the server, of all that was sent to it.
fn unread(port: u16) -> Option<u64> {
    server_ends(port).into_iter().map(|(_, unread)| unread).reduce(|one, other| one + other)
}

fn is_connected(port: u16, client: u16) -> bool {
    server_ends(port).into_iter().any(|(known, _)| known == client)
}

/// Of all workers: process and uid for files.
fn all_workers(server: u32) -> Vec<(i32, u32)> {
    let mut workers = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        if words.split(|byte| *byte == 0).nth(1) == Some(b"__serve_user") && is_below(pid, server) {
            workers.push((pid, field("Uid:").split_whitespace().nth(3).unwrap().parse().unwrap()));
        }
    }
    workers
}

fn is_below(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid.cast_unsigned();
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or_default();
    }
    false
}

/// In a mount namespace with a group database of its own.
#[test]
fn a_group_that_a_user_has_left_counts_no_more_and_workers_that_nobody_asks_end() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("group");
    let crew = |members: &str| {
        let others = fs::read_to_string("/etc/group").unwrap();
        // In place, since it is mounted.
        fs::write(&database, format!("{others}kmsfs-crew:x:54321:{members}\n")).unwrap();
    };
    crew("nobody");
    let script = format!("mount --bind {} /etc/group && exec \"$@\"", database.display());
    let served = Served::by(&["unshare", "--mount", "sh", "-c", &script, "sh"], "--worker-lifetime 1");
    let (root, nobody) = (served.client("root"), served.client("nobody"));
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/x", b"content").expect(200);
    served.store.sh("chgrp -R 54321 $MNT/bucket; chmod 770 $MNT/bucket; chmod 660 $MNT/bucket/x");
    assert_eq!(nobody.get("/bucket/x").expect(200).body, b"content");
    crew("");
    // All the while there are requests.
    assert!(wait_until(|| nobody.get("/bucket/x").status == 403));
    assert!(wait_until(|| all_workers(served.server.pid()).is_empty()), "nobody asks them for anything");
    nobody.get("/").expect(200);
    served.server.end();
}

#[test]
fn where_there_are_more_users_than_workers_all_are_served() {
    let served = Served::with("--max-workers 2 --worker-lifetime 1");
    let clients = ["root", "nobody", "daemon", "bin", "sys"].map(|user| served.client(user));
    for _ in 0..2 {
        for client in &clients {
            // Those that give way come to the end of what they do first.
            assert!(wait_until(|| client.get("/").status == 200));
        }
    }
    assert!(all_workers(served.server.pid()).len() <= 6, "two, and those that come to their end");
    served.server.end();
}

#[test]
fn connections_that_say_nothing_give_way_where_there_is_no_room() {
    // Of the descriptors 256 are for all else, and each connection may have two.
    let served = Served::by(&["prlimit", "--nofile=296:296"], "");
    let root = served.client("root");
    let mut silent: Vec<_> = (0..40).map(|_| Connection::open(&root.address)).collect();
    root.put("/bucket", b"").expect(200);
    root.put("/bucket/x", b"content").expect(200);
    let mut left = 0;
    for connection in &mut silent {
        connection.0.get_ref().set_nonblocking(true).unwrap();
        let read = connection.0.read(&mut [0]);
        left += usize::from(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!((10..=20).contains(&left), "{left}");
    served.server.end();
}

/// All workers have one real uid, by which the kernel counts processes and threads.
#[test]
fn how_many_processes_a_user_may_have_is_no_limit_of_workers() {
    // Each worker has more threads than that. (It is raised as far as whoever runs the server may.)
    let served = Served::by(&["prlimit", "--nproc=24:"], "");
    for user in ["root", "nobody", "daemon", "bin"] {
        served.client(user).get("/").expect(200);
    }
    let family = family(served.server.pid());
    let limits = fs::read_to_string(format!("/proc/{}/limits", family["__serve_user"]["Pid"])).unwrap();
    let processes = limits.lines().find_map(|line| line.strip_prefix("Max processes")).unwrap();
    let limits: Vec<_> = processes.split_whitespace().take(2).collect();
    assert_eq!(limits[0], limits[1], "the soft limit and the hard one");
    served.server.end();
}

/// The kernel has taken a part of the last piece of its answer, and the client none of it.
#[test]
fn who_reads_slowly_does_not_give_way_before_the_kernel_has_all_of_the_answer() {
    const SIZE: usize = (256 << 10) + (4 << 20);
    let served = Served::by(&["prlimit", "--nofile=296:296"], "");
    let root = served.client("root");
    fs::create_dir(served.mount.path("bucket")).unwrap();
    let content: Vec<u8> = (0..SIZE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(served.mount.path("bucket/x"), &content).unwrap();
    let request = root.sign("GET", "/bucket/x", &[], b"").head();
    // As little as there can be of it in the kernel.
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    rustix::net::connect(&socket, &root.address.parse::<std::net::SocketAddr>().unwrap()).unwrap();
    let mut slow = Connection(std::io::BufReader::new(std::net::TcpStream::from(socket)));
    slow.0.get_ref().set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    slow.send(request.as_bytes());
    assert_eq!(slow.reply_head().0, 200);
    let mut received = vec![0; SIZE];
    // Now all of it is handed over.
    slow.0.read_exact(&mut received[..300 << 10]).unwrap();
    let others: Vec<_> = (0..40).map(|_| Connection::open(&root.address)).collect();
    for _ in 0..5 {
        root.get("/").expect(200);
    }
    slow.0.read_exact(&mut received[300 << 10..]).unwrap();
    assert!(received == content);
    drop(others);
    served.server.end();
}
