//! The client: makes maps and calls, appends, closes, cancels, reads, and writes down each acknowledgement before its
//! next step. What was not acknowledged it asks for again, with the same key or the same index.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bireme::ids::{CallId, MapId};
use serde_json::Value;

use super::APP;
use super::api::{Api, Reply};
use super::dice::Dice;
use super::function::{Function, Outcome};
use super::gate::Gate;
use super::log::{Line, Log};

/// Inputs of one append.
const APPEND_MAX: u64 = 24;
/// Maps that take inputs at a time; they stay open over some kills.
const OPEN_MAPS: usize = 3;
/// Latest calls among which it picks one to read or to cancel.
const RECENT: usize = 12;
const PAUSE: Duration = Duration::from_millis(20);

struct Map {
    id: MapId,
    len: u64,
    is_closed: bool,
    is_cancelled: bool,
    is_retried: bool,
}

pub(crate) struct Client {
    api: Api,
    log: Arc<Log>,
    gate: Arc<Gate>,
    recorder: String,
    dice: Dice,
    /// Part of each idempotency key, with a number.
    seed: u64,
    keys: u64,
    maps: Vec<Map>,
    calls: Vec<CallId>,
    cancelled: HashSet<CallId>,
    /// Inputs that were read and are in the log.
    seen: HashSet<(MapId, u64)>,
}

impl Client {
    pub(crate) fn new(api: Api, log: Arc<Log>, gate: Arc<Gate>, recorder: String, seed: u64) -> Self {
        let dice = Dice::new(seed);
        let (maps, calls, cancelled, seen) = Default::default();
        Self { api, log, gate, recorder, dice, seed, keys: 0, maps, calls, cancelled, seen }
    }

    /// Works for `rounds` rounds, each of so many inputs, and closes what it has open.
    pub(crate) fn work(mut self, rounds: u64, inputs: u64) -> io::Result<()> {
        for round in 0..rounds {
            self.gate.enter(round);
            let mut left = inputs;
            while left > 0 {
                left -= self.step(left)?;
            }
            self.gate.leave(round);
        }
        for index in 0..self.maps.len() {
            if !self.maps[index].is_closed && !self.maps[index].is_cancelled {
                self.close(index)?;
            }
        }
        Ok(())
    }

    /// Does one thing, and returns how many inputs that were.
    fn step(&mut self, left: u64) -> io::Result<u64> {
        match self.dice.below(100) {
            0..35 => self.call().map(|()| 1),
            35..65 => self.append(left),
            65..72 => {
                let open = self.index(|map| !map.is_closed && !map.is_cancelled);
                open.map_or(Ok(()), |index| self.close(index)).map(|()| 0)
            }
            72..82 => self.read_map().map(|()| 0),
            82..90 => self.read_call().map(|()| 0),
            90..96 => self.cancel_call().map(|()| 0),
            96..98 => self.cancel_map().map(|()| 0),
            _ => self.retry_failed().map(|()| 0),
        }
    }

    fn call(&mut self) -> io::Result<()> {
        let (function, n, kills) = (self.function(), self.dice.below(1_000), self.gate.kills());
        let key = self.key();
        let path = format!("/apps/{APP}/functions/{}/calls", function.name());
        let input = Function::input(n, &self.recorder).to_string();
        let reply = self.api.insist("POST", &path, Some(&key), &input);
        let Some(id) = self.id(&reply)?.map(CallId::from_bytes) else { return Ok(()) };
        self.calls.push(id);
        self.log.write(&[Line::Call { id, function, n, kills }])
    }

    fn append(&mut self, left: u64) -> io::Result<u64> {
        let open = self.maps.iter().filter(|map| !map.is_closed && !map.is_cancelled).count();
        if open < OPEN_MAPS {
            self.create()?;
        }
        let Some(index) = self.index(|map| !map.is_closed && !map.is_cancelled) else { return Ok(0) };
        let len = (1 + self.dice.below(APPEND_MAX)).min(left);
        let numbers: Vec<u64> = (0..len).map(|_| self.dice.below(1_000)).collect();
        let (map, from, kills) = (self.maps[index].id, self.maps[index].len, self.gate.kills());
        let body: String = numbers.iter().map(|n| format!("{}\n", Function::input(*n, &self.recorder))).collect();
        let reply = self.api.insist("POST", &format!("/maps/{map}/inputs?from={from}"), None, &body);
        if reply.status != 200 || reply.json()["accepted"] != from + len {
            self.odd(&reply)?;
            return Ok(len);
        }
        self.maps[index].len += len;
        self.log.write(&[Line::Inputs { map, from, numbers, kills }])?;
        Ok(len)
    }

    fn create(&mut self) -> io::Result<()> {
        let (function, key) = (self.function(), self.key());
        let reply = self.api.insist("POST", &format!("/apps/{APP}/functions/{}/maps", function.name()), Some(&key), "");
        let Some(id) = self.id(&reply)?.map(MapId::from_bytes) else { return Ok(()) };
        self.maps.push(Map { id, len: 0, is_closed: false, is_cancelled: false, is_retried: false });
        self.log.write(&[Line::Map { id, function }])
    }

