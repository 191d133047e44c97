//! The worker that misbehaves: the real one, but where a file of the test says what to do instead.

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bireme::spawner::{Program, Spawner};
use bireme::wire::{FailureKind, Frame, HEADER_BYTES, MAGIC};
use bireme::worker::{self, Worker, WorkerError};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

/// A row that begins with this token ends every worker that sees it.
pub(crate) const POISON: u32 = (1 << 24) - 1;

/// How the argument begins that names the directory of the plan.
const PLAN: &str = "plan:";

/// When a worker looks whether it is to misbehave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Start,
    Load,
    Check,
    Batch,
}

/// What a worker does instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// As by the kernel's out-of-memory killer, or a driver that crashes.
    Killed,
    /// As a worker does whose device has lost its context.
    Exits,
    /// Closes the conversation and lives on.
    HangsUp,
    /// Lives on and never answers.
    Holds,
    /// Stands still as a whole, as under SIGSTOP.
    Stops,
    OutOfMemory,
    Device,
    Refused,
    /// Says that it could not load what it was not asked to load.
    LoadFailure,
    MoreRows,
    FewerRows,
    Dimension,
    OtherKind,
    OtherModel,
    OtherJob,
    /// The answer to another batch of the same shape.
    OtherBatch,
    NotANumber,
    Truncated,
    /// A frame of a length that nobody would allocate.
    Huge,
    /// A body that is shorter than what it says is in it.
    Inconsistent,
    Garbage,
    Magic,
    Twice,
    Early,
}

