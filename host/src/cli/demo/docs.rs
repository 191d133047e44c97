//! Rust documentation on this machine: some thousand real pages without a network.
//!
//! Not here: serving it (`site`).
//!
//! Invariant: pages are sorted paths relative to the root, with `/`. Print versions (a whole book in one page) and
//! error pages are left out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

/// Default books: small enough for a first try, real enough to search.
pub(crate) const USUAL_BOOKS: [&str; 3] = ["book", "reference", "cargo"];
/// Name of the set of all pages.
pub(crate) const ALL: &str = "all";
/// Pages without content of their own.
const LEFT_OUT: [&str; 3] = ["print.html", "404.html", "toc.html"];

/// Missing documentation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DocsError {
    /// There is no Rust toolchain.
    #[error("no Rust toolchain was found: `rustc` does not run; install one from https://rustup.rs")]
    NoRustc,
    /// The toolchain has no documentation, and there is no rustup to add it.
    #[error("`{}` has no documentation; install your distribution's package `rust-doc`", sysroot.display())]
    NoRustup {
        /// The toolchain's directory.
        sysroot: PathBuf,
    },
    /// rustup could not add the documentation.
    #[error("the documentation is missing and could not be added: {message}; run `{command}`")]
    NotAdded {
        /// The command to type.
        command: String,
        /// The last line of rustup's error.
        message: String,
    },
    /// There is no book of this name.
    #[error("unknown book `{book}`; there are: {}, or `{ALL}`", available.join(", "))]
    UnknownBook {
        /// The name asked for.
        book: String,
        /// The names that would work.
        available: Vec<String>,
    },
    /// A directory cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The documentation of an installed Rust toolchain.
#[derive(Clone, Debug)]
pub(crate) struct Docs {
    root: PathBuf,
}

impl Docs {
    /// Finds the documentation of the current toolchain; if it is missing, rustup adds it, a download of 20 MB. Blocks.
    pub(crate) fn find() -> Result<Self, DocsError> {
        Self::find_with(&Tools { path: None })
    }

    /// Returns the command that would add missing documentation; `None` if it is there.
    pub(crate) fn command_to_add() -> Result<Option<String>, DocsError> {
        let sysroot = Tools { path: None }.sysroot()?;
        Ok(match Self::of(&sysroot) {
            Some(_) => None,
            None => Some(shown(&add_command(&sysroot))),
        })
    }

    fn find_with(tools: &Tools) -> Result<Self, DocsError> {
        let sysroot = tools.sysroot()?;
        if let Some(docs) = Self::of(&sysroot) {
            return Ok(docs);
        }
        tools.add_docs(&sysroot)?;
        Self::of(&sysroot).ok_or_else(|| DocsError::NotAdded {
            command: shown(&add_command(&sysroot)),
            message: "rustup succeeded, but the files are not there".into(),
        })
    }

    fn of(sysroot: &Path) -> Option<Self> {
        let root = sysroot.join("share/doc/rust/html");
        root.join("index.html").is_file().then_some(Self { root })
    }

    /// Returns the root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the pages of `books` (directories below the root); `all` means every page.
    pub(crate) fn pages(&self, books: &[&str]) -> Result<Vec<String>, DocsError> {
        let mut pages = Vec::new();
        if books.contains(&ALL) {
            self.collect(&self.root, &mut pages)?;
        } else {
            for book in books {
                let available = self.books()?;
                if !available.iter().any(|name| name == book) {
                    let book = (*book).to_owned();
                    return Err(DocsError::UnknownBook { book, available });
                }
                self.collect(&self.root.join(book), &mut pages)?;
            }
        }
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }

    /// Returns the names of all books.
    fn books(&self) -> Result<Vec<String>, DocsError> {
        let entries = fs::read_dir(&self.root).map_err(unreadable(&self.root))?;
        let mut books: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("index.html").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        books.sort_unstable();
        Ok(books)
    }

    /// Adds the pages under `dir`. Links are not followed: they could form a loop.
    fn collect(&self, dir: &Path, pages: &mut Vec<String>) -> Result<(), DocsError> {
        for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
            let entry = entry.map_err(unreadable(dir))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            if kind.is_dir() {
                self.collect(&path, pages)?;
            } else if kind.is_file() && is_page(&path) {
                let page = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
                pages.extend(page.map(str::to_owned));
            }
        }
        Ok(())
    }
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "html") && !LEFT_OUT.iter().any(|name| path.ends_with(name))
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> DocsError + use<'_> {
    |source| DocsError::Unreadable { path: path.to_owned(), source }
}

/// Programs of a Rust installation; `path` replaces PATH in tests.
struct Tools {
    path: Option<OsString>,
}

