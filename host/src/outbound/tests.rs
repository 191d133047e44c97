//! Real requests to servers on loopback.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::*;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
/// Reached only by a real hang.
const HANG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);

/// A server on loopback that counts its requests.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Runs `serve` for each connection, with its number from 0 and the list that requests go to.
    async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(TcpStream, usize, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counter, list) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number, Arc::clone(&list)));
            }
        }));
        Self { address, connections, requests, _task: task }
    }

    /// Sends the same response to every request.
    async fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream, _, list| {
            let answer = answer.clone();
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    list.lock().expect("no panic").push(request);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Reads one request's head, and its body as far as `content-length` or the last chunk says.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => body.len() >= length.parse().expect("a number"),
                None => !head.contains("chunked") || body.ends_with("0\r\n\r\n"),
            };
            if is_whole {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        text.push_str(std::str::from_utf8(&piece[..read]).expect("requests are text"));
    }
}

/// A resolver with scripted answers; repeats the last one for ever.
#[derive(Default)]
struct Scripted {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, _: &'a Arc<str>, _: &'a str, _: u16) -> super::resolver::Lookup<'a> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(turn).or(self.answers.last()).cloned();
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

fn policy(declared: &[&str], grants: &[&str]) -> Policy {
    let strings = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let grants = Grants::parse(&strings(grants)).expect("good grants");
    Policy::new(&strings(declared), &grants, "the function's attributes").expect("good entries")
}

/// A client with everything that one call needs.
struct Client {
    outbound: Outbound,
    policy: Policy,
    budget: CallBudget,
    timeouts: Timeouts,
}

impl Client {
    fn with(outbound: Outbound, policy: Policy) -> Self {
        Self {
            outbound,
            policy,
            budget: CallBudget::default(),
            timeouts: Timeouts { connect: HANG, first_byte: HANG, between_bytes: HANG },
        }
    }

    /// May reach `server`, with `limits`.
    fn limited(server: &Server, limits: OutboundLimits) -> Self {
        let origin = server.origin();
        let outbound = Outbound::new(limits, OwnListeners::default());
        Self::with(outbound, policy(&["$s"], &[&format!("s={origin}")]))
    }

    fn of(server: &Server) -> Self {
        Self::limited(server, OutboundLimits::default())
    }

    async fn send<B>(&self, request: Request<B>) -> Result<Response<OutboundBody>, OutboundError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.outbound.send("app", &self.policy, &self.budget, request, self.timeouts).await
    }

    async fn get(&self, uri: &str) -> Result<Response<OutboundBody>, OutboundError> {
        let request = Request::get(uri).body(Empty::<Bytes>::new());
        self.send(request.expect("a request")).await
    }

    /// The status and the body of a GET.
    async fn read(&self, uri: &str) -> Result<String, OutboundError> {
        let (head, body) = self.get(uri).await?.into_parts();
        let bytes = body.collect().await?.to_bytes();
        Ok(format!("{} {}", head.status.as_u16(), String::from_utf8_lossy(&bytes)))
    }
}

#[tokio::test]
async fn a_connection_serves_again_once_its_response_is_read() {
    let server = Server::answering(HELLO).await;
    let client = Client::of(&server);
    for _ in 0..5 {
        assert_eq!(client.read(&server.origin()).await.expect("an answer"), "200 hello");
    }
    assert_eq!(server.connections(), 1);

    drop(client.get(&server.origin()).await.expect("an answer"));
    assert_eq!(client.read(&server.origin()).await.expect("an answer"), "200 hello");
    assert_eq!(server.connections(), 2, "an unread response costs its connection");
}

#[tokio::test]
async fn apps_do_not_share_connections() {
    let server = Server::answering(HELLO).await;
    let client = Client::of(&server);
    for app in ["one", "two", "one", "two"] {
        let request = Request::get(server.origin()).body(Empty::<Bytes>::new()).expect("a request");
        let sent = client.outbound.send(app, &client.policy, &client.budget, request, client.timeouts);
        sent.await.expect("an answer").collect().await.expect("a body");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_closes_after_its_time() {
    let closed = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&closed);
    let server = Server::start(move |mut stream, _, _| {
        let notify = Arc::clone(&notify);
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(HELLO.as_bytes()).await.expect("open");
            }
            notify.notify_one();
        }
    })
    .await;
    let limits = OutboundLimits { idle_max: SHORT, ..Default::default() };
    let client = Client::limited(&server, limits);
    client.read(&server.origin()).await.expect("an answer");
    timeout(HANG, closed.notified()).await.expect("the sweeper closes it");
}

