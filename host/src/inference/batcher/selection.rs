//! Selection: the tenant and model of the next batch, and the requests that fill it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::batch::{Batch, LimitReason};
use super::queue::{Batcher, LOSS_CONTENDED};
use super::tenant::TenantId;
use super::tenant_queue::Candidate;
use crate::call::Priority;
use crate::wire::ModelId;

/// Share of a batch's time that its fixed part may be where one tenant has the device to itself.
const LOSS_ALONE: f64 = 0.03;
/// Tenants count as competing for this long after two of them waited.
const CONTENDED_FOR: Duration = Duration::from_secs(10);

/// The next thing to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A batch of this model.
    Batch {
        model: ModelId,
        of: Turn,
    },
    /// No batch before this time, at which a partial batch has waited long enough.
    Wait(Instant),
    Nothing,
}

/// The source of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Retry,
    Tenant(TenantId),
}

impl Batcher {
    /// Returns what runs next, of the models that `among` accepts; it is told whether a batch of the model would be
    /// full.
    pub(crate) fn next(&mut self, now: Instant, among: impl Fn(ModelId, bool) -> bool) -> Next {
        let retry = self.retries.first(&self.requests, |model| among(model, false));
        if let Some((model, false)) = retry {
            return Next::Batch { model, of: Turn::Retry };
        }
        self.drop_late(now);
        if self.tenants.iter().filter(|tenant| tenant.waiting > 0).nth(1).is_some() {
            self.contended = Some(now);
        }
        let loss = self.loss(now);
        let mut first: Option<(u64, u64, TenantId, ModelId)> = None;
        let mut wait: Option<Instant> = None;
        for (index, tenant) in self.tenants.iter().enumerate() {
            if tenant.waiting == 0 {
                continue;
            }
            let id = TenantId(index as u32);
            let oldest_first = tenant.is_oldest_first();
            let mut head: Option<(Priority, u64, ModelId)> = None;
            for &model in &tenant.models {
                let Some(tenant_queue) =
                    self.tenant_queues.get_mut(&(id, model)).filter(|tenant_queue| tenant_queue.len() > 0)
                else {
                    continue;
                };
                let queue = &self.queues[model.0 as usize];
                if !among(model, queue.is_full(queue.tokens_worthwhile(loss))) {
                    continue;
                }
                let Some((priority, entry)) = tenant_queue.head(oldest_first, &self.requests) else { continue };
                if let Some(until) = queue.ripe_at(entry.arrived).filter(|until| *until > now) {
                    wait = Some(wait.map_or(until, |wait| wait.min(until)));
                    continue;
                }
                let order = if oldest_first { Priority::High } else { priority };
                if head.is_none_or(|(priority, seq, _)| (order, entry.seq) < (priority, seq)) {
                    head = Some((order, entry.seq, model));
                }
            }
            if let Some((_, seq, model)) = head
                && first.is_none_or(|(served, first, ..)| (tenant.served, seq) < (served, first))
            {
                first = Some((tenant.served, seq, id, model));
            }
        }
        match (first, retry, wait) {
            (Some((.., tenant, model)), ..) => Next::Batch { model, of: Turn::Tenant(tenant) },
            (None, Some((model, _)), _) => Next::Batch { model, of: Turn::Retry },
            (None, None, Some(until)) => Next::Wait(until),
            (None, None, None) => Next::Nothing,
        }
    }

    /// Takes the batch that [`next`](Self::next) named; none if all its requests are gone.
    pub(crate) fn take(&mut self, now: Instant, model: ModelId, of: Turn) -> Option<Batch> {
        match of {
            Turn::Retry => self.retries.take(model, &self.requests),
            Turn::Tenant(tenant) => {
                self.retries.pass();
                self.fill(now, model, tenant)
            }
        }
    }

    fn fill(&mut self, now: Instant, model: ModelId, leader: TenantId) -> Option<Batch> {
        let queue = &self.queues[model.0 as usize];
        let (rows_max, tokens_max) = (queue.limits.max_batch_size, queue.tokens_worthwhile(self.loss(now)));
        let no_room = if tokens_max < queue.tokens_max { LimitReason::Enough } else { LimitReason::Tokens };
        let is_delayed = queue.waits_for_company(tokens_max);
        let mut batch =
            Batch { model, sub_requests: Vec::new(), rows: 0, tokens: 0, cut: LimitReason::Drained, losses: 0 };
        self.level = self.level.max(self.tenants[leader.0 as usize].served);
        // Least served first, the leader before its equals.
        let mut turns: BinaryHeap<Reverse<(u64, bool, TenantId)>> = (0..self.tenants.len() as u32)
            .map(TenantId)
            .filter(|id| self.tenant_queues.get(&(*id, model)).is_some_and(|tenant_queue| tenant_queue.len() > 0))
            .map(|id| Reverse((self.tenants[id.0 as usize].served, id != leader, id)))
            .collect();
        while let Some(Reverse((_, _, id))) = turns.pop() {
            if batch.rows == rows_max {
                batch.cut = LimitReason::Rows;
                break;
            }
            let tenant = &mut self.tenants[id.0 as usize];
            let tenant_queue = self.tenant_queues.get_mut(&(id, model)).expect("it has sub_requests");
            let oldest_first = tenant.is_oldest_first();
            // The first always fits, but for a single row that is longer than a batch.
            let room = (!batch.sub_requests.is_empty())
                .then(|| (rows_max - batch.rows, tokens_max.saturating_sub(batch.tokens)));
            match tenant_queue.take(oldest_first, room, &self.requests) {
                Candidate::SubRequest(sub_request) => {
                    tenant.charge(sub_request.tokens);
                    let served = tenant.served;
                    let has_more = tenant_queue.len() > 0;
                    let entry =
                        self.requests.get_mut(sub_request.request).expect("a tenant_queue gives live sub_requests");
                    entry.take_waiting(sub_request.rows.len(), sub_request.tokens);
                    let entry = entry.clone();
                    self.uncount(&entry, 1, sub_request.rows.len(), sub_request.tokens);
                    batch.rows += sub_request.rows.len();
                    batch.tokens += sub_request.tokens;
                    batch.sub_requests.push(sub_request);
                    if has_more {
                        turns.push(Reverse((served, true, id)));
                    }
                }
                Candidate::NoFit { is_patient: true } => batch.cut = no_room,
                // It was passed often enough: the batch ends here, so that it soon goes first.
                Candidate::NoFit { is_patient: false } => {
                    batch.cut = no_room;
                    break;
                }
                Candidate::Nothing => {}
            }
        }
        if batch.cut == LimitReason::Drained && is_delayed {
            batch.cut = LimitReason::Delay;
        }
        (!batch.sub_requests.is_empty()).then_some(batch)
    }

    /// Drops requests at the head of a queue that can no longer meet their deadline.
    fn drop_late(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (&(_, model), tenant_queue) in &mut self.tenant_queues {
            let cost = &self.queues[model.0 as usize].cost;
            tenant_queue.late(&self.requests, &mut late, |entry, tokens| now + cost.at_least(tokens) >= entry.deadline);
        }
        late.dedup();
        for request in late {
            if self.requests.get(request).is_some() {
                self.remove(request);
                self.expired.push(request);
            }
        }
    }

    /// Returns the share of a batch's time that its fixed part may be now.
    fn loss(&self, now: Instant) -> f64 {
        let is_contended = self.contended.is_some_and(|at| now.saturating_duration_since(at) < CONTENDED_FOR);
        if is_contended { LOSS_CONTENDED } else { LOSS_ALONE }
    }
}
