//! One HTML document taken apart: its title, its links, its passages.
//!
//! The text is that of the main part: rustdoc's `#main-content`, else `main` (mdBook), `article` or `body`, without
//! navigation, buttons and scripts. The tree is walked without recursion, so that deep nesting costs no stack.

use std::collections::BTreeSet;

use bireme_sdk::http::Url;
use bireme_sdk::prelude::*;
use ego_tree::iter::Edge;
use scraper::node::Element;
use scraper::{CaseSensitivity, ElementRef, Html, Node};

use crate::passage::{self, Block, Passage};
use crate::stub::{self, Reason};

/// A page with something to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// Address after redirects, without a fragment.
    pub url: String,
    pub title: String,
    /// Pages of the same site, absolute, without fragments, each once, in the order of the page.
    pub links: Vec<String>,
    pub passages: Vec<Passage>,
}

/// Elements whose content is not for reading here.
const SKIPPED_TAGS: [&str; 15] = [
    "button",
    "footer",
    "form",
    "head",
    "iframe",
    "nav",
    "noscript",
    "rustdoc-toolbar",
    "script",
    "select",
    "style",
    "svg",
    "template",
    "textarea",
    "title",
];
/// Classes of mdBook and rustdoc that mark links, buttons and signs beside the text, and hidden lines of code.
const SKIPPED_CLASSES: [&str; 9] =
    ["anchor", "boring", "buttons", "menu-bar", "out-of-band", "sidebar", "src", "test-arrow", "tooltip"];
/// Elements that end a line of text.
const BLOCK_TAGS: [&str; 31] = [
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "tr",
    "ul",
];

/// Takes the document apart, or says why it is no page.
pub fn parse(url: &Url, html: &str) -> Result<Page, Reason> {
    let document = Html::parse_document(html);
    let title = title(&document);
    if let Some(reason) = stub::by_head(url, &document, &title) {
        return Err(reason);
    }
    let blocks = main(&document).map(blocks).unwrap_or_default();
    if let Some(reason) = stub::by_text(blocks.iter().map(Block::text)) {
        return Err(reason);
    }
    let title = if title.is_empty() {
        blocks.iter().find(|block| block.is_heading()).map(|block| block.text().to_owned()).unwrap_or_default()
    } else {
        title
    };
    Ok(Page { url: url.to_string(), title, links: links(url, &document), passages: passage::cut(blocks) })
}

fn elements(document: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    document.tree.nodes().filter_map(ElementRef::wrap)
}

fn title(document: &Html) -> String {
    let title = elements(document).find(|element| element.value().name() == "title");
    title.map(|title| collapse(&title.text().collect::<String>())).unwrap_or_default()
}

fn main(document: &Html) -> Option<ElementRef<'_>> {
    let is: [fn(&Element) -> bool; 4] = [
        |element| element.id() == Some("main-content"),
        |element| element.name() == "main",
        |element| element.name() == "article",
        |element| element.name() == "body",
    ];
    is.iter().find_map(|is| elements(document).find(|element| is(element.value())))
}

fn links(url: &Url, document: &Html) -> Vec<String> {
    let origin = url.origin();
    let mut seen = BTreeSet::from([url.to_string()]);
    elements(document)
        .filter(|element| element.value().name() == "a")
        .filter_map(|element| url.join(element.value().attr("href")?).ok())
        .filter(|link| link.origin() == origin)
        .map(|link| link.without_fragment().to_string())
        .filter(|link| seen.insert(link.clone()))
        .collect()
}

fn is_skipped(element: &Element) -> bool {
    SKIPPED_TAGS.contains(&element.name())
        || SKIPPED_CLASSES.iter().any(|class| element.has_class(class, CaseSensitivity::CaseSensitive))
}

/// 1 to 6 for `h1` to `h6`.
fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', digit @ b'1'..=b'6'] => Some(digit - b'0'),
        _ => None,
    }
}

/// The main part as a list of headings, paragraphs and code.
fn blocks(root: ElementRef<'_>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut text = String::new();
    let mut skipped = None;
    let mut pre_depth = 0_usize;
    let flush = |text: &mut String, blocks: &mut Vec<Block>, is_code: bool| {
        let block = if is_code {
            Block::Code(text.trim_matches('\n').trim_end().to_owned())
        } else {
            Block::Text(collapse(text))
        };
        text.clear();
        if !block.text().is_empty() {
            blocks.push(block);
        }
    };
    for edge in root.traverse() {
        match edge {
            Edge::Open(node) if skipped.is_none() => match node.value() {
                Node::Text(run) => text.push_str(run),
                Node::Element(element) if is_skipped(element) => skipped = Some(node.id()),
                Node::Element(element) if BLOCK_TAGS.contains(&element.name()) => {
                    flush(&mut text, &mut blocks, pre_depth > 0);
                    pre_depth += usize::from(element.name() == "pre");
                }
                Node::Element(element) if matches!(element.name(), "br" | "td" | "th") => {
                    text.push(if pre_depth > 0 { '\n' } else { ' ' })
                }
                _ => {}
            },
            Edge::Close(node) if skipped == Some(node.id()) => skipped = None,
            Edge::Close(node) if skipped.is_none() => {
                let Node::Element(element) = node.value() else {
                    continue;
                };
                if let Some(level) = heading_level(element.name()) {
                    let heading = collapse(&text);
                    text.clear();
                    if !heading.is_empty() {
                        blocks.push(Block::Heading {
                            level,
                            anchor: anchor(ElementRef::wrap(node), root),
                            text: heading,
                        });
                    }
                } else if BLOCK_TAGS.contains(&element.name()) {
                    flush(&mut text, &mut blocks, pre_depth > 0);
                    pre_depth -= usize::from(element.name() == "pre");
                }
            }
            _ => {}
        }
    }
    flush(&mut text, &mut blocks, false);
    blocks
}

/// A heading's own id, that of a link in it, or that of the section it opens.
fn anchor(heading: Option<ElementRef<'_>>, root: ElementRef<'_>) -> String {
    let Some(heading) = heading else {
        return String::new();
    };
    let own = heading.value().id();
    let inner = || heading.descendants().filter_map(ElementRef::wrap).find_map(|element| element.value().id());
    let outer = || {
        let sections =
            heading.ancestors().take_while(|node| node.id() != root.id()).filter_map(ElementRef::wrap).take(2);
        sections.filter_map(|element| element.value().id()).next()
    };
    own.or_else(inner).or_else(outer).unwrap_or_default().to_owned()
}

fn collapse(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}
