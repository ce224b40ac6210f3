//! Names that are refused or just allowed, as a shell's user meets them.

use crate::harness::{Store, names_in};

#[test]
fn bad_bucket_names_are_refused_with_the_rule_in_the_log() {
    let store = Store::new();
    let mount = store.mount();
    for name in
        ["My-Bucket", "a_b", "ab", "-abc", "abc-", "a..b", "10.0.0.1", "xn--abc", "sthree-abc", "abc--x-s3", ".Trash"]
    {
        store.try_sh(&format!("mkdir -- $MNT/{name}")).expect_failure(1, "Invalid argument");
        store.expect_log(&format!("mkdir {name}: InvalidBucketName: "));
    }
    let (longest, longer) = ("b".repeat(63), "b".repeat(64));
    store.try_sh(&format!("mkdir $MNT/{longer}")).expect_failure(1, "Invalid argument");
    store.sh(&format!("mkdir $MNT/{longest} $MNT/abc $MNT/a.b-c1 $MNT/1-2"));
    assert_eq!(names_in(&mount.path("")), ["1-2", "a.b-c1", "abc", &longest]);
    store.try_sh("mv $MNT/abc $MNT/Abc").expect_failure(1, "");
    store.sh("mkdir $MNT/abc/My_Directory");
}

#[test]
fn files_belong_into_buckets() {
    let store = Store::new();
    let mount = store.mount();
    store.try_sh("echo x > $MNT/file").expect_failure(1, "Operation not permitted");
    store.try_sh("cp /etc/hostname $MNT/").expect_failure(1, "Operation not permitted");
    store.try_sh("ln -s x $MNT/link").expect_failure(1, "Operation not permitted");
    store.try_sh("echo x | kmsfs put - $MNT/object").expect_failure(1, "");
    assert_eq!(names_in(&mount.path("")).len(), 0);
}

#[test]
fn names_have_255_bytes_of_any_kind() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    store.sh(&format!(
        "cd $MNT/bucket; echo x > {longest}; mkdir d; mv {longest} d/; ln d/{longest} {longest}; ln -s {longest} s"
    ));
    store.sh(&format!("cd $MNT/bucket; mkdir e; mkdir e/{longest}; setfattr -n user.x -v y d/{longest}"));
    for command in ["echo x >", "mkdir", "ln -s x", "mkfifo", "mv s", "ln d/$(ls d)"] {
        store.try_sh(&format!("cd $MNT/bucket; {command} {longer}")).expect_failure(1, "File name too long");
    }
    store.sh(r#"cd $MNT/bucket; for name in $'new\nline' $'tab\t' $'\xff\xfe' 'sp ace' '*' '\' 'ünï'; do printf %s "$name" > "d/$name"; done"#);
    mount.remount();
    assert_eq!(names_in(&mount.path("bucket/d")).len(), 8);
    store.sh("cd $MNT/bucket/d; for name in *; do [ ${#name} -eq 255 ] || [ \"$(cat \"$name\")\" = \"$name\" ]; done");
    assert_eq!(names_in(&mount.path("bucket/e")), [longest.as_str()]);
}

#[test]
fn paths_go_far_beyond_path_max() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    // Relative steps lead deeper than any one path can name: 60 levels of 200 bytes are 12,000.
    let step = "d".repeat(200);
    store.sh(&format!("cd $MNT/bucket; for i in $(seq 60); do mkdir {step}; cd {step}; echo $i > f; done; mv f g; ln -s g s; setfattr -n user.x -v y g"));
    mount.remount();
    store.sh(&format!(
        "cd $MNT/bucket; for i in $(seq 60); do cd {step}; done; [ $(cat s) = 60 ]; [ $(cat ../f) = 59 ]"
    ));
    assert_eq!(store.sh("find $MNT/bucket -type f | wc -l"), "60\n");
    store.sh("rm -r $MNT/bucket/d*");
    assert_eq!(names_in(&mount.path("bucket")).len(), 0);
}
