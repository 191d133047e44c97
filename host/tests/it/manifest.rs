//! `bireme.toml`: limits and permissions of a component that carries no metadata, and of what is no app.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::site::{Site, Told};
use crate::support::{Guest, Output, Server, command, file, finish, fresh_data, guest, shared_data, wait_until};

/// A directory with a stock component, `x.wasm`, and this manifest.
fn component(manifest: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(as_built(Guest::StockWasi), dir.path().join("x.wasm")).unwrap();
    fs::write(dir.path().join("bireme.toml"), manifest).unwrap();
    dir
}

/// What cargo built, without metadata.
fn as_built(of: Guest) -> String {
    guest(of).replace(".bireme.wasm", ".wasm")
}

fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

fn serve(data: &Path, app: &str, more: &[&str]) -> Result<Server, Output> {
    let mut command = command(data, &["--json", "serve", "--listen", "127.0.0.1:0", app]);
    command.args(more);
    Server::spawn(command, data)
}

/// Runs a command against a host.
fn on(host: &Server, args: &[&str]) -> Output {
    let mut command = command(shared_data(), args);
    command.env("BIREME_HOST", host.address.to_string());
    finish(command)
}

#[test]
fn a_plain_component_gets_the_limits_the_origins_and_the_secrets_of_its_manifest() {
    let site = Site::start(|_| Told::new(204, ""));
    let manifest = format!(
        "name = \"shop\"\ntimeout = \"2m\"\noutbound = [\"$site\"]\nsecrets = [\"API_KEY\"]\n\n[grants]\nsite = \"{}\"\n",
        site.origin
    );
    let dir = component(&manifest);
    let inspected = finish(command(shared_data(), &["--json", "inspect", path(&dir)])).json();
    let attributes = &inspected["functions"][0]["attributes"];
    assert_eq!(inspected["app"]["name"], "shop");
    assert_eq!((&attributes["timeout_ms"], &attributes["outbound"]), (&json!(120_000), &json!(["$site"])));

    let data = fresh_data();
    let server = serve(data.path(), path(&dir), &["--secret", "API_KEY=hunter2"]).unwrap();
    assert_eq!(server.get("/shop/environment").body, "API_KEY=hunter2\n");
    let authority = site.origin.replace("http://", "");
    assert_eq!(server.get(&format!("/shop/fetch/{authority}")).body, "204");
    assert!(server.get("/shop/fetch/127.0.0.1:9").body.contains("HttpRequestDenied"));
    wait_until("the refusal is logged", || server.stderr().contains("add it to `outbound` in the app's bireme.toml"));
    drop(server);

    // The file alone leads to the manifest beside it, too; and the secret is needed for calls, not to be served.
    let server = serve(data.path(), &format!("{}/x.wasm", path(&dir)), &[]).unwrap();
    assert!(server.stderr().contains("`shop::web` cannot be called: its secret `API_KEY`"), "{}", server.stderr());
    let refused = server.get("/shop/environment");
    assert_eq!((refused.status, &refused.json()["code"]), (500, &json!("terminal")), "{refused:#?}");
}

#[test]
fn a_request_over_the_timeout_of_a_manifest_is_cut_off() {
    let dir = component("timeout = \"20ms\"\n");
    let data = fresh_data();
    let server = serve(data.path(), path(&dir), &[]).unwrap();
    // It sleeps for longer than that.
    let late = server.get("/x/drop/sleep");
    assert_eq!(late.json()["code"], "timeout", "{late:#?}");
    assert!(late.body.contains("raise `timeout` in the app's bireme.toml"), "{late:#?}");
}

#[test]
fn a_deployment_carries_the_manifest_and_asks_for_what_a_new_one_adds() {
    let dir = component("name = \"shop\"\n");
    let host = Server::start(&[]);
    let first = on(&host, &["--json", "deploy", path(&dir)]);
    assert_eq!((first.status, &first.json()["warnings"]), (0, &Value::Null), "{first:#?}");

    fs::write(
        dir.path().join("bireme.toml"),
        "name = \"shop\"\noutbound = [\"$docs\"]\nmodels = [\"all-minilm-l6-v3\"]\nsecrets = [\"KEY\"]\nconfig = [\"greeting\"]\n\
         [grants]\ndocs = \"http://127.0.0.1:9\"\n",
    )
    .unwrap();
    let refused = on(&host, &["deploy", path(&dir)]);
    assert_eq!(refused.status, 1, "{refused:#?}");
    for added in ["+ outbound:$docs", "+ model:all-minilm-l6-v3", "+ secret:KEY", "error[not-accepted]"] {
        assert!(refused.stderr.contains(added), "{added}: {refused:#?}");
    }
    let accepted = on(&host, &["--json", "deploy", path(&dir), "--accept"]);
    let warnings = accepted.json()["warnings"].clone();
    let kinds: Vec<_> = warnings.as_array().unwrap().iter().map(|of| (&of["kind"], &of["name"])).collect();
    assert_eq!(
        json!(kinds),
        json!([["grant", "docs"], ["model", "all-minilm-l6-v3"], ["secret", "KEY"], ["config", "greeting"]])
    );
    for (index, words) in [
        "declared but not granted: `$docs`; give `--grant docs=ORIGIN`",
        "did you mean `all-minilm-l6-v2`? `bireme models pull all-minilm-l6-v2` fetches it",
        "the host has no secret `KEY`, so `shop::web` cannot be called",
        "`--config shop:greeting=VALUE`",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(warnings[index]["message"].as_str().unwrap().contains(words), "{words}: {warnings:#}");
    }
    // For people, with the grant that was missing.
    let told = on(&host, &["deploy", path(&dir), "--accept", "--grant", "docs=http://127.0.0.1:9"]);
    assert_eq!(told.status, 0, "{told:#?}");
    assert!(told.stderr.contains("warning: the host has no secret `KEY`"), "{told:#?}");
    assert!(!told.stderr.contains("not granted"), "{told:#?}");
}

