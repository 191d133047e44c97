//! Choice of a device and the reasons against others, as users meet them: the real binary, over the stub driver.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::stub_driver::StubDriver;
use crate::support::{self, Guest, MODEL, Output, Server, command, finish, fresh_data, function, shared_data};
use crate::tiny::HIDDEN;

fn on(driver: &StubDriver, mut command: Command) -> Output {
    command.env("LD_LIBRARY_PATH", driver.library_path());
    for name in ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"] {
        command.env_remove(name);
    }
    finish(command)
}

fn doctor(driver: &StubDriver, more: &[&str]) -> Value {
    on(driver, command(shared_data(), &[&["--json", "doctor"], more].concat())).json()
}

/// Why the CPU is used: the reason's name and what is said of it, which comes with a next step.
#[track_caller]
fn check_obstacle(driver: &StubDriver, reason: &str, detail: &str) {
    let said = doctor(driver, &[]);
    let devices = &said["devices"];
    assert_eq!((&devices["asked"], &devices["used"]), (&json!("auto"), &json!("cpu")), "{devices:#}");
    let obstacle = &devices["obstacle"];
    assert_eq!((&obstacle["reason"], &obstacle["detail"]), (&json!(reason), &json!(detail)), "{devices:#}");
    assert!(!obstacle["fix"].as_str().unwrap().is_empty());
    // And the table says the same.
    let checks = said["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "GPU").unwrap();
    assert!(check["detail"].as_str().unwrap().contains(detail), "{check:#}");
}

#[test]
fn a_machine_without_a_driver_says_so() {
    let detail = "there is no NVIDIA driver: `libcuda.so.1` cannot be loaded";
    check_obstacle(&StubDriver::none(), "no-driver", detail);
}

#[test]
fn a_driver_without_a_device_says_so() {
    check_obstacle(&StubDriver::new("devices = 0"), "no-device", "the driver finds no GPU");
}

#[test]
fn an_old_driver_is_told_which_is_needed() {
    let detail = "the driver is for CUDA 11.8; 12.0 is needed, which is driver 525 or newer";
    check_obstacle(&StubDriver::new("version = 11080"), "driver-too-old", detail);
}

#[test]
fn a_driver_that_lacks_a_function_is_named_with_it_before_a_worker_meets_it() {
    let driver = StubDriver::without_function("cuGraphLaunch", "");
    check_obstacle(&driver, "missing-function", "the driver lacks `cuGraphLaunch`, so it is too old");
}

#[test]
fn a_driver_that_does_not_start_shows_its_own_words() {
    let said = "cuInit failed with CUDA_ERROR_UNKNOWN (999)";
    check_obstacle(&StubDriver::new("init = 999"), "refused", said);
    let said = "cuInit failed with CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)";
    check_obstacle(&StubDriver::new("init = 803"), "refused", said);
    // A code without a name, too.
    check_obstacle(&StubDriver::new("init = 12345"), "refused", "cuInit failed with code 12345");
}

#[test]
fn a_gpu_that_is_too_old_is_shown_and_not_used() {
    let driver = StubDriver::new("capability = 70");
    check_obstacle(&driver, "capability", "its compute capability is 7.0; the kernels need 7.5");
    assert_eq!(doctor(&driver, &[])["devices"]["devices"][1]["is_usable"], false);
}

#[test]
fn a_gpu_that_gives_no_context_is_not_used() {
    let driver = StubDriver::new("fail = cuDevicePrimaryCtxRetain 2 1 on");
    let said = "cuDevicePrimaryCtxRetain failed with CUDA_ERROR_OUT_OF_MEMORY (2)";
    check_obstacle(&driver, "refused", said);
}

#[test]
fn one_gpu_that_fails_leaves_the_other() {
    let driver = StubDriver::new("devices = 2\nfail = cuDevicePrimaryCtxRetain 2 1");
    let said = doctor(&driver, &[]);
    assert_eq!(said["devices"]["used"], "cuda:1", "{said:#}");
    assert_eq!(said["devices"]["devices"][1]["obstacle"]["reason"], "refused");
}

#[test]
fn gpus_are_shown_with_what_the_driver_says_of_them() {
    let driver = StubDriver::new("devices = 2\nmemory = 67108864");
    let mut devices = doctor(&driver, &[])["devices"].take();
    let library = devices["cublaslt"].take();
    assert_eq!(library["version"], "12.9.2");
    assert_eq!(library["path"], json!(driver.library_path().join("libcublasLt.so")));
    let gpu = |ordinal: u32| {
        json!({
            "device": format!("cuda:{ordinal}"),
            "name": format!("Stub Device {ordinal}"),
            "uuid": format!("GPU-10111213-1415-1617-1819-1a1b1c1d1e{ordinal:02x}"),
            "compute_capability": "8.0",
            "memory_bytes": 67_108_864,
            "memory_free_bytes": 67_108_864,
            "is_usable": true,
        })
    };
    let expected = json!({
        "asked": "auto",
        "used": "cuda:0",
        "obstacle": null,
        "devices": [{ "device": "cpu", "is_usable": true }, gpu(0), gpu(1)],
        "driver": "12.4",
        "cublaslt": null,
        "worker": null,
    });
    assert_eq!(devices, expected);
}

#[test]
fn without_cublaslt_the_gpu_is_used_all_the_same_and_said_to_be_slower() {
    let said = doctor(&StubDriver::without_cublaslt(""), &[]);
    assert_eq!((&said["devices"]["used"], &said["devices"]["cublaslt"]), (&json!("cuda:0"), &Value::Null));
    let checks = said["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "cuBLASLt").unwrap();
    assert_eq!(check["status"], "warning");
    assert!(check["fix"].as_str().unwrap().contains("nvidia-cublas"), "{check:#}");
}

#[test]
fn a_driver_without_uuids_is_well() {
    let said = doctor(&StubDriver::without_uuid(""), &[]);
    assert_eq!(said["devices"]["used"], "cuda:0");
    assert_eq!(said["devices"]["devices"][1]["uuid"], Value::Null);
}

#[test]
fn a_named_gpu_that_is_not_there_ends_each_command_before_it_does_anything() {
    let driver = StubDriver::new("devices = 2");
    let greet = function(Guest::Hello, "greet");
    let hello = support::guest(Guest::Hello);
    let commands: [&[&str]; 4] = [
        &["embed", "--device", "cuda:7", "no-such-model", "text"],
        &["run", "--device", "cuda:7", &greet, "{\"name\":\"Ada\"}"],
        &["map", "--device", "cuda:7", &greet],
        &["serve", "--device", "cuda:7", "--listen", "127.0.0.1:0", hello],
    ];
    let expected = "error[no-device]: `cuda:7` cannot be used: there are 2 GPUs, cuda:0 to cuda:1
  hint: name one of those, or `auto`; CUDA_VISIBLE_DEVICES hides and renumbers devices
  more: bireme explain no-device\n";
    // Closed to others already, of which `serve` would tell.
    let data = support::fresh_data();
    std::fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for words in commands {
        let output = on(&driver, command(data.path(), words));
        assert_eq!((output.status, &*output.stdout, &*output.stderr), (69, "", expected), "{words:?}");
    }
    // Behind the target, where flags of the command may stand, too; as JSON with the same code.
    let words = ["run", &greet, "--name", "Ada", "--device", "cuda:7", "--json"];
    let output = on(&driver, command(shared_data(), &words));
    assert_eq!((output.status, &output.json()["error"]["code"]), (69, &json!("no-device")));
    // The doctor says it, and what else there is.
    let output = on(&driver, command(shared_data(), &["--json", "doctor", "--device", "cuda:7"]));
    let said = output.json();
    assert_eq!((output.status, &said["ok"], &said["devices"]["used"]), (1, &json!(false), &Value::Null));
    assert_eq!(said["devices"]["obstacle"]["reason"], "no-such-device");
}

#[test]
fn a_text_that_names_no_device_is_refused_from_the_command_line_and_the_environment() {
    let expected = "`gpu` is no device; give `auto`, `cpu`, or `cuda:N` for GPU number N";
    let output = finish(command(shared_data(), &["embed", "--device", "gpu", "m", "t"]));
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    let mut of_environment = command(shared_data(), &["embed", "m", "t"]);
    of_environment.env("BIREME_DEVICE", "gpu");
    let output = finish(of_environment);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains(expected), "{}", output.stderr);
}

#[test]
fn a_host_shows_the_device_that_its_worker_runs_on_and_the_models_in_it() {
    let (data, driver) = (fresh_data(), StubDriver::new(""));
    let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
    command.arg(support::guest(Guest::DocsSearch)).env("LD_LIBRARY_PATH", driver.library_path());
    let server = Server::spawn(command, data.path()).unwrap();
    let before = server.get("/api/v1/devices").json();
    assert_eq!((&before["asked"], &before["used"]), (&json!("auto"), &json!("cuda:0")));
    assert_eq!(before["worker"], Value::Null);

    let reply = server.post("/docs-search/embed", r#"{"texts":["oar deck oar"]}"#);
    assert_eq!(reply.status, 200, "{reply:#?}");
    let vectors: Vec<Vec<f32>> = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((vectors.len(), vectors[0].len()), (1, HIDDEN));
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    assert_eq!(receipt["inference"]["device"], "cuda:0");

    let live = &server.get("/api/v1/devices").json()["worker"];
    assert_eq!((&live["device"], &live["models"]), (&json!("cuda:0"), &json!([MODEL])));
    assert_eq!(support::children_as("worker", server.process.pid()), [live["pid"].as_u64().unwrap() as u32]);
    assert_eq!(
        server.exchange("POST /api/v1/devices HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").status,
        405
    );
}

#[test]
fn the_same_text_on_the_cpu_and_on_a_gpu_has_the_same_vector() {
    let (data, driver) = (fresh_data(), StubDriver::new("devices = 2"));
    let embed = |device: &str| -> Vec<f32> {
        let words = ["embed", "--device", device, MODEL, "deck oar"];
        let output = on(&driver, command(data.path(), &words));
        assert_eq!(output.status, 0, "{output:#?}");
        serde_json::from_str(&output.stdout).unwrap()
    };
    let expected = embed("cpu");
    for device in ["cuda:0", "cuda:1", "auto"] {
        let vector = embed(device);
        assert_eq!(vector.len(), expected.len());
        // Half precision: see `cuda`.
        assert!(vector.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 4e-3), "{device}: {vector:?}");
        assert_ne!(vector, expected, "{device} is another device");
    }
}

#[test]
fn a_gpu_that_fails_is_warned_of_where_the_cpu_takes_its_work_and_a_missing_one_is_not() {
    let data = fresh_data();
    let embed = |driver: &StubDriver| {
        let output = on(driver, command(data.path(), &["embed", MODEL, "oar"]));
        assert_eq!(output.status, 0, "{output:#?}");
        output.stderr
    };
    let said = embed(&StubDriver::new("version = 11080"));
    assert!(said.contains("WARN") && said.contains("the driver is for CUDA 11.8"), "{said}");
    assert_eq!(embed(&StubDriver::none()), "");
    assert_eq!(embed(&StubDriver::new("devices = 0")), "");
}

#[test]
fn a_worker_sees_the_devices_that_the_operator_left_visible_and_none_of_the_hosts_secrets() {
    let (data, driver) = (fresh_data(), StubDriver::new(""));
    let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
    command.arg(support::guest(Guest::DocsSearch)).env("LD_LIBRARY_PATH", driver.library_path());
    command.env("CUDA_VISIBLE_DEVICES", "0").env("SOME_SECRET", "s");
    let server = Server::spawn(command, data.path()).unwrap();
    assert_eq!(server.post("/docs-search/embed", r#"{"texts":["oar"]}"#).status, 200);
    let [worker] = support::children_as("worker", server.process.pid())[..] else { panic!("one worker") };
    let environment = fs::read(format!("/proc/{worker}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    let names: Vec<&str> = environment.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    assert!(names.contains(&"CUDA_VISIBLE_DEVICES") && names.contains(&"LD_LIBRARY_PATH"), "{names:?}");
    assert!(!names.contains(&"SOME_SECRET") && !names.contains(&"PATH"), "{names:?}");
}

#[test]
fn a_gpu_that_loses_its_context_costs_a_worker_and_no_call() {
    // Each worker's second batch dies at its third launch.
    let (data, driver) = (fresh_data(), StubDriver::new("fail = cuLaunchKernel 719 12"));
    let mut command = command(data.path(), &["--json", "serve", "--device", "cuda:0", "--listen", "127.0.0.1:0"]);
    command.arg(support::guest(Guest::DocsSearch)).env("LD_LIBRARY_PATH", driver.library_path());
    let server = Server::spawn(command, data.path()).unwrap();
    let mut workers = Vec::new();
    let mut first = None;
    for _ in 0..6 {
        let reply = server.post("/docs-search/embed", r#"{"texts":["oar deck oar"]}"#);
        assert_eq!(reply.status, 200, "{reply:#?}");
        assert_eq!(first.get_or_insert(reply.body.clone()), &reply.body);
        let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
        // The batch ran again, the function did not, and never elsewhere.
        assert_eq!((&receipt["attempts"], &receipt["inference"]["device"]), (&json!(1), &json!("cuda:0")));
        workers.push(server.get("/api/v1/devices").json()["worker"]["pid"].as_u64().unwrap());
    }
    workers.dedup();
    assert!(workers.len() >= 3, "{workers:?}");
    let said = fs::read_to_string(data.path().join("stderr.log")).unwrap();
    assert!(said.contains("CUDA_ERROR_LAUNCH_FAILED (719)"), "{said}");
}
