//! Batching: calls of batched functions meet in groups, and each group runs in one sandbox.
//!
//! Drives `policy`. A call waits in its attempt for the answer to its input; the group is led by a task of its own,
//! so that no call that is dropped takes others with it. The task ends early when nobody waits for it any more.
//!
//! Invariants: a group that runs holds one slot and one place of `concurrency`, at its calls' depth; what it cost is
//! divided among the calls that it began with; a lone input runs as any function's does.

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod policy;
mod share;
mod wire;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

use self::policy::{GroupId, Grouping, Joined, Left, MemberId, Next, after_failure};
use super::call::{Attempted, Call, Origin, panicked, shutting_down};
use super::executor::{AttemptSpec, Executor, no_slot};
use crate::call::{CallResult, Failure, FailureCode, Principal, Priority, Receipt, micros};
use crate::ids::FunctionName;
use crate::limits::{GROUP_CHECK_BYTES_MAX, GroupLimits, WAITING_CALLS_MAX};
use crate::sandbox::{FunctionRef, redact};
use crate::tasks;

/// Key of calls that may share a batch: one function of one version, one priority, one depth (admission keeps slots
/// back for each), and one way to wait for a slot.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Address of the program. It is not used again while calls wait under it, for each holds the program.
    program: usize,
    function: FunctionName,
    priority: Priority,
    depth: u32,
    is_durable: bool,
}

impl Key {
    fn new(call: &Call) -> Self {
        let Origin { priority, depth, is_durable, .. } = call.origin;
        let program = Arc::as_ptr(call.function.program()).addr();
        Self { program, function: call.function.name.clone(), priority, depth, is_durable }
    }
}

/// One call in a group.
struct Member {
    call: Call,
    attempt: u32,
    /// Since when it waits to run.
    since: Instant,
    /// What it has cost so far.
    receipt: Receipt,
    /// How often it began to run, for whoever waits for it.
    runs: Arc<AtomicU32>,
    /// Until it runs for the first time.
    place: Option<OwnedSemaphorePermit>,
    /// Closed once nobody waits for the answer.
    reply: oneshot::Sender<(Attempted, Receipt)>,
}

impl Member {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn answer(self, attempted: Attempted) {
        // Whoever is gone does not want to know.
        let _ = self.reply.send((attempted, self.receipt));
    }
}

/// Batches that form and run.
pub(super) struct Batching {
    executor: Arc<Executor>,
    state: Mutex<State>,
    /// Places for calls that wait.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    grouping: Grouping<Key>,
    members: HashMap<MemberId, Member>,
    members_joined: u64,
    /// Where a group's task is given the group that leaves before its time.
    leaving: HashMap<GroupId, oneshot::Sender<Vec<Member>>>,
}

impl State {
    fn take(&mut self, members: &[MemberId]) -> Vec<Member> {
        members.iter().filter_map(|member| self.members.remove(member)).collect()
    }
}

impl Batching {
    pub(crate) fn new(executor: Arc<Executor>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(WAITING_CALLS_MAX));
        Arc::new(Self { executor, state: Mutex::default(), places })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Calls that wait for others.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().grouping.waiting()
    }

    /// Lets a group leave whose time has come, unless it left already.
    fn expire(&self, group: GroupId, due: Instant) -> Option<Vec<Member>> {
        let mut state = self.lock();
        let departure = state.grouping.expire(group, Instant::now().max(due))?;
        state.leaving.remove(&group);
        Some(state.take(&departure.members))
    }
}

/// Takes a call out of the group that it waits in, when dropped.
struct Leaving<'a> {
    batching: &'a Batching,
    member: MemberId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.batching.lock();
        match state.grouping.leave(self.member) {
            Left::TooLate => return,
            Left::OthersWait => {}
            // Its task ends with the sender.
            Left::Emptied(group) => drop(state.leaving.remove(&group)),
        }
        state.members.remove(&self.member);
    }
}

