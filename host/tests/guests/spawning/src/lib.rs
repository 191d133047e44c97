//! Functions that spawn calls and maps of each other.

use std::time::Duration;

use bireme_sdk::prelude::*;
use bireme_sdk::{Code, MapHandle, Spawned};

/// What became of an input, with the name of its failure.
type Doubled = Result<u64, Code>;

/// Doubles a number; refuses those over 1,000.
#[function]
fn double(n: u64) -> Result<u64> {
    if n > 1_000 { Err(Failure::terminal(format!("{n} is too much"))) } else { Ok(n * 2) }
}

/// Doubles a number once `gate` is open, which it looks at again and again.
#[function(timeout = "120s")]
fn double_behind(gate: String, n: u64) -> Result<u64> {
    while kv::open("gates")?.get(&gate)?.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    double(n)
}

/// Opens a gate.
#[function]
fn open_gate(gate: String) -> Result<()> {
    Ok(kv::open("gates")?.set(&gate, "")?)
}

/// Spawns a call and waits for it.
#[function]
fn spawn_and_wait(n: u64) -> Result<u64> {
    double::spawn(n)?.wait()
}

/// Spawns a call behind a gate; its id, and whether it had ended after a moment.
#[function]
fn spawn_behind(gate: String, n: u64) -> Result<(String, bool)> {
    let call = double_behind::spawn(gate, n)?;
    let ended = call.get(Duration::from_millis(1))?;
    Ok((call.id().to_owned(), ended.is_some()))
}

/// Returns the result of a call, if it has one yet.
#[function]
fn look(call: String) -> Result<Option<u64>> {
    Spawned::open(call).get(Duration::ZERO)
}

/// Waits for a call.
#[function(timeout = "120s")]
fn wait_for(call: String) -> Result<u64> {
    Spawned::open(call).wait()
}

/// Cancels a call.
#[function]
fn cancel(call: String) -> Result<bool> {
    Spawned::<u64>::open(call).cancel()
}

/// Spawns a map of which the inputs with an odd position wait for a gate; its id.
#[function]
fn map_behind(gate: String, numbers: Vec<u64>) -> Result<String> {
    let inputs = numbers
        .into_iter()
        .zip(0..)
        .map(|(n, index)| (if index % 2 == 1 { gate.clone() } else { "open".to_owned() }, n));
    open_gate("open".to_owned())?;
    Ok(double_behind::spawn_starmap(inputs)?.id().to_owned())
}

/// Returns the result of one input of a map.
#[function]
fn look_at(map: String, index: u64) -> Result<Option<u64>> {
    MapHandle::open(map)?.get(index)
}

/// Returns how many inputs of a map there are, are done, have failed and were cancelled, and whether it has ended.
#[function]
fn progress(map: String) -> Result<(u64, u64, u64, u64, bool)> {
    let progress = MapHandle::<u64>::open(map)?.progress()?;
    Ok((progress.inputs, progress.done, progress.failed, progress.cancelled, progress.is_ended))
}

/// Cancels a map.
#[function]
fn cancel_map(map: String) -> Result<u64> {
    Ok(MapHandle::<u64>::open(map)?.cancel()?.cancelled)
}

/// Reads a map in both orders: results in order, with what failed as the name of its failure, and the positions as
/// they completed.
#[function(timeout = "120s")]
fn read(map: String) -> Result<(Vec<Doubled>, Vec<u64>)> {
    let map = MapHandle::<u64>::open(map)?;
    let ordered = map.iter()?.map(|result| result.map_err(|failure| failure.code)).collect();
    Ok((ordered, map.as_completed()?.map(|(index, _)| index).collect()))
}

/// Spawns a map of a map, and adds everything up while both run.
#[function(timeout = "120s")]
fn sum_of_sums(rows: Vec<Vec<u64>>) -> Result<u64> {
    sum::spawn_map(rows)?.iter()?.sum()
}

