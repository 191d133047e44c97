//! One interactive call, alone and beside maps on the same two runtime threads: what it takes, from outside.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bireme::call::{Payload, Principal, Priority};
use bireme::dispatch::Call;
use bireme::sandbox::{FunctionRef, MapRun, Order};
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, Listening, Served};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const THREADS: usize = 2;
/// One round takes each side in turn.
const ROUNDS: usize = 6;
const CALLS_PER_SIDE: usize = 150;
/// Between two interactive calls.
const PAUSE: Duration = Duration::from_millis(3);
/// A map runs for so long before it is measured beside it.
const WARM_UP: Duration = Duration::from_millis(200);
/// Time of one call of the map that computes.
const COMPUTES: Duration = Duration::from_millis(5);
const ROUNDS_TO_CALIBRATE: u64 = 20_000_000;
/// Outcomes taken at a time.
const TAKEN_MAX: usize = 256;
const REQUEST: &[u8] =
    b"POST /bench-guest/spin HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n1";

fn main() {
    if guest::ran_as_child() {
        return;
    }
    let runtime = guest::runtime(THREADS);
    let bench = Arc::new(runtime.block_on(Bench::start()));
    let tiny = Beside { name: "tiny", priority: Priority::Low, rounds: 1 };
    let computing = Beside { name: "computing", priority: Priority::Low, rounds: bench.rounds };
    let sides = [
        None,
        Some(tiny),
        Some(computing),
        Some(Beside { priority: Priority::Normal, ..tiny }),
        Some(Beside { priority: Priority::Normal, ..computing }),
    ];
    // By side: through the dispatcher, through HTTP, inputs a second of a map by itself and beside the calls.
    let mut taken: [[Samples; 4]; 5] = Default::default();
    for _ in 0..figures::rounds(ROUNDS) {
        for (side, [direct, http, by_itself, beside]) in sides.into_iter().zip(&mut taken) {
            let map = side.map(|side| bench.map(&runtime, side));
            std::thread::sleep(WARM_UP);
            if let Some(map) = &map {
                by_itself.push(map.rate(WARM_UP * 2));
            }
            let (begun, before) = (Instant::now(), map.as_ref().map_or(0, Map::done));
            bench.interactive(&runtime, direct, http);
            if let Some(map) = map {
                beside.push((map.done() - before) as f64 / begun.elapsed().as_secs_f64());
                map.stop(&runtime);
            }
        }
    }
    figures::print_machine();
    let [alone, ..] = &taken;
    for (side, [direct, http, by_itself, beside]) in sides.iter().zip(&taken) {
        let name = side.map_or("alone".to_owned(), |side| format!("beside_{}_{}", side.priority, side.name));
        for (way, samples, alone) in [("dispatch", direct, &alone[0]), ("http", http, &alone[1])] {
            figures::print_figure(&format!("{way}_{name}_p50_us"), samples.median());
            figures::print_figure(&format!("{way}_{name}_p99_us"), samples.percentile(0.99));
            if side.is_some() {
                let ratio = samples.percentile(0.99) / alone.percentile(0.99);
                figures::print_ratio(&format!("{way}_{name}_p99_vs_alone"), ratio);
            }
        }
        if let Some(side) = side {
            figures::print_figure(&format!("map_{}_{}_by_itself_per_s", side.priority, side.name), by_itself.median());
            figures::print_figure(&format!("map_{}_{}_beside_calls_per_s", side.priority, side.name), beside.median());
        }
    }
    // Time over time: what batch work pays for standing back, with nothing else to stand back for.
    figures::print_ratio("map_low_vs_normal_tiny", taken[3][2].median() / taken[1][2].median());
    figures::print_ratio("map_low_vs_normal_computing", taken[4][2].median() / taken[2][2].median());
}

/// A map that runs without end.
#[derive(Clone, Copy)]
struct Beside {
    name: &'static str,
    priority: Priority,
    /// Of each call.
    rounds: u64,
}

struct Map {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Map {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn rate(&self, during: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.done());
        std::thread::sleep(during);
        (self.done() - before) as f64 / begun.elapsed().as_secs_f64()
    }

    fn stop(self, runtime: &Runtime) {
        self.stop.store(true, Ordering::Relaxed);
        runtime.block_on(self.task).expect("no call panics");
    }
}

struct Bench {
    served: Listening,
    function: FunctionRef,
    address: SocketAddr,
    /// Rounds of `spin` that take `COMPUTES`.
    rounds: u64,
}

impl Bench {
    async fn start() -> Self {
        let served = Served::start(guest::BENCH_GUEST).await;
        let function = served.find("spin");
        let served = served.listen().await;
        let address = served.running.address;
        let input = Payload::json(ROUNDS_TO_CALIBRATE.to_string());
        let call = Call::new(function.clone(), input, Principal::Operator);
        let finished = served.running.host.dispatcher.call(call).await;
        finished.result.expect("the call is good");
        let rounds = ROUNDS_TO_CALIBRATE * COMPUTES.as_micros() as u64 / finished.receipt.cpu_us.max(1);
        Self { served, function, address, rounds }
    }

    /// Makes calls one after the other, with pauses, each way.
    fn interactive(&self, runtime: &Runtime, direct: &mut Samples, http: &mut Samples) {
        let mut stream = TcpStream::connect(self.address).expect("the host listens");
        stream.set_nodelay(true).expect("a socket takes the option");
        for _ in 0..CALLS_PER_SIDE {
            std::thread::sleep(PAUSE);
            let begun = Instant::now();
            self.direct(runtime);
            direct.push_us(begun.elapsed());
            std::thread::sleep(PAUSE);
            let begun = Instant::now();
            ask(&mut stream);
            http.push_us(begun.elapsed());
        }
    }

    /// A task, as each request is, waited for by a thread that is not the runtime's.
    fn direct(&self, runtime: &Runtime) {
        let call = Call::new(self.function.clone(), Payload::json("1"), Principal::Operator);
        let dispatcher = self.served.running.host.dispatcher.clone();
        let finished = runtime.block_on(runtime.spawn(async move { dispatcher.call(call).await }));
        finished.expect("no call panics").result.expect("the call is good");
    }

    /// Starts a map whose inputs do not end before it is stopped.
    fn map(&self, runtime: &Runtime, side: Beside) -> Map {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let dispatcher = &self.served.running.host.dispatcher;
        let mut map = dispatcher.map(self.function.clone(), Order::Completion, side.priority, Principal::Operator);
        let (stopped, counted) = (stop.clone(), done.clone());
        let task = runtime.spawn(async move {
            let input = Payload::json(side.rounds.to_string());
            let mut offered = VecDeque::new();
            while !stopped.load(Ordering::Relaxed) {
                offered.resize(TAKEN_MAX, input.clone());
                map.push(&mut offered).expect("the map is open");
                if offered.is_empty() {
                    continue;
                }
                for outcome in map.next(TAKEN_MAX).await {
                    outcome.result.expect("the call is good");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Map { stop, done, task }
    }
}

/// One request on a connection that is kept, and its answer.
fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST).expect("the host reads");
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let len = stream.read(&mut buffer).expect("the host answers");
        assert!(len > 0, "the host closed the connection: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..len]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
        let length = head.lines().find(is_length).and_then(|line| line.split_once(':')?.1.trim().parse().ok());
        if body.len() == length.unwrap_or(usize::MAX) {
            return;
        }
    }
}
