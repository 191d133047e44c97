//! Key `o`: the app's first page in the user's browser.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::app::metadata::Metadata;
use crate::cli::output;

/// Program of the desktop that opens a URL.
const OPENER: &str = "xdg-open";

/// Returns the URL of the app's first page on a host at `base`: its shortest web route without parameters, else that of
/// the app.
pub(crate) fn page(metadata: &Metadata, base: &str) -> String {
    let routes = metadata.functions.iter().filter_map(|function| function.attributes.route.as_ref());
    let pages = routes.filter(|route| route.takes("GET") && !route.has_parameters()).map(|route| route.path());
    let path = pages.min_by_key(|path| path.len()).unwrap_or("/");
    format!("{base}/{}{path}", metadata.app.name)
}

/// Opens `url`, without waiting for the browser. Prints the URL if none can be started.
pub(crate) fn open(url: &str) {
    let mut command = command(std::env::var("BROWSER").ok().as_deref(), url);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its own process group, so that Ctrl-C here does not end the browser.
    command.process_group(0);
    let Ok(mut browser) = command.spawn() else { return no_browser(url) };
    let shown = url.to_owned();
    let waiting = std::thread::Builder::new().name("browser".into()).spawn(move || {
        // `xdg-open` ends once it has handed the URL over, and a browser that it started with the user's session.
        if browser.wait().is_ok_and(|status| !status.success()) {
            no_browser(&shown);
        }
    });
    match waiting {
        Ok(_) => output::note(&format!("opening {url}")),
        Err(error) => tracing::warn!(%error, "nobody waits for the browser"),
    }
}

fn no_browser(url: &str) {
    output::note(&format!("no browser could be started (set BROWSER, or install {OPENER}); the page is {url}"));
}

/// Returns the command that opens `url`: the first of `variable`, the value of BROWSER, a list of commands separated by
/// colons, with `%s` in the place of the URL.
fn command(variable: Option<&str>, url: &str) -> Command {
    let first = variable.and_then(|browsers| browsers.split(':').find(|browser| !browser.trim().is_empty()));
    let mut words = first.unwrap_or(OPENER).split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(OPENER));
    let mut has_url = false;
    for word in words {
        has_url |= word.contains("%s");
        command.arg(word.replace("%s", url));
    }
    if !has_url {
        command.arg(url);
    }
    command
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(variable: Option<&str>) -> String {
        let command = command(variable, "http://h/a");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_users_browser_comes_before_that_of_the_desktop() {
        assert_eq!(words(None), "xdg-open http://h/a");
        assert_eq!(words(Some("")), "xdg-open http://h/a");
        assert_eq!(words(Some("firefox --new-window:lynx")), "firefox --new-window http://h/a");
        assert_eq!(words(Some("open --url=%s -q")), "open --url=http://h/a -q");
    }

    #[test]
    fn the_first_page_is_the_shortest_route_that_needs_no_parameter() {
        let check = |routes: &[&str], expected: &str| {
            let functions = routes.iter().enumerate().map(|(n, route)| {
                json!({ "name": format!("f{n}"), "input": {}, "output": {}, "attributes": { "route": route } })
            });
            let metadata = json!({
                "format": crate::app::metadata::FORMAT, "app": { "name": "shop", "version": "0.1.0" },
                "functions": functions.collect::<Vec<_>>(),
            });
            let metadata: Metadata = serde_json::from_value(metadata).unwrap();
            assert_eq!(page(&metadata, "http://h"), expected, "{routes:?}");
        };
        check(&["GET /list", "GET /", "POST /new"], "http://h/shop/");
        check(&["GET /things/{id}", "GET /things", "GET /a/long/way"], "http://h/shop/things");
        check(&["POST /new"], "http://h/shop/");
        check(&[], "http://h/shop/");
    }
}
