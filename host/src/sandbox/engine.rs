//! The WebAssembly engine: accepted proposals, the instance pool, and the epoch tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::function_cache::FunctionCache;
use crate::limits::{self, Ceilings};

/// Bytes of each memory that stay mapped between calls. Measured: 9 µs for a fresh call against 19 without; costs at
/// most this much resident memory for each slot that was ever used.
const MEMORY_KEEP_RESIDENT: usize = 1 << 20;
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// Configuration of the engine and its pool.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Instances at a time. Lowered to the number that the kernel's mapping limit carries.
    pub instances_max: u32,
    pub ceilings: Ceilings,
    /// Whether freed memories are reset by a page-table scan (Linux 6.7) rather than by unmapping.
    pub pagemap_scan: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { instances_max: limits::INSTANCES_DEFAULT, ceilings: Ceilings::default(), pagemap_scan: true }
    }
}

/// Reset of freed memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolMode {
    /// The kernel reports the touched pages; only those are reset.
    PagemapScan,
    /// The memory is unmapped: about twice the cost of a call, with contention between threads. For older kernels.
    Decommit,
}

/// An engine, and the thread that advances its epoch every `TICK` until it is dropped.
pub(crate) struct TickingEngine {
    pub engine: Engine,
    pub instances_max: u32,
    pub pool_mode: PoolMode,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl TickingEngine {
    /// Makes an engine and starts its ticker. An error if the machine cannot hold the pool.
    pub(crate) fn new(config: &EngineConfig) -> wasmtime::Result<Self> {
        let instances_max = instances_carried(config.instances_max, mappings_max());
        let pool_mode =
            if config.pagemap_scan && kernel_has_pagemap_scan() { PoolMode::PagemapScan } else { PoolMode::Decommit };
        let engine = Engine::new(&engine_config(instances_max, pool_mode, &config.ceilings))?;

        let stop = Arc::new(AtomicBool::new(false));
        let ticker = std::thread::Builder::new().name("epoch".into()).spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(limits::TICK);
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Self { engine, instances_max, pool_mode, stop, ticker: Some(ticker) })
    }
}

impl Drop for TickingEngine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

fn engine_config(instances_max: u32, pool_mode: PoolMode, ceilings: &Ceilings) -> Config {
    use limits::{CORE_INSTANCES_PER_COMPONENT_MAX, MEMORIES_PER_COMPONENT_MAX, TABLES_PER_COMPONENT_MAX};

    let mut pool = PoolingAllocationConfig::new();
    // A slot has room for the largest component, so the pool never refuses a call that holds a slot.
    let of_all = |per_component: u32| instances_max.saturating_mul(per_component);
    pool.total_component_instances(instances_max)
        .total_core_instances(of_all(CORE_INSTANCES_PER_COMPONENT_MAX))
        .total_memories(of_all(MEMORIES_PER_COMPONENT_MAX))
        .total_tables(of_all(TABLES_PER_COMPONENT_MAX))
        .total_stacks(instances_max)
        .total_gc_heaps(0)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(ceilings.memory_bytes_max).unwrap_or(usize::MAX));
    if pool_mode == PoolMode::PagemapScan {
        // Without the scan, resident memory costs a memset for each call, more than unmapping.
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
            .table_keep_resident(TABLE_KEEP_RESIDENT);
    }

    let mut config = code_config();
    // Code comes from the compiler process: a component that is slow or fatal to compile must not meet Cranelift here.
    config.enable_compiler(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Returns an engine that compiles, for `CodeGenerator`. It has no pool: it runs nothing.
pub(super) fn compiling(cache: Arc<FunctionCache>) -> wasmtime::Result<Engine> {
    let mut config = code_config();
    config.cranelift_opt_level(OptLevel::Speed).enable_incremental_compilation(cache)?;
    Engine::new(&config)
}

/// Returns the settings that compiled code depends on, the same where it is made and where it is loaded.
fn code_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Several advisories of 48.0.8 are about component-model async, and no WASI 0.2 guest needs it.
        .concurrency_support(false)
        // Compiled in and switched off here: builds without the features have host-abort advisories of their own.
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_stack_switching(false);
    config
}

/// Returns the number of instances that the mapping limit carries: `vm.max_map_count` is the bound, not memory.
fn instances_carried(wanted: u32, mappings_max: Option<u64>) -> u32 {
    let Some(mappings_max) = mappings_max else {
        return wanted;
    };
    let carried = mappings_max.saturating_sub(limits::MAPPINGS_RESERVED) / limits::MAPPINGS_PER_INSTANCE;
    // Fewer instances than nesting levels could not finish one call tree, so a tiny limit stops here.
    let least = limits::DEPTH_MAX + 1;
    wanted.min(u32::try_from(carried).unwrap_or(u32::MAX)).max(least)
}

/// Returns the mappings that `instances` take together with the rest of the process.
pub(crate) fn mappings_for(instances: u32) -> u64 {
    u64::from(instances) * limits::MAPPINGS_PER_INSTANCE + limits::MAPPINGS_RESERVED
}

/// Returns the kernel's limit of mappings for one process, if it has one.
pub(crate) fn mappings_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// Whether the kernel is at least Linux 6.7, which introduced `PAGEMAP_SCAN`. wasmtime's `Auto` probes again and falls
/// back.
fn kernel_has_pagemap_scan() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_limit_lowers_the_number_of_instances() {
        assert_eq!(instances_carried(1_000, None), 1_000);
        assert_eq!(instances_carried(1_000, Some(65_530)), 1_000);
        assert_eq!(instances_carried(10_000, Some(65_530)), 7_167);
        assert_eq!(instances_carried(1_000, Some(100)), limits::DEPTH_MAX + 1);
        assert_eq!(instances_carried(50_000, Some(mappings_for(20_000))), 20_000);
    }

    #[test]
    fn proposals_that_are_off_are_refused() {
        let engine = Engine::new(&engine_config(8, PoolMode::Decommit, &Ceilings::default())).unwrap();
        let memory64 = b"\0asm\x01\0\0\0\x05\x03\x01\x04\x01";
        let two_memories = b"\0asm\x01\0\0\0\x05\x05\x02\0\x01\0\x01";
        let one_memory = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01";
        assert!(wasmtime::Module::validate(&engine, one_memory).is_ok());
        assert!(wasmtime::Module::validate(&engine, memory64).is_err());
        assert!(wasmtime::Module::validate(&engine, two_memories).is_err());
    }
}
