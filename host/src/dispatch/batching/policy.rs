//! Batching policy: the time at which inputs leave as a group, and the retry of a failed group. A plain decider.
//!
//! Invariants: an input is in exactly one group; a group never holds more than its function's `max_size`, nor more
//! bytes than the bound unless it is one input; it leaves at `wait` after its first input at the latest; inputs of
//! one key leave in the order in which they came. The driver is `groups`.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use crate::call::FailureCode;
use crate::limits::GroupLimits;

/// An input that waits, or waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MemberId(pub u64);

/// A group, from its first input on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupId(pub u64);

/// A group that leaves, with its inputs in the order in which they came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    pub group: GroupId,
    pub members: Vec<MemberId>,
}

/// What follows from one more input.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The group that it is the first of, and when that leaves at the latest.
    pub opened: Option<(GroupId, Instant)>,
    /// Groups that leave now: the one before, if there was no room in it for its bytes, and its own, if that is whole.
    pub departed: Vec<Departure>,
}

/// What follows from an input that leaves before its group does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its group has left, or it never was.
    TooLate,
    OthersWait,
    /// It was the last of its group, which is no more.
    Emptied(GroupId),
}

struct Forming {
    id: GroupId,
    due: Instant,
    members: Vec<(MemberId, u64)>,
    bytes: u64,
}

impl Forming {
    fn depart(self) -> Departure {
        Departure { group: self.id, members: self.members.into_iter().map(|(member, _)| member).collect() }
    }
}

/// The groups that form, at most one for each key.
pub(crate) struct Grouping<K> {
    forming: HashMap<K, Forming>,
    keys: HashMap<GroupId, K>,
    groups: HashMap<MemberId, GroupId>,
    groups_opened: u64,
}

impl<K> Default for Grouping<K> {
    fn default() -> Self {
        Self { forming: HashMap::new(), keys: HashMap::new(), groups: HashMap::new(), groups_opened: 0 }
    }
}

impl<K: Clone + Eq + Hash> Grouping<K> {
    /// Takes an input of `bytes` into the group that forms under its key, or into a new one.
    pub(crate) fn join(
        &mut self,
        key: K,
        member: MemberId,
        bytes: u64,
        limits: &GroupLimits,
        bytes_max: u64,
        now: Instant,
    ) -> Joined {
        let mut joined = Joined::default();
        if self.forming.get(&key).is_some_and(|forming| forming.bytes + bytes > bytes_max) {
            joined.departed.extend(self.depart(&key));
        }
        let forming = self.forming.entry(key.clone()).or_insert_with(|| {
            let (id, due) = (GroupId(self.groups_opened), now + limits.wait);
            self.groups_opened += 1;
            self.keys.insert(id, key.clone());
            joined.opened = Some((id, due));
            Forming { id, due, members: Vec::new(), bytes: 0 }
        });
        forming.members.push((member, bytes));
        forming.bytes += bytes;
        self.groups.insert(member, forming.id);
        if forming.members.len() >= limits.size_max || forming.bytes >= bytes_max || now >= forming.due {
            joined.departed.extend(self.depart(&key));
        }
        joined
    }

    /// Takes an input out again.
    pub(crate) fn leave(&mut self, member: MemberId) -> Left {
        let Some(group) = self.groups.remove(&member) else { return Left::TooLate };
        let key = &self.keys[&group];
        let forming = self.forming.get_mut(key).expect("a group forms as long as it has a key");
        if let Some(position) = forming.members.iter().position(|(other, _)| *other == member) {
            forming.bytes -= forming.members.remove(position).1;
        }
        if !forming.members.is_empty() {
            return Left::OthersWait;
        }
        self.forming.remove(key);
        self.keys.remove(&group);
        Left::Emptied(group)
    }

    /// Lets a group leave whose time has come. None: it has left already, or is not due.
    pub(crate) fn expire(&mut self, group: GroupId, now: Instant) -> Option<Departure> {
        let key = self.keys.get(&group)?.clone();
        if self.forming[&key].due > now {
            return None;
        }
        self.depart(&key)
    }

