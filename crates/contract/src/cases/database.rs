//! A real database behind the wait, and what may happen to it.
#![expect(missing_docs, reason = "the names say it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::metrics::assert_promtool_agrees;
use crate::client::Response;
use crate::postgres::Postgres;
use crate::server::{rss_bytes, run, wait_until};
use crate::{Client, Server, Target};

/// A server that asks the database at once, unless the client wants a wait.
fn start(target: &Target, url: &str, flags: &[&str]) -> Server {
    Server::start(target, &[&["--db", url, "--db-wait", "0ms"], target.database_flags, flags].concat())
}

fn send_get(server: &Server, path: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    client
}

fn errors(server: &Server, kind: &str) -> u64 {
    server.metric(&format!("c10k_db_errors_total{{kind=\"{kind}\"}}"))
}

/// The row is that of this person.
fn assert_is_person(response: &Response, id: usize) {
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.text().starts_with(&format!("{{\"id\":{id},\"name\":")), "asked for {id}: {response:?}");
}

/// It says what is the matter, and when to come again.
fn assert_unavailable(response: &Response, why: &str) {
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.field("retry-after").is_some() && response.text().contains(why), "{why}: {response:?}");
}

/// Waits until the database is asked with success again.
fn wait_until_well(server: &Server) {
    let mut last = String::new();
    let deadline = Instant::now() + 3 * crate::server::TIMEOUT;
    while Instant::now() < deadline {
        let response = server.connect().get("/?id=5");
        match response.status {
            200 => return assert_is_person(&response, 5),
            _ => last = format!("{response:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("it does not recover: {last}");
}

/// Ends the loops of other threads when it is dropped, also by a failed assertion.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub fn the_bytes_are_those_of_the_simulated_one(target: &Target) {
    let postgres = Postgres::start(&[]);
    assert_bytes_are_those_of_the_simulated_one(target, &start(target, &postgres.url, &[]));
}

fn assert_bytes_are_those_of_the_simulated_one(target: &Target, real: &Server) {
    let simulated = Server::start(target, &[]);
    let undated = |mut response: Response| {
        response.fields.retain(|(name, _)| name != "Date");
        (response.status, response.fields, response.body)
    };
    let (mut one, mut other) = (real.connect(), simulated.connect());
    for (method, path) in [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/?wait=20ms"),
        ("GET", "/?wait=0ms&id=1"),
        ("HEAD", "/delay/3"),
        ("GET", "/delay/3"),
        ("GET", "/?wait=soon"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/"),
    ] {
        assert_eq!(undated(one.request(method, path)), undated(other.request(method, path)), "{method} {path}");
    }
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for body in [&b""[..], b"hello", b"\0'\\\"", &all_bytes] {
        for wait in ["", "?wait=1ms"] {
            let head = format!("POST /{wait} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            let post = [head.as_bytes(), body].concat();
            one.send(&post);
            other.send(&post);
            let answer = one.read_response();
            assert_eq!(answer.body, body);
            assert_eq!(undated(answer), undated(other.read_response()));
        }
    }
    assert_eq!(one.get("/?id=7").text(), "{\"id\":7,\"name\":\"Person 7\",\"born\":1822}\n");
    for id in ["0", "-1", "123456789", "1234567890123", "x", ""] {
        assert_eq!(one.get(&format!("/?id={id}")).status, 404, "{id}");
    }
    real.wait_for_metric("c10k_db_connections_in_use", 0);
    assert!(real.metric("c10k_db_answer_wait_seconds_count") >= 20);
    assert!(real.number("c10k_db_answer_wait_seconds_sum") >= 0.02, "there were waits");
    assert!(real.metric("c10k_db_connection_wait_seconds_count") >= 20);
    let names = |server: &Server| Client::connect(server.admin).get("/metrics").text().contains("c10k_db_");
    assert!(names(real) && !names(&simulated), "what is not there is not told of");
    assert_promtool_agrees(real);
}

/// Many at once over few connections, and some of them leave.
fn ask_for_many(server: &Server) {
    thread::scope(|scope| {
        for asker in 0..16 {
            scope.spawn(move || {
                let mut client = server.connect();
                for number in 0..40 {
                    let id = 1 + asker * 100 + number;
                    assert_is_person(&client.get(&format!("/?id={id}&wait={}ms", number % 3)), id);
                    let body = format!("{id} of {asker}");
                    client.send(
                        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                            .as_bytes(),
                    );
                    assert_eq!(client.read_response().text(), body);
                    if number % 10 == 0 {
                        send_get(server, "/?id=9999&wait=5ms").reset();
                    }
                }
            });
        }
    });
}

pub fn answers_are_the_askers_own(target: &Target) {
    let postgres = Postgres::start(&[]);
    ask_for_many(&start(target, &postgres.url, &["--db-pool", "4"]));
}

/// Each query may meet another backend, which has prepared nothing.
pub fn behind_pgbouncer(target: &Target) {
    let postgres = Postgres::start(&["--pgbouncer", "3"]);
    ask_for_many(&start(target, &postgres.bouncer_url(), &[]));
}

pub fn a_pool_of_one_serves_one_after_the_other(target: &Target) {
    let postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &["--db-pool", "1", "--db-queue", "2", "--db-pool-timeout", "60s"]);
    let start = Instant::now();
    let mut first = send_get(&server, "/?id=1&wait=1s");
    server.wait_for_metric("c10k_db_connections_in_use", 1);
    let mut queued = [2, 3].map(|id| send_get(&server, &format!("/?id={id}&wait=300ms")));
    server.wait_for_metric("c10k_db_requests_waiting", 2);
    let mut client = server.connect();
    assert_unavailable(&client.get("/"), "too many requests wait");
    assert_eq!(client.request("HEAD", "/").status, 503, "its connection stays open");
    assert_eq!(client.get("/health").status, 200);
    assert_eq!((errors(&server, "queue_full"), server.metric("c10k_db_connections_in_use")), (2, 1));
    assert_is_person(&first.read_response(), 1);
    for (client, id) in queued.iter_mut().zip(2..) {
        assert_is_person(&client.read_response(), id);
    }
    assert!(start.elapsed() >= Duration::from_millis(1_600), "they had the only connection at once");
    assert!(server.number("c10k_db_connection_wait_seconds_sum") >= 0.3, "the last waited for the second");
}

pub fn who_waits_too_long_for_a_connection_is_told_so(target: &Target) {
    let postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &["--db-pool", "1", "--db-pool-timeout", "100ms"]);
    let mut first = send_get(&server, "/?wait=3s");
    server.wait_for_metric("c10k_db_connections_in_use", 1);
    assert_unavailable(&server.connect().get("/"), "became free");
    assert_eq!(errors(&server, "pool_timeout"), 1);
    assert_is_person(&first.read_response(), 1);
    assert_is_person(&server.connect().get("/?id=2"), 2);
}

/// While it is gone, a storm of requests is no storm of connections, and costs no memory.
pub fn killed_and_started_again(target: &Target) {
    let mut postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &[]);
    let mut in_flight = [1, 2, 3].map(|id| send_get(&server, &format!("/?id={id}&wait=60s")));
    server.wait_for_metric("c10k_db_connections_in_use", 3);
    postgres.order("kill");
    for client in &mut in_flight {
        assert_unavailable(&client.read_response(), "ended the connection");
    }
    assert_eq!(errors(&server, "restarted"), 3);
    let storm = || {
        for client in &mut in_flight {
            (0..700).for_each(|_| assert_unavailable(&client.get("/"), "cannot be reached"));
        }
    };
    let mut storm = storm;
    storm();
    let (before_bytes, connects) = (rss_bytes(&server), server.metric("c10k_db_connects_total"));
    let start = Instant::now();
    storm();
    let attempts = server.metric("c10k_db_connects_total") - connects;
    let allowed = 100 + start.elapsed().as_secs() * 2;
    assert!(attempts <= allowed, "{attempts} attempts to connect for 2,100 requests");
    let grown_bytes = rss_bytes(&server).saturating_sub(before_bytes);
    assert!(grown_bytes < 2_100 * 1024, "2,100 requests without a database left {grown_bytes} bytes");
    postgres.order("start");
    wait_until_well(&server);
}

/// Whoever asks meanwhile gets his own answer or a 503, and nothing hangs.
pub fn restarted_under_load(target: &Target) {
    let mut postgres = Postgres::start(&[]);
    let server = &start(target, &postgres.url, &["--db-pool", "4"]);
    let (is_over, answers) = (&AtomicBool::new(false), &AtomicU64::new(0));
    thread::scope(|scope| {
        let enough = Enough(is_over);
        for asker in 0..8 {
            scope.spawn(move || {
                let _enough = Enough(is_over);
                let mut client = server.connect();
                for id in (1 + asker * 1_000..=10_000).cycle() {
                    match client.get(&format!("/?id={id}&wait=1ms")) {
                        response if response.status == 200 => {
                            assert_is_person(&response, id);
                            answers.fetch_add(1, Relaxed);
                        }
                        response => assert_unavailable(&response, "database"),
                    }
                    if is_over.load(Relaxed) {
                        return;
                    }
                }
            });
        }
        for _ in 0..3 {
            let before = answers.load(Relaxed);
            let goes_on = || answers.load(Relaxed) > before + 20 || is_over.load(Relaxed);
            wait_until(goes_on, || "it does not recover".into());
            postgres.order("restart");
        }
        drop(enough);
    });
    wait_until_well(server);
    assert!(errors(server, "restarted") > 0, "nobody has noticed");
}

/// Its connections are open, and nobody is at the other end.
pub fn frozen_and_thawed(target: &Target) {
    let mut postgres = Postgres::start(&[]);
    let flags = ["--db-pool", "2", "--db-timeout", "3s", "--db-pool-timeout", "300ms"];
    let server = start(target, &postgres.url, &flags);
    assert_is_person(&server.connect().get("/?id=2"), 2);
    postgres.order("freeze");
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..10).map(|_| send_get(&server, "/?id=3")).collect();
        assert_eq!(server.connect().get("/health").status, 200);
        clients.iter_mut().for_each(|client| assert_unavailable(&client.read_response(), "in time"));
    }
    assert!(errors(&server, "timeout") >= 2, "who has a connection waits for the answer");
    postgres.order("thaw");
    wait_until_well(&server);
    // The answers to what was asked before come now, to nobody.
    for id in 10..40 {
        let response = server.connect().get(&format!("/?id={id}"));
        if response.status == 200 {
            assert_is_person(&response, id);
        }
    }
}

