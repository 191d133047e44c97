//! Pages to index: files that the demo serves itself, or a site on the network.

use std::path::{Path, PathBuf};

use url::Url;

use super::docs::{self, Docs, DocsError};
use super::site::Site;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::codes::Code;
use crate::tasks::blocking;

/// Public address of the toolchain's documentation.
const RUST_DOCS: &str = "https://doc.rust-lang.org/";

pub(crate) enum Source {
    /// Files, served on loopback by the demo. `public` is the address at which others serve the same pages.
    Local { site: Site, pages: Vec<String>, name: String, public: Option<&'static str> },
    /// A site that someone else serves.
    Site { url: Url },
}

impl Source {
    /// Parses the URL of a site.
    pub(crate) fn of_url(text: &str) -> Result<Self, Exit> {
        let url = Url::parse(text).map_err(|error| Exit::usage(format!("`{text}` is no URL: {error}")))?;
        Ok(Self::Site { url })
    }

    /// Serves the HTML files under `dir`.
    pub(crate) fn of_dir(dir: &Path) -> Result<Self, Exit> {
        let site = Site::open(dir).map_err(|error| Exit::new(Code::BadDocs, error.to_string()))?;
        Ok(Self::Local { site, pages: html_files(dir)?, name: dir.display().to_string(), public: None })
    }

    /// Serves the installed Rust documentation: the usual books, or `all`.
    pub(crate) async fn of_rust_docs(all: bool) -> Result<Self, Exit> {
        let missing = |error: DocsError| Exit::new(Code::NoDocs, error.to_string());
        let docs = blocking(Docs::find).await.map_err(missing)?;
        let books: &'static [&'static str] = if all { &[docs::ALL] } else { &docs::USUAL_BOOKS };
        let (docs, pages) = blocking(move || {
            let pages = docs.pages(books);
            (docs, pages)
        })
        .await;
        let pages = pages.map_err(missing)?;
        let site = Site::open(docs.root()).map_err(|error| Exit::new(Code::NoDocs, error.to_string()))?;
        let name = match all {
            true => "all installed Rust documentation",
            false => "The Book, the Reference and the Cargo book",
        };
        Ok(Self::Local { site, pages, name: name.to_owned(), public: Some(RUST_DOCS) })
    }

    /// Returns the origin that the app must be granted.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::Local { site, .. } => format!("http://{}", site.address()),
            Self::Site { url } => url.origin().ascii_serialization(),
        }
    }

    /// Returns the URLs to scrape first.
    pub(crate) fn urls(&self) -> Vec<String> {
        match self {
            Self::Site { url } => vec![url.to_string()],
            Self::Local { site, pages, .. } => {
                let base = Url::parse(&format!("http://{}/", site.address())).expect("an address makes a URL");
                // `join` escapes characters that file names allow and URLs do not.
                let urls = pages.iter().filter_map(|page| base.join(&page.replace('%', "%25")).ok());
                urls.map(String::from).collect()
            }
        }
    }

    /// Returns the address of a scraped page that outlives the demo, if there is one; else the address as it is.
    pub(crate) fn public_url(&self, url: &str) -> String {
        match self {
            Self::Local { site, public: Some(public), .. } => {
                moved(url, &format!("http://{}/", site.address()), public)
            }
            _ => url.to_owned(),
        }
    }

    /// Returns the name and the size of the source, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Local { pages, name, .. } => format!("{name}: {} files", output::count(pages.len() as u64)),
            Self::Site { url } => url.to_string(),
        }
    }

    /// Whether links lead on to pages that are not listed yet.
    pub(crate) fn is_followed(&self) -> bool {
        matches!(self, Self::Site { .. })
    }

    /// Stops serving local files.
    pub(crate) async fn stop(self) {
        if let Self::Local { site, .. } = self {
            site.stop().await;
        }
    }
}

/// Returns a URL below `from` as one below `to`.
fn moved(url: &str, from: &str, to: &str) -> String {
    url.strip_prefix(from).map_or_else(|| url.to_owned(), |path| format!("{to}{path}"))
}

fn html_files(dir: &Path) -> Result<Vec<String>, Exit> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            // A link could lead out of the directory, or into a loop.
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                files.extend(path.strip_prefix(dir).ok().and_then(Path::to_str).map(str::to_owned));
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Exit::new(Code::BadDocs, format!("no HTML file under `{}`", dir.display())));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_demo_s_own_site_get_their_public_address() {
        let moved = |url| moved(url, "http://127.0.0.1:43507/", RUST_DOCS);
        assert_eq!(moved("http://127.0.0.1:43507/book/ch01.html"), "https://doc.rust-lang.org/book/ch01.html");
        assert_eq!(moved("http://127.0.0.1:435070/book/"), "http://127.0.0.1:435070/book/");
    }
}
