//! Components of other toolchains: of many core modules, with start-up code before they describe themselves, and some
//! that the host cannot take beside others that it can.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bireme::app::metadata::Metadata;
use serde_json::{Value, json};
use tempfile::TempDir;
use wasm_encoder::{ComponentSection, InstanceSection, Module, ModuleSection};
use wasmparser::{Instance, Parser, Payload};

use crate::support::{Guest, Output, Server, bireme, command, file, finish, guest, shared_data};

/// Returns `hello` with as many core instances, as toolchains make them that link at run time: the rest are of empty
/// modules.
fn of_core_instances(total: u32) -> Vec<u8> {
    let bytes = fs::read(guest(Guest::Hello)).unwrap();
    let mut component = Metadata::strip(&bytes).to_vec();
    let (mut modules, mut instances, mut depth) = (0, 0, 0);
    for payload in Parser::new(0).parse_all(&component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } => {
                modules += u32::from(depth == 0);
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::InstanceSection(section) if depth == 0 => {
                let new = |instance: &Instance| matches!(instance, Instance::Instantiate { .. });
                instances += section.into_iter().filter(|instance| new(instance.as_ref().unwrap())).count() as u32;
            }
            _ => {}
        }
    }
    ModuleSection(&Module::new()).append_to_component(&mut component);
    let mut more = InstanceSection::new();
    for _ in instances..total {
        more.instantiate::<[(&str, wasm_encoder::ModuleArg); 0], &str>(modules, []);
    }
    more.append_to_component(&mut component);
    Metadata::read(&bytes).unwrap().attach(&component)
}

/// A data directory with compiled code of its own.
fn data_without_code() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    symlink(shared_data().join("models"), dir.path().join("models")).unwrap();
    dir
}

/// Returns how many components were compiled and kept.
fn compiled(data: &Path) -> usize {
    let count = |dir: &str| {
        let entries = fs::read_dir(data.join(dir)).into_iter().flatten();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|of| of == "cwasm")).count()
    };
    // Those of commands, and those of hosts.
    count("artifacts") + count("artifacts/served")
}

/// Serves these files with `more` in front; or returns how that ended.
fn serve(data: &TempDir, more: &[&str], files: &[&str]) -> Result<Server, Output> {
    let mut command = command(data.path(), more);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(files);
    Server::spawn(command, data.path())
}