/// Unlike a frozen database, one behind a cut cable takes no connections either, and nothing says that the old ones are gone.
pub fn the_cable_is_cut_and_mended(target: &Target) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: this needs root, for a network of its own");
        return;
    }
    let mut postgres = Postgres::start(&["--cable"]);
    let flags = ["--db-pool", "2", "--db-timeout", "1s", "--db-pool-timeout", "300ms"];
    let server = start(target, &postgres.url, &flags);
    assert_is_person(&server.connect().get("/?id=2"), 2);
    let mut asked = send_get(&server, "/?id=4&wait=500ms");
    thread::sleep(Duration::from_millis(100));
    postgres.order("cut");
    assert_unavailable(&asked.read_response(), "in time");
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..10).map(|_| send_get(&server, "/?id=3")).collect();
        assert_eq!(server.connect().get("/health").status, 200);
        clients.iter_mut().for_each(|client| assert_eq!(client.read_response().status, 503));
    }
    postgres.order("mend");
    wait_until_well(&server);
    for id in 10..40 {
        assert_is_person(&server.connect().get(&format!("/?id={id}")), id);
    }
}

pub fn the_database_has_no_room(target: &Target) {
    let postgres = Postgres::start(&["--max-connections", "5"]);
    let server = start(target, &postgres.url, &["--db-pool", "20"]);
    let mut clients: Vec<Client> = (1..=20).map(|id| send_get(&server, &format!("/?id={id}&wait=2s"))).collect();
    let answers: Vec<Response> = clients.iter_mut().map(Client::read_response).collect();
    let found = answers.iter().zip(1..).filter(|(response, id)| match response.status {
        200 => {
            assert_is_person(response, *id);
            true
        }
        _ => {
            assert_unavailable(response, "no room");
            false
        }
    });
    let found = found.count();
    assert!((1..=5).contains(&found), "{found} of 20 had one of five connections");
    assert_eq!(errors(&server, "too_many_clients"), 20 - found as u64);
    drop(clients);
    wait_until_well(&server);
}

