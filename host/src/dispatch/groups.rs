//! Calls of batched functions: they meet in groups, and each group runs in one sandbox.
//!
//! Drives `grouping`. A call waits in its attempt for the answer to its input; the group is led by a task of its own, so that no
//! call that is dropped takes others with it. The task ends early when nobody waits for it any more.
//!
//! Invariants: a group that runs holds one slot and one place of `concurrency`, at its calls' depth; what it cost is divided among
//! the calls that it began with; a lone input runs as any function's does.

mod share;
mod wire;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

use super::dispatcher::{Attempted, Call, Dispatcher, earlier, no_slot, panicked, request};
use super::grouping::{GroupId, Grouping, Joined, Left, MemberId, Next, after_failure};
use crate::call::{CallResult, Failure, FailureCode, Priority, Receipt, micros};
use crate::failpoint;
use crate::limits::{GROUP_CHECK_BYTES_MAX, GroupLimits, WAITING_CALLS_MAX};
use crate::sandbox::{Function, RunningCall, redact};
use crate::tasks;

/// The calls that may meet: of one function of one version, as urgent as each other, equally deep (admission keeps slots back for
/// each depth).
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Address of the program. It is not used again while calls wait under it, for each holds the program.
    program: usize,
    function: usize,
    priority: Priority,
    depth: u32,
}

