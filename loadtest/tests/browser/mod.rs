//! Headless Chromium, driven by the DevTools protocol over a pipe: JSON messages, each ended by a NUL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(60);
/// It reads from descriptor 3 and writes to descriptor 4. The sandbox does not work as root, and the page is our own.
const COMMAND: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe \
                       --user-data-dir=\"$0\" about:blank 3<&0 4>&1 >/dev/null 2>&1";

/// A browser with one page, killed with the test.
pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Value,
    last_id: u64,
    events: Vec<Value>,
    /// Its profile, deleted with the test.
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(COMMAND).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), messages(process.stdout.take().unwrap()));
        let session = Value::Null;
        let mut browser = Self { process, to, from, session, last_id: 0, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Loads a page as on a screen of this width.
    pub(crate) fn show(&mut self, url: &str, width_px: u32, scheme: &str) {
        let size = json!({ "width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
        let loaded = self.count("Page.loadEventFired") + 1;
        self.call("Page.navigate", json!({ "url": url }));
        while self.count("Page.loadEventFired") < loaded {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// Evaluates an expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].clone()
    }

    /// The page as PDF.
    #[allow(dead_code, reason = "not every test prints")]
    pub(crate) fn print(&mut self) -> Vec<u8> {
        let printed = self.call("Page.printToPDF", json!({}));
        BASE64_STANDARD.decode(printed["data"].as_str().unwrap()).unwrap()
    }

    /// Every requested URL except data URLs.
    pub(crate) fn requests(&self) -> Vec<&str> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = requests.map(|event| event["params"]["request"]["url"].as_str().unwrap());
        urls.filter(|url| !url.starts_with("data:")).collect()
    }

    /// Console messages: errors, warnings, blocked requests.
    pub(crate) fn console_messages(&self) -> Vec<Value> {
        let kinds = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
        self.events.iter().filter(|event| kinds.iter().any(|kind| event["method"] == *kind)).cloned().collect()
    }

    fn count(&self, method: &str) -> usize {
        self.events.iter().filter(|event| event["method"] == method).count()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.receive();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn receive(&self) -> Value {
        self.from.recv_timeout(TIMEOUT).expect("chromium is not installed, or does not answer")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn messages(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&message) else { break };
            if sender.send(message).is_err() {
                break;
            }
        }
    });
    receiver
}
