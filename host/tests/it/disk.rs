//! The disk: an app at its quota, a disk that is really full, a database that is compacted, a clock that has jumped.
//!
//! The full disks are small file systems of their own, in a mount namespace; where the kernel lets nobody make one, the
//! tests are skipped, which they say.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::fixtures::data_of;
use crate::support::{Guest, Reply, Server, command, exchange, finish, fresh_data, guest, shared_data, wait_until};

/// Set in a test that runs within a namespace of its own; names the mounted directory.
const SMALL_DISK: &str = "TEST_SMALL_DISK";

/// Runs `test`, the body of the test `name`, with a file system of `mebibytes` in the place of the temporary directory.
fn on_small_disk(name: &str, mebibytes: u32, test: impl FnOnce(&Path)) {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return test(Path::new(&disk));
    }
    // Built before the temporary directory is small.
    shared_data();
    guest(Guest::Hello);
    let mount = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"${SMALL_DISK}\" || exit 125\nexec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SMALL_DISK, mount.path())
        .env("TMPDIR", mount.path())
        .output();
    let is_permitted = match &output {
        Ok(output) => {
            output.status.code() != Some(125) && !String::from_utf8_lossy(&output.stderr).contains("unshare:")
        }
        Err(_) => false,
    };
    if !is_permitted {
        // Past the test harness, which shows nothing of a test that passes.
        let _ = std::io::stderr().write_all(b"skipped: this user may mount no file system in a namespace\n");
        return;
    }
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn value_request(method: &str, app: &str, key: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} /api/v1/apps/{app}/kv/value?bucket=b&key={key} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        bytes.len()
    );
    [head.as_bytes(), bytes].concat()
}

fn set(server: &Server, app: &str, key: &str, bytes: usize) -> Reply {
    exchange(server.address, &value_request("PUT", app, key, &vec![7; bytes]))
}

fn delete(server: &Server, app: &str, key: &str) -> Reply {
    exchange(server.address, &value_request("DELETE", app, key, b""))
}

/// Returns an app in the list of apps.
fn app(server: &Server, name: &str) -> Value {
    let apps = server.get("/api/v1/apps").json()["apps"].clone();
    apps.as_array().unwrap().iter().find(|app| app["name"] == name).unwrap().clone()
}

fn metric(server: &Server, line: &str) -> Option<f64> {
    let text = server.get("/metrics").body;
    let line = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn an_app_at_its_quota_reads_and_deletes_and_others_go_on() {
    let data = fresh_data();
    let apps = [Guest::Hello, Guest::Hostile];
    let server = Server::try_start(data.path(), &apps, &["--app-disk", "1MiB"]).unwrap();
    let mut kept = 0;
    let refused = loop {
        let reply = set(&server, "hello", &format!("k{kept}"), 100_000);
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 20, "the quota never held");
    };
    assert_eq!((refused.status, refused.json()["code"].clone(), kept), (507, json!("disk-quota"), 10), "{refused:#?}");
    let detail = refused.json()["detail"].to_string();
    for part in ["`hello`", "quota of 1.0 MiB", "--app-disk"] {
        assert!(detail.contains(part), "{detail}");
    }
    // A value of the same size takes no more room, and a smaller one gives some back.
    assert_eq!(set(&server, "hello", "k0", 100_000).status, 200);
    assert_eq!(server.get("/api/v1/apps/hello/kv/value?bucket=b&key=k1").status, 200);
    assert_eq!(set(&server, "hostile", "k", 500_000).status, 200);
    for (name, least) in [("hello", 1_000_000), ("hostile", 500_000)] {
        let app = app(&server, name);
        let used = app["disk_used_bytes"].as_u64().unwrap();
        assert!((least..least + 1_000).contains(&used), "{app}");
        assert_eq!(app["disk_quota_bytes"], 1 << 20);
        assert_eq!(metric(&server, &format!("bireme_app_disk_bytes{{app=\"{name}\"}}")), Some(used as f64));
    }
    // Durable work of the app is refused by the same quota.
    let input = json!({ "value": "x".repeat(100_000) }).to_string();
    let spawned = exchange(server.address, &durable("hello", "echo", &input));
    assert_eq!((spawned.status, spawned.json()["code"].clone()), (507, json!("disk-quota")), "{spawned:#?}");
    for key in 0..3 {
        assert_eq!(delete(&server, "hello", &format!("k{key}")).status, 200);
    }
    let spawned = exchange(server.address, &durable("hello", "echo", &input));
    assert_eq!(spawned.status, 202, "{spawned:#?}");
    let call = spawned.json()["id"].as_str().unwrap().to_owned();
    wait_until("the call is done", || server.get(&format!("/api/v1/calls/{call}")).json()["state"] == "done");
    let used = app(&server, "hello")["disk_used_bytes"].as_u64().unwrap();
    assert!(used > 900_000, "its input and its output count: {used}");
    drop(server);

    // Lowered below what is there, as after an upgrade.
    let server = Server::try_start(data.path(), &apps, &["--app-disk", "200kB"]).unwrap();
    assert!(server.stderr().contains("keeps more than its quota"), "{}", server.stderr());
    assert_eq!(metric(&server, "bireme_apps_over_disk_quota"), Some(2.0));
    assert_eq!(set(&server, "hello", "new", 10).status, 507);
    assert_eq!(set(&server, "hello", "k5", 10).status, 200, "it keeps less than before");
    assert_eq!(delete(&server, "hello", "k6").status, 200);
    assert_eq!(app(&server, "hello")["disk_used_bytes"].as_u64().unwrap() / 100_000, used / 100_000 - 2);
}

