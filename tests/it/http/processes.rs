//! The processes behind `kmsfs serve`: what each of them is, and that they end together.

use super::client::{AccessKey, Client};
use super::{Served, Server, access_key};
use crate::harness::{NOBODY, Store, is_mounted, mounts_below, wait_until};
use std::collections::HashMap;
use std::fs;

/// Fields of a process's status, by the word that the process was started with; also those of its children.
pub fn family(pid: u32) -> HashMap<String, HashMap<String, String>> {
    let mut all = HashMap::new();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let word = words.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        all.insert(String::from_utf8_lossy(word).into_owned(), fields);
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    all
}

#[test]
fn who_parses_has_no_privileges_and_who_works_is_the_user() {
    let served = Served::new();
    let nobody = served.client("nobody");
    nobody.get("/").expect(200);
    let family = family(served.server.pid());
    let field =
        |word: &str, name: &str| family.get(word).and_then(|fields| fields.get(name)).cloned().unwrap_or_default();
    let ids = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    // Of the user it has what files are used by, and no uid that signals go by.
    let uids_of_worker = format!("65533\t65533\t65533\t{NOBODY}");
    for (word, uids, gids) in [("__speak_http", ids(65532), ids(65532)), ("__serve_user", uids_of_worker, ids(NOBODY))]
    {
        assert_eq!((field(word, "Uid"), field(word, "Gid")), (uids, gids), "{word}: {family:?}");
        for set in ["CapInh", "CapPrm", "CapEff"] {
            assert_eq!(u64::from_str_radix(&field(word, set), 16), Ok(0), "{word}: {set}");
        }
        assert_eq!((field(word, "NoNewPrivs"), field(word, "Seccomp")), ("1".into(), "2".into()), "{word}");
    }
    assert_eq!(field("__speak_http", "Groups"), "");
    assert_eq!(field("serve", "Seccomp"), "2");
    assert_eq!(field("__spawn_workers", "NoNewPrivs"), "1");
    served.server.end();
}

/// Whoever can stop a process holds up all who wait for it.
#[test]
fn a_user_has_no_power_over_the_processes_that_serve() {
    let served = Served::new();
    served.client("nobody").get("/").expect(200);
    let family = family(served.server.pid());
    for word in ["__speak_http", "__serve_user"] {
        let pid = &family[word]["Pid"];
        for act in [
            "kill -STOP PID",
            "kill -0 PID",
            "renice -n 19 -p PID",
            "chrt --idle --pid 0 PID",
            "taskset --pid 1 PID",
            "ionice -c 3 -p PID",
            "prlimit --pid PID --nofile=3:3",
            "cat /proc/PID/mem",
            "ls -l /proc/PID/fd",
            "echo 1000 > /proc/PID/oom_score_adj",
        ] {
            let answer = served.store.sh_as(NOBODY, &act.replace("PID", pid));
            let denied = ["not permitted", "Permission denied"].iter().any(|text| answer.err.contains(text));
            assert!(answer.code != 0 && denied, "{word}: {act}: {answer:?}");
        }
    }
    served.client("nobody").get("/").expect(200);
}

#[test]
fn all_of_them_end_with_the_one_that_was_started() {
    let served = Served::new();
    served.client("nobody").get("/").expect(200);
    let pids: Vec<String> = family(served.server.pid()).into_values().map(|fields| fields["Pid"].clone()).collect();
    assert!(pids.len() >= 5, "{pids:?}");
    served.server.signal(rustix::process::Signal::KILL);
    let gone = |pid: &String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
    };
    assert!(wait_until(|| pids.iter().all(gone)), "{pids:?}");
    assert!(is_mounted(&served.store.mountpoint()), "the mount is another process's");
}

#[test]
fn once_it_has_ended_nothing_of_it_uses_the_mount() {
    let served = Served::new();
    let key = access_key(&served.store, "root");
    for _ in 0..5 {
        let server = Server::start(&served.store, "");
        server.client(&key).put("/bucket", b"");
        server.client(&key).put("/bucket/x", &[7; 10_000]).expect(200);
        let family = family(server.pid());
        assert!(family.contains_key("__serve_user"), "{family:?}");
        server.end();
        // A process that has ended has no directory any more.
        let uses = |fields: &&HashMap<String, String>| fs::read_link(format!("/proc/{}/cwd", fields["Pid"])).is_ok();
        let left: Vec<_> = family.values().filter(uses).map(|fields| &fields["Name"]).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_store_is_mounted_while_it_is_served() {
    let store = Store::on_tmpfs();
    let key = access_key(&store, "root");
    let mountpoint = store.mountpoint();
    let options = format!("--mount {}", mountpoint.display());
    let server = Server::of(&store, store.store(), &options);
    assert!(is_mounted(&mountpoint));
    server.client(&key).put("/bucket", b"").expect(200);
    server.client(&key).put("/bucket/x", b"content").expect(200);
    assert_eq!(fs::read(mountpoint.join("bucket/x")).unwrap(), b"content");
    server.end();
    assert!(wait_until(|| mounts_below(store.dir()).is_empty()));
    store.wait_until_closed();
}

/// Makes a file when it is dropped, for a script that waits for it.
struct Told(std::path::PathBuf);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "");
    }
}

