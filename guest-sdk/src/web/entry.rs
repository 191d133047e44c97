//! Entries: the web functions of an app, with their attributes and the code that runs them.

use super::route::Route;
use super::{Request, Response};
use crate::entry::{App, Attributes};
use crate::host::{SERVE, Serve};
use crate::schemas::Schemas;

/// One web function, with its route among its attributes.
#[derive(Debug)]
pub struct Entry {
    /// Crate of the function.
    pub app: App,
    /// Name of the function.
    pub name: &'static str,
    /// File and line, for an error about a repeated name or route.
    pub source: &'static str,
    /// Doc comment of the function; may be empty.
    pub doc: &'static str,
    /// Names of the parameters, in order.
    pub parameters: &'static [&'static str],
    /// Attributes of the function.
    pub attributes: Attributes,
    /// Decodes the parameters of a request, calls the function, turns its result into a response.
    pub run: fn(&mut Request) -> Response,
    /// JSON Schemas of the parameters and of the result.
    pub schemas: fn() -> Schemas,
    /// Server of the route.
    pub server: Server,
}

/// Server of all web functions. Only they name it, so that an app without any does not carry it.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Handler of requests on a host; nothing in a native test.
    pub serve: Serve,
    /// Lists routes that answer the same requests.
    pub conflicts: fn(&[&'static Entry]) -> Vec<String>,
}

/// The only server.
pub const SERVER: Server = Server { serve: SERVE, conflicts };

inventory::collect!(Entry);

impl Entry {
    pub(super) fn route(&self) -> Route<'static> {
        Route::read(self.attributes.route.unwrap_or_default())
    }
}

/// Returns every web function of the app, by name and then by source.
pub(crate) fn all() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = inventory::iter::<Entry>.into_iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.name, entry.source));
    entries
}

fn conflicts(entries: &[&'static Entry]) -> Vec<String> {
    let mut errors = Vec::new();
    for (i, one) in entries.iter().enumerate() {
        for other in entries[i + 1..].iter().filter(|other| one.route().conflicts(&other.route())) {
            errors.push(format!(
                "`{}` at {} and `{}` at {} answer the same requests, `{}`; change one of the routes",
                one.name,
                one.source,
                other.name,
                other.source,
                other.attributes.route.unwrap_or_default()
            ));
        }
    }
    errors
}
