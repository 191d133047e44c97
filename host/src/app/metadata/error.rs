//! Errors of a metadata document, and the two constants of its format.

use crate::app::route::Route;
use crate::ids::FunctionName;
use crate::limits::METADATA_BYTES_MAX;

/// Name of the custom section.
pub(crate) const SECTION: &str = "bireme:metadata";

/// Newest format that this host reads.
pub(crate) const FORMAT: u32 = 1;

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    #[error("the component cannot be parsed as WebAssembly; is the file cut off?")]
    Component(#[from] wasmparser::BinaryReaderError),
    #[error("the component carries no `{SECTION}` section; build it with `bireme build`")]
    Missing,
    #[error("the component carries {count} `{SECTION}` sections; one is allowed")]
    Repeated { count: usize },
    #[error("the metadata is {bytes} bytes, over the limit of {METADATA_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("the metadata is of format {found}, and this host reads up to {FORMAT}; update bireme")]
    Newer { found: u32 },
    #[error("the metadata is not the document that docs/metadata.md describes")]
    Shape(#[source] serde_json::Error),
    #[error("{reason}")]
    App { reason: String },
    #[error("the metadata lists an error of the app without a word about it; build it again with this host's SDK")]
    UnnamedError,
    #[error("two functions are named `{name}`")]
    Duplicate { name: FunctionName },
    #[error("the web functions `{one}` and `{other}` answer the same requests, `{route}`; change one of the routes")]
    Routes { one: FunctionName, other: FunctionName, route: Route },
    #[error("function `{function}` asks for {attribute} = {asked}, over this host's ceiling of {ceiling}")]
    Ceiling { function: FunctionName, attribute: &'static str, asked: String, ceiling: String },
    #[error("function `{function}` cannot have such {attribute}: {reason}")]
    Attribute { function: FunctionName, attribute: &'static str, reason: String },
    #[error("function `{function}` asks for {attribute} = 0")]
    Zero { function: FunctionName, attribute: &'static str },
}
