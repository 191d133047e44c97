//! Bodies: those of responses, whole or a stream; those of requests, read whole within bounds.
//!
//! Invariants: a request's bytes take room of one host-wide budget as they arrive, whatever length was announced; a
//! body that stops moving, or is slower than the minimum rate, ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use crate::codes::Code;
use crate::limits;

/// Bytes of room that a body takes at a time.
const ROOM_STEP_BYTES: usize = 64 << 10;

/// Why a body ends before its end; the connection is closed for it.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What a response carries.
pub type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The request bodies that the host holds, all connections together.
pub struct RequestBodies {
    /// Bytes that they may still take.
    room: Arc<Semaphore>,
}

/// A body that was read, and its room for as long as it is held.
pub struct Held {
    pub bytes: Bytes,
    _room: Room,
}

impl RequestBodies {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(limits::HTTP_BODIES_BYTES_MAX)) }
    }

    /// Room for one body; it has none yet.
    pub fn room(&self) -> Room {
        Room { free: self.room.clone(), permit: None, used: 0 }
    }

    /// Reads a body of at most `bytes_max`, which is `whose` limit, within the host's patience.
    pub async fn read(&self, request: Request<Incoming>, bytes_max: u64, whose: &str) -> Result<Held, Problem> {
        refuse_encoding(request.headers())?;
        let too_large = || {
            let detail = format!("the body is over {whose} of {bytes_max} bytes");
            Problem::new(Code::InputTooLarge, detail)
        };
        // Refused by its length before a byte is read.
        if content_length(request.headers()).is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        self.collect(request.into_body(), bytes_max, too_large).await
    }

    async fn collect<B>(&self, mut body: B, bytes_max: u64, too_large: impl Fn() -> Problem) -> Result<Held, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error,
    {
        let mut room = self.room();
        let mut pace = Pace::begin();
        // One part is passed on as it is; several are copied together.
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(part) = pace.next(&mut body).await? {
            if (room.used + part.len()) as u64 > bytes_max {
                return Err(too_large());
            }
            room.take(part.len())?;
            if first.is_empty() {
                first = part;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&part);
            }
        }
        room.trim();
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Held { bytes, _room: room })
    }
}

/// Room that one body has taken of the host's budget; given back when dropped.
pub struct Room {
    free: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    used: usize,
}

impl Room {
    /// Takes room for bytes that have arrived, or refuses them.
    pub fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let used = self.used + bytes;
        if let Some(missing) = used.checked_sub(has).filter(|missing| *missing > 0) {
            let step = u32::try_from(missing.max(ROOM_STEP_BYTES)).unwrap_or(u32::MAX);
            let more = self.free.clone().try_acquire_many_owned(step).map_err(|_| {
                let detail = "the host holds as many bytes of request bodies as it may; try again later";
                Problem::new(Code::Overloaded, detail)
            })?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        }
        self.used = used;
        Ok(())
    }

    /// Gives the room of bytes back that are not held any more.
    pub fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        self.trim();
    }

    /// Gives back what was taken and not used.
    fn trim(&mut self) {
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(self.used)));
        }
    }
}

/// The time that a body may still be waited for. Waiting uses it up, arriving bytes earn it back at the minimum rate,
/// up to
/// `HTTP_BODY_TIMEOUT`: a fast beginning buys no slow end.
pub struct Pace {
    allowance: Duration,
}

impl Pace {
    pub fn begin() -> Self {
        Self { allowance: limits::HTTP_BODY_TIMEOUT }
    }

    /// Returns how long the next part may take, and the problem of a body that takes longer.
    fn patience(&self) -> (Duration, fn() -> Problem) {
        let stall = limits::HTTP_BODY_STALL_TIMEOUT;
        if stall <= self.allowance { (stall, stalled) } else { (self.allowance, too_slow) }
    }

    fn arrived(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / limits::HTTP_BODY_BYTES_PER_SECOND_MIN as f64);
        self.allowance = (self.allowance.saturating_sub(waited) + earned).min(limits::HTTP_BODY_TIMEOUT);
    }

    /// Waits for the next part that is not empty; `None` at the body's end.
    pub async fn next<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error,
    {
        let began = Instant::now();
        let (patience, late) = self.patience();
        loop {
            let Ok(frame) = timeout_at(began + patience, body.frame()).await else { return Err(late()) };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(unreadable(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) if !part.is_empty() => {
                        self.arrived(began.elapsed(), part.len());
                        return Ok(Some(part));
                    }
                    // Empty parts are no progress, and trailers are not looked at.
                    _ => {}
                },
            }
        }
    }
}

