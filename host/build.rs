//! Puts the SDK's source and the contract into the binary, so that `bireme new` works before anything is published.
//!
//! It writes a table of `include_bytes!`, not an archive: rustc then tracks every file it names by itself, cargo tracks the
//! folders below (a file that is added or removed too), and nothing has to be unpacked or trusted at run time. No macro crate
//! does this on a stable compiler: `include_dir` does not see a new file.
//!
//! Not here: the manifest of the unpacked workspace (`app::sdk::manifest`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What an app builds with, from the root of the workspace.
const FOLDERS: [&str; 2] = ["guest-sdk", "wit"];
const FILES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
/// What belongs to a source tree; an editor's backups do not.
const EXTENSIONS: [&str; 3] = ["rs", "toml", "wit"];
/// What `app::sdk` reads its versions from.
const READ: [&str; 2] = ["Cargo.toml", "examples/Cargo.lock"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = Path::new(&manifest_dir).parent().expect("the host stands in a workspace").to_owned();

    let mut files = Vec::new();
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed=../{folder}");
        collect(&root.join(folder), &mut files)?;
    }
    files.extend(FILES.map(|file| root.join(file)));
    files.sort();

    let mut table = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    for file in &files {
        let name = name(&root, file);
        let _ = writeln!(table, "    ({name:?}, include_bytes!({file:?})),");
    }
    table += "];\n";
    for (name, file) in ["ROOT_MANIFEST", "EXAMPLES_LOCK"].iter().zip(READ) {
        let path = root.join(file);
        let _ = writeln!(table, "const {name}: &str = include_str!({path:?});");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("sdk_files.rs"), table)
}

/// Returns the path below `root`, with `/` on every system.
fn name(root: &Path, file: &Path) -> String {
    let path = file.strip_prefix(root).expect("it was found there");
    let parts = path.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            // The SDK's own tests are of no use to an app.
            if !hidden && name != "target" && name != "tests" {
                collect(&path, files)?;
            }
        } else if !hidden
            && path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}
