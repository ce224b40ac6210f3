//! Stores with names, as ~/.config/kmsfs/config.toml and /etc/kmsfs.toml have them.

use crate::harness::Store;

/// The store as `photos`, with a configuration in a home directory of its own.
fn named() -> Store {
    let store = Store::new();
    store.sh("mkdir -p home/kmsfs; cat > home/kmsfs/config.toml <<END
[stores.photos]
store = '$STORE'
mountpoint = '$MNT'
key-file = '$KEY'
options = 'log_file=$PWD/log,ro'
END");
    store
}

#[test]
fn a_name_stands_for_store_mount_point_key_and_options() {
    let store = named();
    let sh = |script: &str| store.sh(&format!("export XDG_CONFIG_HOME=$PWD/home; {script}"));
    sh("kmsfs mount photos; mountpoint -q $MNT; ! mkdir $MNT/bucket 2> /dev/null");
    assert!(sh("kmsfs status photos").contains("ReadOnly:              true"));
    assert!(sh("kmsfs kms --store photos list-keys").contains("\"Keys\": []"));
    sh("kmsfs umount photos");
    // The command line wins; a path is a path.
    sh("kmsfs mount -o rw photos; mkdir $MNT/bucket; kmsfs umount photos; kmsfs fsck photos > /dev/null");
    sh("mkdir other; kmsfs mount photos other; mountpoint -q other; kmsfs umount other");
    sh(
        "KMSFS_STORE=photos kmsfs keyring list-slots | grep -q key-file; KMSFS_KEY_FILE=/none kmsfs kms --store photos list-keys > /dev/null",
    );
    let refused = store.try_sh("XDG_CONFIG_HOME=$PWD/home kmsfs mount --key-file $KEY ./photos $MNT");
    refused.expect_failure(1, "store ./photos does not exist");
    store.try_sh("XDG_CONFIG_HOME=$PWD/none kmsfs mount photos $MNT").expect_failure(1, "store photos does not exist");
}

#[test]
fn a_home_that_one_may_not_enter_has_no_names_for_one() {
    let store = named();
    store.open_to_all();
    store.sh("chmod 700 home; mkdir theirs; chown 65534 theirs");
    let init =
        "cd theirs; XDG_CONFIG_HOME=$PWD/../home kmsfs init --key-file key store > /dev/null; ls store/store.json";
    let made = store.sh_as(65534, init);
    assert_eq!((made.code, made.out.as_str()), (0, "store/store.json\n"), "{made:?}");
    // One that could be read and may not is an error.
    store.sh("chmod 755 home home/kmsfs; chmod 600 home/kmsfs/config.toml; rm -rf theirs/*");
    store.sh_as(65534, init).expect_failure(1, "config.toml: Permission denied");
}

#[test]
fn a_configuration_that_somebody_else_could_have_written_is_refused() {
    let store = named();
    let mount = || store.try_sh("XDG_CONFIG_HOME=$PWD/home kmsfs mount photos");
    store.sh("chmod 666 home/kmsfs/config.toml");
    mount().expect_failure(1, "config.toml: others can write it (mode 0666): chmod go-w it");
    store.sh("chmod 644 home/kmsfs/config.toml; chown 65534 home/kmsfs/config.toml");
    mount().expect_failure(1, "config.toml: it belongs to uid 65534, and it is read only if it is root's or uid 0's");
    store.sh("chown 0 home/kmsfs/config.toml; echo 'nonsense' >> home/kmsfs/config.toml");
    mount().expect_failure(1, "config.toml: TOML parse error at line 6");
    // A directory of that name is not asked about names.
    store.sh("mv $STORE photos; XDG_CONFIG_HOME=$PWD/home kmsfs fsck --key-file $KEY photos > /dev/null");
}
