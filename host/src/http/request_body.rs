//! Request bodies, read whole within bounds of bytes and time.
//!
//! Invariants: bytes are charged to one host-wide budget as they arrive, not by the declared length, each app within
//! its share; a body that stalls, or is slower than the minimum data rate, ends with 408.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::headers::{content_length, refuse_encoding};
use super::problem::Problem;
use crate::budgets::{self, ByteBudget, Holder};
use crate::codes::Code;
use crate::limits;

/// Bytes by which a reservation grows.
const RESERVATION_STEP_BYTES: u64 = 64 << 10;

/// Memory budget of request bodies, shared by all connections.
pub(crate) struct RequestBodies {
    budget: ByteBudget,
}

/// A body in memory, charged to the budget until it is dropped.
pub(crate) struct BufferedBody {
    pub bytes: Bytes,
    _reservation: Reservation,
}

impl RequestBodies {
    pub(crate) fn new(budget: ByteBudget) -> Self {
        Self { budget }
    }

    /// Returns the bytes that are charged now.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Returns an empty reservation for one body.
    pub(crate) fn reserve(&self, holder: impl Into<Holder>) -> Reservation {
        Reservation { reserved: self.budget.reservation(holder.into()), used: 0 }
    }

    /// Reads a body of at most `bytes_max`; `whose` names that limit in the error.
    pub(crate) async fn read(
        &self,
        holder: impl Into<Holder>,
        request: Request<Incoming>,
        bytes_max: u64,
        whose: &str,
    ) -> Result<BufferedBody, Problem> {
        refuse_encoding(request.headers())?;
        let too_large = || {
            let detail = format!("the body is over {whose} of {bytes_max} bytes");
            Problem::new(Code::InputTooLarge, detail)
        };
        // A declared length is refused before a byte is read.
        if content_length(request.headers()).is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        self.collect(self.reserve(holder), request.into_body(), bytes_max, too_large).await
    }

    async fn collect<B>(
        &self,
        mut reservation: Reservation,
        mut body: B,
        bytes_max: u64,
        too_large: impl Fn() -> Problem,
    ) -> Result<BufferedBody, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error,
    {
        let mut rate = MinDataRate::begin();
        // One part is passed on as it is; several are copied together.
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(part) = rate.next(&mut body).await? {
            if reservation.used + part.len() as u64 > bytes_max {
                return Err(too_large());
            }
            reservation.grow(part.len())?;
            if first.is_empty() {
                first = part;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&part);
            }
        }
        reservation.trim();
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(BufferedBody { bytes, _reservation: reservation })
    }
}

/// Bytes of the budget that one body is charged; returned when dropped.
pub(crate) struct Reservation {
    reserved: budgets::Reservation,
    used: u64,
}

impl Reservation {
    /// Charges bytes that have arrived; fails where the budget is used up.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let used = self.used + bytes as u64;
        let ahead = used.max(self.reserved.bytes() + RESERVATION_STEP_BYTES);
        if used > self.reserved.bytes() && !self.reserved.try_set(ahead) {
            let detail =
                "the request bodies in memory have used up their budget, or this app's share of it; try again later";
            return Err(Problem::new(Code::Overloaded, detail));
        }
        self.used = used;
        Ok(())
    }

    /// Returns bytes that are no longer in memory.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes as u64);
        self.trim();
    }

    /// Gives back the bytes reserved ahead of use.
    fn trim(&mut self) {
        self.reserved.set(self.used);
    }
}

/// Minimum data rate of a body: waiting uses an allowance up, arriving bytes earn it back, up to `HTTP_BODY_TIMEOUT`.
/// So a fast beginning buys no slow end.
pub(crate) struct MinDataRate {
    allowance: Duration,
}

impl MinDataRate {
    pub(crate) fn begin() -> Self {
        Self { allowance: limits::HTTP_BODY_TIMEOUT }
    }

    /// Returns the timeout of the next part, and the problem of a body that exceeds it.
    fn timeout(&self) -> (Duration, fn() -> Problem) {
        let stall = limits::HTTP_BODY_STALL_TIMEOUT;
        if stall <= self.allowance { (stall, stalled) } else { (self.allowance, too_slow) }
    }

    fn record(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / limits::HTTP_BODY_BYTES_PER_SECOND_MIN as f64);
        self.allowance = (self.allowance.saturating_sub(waited) + earned).min(limits::HTTP_BODY_TIMEOUT);
    }

    /// Waits for the next nonempty part; `None` at the body's end.
    pub(crate) async fn next<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error,
    {
        let began = Instant::now();
        let (timeout, late) = self.timeout();
        loop {
            let Ok(frame) = timeout_at(began + timeout, body.frame()).await else { return Err(late()) };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(unreadable(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) if !part.is_empty() => {
                        self.record(began.elapsed(), part.len());
                        return Ok(Some(part));
                    }
                    // Empty parts are no progress; trailers are ignored.
                    _ => {}
                },
            }
        }
    }
}

/// A body that made no progress for `HTTP_BODY_STALL_TIMEOUT`.
pub(crate) fn stalled() -> Problem {
    let detail = format!("nothing of the body came for {:?}", limits::HTTP_BODY_STALL_TIMEOUT);
    Problem::new(Code::BodyTimeout, detail)
}

fn too_slow() -> Problem {
    let (rate, window) = (limits::HTTP_BODY_BYTES_PER_SECOND_MIN, limits::HTTP_BODY_TIMEOUT);
    Problem::new(Code::BodyTimeout, format!("the body came slower than {rate} bytes per second for {window:?}"))
}

/// A body that was cut off, or is malformed.
pub(crate) fn unreadable(error: &dyn Error) -> Problem {
    Problem::new(Code::BodyUnreadable, format!("the body could not be read: {error}"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::budgets::HolderCount;

    fn parts(lens: &[usize]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin + use<> {
        let frames: Vec<_> = lens.iter().map(|len| Ok(Frame::data(Bytes::from(vec![b'x'; *len])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    fn bodies() -> RequestBodies {
        RequestBodies::new(ByteBudget::new(limits::HTTP_BODIES_BYTES_MAX, HolderCount::single()))
    }

    async fn read(bodies: &RequestBodies, lens: &[usize]) -> Result<BufferedBody, Code> {
        let too_large = || Problem::new(Code::InputTooLarge, "");
        bodies
            .collect(bodies.reserve(Holder::Host), parts(lens), 8 << 20, too_large)
            .await
            .map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn a_body_is_charged_for_its_bytes_until_it_is_dropped() {
        let bodies = bodies();
        let taken = RequestBodies::held_bytes;
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
    fn a_body_must_make_progress_and_keep_the_minimum_rate() {
        /// Returns the problem of a body with these waits in seconds, and bytes after each.
        fn check(parts: impl IntoIterator<Item = (u64, usize)>) -> Option<String> {
            let mut rate = MinDataRate::begin();
            for (wait_s, bytes) in parts {
                let (timeout, late) = rate.timeout();
                let waited = Duration::from_secs(wait_s);
                if waited > timeout {
                    return Some(late().detail);
                }
                rate.record(waited, bytes);
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
    fn bytes_over_the_budget_are_refused() {
        let bodies = bodies();
        let (mut most, mut other) = (bodies.reserve(Holder::Host), bodies.reserve(Holder::Host));
        most.grow(limits::HTTP_BODIES_BYTES_MAX as usize - 1).unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(other.grow(1).map_err(|problem| problem.code), Err(Code::Overloaded));
        most.shrink(1 << 20);
        assert!(other.grow(1).is_ok());
    }
}
