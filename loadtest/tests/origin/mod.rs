//! A small origin server whose answers the tests choose by path.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Serves each connection on its own thread while the test runs.
pub(crate) struct Origin {
    address: SocketAddr,
    /// The heads and bodies of all requests.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far, each as it was sent.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers until the client closes, or the answer closes.
fn serve(stream: TcpStream, requests: &Mutex<Vec<String>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let request = read_request(&mut reader)?;
        let path = request.split(' ').nth(1)?.to_owned();
        requests.lock().unwrap().push(request);
        writer.write_all(answer(&path)?.as_bytes()).ok()?;
        if path == "/close" {
            return None;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut request = String::new();
    let mut content_length = 0;
    loop {
        let start = request.len();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let line = request[start..].to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            content_length = length.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; content_length];
    reader.read_exact(&mut body).ok()?;
    Some(request + &String::from_utf8_lossy(&body))
}

/// The answer for a path; `None` closes the connection without one.
fn answer(path: &str) -> Option<String> {
    let with_body = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n{fields}\r\nhello");
    Some(match path {
        "/missing" => with_body("404 Not Found", ""),
        "/close" => with_body("200 OK", "Connection: close\r\n"),
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(),
        "/cut" => return None,
        "/authenticate" => with_body("200 OK", "X-Token: secret\r\n"),
        "/slow" => {
            thread::sleep(Duration::from_millis(1500));
            with_body("200 OK", "")
        }
        _ => {
            thread::sleep(Duration::from_millis(20));
            with_body("200 OK", "")
        }
    })
}