    /// Inputs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.groups.len()
    }

    fn depart(&mut self, key: &K) -> Option<Departure> {
        let forming = self.forming.remove(key)?;
        self.keys.remove(&forming.id);
        for (member, _) in &forming.members {
            self.groups.remove(member);
        }
        Some(forming.depart())
    }
}

/// What a group does whose run failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// All of it has failed.
    Fail,
    /// It runs again in two halves.
    Halves,
    /// Each input runs by itself.
    Singles,
}

/// Decides what a group of `len` does after `code`, so that an input that makes others fail fails alone. What no
/// other run can mend ends it, and so does what has nothing to do with its inputs.
pub(crate) fn after_failure(code: FailureCode, len: usize) -> Next {
    match code {
        _ if len < 2 => Next::Fail,
        FailureCode::Failed | FailureCode::Crashed | FailureCode::MemoryLimit | FailureCode::OutputTooLarge => {
            Next::Halves
        }
        // Halves would let the one that hangs take its time again and again.
        FailureCode::Timeout => Next::Singles,
        _ => Next::Fail,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_millis(10);
    const BYTES_MAX: u64 = 100;

    fn limits(size_max: usize) -> GroupLimits {
        GroupLimits { size_max, wait: WAIT }
    }

    fn ids(departures: &[Departure]) -> Vec<Vec<u64>> {
        departures.iter().map(|departure| departure.members.iter().map(|member| member.0).collect()).collect()
    }

    #[test]
    fn a_full_group_leaves_at_once_and_the_next_opens_another() {
        let (mut grouping, now) = (Grouping::default(), Instant::now());
        let mut join = |member| grouping.join('f', MemberId(member), 1, &limits(2), BYTES_MAX, now);
        assert_eq!(join(0).opened, Some((GroupId(0), now + WAIT)));
        let second = join(1);
        assert_eq!((second.opened, ids(&second.departed)), (None, vec![vec![0, 1]]));
        assert_eq!(join(2).opened, Some((GroupId(1), now + WAIT)));
    }

    #[test]
    fn a_group_that_is_not_full_leaves_after_its_wait_and_not_before() {
        let (mut grouping, now) = (Grouping::default(), Instant::now());
        grouping.join('f', MemberId(0), 1, &limits(9), BYTES_MAX, now);
        grouping.join('f', MemberId(1), 1, &limits(9), BYTES_MAX, now + WAIT / 2);
        assert_eq!(grouping.expire(GroupId(0), now + WAIT / 2), None);
        assert_eq!(ids(grouping.expire(GroupId(0), now + WAIT).as_slice()), [[0, 1]]);
        assert_eq!(grouping.expire(GroupId(0), now + WAIT), None);
        let late =
            grouping.join('f', MemberId(2), 1, &GroupLimits { size_max: 9, wait: Duration::ZERO }, BYTES_MAX, now);
        assert_eq!(ids(&late.departed), [[2]]);
    }

    #[test]
    fn bytes_that_do_not_fit_send_the_group_before_them_away() {
        let (mut grouping, now) = (Grouping::default(), Instant::now());
        let mut join =
            |member, bytes| ids(&grouping.join('f', MemberId(member), bytes, &limits(9), BYTES_MAX, now).departed);
        assert!(join(0, 60).is_empty());
        assert_eq!(join(1, 60), [[0]]);
        assert_eq!(join(2, 40), [[1, 2]]);
        assert_eq!(join(3, 5 * BYTES_MAX), [[3]]);
    }

    #[test]
    fn one_that_leaves_in_time_is_in_no_group() {
        let (mut grouping, now) = (Grouping::default(), Instant::now());
        for member in 0..2 {
            grouping.join('f', MemberId(member), 1, &limits(3), BYTES_MAX, now);
        }
        assert_eq!(grouping.leave(MemberId(0)), Left::OthersWait);
        assert_eq!(grouping.leave(MemberId(0)), Left::TooLate);
        assert_eq!(grouping.leave(MemberId(1)), Left::Emptied(GroupId(0)));
        assert_eq!(grouping.expire(GroupId(0), now + WAIT), None);
        assert!(grouping.join('f', MemberId(2), 1, &limits(3), BYTES_MAX, now).opened.is_some());
    }

    #[test]
    fn only_what_an_input_may_be_at_fault_for_takes_a_group_apart() {
        for code in FailureCode::ALL {
            let next = after_failure(code, 2);
            assert_eq!(after_failure(code, 1), Next::Fail);
            let is_apart = code.is_retryable() && code != FailureCode::Unavailable
                || matches!(code, FailureCode::MemoryLimit | FailureCode::OutputTooLarge);
            assert_eq!(next != Next::Fail, is_apart, "{code}");
        }
        assert_eq!(after_failure(FailureCode::Timeout, 64), Next::Singles);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Join { key: u8, bytes: u64 },
        Leave { pick: usize },
        Pass { ms: u64 },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0u8..3, 0u64..BYTES_MAX * 3 / 2).prop_map(|(key, bytes)| Event::Join { key, bytes }),
            1 => any::<usize>().prop_map(|pick| Event::Leave { pick }),
            2 => (0u64..15).prop_map(|ms| Event::Pass { ms }),
        ]
    }

    proptest! {
        /// Random traffic over three functions of different sizes, with a driver that wakes up when a group is due.
        #[test]
        fn each_input_leaves_once_in_order_in_time_and_within_the_bounds(events in proptest::collection::vec(event(), 1..200)) {
            let (mut grouping, mut now) = (Grouping::default(), Instant::now());
            let size_max = |key: u8| [1, 3, 8][usize::from(key)];
            // Key, bytes and arrival of each input; the groups that are due, and those that left.
            let mut inputs: Vec<(u8, u64, Instant)> = Vec::new();
            let mut due: Vec<(GroupId, Instant)> = Vec::new();
            let mut out: Vec<(Departure, Instant)> = Vec::new();
            let mut cancelled: Vec<u64> = Vec::new();
            let end = [Event::Pass { ms: 1_000 }];
            for event in events.into_iter().chain(end) {
                match event {
                    Event::Join { key, bytes } => {
                        let member = MemberId(inputs.len() as u64);
                        inputs.push((key, bytes, now));
                        let joined = grouping.join(key, member, bytes, &limits(size_max(key)), BYTES_MAX, now);
                        due.extend(joined.opened);
                        out.extend(joined.departed.into_iter().map(|departure| (departure, now)));
                    }
                    Event::Leave { pick } if !inputs.is_empty() => {
                        let member = (pick % inputs.len()) as u64;
                        let gone = out.iter().any(|(departure, _)| departure.members.contains(&MemberId(member)));
                        let left = grouping.leave(MemberId(member));
                        prop_assert_eq!(left == Left::TooLate, gone || cancelled.contains(&member));
                        if left != Left::TooLate {
                            cancelled.push(member);
                        }
                    }
                    Event::Leave { .. } => {}
                    Event::Pass { ms } => {
                        let until = now + Duration::from_millis(ms);
                        due.sort_by_key(|(_, at)| *at);
                        while due.first().is_some_and(|(_, at)| *at <= until) {
                            let (group, at) = due.remove(0);
                            out.extend(grouping.expire(group, at).map(|departure| (departure, at)));
                        }
                        now = until;
                    }
                }
            }
            prop_assert_eq!(grouping.waiting(), 0);
            let mut seen: Vec<u64> = cancelled;
            for key in 0..3 {
                let mut order: Vec<u64> = Vec::new();
                for (departure, at) in &out {
                    let members: Vec<u64> = departure.members.iter().map(|member| member.0).collect();
                    if inputs[members[0] as usize].0 != key {
                        continue;
                    }
                    prop_assert!(members.iter().all(|member| inputs[*member as usize].0 == key));
                    prop_assert!((1..=size_max(key)).contains(&members.len()));
                    let bytes: u64 = members.iter().map(|member| inputs[*member as usize].1).sum();
                    prop_assert!(bytes <= BYTES_MAX || members.len() == 1);
                    prop_assert!(members.iter().all(|member| *at <= inputs[*member as usize].2 + WAIT));
                    order.extend(members);
                }
                prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "out of order: {order:?}");
                seen.extend(order);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..inputs.len() as u64).collect::<Vec<_>>());
        }
    }
}
