//! An author's declarations, as the host keeps them.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::site::{Site, Told};
use crate::support::{
    Guest, Output, Server, bireme, command, file, finish, finish_with, fresh_data, function, guest, shared_data,
    wait_until,
};

const SECRET: &str = "s3cret-value";

/// Runs one function, with the secret that the app declares.
fn run(name: &str, more: &[&str]) -> Output {
    let secret = format!("API_KEY={SECRET}");
    bireme(&[&["run", "--secret", &secret, &function(Guest::Authored, name)], more].concat())
}

#[test]
fn a_limited_function_runs_so_many_times_at_once() {
    // Long enough that calls would meet if they could.
    let site = Site::start(|asked| {
        std::thread::sleep(Duration::from_millis(10));
        Told::new(200, asked.target.trim_start_matches('/')).with("content-type", "application/json")
    });
    let target = function(Guest::Authored, "one_at_a_time");
    let map = ["map", "--grant", &site.grant(), "--secret", "API_KEY=x", &target];
    let line = format!("\"{}\"\n", site.url("/7"));
    let output = finish_with(command(shared_data(), &map), &line.repeat(12));
    assert_eq!((output.status, output.stdout.as_str()), (0, "7\n".repeat(12).as_str()), "{output:#?}");
    assert_eq!(site.open_max(), 1);

    let data = fresh_data();
    let more = ["--grant", &site.grant(), "--secret", "API_KEY=x"];
    let server = Server::try_start(data.path(), &[Guest::Authored], &more).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(server.post("/authored/one_at_a_time", line.trim()).body, "7"));
        }
    });
    assert_eq!((site.requests(), site.open_max()), (20, 1));
}

#[test]
fn a_limited_function_that_calls_itself_ends_with_its_deadline() {
    assert_eq!(run("calls_itself", &["0"]).stdout, "0\n");
    let output = run("calls_itself", &["1"]);
    assert!(output.status == 5 || output.status == 69, "{output:#?}");
    assert!(output.stderr.contains("`concurrency = 1`") || output.stderr.contains("timeout of 300ms"), "{output:#?}");
}

#[test]
fn a_declared_secret_is_an_environment_variable_of_that_function_alone() {
    assert_eq!(run("reads_secret", &["--secret", "OTHER=1"]).json(), SECRET);
    assert_eq!(run("sees_no_secret", &[]).json(), 0);
    // The one behind the function was typed later.
    assert_eq!(run("reads_secret", &["--secret", "API_KEY=later"]).json(), "later");
    assert_eq!(run("reads_secret", &["--secret", "authored:API_KEY=own"]).json(), "own");
    assert_eq!(run("reads_secret", &["--secret", "hello:API_KEY=other"]).json(), SECRET);
}

#[test]
fn a_secret_comes_from_the_environment_or_from_a_file() {
    let target = function(Guest::Authored, "reads_secret");
    let mut from_environment = command(shared_data(), &["run", "--secret", "API_KEY", &target]);
    from_environment.env("API_KEY", "of the environment");
    assert_eq!(finish(from_environment).json(), "of the environment");

    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, ".env", b"# keys\nexport API_KEY=\"of the file\"\n");
    assert_eq!(bireme(&["run", "--secrets", &path, &target]).json(), "of the file");
    // What is typed wins over a file, wherever it stands.
    assert_eq!(bireme(&["run", &target, "--secret", "API_KEY=typed", "--secrets", &path]).json(), "typed");

    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(SECRET.as_bytes()).unwrap();
    let output = bireme(&["run", "--secrets", &path, &target]);
    assert_eq!(output.status, 2, "{output:#?}");
    assert!(output.stderr.contains("error[config]") && output.stderr.contains("line 3: "), "{output:#?}");
    assert!(!output.stderr.contains(SECRET), "{output:#?}");
}

#[test]
fn a_secret_that_is_not_given_stops_the_calls_that_need_it_and_no_others() {
    let missing = "`reads_secret` of `authored` declares the secret `API_KEY`, which is not given; give it with \
                   `--secret API_KEY=VALUE`";
    let output = bireme(&["run", &function(Guest::Authored, "reads_secret")]);
    assert!(output.status == 2 && output.stderr.contains(missing), "{output:#?}");
    let output = bireme(&["run", &function(Guest::Authored, "sees_no_secret")]);
    assert_eq!((output.status, output.json()), (0, 0.into()), "{output:#?}");

    let server = Server::start(&[Guest::Authored]);
    let note =
        "`authored::reads_secret` cannot be called: its secret `API_KEY` is not given; give it with `--secret API_KEY`";
    assert!(server.stderr().contains(note), "{}", server.stderr());
    assert_eq!(server.post("/authored/sees_no_secret", "{}").status, 200);
    let reply = server.post("/authored/reads_secret", "{}");
    let problem = reply.json();
    assert_eq!((reply.status, problem["code"].as_str()), (500, Some("terminal")), "{reply:#?}");
    assert!(problem["detail"].as_str().unwrap().contains(missing), "{reply:#?}");

    let output = bireme(&["run", "--secret", "API_KEY", &function(Guest::Authored, "sees_no_secret")]);
    assert_eq!(output.status, 2, "{output:#?}");
    assert!(output.stderr.contains("has no variable `API_KEY`"), "{output:#?}");
}