/// Doubles numbers in a map of their own and adds them up.
#[function(timeout = "120s")]
fn sum(numbers: Vec<u64>) -> Result<u64> {
    let mut sum = 0;
    for (_, doubled) in double::spawn_map(numbers)?.as_completed()? {
        sum += doubled?;
    }
    Ok(sum)
}

/// Spawns itself to a depth, notes the calls that it made, and waits.
#[function(timeout = "120s")]
fn nest(gate: String, depth: u32) -> Result<u64> {
    let call = if depth == 0 { double_behind::spawn(gate.clone(), 1)? } else { nest::spawn(gate.clone(), depth - 1)? };
    kv::open("nested")?.set(&format!("{gate}-{depth}"), call.id())?;
    call.wait()
}

/// Calls another in memory, which spawns and waits; and spawns a map.
#[function(timeout = "120s")]
fn nest_in_memory(gate: String) -> Result<u64> {
    let map = double_behind::spawn_map([gate.clone()], [1])?;
    kv::open("nested")?.set(&format!("{gate}-map"), map.id())?;
    nest::call(gate, 0)
}

/// Nests once for each gate, in a call of a map that is kept.
#[function]
fn nest_in_map(gates: Vec<String>) -> Result<String> {
    let len = gates.len();
    Ok(nest::spawn_map(gates, vec![0; len])?.id().to_owned())
}

/// Returns a call or map that was noted.
#[function]
fn noted(name: String) -> Result<Option<String>> {
    Ok(kv::open("nested")?.get(&name)?.map(|id| String::from_utf8_lossy(&id).into_owned()))
}

/// Spawns itself `width` times and waits for each: a function that needs its own places.
#[function(timeout = "120s")]
fn tree(width: u64, depth: u32) -> Result<u64> {
    if depth == 0 {
        return Ok(1);
    }
    let calls: Vec<_> = (0..width).map(|_| tree::spawn(width, depth - 1)).collect::<Result<_>>()?;
    calls.iter().map(Spawned::wait).sum()
}

/// Spawns itself twice, whatever the depth, and counts what ran.
#[function]
fn bomb() -> Result<()> {
    for _ in 0..2 {
        if let Err(failure) = bomb::spawn() {
            kv::open("bomb")?.set("refused", failure.code.to_string())?;
        }
    }
    kv::open("bomb")?.set(&context::current().call_id, "")?;
    Ok(())
}

/// Spawns a map of itself, whatever the depth, and counts what ran.
#[function]
fn map_bomb(width: u32) -> Result<()> {
    if let Err(failure) = map_bomb::spawn_map((0..width).map(|_| width)) {
        kv::open("map-bomb")?.set("refused", failure.code.to_string())?;
    }
    kv::open("map-bomb")?.set(&context::current().call_id, "")?;
    Ok(())
}

/// Returns the keys of a bucket, and why a bomb was refused.
#[function]
fn bombed(bucket: String) -> Result<(usize, Option<String>)> {
    let bucket = kv::open(&bucket)?;
    let refused = bucket.get("refused")?.map(|code| String::from_utf8_lossy(&code).into_owned());
    Ok((bucket.keys().count() - usize::from(refused.is_some()), refused))
}

/// Holds maps until it may hold no more: how many, and why.
#[function]
fn hold_maps() -> Result<(usize, Code)> {
    let mut maps = Vec::new();
    loop {
        match double::spawn_map([]) {
            Ok(map) => maps.push(map),
            Err(failure) => return Ok((maps.len(), failure.code)),
        }
    }
}

/// Spawns calls until it may spawn no more: how many, and why.
#[function(timeout = "600s")]
fn spawn_all() -> Result<(usize, Code)> {
    let mut count = 0;
    loop {
        match double::spawn(1) {
            Ok(_) => count += 1,
            Err(failure) => return Ok((count, failure.code)),
        }
    }
}
