//! Text of the command line, word for word. `UPDATE_EXPECT=1 cargo test -p bireme --test it cli_text`
//! writes it anew.

use expect_test::{Expect, expect};

use crate::support::{Guest, Output, bireme, function};

pub(crate) fn check_help(arguments: &[&str], expected: Expect) {
    let output = bireme(&[arguments, &["--help"]].concat());
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    // Blank lines as clap pads them would not survive an editor.
    let lines: Vec<&str> = output.stdout.lines().map(str::trim_end).collect();
    expected.assert_eq(&format!("{}\n", lines.join("\n")));
}

fn check_error(output: &Output, status: i32, expected: Expect) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""));
    expected.assert_eq(&output.stderr);
}

#[test]
fn help_of_bireme() {
    check_help(
        &[],
        expect![[r#"
            Run sandboxed functions and batched model inference on your own machine

            Usage: bireme [OPTIONS] <COMMAND>

            Commands:
              new          Write a new app that builds and passes its own test
              build        Build an app: prints the component's path, size, functions and capabilities
              inspect      Show an app's functions, schemas, limits and capabilities, without running it
              run          Call one function once: the result to stdout, logs to stderr
              test         Run an app's own tests, then its cases: kept calls in `APP/cases/*.json`
              map          Call one function for every line of the inputs, many at a time: JSON Lines in, JSON
                           Lines out
              serve        Serve apps over HTTP: each function at POST /APP/FUNCTION, each web function at its
                           route below /APP. On Ctrl-C or SIGTERM, running calls finish first
              dev          Serve an app while it is edited: every save is built and swapped in between two
                           requests
              deploy       Deploy an app to a host: build it, send it, swap it in between two requests
              apps         List the apps of a host
              history      List the versions of an app in the host's history, newest first
              rollback     Return to the previous version of an app, or to any version in its history. Starts a
                           stopped app again
              stop         Stop an app. Running calls finish; its versions and its data stay
              start        Start a stopped app again, in the version that was live
              call         Call a function on a host and print its result. `bireme logs` shows its log
              spawn        Start a durable call on a host and return at once, with its id on stdout. The call
                           outlives this command and a restart of the host
              get          Print the result of a spawned call, or its state while it has none; for a map, its
                           state
              cancel       Cancel calls or maps, and everything that they spawned. Those that have ended stay as
                           they are
              ps           List durable calls and maps, newest first, with state and cost
              results      Print the results of a map on a host, in the order of its inputs, while it runs or
                           after it has ended
              export       Write the outcomes of a map to a file for analysis; without an id, all durable calls
                           and maps
              logs         Show the log lines of functions and the failures of their calls: the latest, or all
                           as they arrive
              schedule     Show the scheduled functions of a host and their runs; pause, resume, or run one at
                           once
              kv           Show and change the key-value data of an app
              models       List, fetch, add and remove models
              embed        Embed texts with an installed model: one JSON array of numbers per line
              rerank       Rank texts by relevance to a question: one per line, best first, each after its score
                           from 0 to 1
              classify     Classify texts: one JSON object per line, with a score for each label
              infer        Run an ONNX model on named tensors and print its outputs
              demo         Scrape the Rust documentation in sandboxes, embed it on a worker, search it over
                           HTTP: the main job on real input
              sdk          Let plain cargo and editors find the SDK of an app: writes .cargo/config.toml in its
                           directory
              python       Install Python for apps: an interpreter with the SDK, as a component
              token        Print the token that the control API of this data directory's host asks for. Commands
                           read it by themselves; programs send it as `authorization: Bearer TOKEN`.
                           BIREME_TOKEN takes the place of the file
              explain      Explain an error code: what it means, what causes it, what to do. Without a code,
                           list them all
              doctor       Check this machine: toolchain, models, devices, kernel limits. Prints the command
                           that fixes each problem
              completions  Print shell completions; see below for where to put them
              man          Write the manual pages: one for each command into DIR, or the page of `bireme` itself
                           to stdout
              help         Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Exit codes: 0 done, 1 failed, 2 wrong command or input, 4 no such app, function or model, 5 deadline
            passed, 69 not available, 130 interrupted.
        "#]],
    );
}

#[test]
fn help_of_build() {
    check_help(
        &["build"],
        expect![[r#"
            Build an app: prints the component's path, size, functions and capabilities

            Usage: bireme build [OPTIONS] <APP>

            Arguments:
              <APP>  The crate's directory

            Options:
                  --compile-max <TIME[,SIZE]>  Give up compiling a component after TIME, or once that takes SIZE
                                               of memory: 30s, or 5m,4GiB. Default: 2m,2GiB [env:
                                               BIREME_COMPILE_MAX=]
              -h, --help                       Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme build examples/hello
        "#]],
    );
}

#[test]
fn help_of_inspect() {
    check_help(
        &["inspect"],
        expect![[r#"
            Show an app's functions, schemas, limits and capabilities, without running it

            Usage: bireme inspect [OPTIONS] <APP>

            Arguments:
              <APP>  A crate's directory, a `.wasm` file, or a directory with a `bireme.toml`

            Options:
                  --compile-max <TIME[,SIZE]>  Give up compiling a component after TIME, or once that takes SIZE
                                               of memory: 30s, or 5m,4GiB. Default: 2m,2GiB [env:
                                               BIREME_COMPILE_MAX=]
              -h, --help                       Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Example:
              bireme inspect examples/hello --json
        "#]],
    );
}

#[test]
fn help_of_run() {
    check_help(
        &["run"],
        expect![[r#"
            Call one function once: the result to stdout, logs to stderr

            Usage: bireme run [OPTIONS] <TARGET> [INPUT]...

            Arguments:
              <TARGET>    The function, as APP::FUNCTION; APP is a crate's directory or a `.wasm` file
              [INPUT]...  The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`. Options may
                          follow too; one whose name is also a parameter's goes before the target

            Options:
                  --grant <GRANT>              Grant an outbound address: NAME=ORIGIN sets the `$NAME` that a
                                               function declares; a bare ORIGIN permits a private address.
                                               model:NAME grants a model to components without metadata
                  --secret <SECRET>            Set a secret for the functions that declare it: NAME=VALUE, or
                                               NAME to read the value from this environment variable (other
                                               users of this machine can see command lines). APP:NAME sets it
                                               for one app only
                  --secrets <FILE>             Read secrets from a file of NAME=VALUE lines (.env)
                  --config <VALUE>             Set a configuration value: KEY=VALUE for every app, APP:KEY=VALUE
                                               for one
                  --compile-max <TIME[,SIZE]>  Give up compiling a component after TIME, or once that takes SIZE
                                               of memory: 30s, or 5m,4GiB. Default: 2m,2GiB [env:
                                               BIREME_COMPILE_MAX=]
                  --device <DEVICE>            Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first
                                               usable GPU, else the CPU). A named device that cannot be used is
                                               an error. `bireme doctor` lists the devices [env: BIREME_DEVICE=]
                                               [default: auto]
                  --receipt                    Print the cost of the call to stderr (with --json, in the result)
                  --watch                      Build the app, make the call and print the result again at every
                                               save, until Ctrl-C, or q and Enter. Options stand in front of the
                                               target
                  --input <FILE>               Read the input from FILE (`-` for standard input): JSON, or the
                                               bytes as they are if the function takes bytes
                  --content-type <TYPE>        Media type of the bytes. The default is application/octet-stream
              -h, --help                       Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme run examples/hello::greet '{"name": "Ada"}'
              bireme run examples/hello::add --a 1 --b 2 --receipt
              bireme run --watch examples/hello::add --a 1 --b 2
        "#]],
    );
}

#[test]
fn help_of_map() {
    check_help(
        &["map"],
        expect![[r#"
            Call one function for every line of the inputs, many at a time: JSON Lines in, JSON Lines out.

            In input order, each line of output is the result for the same line of input. With --unordered or
            --json, lines are {"index": N, "output": …} or {"index": N, "error": {…}}. Blank lines are skipped
            and not counted.

            With --host the map is durable: inputs and results are on the host's disk, Ctrl-C leaves it running,
            --resume attaches again.

            A function that takes bytes gets each line as raw bytes, or with --files the contents of the file at
            that path. A result of bytes is printed as {"content_type": …, "base64": …}.

            Usage: bireme map [OPTIONS] [TARGET]

            Arguments:
              [TARGET]
                      The function, as APP::FUNCTION: APP is a crate's directory or a `.wasm` file, or on a host
                      the name of a deployed app

            Options:
              -i, --inputs <FILE>
                      File of JSON Lines, or `-` for standard input

                      [default: -]

                  --files
                      Read each line as the path of a file that holds the input

                  --unordered
                      Print results in the order of completion. The first line is out sooner, and no memory
                      holds results until their turn

                  --keep-going
                      Continue after a failed input: its line of output is {"error": {"index": N, …}}, and the
                      exit code is 1

                  --grant <GRANT>
                      Grant an outbound address: NAME=ORIGIN sets the `$NAME` that a function declares; a bare
                      ORIGIN permits a private address. model:NAME grants a model to components without metadata

                  --secret <SECRET>
                      Set a secret for the functions that declare it: NAME=VALUE, or NAME to read the value from
                      this environment variable (other users of this machine can see command lines). APP:NAME
                      sets it for one app only

                  --secrets <FILE>
                      Read secrets from a file of NAME=VALUE lines (.env)

                  --config <VALUE>
                      Set a configuration value: KEY=VALUE for every app, APP:KEY=VALUE for one

                  --compile-max <TIME[,SIZE]>
                      Give up compiling a component after TIME, or once that takes SIZE of memory: 30s, or
                      5m,4GiB. Default: 2m,2GiB

                      [env: BIREME_COMPILE_MAX=]

                  --device <DEVICE>
                      Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU, else the CPU). A
                      named device that cannot be used is an error. `bireme doctor` lists the devices

                      [env: BIREME_DEVICE=]
                      [default: auto]

              -q, --quiet
                      Show neither progress nor the functions' logs

              -h, --help
                      Print help (see a summary with '-h')

            On a host:
                  --host <URL>
                      Run the map on this host, which stores inputs and results on disk. It survives the end of
                      this command and of the host

                  --detach
                      Send the inputs, print the map's id and exit. Uses the host of this data directory unless
                      --host or BIREME_HOST names one

                  --resume <ID>
                      Resume a map: send the inputs that it does not have yet, print all results. A unique
                      prefix of the id, of at least 8 digits, is enough

                  --retry-failed <ID>
                      Run the failed and cancelled inputs of a map again, and print all results. A unique prefix
                      of the id, of at least 8 digits, is enough

                  --cancel-on-interrupt
                      Cancel the map on Ctrl-C. Without this option the map continues

                  --priority <PRIORITY>
                      Priority among the app's calls: high, normal or low

                      [possible values: high, normal, low]

            Global options:
                  --data <DIR>
                      Data directory for database, models and compiled code. Default: in the home directory

                      [env: BIREME_DATA=]

                  --json
                      Print JSON for programs instead of text for people

              -v, --verbose
                      Print more of the host's own log

            Example:
              printf '"Ada"\n"Grace"\n' | bireme map examples/hello::greet --inputs -
        "#]],
    );
}

#[test]
fn help_of_serve() {
    check_help(
        &["serve"],
        expect![[r#"
            Serve apps over HTTP: each function at POST /APP/FUNCTION, each web function at its route below
            /APP. On Ctrl-C or SIGTERM, running calls finish first.

            Deployed apps are served again. An app on the command line is served until the host ends, and
            replaces a deployed app of the same name. An app that fails to load is reported on stderr and
            skipped; the host ends only if all of them fail.

            Usage: bireme serve [OPTIONS] [APPS]...

            Arguments:
              [APPS]...
                      Crates' directories, `.wasm` files, or directories with a `bireme.toml`

            Options:
                  --listen <ADDR>
                      Address to listen on; port 0 takes a free one. Loopback only: this version has no access
                      control

                      [env: BIREME_LISTEN=]
                      [default: 127.0.0.1:8080]

                  --grant <GRANT>
                      Grant an outbound address: NAME=ORIGIN sets the `$NAME` that a function declares; a bare
                      ORIGIN permits a private address. model:NAME grants a model to components without metadata

                  --secret <SECRET>
                      Set a secret for the functions that declare it: NAME=VALUE, or NAME to read the value from
                      this environment variable (other users of this machine can see command lines). APP:NAME
                      sets it for one app only

                  --secrets <FILE>
                      Read secrets from a file of NAME=VALUE lines (.env)

                  --config <VALUE>
                      Set a configuration value: KEY=VALUE for every app, APP:KEY=VALUE for one

                  --compile-max <TIME[,SIZE]>
                      Give up compiling a component after TIME, or once that takes SIZE of memory: 30s, or
                      5m,4GiB. Default: 2m,2GiB

                      [env: BIREME_COMPILE_MAX=]

                  --device <DEVICE>
                      Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU, else the CPU). A
                      named device that cannot be used is an error. `bireme doctor` lists the devices

                      [env: BIREME_DEVICE=]
                      [default: auto]

                  --memory-max <SIZE>
                      Use at most SIZE of memory, such as 4GiB, for calls, request bodies, answers, maps and
                      inference requests; each app has a share that others cannot take. Models and builds are
                      not in it. Default: half of the machine's memory, or of its control group

                      [env: BIREME_MEMORY_MAX=]

                  --model-memory <SIZE>
                      Keep at most SIZE of models loaded, such as 4GiB; the least recently used are unloaded
                      first. Default: half of the machine's memory on the CPU; on a GPU, what fits

                      [env: BIREME_MODEL_MEMORY=]

                  --weight <APP=N>
                      Give APP the share of N other apps while apps compete for the device. Repeatable

                  --app-disk <SIZE>
                      Keep at most SIZE on disk for each app, such as 20GiB: key-value data, durable calls and
                      maps, with their inputs and results. Above it, an app reads and deletes, and its writes
                      are refused. Default: a quarter of the disk

                      [env: BIREME_APP_DISK=]

                  --keep <[APP=]TIME>
                      Delete durable calls and maps this long after their end: 90s, 30m, 12h, 7d (the default).
                      APP=TIME sets it for one app

                      [env: BIREME_KEEP=]

                  --drain <TIME>
                      Time for running calls to finish after Ctrl-C or SIGTERM: 8s, 1m. Keep it below the kill
                      timeout of your supervisor (Docker: 10 s, Kubernetes: 30 s); a systemd unit with
                      Type=notify waits as long as this

                      [env: BIREME_DRAIN=]
                      [default: 8s]

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
              bireme serve examples/hello
              curl -d '{"name": "Ada"}' http://127.0.0.1:8080/hello/greet
        "#]],
    );
}

#[test]
fn help_of_models() {
    check_help(
        &["models"],
        expect![[r#"
            List, fetch, add and remove models

            Usage: bireme models [OPTIONS] [COMMAND]

            Commands:
              list       List installed models, and models that can be pulled
              available  List the models that can be pulled by name: task, size, licence, purpose, and whether
                         they are installed
              pull       Fetch a built-in model from the first source that answers, and check each file against
                         its SHA-256
              add        Install a model from a directory: config.json, model.safetensors and tokenizer.json, or
                         model.onnx. Or from one .onnx file
              rm         Remove a model's files
              help       Print this message or the help of the given subcommand(s)

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme models
              bireme models available
              bireme models pull all-minilm-l6-v2
              bireme models add my-model ./folder
        "#]],
    );
}

#[test]
fn help_of_models_list() {
    check_help(
        &["models", "list"],
        expect![[r#"
            List installed models, and models that can be pulled

            Usage: bireme models list [OPTIONS]

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log
        "#]],
    );
}

#[test]
fn help_of_models_available() {
    check_help(
        &["models", "available"],
        expect![[r#"
            List the models that can be pulled by name: task, size, licence, purpose, and whether they are
            installed

            Usage: bireme models available [OPTIONS]

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log
        "#]],
    );
}

#[test]
fn help_of_models_pull() {
    check_help(
        &["models", "pull"],
        expect![[r#"
            Fetch a built-in model from the first source that answers, and check each file against its SHA-256

            Usage: bireme models pull [OPTIONS] <NAME>

            Arguments:
              <NAME>  Name of a built-in model, such as all-minilm-l6-v2; `bireme models available` lists them

            Options:
                  --model-dir <DIR>  Take the files from DIR rather than from the network
              -h, --help             Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log
        "#]],
    );
}

#[test]
fn help_of_models_add() {
    check_help(
        &["models", "add"],
        expect![[r#"
            Install a model from a directory: config.json, model.safetensors and tokenizer.json, or model.onnx.
            Or from one .onnx file

            Usage: bireme models add [OPTIONS] <NAME> <PATH>

            Arguments:
              <NAME>  Name for the model, by which functions and requests ask for it
              <PATH>  Directory of the model's files, or one .onnx file

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log
        "#]],
    );
}

#[test]
fn help_of_models_rm() {
    check_help(
        &["models", "rm"],
        expect![[r#"
            Remove a model's files

            Usage: bireme models rm [OPTIONS] <NAME>

            Arguments:
              <NAME>  Name of an installed model

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log
        "#]],
    );
}

#[test]
fn help_of_embed() {
    check_help(
        &["embed"],
        expect![[r#"
            Embed texts with an installed model: one JSON array of numbers per line

            Usage: bireme embed [OPTIONS] <MODEL> <TEXTS>...

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
              bireme embed all-minilm-l6-v2 --json -- "a text" "another"
        "#]],
    );
}

#[test]
fn help_of_demo() {
    check_help(
        &["demo"],
        expect![[r#"
            Scrape the Rust documentation in sandboxes, embed it on a worker, search it over HTTP: the main job
            on real input

            Usage: bireme demo [OPTIONS]

            Options:
                  --once             Exit after the questions instead of serving the search page
                  --all              Take every page of the installed documentation, not only The Book, the
                                     Reference and the Cargo book. Takes hours
                  --docs <DIR>       Index the HTML files under DIR
                  --site <URL>       Index the site at URL, following its links
                  --max-pages <N>    Follow links to at most N pages of a site [default: 5000]
                  --question <TEXT>  Ask this question instead of the usual three. Repeatable
                  --model-dir <DIR>  Take the model's files from DIR rather than from the network
                  --listen <ADDR>    Address of the search; 127.0.0.1:8080 or, if that is taken, a free port
                  --device <DEVICE>  Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU,
                                     else the CPU). A named device that cannot be used is an error. `bireme
                                     doctor` lists the devices [env: BIREME_DEVICE=] [default: auto]
              -h, --help             Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Examples:
              bireme demo --once
              bireme demo --docs ./my-site --question 'how do I install it?'
        "#]],
    );
}

#[test]
fn help_of_new() {
    check_help(
        &["new"],
        expect![[r#"
            Write a new app that builds and passes its own test

            Usage: bireme new [OPTIONS] <DIR>

            Arguments:
              <DIR>
                      Directory of the app: empty, or not existing yet

            Options:
                  --template <TEMPLATE>
                      Template of the app

                      Possible values:
                      - scrape:    Fetch pages over HTTP, from the origins that are declared
                      - transform: Data in, data out: needs nothing else
                      - web:       Answer HTTP requests: a page with a form, a route with JSON
                      - embed:     Compare texts by a model's vectors

                      [default: transform]

                  --lang <LANG>
                      Language of the app

                      Possible values:
                      - rust:   A crate, compiled by cargo
                      - python: Modules, run by the interpreter that comes with the wheel

                      [default: rust]

                  --name <NAME>
                      The app's name, if not the directory's

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
              bireme new pages --template scrape
              bireme new pages --lang python
              bireme new .
        "#]],
    );
}

#[test]
fn help_of_dev() {
    check_help(
        &["dev"],
        expect![[r#"
            Serve an app while it is edited: every save is built and swapped in between two requests.

            The last good version answers until then; the header `bireme-version` names it. A save that changes
            no input of the build is passed over. Type r to build again, c to repeat the last call, t to run the
            app's own tests, o to open its first page in a browser, q to quit, each with Enter.

            Beside a running host, the session takes a data directory of its own, `DATA/dev/1`, and the next
            free port.

            Usage: bireme dev [OPTIONS] <APP>

            Arguments:
              <APP>
                      The directory of a crate or of a Python app, or a `.py` file; or a component that
                      something else builds, a `.wasm` file or a directory with a `bireme.toml`

            Options:
                  --listen <ADDR>
                      Address to listen on; port 0 takes a free one. Default: 127.0.0.1:8080, or the next free
                      port

                      [env: BIREME_LISTEN=]

                  --grant <GRANT>
                      Grant an outbound address: NAME=ORIGIN sets the `$NAME` that a function declares; a bare
                      ORIGIN permits a private address. model:NAME grants a model to components without metadata

                  --secret <SECRET>
                      Set a secret for the functions that declare it: NAME=VALUE, or NAME to read the value from
                      this environment variable (other users of this machine can see command lines). APP:NAME
                      sets it for one app only

                  --secrets <FILE>
                      Read secrets from a file of NAME=VALUE lines (.env)

                  --config <VALUE>
                      Set a configuration value: KEY=VALUE for every app, APP:KEY=VALUE for one

                  --compile-max <TIME[,SIZE]>
                      Give up compiling a component after TIME, or once that takes SIZE of memory: 30s, or
                      5m,4GiB. Default: 2m,2GiB

                      [env: BIREME_COMPILE_MAX=]

                  --device <DEVICE>
                      Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU, else the CPU). A
                      named device that cannot be used is an error. `bireme doctor` lists the devices

                      [env: BIREME_DEVICE=]
                      [default: auto]

                  --memory-max <SIZE>
                      Use at most SIZE of memory, such as 4GiB, for calls, request bodies, answers, maps and
                      inference requests; each app has a share that others cannot take. Models and builds are
                      not in it. Default: half of the machine's memory, or of its control group

                      [env: BIREME_MEMORY_MAX=]

                  --app-disk <SIZE>
                      Keep at most SIZE on disk for each app, such as 20GiB: key-value data, durable calls and
                      maps, with their inputs and results. Above it, an app reads and deletes, and its writes
                      are refused. Default: a quarter of the disk

                      [env: BIREME_APP_DISK=]

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
              bireme dev examples/hello
              curl -d '{"name": "Ada"}' http://127.0.0.1:8080/hello/greet
        "#]],
    );
}

#[test]
fn help_of_doctor() {
    check_help(
        &["doctor"],
        expect![[r#"
            Check this machine: toolchain, models, devices, kernel limits. Prints the command that fixes each
            problem

            Usage: bireme doctor [OPTIONS]

            Options:
                  --device <DEVICE>  Run models on DEVICE: `cpu`, `cuda:N`, or `auto` (the first usable GPU,
                                     else the CPU). A named device that cannot be used is an error. `bireme
                                     doctor` lists the devices [env: BIREME_DEVICE=] [default: auto]
                  --repair           Write the rows in quarantine (calls and maps of which a row cannot be read)
                                     to DIR, then remove them. Stop the host first
                  --export <DIR>     Directory for the rows that `--repair` removes: `quarantine.jsonl`, one row
                                     per line
                  --compact          Give the space that deleted rows have left in the database back to the
                                     disk. Stop the host first; it takes as long as writing the database anew
              -h, --help             Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Exits with 0 unless something is missing that functions need to be built or run, then with 1.

            Examples:
              bireme doctor --json
              bireme doctor --repair --export /tmp/rows
              bireme doctor --compact
        "#]],
    );
}

#[test]
fn help_of_completions() {
    check_help(
        &["completions"],
        expect![[r#"
            Print shell completions; see below for where to put them

            Usage: bireme completions [OPTIONS] <SHELL>

            Arguments:
              <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

            Options:
              -h, --help  Print help

            Global options:
                  --data <DIR>  Data directory for database, models and compiled code. Default: in the home
                                directory [env: BIREME_DATA=]
                  --json        Print JSON for programs instead of text for people
              -v, --verbose     Print more of the host's own log

            Install:
              bash        bireme completions bash > ~/.local/share/bash-completion/completions/bireme
              zsh         bireme completions zsh > "${fpath[1]}/_bireme"
              fish        bireme completions fish > ~/.config/fish/completions/bireme.fish
              powershell  bireme completions powershell >> $PROFILE
              elvish      bireme completions elvish >> ~/.config/elvish/rc.elv
        "#]],
    );
}

#[test]
fn a_wrong_parameter() {
    let output = bireme(&["run", &function(Guest::Hello, "greet"), "--nmae", "Ada"]);
    check_error(
        &output,
        2,
        expect![[r#"
            error[invalid-input]: `greet` has no parameter `nmae`; did you mean `name`?
              hint: `greet` takes {"name": string}
              more: bireme explain invalid-input
        "#]],
    );
}

#[test]
fn a_failure_with_a_cause() {
    let output = bireme(&["run", &function(Guest::Hostile, "post"), "--url", "http://127.0.0.1:9/", "--body", "x"]);
    check_error(
        &output,
        1,
        expect![[r#"
            hostile::post warn: `http://127.0.0.1:9` is declared but not granted; grant it with `--grant site=http://127.0.0.1:9` on `bireme deploy`, `serve` or `run`
            error[terminal]: this function may not reach `http://127.0.0.1:9/`: add its origin to the function's `outbound`; the operator grants private addresses and `$names` with `--grant`
              caused by: `http://127.0.0.1:9` is declared but not granted; grant it with `--grant site=http://127.0.0.1:9` on `bireme deploy`, `serve` or `run`
        "#]],
    );
}

#[test]
fn a_model_that_is_not_there() {
    check_error(
        &bireme(&["embed", "nothing", "text"]),
        4,
        expect![[r#"
            error[unknown-model]: no model `nothing` is installed; `bireme models` lists those that can be pulled, `bireme models add` takes your own
              more: bireme explain unknown-model
        "#]],
    );
}

#[test]
fn an_unknown_option() {
    check_error(
        &bireme(&["serve", "--lisen", "127.0.0.1:0", "x.wasm"]),
        2,
        expect![[r#"
            error[usage]: unexpected argument '--lisen' found

              tip: a similar argument exists: '--listen'

            Usage: bireme serve --listen <ADDR> [APPS]...

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn no_command() {
    check_error(
        &bireme(&[]),
        2,
        expect![[r#"
            error[usage]: 'bireme' requires a subcommand but one was not provided
              [subcommands: new, build, inspect, run, test, map, serve, dev, deploy, apps, history, rollback, stop, start, call, spawn, get, cancel, ps, results, export, logs, schedule, kv, models, embed, rerank, classify, infer, demo, sdk, python, token, explain, doctor, completions, man, help]

            Usage: bireme [OPTIONS] <COMMAND>

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn an_address_that_others_reach() {
    let output = bireme(&["serve", "x.wasm", "--listen", "0.0.0.0:8080"]);
    check_error(
        &output,
        2,
        expect![[r#"
            error[config]: `0.0.0.0:8080` is reachable from other machines, and this version has no access control; listen on 127.0.0.1 behind a proxy that has
              more: bireme explain config
        "#]],
    );
}