#[test]
fn a_secret_is_in_no_log_no_error_and_no_description() {
    for name in ["tells_secret", "panics_with_secret"] {
        let output = run(name, &["--receipt"]);
        assert_eq!(output.status, 1, "{output:#?}");
        assert!(output.stderr.contains("***"), "{output:#?}");
        assert!(!output.stderr.contains(SECRET), "{output:#?}");
    }
    let told = run("tells_secret", &[]).stderr;
    for words in ["stderr ***", "log *** key=***", "failure ***", "cause ***"] {
        assert!(told.contains(words), "{told}");
    }
    let inspected = bireme(&["inspect", guest(Guest::Authored)]).stdout;
    assert!(inspected.contains("read the secrets API_KEY"), "{inspected}");
    assert!(inspected.contains("1 at a time"), "{inspected}");
    assert!(inspected.contains("2 retries after 1ms, then 2 times as long, up to 2ms"), "{inspected}");
    let inspected = bireme(&["inspect", guest(Guest::Authored), "--json"]).json();
    let functions = inspected["functions"].as_array().unwrap();
    let reads = functions.iter().find(|function| function["name"] == "reads_secret").unwrap();
    assert_eq!(reads["attributes"], json!({ "secrets": ["API_KEY"] }));
}

#[test]
fn retries_may_have_a_spacing_of_their_own() {
    let output = run("fails_twice", &["--json"]);
    assert_eq!(output.json()["result"], 3, "{output:#?}");
    assert_eq!(output.json()["receipt"]["attempts"], 3);
}

#[test]
fn bytes_come_from_a_file_and_go_to_stdout_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "data", b"\x00\xffab");
    let at = format!("@{path}");
    assert_eq!(run("weigh", &[&at]).stdout, "4\n");
    assert_eq!(run("weigh", &["--input", &path]).stdout, "4\n");
    let secret = format!("API_KEY={SECRET}");
    let target = function(Guest::Authored, "reverse");
    let output = command(shared_data(), &["run", "--secret", &secret, "--input", &path, &target]).output().unwrap();
    assert_eq!(output.stdout, b"ba\xff\x00");
    let piped =
        command(shared_data(), &["run", "--secret", &secret, &target, "--input", "-", "--content-type", "text/plain"]);
    assert_eq!(finish_with(piped, "abc").stdout, "cba");

    let told = run("reverse", &[&at, "--content-type", "image/x-none", "--json"]).json();
    assert_eq!(told["result"], json!({ "content_type": "image/x-none", "base64": "YmH/AA==" }));
    assert_eq!(run("draw", &["3"]).stdout, "...");
    // JSON may stand in a file, too.
    assert_eq!(run("draw", &["--input", &file(&dir, "three.json", b" {\"width\": 3}\n")]).stdout, "...");
}

#[test]
fn json_for_bytes_and_the_reverse_are_refused_with_the_way_out() {
    let output = run("weigh", &["3"]);
    assert_eq!(output.status, 2, "{output:#?}");
    assert!(output.stderr.contains("`weigh` takes bytes: give a file with `@FILE`"), "{output:#?}");
    let dir = tempfile::tempdir().unwrap();
    let at = format!("@{}", file(&dir, "data", b"\x00\xff"));
    let output = run("draw", &[&at]);
    assert!(output.status == 2 && output.stderr.contains("is not JSON"), "{output:#?}");
    let output = run("weigh", &[&at, "--content-type", "application/json"]);
    assert!(output.status == 2 && output.stderr.contains("this function takes raw bytes"), "{output:#?}");
    let output = run("weigh", &["@/no/such/file"]);
    assert!(output.stderr.contains("error[inputs-unreadable]"), "{output:#?}");
}

