//! Functions that break a rule: each gets its named failure, and the next call is served as if nothing had been.

use serde_json::{Value, json};

use crate::support::{Guest, Output, Server, bireme, command, file, finish, fresh_data, function, guest, stat};

/// A call that breaks a rule and what becomes of it.
struct Case {
    function: &'static str,
    input: &'static str,
    /// Exit status of `bireme run`.
    exit: i32,
    /// Status over HTTP.
    status: u16,
    code: &'static str,
    /// What the message says, in any order.
    words: &'static [&'static str],
    /// What the causes say.
    cause: &'static str,
}

const NO_CAUSE: &str = "";

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { function: "spin", input: "{}", exit: 5, status: 504, code: "timeout", words: &["`spin`", "timeout of 200ms", "raise `timeout`"], cause: NO_CAUSE },
    Case { function: "grow", input: r#"{"mib":200}"#, exit: 1, status: 502, code: "memory-limit", words: &["`grow`", "limit of 64 MiB", "raise `memory`"], cause: NO_CAUSE },
    Case { function: "panics", input: r#"{"message":"oh no"}"#, exit: 1, status: 502, code: "crashed", words: &["`panics` panicked: oh no (", "src/resources.rs:"], cause: NO_CAUSE },
    // The guest's stack lies in its memory, so that no more can be told from the trap.
    Case { function: "recurse", input: "{}", exit: 1, status: 502, code: "crashed", words: &["`recurse` crashed", "out of bounds memory access"], cause: "in `hostile::resources::" },
    Case { function: "exits", input: "{}", exit: 1, status: 502, code: "crashed", words: &["`exits` ended the process", "return a failure"], cause: NO_CAUSE },
    // Over the limit, within what may leave the sandbox at once.
    Case { function: "big_output", input: r#"{"bytes":8388700}"#, exit: 1, status: 502, code: "output-too-large", words: &["`big_output` returned 8388702 bytes", "limit of 8388608"], cause: NO_CAUSE },
    // Over that too: wasmtime ends the copy with an error that only its wording tells from others, which this case
    // pins.
    Case { function: "big_output", input: r#"{"bytes":20000000}"#, exit: 1, status: 502, code: "output-too-large", words: &["`big_output`", "output limit of 8 MiB"], cause: NO_CAUSE },
    Case { function: "nest", input: r#"{"depth":4}"#, exit: 1, status: 508, code: "depth-exceeded", words: &["`nest`", "at most 4 deep"], cause: NO_CAUSE },
    Case { function: "call_unknown", input: "{}", exit: 4, status: 404, code: "unknown-function", words: &["`no_such_function`"], cause: NO_CAUSE },
    Case { function: "post", input: r#"{"url":"http://127.0.0.1:9/","body":""}"#, exit: 1, status: 500, code: "terminal", words: &["`http://127.0.0.1:9/`"], cause: "grant it with `--grant site=http://127.0.0.1:9`" },
    Case { function: "typed", input: r#"{"drawing":{"title":7,"shapes":[]}}"#, exit: 2, status: 400, code: "invalid-input", words: &["$.drawing.title: expected a string, found 7"], cause: NO_CAUSE },
    Case { function: "fails_terminal", input: "{}", exit: 1, status: 500, code: "terminal", words: &["it cannot be done"], cause: NO_CAUSE },
];

impl Case {
    #[track_caller]
    fn check(&self, message: &str, causes: &Value) {
        for word in self.words {
            assert!(message.contains(word), "{}: no `{word}` in `{message}`", self.function);
        }
        let causes = causes.to_string();
        assert!(causes.contains(self.cause), "{}: no `{}` in {causes}", self.function, self.cause);
    }
}

fn hostile(name: &str, input: &[&str]) -> Output {
    bireme(&[&["run", &function(Guest::Hostile, name)], input].concat())
}

#[test]
fn each_broken_rule_has_its_message_and_exit_code() {
    for case in CASES {
        let output = hostile(case.function, &[case.input]);
        assert_eq!(output.status, case.exit, "{output:#?}");
        assert_eq!(output.stdout, "");
        let error = output.stderr.split_once(&format!("error[{}]: ", case.code));
        let (_, error) = error.unwrap_or_else(|| panic!("no error[{}] in {output:#?}", case.code));
        let (message, rest) = error.split_once('\n').unwrap();
        case.check(message, &json!(rest));
    }
    assert_eq!(hostile("same", &["1"]).stdout, "1\n");
}

#[test]
fn each_broken_rule_is_an_error_object_for_programs() {
    for case in CASES {
        let output = bireme(&["--json", "run", &function(Guest::Hostile, case.function), case.input]);
        assert_eq!(output.status, case.exit, "{output:#?}");
        let error = &output.json()["error"];
        assert_eq!(error["code"], case.code);
        case.check(error["message"].as_str().unwrap(), &error["causes"]);
    }
}

#[test]
fn each_broken_rule_is_a_problem_over_http_and_the_next_call_is_served() {
    let server = Server::start(&[Guest::Hostile, Guest::Hello]);
    let pid = server.process.pid();
    for case in CASES {
        let reply = server.post(&format!("/hostile/{}", case.function), case.input);
        assert_eq!(reply.status, case.status, "{}: {reply:#?}", case.function);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert!(reply.header("bireme-call").is_some() && reply.header("bireme-version").is_some());
        let problem = reply.json();
        assert_eq!(problem["status"], case.status);
        assert_eq!(problem["code"], case.code);
        case.check(problem["detail"].as_str().unwrap(), &problem["causes"]);

        let good = server.post("/hello/add", r#"{"a":20,"b":22}"#);
        assert_eq!((good.status, good.body.as_str()), (200, "42"), "after {}", case.function);
    }
    assert!(stat(pid).is_some());
}

#[test]
fn many_broken_calls_at_once_leave_the_others_alone() {
    let server = Server::start(&[Guest::Hostile, Guest::Hello]);
    std::thread::scope(|scope| {
        for round in 0..4 {
            for case in CASES {
                let server = &server;
                scope.spawn(move || {
                    let reply = server.post(&format!("/hostile/{}", case.function), case.input);
                    assert_eq!(reply.json()["code"], case.code, "{reply:#?}");
                });
            }
            let good = server.post("/hello/square", &format!("{{\"n\":{round}}}"));
            assert_eq!(good.body, (round * round).to_string());
        }
    });
    assert_eq!(server.post("/hello/square", "9").body, "81");
}

#[test]
fn what_stays_within_the_limits_works() {
    assert_eq!(hostile("grow", &["30"]).stdout, "30\n");
    assert_eq!(hostile("nest", &["3"]).stdout, "3\n");
    assert_eq!(hostile("sleeps", &["1"]).stdout, "1\n");
    assert_eq!(hostile("map_self", &["500"]).stdout, "500\n");
    assert_eq!(hostile("map_unordered", &["500"]).stdout, "124750\n");
    assert_eq!(hostile("map_keep_going", &["10"]).stdout, "[6,4]\n");
    // Dropping a map in the middle ends its calls.
    assert_eq!(hostile("map_first", &["5000"]).stdout, "0\n");
    // Two bytes are the quotes.
    let full = hostile("big_output", &["8388606"]);
    assert_eq!((full.status, full.stdout.len()), (0, 8_388_609));
}

#[test]
fn a_host_that_was_not_granted_or_declared_is_refused_with_what_to_add() {
    let output = hostile("fetch", &["--url", "http://127.0.0.1:9/"]);
    assert!(output.stdout.contains("this function may not reach `http://127.0.0.1:9/`"), "{output:#?}");
    assert!(
        output.stderr.contains("declared but not granted; grant it with `--grant site=http://127.0.0.1:9`"),
        "{output:#?}"
    );

    let output = hostile("fetch_undeclared", &["--url", "https://example.com/"]);
    assert!(output.stdout.contains("this function may not reach"), "{output:#?}");
    assert!(output.stderr.contains("`https://example.com` is not declared"), "{output:#?}");
    assert!(output.stderr.contains("add it to `outbound`"), "{output:#?}");
}

#[test]
fn what_was_granted_is_reached() {
    let server = Server::start(&[Guest::Hello]);
    let origin = format!("http://{}", server.address);
    let url = format!("{origin}/healthz");
    let grant = format!("site={origin}");
    let target = function(Guest::Hostile, "fetch");
    let output = bireme(&["run", "--grant", &grant, &target, "--url", &url]);
    assert_eq!(output.stdout, "\"200\"\n", "{output:#?}");
    // A grant may stand behind the function; a name that was not declared grants nothing.
    let output = bireme(&["run", &target, "--url", &url, "--grant", &grant]);
    assert_eq!(output.stdout, "\"200\"\n", "{output:#?}");
    let output = bireme(&["run", &target, "--url", &url, "--grant", &grant.replace("site", "other")]);
    assert!(output.stdout.contains("may not reach"), "{output:#?}");
}

#[test]
fn no_guest_reaches_its_own_host_whatever_was_granted() {
    let server = Server::start(&[Guest::Hello]);
    let grant = format!("site=http://{}", server.address);
    drop(server);
    // The same port again, so that the grant names the new host's own listener.
    let listen = grant.trim_start_matches("site=http://");
    let data = fresh_data();
    let own = Server::try_start(data.path(), &[Guest::Hostile], &["--listen", listen, "--grant", &grant]);
    let own = own.unwrap_or_else(|output| panic!("somebody took {listen}? {output:#?}"));
    let reply = own.post("/hostile/fetch", &json!({ "url": format!("http://{listen}/healthz") }).to_string());
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert!(!reply.body.contains("200"), "{reply:#?}");
}

#[test]
fn the_sandbox_shows_nothing_of_the_machine() {
    let seen = hostile("looks_around", &[]).json();
    assert_eq!(seen["variables"], 0);
    assert_eq!(seen["arguments"], 0);
    assert!(seen["reads_a_file"].is_string(), "a file was read: {seen}");
    assert!(seen["connects"].as_str().unwrap().contains("ermission denied"), "{seen}");
    assert_eq!(seen["monotonic_advances"], true);
    assert_eq!(seen["map_iterates"], true);
}

#[test]
fn a_flood_of_log_is_cut_at_the_limit_and_the_rest_counted() {
    let output = bireme(&["--json", "run", &function(Guest::Hostile, "log_flood"), "20000"]);
    assert_eq!(output.status, 0);
    assert_eq!(output.json()["result"], 20_000);
    // At most 1 MiB is kept; the names in front of each line come on top.
    let bytes = output.stderr.len();
    assert!(bytes < 2 << 20, "{bytes} bytes of stderr");
    let dropped = output.json()["receipt"]["log_dropped_bytes"].as_u64().unwrap();
    assert!(dropped > 4 << 20, "{dropped}");
    // Lines also wait in a bounded queue for whoever reads stderr. If that was full, the line that tells of the limit
    // may be among those that were left out, and that is told instead.
    let said = format!("the log limit of 1048576 bytes was reached; {dropped} bytes were dropped");
    let stderr = &output.stderr;
    assert!(stderr.contains(&said) || stderr.contains("log lines were dropped"), "nothing says what is missing");
}

#[test]
fn a_file_that_is_no_component_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(guest(Guest::Hostile)).unwrap();
    let cases: &[(&str, &[u8], &str, &str)] = &[
        ("junk", b"junk", "bad-component", "not WebAssembly"),
        ("nothing", b"", "bad-component", "not WebAssembly"),
        ("core", b"\0asm\x01\0\0\0", "bad-component", "core WebAssembly module, not a component"),
        ("half", &good[..good.len() / 2], "bad-metadata", "is the file cut off?"),
        ("less", &good[..good.len() - 1], "bad-metadata", "is the file cut off?"),
        ("head", &good[..6], "bad-metadata", "is the file cut off?"),
    ];
    for (name, bytes, code, words) in cases {
        let path = file(&dir, format!("{name}.wasm"), bytes);
        let target = format!("{path}::same");
        for arguments in
            [&["run", &target] as &[&str], &["inspect", &path], &["serve", "--listen", "127.0.0.1:0", &path]]
        {
            let output = if arguments[0] == "serve" {
                let data = fresh_data();
                finish(command(data.path(), arguments))
            } else {
                bireme(arguments)
            };
            assert_eq!(output.status, 2, "{name}: {output:#?}");
            assert!(output.stderr.contains(&format!("error[{code}]")), "{name}: {output:#?}");
            assert!(output.stderr.contains(words), "{name}: {output:#?}");
        }
    }
}

#[test]
fn a_component_with_flipped_bytes_never_ends_the_host_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(guest(Guest::Hello)).unwrap();
    for part in 1..8 {
        let mut bad = good.clone();
        let start = good.len() / 8 * part;
        bad[start..start + 64].fill(0xff);
        let path = file(&dir, format!("{part}.wasm"), &bad);
        let data = tempfile::tempdir().unwrap();
        let output = finish(command(data.path(), &["run", &format!("{path}::square"), "3"]));
        assert!([0, 1, 2].contains(&output.status), "{part}: {output:#?}");
        let panicked = output.stderr.lines().any(|line| line.starts_with("thread '"));
        assert!(!panicked, "{part}: {output:#?}");
    }
}
