//! Links of the pages: relative ones lead to a file and an anchor, others are well formed. Nothing is fetched.
//!
//! An own check, because the known ones (lychee, mdbook-linkcheck) are programs that a machine has to install first,
//! and these rules are few.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{Page, pages};
use crate::support::crate_dir;

#[test]
fn every_link_leads_somewhere() {
    let root = crate_dir("..");
    let pages = pages();
    let anchors: HashMap<&str, Vec<String>> =
        pages.iter().map(|page| (page.name.as_str(), anchors(&page.text))).collect();
    let (mut wrong, mut seen) = (String::new(), 0);
    for page in &pages {
        for (line, link) in links(&page.text) {
            seen += 1;
            if let Err(reason) = check(&root, page, &anchors, &link) {
                writeln!(wrong, "{}:{line}: `{link}` {reason}", page.name).unwrap();
            }
        }
    }
    assert!(seen > 200, "{seen} links");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let pages = pages();
    let summary = pages.iter().find(|page| page.name == "docs/SUMMARY.md").unwrap();
    let listed: Vec<String> = links(&summary.text).into_iter().map(|(_, link)| format!("docs/{link}")).collect();
    for page in pages.iter().filter(|page| page.name.starts_with("docs/") && page.name != summary.name) {
        assert!(listed.contains(&page.name), "{} is not in docs/SUMMARY.md", page.name);
    }
}

fn check(root: &Path, page: &Page, anchors: &HashMap<&str, Vec<String>>, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return url::Url::parse(link).map(|_| ()).map_err(|error| format!("is not a URL: {error}"));
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() { page.name.clone() } else { resolve(&page.name, path)? };
    // Case matters where the pages are served.
    if !root.join(&target).exists() {
        return Err(format!("leads to `{target}`, which does not exist"));
    }
    match (anchor, anchors.get(target.as_str())) {
        (Some(anchor), Some(anchors)) if !anchors.iter().any(|known| known == anchor) => {
            Err(format!("leads to no heading of `{target}`"))
        }
        (Some(_), None) => Err(format!("has an anchor, but `{target}` is no page")),
        _ => Ok(()),
    }
}

/// Resolves a relative link of a page to a path from the repository's root.
fn resolve(page: &str, link: &str) -> Result<String, String> {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return Err("leaves the repository".to_owned()),
        }
    }
    Ok(path.to_str().unwrap().to_owned())
}

/// Returns the links and images of a page, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
    let links = events.filter_map(|(event, range)| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some((text[..range.start].lines().count().max(1), dest_url.to_string()))
        }
        _ => None,
    });
    links.collect()
}

/// Returns the anchors that GitHub and mdBook give the headings of a page. One that stands twice has a number behind.
fn anchors(text: &str) -> Vec<String> {
    let (mut anchors, mut heading) = (Vec::new(), None::<String>);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(piece) | Event::Code(piece) => {
                if let Some(heading) = &mut heading {
                    *heading += &piece;
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let name = slug(&heading.take().unwrap_or_default());
                let times = anchors.iter().filter(|(known, _)| *known == name).count();
                let anchor = if times == 0 { name.clone() } else { format!("{name}-{times}") };
                anchors.push((name, anchor));
            }
            _ => {}
        }
    }
    anchors.into_iter().map(|(_, anchor)| anchor).collect()
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn a_link_is_resolved_from_its_page() {
    assert_eq!(resolve("docs/guides/a.md", "../b.md").as_deref(), Ok("docs/b.md"));
    assert_eq!(resolve("README.md", "docs/").as_deref(), Ok("docs"));
    assert!(resolve("README.md", "../a.md").is_err());
    assert_eq!(links("A [b](c.md#d)\n\n[e]: http://f\n\n| a |\n|---|\n| [g](h) [e] |\n").len(), 3);
}

#[test]
fn headings_have_the_anchors_of_the_book() {
    assert_eq!(anchors("# A `b`, c\n\n## A b c\n\n## `#[web(…)]`\n"), ["a-b-c", "a-b-c-1", "web"]);
}
