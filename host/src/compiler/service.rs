//! The compiler process: forks for each order, watches the forks, and learns what they compiled.
//!
//! Invariants: it has one thread, so that a fork is a whole process; it reads no component itself; a fork that is over
//! a limit or whose client has gone is killed within `WATCH_EVERY`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::config::CompileLimits;
use super::job::{self, Job};
use super::message::{Order, Reply};
use crate::confine::Confinement;
use crate::sandbox::{CodeGenerator, FunctionCache};

/// Time between two looks at the memory of running jobs.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Compiles for the host on standard input, one end of a socket pair, until it hangs up.
///
/// # Errors
/// Standard input is no such socket, or the compiler cannot be set up.
pub fn run() -> io::Result<()> {
    // No parent-death signal, which also fires when the thread that started this process ends: the end of input is
    // seen at once, since this process never works.
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    // A fork must not hold the host's socket.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let cache = Arc::new(FunctionCache::default());
    let generator = CodeGenerator::new(cache.clone()).map_err(|error| io::Error::other(error.to_string()))?;
    Confinement::Compiler.apply(&[]);
    Service { control, cache, generator, jobs: Vec::new() }.serve()
}

struct Service {
    control: OwnedFd,
    cache: Arc<FunctionCache>,
    generator: CodeGenerator,
    jobs: Vec<RunningJob>,
}

/// A fork at work.
struct RunningJob {
    pid: Pid,
    exit: OwnedFd,
    socket: OwnedFd,
    news: File,
    deadline: Instant,
    /// Resident bytes at which it ends.
    memory_bytes_max: u64,
}

/// State of a job at one look.
#[derive(Clone, Copy, Default)]
struct Sight {
    has_ended: bool,
    is_abandoned: bool,
}

impl Service {
    /// Returns when the host has hung up; and in each fork, when its job is done.
    fn serve(mut self) -> io::Result<()> {
        loop {
            let (has_order, sights) = self.wait()?;
            let (now, mut sights) = (Instant::now(), sights.into_iter());
            let cache = &self.cache;
            self.jobs.retain_mut(|job| !job.ends(sights.next().unwrap_or_default(), now, cache));
            if !has_order {
                continue;
            }
            let Some(order) = Order::receive(self.control.as_fd())? else { return Ok(()) };
            if let Some(job) = self.start(order)? {
                let Self { control, cache, generator, jobs } = self;
                drop((control, jobs));
                return job.run(&generator, &cache);
            }
        }
    }

    /// Waits for an order or a change of a job.
    fn wait(&self) -> io::Result<(bool, Vec<Sight>)> {
        let mut files = vec![PollFd::new(&self.control, PollFlags::IN)];
        for job in &self.jobs {
            files.push(PollFd::new(&job.exit, PollFlags::IN));
            // Reports the hang-up alone.
            files.push(PollFd::new(&job.socket, PollFlags::empty()));
        }
        let timeout = (!self.jobs.is_empty()).then(|| Timespec::try_from(WATCH_EVERY)).and_then(Result::ok);
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_set = |file: &PollFd<'_>, flags| file.revents().intersects(flags);
        let has_order = is_set(&files[0], PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        let sights = files[1..].chunks_exact(2).map(|pair| Sight {
            has_ended: is_set(&pair[0], PollFlags::IN),
            is_abandoned: is_set(&pair[1], PollFlags::HUP),
        });
        Ok((has_order, sights.collect()))
    }

    /// Forks. Returns the job in the fork, and nothing in this process.
    fn start(&mut self, order: Order) -> io::Result<Option<Job>> {
        let news = match rustix::fs::memfd_create("bireme-news", MemfdFlags::CLOEXEC) {
            Ok(news) => File::from(news),
            Err(error) => {
                let _ = Reply::Died(format!("no memory: {error}")).send(order.socket.as_fd());
                return Ok(None);
            }
        };
        let service = rustix::process::getpid();
        let own_bytes = resident_bytes(service);
        // SAFETY: this process has one thread, so the child is whole: no lock is held by a thread that it lacks.
        #[expect(unsafe_code, reason = "a fork shares the compiled functions of this process for nothing")]
        let forked = unsafe { libc::fork() };
        let pid = match forked {
            0 => return Ok(Some(Job { order, news, service })),
            forked => Pid::from_raw(forked.max(0)),
        };
        let Some(pid) = pid else {
            let _ = Reply::Died("the machine starts no more processes".to_owned()).send(order.socket.as_fd());
            return Ok(None);
        };
        let CompileLimits { time_max, memory_bytes_max } = order.limits;
        self.jobs.push(RunningJob {
            pid,
            exit: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            socket: order.socket,
            news,
            deadline: Instant::now() + time_max,
            // The cache, which the fork shares, is not its own memory.
            memory_bytes_max: memory_bytes_max.saturating_add(own_bytes),
        });
        Ok(None)
    }
}

impl RunningJob {
    /// Whether the job is over; ends one that is abandoned or over a limit.
    fn ends(&mut self, sight: Sight, now: Instant, cache: &FunctionCache) -> bool {
        let reply = if sight.has_ended {
            self.death()
        } else if sight.is_abandoned {
            self.kill();
            None
        } else if now >= self.deadline {
            self.kill();
            Some(Reply::OverTime)
        } else if resident_bytes(self.pid) > self.memory_bytes_max {
            self.kill();
            Some(Reply::OverMemory)
        } else {
            return false;
        };
        if let Some(reply) = reply {
            // A client that has gone needs no reply.
            let _ = reply.send(self.socket.as_fd());
        }
        // Lost news cost the next compile some time.
        let _ = job::read_news(&self.news).map(|news| cache.learn(&news));
        true
    }

    fn kill(&self) {
        // Both fail only if it has ended.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }

    /// Reaps a job that has ended; the reply if it gave none.
    fn death(&self) -> Option<Reply> {
        let status = rustix::process::waitpid(Some(self.pid), WaitOptions::empty()).ok()??.1;
        let reason = match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => return None,
            (Some(status), _) => format!("exit status {status}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        Some(Reply::Died(reason))
    }
}

/// Returns the resident bytes of a process; 0 if it has ended.
fn resident_bytes(pid: Pid) -> u64 {
    let pages = || {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    pages().unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}