/// Answers the first request of the first connection, swallows the second and closes.
async fn forgetful() -> Server {
    Server::start(|mut stream, number, list| async move {
        while let Some(request) = read_request(&mut stream).await {
            let seen = {
                let mut list = list.lock().expect("no panic");
                list.push(request);
                list.len()
            };
            if number == 0 && seen == 2 {
                return;
            }
            stream.write_all(HELLO.as_bytes()).await.expect("open");
        }
    })
    .await
}

#[tokio::test]
async fn a_request_without_body_survives_a_dead_pooled_connection() {
    let server = forgetful().await;
    let client = Client::of(&server);
    client.read(&server.origin()).await.expect("an answer");
    assert_eq!(client.read(&server.origin()).await.expect("a retry"), "200 hello");
    assert_eq!((server.connections(), server.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_request_that_may_have_been_served_is_not_repeated() {
    let server = forgetful().await;
    let client = Client::of(&server);
    client.read(&server.origin()).await.expect("an answer");
    let post = Request::post(server.origin()).body(Full::new(Bytes::from_static(b"once")));
    let failed = client.send(post.expect("a request")).await.err().expect("a failure");
    assert!(matches!(failed, OutboundError::Protocol { .. }), "{failed}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn redirects_are_returned() {
    let tripwire = Server::answering(HELLO).await;
    let location = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", tripwire.origin());
    let server = Server::answering(location).await;
    let response = Client::of(&server).get(&server.origin()).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()["location"], tripwire.origin());
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_ends_in_an_error() {
    let limits = OutboundLimits { body_bytes_max: 8, ..Default::default() };
    let read = async |answer: &str| {
        let server = Server::answering(answer).await;
        Client::limited(&server, limits).read(&server.origin()).await
    };
    let exactly = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678";
    assert_eq!(read(exactly).await.expect("within the limit"), "200 12345678");
    for over in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n",
    ] {
        let error = read(over).await.expect_err("over the limit");
        assert!(matches!(error, OutboundError::BodyTooLarge { limit_bytes: 8, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_cut_off_body_is_an_error() {
    let server = Server::start(|mut stream, _, _| async move {
        read_request(&mut stream).await;
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
        stream.write_all(half.as_bytes()).await.expect("open");
    })
    .await;
    let error = Client::of(&server).read(&server.origin()).await.expect_err("cut off");
    assert!(matches!(error, OutboundError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn slow_servers_run_into_the_timeout_of_their_phase() {
    let answer_then_hang = async |answer: &'static str| {
        Server::start(move |mut stream, _, _| async move {
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.expect("open");
            std::future::pending::<()>().await;
        })
        .await
    };
    for (answer, expected) in [
        ("", Phase::FirstByte),
        ("HTTP/1.1 200", Phase::FirstByte),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", Phase::BetweenBytes),
    ] {
        let server = answer_then_hang(answer).await;
        let mut client = Client::of(&server);
        match expected {
            Phase::FirstByte => client.timeouts.first_byte = SHORT,
            _ => client.timeouts.between_bytes = SHORT,
        }
        let error = client.read(&server.origin()).await.expect_err("too slow");
        let OutboundError::Timeout { phase, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(phase, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_head_over_the_limits_is_an_error() {
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(70 << 10));
    for headers in [many, long] {
        let server = Server::answering(format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
        let error = Client::of(&server).read(&server.origin()).await.expect_err("too large");
        assert!(matches!(error, OutboundError::HeadTooLarge { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_protocol_switch_is_an_error() {
    let server =
        Server::answering("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    let error = Client::of(&server).read(&server.origin()).await.expect_err("unasked");
    assert!(matches!(error, OutboundError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn headers_of_one_hop_stay_there() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nx: 1\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let request = Request::get(format!("{}/a%20b?c", server.origin()))
        .header("host", "elsewhere")
        .header("connection", "close")
        .body(Empty::<Bytes>::new());
    let client = Client::of(&server);
    let response = client.send(request.expect("a request")).await.expect("an answer");
    let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x"]);
    let expected = format!("GET /a%20b?c HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(server.requests(), [expected]);
}

#[tokio::test]
async fn an_upload_streams_without_its_empty_pieces() {
    let server = Server::answering(HELLO).await;
    let client = Client::of(&server);
    let pieces = ["", "ab", "", "", "cde", ""].map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    let request = Request::post(server.origin()).body(body).expect("a request");
    client.send(request).await.expect("an answer").collect().await.expect("a body");
    let sent = server.requests().remove(0);
    let (_, body) = sent.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n");
    client.read(&server.origin()).await.expect("an answer");
    assert_eq!(server.connections(), 1, "a complete upload frees its connection");
}

#[tokio::test]
async fn an_upload_that_fails_says_why() {
    let server = Server::answering(HELLO).await;
    let client = Client::of(&server);
    let send = async |length: Option<&str>, pieces: Vec<Result<&'static str, BoxError>>| {
        let frames = pieces.into_iter().map(|piece| piece.map(|text| Frame::data(Bytes::from(text))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut request = Request::post(server.origin());
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        client.send(request.body(body).expect("a request")).await
    };
    let short = send(Some("5"), vec![Ok("abc")]).await.err().expect("too short");
    assert!(matches!(short, OutboundError::RequestLength { actual: 3, .. }), "{short}");
    let long = send(Some("5"), vec![Ok("abc"), Ok("def")]).await.err().expect("too long");
    assert!(matches!(long, OutboundError::RequestLength { actual: 6, .. }), "{long}");
    let broken = send(None, vec![Ok("abc"), Err("the guest trapped".into())]).await;
    let broken = broken.err().expect("broken");
    assert_eq!(broken.to_string(), "the request's body failed: the guest trapped");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_call_over_its_budget_waits_for_itself() {
    let server = Server::answering(HELLO).await;
    let mut client = Client::of(&server);
    client.budget = CallBudget::new(1);
    let first = client.get(&server.origin()).await.expect("an answer");
    let origin = server.origin();
    let second = client.read(&origin);
    tokio::pin!(second);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    assert_eq!(server.connections(), 1);
    first.into_body().collect().await.expect("a body");
    assert_eq!(second.await.expect("an answer"), "200 hello");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_host_runs_out_of_connections_only_when_all_are_busy() {
    let (one, two) = (Server::answering(HELLO).await, Server::answering(HELLO).await);
    let limits = OutboundLimits { connections_max: 1, ..Default::default() };
    let mut client = Client::limited(&one, limits);
    let grants = [format!("s={}", one.origin()), format!("s={}", two.origin())];
    client.policy = policy(&["$s"], &[&grants[0], &grants[1]]);
    let busy = client.get(&one.origin()).await.expect("an answer");
    let refused = client.read(&two.origin()).await.expect_err("all are busy");
    assert!(matches!(refused, OutboundError::HostConnections { limit: 1 }), "{refused}");
    busy.into_body().collect().await.expect("a body");
    assert_eq!(client.read(&two.origin()).await.expect("the idle one gave way"), "200 hello");
}

#[tokio::test]
async fn no_spelling_of_loopback_gets_through_without_a_grant() {
    let tripwire = Server::answering(HELLO).await;
    let port = tripwire.address.port();
    let client = Client::with(
        Outbound::new(OutboundLimits::default(), OwnListeners::default()),
        policy(&["*", &format!("http://localhost:{port}")], &[]),
    );
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
    ] {
        // Not every host fits the type for URIs.
        let Ok(uri) = format!("http://{host}:{port}/").parse::<http::Uri>() else {
            continue;
        };
        let request = Request::get(uri).body(Empty::<Bytes>::new()).expect("a request");
        let refused = client.send(request).await.err().expect(host);
        assert!(matches!(refused, OutboundError::NotPublic { .. }), "{host}: {refused}");
    }
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn the_host_itself_is_out_of_reach_whatever_was_granted() {
    let host = Server::answering(HELLO).await;
    let port = host.address.port();
    for bound in [host.address, SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0; 8], port))] {
        let own = OwnListeners::default();
        let grants = [
            format!("s=http://127.0.0.1:{port}"),
            format!("s=http://[::ffff:127.0.0.1]:{port}"),
            format!("s=http://localhost:{port}"),
        ];
        let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
        let outbound = Outbound::new(OutboundLimits::default(), own.clone());
        let client = Client::with(outbound, policy(&["$s", "*"], &grants));
        own.insert(bound);
        for name in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
            let refused = client.read(&format!("http://{name}:{port}")).await.expect_err(name);
            assert!(matches!(refused, OutboundError::OwnListener { .. }), "{name}: {refused}");
        }
    }
    assert_eq!(host.connections(), 0);
}

#[tokio::test]
async fn a_pooled_connection_to_a_new_listener_of_the_host_is_not_used() {
    let server = Server::answering(HELLO).await;
    let own = OwnListeners::default();
    let outbound = Outbound::new(OutboundLimits::default(), own.clone());
    let origin = server.origin();
    let client = Client::with(outbound, policy(&[&origin], &[&origin]));
    client.read(&origin).await.expect("an answer");
    own.insert(server.address);
    let refused = client.read(&origin).await.expect_err("its own now");
    assert!(matches!(refused, OutboundError::OwnListener { .. }), "{refused}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn every_address_of_a_name_is_checked() {
    let tripwire = Server::answering(HELLO).await;
    let public = SocketAddr::from(([8, 8, 8, 8], 80));
    for answer in [vec![tripwire.address], vec![public, tripwire.address], vec![tripwire.address, public]] {
        let resolver = Arc::new(Scripted { answers: vec![answer], ..Default::default() });
        let outbound = Outbound::with(OutboundLimits::default(), OwnListeners::default(), resolver, Roots::System);
        let client = Client::with(outbound, policy(&["http://rebound.example"], &[]));
        let refused = client.read("http://rebound.example").await.expect_err("one is private");
        let OutboundError::NotPublic { grant, address, .. } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(grant.as_deref(), Some("http://rebound.example"));
        assert!(!refused.to_string().contains(&address.to_string()), "{refused}");
    }
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn a_public_address_of_this_machine_needs_a_grant_as_soon_as_it_has_it() {
    for public in ["203.0.114.7", "2a00:1450:4001:82f::7"] {
        let public: IpAddr = public.parse().expect("an address");
        let (site, target) = ("http://site.example:81", SocketAddr::new(public, 81));
        let literal = format!("http://{target}");
        let cases = [
            (policy(&["*"], &[]), site, false),
            (policy(&["*"], &[]), literal.as_str(), false),
            (policy(&["http://*.example:81"], &[]), site, false),
            (policy(&[site], &[]), site, false),
            (policy(&[site], &[site]), site, true),
            (policy(&["$s"], &[&format!("s={literal}")]), literal.as_str(), true),
        ];
        for (policy, uri, is_granted) in cases {
            let local = Arc::new(parking_lot::Mutex::new(Vec::new()));
            let own = OwnListeners::on(local::LocalAddresses::of(local.clone()));
            let tls = Tls::new(Roots::System);
            let connector = Connector::new(&OutboundLimits::default(), own, Arc::new(Scripted::default()), tls);
            let permit = policy.check(&uri.parse().expect("a URI")).expect("declared");
            // Nothing is sent: the public network is no part of a test.
            connector.check(&permit, target).expect("another machine's");
            local.lock().push(public);
            let mapped = SocketAddr::new(mapped(public), target.port());
            for spelling in [target, mapped] {
                match connector.check(&permit, spelling) {
                    Ok(()) => assert!(is_granted, "{uri}"),
                    Err(OutboundError::NotPublic { network: "local", grant, .. }) => {
                        assert!(!is_granted, "{uri}");
                        assert_eq!(
                            grant.is_some(),
                            uri == site && permit.scope() != policy::Scope::Public { named: false }
                        );
                    }
                    Err(other) => panic!("{uri}: {other}"),
                }
            }
        }
    }
}

/// The same address as IPv6 spells it.
fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 => v6,
    }
}

#[tokio::test]
async fn no_wildcard_reaches_the_services_of_a_cloud() {
    for address in [
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",
        "64:ff9b:1::a83f:8110",
        "2002:a83f:8110::1",
        "2001:0:a83f:8110::1",
        "::a83f:8110",
        "::ffff:0:a83f:8110",
    ] {
        let target = SocketAddr::new(address.parse().expect("an address"), 80);
        for (declared, uri) in [
            ("*", "http://a.example".to_owned()),
            ("*", format!("http://{target}")),
            ("http://*.example", "http://b.example".to_owned()),
        ] {
            let resolver = Arc::new(Scripted { answers: vec![vec![target]], ..Default::default() });
            let limits = OutboundLimits::default();
            let outbound = Outbound::with(limits, OwnListeners::default(), resolver, Roots::System);
            let client = Client::with(outbound, policy(&[declared], &[]));
            let refused = client.read(&uri).await.expect_err("a service of the cloud");
            assert!(matches!(refused, OutboundError::NotPublic { .. }), "{uri} {address}: {refused}");
        }
    }
}

#[tokio::test]
async fn an_app_with_many_connections_leaves_some_for_others() {
    let server = Server::answering(HELLO).await;
    let limits = OutboundLimits { connections_max: 4, ..OutboundLimits::default() };
    let client = Client::limited(&server, limits);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.get(&server.origin()).await.expect("a connection"));
    }
    let refused = client.get(&server.origin()).await.err().expect("its share is used up");
    assert!(matches!(refused, OutboundError::HostConnections { .. }), "{refused}");
    let request = Request::get(server.origin()).body(Empty::<Bytes>::new()).expect("a request");
    let other = client.outbound.send("other", &client.policy, &client.budget, request, client.timeouts).await;
    assert_eq!(other.expect("a place of the reserve").status(), 200);
}

#[tokio::test]
async fn a_name_is_resolved_once_for_each_connection() {
    let server = Server::answering(HELLO).await;
    let tripwire = Server::answering(HELLO).await;
    let answers = vec![vec![server.address], vec![tripwire.address]];
    let resolver = Arc::new(Scripted { answers, ..Default::default() });
    let outbound = Outbound::with(
        OutboundLimits::default(),
        OwnListeners::default(),
        Arc::clone(&resolver) as Arc<dyn Resolver>,
        Roots::System,
    );
    let client = Client::with(outbound, policy(&["http://a.example"], &["http://a.example"]));
    for _ in 0..3 {
        client.read("http://a.example").await.expect("an answer");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    assert_eq!((server.connections(), tripwire.connections()), (1, 0));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    // Bound but not listening: the port is taken, and it refuses connections.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let refusing = socket.local_addr().expect("bound");
    let server = Server::answering(HELLO).await;
    let dial = async |answers| {
        let resolver = Arc::new(Scripted { answers, ..Default::default() });
        let outbound = Outbound::with(OutboundLimits::default(), OwnListeners::default(), resolver, Roots::System);
        let client = Client::with(outbound, policy(&["http://a.example"], &["http://a.example"]));
        client.read("http://a.example").await
    };
    assert_eq!(dial(vec![vec![refusing, server.address]]).await.expect("the second"), "200 hello");
    let refused = dial(vec![vec![refusing]]).await.expect_err("nobody there");
    assert!(matches!(refused, OutboundError::Connect { .. }), "{refused}");
    let unknown = dial(vec![]).await.expect_err("no such name");
    assert!(matches!(unknown, OutboundError::Resolve { .. }), "{unknown}");
}

/// Serves `HELLO` over TLS as `tls.example`, and records name and protocol of each handshake.
async fn tls_server() -> Server {
    let certificate = CertificateDer::from(include_bytes!("testdata/server.der").as_slice());
    let key = PrivatePkcs8KeyDer::from(include_bytes!("testdata/server-key.der").as_slice());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from(key))
        .expect("a good certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream, _, list| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let session = stream.get_ref().1;
            let name = session.server_name().unwrap_or("no name").to_owned();
            let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or(b"none"));
            list.lock().expect("no panic").push(format!("{name} {protocol}"));
            while read_request(&mut stream).await.is_some() {
                stream.write_all(HELLO.as_bytes()).await.expect("open");
            }
        }
    })
    .await
}

#[tokio::test]
async fn tls_keeps_the_name_and_checks_the_certificate() {
    let server = tls_server().await;
    let mut trusted = RootCertStore::empty();
    let authority = CertificateDer::from(include_bytes!("testdata/authority.der").as_slice());
    trusted.add(authority).expect("a good certificate");
    let read = async |name: &str, roots: Roots| {
        let resolver = Arc::new(Scripted { answers: vec![vec![server.address]], ..Default::default() });
        let outbound = Outbound::with(OutboundLimits::default(), OwnListeners::default(), resolver, roots);
        let client = Client::with(outbound, policy(&[name], &[name]));
        client.read(name).await
    };
    let trusted = Roots::Fixed(Arc::new(trusted));
    let answer = read("https://tls.example", trusted.clone()).await;
    assert_eq!(answer.expect("trusted"), "200 hello");
    assert_eq!(server.requests(), ["tls.example http/1.1"]);

    let other_name = read("https://other.example", trusted).await.expect_err("another name");
    assert!(matches!(other_name, OutboundError::Tls { .. }), "{other_name}");
    let no_roots = read("https://tls.example", Roots::Fixed(Arc::new(RootCertStore::empty()))).await;
    let no_roots = no_roots.expect_err("nothing trusted");
    assert!(matches!(no_roots, OutboundError::NoRoots { .. }), "{no_roots}");
}
