//! Corpora that are made of the fixtures: rows of data directories, frames, tensors, components, models.
//!
//! The other inputs of a corpus are texts, written by hand, and inputs that once broke a promise.

mod models;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use bireme::app::metadata::Metadata;
use bireme::fuzzing::store;
use bireme::wire::{HEADER_BYTES, samples};
use flate2::read::GzDecoder;

/// Rows of one kind.
const ROWS_MAX: usize = 5;
/// Bytes of an input; longer rows are left out.
const BYTES_MAX: usize = 2 << 10;

/// Writer of an input, by its target and its name.
type Put<'a> = dyn Fn(&str, &str, &[u8]) -> Result<()> + 'a;

/// Writes them below `corpus`, from the fixtures of data directories.
pub fn write(corpus: &Path, fixtures: &Path) -> Result<()> {
    let put = |target: &str, name: &str, input: &[u8]| -> Result<()> {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), input).with_context(|| format!("cannot write `{name}` of `{target}`"))
    };
    rows(fixtures, &put)?;
    for (number, frame) in samples::frames().iter().enumerate() {
        let mut bytes = Vec::new();
        frame.encode(42, &mut bytes);
        let body = &bytes[HEADER_BYTES..];
        let kind = bytes[4];
        put("frame", &format!("frame-{number:02}"), &[&[kind], body].concat())?;
        if kind == 13 {
            let text = "a \u{e4} [MASK]";
            let input = [&[text.len() as u8], text.as_bytes(), body].concat();
            put("tokenizer_table", &format!("table-{number:02}"), &input)?;
        }
    }
    components(fixtures, &put)?;
    models::write(&put)
}

/// Rows of each kind, of each format's data directory.
fn rows(fixtures: &Path, put: &Put<'_>) -> Result<()> {
    for name in ["data-1", "data-2", "data-3", "states-2", "cut-results-2"] {
        let dir = tempfile::tempdir()?;
        let mut database = Vec::new();
        let packed = fixtures.join(name).join("store.redb.gz");
        GzDecoder::new(File::open(packed)?).read_to_end(&mut database)?;
        File::create(dir.path().join("store.redb"))?.write_all(&database)?;
        let mut kinds = BTreeMap::<u8, Vec<Vec<u8>>>::new();
        for (table, key, value) in store::rows(dir.path()).map_err(anyhow::Error::msg)? {
            if let Some((kind, row)) = store::kind_of(table, &key, &value).filter(|(_, row)| row.len() < BYTES_MAX) {
                kinds.entry(kind).or_default().push(row);
            }
            if table == "schedules" && kinds.get(&KEY).is_none_or(|keys| keys.len() < ROWS_MAX) {
                kinds.entry(KEY).or_default().push(key);
            }
        }
        for (kind, mut rows) in kinds {
            // One of each length is enough, spread over the lengths.
            rows.sort_by_key(Vec::len);
            rows.dedup_by_key(|row| row.len());
            let step = rows.len().div_ceil(ROWS_MAX);
            for (number, row) in rows.iter().step_by(step).enumerate() {
                let kind_name = store::KINDS[usize::from(kind)].0;
                put("journal_row", &format!("{name}-{kind_name}-{number}"), &[&[kind], row.as_slice()].concat())?;
            }
        }
    }
    Ok(())
}

/// Place of keys among the kinds of rows, the last.
const KEY: u8 = store::KINDS.len() as u8 - 1;

/// Metadata of the components that the fixtures deployed, and small components.
fn components(fixtures: &Path, put: &Put<'_>) -> Result<()> {
    let mut paths: Vec<_> = fs::read_dir(fixtures.join("apps"))?.collect::<Result<_, _>>()?;
    paths.sort_by_key(std::fs::DirEntry::path);
    let mut metadata = None;
    for (number, entry) in paths.iter().enumerate() {
        let mut component = Vec::new();
        GzDecoder::new(File::open(entry.path())?).read_to_end(&mut component)?;
        let read = Metadata::read(&component)?;
        put("metadata", &format!("app-{number}"), &serde_json::to_vec(&read)?)?;
        metadata = Some(read);
    }
    let metadata = metadata.context("the fixtures have a component")?;
    for (name, text) in COMPONENTS {
        let component = wat::parse_str(text)?;
        put("component", name, &component)?;
        if name == "instances" {
            put("component", "with-metadata", &metadata.attach(&component))?;
        }
    }
    Ok(())
}

const COMPONENTS: [(&str, &str); 6] = [
    ("empty", "(component)"),
    ("module", "(module (memory 1) (func (export \"f\") (result i32) i32.const 1))"),
    (
        "instances",
        "(component (core module $m (memory 1) (table 1 funcref)) (core instance (instantiate $m)) (core instance (instantiate $m)))",
    ),
    (
        "nested",
        "(component (component $inner (core module $m (memory 1)) (core instance (instantiate $m)))
         (instance (instantiate $inner)) (instance (instantiate $inner)))",
    ),
    (
        "aliases",
        "(component (core module $m (table 1 funcref))
         (component $inner (alias outer 1 $m (core module $mine)) (core instance (instantiate $mine)))
         (instance (instantiate $inner))
         (export $again \"m\" (core module $m)) (core instance (instantiate $again)))",
    ),
    (
        "imports",
        "(component (import \"m\" (core module $m)) (import \"f\" (func $f (param \"a\" string) (result u32)))
         (core instance (instantiate $m)) (type (record (field \"x\" u8))) (export \"g\" (func $f)))",
    ),
];
