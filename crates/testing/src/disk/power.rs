//! What a power cut may leave of an image.
//!
//! Cells are sectors and lengths of files: each keeps its durable value or any that was written since. Changes of
//! names are kept or lost one by one. These choices are independent but for what `moves` says about names.

use super::SimulatedDisk;
use super::content::{Content, Sector, same};
use super::image::{Image, ROOT};
use super::inode::{Body, DirectoryBody, FileBody};
use super::moves::survivors;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;

/// The disks that a power cut may leave: all of them if they are at most the limit, else a spread sample.
pub struct PowerCuts {
    image: Image,
    capacity: Option<u64>,
    choices: Vec<Choice>,
    picks: Picks,
}

/// Directories by inode, with the inodes of their entries.
type Names = BTreeMap<u64, BTreeMap<OsString, u64>>;

/// Something that survives in one of several ways, the first being that nothing of it does.
struct Choice {
    /// Inode of the file, or the root for a move.
    file: u64,
    values: Values,
}

enum Values {
    Sector(u64, Vec<Sector>),
    Length(Vec<u64>),
    Move,
}

enum Picks {
    /// The next one, or the end.
    All(Option<Vec<usize>>),
    Some(Box<Sample>),
}

struct Sample {
    /// Taken from the end.
    planned: Vec<Plan>,
    /// How many follow that chance decides.
    chance: usize,
    rng: StdRng,
}

#[derive(Clone, Copy)]
enum Plan {
    Everything,
    Nothing,
    OnlyFile(u64),
    AllButFile(u64),
    Only(usize),
    AllBut(usize),
}

impl Choice {
    fn options(&self) -> usize {
        match &self.values {
            Values::Sector(_, values) => values.len(),
            Values::Length(values) => values.len(),
            Values::Move => 2,
        }
    }
}

impl PowerCuts {
    pub(super) fn new(image: Image, capacity: Option<u64>, limit: usize, seed: u64) -> Self {
        let choices = choices(&image);
        let count = choices.iter().try_fold(1_usize, |count, choice| count.checked_mul(choice.options()));
        let picks = if count.is_some_and(|count| count <= limit) {
            Picks::All(Some(vec![0; choices.len()]))
        } else {
            spread(&choices, limit, StdRng::seed_from_u64(seed))
        };
        Self { image, capacity, choices, picks }
    }

    /// Whether every possible outcome is among them.
    pub fn is_complete(&self) -> bool {
        matches!(self.picks, Picks::All(_))
    }
}

impl Iterator for PowerCuts {
    type Item = SimulatedDisk;

    fn next(&mut self) -> Option<SimulatedDisk> {
        let pick = match &mut self.picks {
            Picks::All(next) => {
                let pick = next.take()?;
                *next = successor(&pick, &self.choices);
                pick
            }
            Picks::Some(sample) => sample.next(&self.choices)?,
        };
        Some(SimulatedDisk::from_image(outcome(&self.image, &self.choices, &pick), self.capacity))
    }
}

fn choices(image: &Image) -> Vec<Choice> {
    let mut choices = Vec::new();
    for ino in image.named() {
        if let Some(Body::File(file)) = image.inodes.get(&ino).map(|inode| &inode.body) {
            cells(file, |values| choices.push(Choice { file: ino, values }));
        }
    }
    choices.extend(image.moves.iter().map(|_| Choice { file: ROOT, values: Values::Move }));
    choices
}

/// The cells of a file that a power cut may leave in more than one way.
fn cells(file: &FileBody, mut found: impl FnMut(Values)) {
    let mut sectors: BTreeMap<u64, Vec<Sector>> = BTreeMap::new();
    let mut lengths = vec![file.durable.len];
    for write in &file.pending {
        for (at, sector) in &write.sectors {
            let values = sectors.entry(*at).or_insert_with(|| vec![file.durable.sector(*at)]);
            if !values.iter().any(|known| same(known, sector)) {
                values.push(sector.clone());
            }
        }
        lengths.extend(write.len.filter(|len| !lengths.contains(len)));
    }
    for (at, values) in sectors.into_iter().filter(|(_, values)| values.len() > 1) {
        found(Values::Sector(at, values));
    }
    if lengths.len() > 1 {
        found(Values::Length(lengths));
    }
}

/// Counts through all combinations.
fn successor(pick: &[usize], choices: &[Choice]) -> Option<Vec<usize>> {
    let mut next = pick.to_vec();
    for (digit, choice) in next.iter_mut().zip(choices) {
        *digit += 1;
        if *digit < choice.options() {
            return Some(next);
        }
        *digit = 0;
    }
    None
}

/// Everything, nothing, one file or cell alone or lost, then chance.
fn spread(choices: &[Choice], limit: usize, mut rng: StdRng) -> Picks {
    let files: BTreeSet<u64> = choices.iter().map(|choice| choice.file).collect();
    let mut planned: Vec<Plan> = files.into_iter().flat_map(|f| [Plan::OnlyFile(f), Plan::AllButFile(f)]).collect();
    planned.extend((0..choices.len()).flat_map(|n| [Plan::Only(n), Plan::AllBut(n)]));
    planned.shuffle(&mut rng);
    planned.truncate((limit * 3 / 4).saturating_sub(2));
    // Whatever the limit is, these two are seen first.
    planned.extend([Plan::Nothing, Plan::Everything]);
    let chance = limit.saturating_sub(planned.len());
    Picks::Some(Box::new(Sample { planned, chance, rng }))
}