    fn close(&mut self, index: usize) -> io::Result<()> {
        let map = self.maps[index].id;
        let reply = self.api.insist("POST", &format!("/maps/{map}/close"), None, "");
        if reply.status != 200 {
            return self.odd(&reply);
        }
        self.maps[index].is_closed = true;
        self.log.write(&[Line::Closed { map }])
    }

    fn read_map(&mut self) -> io::Result<()> {
        let Some(index) = self.index(|_| true) else { return Ok(()) };
        let map = self.maps[index].id;
        let order = if self.dice.below(2) == 0 { "input" } else { "completion" };
        // Without insisting: what breaks off with a host is read another time.
        let Ok(reply) = self.api.send("GET", &format!("/maps/{map}/results?order={order}"), None, "") else {
            return Ok(());
        };
        if reply.status != 200 {
            return self.odd(&reply);
        }
        let mut lines = Vec::new();
        for value in reply.lines().iter().filter(|value| value["index"].is_u64()) {
            let index = value["index"].as_u64().unwrap_or(u64::MAX);
            // Each once is enough to hold the host to it, and the log stays small.
            if self.seen.insert((map, index)) {
                lines.push(Line::SawResult { map, index, outcome: Outcome::read(value) });
            }
        }
        if lines.is_empty() { Ok(()) } else { self.log.write(&lines) }
    }

    fn read_call(&mut self) -> io::Result<()> {
        let Some(call) = self.recent_call() else { return Ok(()) };
        let reply = self.api.insist("GET", &format!("/calls/{call}"), None, "");
        let outcome = Outcome::read(&reply.json());
        match reply.status {
            200 if outcome.is_terminal() => self.log.write(&[Line::SawCall { call, outcome }]),
            200 => Ok(()),
            _ => self.odd(&reply),
        }
    }

    fn cancel_call(&mut self) -> io::Result<()> {
        let Some(call) = self.recent_call().filter(|call| !self.cancelled.contains(call)) else { return Ok(()) };
        self.cancelled.insert(call);
        self.log.write(&[Line::AskedCancel { call }])?;
        let reply = self.api.insist("DELETE", &format!("/calls/{call}"), None, "");
        if reply.status != 200 {
            return self.odd(&reply);
        }
        // The record has no output; its state is what was acknowledged.
        self.log.write(&[Line::Cancelled { call, outcome: Outcome::read(&reply.json()) }])
    }

    fn cancel_map(&mut self) -> io::Result<()> {
        let Some(index) = self.index(|map| !map.is_retried && !map.is_cancelled) else { return Ok(()) };
        let map = self.maps[index].id;
        self.log.write(&[Line::AskedCancelMap { map }])?;
        let reply = self.api.insist("DELETE", &format!("/maps/{map}"), None, "");
        if reply.status != 200 {
            return self.odd(&reply);
        }
        let state = reply.json()["state"].as_str().unwrap_or_default().to_owned();
        self.maps[index].is_cancelled = state == "cancelled";
        self.log.write(&[Line::CancelledMap { map, state }])
    }

    /// Runs what failed or was cancelled again, of a map that takes no more inputs.
    fn retry_failed(&mut self) -> io::Result<()> {
        let Some(index) = self.index(|map| map.is_closed || map.is_cancelled) else { return Ok(()) };
        let map = self.maps[index].id;
        self.maps[index].is_retried = true;
        loop {
            // Written before each request, because each may take effect.
            self.log.write(&[Line::AskedRetry { map }])?;
            let reply = match self.api.send("POST", &format!("/maps/{map}/retry-failed"), None, "") {
                Ok(reply) => reply,
                Err(_) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            match reply.status {
                200 => break,
                // It has not ended yet.
                409 => std::thread::sleep(PAUSE),
                _ => return self.odd(&reply),
            }
        }
        self.maps[index].is_closed = true;
        self.maps[index].is_cancelled = false;
        self.seen.retain(|(seen, _)| *seen != map);
        self.log.write(&[Line::Retried { map }])
    }

    fn function(&mut self) -> Function {
        self.dice.pick(&Function::ALL).copied().unwrap_or(Function::Double)
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.seed, self.keys)
    }

    /// Returns one of the latest maps that are as wanted.
    fn index(&mut self, is_wanted: impl Fn(&Map) -> bool) -> Option<usize> {
        let maps = self.maps.iter().enumerate().rev().filter(|(_, map)| is_wanted(map));
        let found: Vec<usize> = maps.map(|(index, _)| index).take(RECENT).collect();
        self.dice.pick(&found).copied()
    }

    fn recent_call(&mut self) -> Option<CallId> {
        let from = self.calls.len().saturating_sub(RECENT);
        let calls = &self.calls[from..];
        self.dice.pick(calls).copied()
    }

    fn id(&self, reply: &Reply) -> io::Result<Option<[u8; 16]>> {
        let value: Value = reply.json();
        let id = value["id"].as_str().and_then(|id| id.parse::<CallId>().ok()).map(|id| *id.as_bytes());
        if !matches!(reply.status, 200..=202) || id.is_none() {
            self.odd(reply)?;
            return Ok(None);
        }
        Ok(id)
    }

    fn odd(&self, reply: &Reply) -> io::Result<()> {
        let answer = format!("{} {}: {}", reply.status, reply.code(), reply.body.chars().take(500).collect::<String>());
        self.log.write(&[Line::Odd { answer }])
    }
}