impl Fault {
    const ALL: [Fault; 24] = [
        Self::Killed,
        Self::Exits,
        Self::HangsUp,
        Self::Holds,
        Self::Stops,
        Self::OutOfMemory,
        Self::Device,
        Self::Refused,
        Self::LoadFailure,
        Self::MoreRows,
        Self::FewerRows,
        Self::Dimension,
        Self::OtherKind,
        Self::OtherModel,
        Self::OtherJob,
        Self::OtherBatch,
        Self::NotANumber,
        Self::Truncated,
        Self::Huge,
        Self::Inconsistent,
        Self::Garbage,
        Self::Magic,
        Self::Twice,
        Self::Early,
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// The files by which a test and its workers speak.
pub(crate) struct Plan {
    dir: TempDir,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    /// This binary, as a worker.
    pub(crate) fn spawner(&self, models_dir: &Path) -> Spawner {
        let plan = format!("{PLAN}{}", self.dir.path().display());
        let args = ["fake::the_worker", "--exact", "--ignored", "--nocapture", &plan];
        let program = Program { program: std::env::current_exe().unwrap(), args: args.map(str::to_owned).to_vec() };
        Spawner::with_worker(program, models_dir)
    }

    /// Has the next worker that comes to this stage misbehave, once.
    pub(crate) fn arm(&self, stage: Stage, fault: Fault) {
        let _ = fs::remove_file(taken(self.dir.path()));
        self.write(&once(self.dir.path(), stage), fault);
    }

    /// Has every worker misbehave, until [`disarm`](Self::disarm).
    pub(crate) fn arm_always(&self, stage: Stage, fault: Fault) {
        self.write(&always(self.dir.path(), stage), fault);
    }

    pub(crate) fn disarm(&self, stage: Stage) {
        fs::remove_file(always(self.dir.path(), stage)).unwrap();
    }

    /// Whether a worker has met what was armed last.
    pub(crate) fn is_taken(&self) -> bool {
        taken(self.dir.path()).exists()
    }

    fn write(&self, path: &Path, fault: Fault) {
        let part = self.dir.path().join("part");
        fs::write(&part, fault.name()).unwrap();
        // So that no worker reads half of it.
        fs::rename(part, path).unwrap();
    }
}

fn once(dir: &Path, stage: Stage) -> PathBuf {
    dir.join(format!("once-{stage:?}"))
}

fn always(dir: &Path, stage: Stage) -> PathBuf {
    dir.join(format!("always-{stage:?}"))
}

fn taken(dir: &Path) -> PathBuf {
    dir.join("taken")
}

/// Returns what a worker is to do at this stage instead of what it should.
fn fault(dir: &Path, stage: Stage) -> Option<Fault> {
    // Only one worker's rename succeeds.
    let path = match fs::rename(once(dir, stage), taken(dir)) {
        Ok(()) => taken(dir),
        Err(_) => always(dir, stage),
    };
    let name = fs::read_to_string(path).ok()?;
    Fault::ALL.into_iter().find(|fault| fault.name() == name)
}

#[test]
#[ignore = "what the other tests start as their worker"]
fn the_worker() {
    let Some(dir) = std::env::args().find_map(|arg| arg.strip_prefix(PLAN).map(PathBuf::from)) else { return };
    let mut worker = Worker::new(None);
    if let Some(fault) = fault(&dir, Stage::Start) {
        let nothing = Frame::Check;
        let _ = misbehave(fault, 0, nothing);
    }
    let ended = worker::serve(|job, frame| {
        let stage = match &frame {
            Frame::Load { .. } => Stage::Load,
            Frame::Check => Stage::Check,
            Frame::Batch { cu_seqlens, ids, .. } => {
                if cu_seqlens.iter().any(|&start| ids.get(start as usize) == Some(&POISON)) {
                    die(Signal::KILL);
                }
                Stage::Batch
            }
            _ => return worker.answer(frame),
        };
        let fault = fault(&dir, stage);
        let answer = worker.answer(frame)?;
        match fault {
            Some(fault) => misbehave(fault, job, answer),
            None => Ok(answer),
        }
    });
    std::process::exit(i32::from(ended.is_err()));
}

/// Does what the fault is; returns what is sent besides.
fn misbehave(fault: Fault, job: u64, answer: Frame) -> Result<Frame, WorkerError> {
    let failed = |kind| Ok(Frame::Failed { kind, message: "by the plan".to_owned() });
    let mut bytes = Vec::new();
    match (fault, answer) {
        (Fault::Killed, _) => die(Signal::KILL),
        (Fault::Exits, _) => std::process::exit(75),
        (Fault::HangsUp, _) => {
            socket().shutdown(Shutdown::Both)?;
            hold()
        }
        (Fault::Holds, _) => hold(),
        (Fault::Stops, _) => die(Signal::STOP),
        (Fault::OutOfMemory, _) => failed(FailureKind::OutOfMemory),
        (Fault::Device, _) => failed(FailureKind::Device),
        (Fault::Refused, _) => failed(FailureKind::BadBatch),
        (Fault::LoadFailure, _) => failed(FailureKind::Load),
        (Fault::OtherKind, _) => Ok(Frame::Checked { in_use: 0 }),
        (Fault::Garbage, _) => {
            socket().write_all(&(0..=255).cycle().take(HEADER_BYTES * 100).collect::<Vec<u8>>())?;
            hold()
        }
        (Fault::Huge, _) => {
            bytes.extend(MAGIC.to_le_bytes());
            bytes.extend(4u32.to_le_bytes());
            bytes.extend(job.to_le_bytes());
            bytes.extend(u64::MAX.to_le_bytes());
            socket().write_all(&bytes)?;
            hold()
        }
        (Fault::Truncated, answer) => {
            answer.encode(job, &mut bytes);
            socket().write_all(&bytes[..bytes.len() - 1])?;
            std::process::exit(0)
        }
        (Fault::Inconsistent, answer) => {
            answer.encode(job, &mut bytes);
            bytes.truncate(bytes.len() - 4);
            let body = (bytes.len() - HEADER_BYTES) as u64;
            bytes[16..HEADER_BYTES].copy_from_slice(&body.to_le_bytes());
            socket().write_all(&bytes)?;
            hold()
        }
        (Fault::Magic, answer) => {
            answer.encode(job, &mut bytes);
            bytes[3] ^= 0x40;
            socket().write_all(&bytes)?;
            hold()
        }
        (Fault::Twice, answer) => {
            answer.encode(job, &mut bytes);
            socket().write_all(&bytes)?;
            Ok(answer)
        }
        (Fault::Early | Fault::OtherJob, answer) => {
            answer.encode(job + 1, &mut bytes);
            socket().write_all(&bytes)?;
            if fault == Fault::OtherJob { hold() } else { Ok(answer) }
        }
        (_, Frame::Vectors { model, mut rows, mut dimension, mut checksum, device_ns, mut values }) => {
            let mut of = model;
            match fault {
                Fault::MoreRows => {
                    rows += 1;
                    values.extend(vec![1.0; dimension as usize]);
                }
                Fault::FewerRows => {
                    rows -= 1;
                    values.truncate(values.len() - dimension as usize);
                }
                Fault::Dimension => {
                    dimension += 1;
                    values.extend(vec![1.0; rows as usize]);
                }
                Fault::OtherModel => of.0 += 1,
                Fault::OtherBatch => checksum ^= 1,
                _ => values[0] = f32::NAN,
            }
            Ok(Frame::Vectors { model: of, rows, dimension, checksum, device_ns, values })
        }
        (fault, answer) => panic!("{fault:?} says nothing of {answer:?}"),
    }
}

/// The conversation, to write to it what no frame is.
fn socket() -> UnixStream {
    UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap())
}

fn die(signal: Signal) -> ! {
    kill_process(getpid(), signal).unwrap();
    hold()
}

fn hold() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
