//! The store and its files under power cuts, against a model of what was acknowledged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::store::{Decider, Op, PendingWrite, StoreDir, StoreError, Table, Write};

/// What the database must hold.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    acknowledged: u64,
    files: u64,
}

/// A change, of the database and of the model.
#[derive(Clone, Debug)]
enum Change {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        key: Vec<u8>,
    },
    Update {
        key: Vec<u8>,
        byte: u8,
    },
    /// The value of one key, if it has one, gets another, in the place of what is there.
    Move {
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

impl Change {
    fn op(&self) -> Op {
        let table = Table::KeyValue;
        match self.clone() {
            Self::Put { key, value } => Op::Put { table, key, value },
            Self::Delete { key } => Op::Delete { table, key },
            Self::Update { key, byte } => {
                let (decider, _) = Decider::new(0, (key, byte), |(key, byte), view| {
                    let value = changed(view.get(Table::KeyValue, key)?.as_deref(), *byte);
                    let put = |value: Bytes| Op::Put { table: Table::KeyValue, key: key.clone(), value: value.into() };
                    Ok((vec![Cow::Owned(value.map(put).into_iter().collect())], ()))
                });
                Op::Decide(decider)
            }
            Self::Move { from, to } => {
                let prepared = [Op::Delete { table, key: from.clone() }];
                let (decider, _) = Decider::new(0, (prepared, from, to), |(prepared, from, to), view| {
                    let Some(value) = view.get(Table::KeyValue, from)? else { return Ok((Vec::new(), ())) };
                    let put = Op::Put { table: Table::KeyValue, key: to.clone(), value: value.to_vec() };
                    Ok((vec![Cow::Borrowed(&prepared[..]), Cow::Owned(vec![put])], ()))
                });
                Op::Decide(decider)
            }
        }
    }
}

/// A random write: some keys set, some deleted, some changed by what they hold, some moved.
fn random_changes(random: &mut Random) -> Vec<Change> {
    (0..1 + random.below(5))
        .map(|_| {
            let mut key = || format!("a{}\0k{:03}", random.below(3), random.below(200)).into_bytes();
            let (key, other) = (key(), key());
            if random.one_in(8) {
                return Change::Delete { key };
            }
            if random.one_in(8) {
                return Change::Move { from: key, to: other };
            }
            let byte = random.next() as u8;
            if random.one_in(4) {
                return Change::Update { key, byte };
            }
            Change::Put { key, value: vec![byte; random.below(3_000) as usize] }
        })
        .collect()
}

/// One byte more; a key that is not there, or whose value is of an odd length and an even byte, stays as it is.
fn changed(present: Option<&[u8]>, byte: u8) -> Option<Bytes> {
    let present = present.filter(|present| present.len() % 2 == 0 || byte % 2 == 1)?;
    Some([present, &[byte]].concat().into())
}

fn apply(model: &mut Model, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put { key, value } => drop(model.insert(key.clone(), value.clone())),
            Change::Delete { key } => drop(model.remove(key)),
            Change::Update { key, byte } => {
                if let Some(value) = changed(model.get(key).map(Vec::as_slice), *byte) {
                    model.insert(key.clone(), value.into());
                }
            }
            Change::Move { from, to } => {
                if let Some(value) = model.remove(from) {
                    model.insert(to.clone(), value);
                }
            }
        }
    }
}

/// A file, and the row that refers to it.
fn file_row(dir: &StoreDir, random: &mut Random) -> Result<Vec<Change>, StoreError> {
    let bytes = vec![random.below(8) as u8; 1 + random.below(20_000) as usize];
    let digest = dir.files()?.keep(Write::New, &bytes)?;
    let key = [b"file".as_slice(), &digest].concat();
    Ok(vec![Change::Put { key, value: digest.to_vec() }])
}

/// Compares what is there with what was acknowledged, plus the first of `under_way`, in their order, and none in part.
/// Returns what is there.
fn check(dir: &StoreDir, acknowledged: &Model, under_way: &[Vec<Change>]) -> Result<Model, String> {
    let store = dir.store().map_err(|error| format!("the database does not open: {error}: {error:?}"))?;
    let found: Model = store.entries(Table::KeyValue).map_err(|error| error.to_string())?.into_iter().collect();
    let mut expected = acknowledged.clone();
    let mut is_right = found == expected;
    for changes in under_way {
        apply(&mut expected, changes);
        is_right |= found == expected;
    }
    if !is_right {
        return Err(format!("{} entries are not the {} that were acknowledged", found.len(), acknowledged.len()));
    }
    let files = dir.files().map_err(|error| error.to_string())?;
    for (key, value) in &found {
        if key.starts_with(b"file") {
            let digest = value.as_slice().try_into().expect("that is what was written");
            files.get(digest).map_err(|error| error.to_string())?;
        }
    }
    for digest in files.digests().map_err(|error| error.to_string())? {
        files.get(&digest).map_err(|error| error.to_string())?;
    }
    Ok(found)
}

