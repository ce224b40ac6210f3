import dbm.dumb
import shelve
import sqlite3
import subprocess

from harness import case


def shell(script):
    """What a script says on both channels."""
    done = subprocess.run(["bash", "-c", "exec 2>&1\n" + script], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout.splitlines()


@case
def files_are_copied_cut_and_dug():
    return shell(r"""
    head -c 300000 /dev/zero | tr '\0' x > big
    truncate -s 10M sparse; printf hello | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
    cp --reflink=auto --sparse=always sparse sparse2; cmp sparse sparse2; [ $(stat -c %b sparse2) -lt 100 ] && echo sparse
    cp --reflink=always sparse sparse3; cp --sparse=never sparse full; cmp sparse full; [ $(stat -c %b full) -gt 20000 ] && echo full
    fallocate -d full; cmp sparse full
    dd if=big of=direct bs=4096 count=10 oflag=direct status=none
    dd if=direct bs=4096 iflag=direct status=none | cmp - <(head -c 40960 big)
    dd if=big of=big2 bs=1M conv=fsync status=none; cmp big big2
    for size in -100 %4096 '>1M'; do truncate -s "$size" big2; stat -c %s big2; done
    shred -n1 big2; stat -c %s big2; shred -u big2; ls big2
    split -b 100k big part; ls part*; cat part* | cmp - big
    install -m 0751 -o 5 -g 6 big installed; stat -c '%a %u %g' installed
    mktemp -p . XXXXXX | wc -c; sort -o big big; wc -c big; ln -sfn big lnk; ln -f big hard; stat -c %h big
    du --apparent-size -b sparse; sync sparse; mv -n big sparse; ls big; tee a b <<<hi; chmod -c 600 a
    for year in 2038-01-19T03:14:08Z 2200-01-01T00:00:00Z; do touch -d $year touched; stat -c %Y touched; done
    find . -newer sparse -name 'part*' | sort
    """)


@case
def editors_replace_files():
    return shell(r"""
    printf 'one\ntwo\n' > t; sed -i 's/one/uno/' t; perl -pi -e 's/two/due/' t; perl -i.bak -pe 's/uno/1/' t; cat t t.bak
    cp t old; cp t patched; echo three >> t; diff -u old t > p; patch -s patched p; cat patched
    chmod 640 t; chown 5:6 t; sed -i 's/1/2/' t; stat -c '%a %u %g' t; cat t; ls -A
    """)


@case
def a_growing_file_is_followed():
    return shell(r"""
    : > log; : > followed; timeout 60 tail -n +1 -f log > followed & tail=$!
    for n in 1 2 3; do echo $n >> log; until grep -q $n followed; do sleep 0.05; done; done
    kill $tail; cat followed
    """)


@case
def small_databases_keep_what_they_are_told():
    answers = []
    with shelve.open("shelf") as shelf:
        for n in range(300):
            shelf[str(n)] = list(range(n))
    with shelve.open("shelf") as shelf:
        answers.append((len(shelf), shelf["200"] == list(range(200))))
    with dbm.dumb.open("dumb", "c") as database:
        for n in range(300):
            database[str(n)] = "v" * n
    with dbm.dumb.open("dumb", "r") as database:
        answers.append((len(database.keys()), database["250"] == b"v" * 250))
    for mode in ("delete", "wal", "truncate", "persist"):
        one = sqlite3.connect(f"{mode}.db")
        one.execute("pragma locking_mode=exclusive")
        one.execute("pragma mmap_size=1000000")
        answers.append(one.execute(f"pragma journal_mode={mode}").fetchone())
        one.execute("create table t(a)")
        one.executemany("insert into t values(?)", [(n,) for n in range(1000)])
        one.commit()
        answers.append(one.execute("select count(*), sum(a) from t").fetchone())
        try:
            sqlite3.connect(f"{mode}.db", timeout=0).execute("select * from t")
        except sqlite3.OperationalError as e:
            answers.append(str(e))
        one.close()
    return answers


@case
def a_project_is_built_anew_where_it_changed():
    return shell(r"""
    for n in $(seq 10); do echo "int f$n(int x) { return x + $n; }" > f$n.c; done
    { for n in $(seq 10); do echo "int f$n(int);"; done; echo 'int printf(const char *, ...); int main(void) { int s = 0;'
      for n in $(seq 10); do echo "s = f$n(s);"; done; echo 'printf("%d\n", s); return 0; }'; } > main.c
    printf 'O=$(patsubst %%.c,%%.o,$(wildcard *.c))\nprog: $(O)\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -g -c $<\n' > Makefile
    make -s -j4 && ./prog; make -q; echo $?; touch f3.c; make -q; echo $?; make; make -q; echo $?
    ar rc lib.a f*.o && ranlib lib.a && cc main.o lib.a -o linked && ./linked; strip prog && ./prog
    cc -shared -fPIC f1.c -o lib.so && objcopy prog copied && ./copied
    """)


@case
def archives_come_and_go():
    return shell(r"""
    mkdir -p t/a/b; for n in $(seq 50); do seq $n > t/a/$n; done; ln -s ../a t/a/b/l; chmod 711 t/a/7; touch -d 2001-02-03 t/a/8
    setfacl -m u:77:rx,d:u:77:rwx t/a; setfattr -n user.q -v 1 t/a/3
    mkdir v w; tar czf t.tgz t; tar -C v -xzf t.tgz; diff -r t v/t; stat -c '%a %n' v/t/a/7; stat -c '%Y' v/t/a/8
    gzip -k t/a/50; zcat t/a/50.gz | cmp - t/a/50
    cp -a t x; (cd x/a; getfacl -n . 3; getfattr -d 3; stat -c %Y 8); cp -al t linked; stat -c %h t/a/8
    (cd t; find . | sort) > 1; (cd x; find . | sort) > 2; cmp 1 2
    """)


@case
def git_keeps_a_repository():
    return shell(r"""
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2001-01-01 00:00 +0000'
    export GIT_COMMITTER_DATE='2001-01-01 00:00 +0000'
    git init -q -b main r; cd r; git config user.email a@b; git config user.name n
    for n in $(seq 50); do echo $n > $n; done; git add .; git commit -qm 1; ln -s 1 s; chmod +x 2; git add -A; git commit -qm 2
    git rev-parse HEAD; git config core.filemode; git config core.symlinks; git gc -q; git fsck
    git worktree add -q ../tree; cd ../tree; git status --porcelain; git mv 5 55; git commit -qam 3; git rev-parse HEAD
    """)


@case
def shells_redirect_and_test():
    return shell(r"""
    set -C; echo a > n; (echo b > n) 2>/dev/null || echo refused; echo b >| n; cat n; set +C
    exec 5<>n; echo zz >&5; cat n; exec 5>&-
    mkfifo p; (cat n > p &); cat p; (umask 077; echo x > private; stat -c %a private)
    echo 'echo run' > s; chmod +x s; ./s; . ./s
    seq 1000 > n; while read -r line; do :; done < n; echo $line
    touch -d 2001-01-01 s; [ n -nt s ] && [ n -ef ./n ] && [ -p p ] && [ -O n ] && [ -G n ] && echo tested
    rm -f n; mkdir dir; mkdir -p dir/a/b; rmdir dir; rmdir -p dir/a/b; ls
    flock -n lock flock -n lock true; echo $?
    """)
