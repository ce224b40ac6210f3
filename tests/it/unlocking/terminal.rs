//! The prompt, on a terminal of its own: what is typed is not shown, and whatever ends the question leaves the terminal
//! as it was.

use super::done;
use crate::harness::{Store, write_secret};
use std::fs;

/// Runs `kmsfs WORDS` as the foreground of a new terminal and does what the script says: `expect TEXT`, `type TEXT`,
/// `signal NAME` (to the program), `echo` (expects that the terminal shows what is typed), `silent`, `stopped`, `end`.
/// Prints all that the terminal showed and the program's wait status.
const DRIVER: &str = r"
import os, pty, select, signal, sys, termios, time
words, steps = sys.argv[1].split('\x1f'), sys.argv[2].split('\x1f')
pid, terminal = pty.fork()
if pid == 0:
    # A stopped program goes on only under a parent of its session.
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(words[0], words)
    open('child', 'w').write(str(child))
    status = 0
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status): break
        open('stopped', 'w').write('')
    open('status', 'w').write(str(status))
    time.sleep(60)
    os._exit(0)
shown = ''
def until(condition, what):
    global shown
    end = time.time() + 60
    while not condition():
        if select.select([terminal], [], [], 0.02)[0]: shown += os.read(terminal, 4096).decode()
        if time.time() > end: sys.exit('waited for ' + what + ', the terminal shows: ' + shown)
echoes = lambda: bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
seen = 0
for step in steps:
    word, _, text = step.partition(' ')
    if word == 'expect':
        until(lambda: text in shown[seen:], text); seen = shown.index(text, seen) + len(text)
    elif word == 'type': os.write(terminal, text.encode() + b'\n')
    elif word == 'key': os.write(terminal, bytes([int(text)]))
    elif word == 'signal': os.kill(int(open('child').read()), getattr(signal, text))
    elif word == 'echo': until(echoes, 'echo')
    elif word == 'silent': until(lambda: not echoes(), 'silence')
    elif word == 'stopped': until(lambda: os.path.exists('stopped'), 'the stop'); os.remove('stopped')
    elif word == 'end': until(lambda: os.path.exists('status'), 'the end')
if not echoes(): sys.exit('the terminal is left without echo')
until(lambda: not select.select([terminal], [], [], 0.1)[0], 'quiet')
print(shown); print('status', open('status').read())
os.kill(pid, signal.SIGKILL)
";

struct Talk {
    shown: String,
    /// As of wait(2).
    status: i32,
}

fn talk(store: &Store, words: &[&str], steps: &[&str]) -> Talk {
    fs::write(store.path("driver.py"), DRIVER).unwrap();
    fs::write(store.path("words"), words.join("\x1f")).unwrap();
    fs::write(store.path("steps"), steps.join("\x1f")).unwrap();
    let said = store.sh("rm -f status stopped; python3 driver.py \"$(cat words)\" \"$(cat steps)\"");
    let (shown, status) = said.rsplit_once("status ").unwrap();
    Talk { shown: shown.to_owned(), status: status.trim().parse().unwrap() }
}

fn with_passphrase() -> Store {
    let store = Store::on_tmpfs();
    write_secret(&store.path("pass"), "correct horse\n");
    done(&store, "--key-file $KEY add-slot --new-passphrase-file pass");
    store
}

#[test]
fn a_passphrase_is_typed_and_not_shown() {
    let store = with_passphrase();
    let words = ["kmsfs", "keyring", "--store", "store", "add-slot"];
    let steps = [
        "expect Passphrase: ",
        "silent",
        "type correct horse",
        "expect New passphrase: ",
        "silent",
        "type battery staple",
        "expect The same again: ",
        "silent",
        "type battery staple",
        "end",
    ];
    let talk = talk(&store, &words, &steps);
    assert_eq!(talk.status, 0, "{}", talk.shown);
    assert!(talk.shown.contains("Added slot 2: passphrase"), "{}", talk.shown);
    assert!(!talk.shown.contains("horse") && !talk.shown.contains("staple"), "{}", talk.shown);
    write_secret(&store.path("pass"), "battery staple");
    done(&store, "--passphrase-file pass remove-slot 1");
}