impl Batching {
    /// Makes one attempt at a call of a batched function: waits for further inputs, for a slot and for the answer to
    /// its own input.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        call: &Call,
        attempt: u32,
        limits: &GroupLimits,
        receipt: &mut Receipt,
    ) -> Attempted {
        let spec = &call.function;
        let (name, input) = (spec.name.clone(), call.input.clone());
        let checked = inline_if(input.data.len(), move || wire::check(name.as_str(), &input)).await;
        if let Err(failure) = checked {
            return Attempted::Ended(Err(failure));
        }
        let place = match call.origin.is_durable {
            true => tokio::select! {
                place = self.places.clone().acquire_owned() => place.ok(),
                () = self.executor.slots.closing() => return Attempted::NoSlot(shutting_down()),
            },
            false => self.places.clone().try_acquire_owned().ok(),
        };
        let Some(place) = place else {
            let message = format!("{WAITING_CALLS_MAX} calls wait in groups already, as many as may; try again later");
            return Attempted::NoSlot(Failure::new(FailureCode::Overloaded, message));
        };
        let since = Instant::now();
        let runs = Arc::new(AtomicU32::new(0));
        let (reply, answer) = oneshot::channel();
        let member = Member {
            call: call.clone(),
            attempt,
            since,
            receipt: Receipt::default(),
            runs: runs.clone(),
            place: Some(place),
            reply,
        };
        let member = self.join(member, limits, spec.limits.input_bytes_max);
        let _leaving = Leaving { batching: self, member };
        let answer = match call.origin.deadline_max {
            Some(deadline) => timeout_at(deadline.into(), answer).await,
            None => Ok(answer.await),
        };
        match answer {
            Ok(Ok((attempted, cost))) => {
                receipt.add(&cost);
                attempted
            }
            Ok(Err(_)) => Attempted::Ended(Err(panicked(call.id, "in the task of the call's group"))),
            Err(_) => {
                let runs = runs.load(Ordering::Relaxed);
                receipt.attempts += runs;
                let waited = since.elapsed();
                if runs == 0 {
                    receipt.queue_us += micros(waited);
                    return Attempted::NoSlot(no_slot(spec, waited));
                }
                let mut lost = Receipt::default();
                lost.end_attempt(micros(waited));
                receipt.add(&lost);
                let message = format!(
                    "function `{}` was cut off after {waited:?}, when its caller's own timeout passed; raise the caller's `timeout`",
                    spec.name
                );
                Attempted::Ended(Err(Failure::new(FailureCode::Timeout, message)))
            }
        }
    }

    /// Takes a call into a group; what leaves now is led by its task.
    fn join(self: &Arc<Self>, member: Member, limits: &GroupLimits, bytes_max: u64) -> MemberId {
        let mut state = self.lock();
        let id = MemberId(state.members_joined);
        state.members_joined += 1;
        // In a group there is one byte more, before each input.
        let bytes = member.call.input.data.len() as u64 + 1;
        let key = Key::new(&member.call);
        state.members.insert(id, member);
        let Joined { opened, departed } = state.grouping.join(key, id, bytes, limits, bytes_max, Instant::now());
        if let Some((group, due)) = opened {
            let (leaving, left) = oneshot::channel();
            state.leaving.insert(group, leaving);
            tokio::spawn(lead(self.clone(), group, due, left));
        }
        for departure in departed {
            let members = state.take(&departure.members);
            if let Some(leaving) = state.leaving.remove(&departure.group) {
                // A task whose time came in the same moment waits for this.
                let _ = leaving.send(members);
            }
        }
        id
    }
}

/// Waits until the group leaves, and runs it.
async fn lead(batching: Arc<Batching>, group: GroupId, due: Instant, mut left: oneshot::Receiver<Vec<Member>>) {
    let left_early = tokio::select! {
        biased;
        members = &mut left => Some(members.ok()),
        () = tokio::time::sleep_until(due.into()) => None,
        // Calls from outside join it no more, and wait for nothing.
        () = batching.executor.slots.closing() => None,
    };
    let members = match left_early {
        Some(members) => members,
        None => match batching.expire(group, due) {
            Some(members) => Some(members),
            // It was filled, or left by all, in the moment of its time.
            None => left.await.ok(),
        },
    };
    if let Some(members) = members {
        run(batching.executor.clone(), members).await;
    }
}

/// Runs a group to its end, in parts if it must be.
fn run(executor: Arc<Executor>, members: Vec<Member>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Some((members, failure)) = run_once(&executor, members).await else { return };
        let next = if executor.slots.is_closed() { Next::Fail } else { after_failure(failure.code, members.len()) };
        let part_len = match next {
            Next::Fail => {
                members.into_iter().for_each(|member| member.answer(Attempted::Ended(Err(failure.clone()))));
                return;
            }
            Next::Halves => members.len().div_ceil(2),
            Next::Singles => 1,
        };
        let function = &members[0].call.function.name;
        tracing::info!(%function, inputs = members.len(), part_len, failure = %failure, "a group failed and is run again in parts");
        let mut members = members.into_iter();
        let parts = std::iter::from_fn(|| {
            let part: Vec<Member> = members.by_ref().take(part_len).collect();
            (!part.is_empty()).then(|| run(executor.clone(), part))
        });
        let parts: Vec<_> = parts.collect();
        join_all(parts).await;
    })
}