impl Key {
    fn new(call: &Call) -> Self {
        let program = Arc::as_ptr(&call.program).addr();
        Self { program, function: call.function, priority: call.priority, depth: call.depth }
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

/// The groups that form.
pub(super) struct Groups {
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

impl Default for Groups {
    fn default() -> Self {
        Self { state: Mutex::default(), places: Arc::new(Semaphore::new(WAITING_CALLS_MAX)) }
    }
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that wait for others.
    pub fn waiting(&self) -> usize {
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
    groups: &'a Groups,
    member: MemberId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.groups.lock();
        match state.grouping.leave(self.member) {
            Left::TooLate => return,
            Left::OthersWait => {}
            // Its task ends with the sender.
            Left::Emptied(group) => drop(state.leaving.remove(&group)),
        }
        state.members.remove(&self.member);
    }
}

impl Dispatcher {
    /// Makes one attempt at a call of a batched function: waits for company, for a slot and for the answer to its own input.
    pub(super) async fn attempt_in_group(
        &self,
        call: &Call,
        attempt: u32,
        limits: &GroupLimits,
        receipt: &mut Receipt,
    ) -> Attempted {
        let spec = call.spec();
        let (name, input) = (spec.name.clone(), call.input.clone());
        let checked = inline_if(input.data.len(), move || wire::check(name.as_str(), &input)).await;
        if let Err(failure) = checked {
            return Attempted::Ended(Err(failure));
        }
        let Ok(place) = self.groups.places.clone().try_acquire_owned() else {
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
        let _leaving = Leaving { groups: &self.groups, member };
        let answer = match call.deadline_max {
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
                    return Attempted::NoSlot(Failure::new(FailureCode::Overloaded, no_slot(spec, waited)));
                }
                receipt.wall_us += micros(waited);
                let message = format!(
                    "function `{}` was cut off after {waited:?}, when its caller's own timeout passed; raise the caller's `timeout`",
                    spec.name
                );
                Attempted::Ended(Err(Failure::new(FailureCode::Timeout, message)))
            }
        }
    }

    /// Takes a call into a group; what leaves now is led by its task.
    fn join(&self, member: Member, limits: &GroupLimits, bytes_max: u64) -> MemberId {
        let mut state = self.groups.lock();
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
            tokio::spawn(lead(self.this(), group, due, left));
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
async fn lead(dispatcher: Arc<Dispatcher>, group: GroupId, due: Instant, mut left: oneshot::Receiver<Vec<Member>>) {
    let left_early = tokio::select! {
        biased;
        members = &mut left => Some(members.ok()),
        () = tokio::time::sleep_until(due.into()) => None,
        // Calls from outside join it no more, and wait for nothing.
        () = dispatcher.closing() => None,
    };
    let members = match left_early {
        Some(members) => members,
        None => match dispatcher.groups.expire(group, due) {
            Some(members) => Some(members),
            // It was filled, or left by all, in the moment of its time.
            None => left.await.ok(),
        },
    };
    if let Some(members) = members {
        run(dispatcher, members).await;
    }
}

/// Runs a group to its end, in parts if it must be.
fn run(dispatcher: Arc<Dispatcher>, members: Vec<Member>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Some((members, failure)) = run_once(&dispatcher, members).await else { return };
        let next = if dispatcher.is_closed() { Next::Fail } else { after_failure(failure.code, members.len()) };
        let part_len = match next {
            Next::Fail => {
                members.into_iter().for_each(|member| member.answer(Attempted::Ended(Err(failure.clone()))));
                return;
            }
            Next::Halves => members.len().div_ceil(2),
            Next::Singles => 1,
        };
        let function = &members[0].call.spec().name;
        tracing::info!(%function, inputs = members.len(), part_len, failure = %failure, "a group failed and is run again in parts");
        let mut members = members.into_iter();
        let parts = std::iter::from_fn(|| {
            let part: Vec<Member> = members.by_ref().take(part_len).collect();
            (!part.is_empty()).then(|| run(dispatcher.clone(), part))
        });
        let parts: Vec<_> = parts.collect();
        join_all(parts).await;
    })
}

/// Runs a group once and answers it. Gives it back where it failed as a whole.
async fn run_once(dispatcher: &Dispatcher, mut members: Vec<Member>) -> Option<(Vec<Member>, Failure)> {
    members.retain(Member::is_awaited);
    let Call { program, function, depth, priority, .. } = members.first()?.call.clone();
    let spec = &program.functions()[function];
    let queued = Instant::now();
    let request = request(&program, spec, depth, priority);
    let wait_until = earlier(queued + spec.limits.timeout, most_patient(&members));
    let slot = tokio::select! {
        slot = timeout_at(wait_until.into(), dispatcher.slot(request)) => slot,
        () = abandoned(&mut members) => return None,
    };
    let slot = match slot {
        Ok(Ok(slot)) => slot,
        refused => {
            let overloaded = |_| Failure::new(FailureCode::Overloaded, no_slot(spec, queued.elapsed()));
            let failure = refused.map_or_else(overloaded, |refused| refused.err().expect("a slot was matched above"));
            members.into_iter().for_each(|member| member.answer(Attempted::NoSlot(failure.clone())));
            return None;
        }
    };
    failpoint::panic_at("group.slot");
    // Some have left while it waited.
    members.retain(Member::is_awaited);
    let first = &members.first()?.call;
    let started = Instant::now();
    let deadline = earlier(started + spec.limits.timeout, most_patient(&members));
    let attempt = members.iter().map(|member| member.attempt).max().unwrap_or(1);
    let (log, services) = (dispatcher.log.clone(), dispatcher.services.clone());
    let running =
        RunningCall::new(first.id, program.clone(), function, attempt, depth, started, deadline, log, services);
    // No siblings: the map's other calls ask no model, for they are in groups, too.
    let running = Arc::new(running.among(None, priority));
    let len = members.len();
    let input = match members.as_slice() {
        [one] => one.call.input.clone(),
        members => wire::group(members.iter().map(|member| &member.call.input)),
    };
    for member in &mut members {
        member.place = None;
        member.runs.fetch_add(1, Ordering::Relaxed);
        member.receipt.queue_us += micros(started - member.since);
    }
    let invoked = dispatcher.sandbox.invoke(&running, input);
    let ended = tokio::select! {
        ended = dispatcher.pacing.noted(priority, || running.has_open_maps(), invoked) => ended,
        () = abandoned(&mut members) => return None,
    };
    drop(slot);
    let (now, wall_us) = (Instant::now(), micros(started.elapsed()));
    for (i, member) in members.iter_mut().enumerate() {
        member.receipt.add(&share::of(&ended, i, len, wall_us));
        member.since = now;
    }
    match results(spec, ended.result, len).await {
        Ok(results) => {
            for (member, result) in members.into_iter().zip(results) {
                member.answer(Attempted::Ended(result));
            }
            None
        }
        Err(failure) => Some((members, failure)),
    }
}

/// Takes apart what a run gave: a result for each input, or one failure for all.
async fn results(spec: &Function, result: CallResult, len: usize) -> Result<Vec<CallResult>, Failure> {
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
fn most_patient(members: &[Member]) -> Option<Instant> {
    let deadlines: Option<Vec<Instant>> = members.iter().map(|member| member.call.deadline_max).collect();
    deadlines?.into_iter().max()
}

/// Waits until nobody waits for any of them.
async fn abandoned(members: &mut [Member]) {
    for member in members {
        member.reply.closed().await;
    }
}
