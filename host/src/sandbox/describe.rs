//! One run of a component's `describe`, deterministic: the result depends on the code alone.
//!
//! Language runtimes read their environment and the time, and seed their generators, when first entered. They get an
//! empty environment, a clock that counts its reads, and a generator with a fixed seed. Every other import traps.

use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::{Component, Linker, LinkerInstance, Val};

use super::invoke::{LIFT_SLACK, Sandbox, SandboxError, set_deadline};
use super::limiter::MemoryLimiter;
use crate::app::compiled::Compiled;
use crate::app::kind;
use crate::app::metadata::Metadata;
use crate::limits;

/// Advance of the clock at each read, so that a loop which waits for the clock ends.
const CLOCK_STEP_NS: u64 = 1_000;

/// The store's data.
struct DescribeState {
    limiter: MemoryLimiter,
    /// Nanoseconds since the start of the run, which is also the Unix epoch.
    clock_ns: u64,
    /// State of SplitMix64.
    random: u64,
}

impl DescribeState {
    fn read_clock(&mut self) -> u64 {
        self.clock_ns += CLOCK_STEP_NS;
        self.clock_ns
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

type Define = fn(&mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()>;

/// Interfaces on offer; other patch versions link too.
const INTERFACES: [(&str, Define); 5] = [
    ("wasi:cli/environment@0.2.12", environment),
    ("wasi:clocks/monotonic-clock@0.2.12", monotonic_clock),
    ("wasi:clocks/wall-clock@0.2.12", wall_clock),
    ("wasi:random/insecure-seed@0.2.12", insecure_seed),
    ("wasi:random/random@0.2.12", random),
];

impl Sandbox {
    /// Runs a component's `describe` and parses its document. The caller holds a slot.
    /// Bounded by `DESCRIBE_TIMEOUT` and `DESCRIBE_MEMORY_BYTES_MAX`.
    pub(crate) async fn describe(&self, compiled: &Compiled) -> Result<Metadata, SandboxError> {
        let describe = |error: wasmtime::Error| SandboxError::Describe(format!("{error:#}"));

        let component = compiled.component();
        let mut linker = compiled.linker(&Linker::new(self.engine())).map_err(describe)?.into_owned();
        add_to_linker(&mut linker, component).map_err(describe)?;
        let state =
            DescribeState { limiter: MemoryLimiter::new(limits::DESCRIBE_MEMORY_BYTES_MAX), clock_ns: 0, random: 0 };
        let mut store = Store::new(self.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits::METADATA_BYTES_MAX + LIFT_SLACK as usize);
        set_deadline(&mut store, Instant::now() + limits::DESCRIBE_TIMEOUT);
        let instance = linker.instantiate_async(&mut store, component).await.map_err(describe)?;
        let interface = instance.get_export_index(&mut store, None, kind::METADATA);
        let export =
            interface.and_then(|interface| instance.get_export_index(&mut store, Some(&interface), "describe"));
        let export = export.ok_or(SandboxError::NoDescribe)?;
        let function = instance.get_typed_func::<(), (String,)>(&mut store, export).map_err(describe)?;
        let (json,) = function.call_async(&mut store, ()).await.map_err(describe)?;
        Metadata::parse(json.as_bytes())
            .map_err(|error| SandboxError::Describe(format!("{:#}", anyhow::Error::from(error))))
    }
}

fn add_to_linker(linker: &mut Linker<DescribeState>, component: &Component) -> wasmtime::Result<()> {
    let of = component.component_type();
    for (name, _) in of.imports(component.engine()) {
        // Under the component's own version: the traps below cover every name that is not defined exactly.
        if let Some((_, define)) = INTERFACES.iter().find(|(interface, _)| kind::is_compatible(name, interface)) {
            define(&mut linker.instance(name)?)?;
        }
    }
    linker.define_unknown_imports_as_traps(component)
}

fn environment(interface: &mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()> {
    interface.func_wrap("get-environment", |_, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
    interface.func_wrap("get-arguments", |_, (): ()| Ok((Vec::<String>::new(),)))?;
    interface.func_wrap("initial-cwd", |_, (): ()| Ok((None::<String>,)))
}

/// Defines the reads only: a wait for a later time traps.
fn monotonic_clock(interface: &mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()> {
    interface.func_wrap("now", |mut store, (): ()| Ok((store.data_mut().read_clock(),)))?;
    interface.func_wrap("resolution", |_, (): ()| Ok((CLOCK_STEP_NS,)))
}

fn wall_clock(interface: &mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()> {
    interface.func_new("now", |mut store, _, _, results| {
        results[0] = datetime(store.data_mut().read_clock());
        Ok(())
    })?;
    interface.func_new("resolution", |_, _, _, results| {
        results[0] = datetime(CLOCK_STEP_NS);
        Ok(())
    })
}

fn random(interface: &mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()> {
    interface.func_wrap("get-random-u64", |mut store, (): ()| Ok((store.data_mut().next_random(),)))?;
    interface.func_wrap("get-random-bytes", |mut store, (len,): (u64,)| {
        if len > limits::RANDOM_BYTES_MAX {
            wasmtime::bail!("asked for {len} random bytes, over the limit of {}", limits::RANDOM_BYTES_MAX);
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        for part in bytes.chunks_mut(size_of::<u64>()) {
            part.copy_from_slice(&store.data_mut().next_random().to_le_bytes()[..part.len()]);
        }
        Ok((bytes,))
    })
}

fn insecure_seed(interface: &mut LinkerInstance<'_, DescribeState>) -> wasmtime::Result<()> {
    interface.func_wrap("insecure-seed", |mut store, (): ()| {
        let state: &mut DescribeState = store.data_mut();
        Ok(((state.next_random(), state.next_random()),))
    })
}

fn datetime(ns: u64) -> Val {
    let (seconds, nanoseconds) = (ns / 1_000_000_000, (ns % 1_000_000_000) as u32);
    Val::Record(vec![("seconds".to_owned(), Val::U64(seconds)), ("nanoseconds".to_owned(), Val::U32(nanoseconds))])
}
