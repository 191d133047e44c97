//! `bireme map`: JSON Lines in and out, in bounded memory, to the end or to a stop.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Guest, Output, Process, command, file, finish_with, function, shared_data};

fn map(target: &str, arguments: &[&str], input: &str) -> Output {
    finish_with(command(shared_data(), &[&["map", target], arguments].concat()), input)
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = output.stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn numbers(n: u64) -> String {
    (0..n).map(|n| format!("{n}\n")).collect()
}

/// A map whose input a test writes and whose output it reads as it goes.
struct Running {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn start(arguments: &[&str]) -> Running {
    let target = function(Guest::Hello, "square");
    let mut child: Child = command(shared_data(), &[&["map", &target, "--quiet"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Running { process: Process(child), input, output: BufReader::new(output) }
}

#[test]
fn results_come_in_the_order_of_the_inputs() {
    let output = map(&function(Guest::Hello, "square"), &[], &numbers(10_000));
    assert_eq!(output.status, 0);
    let expected: String = (0..10_000_u64).map(|n| format!("{}\n", n * n)).collect();
    assert!(output.stdout == expected, "wrong or out of order");
    assert_eq!(output.stderr, "10,000 done, 0 failed\n");
}

#[test]
fn unordered_results_cover_each_index_once() {
    let output = map(&function(Guest::Hello, "square"), &["--unordered"], &numbers(5_000));
    assert_eq!(output.status, 0);
    let mut indexes = BTreeSet::new();
    for line in lines(&output) {
        let index = line["index"].as_u64().unwrap();
        assert_eq!(line["output"], index * index);
        assert!(indexes.insert(index), "index {index} came twice");
    }
    assert!(indexes.into_iter().eq(0..5_000));
}

#[test]
fn json_wraps_each_result_with_its_index() {
    let output = map(&function(Guest::Hello, "greet"), &["--json"], "\"Ada\"\n\"Grace\"\n");
    assert_eq!(
        lines(&output),
        [json!({ "index": 0, "output": "hello, Ada" }), json!({ "index": 1, "output": "hello, Grace" })]
    );
}

#[test]
fn keep_going_gives_a_line_for_each_failure_and_exits_with_1() {
    let output = map(&function(Guest::Hostile, "not_thirds"), &["--keep-going"], &numbers(7));
    assert_eq!(output.status, 1);
    assert_eq!(output.stderr, "error[map-failed]: 4 done, 3 failed\n");
    let lines = lines(&output);
    assert_eq!(lines.len(), 7);
    for (index, line) in lines.iter().enumerate() {
        if index.is_multiple_of(3) {
            let message = format!("{index} is a multiple of 3");
            let error = json!({ "index": index, "code": "terminal", "message": message });
            assert_eq!(line["error"], error);
        } else {
            assert_eq!(*line, json!(index));
        }
    }
}

#[test]
fn keep_going_unordered_has_the_index_beside_the_error() {
    let output = map(&function(Guest::Hostile, "not_thirds"), &["--keep-going", "--unordered"], "3\n");
    let error = json!({ "code": "terminal", "message": "3 is a multiple of 3" });
    assert_eq!(lines(&output), [json!({ "index": 0, "error": error })]);
    assert_eq!(output.status, 1);
}

#[test]
fn the_first_failure_ends_the_map_and_names_its_input() {
    let output = map(&function(Guest::Hostile, "not_thirds"), &[], "1\n2\n3\n4\n");
    assert_eq!(output.status, 1);
    assert_eq!(output.stdout, "1\n2\n");
    assert_eq!(
        output.stderr,
        "error[terminal]: input 2: 3 is a multiple of 3\n  hint: --keep-going goes on after a failed input\n"
    );
}

#[test]
fn a_line_that_is_no_json_or_does_not_fit_fails_alone() {
    let input = "{\"n\":2}\n\n  \n{\"n\":}\n{\"m\":3}\n3";
    let output = map(&function(Guest::Hello, "square"), &["--keep-going"], input);
    assert_eq!(output.status, 1);
    let lines = lines(&output);
    // Blank lines do not count; the last line needs no end.
    assert_eq!((lines.len(), &lines[0], &lines[3]), (4, &json!(4), &json!(9)));
    for (index, words) in [(1, "the input is not JSON"), (2, "unknown parameter `m`")] {
        let error = &lines[index]["error"];
        assert_eq!((&error["code"], &error["index"]), (&json!("invalid-input"), &json!(index)));
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}

#[test]
fn crashes_and_timeouts_fail_alone() {
    let output = map(&function(Guest::Hostile, "panics"), &["--keep-going", "--quiet"], "\"a\"\n\"b\"\n");
    let codes: Vec<_> = lines(&output).iter().map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(codes, ["crashed", "crashed"]);
    let output = map(&function(Guest::Hostile, "spin"), &["--keep-going", "--quiet"], "{}\n{}\n");
    let codes: Vec<_> = lines(&output).iter().map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(codes, ["timeout", "timeout"]);
}

#[test]
fn no_input_gives_no_output() {
    for input in ["", "\n\n"] {
        let output = map(&function(Guest::Hello, "square"), &[], input);
        assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{output:#?}");
    }
}

#[test]
fn inputs_can_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = file(&dir, "inputs.jsonl", b"5\n6\n");
    let square = function(Guest::Hello, "square");
    let output = map(&square, &["--inputs", &inputs], "");
    assert_eq!((output.status, output.stdout.as_str()), (0, "25\n36\n"));
    let output = map(&square, &["--inputs", &format!("{inputs}.gone")], "");
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("error[inputs-unreadable]: cannot open the inputs"), "{output:#?}");
}

#[test]
fn an_unknown_function_is_found_before_anything_is_read() {
    let output = map(&function(Guest::Hello, "squre"), &[], "1\n");
    assert_eq!((output.status, output.stdout.as_str()), (4, ""));
    assert!(output.stderr.contains("did you mean `square`?"), "{output:#?}");
}

#[test]
fn a_slow_producer_sees_each_result_before_its_next_input() {
    let mut map = start(&[]);
    for n in [3_u64, 4, 5] {
        writeln!(map.input, "{n}").unwrap();
        let mut line = String::new();
        map.output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{}\n", n * n));
    }
    drop(map.input);
    assert_eq!(map.process.wait(), 0);
}

#[test]
fn a_reader_that_leaves_ends_the_map_without_an_error() {
    let mut map = start(&[]);
    let mut input = map.input;
    // More input than anybody waits for; it ends because the map does.
    let producer = std::thread::spawn(move || while writeln!(input, "7").is_ok() {});
    let mut line = String::new();
    map.output.read_line(&mut line).unwrap();
    assert_eq!(line, "49\n");
    drop(map.output);
    assert_eq!(map.process.wait(), 0);
    producer.join().unwrap();
}

#[test]
fn ctrl_c_ends_a_map_with_130() {
    let mut map = start(&[]);
    writeln!(map.input, "7").unwrap();
    let mut line = String::new();
    map.output.read_line(&mut line).unwrap();
    // It runs, and waits for an input that does not come.
    map.process.signal(Signal::INT);
    assert_eq!(map.process.wait(), 130);
}

/// Inputs of the large map.
const MANY: u64 = 200_000;
/// Inputs after which everything is there that does not grow with their number: the map's window five times over.
const FEW: u64 = 20_000;
/// What the rest may add: slack of the allocator. Keeping each outcome would take twice this.
const GROWTH_KIB_MAX: u64 = 24 << 10;

/// Returns the most memory that a process ever had resident, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_memory_of_a_map_does_not_grow_with_its_inputs() {
    let Running { mut process, mut input, output } = start(&[]);
    let producer = std::thread::spawn(move || {
        let mut buffered = BufWriter::new(&mut input);
        (0..MANY).for_each(|n| writeln!(buffered, "{n}").unwrap());
        drop(buffered);
        input
    });
    let mut after_few = 0;
    for (n, line) in (0..MANY).zip(output.lines()) {
        assert_eq!(line.unwrap(), (n * n).to_string());
        if n == FEW {
            after_few = peak_kib(process.pid());
        }
    }
    // All results are out and the input is still open, so the process waits and can be looked at.
    let input = producer.join().unwrap();
    let peak = peak_kib(process.pid());
    assert!(peak - after_few < GROWTH_KIB_MAX, "{after_few} KiB after {FEW} inputs, {peak} KiB after {MANY}");
    drop(input);
    assert_eq!(process.wait(), 0);
}