fn durable(app: &str, function: &str, input: &str) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/apps/{app}/functions/{function}/calls HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        input.len()
    );
    [head.as_bytes(), input.as_bytes()].concat()
}

#[test]
fn refused_writes_are_a_line_a_minute_in_the_log() {
    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::Hello], &["--app-disk", "1kB"]).unwrap();
    for _ in 0..300 {
        assert_eq!(set(&server, "hello", "k", 2_000).status, 507);
    }
    let stderr = server.stderr();
    let lines = stderr.lines().filter(|line| line.contains("writes are refused")).count();
    // A machine that takes minutes over it prints one more for each.
    assert!((1..=5).contains(&lines) && stderr.lines().count() < 100, "{stderr}");
}

/// Rows of every kind, written by a host that counted nothing.
#[test]
fn what_apps_keep_is_counted_at_the_first_start_over_an_older_directory() {
    let data = data_of("states-2");
    let server = Server::try_start(data.path(), &[], &["--keep", "36500d"]).unwrap();
    let used = app(&server, "states")["disk_used_bytes"].as_u64().unwrap();
    let files: u64 =
        files_below(&data.path().join("results")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(files > 0 && used > files, "{used} bytes, of which {files} in files");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Takes every byte that is left, as another program would.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::options().append(true).create(true).open(&path).unwrap();
    for bytes in [1 << 20, 4_096, 1] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
    path
}

fn free_bytes(disk: &Path) -> u64 {
    let disk = rustix::fs::statvfs(disk).unwrap();
    disk.f_bavail * disk.f_frsize
}

fn start_full(data: &Path) -> Server {
    Server::try_start(data, &[], &["--app-disk", "1TiB"]).unwrap_or_else(|output| panic!("no server: {output:#?}"))
}

#[test]
fn on_a_full_disk_deleting_stopping_and_rolling_back_work_and_then_writes_go_on() {
    let name = "disk::on_a_full_disk_deleting_stopping_and_rolling_back_work_and_then_writes_go_on";
    on_small_disk(name, 400, |disk| {
        // One version of `hello`, to roll back to.
        let data = data_of("data-2");
        let mut server = start_full(data.path());
        let mut deploy = command(shared_data(), &["--json", "deploy", guest(Guest::Hello), "--accept"]);
        deploy.env("BIREME_HOST", server.address.to_string());
        let deployed = finish(deploy);
        assert_eq!(deployed.status, 0, "{deployed:#?}");
        let mut kept = 0;
        let refused = loop {
            let reply = set(&server, "hello", &format!("k{kept}"), 4 << 20);
            if reply.status != 200 {
                break reply;
            }
            kept += 1;
        };
        assert_eq!((refused.status, refused.json()["code"].clone()), (507, json!("disk-full")), "{refused:#?}");
        assert!(kept > 8, "{kept}");
        let filler = fill(disk);
        assert_eq!(free_bytes(disk), 0);

        let mut deleted = 0;
        let mut delete_next = |server: &Server, what: &str| {
            let reply = delete(server, "hello", &format!("k{deleted}"));
            assert_eq!(reply.status, 200, "{what}: {reply:#?}\n{}", server.stderr());
            deleted += 1;
        };
        delete_next(&server, "on the full disk");
        fill(disk);
        // After a kill, and after an orderly stop.
        server.process.signal(rustix::process::Signal::KILL);
        server.process.wait();
        fill(disk);
        let mut server = start_full(data.path());
        delete_next(&server, "after a kill");
        assert_eq!(set(&server, "hello", "new", 4 << 20).status, 507, "nothing but space to come is free");
        fill(disk);
        assert_eq!(server.stop(), 0, "{}", server.stderr());
        fill(disk);
        let server = start_full(data.path());
        delete_next(&server, "after a stop");

        // The file does not shrink as long as its end is in use; the host compacts it, and writes go on though nobody
        // makes room outside.
        while deleted < kept / 2 {
            let reply = delete(&server, "hello", &format!("k{deleted}"));
            assert_eq!(reply.status, 200, "{reply:#?}");
            deleted += 1;
        }
        fill(disk);
        wait_until("writes go on", || set(&server, "hello", "new", 1 << 20).status == 200);
        assert_eq!(server.get("/api/v1/apps/hello/kv/value?bucket=b&key=new").body.len(), 1 << 20);

        let rolled_back = server.post("/api/v1/apps/hello/rollback", "");
        assert_eq!(rolled_back.status, 200, "{rolled_back:#?}");
        let stopped =
            server.exchange("DELETE /api/v1/apps/hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert_eq!(stopped.status, 200, "{stopped:#?}");
        while deleted < kept {
            let reply = delete(&server, "hello", &format!("k{deleted}"));
            assert_eq!(reply.status, 200, "{reply:#?}");
            deleted += 1;
        }

        fs::remove_file(filler).unwrap();
        let reserve = data.path().join("reserve");
        wait_until("the reserve is whole again", || {
            set(&server, "hello", "again", 10);
            fs::metadata(&reserve).is_ok_and(|metadata| metadata.len() == 32 << 20)
        });
    });
}

#[test]
fn a_database_is_compacted_without_a_host_and_a_kill_meanwhile_loses_nothing() {
    let data = fresh_data();
    let mut server = Server::start_over(data.path(), &[Guest::Hello]);
    for key in 0..24 {
        assert_eq!(set(&server, "hello", &format!("k{key}"), 1 << 20).status, 200);
    }
    for key in 0..20 {
        assert_eq!(delete(&server, "hello", &format!("k{key}")).status, 200);
    }
    let compact = || command(data.path(), &["--json", "doctor", "--compact"]);
    let refused = finish(compact());
    assert_ne!(refused.status, 0);
    assert!(refused.stdout.contains("in use by process"), "{refused:#?}");
    assert_eq!(server.stop(), 0);
    for point in ["store.write.before@3", "store.sync.after@2", "store.sync.before@4", "store.set-len.after@1"] {
        let mut killed = compact();
        killed.env("BIREME_FAIL_POINT", point);
        assert_ne!(finish(killed).status, 0, "{point}");
    }
    let compacted = finish(compact());
    assert_eq!(compacted.status, 0, "{compacted:#?}");
    let said = compacted.json();
    assert!(said["after_bytes"].as_u64().unwrap() < 16 << 20, "{said}");
    let server = Server::start_over(data.path(), &[Guest::Hello]);
    for key in 20..24 {
        let value = server.get(&format!("/api/v1/apps/hello/kv/value?bucket=b&key=k{key}"));
        assert_eq!((value.status, value.body.len()), (200, 1 << 20));
    }
    let used = app(&server, "hello")["disk_used_bytes"].as_u64().unwrap();
    assert!((4 << 20..(4 << 20) + 1_000).contains(&used), "{used}");
}

/// Sets the time that the last host has kept, as if the clock had jumped since by the rest.
fn set_kept_clock(data: &Path, ms: u64) {
    let db = Database::open(data.join("store.redb")).unwrap();
    let transaction = db.begin_write().unwrap();
    let table = TableDefinition::<&[u8], &[u8]>::new("host");
    let row = [ms.to_be_bytes(), [0; 8]].concat();
    transaction.open_table(table).unwrap().insert(b"clock".as_slice(), row.as_slice()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_clock_that_has_jumped_by_days_deletes_nothing_and_the_operator_is_told() {
    let data = fresh_data();
    let start = |keep: &str| Server::try_start(data.path(), &[Guest::Hello], &["--keep", keep]).unwrap();
    let mut server = start("36500d");
    let spawned = exchange(server.address, &durable("hello", "add", r#"{"a":1,"b":2}"#));
    let call = format!("/api/v1/calls/{}", spawned.json()["id"].as_str().unwrap());
    wait_until("the call is done", || server.get(&call).json()["state"] == "done");
    assert_eq!(server.stop(), 0);

    let now_ms = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    set_kept_clock(data.path(), now_ms() - 8 * 86_400_000);
    let mut server = start("0s");
    wait_until("the jump is seen", || {
        metric(&server, "bireme_retention_clock_ahead_seconds").is_some_and(|ahead| ahead > 7.0 * 86_400.0)
    });
    assert!(server.stderr().contains("the clock has jumped ahead"), "{}", server.stderr());
    assert_eq!(server.get(&call).status, 200);
    assert_eq!(server.stop(), 0);

    // With the clock as it is, the call is as old as it may be.
    set_kept_clock(data.path(), now_ms());
    let server = start("0s");
    wait_until("the call is deleted", || server.get(&call).status == 404);
    assert_eq!(metric(&server, "bireme_retention_clock_ahead_seconds"), Some(0.0));
}
