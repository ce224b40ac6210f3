//! Mappings: Rust has no safe way to map a file that others write, so Python does it.

use crate::harness::Store;

const PYTHON: &str = "import mmap, os, sys\n";

fn python(store: &Store, script: &str) {
    std::fs::write(store.path("script.py"), format!("{PYTHON}{script}")).unwrap();
    store.sh("cd $MNT/bucket && python3 ../../script.py");
}

#[test]
fn what_is_written_through_a_mapping_stays() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    python(
        &store,
        "f = open('f', 'w+b'); f.truncate(3_000_001)\n\
         m = mmap.mmap(f.fileno(), 0)\n\
         for at in (0, 4095, 262_143, 1_500_000, 2_999_998): m[at:at + 3] = b'abc'\n\
         m.flush(); m.close(); f.close()\n\
         # Without a flush, and past a hole that was grown under the mapping.\n\
         f = open('g', 'w+b'); f.truncate(4096); m = mmap.mmap(f.fileno(), 0); m[:] = b'x' * 4096\n\
         f.truncate(1_000_000); n = mmap.mmap(f.fileno(), 0); n[999_990:] = b'y' * 10\n\
         n.close(); m.close(); f.close()\n",
    );
    mount.remount();
    python(
        &store,
        "d = open('f', 'rb').read()\n\
         expected = bytearray(3_000_001)\n\
         for at in (0, 4095, 262_143, 1_500_000, 2_999_998): expected[at:at + 3] = b'abc'\n\
         assert d == expected\n\
         assert open('g', 'rb').read() == b'x' * 4096 + bytes(999_990 - 4096) + b'y' * 10\n",
    );
}

#[test]
fn processes_share_a_mapping() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    python(
        &store,
        "open('f', 'wb').write(bytes(1 << 20))\n\
         children = []\n\
         for child in range(4):\n\
         \x20   pid = os.fork()\n\
         \x20   if pid == 0:\n\
         \x20       f = open('f', 'r+b'); m = mmap.mmap(f.fileno(), 0)\n\
         \x20       for at in range(child, 1 << 20, 4): m[at] = child + 1\n\
         \x20       os._exit(0)\n\
         \x20   children.append(pid)\n\
         for pid in children: assert os.waitpid(pid, 0)[1] == 0\n\
         assert open('f', 'rb').read() == bytes((1, 2, 3, 4)) * (1 << 18)\n",
    );
    mount.remount();
    python(&store, "assert open('f', 'rb').read() == bytes((1, 2, 3, 4)) * (1 << 18)\n");
}

#[test]
fn mappings_and_reads_and_writes_agree() {
    let store = Store::new();
    let mount = store.mount();
    mount.bucket("bucket");
    python(
        &store,
        "f = open('f', 'w+b', buffering=0); f.write(b'-' * 100_000)\n\
         m = mmap.mmap(f.fileno(), 0); p = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)\n\
         m[5000:5006] = b'mapped'; assert os.pread(f.fileno(), 6, 5000) == b'mapped'\n\
         os.pwrite(f.fileno(), b'written', 70_000); assert m[70_000:70_007] == b'written'\n\
         p[10:14] = b'mine'; assert m[10:14] == b'----' and os.pread(f.fileno(), 4, 10) == b'----'\n\
         # An open, unlinked and mapped file lives until the last of them goes.\n\
         os.unlink('f'); f.close(); m[0:4] = b'last'; assert m[0:4] == b'last'; m.flush()\n\
         assert os.listdir('.') == []\n",
    );
}

#[test]
fn programs_run_from_the_mount() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    store.sh("cp /bin/bash $MNT/bucket/shell");
    mount.remount();
    assert_eq!(store.sh("$MNT/bucket/shell -c 'echo it runs'"), "it runs\n");
}
