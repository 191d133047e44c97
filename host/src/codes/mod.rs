//! Error codes of commands and of the API, each with a page that explains it. Plain data, below everything.
//!
//! Every error carries a [`Code`], so none can lack an entry here. A released code keeps its meaning: programs match on
//! it.

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares the codes, by name, each with its page `pages/NAME.txt`.
macro_rules! codes {
    ($($variant:ident = $name:literal, exit $exit:literal $(, http $http:literal)?: $title:literal;)+) => {
        /// Stable name of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// Every code, by name.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            fn info(self) -> &'static CodeInfo {
                match self {
                    $(Self::$variant => {
                        const HTTP: &[u16] = &[$($http)?];
                        &CodeInfo {
                            name: $name,
                            title: $title,
                            exit_status: $exit,
                            http_statuses: HTTP,
                            page: include_str!(concat!("pages/", $name, ".txt")),
                        }
                    })+
                }
            }
        }
    };
}

struct CodeInfo {
    name: &'static str,
    title: &'static str,
    exit_status: u8,
    /// At most one.
    http_statuses: &'static [u16],
    page: &'static str,
}

codes! {
    AlreadyRunning = "already-running", exit 1, http 409: "the function is running already, and its schedule forbids overlap";
    AppStopped = "app-stopped", exit 1, http 409: "the app is stopped already";
    BadApp = "bad-app", exit 2, http 400: "the app asks for what this host does not give";
    BadComponent = "bad-component", exit 2, http 400: "the file is no component that this host can run";
    BadDocs = "bad-docs", exit 2: "the documentation given to the demo cannot be used";
    BadHost = "bad-host", exit 1, http 400: "the request's `host` header is missing or wrong";
    BadManifest = "bad-manifest", exit 2: "the app's bireme.toml cannot be used";
    BadMetadata = "bad-metadata", exit 2: "the component's description cannot be used";
    BadModel = "bad-model", exit 1: "a model's files are not what they should be";
    BadOutput = "bad-output", exit 1: "a function returned something of another shape than agreed";
    BadPath = "bad-path", exit 1, http 400: "the path of a request cannot be decoded";
    BadQuery = "bad-query", exit 2, http 400: "the query of a request cannot be read";
    BodyTimeout = "body-timeout", exit 1, http 408: "the request's body did not arrive in time";
    BodyUnreadable = "body-unreadable", exit 1, http 400: "the request's body broke off or is malformed";
    BuildFailed = "build-failed", exit 1: "the app could not be built from its source";
    Cancelled = "cancelled", exit 69, http 503: "the call was given up before it ended";
    CannotListen = "cannot-listen", exit 1: "the address to listen on is not available";
    CannotWatch = "cannot-watch", exit 1: "the app's directory cannot be watched";
    CompileLimit = "compile-limit", exit 1, http 422: "the component takes more time or memory to compile than it may";
    CompilerDied = "compiler-died", exit 1, http 500: "the compiler ended before its answer";
    Config = "config", exit 2, http 400: "a setting or a grant cannot be used";
    Crashed = "crashed", exit 1, http 502: "the function panicked or trapped";
    DepthExceeded = "depth-exceeded", exit 1, http 508: "calls within calls are nested too deep";
    DeviceLost = "device-lost", exit 1, http 502: "the inference worker died twice with this request";
    DiskFull = "disk-full", exit 69, http 507: "the disk has no room for what was to be kept";
    DiskQuota = "disk-quota", exit 69, http 507: "the app keeps as much on disk as it may";
    Failed = "failed", exit 1, http 500: "the function returned an error";
    ForeignHost = "foreign-host", exit 1, http 421: "the request is for a name that this host does not answer to";
    ForeignOrigin = "foreign-origin", exit 1, http 403: "a web page of another origin sent the request";
    InputDiffers = "input-differs", exit 2, http 409: "an input of a map was sent again as another one";
    InputGap = "input-gap", exit 1, http 409: "inputs of a map were sent out of order";
    InputTooLarge = "input-too-large", exit 2, http 413: "the input is over the function's limit";
    InputsUnreadable = "inputs-unreadable", exit 2: "the file of inputs cannot be read";
    Interrupted = "interrupted", exit 130: "Ctrl-C ended the command";
    InvalidInput = "invalid-input", exit 2, http 400: "the input does not fit the function's parameters";
    Io = "io", exit 1, http 500: "the operating system refused a file, a pipe or a connection";
    KeyReused = "key-reused", exit 2, http 422: "an idempotency key was used for another request";
    MapClosed = "map-closed", exit 1, http 409: "the map takes no more inputs";
    MapFailed = "map-failed", exit 1: "some inputs of a map failed";
    MapNotEnded = "map-not-ended", exit 1, http 409: "the map has not ended yet";
    MemoryLimit = "memory-limit", exit 1, http 502: "the function asked for more memory than its limit";
    MethodNotAllowed = "method-not-allowed", exit 1, http 405: "the path is there, the method is not";
    NoComponent = "no-component", exit 1: "the crate builds no component, or several";
    NoCrate = "no-crate", exit 2: "the directory holds no Cargo.toml";
    NoDevice = "no-device", exit 69: "the device that was asked for cannot be used";
    NoDocs = "no-docs", exit 1: "the demo found no documentation to index";
    NoHost = "no-host", exit 69: "no host answers at the address";
    NoModelSource = "no-model-source", exit 69: "no source of a model could be reached";
    NoPython = "no-python", exit 1: "the base component of Python is missing or unusable";
    NoRollback = "no-rollback", exit 1, http 409: "the app has no earlier version to go back to";
    NoSdk = "no-sdk", exit 1: "the app cannot find `bireme-sdk`";
    NoTarget = "no-target", exit 1: "Rust's target for guests is missing and could not be added";
    NotAccepted = "not-accepted", exit 1, http 409: "the version declares capabilities that were not accepted";
    NotForWasm = "not-for-wasm", exit 1: "a dependency does not build for WebAssembly";
    NotFound = "not-found", exit 4, http 404: "nothing is served at this path";
    NotScheduled = "not-scheduled", exit 4, http 404: "the function has no schedule";
    NothingToIndex = "nothing-to-index", exit 1: "the demo's pages hold no text";
    OutputTooLarge = "output-too-large", exit 1, http 502: "the function's output is over its limit";
    Overloaded = "overloaded", exit 69, http 503: "the host has no room for the call now";
    Sandbox = "sandbox", exit 1: "the WebAssembly engine cannot be set up";
    SearchFailed = "search-failed", exit 1: "the demo's question was answered with an error";
    Store = "store", exit 1, http 500: "the database cannot be opened, read or written";
    TakesNoDeployments = "takes-no-deployments", exit 1, http 409: "the host serves what it was started with";
    Terminal = "terminal", exit 1, http 500: "the function returned an error that no retry mends";
    TestsFailed = "tests-failed", exit 1: "the app's own tests failed";
    Timeout = "timeout", exit 5, http 504: "the deadline passed before the call ended";
    Toolchain = "toolchain", exit 1: "Rust, or what it needs, is missing or too old";
    Unauthorized = "unauthorized", exit 1, http 401: "the control API asks for the host's token";
    Unavailable = "unavailable", exit 69, http 503: "the host could not do its part of the call";
    UnknownApp = "unknown-app", exit 4, http 404: "no such app is at the path given, or on the host";
    UnknownCall = "unknown-call", exit 4, http 404: "the host keeps no call of that id";
    UnknownFunction = "unknown-function", exit 4, http 404: "the app has no function of that name";
    UnknownKey = "unknown-key", exit 4, http 404: "the bucket has no such key, or the app no such bucket";
    UnknownMap = "unknown-map", exit 4, http 404: "the host keeps no map of that id, or it has no such input";
    UnknownModel = "unknown-model", exit 4, http 404: "no model of that name is installed or known";
    UnknownVersion = "unknown-version", exit 4, http 404: "no kept version of the app has that name";
    UnsupportedMediaType = "unsupported-media-type", exit 1, http 415: "functions do not take bodies of this media type";
    Usage = "usage", exit 2: "the command line is not as it should be";
    WebFunction = "web-function", exit 2, http 404: "a web function is called by its route, not by its name";
}