#[test]
fn a_mistake_in_a_manifest_is_told_with_file_line_and_key() {
    let dir = component("name = \"shop\"\nmemroy = \"64MiB\"\n");
    for arguments in [&["serve", path(&dir)] as &[&str], &["inspect", path(&dir)], &["deploy", path(&dir)]] {
        let refused = finish(command(shared_data(), arguments));
        assert_eq!(refused.status, 2, "{refused:#?}");
        for words in ["error[bad-manifest]", "bireme.toml`, line 2: unknown key `memroy`; did you mean `memory`?"] {
            assert!(refused.stderr.contains(words), "{words}: {refused:#?}");
        }
    }
}

#[test]
fn attributes_beside_an_app_of_the_sdk_belong_into_its_code() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(guest(Guest::Hello), dir.path().join("hello.wasm")).unwrap();
    fs::write(dir.path().join("bireme.toml"), "timeout = \"5s\"\n").unwrap();
    let target = format!("{}/hello.wasm::greet", path(&dir));
    let refused = finish(command(shared_data(), &["run", &target, r#"{"name":"Ada"}"#]));
    assert_eq!(refused.status, 2, "{refused:#?}");
    assert!(refused.stderr.contains("sets `timeout`, and the component describes itself"), "{refused:#?}");

    fs::write(dir.path().join("bireme.toml"), "[grants]\nsite = \"http://127.0.0.1:9\"\n").unwrap();
    let run = finish(command(shared_data(), &["run", &target, r#"{"name":"Ada"}"#]));
    assert_eq!(run.status, 0, "{run:#?}");
}

#[test]
fn what_is_no_app_is_told_by_name_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let component = |name: &str, text: &str| file(&dir, name, &wat::parse_str(text).unwrap());
    let export = |name: &str| format!("(component (instance $i) (export \"{name}\" (instance $i)))");
    for (path, words) in [
        (
            component("command.wasm", &export("wasi:cli/run@0.2.3")),
            "this is a command (it exports `wasi:cli/run@0.2.3`)",
        ),
        (
            component("library.wasm", &export("acme:db/query@1.0.0")),
            "this is a library (a reactor: it exports `acme:db",
        ),
        (
            component("old.wasm", &export("wasi:http/incoming-handler@0.2.0-rc-2023-11-10")),
            "for another version of WASI",
        ),
        (
            component("core.wasm", r#"(module (func (export "_start")))"#),
            "this is a core WebAssembly module, a command for WASI preview 1, and Bireme runs components",
        ),
    ] {
        let refused = finish(command(shared_data(), &["serve", "--listen", "127.0.0.1:0", &path]));
        assert_eq!(refused.status, 2, "{refused:#?}");
        assert!(refused.stderr.contains("error[bad-component]") && refused.stderr.contains(words), "{refused:#?}");
    }
}

#[test]
fn dev_swaps_a_component_when_it_or_its_manifest_is_written() {
    let dir = component("name = \"shop\"\n");
    let data = fresh_data();
    let mut command = command(data.path(), &["--json", "dev", "--listen", "127.0.0.1:0"]);
    command.arg(dir.path());
    let dev = Server::spawn(command, data.path()).unwrap_or_else(|output| panic!("{output:#?}"));
    wait_until("it is served", || dev.get("/shop/a").status == 200);
    let version = || dev.get("/shop/a").header("bireme-version").map(str::to_owned);
    let first = version();

    // A mistake leaves the version that was there.
    fs::write(dir.path().join("bireme.toml"), "name = \"shop\"\ntimeout = \"soon\"\n").unwrap();
    wait_until("the mistake is told", || dev.stderr().contains("keeps serving"));
    assert_eq!(version(), first);

    fs::write(dir.path().join("bireme.toml"), "name = \"shop\"\nsecrets = [\"API_KEY\"]\n").unwrap();
    wait_until("the manifest is taken", || dev.get("/shop/a").status == 500);
    assert!(dev.stderr().contains("its secret `API_KEY` is not given"), "{}", dev.stderr());

    fs::write(dir.path().join("bireme.toml"), "name = \"shop\"\n").unwrap();
    fs::copy(as_built(Guest::StockWstd), dir.path().join("x.wasm")).unwrap();
    wait_until("the other component is taken", || dev.get("/shop/a").body.starts_with("wstd at /a"));
}