impl Sample {
    fn next(&mut self, choices: &[Choice]) -> Option<Vec<usize>> {
        if let Some(plan) = self.planned.pop() {
            return Some(follow(plan, choices));
        }
        self.chance = self.chance.checked_sub(1)?;
        Some(at_random(choices, &mut self.rng))
    }
}

fn follow(plan: Plan, choices: &[Choice]) -> Vec<usize> {
    let kept = |n: usize| match plan {
        Plan::Everything => true,
        Plan::Nothing => false,
        Plan::OnlyFile(file) => choices[n].file == file,
        Plan::AllButFile(file) => choices[n].file != file,
        Plan::Only(one) => n == one,
        Plan::AllBut(one) => n != one,
    };
    (0..choices.len()).map(|n| if kept(n) { choices[n].options() - 1 } else { 0 }).collect()
}

fn at_random(choices: &[Choice], rng: &mut StdRng) -> Vec<usize> {
    let chance = [0.2, 0.5, 0.8][rng.random_range(0..3)];
    let one = |choice: &Choice| if rng.random_bool(chance) { rng.random_range(1..choice.options()) } else { 0 };
    choices.iter().map(one).collect()
}

/// The image as found after the power is back: nothing in it is unsynced.
fn outcome(image: &Image, choices: &[Choice], pick: &[usize]) -> Image {
    let mut left = image.clone();
    settle_files(&mut left, choices, pick);
    if left.moves.is_empty() {
        // Names are as they are now; only what no name refers to is gone.
        left.free(|_| false);
    } else {
        settle_names(&mut left, choices, pick);
    }
    left
}

fn settle_files(image: &mut Image, choices: &[Choice], pick: &[usize]) {
    let mut survived: BTreeMap<u64, Content> = BTreeMap::new();
    for (ino, inode) in image.inodes.iter() {
        match &inode.body {
            Body::File(file) if !file.is_settled() => survived.insert(*ino, file.durable.clone()),
            _ => None,
        };
    }
    for (choice, picked) in choices.iter().zip(pick) {
        let Some(content) = survived.get_mut(&choice.file) else { continue };
        match &choice.values {
            Values::Sector(at, values) => content.put(*at, values[*picked].clone()),
            Values::Length(values) => content.len = values[*picked],
            Values::Move => {}
        }
    }
    for (ino, mut content) in survived {
        content.cut_off();
        *image.file_mut(ino) = FileBody::settled(content);
    }
}

fn settle_names(image: &mut Image, choices: &[Choice], pick: &[usize]) {
    let moves = std::mem::take(&mut image.moves);
    let picked = choices.iter().zip(pick).filter(|(choice, _)| matches!(choice.values, Values::Move));
    let kept: Vec<bool> = picked.map(|(_, picked)| *picked == 1).collect();
    let mut names = Names::new();
    for (ino, inode) in image.inodes.iter() {
        if let Body::Directory(directory) = &inode.body {
            names.insert(*ino, directory.durable.clone());
        }
    }
    for change in survivors(&moves, &kept).into_iter().flat_map(|one| &one.changes) {
        let directory = names.entry(change.directory).or_default();
        match change.to {
            Some(ino) => directory.insert(change.name.clone(), ino),
            None => directory.remove(&change.name),
        };
    }
    let mut reached: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    reach(image, &names, ROOT, ROOT, &mut reached);
    rebuild(image, names, &reached);
}

/// Counts the links of everything below a directory, and notes where directories lie.
fn reach(image: &Image, names: &Names, directory: u64, parent: u64, reached: &mut BTreeMap<u64, (u32, u64)>) {
    let below = names[&directory].values();
    let (directories, others): (Vec<u64>, Vec<u64>) = below.partition(|ino| image.inode(**ino).is_directory());
    reached.insert(directory, (2 + directories.len() as u32, parent));
    for ino in others {
        reached.entry(ino).or_insert((0, directory)).0 += 1;
    }
    for ino in directories {
        reach(image, names, ino, directory, reached);
    }
}

fn rebuild(image: &mut Image, names: Names, reached: &BTreeMap<u64, (u32, u64)>) {
    Arc::make_mut(&mut image.inodes).retain(|ino, _| reached.contains_key(ino));
    for (ino, (nlink, _)) in reached {
        if image.inode(*ino).nlink != *nlink {
            image.inode_mut(*ino).nlink = *nlink;
        }
    }
    for (ino, names) in names {
        let Some((_, parent)) = reached.get(&ino) else { continue };
        let mut directory = DirectoryBody { parent: *parent, ..DirectoryBody::default() };
        for (name, ino) in names {
            directory.put(name.clone(), ino);
            directory.durable.insert(name, ino);
        }
        image.inode_mut(ino).body = Body::Directory(directory);
    }
}
