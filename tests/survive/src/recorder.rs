//! A server that the guests tell each attempt to, so that executions are counted where nobody forgets them. It
//! outlives every host.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time that `/slow` takes.
const SLOW: Duration = Duration::from_secs(60);

/// Attempts by call.
pub(crate) type Executions = HashMap<String, u64>;

pub(crate) struct Recorder {
    pub url: String,
    executions: Arc<Mutex<Executions>>,
}

impl Recorder {
    /// Listens on a free port, until the process ends.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let executions = Arc::new(Mutex::new(Executions::new()));
        let recorder = Self { url, executions: executions.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let executions = executions.clone();
                // One that ends in the middle of a request is a guest that was killed.
                std::thread::spawn(move || drop(serve(stream, &executions)));
            }
        });
        Ok(recorder)
    }

    pub(crate) fn executions(&self) -> Executions {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, executions: &Mutex<Executions>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut path = None;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
        }
        match path.unwrap_or_default().split('/').collect::<Vec<_>>().as_slice() {
            ["", "ran", call] => {
                let mut executions = executions.lock().unwrap_or_else(PoisonError::into_inner);
                *executions.entry((*call).to_owned()).or_default() += 1;
            }
            // Until the time is over or whoever asked is gone.
            _ => {
                stream.get_ref().set_read_timeout(Some(SLOW))?;
                if stream.read(&mut [0])? == 0 {
                    return Ok(());
                }
            }
        }
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
