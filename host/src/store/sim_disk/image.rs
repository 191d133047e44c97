//! What is on a disk after a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Contents, NameOp, Node, WriteOp, parent};

/// A small generator (SplitMix64): a failure replays from its seed, with any version of any crate.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(super) fn apply(contents: &mut Vec<u8>, op: &WriteOp) {
    match op {
        WriteOp::SetLen(len) => contents.resize(*len as usize, 0),
        WriteOp::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[start..end].copy_from_slice(data);
        }
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<PathBuf, Node>, op: &NameOp) {
    match op {
        NameOp::Put(path, node) => drop(names.insert(path.clone(), *node)),
        NameOp::Remove(path) => drop(names.remove(path)),
        NameOp::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

/// What was not synced is kept in one of four ways.
enum Kept {
    /// Any of it, in part.
    Some,
    /// All until a moment, nothing after it.
    Prefix(usize),
    /// All of it, in part.
    Torn,
    All,
}

impl Kept {
    fn choose(unsynced: usize, random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Some,
            1 => Self::Prefix(random.below(unsynced as u64 + 1) as usize),
            2 => Self::Torn,
            _ => Self::All,
        }
    }

    fn keeps(&self, at: usize, random: &mut Random) -> bool {
        match self {
            Self::Some => random.one_in(2),
            Self::Prefix(len) => at < *len,
            Self::Torn | Self::All => true,
        }
    }

    fn tears(&self, random: &mut Random) -> bool {
        matches!(self, Self::Some | Self::Torn) && random.one_in(4)
    }
}

pub(super) fn after_power_loss(contents: &Contents, random: &mut Random) -> Vec<u8> {
    let mut image = contents.synced.clone();
    let kept = Kept::choose(contents.unsynced.len(), random);
    for (at, op) in contents.unsynced.iter().enumerate() {
        if !kept.keeps(at, random) {
            continue;
        }
        match op {
            WriteOp::Write(offset, data) if kept.tears(random) => {
                // Bytes, sectors or pages of it.
                let unit = [1, 512, 4_096][random.below(3) as usize];
                let len = random.below(data.len() as u64 + 1) as usize / unit * unit;
                apply(&mut image, &WriteOp::Write(*offset, data[..len].to_owned()));
            }
            op => apply(&mut image, op),
        }
    }
    image
}

pub(super) fn names_after_power_loss(
    synced: &BTreeMap<PathBuf, Node>,
    unsynced: &[NameOp],
    random: &mut Random,
) -> BTreeMap<PathBuf, Node> {
    let mut names = synced.clone();
    let kept = Kept::choose(unsynced.len(), random);
    for (at, op) in unsynced.iter().enumerate() {
        if kept.keeps(at, random) {
            apply_name(&mut names, op);
        }
    }
    // A name in a directory that was lost is lost with it. Parents come before what is in them.
    let mut reached = BTreeMap::new();
    for (path, node) in names {
        let dir = parent(&path);
        if dir == Path::new("") || reached.get(dir) == Some(&Node::Directory) {
            reached.insert(path, node);
        }
    }
    reached
}
