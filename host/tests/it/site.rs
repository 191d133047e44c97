//! A site on loopback that answers as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::PATIENCE;

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What comes back.
pub(crate) struct Told {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Told {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The site; it goes when dropped. Each request has a connection and a thread of its own.
pub(crate) struct Site {
    pub origin: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_closed: AtomicBool,
    requests: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
}

impl Site {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let (of_thread, answer) = (shared.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, answer) = (of_thread.clone(), answer.clone());
                std::thread::spawn(move || shared.serve(&stream.unwrap(), &*answer));
            }
        });
        Self { origin, shared }
    }

    /// Returns the grant that lets a function with `$site` come here.
    pub(crate) fn grant(&self) -> String {
        format!("site={}", self.origin)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Returns the most requests that were open at a time.
    pub(crate) fn open_max(&self) -> usize {
        self.shared.open_max.load(Ordering::SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        let _ = TcpStream::connect(self.origin.trim_start_matches("http://"));
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream, answer: &dyn Fn(&Asked) -> Told) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Some(asked) = read(stream) else { return };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_max.fetch_max(open, Ordering::SeqCst);
        let told = answer(&asked);
        self.open.fetch_sub(1, Ordering::SeqCst);
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", told.status);
        head += &format!("content-length: {}\r\n", told.body.len());
        for (name, value) in &told.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // Whoever asked may be gone.
        let mut stream = stream;
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        if asked.method != "HEAD" {
            let _ = stream.write_all(&told.body);
        }
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let mut asked = Asked { method: words.next()?.into(), target: words.next()?.into(), ..Asked::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some(length) = asked.header("content-length").and_then(|length| length.parse().ok()) {
        asked.body = vec![0; length];
        reader.read_exact(&mut asked.body).ok()?;
    } else if asked.header("transfer-encoding").is_some() {
        asked.body = read_chunks(&mut reader)?;
    }
    Some(asked)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        reader.read_line(&mut line).ok()?;
        if length == 0 {
            return Some(body);
        }
    }
}
