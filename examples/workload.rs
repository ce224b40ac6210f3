//! The workloads of `scripts/bench` that are system calls in a loop: a shell would measure how fast it starts programs.
//!
//! `workload NAME DIRECTORY SIZE` does NAME in DIRECTORY and prints how long it took, in seconds. SIZE is in MiB for
//! workloads on one large file and a number of files, names, rows or opens for the others. What a workload needs (the
//! file to be read) the one that makes it has left in the directory.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
/// Of small files: what a source file has.
const SMALL: usize = 4096;
/// Files a directory, so that a directory's size does not decide.
const PER_DIRECTORY: usize = 500;
/// The same places in every round and on every system.
const SEED: u64 = 20_230_105;

type Workload = fn(&Path, usize) -> io::Result<Duration>;

const WORKLOADS: &[(&str, Workload)] = &[
    ("write-1m", |dir, size| sequential_write(&dir.join("large"), size, MIB)),
    ("write-4k", |dir, size| sequential_write(&dir.join("by-pages"), size, PAGE)),
    ("read-1m", |dir, size| sequential_read(&dir.join("large"), size)),
    ("random-read-4k", random_read),
    ("random-write-4k", random_write),
    ("create", create),
    ("stat", |dir, count| each(dir, count, |path| fs::metadata(path).map(drop))),
    ("read", |dir, count| each(dir, count, read_whole)),
    ("rename", |dir, count| each(dir, count, |path| fs::rename(path, path.with_extension("new")))),
    ("unlink", |dir, count| each(dir, count, |path| fs::remove_file(path.with_extension("new")))),
    ("make-names", make_names),
    ("list-names", list_names),
    ("two-at-once", two_at_once),
    ("make-sparse", |dir, gib| File::create(dir.join("sparse"))?.set_len((gib as u64) << 30).map(|()| Duration::ZERO)),
    ("open-sparse", |dir, count| open_repeatedly(&dir.join("sparse"), count)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [name, directory, size] => run(name, Path::new(directory), size),
        _ => Err(io::Error::other("usage: workload NAME DIRECTORY SIZE")),
    };
    match result {
        Ok(took) => {
            println!("{:.6}", took.as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("workload {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, directory: &Path, size: &str) -> io::Result<Duration> {
    let (_, workload) = WORKLOADS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| io::Error::other("there is no workload of that name"))?;
    workload(directory, size.parse().map_err(io::Error::other)?)
}

/// Not to be compressed, and not the same in every block.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn sequential_write(path: &Path, mib: usize, block: usize) -> io::Result<Duration> {
    let bytes = noise(MIB, SEED);
    let began = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..mib {
        for piece in bytes.chunks(block) {
            file.write_all(piece)?;
        }
    }
    file.sync_all()?;
    drop(file);
    Ok(began.elapsed())
}

fn sequential_read(path: &Path, mib: usize) -> io::Result<Duration> {
    let mut buffer = vec![0; MIB];
    let began = Instant::now();
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => total += len,
        }
    }
    let took = began.elapsed();
    if total < mib * MIB {
        return Err(io::Error::other(format!("the file has {total} bytes only")));
    }
    Ok(took)
}

fn random_read(dir: &Path, count: usize) -> io::Result<Duration> {
    let (file, places) = places(dir, count)?;
    let mut buffer = [0; PAGE];
    let began = Instant::now();
    for place in places {
        file.read_exact_at(&mut buffer, place)?;
    }
    Ok(began.elapsed())
}

fn random_write(dir: &Path, count: usize) -> io::Result<Duration> {
    let (file, places) = places(dir, count)?;
    let bytes = noise(PAGE, SEED + 1);
    let began = Instant::now();
    for place in places {
        file.write_all_at(&bytes, place)?;
    }
    file.sync_all()?;
    drop(file);
    Ok(began.elapsed())
}

/// The large file, open, and places of pages in it.
fn places(dir: &Path, count: usize) -> io::Result<(File, Vec<u64>)> {
    let mut file = OpenOptions::new().read(true).write(true).open(dir.join("large"))?;
    let pages = file.seek(SeekFrom::End(0))? / PAGE as u64;
    let mut random = StdRng::seed_from_u64(SEED);
    Ok((file, (0..count).map(|_| random.random_range(0..pages) * PAGE as u64).collect()))
}

fn small(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("small/{:02}/file-{number:05}.txt", number / PER_DIRECTORY))
}

fn create(dir: &Path, count: usize) -> io::Result<Duration> {
    let bytes = noise(SMALL, SEED);
    for number in (0..count).step_by(PER_DIRECTORY) {
        fs::create_dir_all(small(dir, number).parent().expect("it has a directory"))?;
    }
    let began = Instant::now();
    for number in 0..count {
        File::create(small(dir, number))?.write_all(&bytes)?;
    }
    Ok(began.elapsed())
}

/// All small files in an order that is none.
fn each(dir: &Path, count: usize, act: impl Fn(&Path) -> io::Result<()>) -> io::Result<Duration> {
    let mut paths: Vec<PathBuf> = (0..count).map(|number| small(dir, number)).collect();
    paths.shuffle(&mut StdRng::seed_from_u64(SEED));
    let began = Instant::now();
    paths.iter().try_for_each(|path| act(path))?;
    Ok(began.elapsed())
}

fn read_whole(path: &Path) -> io::Result<()> {
    let mut buffer = [0; 2 * SMALL];
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 if total == SMALL => return Ok(()),
            0 => return Err(io::Error::other(format!("{} has {total} bytes", path.display()))),
            len => total += len,
        }
    }
}

fn make_names(dir: &Path, count: usize) -> io::Result<Duration> {
    let names = dir.join("names");
    fs::create_dir(&names)?;
    let began = Instant::now();
    for number in 0..count {
        File::create(names.join(format!("name-{number:06}")))?;
    }
    Ok(began.elapsed())
}

/// What `ls -l` asks for.
fn list_names(dir: &Path, count: usize) -> io::Result<Duration> {
    let began = Instant::now();
    let mut found = 0;
    for entry in fs::read_dir(dir.join("names"))? {
        let metadata = entry?.metadata()?;
        found += usize::from(metadata.is_file());
    }
    let took = began.elapsed();
    if found == count { Ok(took) } else { Err(io::Error::other(format!("{found} names"))) }
}

/// One writes a file and another reads one.
fn two_at_once(dir: &Path, mib: usize) -> io::Result<Duration> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| sequential_write(&dir.join("second"), mib, MIB));
        let reader = scope.spawn(|| sequential_read(&dir.join("large"), mib));
        let finished = [writer, reader].map(|thread| thread.join().expect("it does not panic"));
        finished.into_iter().try_for_each(|result| result.map(drop))
    })?;
    Ok(began.elapsed())
}

fn open_repeatedly(path: &Path, count: usize) -> io::Result<Duration> {
    let mut buffer = [0; PAGE];
    let began = Instant::now();
    for _ in 0..count {
        File::open(path)?.read_exact_at(&mut buffer, 5 << 30)?;
    }
    Ok(began.elapsed())
}
