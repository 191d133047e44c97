//! Ring of the latest events, bounded in bytes, with a share for each app: an app that makes many pushes out its own
//! older ones first.
//!
//! Numbers run on without a gap. Events that left before older ones of other apps stand as one empty place, so that a
//! client who reads past it learns of the loss.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::ids::AppName;

/// Bytes that a place takes besides its text.
const PLACE_BYTES: usize = 128;

/// Event as clients get it, or the place of events that have left.
pub(crate) struct Kept {
    /// Empty where events of several kinds have left.
    pub kind: &'static str,
    /// None of an event that concerns each app.
    pub app: Option<AppName>,
    /// Name in the stream.
    pub name: &'static str,
    /// Empty where the event has left.
    pub json: Arc<str>,
}

impl Kept {
    pub(crate) fn has_left(&self) -> bool {
        self.json.is_empty()
    }

    /// Takes in the place behind, of events that have left, too.
    fn merge(&mut self, behind: &Kept) {
        if self.kind != behind.kind {
            self.kind = "";
        }
        if self.app != behind.app {
            self.app = None;
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct EventRing {
    /// By the number of the first event of each.
    places: BTreeMap<u64, Kept>,
    /// Number of the next event.
    end: u64,
    /// Number of the first event that a client can go on from.
    first: u64,
    bytes: usize,
    shares: HashMap<Option<AppName>, Share>,
}

/// Events of one app that have not left.
#[derive(Default)]
struct Share {
    bytes: usize,
    /// Oldest first.
    numbers: VecDeque<u64>,
}

impl EventRing {
    /// Returns the number of the first place.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of the next event.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the place that has an event, and the number behind it.
    pub(crate) fn get(&self, number: u64) -> Option<(&Kept, u64)> {
        if number >= self.end {
            return None;
        }
        let (_, place) = self.places.range(..=number).next_back()?;
        let next = self.places.range(number + 1..).next().map_or(self.end, |(next, _)| *next);
        Some((place, next))
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event; events leave until `bytes_max` holds, those of the app with the most bytes first.
    pub(crate) fn push(&mut self, event: Kept, bytes_max: usize) {
        let bytes = event.json.len() + PLACE_BYTES;
        let share = self.shares.entry(event.app.clone()).or_default();
        share.bytes += bytes;
        share.numbers.push_back(self.end);
        self.bytes += bytes;
        self.places.insert(self.end, event);
        self.end += 1;
        while self.bytes > bytes_max && self.make_room() {}
    }

    /// Forgets all events; one number is skipped, so that no reader continues across the gap.
    pub(crate) fn clear(&mut self) {
        let end = self.end + 1;
        *self = Self { first: end, end, ..Self::default() };
    }

    /// Evicts the oldest event of the largest share. Returns false if the ring is empty.
    fn make_room(&mut self) -> bool {
        let largest = self.shares.iter_mut().max_by_key(|(_, share)| share.bytes);
        let Some((app, share)) = largest else { return false };
        let Some(number) = share.numbers.pop_front() else { return false };
        let Some(place) = self.places.get_mut(&number) else { return false };
        let text = std::mem::replace(&mut place.json, "".into()).len();
        share.bytes -= text + PLACE_BYTES;
        self.bytes -= text;
        if share.numbers.is_empty() {
            let app = app.clone();
            self.shares.remove(&app);
        }
        self.join(number);
        true
    }

    /// Makes one place of an event that has left and the empty places around it; at the front, none.
    fn join(&mut self, number: u64) {
        let mut number = number;
        if let Some((before, place)) = self.places.range(..number).next_back()
            && place.has_left()
        {
            number = *before;
        }
        while let Some((behind, _)) = self.places.range(number + 1..).next().filter(|(_, place)| place.has_left()) {
            let behind = *behind;
            let Some(merged) = self.places.remove(&behind) else { break };
            self.bytes -= PLACE_BYTES;
            if let Some(place) = self.places.get_mut(&number) {
                place.merge(&merged);
            }
        }
        if self.places.first_key_value().is_some_and(|(first, _)| *first == number) {
            self.places.remove(&number);
            self.bytes -= PLACE_BYTES;
            self.first = self.places.first_key_value().map_or(self.end, |(first, _)| *first);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(app: u8, len: usize) -> Kept {
        let app = (app > 0).then(|| AppName::new(&format!("app{app}")).unwrap());
        Kept { kind: "log", app, name: "log", json: "x".repeat(len).into() }
    }

    #[test]
    fn an_app_that_makes_many_events_pushes_out_its_own() {
        let mut ring = EventRing::default();
        ring.push(event(1, 10), 10_000);
        for number in 0..1_000_u16 {
            ring.push(event(2 + (number % 2) as u8, 900), 10_000);
        }
        assert_eq!((ring.first(), ring.end()), (0, 1_001));
        assert!(!ring.get(0).unwrap().0.has_left(), "the other app's event is there");
        let (gap, next) = ring.get(500).unwrap();
        assert!(gap.has_left() && gap.app.is_none() && next > 900, "one place for all that left");
        assert_eq!(ring.get(1).unwrap().1, next);
        assert!(!ring.get(1_000).unwrap().0.has_left());
    }

    proptest! {
        /// Whatever is pushed: the bound holds, the sums are those of the places, and no two empty places are adjacent.
        #[test]
        fn bytes_are_bounded_and_counted(events in proptest::collection::vec((0_u8..4, 1_usize..600), 1..300)) {
            let mut ring = EventRing::default();
            for (app, len) in events {
                ring.push(event(app, len), 4_000);
                prop_assert!(ring.bytes <= 4_000);
                let bytes = |kept: &Kept| kept.json.len() + PLACE_BYTES;
                prop_assert_eq!(ring.bytes, ring.places.values().map(bytes).sum::<usize>());
                let held: usize = ring.places.values().filter(|place| !place.has_left()).map(bytes).sum();
                prop_assert_eq!(held, ring.shares.values().map(|share| share.bytes).sum::<usize>());
                let left: Vec<bool> = ring.places.values().map(Kept::has_left).collect();
                prop_assert!(left.windows(2).all(|pair| pair != [true, true]));
                prop_assert!(left.first() != Some(&true));
                prop_assert_eq!(ring.places.first_key_value().map_or(ring.end, |(first, _)| *first), ring.first);
            }
        }
    }
}
