//! Token of the control API: who has it is the operator, and functions need none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Guest, Server, command, data_without_models, finish, guest};

/// A request with a header of this value, which is none of the test's token.
fn with_authorization(server: &Server, path: &str, authorization: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let reply = server.exchange(&format!("{head}authorization: {authorization}\r\n\r\n"));
    if reply.status == 401 {
        assert_eq!(reply.json()["code"], "unauthorized", "{reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"bireme\""));
    }
    reply.status
}

#[test]
fn the_operators_paths_ask_for_the_token_in_the_data_directory() {
    let data = data_without_models();
    let run = |args: &[&str]| {
        let mut command = command(data.path(), args);
        command.env_remove("BIREME_TOKEN");
        command
    };
    let before = finish(run(&["token"]));
    assert_eq!(before.status, 69, "{before:?}");
    let mut serve = run(&["--json", "serve", "--listen", "127.0.0.1:0"]);
    serve.arg(guest(Guest::Hello));
    let server = Server::spawn(serve, data.path()).unwrap();
    let host = format!("http://{}", server.address);

    let file = data.path().join("token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = finish(run(&["token"])).stdout.trim_end().to_owned();
    assert_eq!(token, fs::read_to_string(&file).unwrap().trim_end());

    for path in ["/api/v1/apps", "/api/v1/calls?limit=1", "/", "/metrics", "/api/v1/logs", "//api/v1/apps"] {
        for wrong in ["", "Bearer", "Bearer ", "Basic eDp5", &format!("Bearer {}", &token[1..]), &token] {
            assert_eq!(with_authorization(&server, path, wrong), 401, "{path} with `{wrong}`");
        }
        for right in [format!("Bearer {token}"), format!("bearer  {token} ")] {
            assert_eq!(with_authorization(&server, path, &right), 200, "{path} with `{right}`");
        }
    }
    for open in ["/healthz", "/readyz", "/api/v1/openapi.json", "/v1/models", "/v2"] {
        assert_eq!(with_authorization(&server, open, "none"), 200, "{open}");
    }
    assert_eq!(server.post("/hello/add", r#"{"a":1,"b":2}"#).body, "3");

    let called = finish(run(&["call", "--host", &host, "hello::add", "--a", "1", "--b", "2"]));
    assert_eq!((called.status, called.stdout.trim_end()), (0, "3"), "{called:?}");
    let other = data_without_models();
    let mut stranger = command(other.path(), &["apps", "--host", &host]);
    let refused = finish({
        stranger.env_remove("BIREME_TOKEN");
        stranger
    });
    assert!(refused.status == 1 && refused.stderr.contains("error[unauthorized]"), "{refused:?}");
    let mut told = command(other.path(), &["apps", "--host", &host]);
    told.env("BIREME_TOKEN", &token);
    assert_eq!(finish(told).status, 0);

    // The next host of the directory has the same token.
    drop(server);
    let mut again = run(&["--json", "serve", "--listen", "127.0.0.1:0"]);
    again.arg(guest(Guest::Hello));
    let server = Server::spawn(again, data.path()).unwrap();
    assert_eq!(with_authorization(&server, "/api/v1/apps", &format!("Bearer {token}")), 200);
}

#[test]
fn a_token_that_is_too_short_to_be_one_is_refused() {
    let data = data_without_models();
    let mut serve = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
    serve.arg(guest(Guest::Hello)).env("BIREME_TOKEN", "secret");
    let refused = Server::spawn(serve, data.path()).err().unwrap();
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "config", "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("BIREME_TOKEN"), "{refused:?}");
    assert!(!refused.stdout.contains("secret"), "{refused:?}");
}