impl Code {
    /// Returns the code's name in messages and documents.
    pub(crate) fn as_str(self) -> &'static str {
        self.info().name
    }

    /// Returns its meaning in one line, in lower case and without a full stop.
    pub(crate) fn title(self) -> &'static str {
        self.info().title
    }

    /// Returns the exit status of a command with this error.
    pub(crate) fn exit_status(self) -> u8 {
        self.info().exit_status
    }

    /// Returns the HTTP status, if the API uses this code.
    pub(crate) fn http_status(self) -> Option<u16> {
        self.info().http_statuses.first().copied()
    }

    /// Returns the page: meaning, causes, remedies.
    pub(crate) fn page(self) -> &'static str {
        self.info().page
    }

    /// Returns the code `name`.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Whether the page adds to the message and its hint.
    pub(crate) fn has_more_to_say(self) -> bool {
        // The first two are the function's own words; the others explain themselves.
        !matches!(self, Self::Failed | Self::Terminal | Self::Interrupted | Self::MapFailed | Self::Usage)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_each_name_stands_once() {
        let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert_eq!(Code::find(name).unwrap().as_str(), name);
        }
        assert_eq!(Code::find("no-such-code"), None);
    }

    #[test]
    fn every_page_is_of_five_to_twenty_lines_that_fit_a_terminal() {
        for code in Code::ALL {
            let lines: Vec<&str> = code.page().lines().collect();
            assert!((5..=20).contains(&lines.len()), "{code} has {} lines", lines.len());
            for line in lines {
                assert!(line.chars().count() <= 100 && line.trim_end() == line, "{code}: {line:?}");
            }
            assert!(!code.title().is_empty() && !code.title().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn every_page_belongs_to_a_code() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/codes/pages");
        for entry in std::fs::read_dir(pages).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(Code::find(name).is_some(), "{} explains no code", path.display());
        }
    }

    #[test]
    fn statuses_are_those_of_errors() {
        for code in Code::ALL {
            assert!([1, 2, 4, 5, 69, 130].contains(&code.exit_status()), "{code}");
            assert!(code.http_status().is_none_or(|status| (400..600).contains(&status)), "{code}");
        }
    }
}
