//! Ordinary tools do in the mount what they do in a plain directory: each script runs in both, and both answers, all
//! bytes and all metadata have to be the same, in the mount also after a fresh mount.

use crate::harness::{Mount, Store};

/// What find(1) tells of everything below: type, mode, links, owner, length of files and targets, name, target.
const LISTING: &str = r"find . -mindepth 1 \( -type f -o -type l \) -printf '%y %m %n %U %G %s %P -> %l\n' -o -printf '%y %m %U %G %P\n' | sort";
const TIMES: &str = r"find . -mindepth 1 -printf '%T+ %P\n' | sort";
const CONTENT: &str = "find . -type f -print0 | sort -z | xargs -0r sha256sum; \
                       find . -mindepth 1 ! -type l -print0 | sort -z | xargs -0r getfattr -d -m '^user' --";

struct Pair {
    store: Store,
}

impl Pair {
    fn new() -> Self {
        let store = Store::new();
        store.sh("mkdir plain");
        Self { store }
    }

    /// Runs the script in both places and compares what it says and what it leaves.
    #[track_caller]
    fn same(&self, mount: &mut Mount, script: &str) {
        self.same_answer(script);
        self.same_state(mount);
    }

    #[track_caller]
    fn same_answer(&self, script: &str) {
        let plain = self.store.sh(&format!("cd plain\n{script}"));
        let mounted = self.store.sh(&format!("cd $MNT/bucket\n{script}"));
        assert_eq!(mounted, plain, "{script}");
    }

    #[track_caller]
    fn same_state(&self, mount: &mut Mount) {
        for _ in 0..2 {
            self.same_answer(LISTING);
            self.same_answer(CONTENT);
            mount.remount();
        }
    }
}

fn pair() -> Pair {
    Pair::new()
}

#[test]
fn files_are_copied_moved_linked_and_removed() {
    let pair = pair();
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.same(
        &mut mount,
        r"
        mkdir -p a/b/c d && echo one > a/one && seq 100000 > a/b/many && : > empty
        cp a/one copied && cp -r a e && cp -a a f && mv a/one d/moved && mv e/b d/
        ln copied linked && ln -s ../copied d/soft && ln -sf nowhere dangling && ln -s a/b way
        cp way/many through && echo more >> linked && rm a/b/many && rmdir a/b/c
        mv -T f g && mkdir h && mv g h/ && rm -r e && rm -f absent
        ls -1R; cat copied; readlink d/soft dangling; test ! -e dangling
        mv -n copied through; cp --remove-destination copied linked; ls -1 | wc -l
        ",
    );
}

#[test]
fn modes_owners_and_times_are_kept() {
    let pair = pair();
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.same(
        &mut mount,
        r"
        umask 027; echo x > masked; mkdir masked-dir; umask 022
        for mode in 0 400 644 755 4755 2755 1777; do echo $mode > m$mode; chmod $mode m$mode; done
        mkdir shared && chgrp 1234 shared && chmod 2775 shared && echo x > shared/inherits && mkdir shared/too
        mkdir tmp && chmod 1777 tmp
        chown 1234:4321 m644 && chown -h 77:88 masked && ln -s m644 soft && chown -h 5:6 soft
        cp -p m4755 kept; chown 1:1 m4755; cp m4755 dropped; echo y >> m2755
        touch -d '2001-02-03 04:05:06.123456789' m755 masked-dir; touch -h -d '1999-01-01' soft
        touch -r m755 m400; touch -c absent; touch -a -d '2030-01-01' m1777
        stat -c '%y %n' m755 m400 masked-dir soft; stat -c '%x' m1777
        ",
    );
    pair.same_answer("stat -c '%y %n' m755 m400 masked-dir soft");
}

#[test]
fn content_is_written_at_any_place() {
    let pair = pair();
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.same(
        &mut mount,
        r"
        seq 200000 > f; cp f g
        dd if=/dev/zero of=g bs=1000 seek=77 count=300 conv=notrunc status=none
        printf 'x' | dd of=g bs=1 seek=4095 conv=notrunc status=none
        printf 'abc' | dd of=g bs=1 seek=4095 conv=notrunc,fsync status=none
        dd if=f of=h bs=4k skip=3 count=100 oflag=append conv=notrunc status=none
        dd if=f of=d bs=64k oflag=direct conv=notrunc status=none
        for i in $(seq 50); do echo line $i; done | tee -a appended >> h; cat f >> appended
        truncate -s 300001 f; truncate -s +5000 f; truncate -s 10 appended; truncate -s 9M sparse; truncate -s 0 d
        fallocate -l 100000 allocated; fallocate -p -o 8192 -l 40000 g
        cp --sparse=always g sparser; : > h2; cat < h > h2; tail -c 20 g | od -c; wc -c *
        split -b 100000 -d f piece; cat piece* | cmp - f
        ",
    );
}

