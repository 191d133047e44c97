//! The worker process: loads models and answers batches. It knows the wire, the tokenizer's data, the
//! kernels and tract, nothing else of the host.
//!
//! Single-threaded but for the arithmetic and the heartbeat: one frame in, one frame out. The process ends when its
//! input does (the host hung up or died); the kernel's parent-death signal is a second net under that.
//!
//! Limits: `BIREME_WORKER_THREADS` threads for the arithmetic, by default one for each core.

mod connection;
mod cpu;
mod cuda;
pub(crate) mod device;
pub mod encoder;
mod error;
mod families;
pub(crate) mod family;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod heartbeat;
mod manifest;
pub(crate) mod model_dir;
mod models;
pub mod onnx;
mod ops;
mod panic_message;
mod pooling;
pub(crate) mod probe;
mod timing;
pub(crate) mod weights;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use self::connection::Connection;
pub use self::error::WorkerError;
use self::heartbeat::Heartbeat;
pub use self::models::Worker;
use crate::confine::Confinement;
use crate::wire::{Frame, MODELS_DIR_VARIABLE};

/// Answers the host on standard input, which is one end of a socket pair, until it hangs up. On the CPU
/// it reads models of the directory in `MODELS_DIR_VARIABLE` and no others.
///
/// # Errors
/// Only errors that end the worker: a broken connection, or a device that has lost its context. Nothing is answered
/// then, so the host tries the batch again with the next worker.
pub fn run(device: Option<u32>) -> Result<(), WorkerError> {
    // While the files that say so can be read.
    device::cores();
    // Before there are threads: each of them is confined from its start.
    let models = std::env::var_os(MODELS_DIR_VARIABLE).map(PathBuf::from);
    Confinement::of(device).apply(models.as_slice());
    let mut worker = Worker::new(device);
    serve(|_, frame| worker.answer(frame))
}

/// Hands each frame of the host on standard input, and its job, to `answer`, and sends the frame that it returns.
///
/// # Errors
/// Those of `answer`, and a broken connection.
pub fn serve(mut answer: impl FnMut(u64, Frame) -> Result<Frame, WorkerError>) -> Result<(), WorkerError> {
    // The signal also fires when the thread that started the worker ends, so the end of input stays the rule.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let mut connection = Connection::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut heartbeat = None;
    while let Some((job, frame)) = connection.next()? {
        if heartbeat.is_none()
            && let Some(memory) = connection.memory()
        {
            heartbeat = Some(Heartbeat::start(memory.clone())?);
        }
        let reply = answer(job, frame)?;
        connection.reply(job, &reply)?;
    }
    Ok(())
}