#[test]
fn signals_at_the_prompt_leave_the_terminal_as_it_was() {
    let store = with_passphrase();
    let mount = ["kmsfs", "mount", "-o", "log_file=log", "store", "mnt"];
    let list = ["kmsfs", "kms", "--store", "store", "list-keys"];
    let cases: [(&[&str], &str, i32); 6] = [
        (&list, "key 3", libc::SIGINT),
        (&mount, "key 3", libc::SIGINT),
        (&mount, "signal SIGTERM", libc::SIGTERM),
        (&list, "signal SIGHUP", libc::SIGHUP),
        (&list, "key 28", libc::SIGQUIT),
        (&list, "signal SIGINT", libc::SIGINT),
    ];
    for (words, how, signal) in cases {
        let talk = talk(&store, words, &["expect Passphrase: ", "silent", how, "end", "echo"]);
        assert_eq!(talk.status & 0x7f, signal, "{words:?} {how}: {}", talk.shown);
    }
    store.wait_until_closed();
}

#[test]
fn a_program_that_is_stopped_at_the_prompt_asks_again() {
    let store = with_passphrase();
    let words = ["kmsfs", "kms", "--store", "store", "list-keys"];
    let steps = [
        "expect Passphrase: ",
        "silent",
        "key 26",
        "stopped",
        "echo",
        "signal SIGCONT",
        "expect Passphrase: ",
        "silent",
        "type correct horse",
        "end",
    ];
    let talk = talk(&store, &words, &steps);
    assert_eq!(talk.status, 0, "{}", talk.shown);
    assert!(talk.shown.contains("\"Keys\": []") && !talk.shown.contains("horse"), "{}", talk.shown);
}

#[test]
fn without_a_terminal_it_is_said_what_to_use() {
    let store = Store::on_tmpfs();
    let none = store.try_sh("setsid -w kmsfs kms --store $STORE list-keys");
    let text = "no key was given: use --key-file, --passphrase-file, --passphrase-command, --credential or \
                --recovery-key-file, set KMSFS_KEY_FILE, KMSFS_PASSPHRASE_FILE, KMSFS_PASSPHRASE_COMMAND, KMSFS_CREDENTIAL \
                or KMSFS_RECOVERY_KEY_FILE, or run it on a terminal to type a passphrase";
    none.expect_failure(1, text);
}

#[test]
fn a_passphrase_may_be_typed_three_times() {
    let store = with_passphrase();
    let list = ["kmsfs", "kms", "--store", "store", "list-keys"];
    let asked = ["expect Passphrase: ", "silent"];
    let wrong = [&asked[..], &["type wrong"]].concat();
    let again = [&wrong[..], &["expect wrong passphrase: it does not open the keyring"]].concat();
    let right = [&asked[..], &["type correct horse", "end"]].concat();
    let end = ["end"];
    let third = talk(&store, &list, &[&again[..], &again, &right].concat());
    assert!(third.status == 0 && third.shown.contains("\"Keys\": []"), "{}", third.shown);
    let never = talk(&store, &list, &[&again[..], &again, &wrong, &end].concat());
    assert_eq!(never.status, 3 << 8, "{}", never.shown);
    let once = talk(&store, &[&list[..], &["--tries", "1"]].concat(), &[&wrong[..], &end].concat());
    assert_eq!(once.status, 3 << 8, "{}", once.shown);
    let mount = ["kmsfs", "mount", "-o", "log_file=log", "store", "mnt"];
    let mounted = talk(&store, &mount, &[&again[..], &right].concat());
    assert_eq!(mounted.status, 0, "{}", mounted.shown);
    store.sh("kmsfs umount $MNT");
}