impl Tools {
    /// Returns the directory of the current toolchain.
    fn sysroot(&self) -> Result<PathBuf, DocsError> {
        let printed = self.command("rustc").args(["--print", "sysroot"]).output();
        let printed = printed.ok().filter(|output| output.status.success());
        let text = printed.and_then(|output| String::from_utf8(output.stdout).ok());
        text.map(|text| PathBuf::from(text.trim())).ok_or(DocsError::NoRustc)
    }

    fn add_docs(&self, sysroot: &Path) -> Result<(), DocsError> {
        let words = add_command(sysroot);
        let not_added = |message: String| DocsError::NotAdded { command: shown(&words), message };
        match self.command(&words[0]).args(&words[1..]).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
                Err(not_added(last.unwrap_or("it gives no reason").to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DocsError::NoRustup { sysroot: sysroot.to_owned() })
            }
            Err(error) => Err(not_added(error.to_string())),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }
}

/// Returns the command that adds the documentation to the toolchain in `sysroot`. It names the toolchain, because
/// rustup's default may be another one, which RUSTUP_AUTO_INSTALL=0 forbids to install.
fn add_command(sysroot: &Path) -> Vec<String> {
    let mut words = ["rustup", "component", "add", "rust-docs"].map(str::to_owned).to_vec();
    let is_managed = sysroot.parent().is_some_and(|parent| parent.ends_with("toolchains"));
    if let Some(name) = sysroot.file_name().and_then(|name| name.to_str())
        && is_managed
    {
        words.extend(["--toolchain".to_owned(), name.to_owned()]);
    }
    words
}

fn shown(words: &[String]) -> String {
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, "<html>").expect("written");
    }

    /// A toolchain under a temporary home, with shell scripts for tools.
    struct Home(TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(TempDir::new().expect("a directory"));
            let script = format!("echo '{}'", home.sysroot().display());
            fs::create_dir_all(home.0.path().join("bin")).expect("made");
            home.tool("rustc", &script);
            home
        }

        fn sysroot(&self) -> PathBuf {
            self.0.path().join("toolchains/1.95.0-test")
        }

        fn html(&self) -> PathBuf {
            self.sysroot().join("share/doc/rust/html")
        }

        fn tool(&self, name: &str, script: &str) {
            let path = self.0.path().join("bin").join(name);
            let script = format!("#!/bin/sh\n[ \"$1\" = probe ] && exit\nPATH=/usr/bin:/bin\n{script}");
            fs::write(&path, script).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
            // A process that another test forked meanwhile holds the file open for writing until its own exec.
            while let Err(error) = Command::new(&path).arg("probe").status() {
                assert_eq!(error.kind(), io::ErrorKind::ExecutableFileBusy);
            }
        }

        fn find(&self) -> Result<Docs, DocsError> {
            let path = Some(self.0.path().join("bin").into_os_string());
            Docs::find_with(&Tools { path })
        }
    }

    #[test]
    fn documentation_that_is_there_is_found() {
        let home = Home::new();
        write(&home.html().join("index.html"));
        assert_eq!(home.find().expect("there").root(), home.html());
    }

    #[test]
    fn rustup_adds_it_to_the_toolchain_in_use() {
        let home = Home::new();
        let html = home.html();
        home.tool(
            "rustup",
            &format!(
                "[ \"$*\" = 'component add rust-docs --toolchain 1.95.0-test' ] || exit 1\n\
                 mkdir -p '{0}' && echo '<html>' > '{0}/index.html'",
                html.display()
            ),
        );
        assert_eq!(home.find().expect("added").root(), html);
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_adds_it() {
        let home = Home::new();
        assert!(matches!(home.find(), Err(DocsError::NoRustup { .. })));
        home.tool("rustup", "echo 'error: could not download' >&2; exit 1");
        assert_eq!(
            home.find().expect_err("not added").to_string(),
            "the documentation is missing and could not be added: error: could not download; \
             run `rustup component add rust-docs --toolchain 1.95.0-test`"
        );
        home.tool("rustc", "exit 1");
        assert!(matches!(home.find(), Err(DocsError::NoRustc)));
    }

    #[test]
    fn pages_are_those_of_the_books_in_order() {
        let home = Home::new();
        let html = home.html();
        for page in [
            "index.html",
            "book/index.html",
            "book/ch01/a.html",
            "book/print.html",
            "book/x.css",
            "std/index.html",
            "std/vec.html",
            "not-a-book/x.html",
        ] {
            write(&html.join(page));
        }
        let docs = home.find().expect("there");
        let pages = |books: &[&str]| docs.pages(books).expect("readable");
        assert_eq!(
            pages(&["std", "book", "std"]),
            ["book/ch01/a.html", "book/index.html", "std/index.html", "std/vec.html"]
        );
        assert_eq!(pages(&[ALL]).len(), 6);
        for book in ["bok", "not-a-book", "..", "", "."] {
            let unknown = docs.pages(&[book]).expect_err("unknown").to_string();
            assert_eq!(unknown, format!("unknown book `{book}`; there are: book, std, or `all`"));
        }
    }
}