#[test]
fn a_body_of_any_type_reaches_a_function_that_takes_bytes() {
    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::Authored], &["--secret", "API_KEY=x"]).unwrap();
    let post = |path: &str, content_type: &str, body: &str| {
        server.exchange(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{content_type}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let reply = post("/authored/reverse", "content-type: text/csv; charset=utf-8\r\n", "a,b");
    assert_eq!((reply.status, reply.body.as_str()), (200, "b,a"));
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(post("/authored/reverse", "", "ab").header("content-type"), Some("application/octet-stream"));
    for (path, content_type, words) in [
        ("/authored/reverse", "content-type: application/json\r\n", "this function takes raw bytes, not JSON"),
        ("/authored/draw", "content-type: image/png\r\n", "this function takes JSON, not `image/png`"),
    ] {
        let reply = post(path, content_type, "1");
        assert_eq!(reply.status, 415, "{reply:#?}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(words), "{reply:#?}");
    }
}

#[test]
fn bytes_are_mapped_by_line_or_by_file() {
    let map = |more: &[&str], input: &str| {
        let secret = format!("API_KEY={SECRET}");
        let arguments = [&["map", "--secret", &secret, "--quiet"], more].concat();
        finish_with(command(shared_data(), &arguments), input)
    };
    let (weigh, draw) = (function(Guest::Authored, "weigh"), function(Guest::Authored, "draw"));
    assert_eq!(map(&[&weigh], "abc\n\n de \r\n").stdout, "3\n4\n");
    let dir = tempfile::tempdir().unwrap();
    let paths = format!("{}\n{}\n", file(&dir, "a", b"\x00\n\xff"), file(&dir, "b", b""));
    assert_eq!(map(&[&weigh, "--files"], &paths).stdout, "3\n0\n");
    assert_eq!(map(&[&draw], "2\n").json(), json!({ "content_type": "text/plain; charset=utf-8", "base64": "Li4=" }));
    let output = map(&[&weigh, "--files"], "/no/such/file\n");
    assert!(output.stderr.contains("cannot read the input `/no/such/file`"), "{output:#?}");
}

#[test]
fn maps_of_several_parameters_and_of_bytes_run_within_a_function() {
    assert_eq!(run("scalar", &["--left", "[1, 2, 3]", "--right", "[4, 5, 6]"]).stdout, "32\n");
    assert_eq!(run("reverse_all", &[r#"["ab", "cde"]"#]).stdout, "\"ba edc\"\n");
}

#[test]
fn inspect_says_bytes() {
    let inspected = bireme(&["inspect", guest(Guest::Authored)]).stdout;
    let reverse = inspected.split_once("\nreverse  ").unwrap().1;
    let words: Vec<&str> = reverse.split_whitespace().collect();
    assert!(words.join(" ").contains("takes bytes gives bytes"), "{reverse}");
}

#[test]
fn configuration_is_given_to_all_apps_or_to_one() {
    let output = run("configured", &["--config", "depth=2", "--config", "authored:title=own", "--receipt"]);
    assert_eq!(output.json(), json!([2, "own"]), "{output:#?}");
    assert!(output.stderr.contains("authored::configured info: configured depth=2"), "{output:#?}");
    let receipt = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(receipt.contains(" config 2"), "{output:#?}");
    let more = ["--config", "depth=2", "--config", "authored:depth=3", "--config", "hello:title=other"];
    assert_eq!(run("configured", &more).json(), json!([3, null]));

    let output = run("configured", &[]);
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains(
            "error[terminal]: no configuration value `depth`; the operator gives it with `--config depth=VALUE`"
        ),
        "{output:#?}"
    );
    let output = run("configured", &["--config", "depth=deep"]);
    assert!(output.stderr.contains("the configuration value `depth` does not fit"), "{output:#?}");
    let output = run("configured", &["--config", "depth"]);
    assert!(output.status == 2 && output.stderr.contains("`--config depth`: there is no `=`"), "{output:#?}");

    let data = fresh_data();
    let more = ["--secret", "API_KEY=x", "--config", "depth=7"];
    let server = Server::try_start(data.path(), &[Guest::Authored], &more).unwrap();
    assert_eq!(server.post("/authored/configured", "").json(), json!([7, null]));
}

#[test]
fn a_scheduled_function_is_called_by_the_host() {
    let data = fresh_data();
    let mut server = Server::try_start(data.path(), &[Guest::Authored], &["--secret", "API_KEY=x"]).unwrap();
    let is_tick = |line: &&str| line.starts_with("authored::ticks@") && line.ends_with(" info: tick");
    wait_until("two ticks are logged", || server.stderr().lines().filter(is_tick).count() >= 2);
    assert_eq!(server.stop(), 0);
    assert!(!server.stderr().contains("authored::reports"), "{}", server.stderr());
}

#[test]
fn inspect_shows_schedules_and_the_next_time() {
    let inspected = bireme(&["inspect", guest(Guest::Authored)]).stdout;
    assert!(inspected.contains("at `0 6 * * MON` (Europe/Stockholm), next 2"), "{inspected}");
    assert!(inspected.contains("every 1s, from its first deployment"), "{inspected}");
    let inspected = bireme(&["inspect", guest(Guest::Authored), "--json"]).json();
    let functions = inspected["functions"].as_array().unwrap();
    let reports = functions.iter().find(|function| function["name"] == "reports").unwrap();
    assert_eq!(reports["attributes"]["schedule"], json!({ "cron": "0 6 * * MON", "tz": "Europe/Stockholm" }));
}
