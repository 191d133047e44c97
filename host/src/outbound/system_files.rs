//! Files of the system that look-ups of names and TLS read while a host runs: the machine's own set-up of names, and
//! the certificates that it trusts.

use std::fs;
use std::path::{Path, PathBuf};

/// Name servers of the machine.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Files of the C library's resolver.
const RESOLVER: [&str; 6] =
    ["/etc/hosts", RESOLV_CONF, "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/services"];
/// Directories of libraries, and those that a C library before 2.34 loads for `files` and `dns`.
const LIBRARY_DIRS: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];
const LIBRARIES: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];
const LOADER: [&str; 2] = ["/etc/ld.so.cache", "/etc/ld.so.preload"];
/// Places of certificates, by distribution. Links among them lead to the others.
const CERTIFICATES: [&str; 11] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
];
/// Variables that name others.
const CERTIFICATE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Returns the files and directories; those that a machine lacks are among them.
pub(crate) fn system_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = RESOLVER.iter().chain(&LOADER).chain(&CERTIFICATES).map(PathBuf::from).collect();
    files.extend(LIBRARY_DIRS.iter().flat_map(|dir| LIBRARIES.iter().map(move |name| Path::new(dir).join(name))));
    files.extend(
        CERTIFICATE_VARIABLES
            .iter()
            .filter_map(std::env::var_os)
            .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()),
    );
    // Written anew and put in its place whenever the network changes, so that a right to the file alone would be lost.
    files.extend(fs::canonicalize(RESOLV_CONF).ok().as_deref().and_then(Path::parent).and_then(beyond_etc));
    files
}

/// Returns a directory unless it is that of all settings of the machine.
fn beyond_etc(dir: &Path) -> Option<PathBuf> {
    (dir != Path::new("/etc")).then(|| dir.to_owned())
}