#[test]
fn a_weak_passphrase_is_said_to_be_and_a_recovery_key_is_offered() {
    let store = Store::absent();
    let init = ["kmsfs", "init", "store"];
    let typed = |passphrase: &'static str, answer: &'static str, said: &'static [&'static str]| {
        let first = ["expect New passphrase: ", "silent", passphrase];
        let second = ["expect The same again: ", "silent", passphrase];
        [&first[..], said, &second, &["expect Make one? [Y/n] ", "echo", answer, "end"]].concat()
    };
    let weak = &["expect the passphrase is weak: about 10^"];
    let made = talk(&store, &init, &typed("type password", "type y", weak));
    assert_eq!(made.status, 0, "{}", made.shown);
    let (_, rest) = made.shown.split_once("The recovery key, which is shown this once").unwrap();
    let is_key = |line: &&str| line.len() > 20 && line.contains('-') && !line.contains(' ');
    let key = rest.lines().map(str::trim).find(is_key).unwrap();
    write_secret(&store.path("on-paper"), key);
    assert!(store.sh("kmsfs keyring --store $STORE check-recovery-key on-paper").contains("The recovery key is right"));
    store.sh("rm -r $STORE");
    let made = talk(&store, &init, &typed("type vexing otter plinth mango 47", "type n", &[]));
    assert!(made.status == 0 && !made.shown.contains("weak"), "{}", made.shown);
    assert!(made.shown.contains("Without the passphrase nothing in the store can be read"), "{}", made.shown);
    store.sh("rm -r $STORE");
    // The end of the input is no answer.
    let made = talk(&store, &init, &typed("type vexing otter plinth mango 47", "key 4", &[]));
    assert!(made.status == 0 && !made.shown.contains("shown this once"), "{}", made.shown);
    assert_eq!(
        store.sh("kmsfs keyring --store $STORE list-slots | grep -c recovery || true"),
        "0
"
    );
}

#[test]
fn init_makes_a_recovery_key_that_is_asked_for() {
    let store = Store::absent();
    write_secret(&store.path("pass"), "vexing otter plinth mango 47");
    let said = store.sh("kmsfs init --passphrase-file pass --new-recovery-key $STORE");
    let key =
        said.lines().map(str::trim).find(|line| line.len() > 20 && line.contains('-') && !line.contains(' ')).unwrap();
    write_secret(&store.path("on-paper"), key);
    store.sh("kmsfs fsck --recovery-key-file on-paper $STORE > /dev/null");
    store.sh("rm -r $STORE");
    let said = store.sh("kmsfs init --passphrase-file pass $STORE");
    assert!(said.contains("A recovery key, to be kept on paper, opens it too:\n  kmsfs keyring --store "), "{said}");
}

#[test]
fn a_passphrase_that_is_typed_for_a_backup_is_that_of_the_backup() {
    let store = with_passphrase();
    done(&store, "backup saved");
    write_secret(&store.path("later"), "vexing otter plinth mango 47");
    done(&store, "--key-file $KEY add-slot --new-passphrase-file later");
    store.sh("rm -r $STORE/keyring; kmsfs init --passphrase-file later other; cp -r other/keyring $STORE/");
    let restore = ["kmsfs", "keyring", "--store", "store", "restore", "--force", "saved"];
    let asked = ["expect Passphrase: ", "silent"];
    // What opens the keyring that is there does not open the backup.
    let wrong = ["type vexing otter plinth mango 47", "expect wrong passphrase: it does not open the backup saved"];
    let restored = talk(&store, &restore, &[&asked[..], &wrong, &asked, &["type correct horse", "end"]].concat());
    assert!(restored.status == 0 && restored.shown.contains("Restored generation "), "{}", restored.shown);
    assert_eq!(store.sh("kmsfs kms --store $STORE --passphrase-file pass list-keys --query 'length(Keys)'"), "0\n");
}