#[test]
fn a_component_of_as_many_core_instances_as_pythons_have_is_served() {
    let (data, dir) = (data_without_code(), tempfile::tempdir().unwrap());
    for total in [14, 32] {
        let path = file(&dir, format!("of{total}.wasm"), &of_core_instances(total));
        let server = serve(&data, &["--json"], &[&path]).unwrap_or_else(|output| panic!("{total}: {output:#?}"));
        let reply = server.post("/hello/greet", r#"{"name":"Ada"}"#);
        assert_eq!((reply.status, reply.body.as_str()), (200, r#""hello, Ada""#), "{total}");
    }
}

#[test]
fn a_component_of_too_many_core_instances_is_refused_before_it_is_compiled() {
    let (data, dir) = (data_without_code(), tempfile::tempdir().unwrap());
    let path = file(&dir, "many.wasm", &of_core_instances(40));
    let target = format!("{path}::greet");
    for arguments in [&["serve", "--listen", "127.0.0.1:0", &path] as &[&str], &["run", &target, r#"{"name":"Ada"}"#]] {
        let refused = finish(command(data.path(), arguments));
        assert_eq!(refused.status, 2, "{refused:#?}");
        for words in ["error[bad-app]", &path, "40 core instances", "limit of 32 core instances"] {
            assert!(refused.stderr.contains(words), "no `{words}` in {refused:#?}");
        }
        assert_eq!(compiled(data.path()), 0, "it was compiled in vain");
    }
}

#[test]
fn files_that_cannot_be_served_are_named_and_the_others_are_served() {
    let (data, dir) = (data_without_code(), tempfile::tempdir().unwrap());
    let many = file(&dir, "many.wasm", &of_core_instances(40));
    let junk = file(&dir, "junk.wasm", b"junk");
    let none = dir.path().join("none.wasm").to_str().unwrap().to_owned();
    let good = guest(Guest::Hello);

    let server = serve(&data, &["--json"], &[&many, good, &junk, &none]).unwrap_or_else(|output| panic!("{output:#?}"));
    assert_eq!(server.post("/hello/greet", r#"{"name":"Ada"}"#).status, 200);
    let stderr = server.stderr();
    let errors: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(errors.len(), 3, "{stderr}");
    for (error, (code, path)) in
        errors.iter().zip([("bad-app", &many), ("bad-component", &junk), ("unknown-app", &none)])
    {
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(path.as_str()), "{path}: {error}");
    }
    drop(server);

    // For people.
    let data = data_without_code();
    let refused = finish(command(data.path(), &["serve", "--listen", "127.0.0.1:0", &junk, &many]));
    assert_eq!(refused.status, 2, "with no app to serve it ends: {refused:#?}");
    for (code, path) in [("bad-component", &junk), ("bad-app", &many)] {
        let said = format!("error[{code}]: `{path}`: ");
        assert_eq!(refused.stderr.matches(&said).count(), 1, "{said}: {refused:#?}");
    }
}

/// A component whose `describe` does what language runtimes do when they are entered, and then `more`.
fn describing(more: &str) -> Vec<u8> {
    let document = json!({
        "format": 1,
        "app": { "name": "described", "version": "0.1.0", "description": "" },
        "functions": [],
    })
    .to_string();
    let (len, data) = (document.len(), document.replace('"', "\\22"));
    let text = format!(
        r#"(component
        (import "wasi:cli/environment@0.2.9" (instance $environment
            (export "get-environment" (func (result (list (tuple string string)))))
            (export "get-arguments" (func (result (list string))))))
        (import "wasi:clocks/monotonic-clock@0.2.3" (instance $monotonic (export "now" (func (result u64)))))
        (type $wall-clock (instance
            (type $fields (record (field "seconds" u64) (field "nanoseconds" u32)))
            (export "datetime" (type $datetime (eq $fields)))
            (export "now" (func (result $datetime)))))
        (import "wasi:clocks/wall-clock@0.2.12" (instance $wall (type $wall-clock)))
        (import "wasi:random/random@0.2.9" (instance $random (export "get-random-u64" (func (result u64)))))
        (import "wasi:random/insecure@0.2.12" (instance $insecure
            (export "get-insecure-random-u64" (func (result u64)))))
        (core module $memory
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096))
        (core instance $m (instantiate $memory))
        (core func $get-environment (canon lower (func $environment "get-environment")
            (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
        (core func $get-arguments (canon lower (func $environment "get-arguments")
            (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
        (core func $monotonic-now (canon lower (func $monotonic "now")))
        (core func $wall-now (canon lower (func $wall "now") (memory (core memory $m "memory"))))
        (core func $random-u64 (canon lower (func $random "get-random-u64")))
        (core func $insecure-u64 (canon lower (func $insecure "get-insecure-random-u64")))
        (core module $guest
            (import "m" "memory" (memory 1))
            (import "i" "get-environment" (func $get-environment (param i32)))
            (import "i" "get-arguments" (func $get-arguments (param i32)))
            (import "i" "monotonic-now" (func $monotonic-now (result i64)))
            (import "i" "wall-now" (func $wall-now (param i32)))
            (import "i" "random" (func $random (result i64)))
            (import "i" "insecure" (func $insecure (result i64)))
            (func (export "describe") (result i32)
                (local $first i64)
                ;; Both lists are empty.
                (call $get-environment (i32.const 16))
                (if (i32.load (i32.const 20)) (then unreachable))
                (call $get-arguments (i32.const 16))
                (if (i32.load (i32.const 20)) (then unreachable))
                ;; Time goes on.
                (local.set $first (call $monotonic-now))
                (if (i64.ge_u (local.get $first) (call $monotonic-now)) (then unreachable))
                ;; The date is the same in each run.
                (call $wall-now (i32.const 32))
                (if (i64.ne (i64.load (i32.const 32)) (i64.const 0)) (then unreachable))
                ;; And so is chance: the first number of SplitMix64.
                (if (i64.ne (call $random) (i64.const 0xE220A8397B1DCDAF)) (then unreachable))
                {more}
                (i32.store (i32.const 64) (i32.const 1024))
                (i32.store (i32.const 68) (i32.const {len}))
                i32.const 64)
            (data (i32.const 1024) "{data}"))
        (core instance $g (instantiate $guest
            (with "m" (instance $m))
            (with "i" (instance
                (export "get-environment" (func $get-environment))
                (export "get-arguments" (func $get-arguments))
                (export "monotonic-now" (func $monotonic-now))
                (export "wall-now" (func $wall-now))
                (export "random" (func $random-u64))
                (export "insecure" (func $insecure-u64))))))
        (func $describe (result string) (canon lift (core func $g "describe") (memory (core memory $m "memory"))))
        (instance $metadata (export "describe" (func $describe)))
        (export "bireme:host/metadata@0.1.0" (instance $metadata)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn inspect(dir: &TempDir, more: &str) -> Output {
    let path = file(dir, "described.wasm", &describing(more));
    bireme(&["--json", "inspect", &path])
}

#[test]
fn a_runtime_that_reads_its_environment_the_time_and_a_seed_first_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let output = inspect(&dir, "");
    assert_eq!(output.status, 0, "{output:#?}");
    assert_eq!(output.json()["app"]["name"], "described");
}

#[test]
fn a_description_that_asks_for_more_or_takes_too_much_memory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let asks = inspect(&dir, "(drop (call $insecure))");
    assert_eq!(asks.status, 2, "{asks:#?}");
    assert!(asks.stdout.contains("wasi:random/insecure@0.2.12#get-insecure-random-u64"), "{asks:#?}");

    // 64 KiB a page: 200 MiB are within the limit, 300 are not.
    let fits = inspect(&dir, "(drop (memory.grow (i32.const 3200)))");
    assert_eq!(fits.status, 0, "{fits:#?}");
    let grows = inspect(&dir, "(drop (memory.grow (i32.const 4800)))");
    assert_eq!(grows.status, 2, "{grows:#?}");
    assert!(grows.stdout.contains("over the limit of 268435456"), "{grows:#?}");
}