/// Writes until the power goes, three times on one disk.
async fn run(disk: &Disk, seed: u64, seen: &mut Seen) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut acknowledged = Model::new();
    let mut under_way: Vec<Vec<Change>> = Vec::new();
    for _ in 0..3 {
        let ops = [20, 100, 600][random.below(3) as usize];
        disk.cut_power_in(1 + random.below(ops));
        // Opening may be what the power goes at.
        if let Ok(dir) = StoreDir::simulated(disk) {
            match check(&dir, &acknowledged, &under_way) {
                Ok(found) => {
                    (acknowledged, under_way) = (found, Vec::new());
                    write_until_the_end(&dir, &mut random, &mut acknowledged, &mut under_way, seen).await?;
                }
                Err(wrong) if disk.has_power() => return Err(wrong),
                Err(_) => {}
            }
        }
        disk.cut_power();
        disk.reboot();
        seen.crashes += 1;
        let dir = StoreDir::simulated(disk).map_err(|error| format!("the database does not open: {error:?}"))?;
        acknowledged = check(&dir, &acknowledged, &under_way)?;
        under_way.clear();
    }
    Ok(())
}

async fn write_until_the_end(
    dir: &StoreDir,
    random: &mut Random,
    acknowledged: &mut Model,
    under_way: &mut Vec<Vec<Change>>,
    seen: &mut Seen,
) -> Result<(), String> {
    let store = dir.store().map_err(|error| error.to_string())?;
    for _ in 0..300 {
        let mut batch = Vec::new();
        if random.one_in(8) {
            match file_row(dir, random) {
                Ok(changes) => batch.push(changes),
                Err(_) => return Ok(()),
            }
            seen.files += 1;
        }
        // One at a time replays from the seed; several meet in a commit as the writer takes them.
        let count = if random.one_in(2) { 1 } else { 1 + random.below(8) };
        batch.extend((0..count).map(|_| random_changes(random)));
        let submit =
            |changes: &Vec<Change>| store.submit(Write::New, changes.iter().map(Change::op).collect::<Vec<Op>>());
        let submitted: Vec<PendingWrite> = batch.iter().map(submit).collect();
        for (changes, submitted) in batch.into_iter().zip(submitted) {
            match submitted.await {
                Ok(()) if !under_way.is_empty() => return Err("a write was kept, and one before it was not".to_owned()),
                Ok(()) => {
                    apply(acknowledged, &changes);
                    seen.acknowledged += 1;
                }
                Err(StoreError::Poisoned { .. }) => under_way.push(changes),
                Err(error) => return Err(format!("a power cut is no `{error}`")),
            }
        }
        if !under_way.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

fn seeds() -> u64 {
    std::env::var("BIREME_SIM_DISK_SEEDS").map_or(50, |seeds| seeds.parse().expect("BIREME_SIM_DISK_SEEDS is a number"))
}

#[expect(clippy::print_stderr, reason = "the figures of a long run are what it is run for")]
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let mut seen = Seen::default();
    for seed in 0..seeds() {
        if let Err(wrong) = run(&Disk::new(seed), seed, &mut seen).await {
            panic!("seed {seed}: {wrong}");
        }
    }
    eprintln!("{} seeds: {seen:?}", seeds());
    assert_eq!(seen.crashes, 3 * seeds());
    assert!(
        seen.acknowledged > 10 * seeds() && seen.files > seeds(),
        "too little was written to prove anything: {seen:?}"
    );
}

#[tokio::test]
async fn a_disk_that_lies_about_fsync_is_noticed() {
    let mut noticed = 0;
    for seed in 0..20 {
        noticed += u32::from(run(&Disk::lying(seed), seed, &mut Seen::default()).await.is_err());
    }
    assert!(noticed > 10, "the checker saw nothing wrong with {} of 20 disks that sync nothing", 20 - noticed);
}