/// All of its processes are that user's, and it serves nobody else.
#[test]
fn an_ordinary_user_serves_what_is_the_users_own() {
    let store = Store::on_tmpfs();
    let script = "kmsfs init --key-file $KEY $STORE >/dev/null; up
         for user in nobody root; do
             kmsfs iam --store $STORE --key-file $KEY create-access-key --user-name $user > of-$user
         done
         kmsfs serve --key-file $KEY --listen 127.0.0.1:0 $MNT > said & server=$!
         until test -e done; do sleep 0.05; done
         cat $MNT/bucket/x; stat -c ' %U' $MNT/bucket/x; ps -o user= --ppid $server | sort -u
         kill $server; wait $server; echo ended; down";
    let answer = std::thread::scope(|scope| {
        let script = scope.spawn(|| store.sh_mounting_as(NOBODY, script));
        let done = Told(store.path("theirs/done"));
        let read = |name: &str| fs::read_to_string(store.path("theirs").join(name)).unwrap_or_default();
        assert!(wait_until(|| read("said").contains("://") || script.is_finished()));
        if let Some((_, address)) = read("said").trim().rsplit_once("://") {
            let client = |user: &str| {
                let made = crate::harness::json(&read(&format!("of-{user}")));
                let text = |name: &str| made["AccessKey"][name].as_str().expect(name).to_owned();
                Client::new(address, &AccessKey { id: text("AccessKeyId"), secret: text("SecretAccessKey") })
            };
            let own = client("nobody");
            own.put("/bucket", b"").expect(200);
            own.put("/bucket/x", b"content").expect(200);
            let long = vec![7; 200_000];
            own.put("/bucket/long", &long).expect(200);
            assert_eq!(own.get("/bucket/long").expect(200).body, long);
            let refused = client("root").get("/bucket/x").expect_error(403, "AccessDenied");
            assert!(refused.text().contains("run by uid 65534"), "{}", refused.text());
        }
        drop(done);
        script.join().unwrap()
    });
    assert_eq!((answer.out.as_str(), answer.code), ("content nobody\nnobody\nended\n", 0), "{answer:?}");
}

#[test]
fn what_can_be_reached_from_elsewhere_takes_a_certificate() {
    let store = Store::on_tmpfs();
    let refused = store.try_sh("kmsfs serve --key-file $KEY --listen 0.0.0.0:0 $STORE");
    refused.expect_failure(2, "0.0.0.0:0 can be reached from elsewhere: it needs --tls-cert and --tls-key");
    let refused = store.try_sh("kmsfs serve --key-file $KEY --listen 127.0.0.1:0 --mount $MNT no-such-store");
    refused.expect_failure(1, "no-such-store");
    assert!(mounts_below(store.dir()).is_empty());
}

#[test]
fn each_request_has_a_line_in_the_access_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let served = Served::with(&format!("--access-log {}", log.display()));
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let put = root.put("/bucket/a%20b", b"content").expect(200);
    root.get("/bucket/a%20b").expect(200);
    root.get("/bucket/none").expect(404);
    let lines = || fs::read_to_string(&log).unwrap();
    assert!(wait_until(|| lines().lines().count() == 4), "{}", lines());
    let lines = lines();
    let lines: Vec<&str> = lines.lines().collect();
    let id = put.header("x-amz-request-id");
    let who = "127.0.0.1 arn:aws:iam::000000000000:user/root";
    assert!(lines[1].contains(&format!("{who} {id} REST.PUT.OBJECT a%20b \"PUT /bucket/a%20b HTTP/1.1\" 200 - - 7 ")));
    assert!(lines[2].contains("REST.GET.OBJECT a%20b \"GET /bucket/a%20b HTTP/1.1\" 200 - 7 7 "), "{}", lines[2]);
    assert!(lines[3].contains(" 404 NoSuchKey "), "{}", lines[3]);
    assert!(lines[3].contains(" SigV4 - AuthHeader "), "{}", lines[3]);
    served.server.end();
}