/// A body of which nothing came for a while.
pub fn stalled() -> Problem {
    let detail = format!("nothing of the body came for {:?}", limits::HTTP_BODY_STALL_TIMEOUT);
    Problem::new(Code::BodyTimeout, detail)
}

fn too_slow() -> Problem {
    let (rate, window) = (limits::HTTP_BODY_BYTES_PER_SECOND_MIN, limits::HTTP_BODY_TIMEOUT);
    Problem::new(Code::BodyTimeout, format!("the body came slower than {rate} bytes per second for {window:?}"))
}

/// A body that broke off, or breaks HTTP's rules.
pub fn unreadable(error: &dyn Error) -> Problem {
    Problem::new(Code::BodyUnreadable, format!("the body could not be read: {error}"))
}

/// Refuses compressed bodies: the host passes bytes on as they are.
pub fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let is_plain = |value: &header::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    match headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !is_plain(value)) {
        None => Ok(()),
        Some(encoding) => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let detail = format!("compressed bodies are not taken; send it without `content-encoding: {encoding}`");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// The length that a request's head gives its body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    fn parts(lens: &[usize]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin + use<> {
        let frames: Vec<_> = lens.iter().map(|len| Ok(Frame::data(Bytes::from(vec![b'x'; *len])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn read(bodies: &RequestBodies, lens: &[usize]) -> Result<Held, Code> {
        let too_large = || Problem::new(Code::InputTooLarge, "");
        bodies.collect(parts(lens), 8 << 20, too_large).await.map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn a_body_takes_the_room_of_its_bytes_and_gives_it_back() {
        let bodies = RequestBodies::new();
        let taken = |bodies: &RequestBodies| limits::HTTP_BODIES_BYTES_MAX - bodies.room.available_permits();
        let held = read(&bodies, &[10, 0, 100_000]).await.unwrap_or_else(|code| panic!("{code}"));
        assert_eq!((held.bytes.len(), taken(&bodies)), (100_010, 100_010));
        let one = read(&bodies, &[5]).await.unwrap_or_else(|code| panic!("{code}"));
        assert_eq!(taken(&bodies), 100_015);
        drop((held, one));
        assert_eq!(taken(&bodies), 0);
        assert_eq!(read(&bodies, &[4 << 20, 4 << 20, 1]).await.err(), Some(Code::InputTooLarge));
        assert_eq!(taken(&bodies), 0);
    }

    #[test]
    fn a_body_must_go_on_moving_and_keep_a_rate() {
        /// Returns the problem that a body meets which brings so many bytes after each of these waits, in seconds.
        fn check(parts: impl IntoIterator<Item = (u64, usize)>) -> Option<String> {
            let mut pace = Pace::begin();
            for (wait_s, bytes) in parts {
                let (patience, late) = pace.patience();
                let waited = Duration::from_secs(wait_s);
                if waited > patience {
                    return Some(late().detail);
                }
                pace.arrived(waited, bytes);
            }
            None
        }
        let rate = limits::HTTP_BODY_BYTES_PER_SECOND_MIN as usize;
        assert!(check([(11, 1)]).is_some_and(|detail| detail.contains("nothing of the body came")));
        assert_eq!(check([(9, 1), (9, 1), (9, 1)]), None);
        assert!(check([(9, 1); 4]).is_some_and(|detail| detail.contains("slower")));
        assert_eq!(check([(9, 9 * rate); 1_000]), None);
        // A fast beginning buys no slow end.
        let fast = [(0, 1_000 * rate)].into_iter().chain([(9, 1); 4]);
        assert!(check(fast).is_some_and(|detail| detail.contains("slower")));
    }

    #[test]
    fn room_that_others_hold_is_refused() {
        let bodies = RequestBodies::new();
        let (mut most, mut other) = (bodies.room(), bodies.room());
        most.take(limits::HTTP_BODIES_BYTES_MAX - 1).unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(other.take(1).map_err(|problem| problem.code), Err(Code::Overloaded));
        most.give_back(1 << 20);
        assert!(other.take(1).is_ok());
    }

    #[test]
    fn compressed_bodies_are_refused_by_name() {
        let check = |encoding: &'static str| {
            let headers = [(header::CONTENT_ENCODING, header::HeaderValue::from_static(encoding))];
            refuse_encoding(&headers.into_iter().collect()).map_err(|problem| problem.detail)
        };
        assert!(check("identity").is_ok() && check("Identity").is_ok());
        assert!(check("gzip").is_err_and(|detail| detail.contains(": gzip`")));
    }
}