/// Of a server that has four queries on the way at once on each connection: five of them have room for all.
pub fn no_query_fails_with_a_connection_that_could_not_be_had(target: &Target) {
    let postgres = Postgres::start(&["--max-connections", "5"]);
    let server = start(target, &postgres.url, &["--db-pool", "20"]);
    for round in 0..20 {
        let mut clients: Vec<Client> = (1..=12).map(|id| send_get(&server, &format!("/?id={id}&wait=20ms"))).collect();
        for (client, id) in clients.iter_mut().zip(1..) {
            let response = client.read_response();
            assert_eq!(response.status, 200, "round {round}: {response:?}");
            assert_is_person(&response, id);
        }
    }
    assert_eq!(errors(&server, "too_many_clients"), 0);
}

pub fn a_query_takes_too_long(target: &Target) {
    let postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &["--db-timeout", "3s", "--db-pool", "1"]);
    let mut client = server.connect();
    assert_unavailable(&client.get("/?id=3&wait=60s"), "did not answer in time");
    assert_eq!(errors(&server, "timeout"), 1);
    // Over another connection: the answer to that one may still come.
    assert_is_person(&client.get("/?id=4"), 4);
    assert_eq!(server.metric("c10k_db_answer_wait_seconds_count"), 1);
}

/// The next waits until it is given back, and the end of the server waits, too.
pub fn a_connection_is_held_after_the_answer(target: &Target) {
    let postgres = Postgres::start(&[]);
    let flags = ["--db-pool", "1", "--db-hold", "1s", "--drain-timeout", "60s"];
    let mut server = start(target, &postgres.url, &flags);
    let start = Instant::now();
    let mut first = send_get(&server, "/?id=1");
    server.wait_for_metric("c10k_db_answer_wait_seconds_count", 1);
    server.wait_for_metric("c10k_db_connections_in_use", 1);
    let mut second = send_get(&server, "/?id=2");
    server.wait_for_metric("c10k_db_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    assert_is_person(&first.read_response(), 1);
    assert!(start.elapsed() >= Duration::from_secs(1), "the connection was given back at once");
    assert_is_person(&second.read_response(), 2);
    assert!(start.elapsed() >= Duration::from_secs(2), "they had the only connection at once");
    assert_eq!(server.wait().code(), Some(0));
}

pub fn what_is_in_flight_is_answered_at_the_end(target: &Target) {
    let postgres = Postgres::start(&[]);
    let mut server = start(target, &postgres.url, &["--db-pool", "1", "--drain-timeout", "60s"]);
    let mut clients = [1, 2].map(|id| send_get(&server, &format!("/?id={id}&wait=1s")));
    server.wait_for_metric("c10k_db_connections_in_use", 1);
    server.wait_for_metric("c10k_db_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    for (client, id) in clients.iter_mut().zip(1..) {
        assert_is_person(&client.read_response(), id);
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// The second is sent while the first is on its way, up to the four that the connection may carry.
pub fn queries_share_a_connection(target: &Target) {
    let postgres = Postgres::start(&[]);
    let flags = ["--db-pool", "1", "--db-queue", "1", "--db-pool-timeout", "60s"];
    let server = start(target, &postgres.url, &flags);
    let mut slow = send_get(&server, "/?id=1&wait=1s");
    server.wait_for_metric("c10k_db_connection_wait_seconds_count", 1);
    let mut others = [2, 3, 4].map(|id| send_get(&server, &format!("/?id={id}")));
    server.wait_for_metric("c10k_db_connection_wait_seconds_count", 4);
    assert_eq!(server.metric("c10k_db_connections_in_use"), 1);
    let mut queued = send_get(&server, "/?id=5");
    server.wait_for_metric("c10k_db_requests_waiting", 1);
    assert_unavailable(&server.connect().get("/"), "too many requests wait");
    assert_is_person(&slow.read_response(), 1);
    for (client, id) in others.iter_mut().chain([&mut queued]).zip(2..) {
        assert_is_person(&client.read_response(), id);
    }
    assert_eq!(server.metric("c10k_db_connects_total"), 1, "there was one connection");
    server.wait_for_metric("c10k_db_connections_in_use", 0);
    assert!(server.number("c10k_db_answer_wait_seconds_sum") >= 2.0, "the others waited for the first's answer");
}

/// The answer still comes, to nobody, and takes its place until then.
pub fn who_leaves_takes_no_answer_along(target: &Target) {
    let postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &["--db-pool", "1"]);
    let leaver = send_get(&server, "/?id=1&wait=500ms");
    server.wait_for_metric("c10k_db_connections_in_use", 1);
    let mut stays = [2, 3].map(|id| send_get(&server, &format!("/?id={id}")));
    server.wait_for_metric("c10k_db_connection_wait_seconds_count", 3);
    leaver.reset();
    for (client, id) in stays.iter_mut().zip(2..) {
        assert_is_person(&client.read_response(), id);
    }
    assert_eq!(server.metric("c10k_db_connects_total"), 1, "the connection is as good as before");
}

/// Whose connection ends is told so, whoever was the cause, and the next one has another.
pub fn a_failure_is_everybodys(target: &Target) {
    let postgres = Postgres::start(&[]);
    let server = start(target, &postgres.url, &["--db-pool", "1"]);
    let mut clients = [1, 2, 3].map(|id| send_get(&server, &format!("/?id={id}&wait=30s")));
    server.wait_for_metric("c10k_db_connection_wait_seconds_count", 3);
    postgres.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'c10k'");
    clients.iter_mut().for_each(|client| assert_unavailable(&client.read_response(), "ended the connection"));
    assert_eq!(errors(&server, "restarted"), 3);
    assert_is_person(&clients[0].get("/?id=4"), 4);
    server.wait_for_metric("c10k_db_connections_in_use", 0);
}

pub fn what_is_on_its_way_is_answered_at_the_end(target: &Target) {
    let postgres = Postgres::start(&[]);
    let mut server = start(target, &postgres.url, &["--db-pool", "1", "--drain-timeout", "60s"]);
    let mut clients = [1, 2, 3, 4, 5].map(|id| send_get(&server, &format!("/?id={id}&wait=500ms")));
    server.wait_for_metric("c10k_db_connection_wait_seconds_count", 4);
    server.wait_for_metric("c10k_db_requests_waiting", 1);
    server.signal(Signal::SIGTERM);
    for (client, id) in clients.iter_mut().zip(1..) {
        assert_is_person(&client.read_response(), id);
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// It says so at the start, and no password.
pub fn what_is_wrong_shows_at_the_start(target: &Target) {
    let postgres = Postgres::start(&[]);
    let url = &postgres.url;
    let (scheme, rest) = url.split_once("c10k:").expect("it names a user");
    let (password, rest) = rest.split_once('@').expect("it names a host");
    let in_database =
        |name: &str| url.strip_suffix("c10k").map(|url| format!("{url}{name}")).expect("it names a database");
    let port = rest.split_once(':').and_then(|(_, rest)| rest.split_once('/')).expect("it names a port").0;
    for (url, code, says) in [
        (format!("{scheme}c10k:secret7@{rest}"), 1, "password authentication failed"),
        (format!("{scheme}secret7:{password}@{rest}"), 1, "correct user, password and name"),
        (in_database("nowhere"), 1, "does not exist"),
        (in_database("template1"), 1, "scripts/people.sql"),
        (url.replace(port, "1"), 1, "start PostgreSQL"),
        (format!("{scheme}c10k:{password}@/c10k?host=/nowhere"), 1, "start PostgreSQL"),
        (url.replace("postgres", "mysql"), 2, "write postgres://"),
    ] {
        let stderr = assert_refused(target, &url, code, says);
        assert!(!stderr.contains(password) && !stderr.contains(":secret7"), "{stderr}");
    }
}

/// The server does not start with this database. Returns what it says.
fn assert_refused(target: &Target, url: &str, code: i32, says: &str) -> String {
    let exit = run(target, &["--listen", "127.0.0.1:0", "--db", url]);
    assert_eq!(exit.code(), Some(code), "{says}: {exit:?}");
    assert!(exit.stderr.contains(says) && exit.stdout.is_empty(), "{says}: {exit:?}");
    exit.stderr
}

/// Whether the connections of a server are encrypted, as the database sees it: true or false of all.
fn is_encrypted(postgres: &Postgres) -> String {
    postgres
        .query("select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'c10k'")
}

pub fn the_connection_is_encrypted(target: &Target) {
    let mut postgres = Postgres::start(&["--tls"]);
    let url = &postgres.url.clone();
    let plain = url.split_once('?').expect("it has parameters").0;
    {
        let server = start(target, plain, &[]);
        assert_is_person(&server.connect().get("/?id=2"), 2);
        assert_eq!(is_encrypted(&postgres), "f", "nobody has asked for it");
    }
    let server = start(target, url, &[]);
    assert_bytes_are_those_of_the_simulated_one(target, &server);
    assert_eq!(is_encrypted(&postgres), "t");
    drop(server);
    ask_for_many(&start(target, url, &["--db-pool", "4"]));
    assert_wrong_certificates_are_refused(target, url);
    let server = start(target, &format!("{plain}?sslmode=require"), &[]);
    assert_is_person(&server.connect().get("/?id=2"), 2);
    assert_eq!(is_encrypted(&postgres), "t");
    // What is wrong only later is a 503, and not an end.
    postgres.query("alter system set ssl = off");
    postgres.order("restart");
    let is_noticed = || {
        let response = server.connect().get("/?id=2");
        assert_eq!(response.status, 503, "{response:?}");
        response.text().contains("no encrypted connection")
    };
    wait_until(is_noticed, || "it does not miss the encryption".into());
    assert!(errors(&server, "tls") > 0);
    assert_refused(target, url, 1, "ssl = on");
    postgres.query("alter system reset ssl");
    postgres.order("restart");
    wait_until_well(&server);
    assert_eq!(is_encrypted(&postgres), "t");
}

fn assert_wrong_certificates_are_refused(target: &Target, url: &str) {
    let password = url.split(['@', ':']).nth(2).expect("it has a password");
    for (url, code, says) in [
        (url.replace("/root.crt", "/other-root.crt"), 1, "signed by nobody in sslrootcert"),
        (url.replace("127.0.0.1", "localhost"), 1, "not for the host in --db"),
        (
            url.replace("sslmode=verify-full", "sslmode=require").replace("/root.", "/other-root."),
            1,
            "signed by nobody",
        ),
        (url.replace("/root.crt", "/none.crt"), 2, "/none.crt cannot be used"),
        (url.split_once('&').expect("it has parameters").0.to_owned(), 2, "need sslrootcert"),
    ] {
        let stderr = assert_refused(target, &url, code, says);
        assert!(!stderr.contains(password), "{stderr}");
    }
    let by_name = url.replace("127.0.0.1", "localhost").replace("verify-full", "verify-ca");
    assert_is_person(&start(target, &by_name, &[]).connect().get("/?id=3"), 3);
}

pub fn a_build_without_tls_refuses_it(target: &Target) {
    for parameters in ["sslmode=require", "sslmode=verify-full&sslrootcert=system"] {
        let url = format!("postgres://c10k:secret7@127.0.0.1:1/c10k?{parameters}");
        let stderr = assert_refused(target, &url, 2, "build with `--features tls`");
        assert!(!stderr.contains("secret7"), "{stderr}");
    }
}
