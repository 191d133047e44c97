//! Answers in memory: charged to the budget of the app that they belong to, until the client has read them.
//!
//! Invariant: a whole body is charged before its first byte is sent, or the client gets 503 instead; so clients that do
//! not read use up the share of one app, never the memory of the host.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::problem::Problem;
use super::respond::{BodyError, ResponseBody};
use crate::budgets::{ByteBudget, Holder, Reservation};
use crate::codes::Code;
use crate::ids::AppName;

/// Bytes of a body that fit the buffer of its connection, which is counted for every connection.
const BUFFERED_BYTES: u64 = 16 << 10;

/// Bytes with the reservation that covers them.
struct Charged {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Marks a response as an app's, where its path does not name the app.
pub(crate) fn held_by(app: &AppName, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.extensions_mut().insert(Holder::from(app));
    response
}

/// Charges the body of a response to `holder`. The parts of a stream are charged as they are sent: back-pressure bounds
/// them.
pub(crate) fn charge(budget: &ByteBudget, holder: Holder, response: Response<ResponseBody>) -> Response<ResponseBody> {
    let mut reservation = budget.reservation(holder);
    let charge = match response.body().size_hint().exact() {
        Some(bytes) if bytes <= BUFFERED_BYTES => return response,
        Some(bytes) if !reservation.try_set(bytes) => return no_room(bytes).into_response(),
        Some(_) => Charge::Whole(Some(reservation)),
        None => Charge::Parts(reservation),
    };
    response.map(|body| ChargedBody { body, charge }.boxed_unsync())
}

/// Problem of an answer for which there is no memory.
pub(crate) fn no_room(bytes: u64) -> Problem {
    let detail = format!(
        "an answer of {bytes} bytes has no room: running calls and answers that clients have not read use up this app's \
         part of the host's memory; try again later, or raise `--memory-max`"
    );
    Problem::new(Code::Overloaded, detail)
}

/// A body whose bytes hold their reservations.
struct ChargedBody {
    body: ResponseBody,
    charge: Charge,
}

enum Charge {
    /// Reservation of a whole body, which is one frame.
    Whole(Option<Reservation>),
    /// Reservation of nothing, by which each part of a stream is charged.
    Parts(Reservation),
}

impl Charge {
    fn apply(&mut self, bytes: Bytes) -> Bytes {
        match self {
            Self::Whole(reservation) => match reservation.take() {
                Some(reservation) => charged(bytes, reservation),
                None => bytes,
            },
            Self::Parts(_) if bytes.len() as u64 <= BUFFERED_BYTES => bytes,
            Self::Parts(none) => {
                let mut reservation = none.another();
                reservation.set(bytes.len() as u64);
                charged(bytes, reservation)
            }
        }
    }
}

impl Body for ChargedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.charge.apply(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns bytes that hold their reservation: the server keeps them until it has written them, longer than the body.
pub(crate) fn charged(bytes: Bytes, reservation: Reservation) -> Bytes {
    Bytes::from_owner(Charged { bytes, _reservation: reservation })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::super::respond::{full_body, json_lines_stream};
    use super::*;
    use crate::budgets::HolderCount;

    fn answer(budget: &ByteBudget, bytes: usize) -> Response<ResponseBody> {
        charge(budget, Holder::Host, Response::new(full_body(vec![0; bytes])))
    }

    #[tokio::test]
    async fn an_answer_is_charged_until_its_bytes_are_dropped() {
        let budget = ByteBudget::new(100_000, HolderCount::single());
        let small = answer(&budget, 16 << 10);
        assert_eq!(budget.used(), 0);
        drop(small);
        let mut large = answer(&budget, 60_000);
        assert_eq!(large.body().size_hint().exact(), Some(60_000));
        let refused = answer(&budget, 60_000);
        assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        let bytes = large.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        drop(large);
        assert_eq!((bytes.len(), budget.used()), (60_000, 60_000));
        drop(bytes);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn the_parts_of_a_stream_are_charged_as_they_are_sent() {
        let budget = ByteBudget::new(1, HolderCount::single());
        let parts = [10, 50_000].map(|len| Bytes::from(vec![0; len]));
        let mut answer = charge(&budget, Holder::Host, json_lines_stream(stream::iter(parts)));
        let mut used = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let part = frame.unwrap().into_data().unwrap();
            used.push((part.len(), budget.used()));
        }
        assert_eq!((used, budget.used()), (vec![(10, 0), (50_000, 50_000)], 0));
    }
}
