//! All engines on all workloads, in rounds.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::child::{Process, Took};
use crate::inference::tokenizer::Tokenizer;
use crate::report::{self, Row};
use crate::workload::{self, Workload};
use crate::{engine, passages};

const PASSAGES: usize = 1_000;

/// Below it, two vectors are not those of the same model and text.
const COSINE_MIN: f64 = 0.9999;

/// One engine on one workload.
struct Entry {
    /// Of the list of processes; the first is ours.
    process: usize,
    workload: usize,
    took: Vec<Took>,
}

pub fn run(work: &Path, model: &Path, book: &Path, rounds: usize, rivals: &[&str]) -> Result<(), Box<dyn Error>> {
    let passages = passages::read(book, &Tokenizer::load(model)?, PASSAGES)?;
    let workloads = [workload::equal(&passages), workload::mixed(&passages).to_vec()].concat();
    workload::save(work, &workloads)?;

    let cpus = cpus_allowed()?;
    let all = std::thread::available_parallelism()?.get();
    let one = cpus.split([',', '-']).next().unwrap_or("0").to_owned();
    report::head(&passages, &workloads, rounds, &cpus);
    let mut ratios = Vec::new();
    let sets = if all == 1 { vec![("1t", 1, one)] } else { vec![("1t", 1, one), ("all", all, cpus)] };
    for (label, threads, cpus) in sets {
        let mut processes = Vec::new();
        for name in [&[engine::OURS], rivals].concat() {
            processes.push(Process::start(name, work, model, threads, &cpus)?);
        }
        check_equal(&mut processes, &workloads)?;
        let mut groups = groups(&processes, &workloads);
        for round in 0..rounds {
            for group in &mut groups {
                // Nobody always runs after the same neighbour.
                let first = round % group.len();
                for index in (first..group.len()).chain(0..first) {
                    let entry = &mut group[index];
                    let took = processes[entry.process].time(&workloads[entry.workload].name, round)?;
                    entry.took.push(took);
                }
            }
        }
        println!("\n{} of CPUs {cpus}, load average {}", report::threads(threads), report::load());
        let rows: Vec<Row> = groups.iter().flatten().map(|entry| row(entry, &processes, &workloads)).collect();
        report::table(&rows);
        for process in &processes {
            println!("peak memory of {}: {:.0} MiB", process.name, process.peak_mib()?);
        }
        for group in &groups {
            ratios.extend(ratio_lines(group, label, &processes, &workloads));
        }
    }
    println!();
    for line in ratios {
        println!("{line}");
    }
    Ok(())
}

/// Returns the entries timed in turns: groups of the same texts, each with ours first.
fn groups(processes: &[Process], workloads: &[Workload]) -> Vec<Vec<Entry>> {
    let find = |name: &str| workloads.iter().position(|workload| workload.name == name).expect("a workload's own name");
    let entries = |name: &str, processes: &[usize]| -> Vec<Entry> {
        processes.iter().map(|&process| Entry { process, workload: find(name), took: Vec::new() }).collect()
    };
    let all: Vec<usize> = (0..processes.len()).collect();
    let named = |names: &[&str]| -> Vec<usize> {
        all.iter().copied().filter(|&process| names.contains(&processes[process].engine.as_str())).collect()
    };
    let mut groups = Vec::new();
    for length in workload::LENGTHS {
        for batch_texts in workload::BATCH_TEXTS {
            groups.push(entries(&workload::equal_name(length, batch_texts), &all));
        }
    }
    // Company and order matter only to those that pad.
    let mut mixed = entries(workload::MIXED, &all);
    mixed.extend(entries(workload::MIXED_SORTED, &named(&["onnxruntime", "sentence-transformers"])));
    mixed.extend(entries(workload::MIXED_SINGLY, &named(&["onnxruntime"])));
    groups.push(mixed);
    groups
}

/// Refuses to compare engines that do not compute the same thing.
fn check_equal(processes: &mut [Process], workloads: &[Workload]) -> Result<(), Box<dyn Error>> {
    let length = |vector: &[f32]| vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let cosine = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / (length(a) * length(b))
    };
    let (ours, theirs) = processes.split_at_mut(1);
    for workload in workloads {
        let expected = ours[0].check(&workload.name)?;
        for process in &mut *theirs {
            let actual = process.check(&workload.name)?;
            let cosines: Vec<f64> = actual.iter().zip(&expected).map(|(a, b)| cosine(a, b)).collect();
            // One that is no number is not as it should be either.
            if actual.len() != expected.len() || !cosines.iter().all(|&cosine| cosine >= COSINE_MIN) {
                let (name, workload) = (&process.name, &workload.name);
                return Err(
                    format!("{name} disagrees on `{workload}`: cosines with our vectors are {cosines:?}").into()
                );
            }
        }
    }
    Ok(())
}

fn row(entry: &Entry, processes: &[Process], workloads: &[Workload]) -> Row {
    let workload = &workloads[entry.workload];
    // Rounds of passages differ in length; over all rounds every passage counts once.
    let texts: Vec<f64> =
        (0..entry.took.len()).map(|round| workload.round(round).iter().map(Vec::len).sum::<usize>() as f64).collect();
    Row {
        workload: workload.name.clone(),
        engine: processes[entry.process].name.clone(),
        per_s: entry.took.iter().zip(&texts).map(|(took, texts)| texts / took.wall_s).collect(),
        cpu_ms_text: entry.took.iter().map(|took| took.cpu_s).sum::<f64>() * 1e3 / texts.iter().sum::<f64>(),
    }
}

/// Their time a token over ours: the median over the rounds, in each of which both met the same weather.
fn ratio_lines(group: &[Entry], label: &str, processes: &[Process], workloads: &[Workload]) -> Vec<String> {
    let token_s = |entry: &Entry| -> Vec<f64> {
        let tokens = |round| workloads[entry.workload].round(round).iter().flatten().map(Vec::len).sum::<usize>();
        entry.took.iter().enumerate().map(|(round, took)| took.wall_s / tokens(round) as f64).collect()
    };
    let ours = token_s(&group[0]);
    let mut lines = Vec::new();
    for entries in group[1..].chunk_by(|a, b| a.workload == b.workload) {
        let name = workloads[entries[0].workload].name.replace('-', "_");
        let mut best = f64::INFINITY;
        for entry in entries {
            let ratios: Vec<f64> = token_s(entry).iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
            let (ratio, rival) = (report::median(&ratios), &processes[entry.process].engine);
            lines.push(format!("RATIO embed_{name}_{label}_vs_{} {ratio:.2}", rival.replace('-', "_")));
            best = best.min(ratio);
        }
        lines.push(format!("RATIO embed_{name}_{label}_vs_best {best:.2}"));
    }
    lines
}

/// The CPUs that this process may use, as the kernel and `taskset` write them.
fn cpus_allowed() -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).ok_or("no list of CPUs")?;
    Ok(list.trim().to_owned())
}