/// Runs a group once and answers it. Gives it back where it failed as a whole.
async fn run_once(executor: &Executor, mut members: Vec<Member>) -> Option<(Vec<Member>, Failure)> {
    members.retain(Member::is_awaited);
    let Call { function, origin, .. } = members.first()?.call.clone();
    let slot = tokio::select! {
        slot = executor.slot(&function, &origin, latest_deadline(&members)) => slot,
        () = abandoned(&mut members) => return None,
    };
    let slot = match slot {
        Ok(slot) => slot,
        Err(failure) => {
            members.into_iter().for_each(|member| member.answer(Attempted::NoSlot(failure.clone())));
            return None;
        }
    };
    // Some have left while it waited.
    members.retain(Member::is_awaited);
    let started = Instant::now();
    // Neither siblings nor a spawner: the map's other calls ask no model, for they are in batches, too.
    let first = &members.first()?.call;
    let origin = Origin {
        principal: common_principal(&members),
        deadline_max: latest_deadline(&members),
        spawner: None,
        spawner_map: first.origin.spawner_map.filter(|_| first.origin.spawner.is_none()),
        ..first.origin.clone()
    };
    let attempt = members.iter().map(|member| member.attempt).max().unwrap_or(1);
    let spec =
        AttemptSpec { id: members.first()?.call.id, function: &function, origin: &origin, attempt, siblings: None };
    let len = members.len();
    let input = match members.as_slice() {
        [one] => one.call.input.clone(),
        members => wire::group(members.iter().map(|member| &member.call.input)),
    };
    for member in &mut members {
        member.place = None;
        member.runs.fetch_add(1, Ordering::Relaxed);
        function.counters().count_attempt(member.attempt);
        member.receipt.queue_us += micros(started - member.since);
    }
    let mut ended = tokio::select! {
        ended = executor.run(slot, spec, started, input) => ended,
        () = abandoned(&mut members) => return None,
    };
    let now = Instant::now();
    ended.receipt.end_attempt(micros(now - started));
    for (i, member) in members.iter_mut().enumerate() {
        member.receipt.add(&share::of(&ended.receipt, i, len));
        member.since = now;
    }
    match results(&function, ended.result, len).await {
        Ok(results) => {
            for (member, result) in members.into_iter().zip(results) {
                member.answer(Attempted::Ended(result));
            }
            None
        }
        Err(failure) => Some((members, failure)),
    }
}

/// Returns the principal of all members; the app where they differ, so that none acts with the rights of another.
fn common_principal(members: &[Member]) -> Principal {
    let mut origins = members.iter().map(|member| &member.call.origin);
    let first = &origins.next().expect("a group has a member").principal;
    match origins.all(|origin| origin.principal == *first) {
        true => first.clone(),
        false => Principal::App(members[0].call.function.app().clone()),
    }
}

/// Takes apart what a run gave: a result for each input, or one failure for all.
async fn results(spec: &FunctionRef, result: CallResult, len: usize) -> Result<Vec<CallResult>, Failure> {
    let answer = match result {
        Ok(output) if len == 1 => return Ok(vec![Ok(output)]),
        result => result?,
    };
    let (name, output_bytes_max) = (spec.name.clone(), spec.limits.output_bytes_max);
    let bytes = answer.data.len();
    let mut results = inline_if(bytes, move || wire::answers(name.as_str(), &answer, len, output_bytes_max)).await?;
    if let Some(secrets) = &spec.secrets {
        for failure in results.iter_mut().filter_map(|result| result.as_mut().err()) {
            redact(failure, secrets);
        }
    }
    Ok(results)
}

/// Runs work over so many bytes here, if they are few, or where it may take its time.
async fn inline_if<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= GROUP_CHECK_BYTES_MAX { work() } else { tasks::blocking(work).await }
}

/// The latest deadline, unless one has none.
fn latest_deadline(members: &[Member]) -> Option<Instant> {
    let deadlines: Option<Vec<Instant>> = members.iter().map(|member| member.call.origin.deadline_max).collect();
    deadlines?.into_iter().max()
}

/// Waits until nobody waits for any of them.
async fn abandoned(members: &mut [Member]) {
    for member in members {
        member.reply.closed().await;
    }
}
