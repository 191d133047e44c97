//! One web function of an app: what the macro knows of it, and the way to run it.

use super::route::Route;
use super::{Request, Response};
use crate::entry::{App, Attributes};
use crate::host::{SERVE, Serve};
use crate::schemas::Schemas;

/// One web function. Its route stands in its attributes.
#[derive(Debug)]
pub struct Entry {
    pub app: App,
    pub name: &'static str,
    /// File and line, for a message about two of one name or route.
    pub source: &'static str,
    pub doc: &'static str,
    pub parameters: &'static [&'static str],
    pub attributes: Attributes,
    /// Takes the parameters out of a request, calls the function, makes its result an answer.
    pub run: fn(&mut Request) -> Response,
    pub schemas: fn() -> Schemas,
    pub server: Server,
}

/// What is done with all of them. Only web functions name it, so that an app without any carries none of it.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    pub serve: Serve,
    /// Says which of them answer the same requests.
    pub conflicts: fn(&[&'static Entry]) -> Vec<String>,
}

/// The one server that there is.
pub const SERVER: Server = Server { serve: SERVE, conflicts };

inventory::collect!(Entry);

impl Entry {
    pub(super) fn route(&self) -> Route<'static> {
        Route::read(self.attributes.route.unwrap_or_default())
    }
}

/// Every web function of the app, by name and then by place.
pub fn all() -> Vec<&'static Entry> {
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
