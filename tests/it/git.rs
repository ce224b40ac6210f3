//! git works in the mount.

use crate::harness::Store;

const GIT: &str = "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a \
                   GIT_COMMITTER_EMAIL=a@b; git config --global init.defaultBranch main; ";

#[test]
fn a_repository_lives_in_the_mount() {
    let store = Store::new();
    let mut mount = store.mount();
    mount.bucket("bucket");
    let git = |script: &str| store.sh(&format!("{GIT}cd $MNT/bucket; {script}"));
    git(r#"git init -q repo && cd repo
        for i in $(seq 300); do mkdir -p d$((i % 17)); seq $i > d$((i % 17))/f$i; done; ln -s d1 link; chmod +x d1/f1
        git add . && git commit -qm first
        for round in 1 2 3 4 5; do
            for i in $(seq $round 20 300); do echo $round >> d$((i % 17))/f$i; done
            git mv d2/f2 d2/g$round 2>/dev/null || true; git commit -qam "round $round"; git mv d2/g$round d2/f2 || true
        done
        git commit -qam last || true
        git checkout -q -b side HEAD~3 && echo side > side && git add side && git commit -qm side
        git checkout -q main && git merge -q --no-edit side && git stash list && git tag v1"#);
    git(
        "cd repo && git gc -q --aggressive --prune=now && git fsck --full --strict && test -z \"$(git status --porcelain)\"",
    );
    mount.remount();
    git("git -C repo fsck --full --strict && test -z \"$(git -C repo status --porcelain)\"");
    git("git clone -q --no-hardlinks repo clone && git -C clone fsck --full --strict && diff -r -x .git repo clone");
    git("git clone -q repo linked && git -C linked fsck --full");
    git("git -C repo bundle create -q ../all.bundle --all && git clone -q all.bundle unbundled");
    store.sh(&format!("{GIT}git clone -q $MNT/bucket/repo outside && git -C outside fsck --full --strict"));
    store.sh(&format!("{GIT}git clone -q outside $MNT/bucket/back && git -C $MNT/bucket/back fsck --full --strict"));
    mount.remount();
    git(
        "for r in repo clone linked unbundled back; do git -C $r fsck --full --strict; git -C $r log --oneline main | sha1sum; done | sort -u | wc -l | grep -qx 1",
    );
}