#[test]
fn editors_save_in_their_ways() {
    let pair = pair();
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.same(
        &mut mount,
        r#"
        vim=$(command -v vim.tiny || command -v vim)
        seq 5000 > a; cp a b; cp a c; chmod 640 a; ln b b2
        sed -i 's/^7$/seven/' a; sed -i.bak '1d' b
        perl -v > /dev/null 2>&1 && perl -pi -e 's/^9$/nine/' c || sed -i 's/^9$/nine/' c
        for way in yes no auto; do
            $vim -es -u NONE -N -c "set backup backupcopy=$way" -c '%s/^42$/vim/' -c 'wq' c < /dev/null || true
            $vim -es -u NONE -N -c "set nobackup writebackup backupcopy=$way swapfile" -c '1s/$/!/' -c 'wq' c < /dev/null || true
        done
        head -3 c; ls -1A
        sort -n -o b b; mv a a~ && cp a~ a
        "#,
    );
}

#[test]
fn tar_brings_everything_in_and_out() {
    let pair = pair();
    pair.store.sh(SOURCE);
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.store.sh("tar -C source --xattrs --xattrs-include='user.*' -cf in.tar .");
    pair.store.sh("for to in plain $MNT/bucket; do tar -C $to --xattrs --xattrs-include='user.*' -xpf in.tar; done");
    pair.same_state(&mut mount);
    pair.same_answer(TIMES);
    pair.store.sh("tar -C $MNT/bucket --xattrs --xattrs-include='user.*' --sort=name -cf out.tar .");
    pair.store.sh(
        "tar -C $MNT/bucket -df in.tar; mkdir again; tar -C again -xpf out.tar; diff -r --no-dereference -x pipe plain again",
    );
}

#[test]
fn rsync_finds_its_own_copy_complete() {
    let pair = pair();
    pair.store.sh(SOURCE);
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.store.sh("rsync -aHAX source/ plain/; rsync -aHAX source/ $MNT/bucket/");
    pair.same_state(&mut mount);
    pair.same_answer(TIMES);
    let differences = pair.store.sh("rsync -aHAXinc --delete source/ $MNT/bucket/");
    assert_eq!(differences, "", "a second run has nothing to do");
    pair.store.sh("mkdir back; rsync -aHAX $MNT/bucket/ back/");
    assert_eq!(pair.store.sh("rsync -aHAXinc --delete source/ back/"), "");
    // Into files that are there, and with what is in place already.
    pair.store
        .sh("echo more >> source/dir/file; rsync -aHAX --inplace source/ $MNT/bucket/; rsync -aHAX source/ plain/");
    pair.same_state(&mut mount);
}

/// A tree with everything that archives carry.
const SOURCE: &str = r#"
    mkdir -p source/dir/deep source/empty && cd source
    seq 30000 > dir/file; ln dir/file hard; ln -s dir/file soft; ln -s "$(printf 'x%.0s' $(seq 300))" long
    : > nothing; mkfifo pipe; printf 'a\nb' > "$(printf 'odd\nname \\ \xff')"; truncate -s 3M dir/sparse
    echo secret > dir/deep/s; chmod 4711 dir/deep/s; chmod 700 dir/deep; chown 1001:1002 dir/deep/s
    setfattr -n user.colour -v blue dir/file; setfattr -n user.empty dir; setfattr -n user.binary -v 0x00ff00 nothing
    # All in the past: within the second that it runs in rsync takes times as equal.
    find . -exec touch -h -d '2009-09-09 09:09:09.99' {} +
    touch -d '2011-11-11 11:11:11.111111111' dir/file nothing pipe; touch -h -d '2012-12-12' soft; touch -d '2010-10-10' dir empty
"#;

#[test]
fn lookers_see_what_is_there() {
    let pair = pair();
    let mut mount = pair.store.mount();
    mount.bucket("bucket");
    pair.same(
        &mut mount,
        r#"
        for i in $(seq 300); do echo $i > file$i; done; mkdir -p x/y; seq 2000 > x/y/z; ln -s x w
        ls -1 | wc -l; ls -a | head -3; ls -lL w/y/z | cut -d' ' -f1; find . -name '*7*' | sort; find . -size +2k -type f
        find . -empty; grep -rl '^299$' . | sort; du -b --apparent-size x/y/z; stat -L -c '%F %s' w/y/z . | cut -c1-9
        find . -newer x/y/z -type d | wc -l > /dev/null; test file1 -ef ./file1; file1=$(realpath w/y/z); basename "$file1"
        "#,
    );
    let blocks: u64 = pair.store.sh("du -k $MNT/bucket/x/y/z | cut -f1").trim().parse().unwrap();
    assert!((9..=100).contains(&blocks), "{blocks} KiB for 9 KiB");
    let df = pair.store.sh("df -k --output=source,fstype,size,avail,iavail $MNT | tail -1");
    let fields: Vec<&str> = df.split_whitespace().collect();
    assert_eq!(fields[..2], [pair.store.store().to_str().unwrap(), "fuse.kmsfs"]);
    assert!(fields[2..].iter().all(|number| number.parse::<u64>().unwrap() > 0), "{df}");
}
