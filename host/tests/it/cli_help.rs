//! Snapshots of the help of the commands that talk to a host, and of those that teach.

use expect_test::expect;

use crate::cli_text::check_help;

#[test]
fn help_of_deploy() {
    check_help(
        &["deploy"],
        expect![[r#"
            Deploy an app to a host: build it, send it, swap it in between two requests.

            Shows the permissions that are new in this version and asks you to accept them. Running calls finish
            on the version that they started with. The host keeps earlier versions; `bireme rollback` returns to
            one.

            Usage: bireme deploy [OPTIONS] <APP>

            Arguments:
              <APP>
                      A crate's directory, a `.wasm` file, or a directory with a `bireme.toml`

            Options:
                  --host <URL>
                      The host's address. Default: the host of this data directory, by its socket; else
                      http://127.0.0.1:8080

                      [env: BIREME_HOST=]

                  --accept
                      Accept all new capabilities without asking

                  --grant <GRANT>
                      Permit the app an outbound address: NAME=ORIGIN for a `$NAME` that it declares, or a
                      private ORIGIN. Or a model, where the app is a component that can declare none:
                      model:NAME. Kept for later versions until other grants are given; `--grant ''` takes them
                      all back

              -m, --message <TEXT>
                      Message for the history

                  --dry-run
                      Say what would change, and change nothing

              -h, --help
                      Print help (see a summary with '-h')

            Global options:
                  --data <DIR>
                      Data directory for database, models and compiled code. Default: in the home directory

                      [env: BIREME_DATA=]

                  --json
                      Print JSON for programs instead of text for people

              -v, --verbose
                      Print more of the host's own log

            Examples:
              bireme deploy examples/hello
              bireme deploy . --accept -m 'reads the new feed'
        "#]],
    );
}

#[test]
fn help_of_apps() {
    check_help(
        &["apps"],
        expect![[r#"
            List the apps of a host

            Usage: bireme apps [OPTIONS]

            Options:
                  --host <URL>  The host's address. Default: the host of this data directory, by its socket;
                                else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help        Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme apps --host http://127.0.0.1:8080
        "#]],
    );
}

#[test]
fn help_of_history() {
    check_help(
        &["history"],
        expect![[r#"
            List the versions of an app in the host's history, newest first

            Usage: bireme history [OPTIONS] <APP>

            Arguments:
              <APP>  The name of a deployed app

            Options:
                  --host <URL>  The host's address. Default: the host of this data directory, by its socket;
                                else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help        Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme history hello
        "#]],
    );
}

#[test]
fn help_of_rollback() {
    check_help(
        &["rollback"],
        expect![[r#"
            Return to the previous version of an app, or to any version in its history. Starts a stopped app
            again

            Usage: bireme rollback [OPTIONS] <APP>

            Arguments:
              <APP>  The name of a deployed app

            Options:
                  --to <VERSION>  The version, or its first digits
                  --host <URL>    The host's address. Default: the host of this data directory, by its socket;
                                  else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help          Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme rollback hello
              bireme rollback hello --to 3f2a90
        "#]],
    );
}

#[test]
fn help_of_start() {
    check_help(
        &["start"],
        expect![[r#"
            Start a stopped app again, in the version that was live

            Usage: bireme start [OPTIONS] <APP>

            Arguments:
              <APP>  The name of a stopped app

            Options:
                  --host <URL>  The host's address. Default: the host of this data directory, by its socket;
                                else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help        Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme start hello
        "#]],
    );
}

#[test]
fn help_of_stop() {
    check_help(
        &["stop"],
        expect![[r#"
            Stop an app. Running calls finish; its versions and its data stay

            Usage: bireme stop [OPTIONS] <APP>

            Arguments:
              <APP>  The name of a deployed app

            Options:
                  --host <URL>  The host's address. Default: the host of this data directory, by its socket;
                                else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help        Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme stop hello
        "#]],
    );
}

#[test]
fn help_of_call() {
    check_help(
        &["call"],
        expect![[r#"
            Call a function on a host and print its result. `bireme logs` shows its log

            Usage: bireme call [OPTIONS] <TARGET> [INPUT]...

            Arguments:
              <TARGET>    The function, as APP::FUNCTION; APP is the name of a deployed app
              [INPUT]...  The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`. Options may
                          follow too; one whose name is also a parameter's goes before the target

            Options:
                  --host <URL>           The host's address. Default: the host of this data directory, by its
                                         socket; else http://127.0.0.1:8080 [env: BIREME_HOST=]
                  --receipt              Print what the call cost, to stderr (with --json, in the result)
                  --save-case[=<FILE>]   Keep the call, with its input and its output or error, as a case that
                                         `bireme test` replays: in FILE, else in the first free
                                         `cases/FUNCTION-N.json` of this directory
                  --input <FILE>         Read the input from FILE (`-` for standard input): JSON, or the bytes
                                         as they are if the function takes bytes
                  --content-type <TYPE>  Media type of the bytes. The default is application/octet-stream
              -h, --help                 Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme call hello::greet '{"name": "Ada"}'
              bireme call hello::add --a 1 --b 2
              bireme call --save-case hello::add --a 1 --b 2
        "#]],
    );
}

#[test]
fn help_of_logs() {
    check_help(
        &["logs"],
        expect![[r#"
            Show the log lines of functions and the failures of their calls: the latest, or all as they arrive.

            A host keeps the newest 4 MiB of each app, across restarts.

            Usage: bireme logs [OPTIONS] [APP]

            Arguments:
              [APP]
                      The name of an app; without it, all apps

            Options:
                  --host <URL>
                      The host's address. Default: the host of this data directory, by its socket; else
                      http://127.0.0.1:8080

                      [env: BIREME_HOST=]

              -f, --follow
                      Print new lines until Ctrl-C

                  --function <FUNCTION>
                      Only lines of this function

                  --call <ID>
                      Only lines of this call; a prefix of its id is enough

                  --version <VERSION>
                      Only lines of this version; a prefix is enough

              -s, --source <SOURCE>
                      Only lines from this source

                      Possible values:
                      - log:    `log::info!` and its like
                      - stdout
                      - stderr
                      - system: The host: why a call failed

                  --level <LEVEL>
                      Only lines of this level or above

                      [possible values: trace, debug, info, warn, error]

                  --search <TEXT>
                      Only lines with this text in the message or a field, ignoring case

                  --since <TIME>
                      Only lines from this time on: `10m` (ago), `2h`, or a time like 2026-01-31T09:00:00Z

                  --until <TIME>
                      Only lines before this time

              -n, --tail <N>
                      At most the last N lines. Default: 100, or all lines if a time is given

                  --timestamps
                      Show times to the millisecond, with date and zone

              -h, --help
                      Print help (see a summary with '-h')

            Global options:
                  --data <DIR>
                      Data directory for database, models and compiled code. Default: in the home directory

                      [env: BIREME_DATA=]

                  --json
                      Print JSON for programs instead of text for people

              -v, --verbose
                      Print more of the host's own log

            Examples:
              bireme logs hello -f
              bireme logs hello --function greet --level warn --since 10m
              bireme logs --call 0197c0de --timestamps
        "#]],
    );
}

#[test]
fn help_of_man() {
    check_help(
        &["man"],
        expect![[r#"
            Write the manual pages: one for each command into DIR, or the page of `bireme` itself to stdout

            Usage: bireme man [OPTIONS] [DIR]

            Arguments:
              [DIR]  The directory; it is created where it is missing

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme man | man -l -
              bireme man ~/.local/share/man/man1
        "#]],
    );
}

#[test]
fn help_of_explain() {
    check_help(
        &["explain"],
        expect![[r#"
            Explain an error code: what it means, what causes it, what to do. Without a code, list them all

            Usage: bireme explain [OPTIONS] [CODE]...

            Arguments:
              [CODE]...  The code, or the line of an error that has one

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme explain timeout
              bireme explain 'error[memory-limit]'
        "#]],
    );
}

#[test]
fn help_of_rerank() {
    check_help(
        &["rerank"],
        expect![[r#"
            Rank texts by relevance to a question: one per line, best first, each after its score from 0 to 1

            Usage: bireme rerank [OPTIONS] <MODEL> <QUERY> <DOCUMENTS>...

            Arguments:
              <MODEL>         Installed model; `bireme models` lists them
              <QUERY>         The question
              <DOCUMENTS>...  The texts to rank

            Options:
                  --device <DEVICE>  Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU,
                                     else the CPU). A named device that cannot be used is an error. `bireme
                                     doctor` lists the devices [env: BIREME_DEVICE=] [default: auto]
              -h, --help             Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme rerank my-reranker "what is a trait?" "Traits are like interfaces." "Cargo builds."
        "#]],
    );
}

#[test]
fn help_of_infer() {
    check_help(
        &["infer"],
        expect![[r#"
            Run an ONNX model on named tensors and print its outputs

            Usage: bireme infer [OPTIONS] <MODEL>

            Arguments:
              <MODEL>  Installed model; `bireme models` lists them

            Options:
                  --device <DEVICE>       Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable
                                          GPU, else the CPU). A named device that cannot be used is an error.
                                          `bireme doctor` lists the devices [env: BIREME_DEVICE=] [default:
                                          auto]
                  --tensor <NAME=VALUES>  Input tensor as JSON, or as @FILE with its raw elements,
                                          little-endian. Its type is the model's. A lone number fills the shape
                                          that the model declares, with 1 for dimensions of any length; a flat
                                          array takes that shape
                  --file <FILE>           Read a whole request from FILE (`-` for standard input, the default
                                          without --tensor): JSON as for POST /v2/models/MODEL/infer, {"inputs":
                                          [{"name": …, "datatype": …, "shape": […], "data": […]}]}
              -h, --help                  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme infer silero-vad --tensor input=@sound.f32 --tensor state=0 --tensor sr=16000
              bireme infer my-model --tensor 'x=[[1, 2], [3, 4]]' --json
              bireme infer my-model < request.json
        "#]],
    );
}

#[test]
fn help_of_classify() {
    check_help(
        &["classify"],
        expect![[r#"
            Classify texts: one JSON object per line, with a score for each label

            Usage: bireme classify [OPTIONS] <MODEL> <TEXTS>...

            Arguments:
              <MODEL>     Installed model; `bireme models` lists them
              <TEXTS>...  The texts; behind `--` where one begins with a dash

            Options:
                  --device <DEVICE>  Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU,
                                     else the CPU). A named device that cannot be used is an error. `bireme
                                     doctor` lists the devices [env: BIREME_DEVICE=] [default: auto]
              -h, --help             Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme classify my-classifier --json -- "a text" "another"
        "#]],
    );
}

#[test]
fn help_of_schedule() {
    check_help(
        &["schedule"],
        expect![[r#"
            Show the scheduled functions of a host and their runs; pause, resume, or run one at once

            Usage: bireme schedule [OPTIONS] <COMMAND>

            Commands:
              list     List the scheduled functions: timetable, next time, outcome of the last run
              pause    Pause a schedule until it is resumed. Survives restarts of the host and new versions of
                       the app
              resume   Resume a paused schedule, from its next time on
              run-now  Run a scheduled function at once, paused or not. Its next time stays the same
              history  Show the last 100 runs of a function, newest first
              help     Print this message or the help of the given subcommand(s)

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme schedule list
              bireme schedule history reports::weekly
              bireme schedule pause reports::weekly
        "#]],
    );
}

#[test]
fn help_of_schedule_list() {
    check_help(
        &["schedule", "list"],
        expect![[r#"
            List the scheduled functions: timetable, next time, outcome of the last run

            Usage: bireme schedule list [OPTIONS] [APP]

            Arguments:
              [APP]  The name of a deployed app; without it, all apps

            Options:
                  --host <URL>  The host's address. Default: the host of this data directory, by its socket;
                                else http://127.0.0.1:8080 [env: BIREME_HOST=]
              -h, --help        Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme schedule list
              bireme schedule list reports --json
        "#]],
    );
}

#[test]
fn help_of_schedule_pause() {
    check_help(
        &["schedule", "pause"],
        expect![[r#"
            Pause a schedule until it is resumed. Survives restarts of the host and new versions of the app.

            A run that has begun continues. Times that pass while the schedule is paused are not made up for.

            Usage: bireme schedule pause [OPTIONS] <APP::FUNCTION>

            Arguments:
              <APP::FUNCTION>
                      The function, as APP::FUNCTION; APP is the name of a deployed app

            Options:
                  --host <URL>
                      The host's address. Default: the host of this data directory, by its socket; else
                      http://127.0.0.1:8080

                      [env: BIREME_HOST=]

              -h, --help
                      Print help (see a summary with '-h')

            Global options:
                  --data <DIR>
                      Data directory for database, models and compiled code. Default: in the home directory

                      [env: BIREME_DATA=]

                  --json
                      Print JSON for programs instead of text for people

              -v, --verbose
                      Print more of the host's own log

            Example:
              bireme schedule pause reports::weekly
        "#]],
    );
}

#[test]
fn help_of_schedule_run_now() {
    check_help(
        &["schedule", "run-now"],
        expect![[r#"
            Run a scheduled function at once, paused or not. Its next time stays the same.

            Prints the id of the call without waiting for its end, which `bireme schedule history` and `bireme
            logs` show.

            Usage: bireme schedule run-now [OPTIONS] <APP::FUNCTION>

            Arguments:
              <APP::FUNCTION>
                      The function, as APP::FUNCTION; APP is the name of a deployed app

            Options:
                  --host <URL>
                      The host's address. Default: the host of this data directory, by its socket; else
                      http://127.0.0.1:8080

                      [env: BIREME_HOST=]

              -h, --help
                      Print help (see a summary with '-h')

            Global options:
                  --data <DIR>
                      Data directory for database, models and compiled code. Default: in the home directory

                      [env: BIREME_DATA=]

                  --json
                      Print JSON for programs instead of text for people

              -v, --verbose
                      Print more of the host's own log

            Example:
              bireme schedule run-now reports::weekly
        "#]],
    );
}
