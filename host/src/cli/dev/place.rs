//! Data directory and port of a dev session beside another host: of its own where that one has the usual ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::cli::exit::Exit;
use crate::cli::log::StderrLog;
use crate::cli::{listen, output};
use crate::config::Config;
use crate::http::Ingress;
use crate::logs::Level;
use crate::server::{Host, ListenSettings, OpenError, OpenHost};

/// Directory of the sessions' data directories, within that of the install.
const SESSIONS: &str = "dev";
/// Sessions beside one host.
const SESSIONS_MAX: u32 = 16;
/// Usual address, and the number of ports that are tried from it on.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const PORTS_MAX: u16 = 32;

/// Opens a host in the configured data directory. Where another host has it, takes the first free directory of a
/// session, with everything but the data (models, SDK, compiled dependencies) still shared.
pub(crate) async fn open(config: Config, settings: impl Fn() -> ListenSettings) -> Result<OpenHost, Exit> {
    let in_use = match open_in(config.clone(), settings()).await? {
        Ok(open) => return Ok(open),
        Err(in_use) => in_use,
    };
    let sessions = config.directories.data.join(SESSIONS);
    for number in 1..=SESSIONS_MAX {
        let mut config = config.clone();
        config.directories.data = sessions.join(number.to_string());
        let data = config.directories.data.clone();
        if let Ok(open) = open_in(config, settings()).await? {
            announce(&in_use, &data);
            return Ok(open);
        }
    }
    let hint = format!("{SESSIONS_MAX} sessions run beside it; end one, or give this one `--data DIR`");
    Err(in_use.hint(hint))
}

/// Returns the error in the inner result if another host has the directory.
async fn open_in(config: Config, settings: ListenSettings) -> Result<Result<OpenHost, Exit>, Exit> {
    let host = Host::build(config, StderrLog::of_server(Level::Info))?;
    match host.open(settings).await {
        Ok(open) => Ok(Ok(open)),
        Err(error @ OpenError::InUse(_)) => Ok(Err(error.into())),
        Err(error) => Err(error.into()),
    }
}

fn announce(in_use: &Exit, data: &Path) {
    output::note(&format!("{}; this session keeps its data in `{}`", in_use.message, data.display()));
}

/// Binds the address that was asked for, else the usual one or the next free port.
pub(crate) async fn bind(listen: Option<SocketAddr>) -> Result<Ingress, Exit> {
    let Some(address) = listen else {
        let ingress = listen::bind_from(ADDRESS, PORTS_MAX).await?;
        let port = ingress.address().port();
        if port != ADDRESS.port() {
            output::note(&format!("port {} is taken; this session listens on port {port}", ADDRESS.port()));
        }
        return Ok(ingress);
    };
    listen::bind(address).await
}
