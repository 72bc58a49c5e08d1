//! wrk's Lua scripts: one Lua state per thread, and one more that sets them up and reports at the end.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use mlua::{
    Function, HookTriggers, Lua, LuaString, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value,
    VmState,
};

use super::stats::Stats;
use common::http::reply::Content;
use load::RequestSource;
use load::net::Url;
use results::run::Errors;

const PRELUDE: &str = include_str!("prelude.lua");
/// How long a function may run while the load runs: the connections of its thread stand still meanwhile.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the script may take before the load and after it, such as in `init` and `done`.
const PREPARATION_TIMEOUT: Duration = Duration::from_secs(20);
/// How often to look at the clock meanwhile.
const INSTRUCTIONS_PER_CHECK: u32 = 1_000_000;
/// How long an address may take to answer `wrk.connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A script's file.
#[derive(Clone, Debug)]
pub(crate) struct ScriptFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it may use `ffi` and `debug`, which can crash this process.
    pub(crate) is_trusted: bool,
}

/// A Lua state with every library, as in wrk.
#[expect(unsafe_code, reason = "mlua marks the libraries that can corrupt memory")]
fn trusted_lua() -> Lua {
    // SAFETY: the user asked for it, and answers for what the script does with `ffi` and `debug`.
    unsafe { Lua::unsafe_new() }
}

/// A script in a Lua state of its own.
#[derive(Debug)]
pub(crate) struct Script {
    lua: Lua,
    thread: Arc<Thread>,
    /// The functions that the script defines, set by [`start`](Self::start).
    request: Option<Function>,
    delay: Option<Function>,
    response: Option<Function>,
    /// The request to send if there is no `request` function.
    fixed_request: Vec<u8>,
    /// How many requests each call of `request` returns; more than one are pipelined.
    pub(crate) requests_at_once: u64,
}

/// The part of a thread that its script controls.
#[derive(Debug)]
pub(crate) struct Thread {
    address: Mutex<SocketAddr>,
    is_stopped: AtomicBool,
    error: OnceLock<String>,
    /// The function that runs now, and since when.
    call: Mutex<Option<(&'static str, Instant)>>,
}

impl Thread {
    /// A thread that connects to `address`.
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address: Mutex::new(address),
            is_stopped: AtomicBool::new(false),
            error: OnceLock::new(),
            call: Mutex::new(None),
        })
    }

    /// The address that it connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that the script failed with, or that one of its functions does not return.
    pub(crate) fn error(&self) -> Option<String> {
        let endless = || {
            let call = *self.call.lock().unwrap_or_else(PoisonError::into_inner);
            let (name, _) = call.filter(|(_, since)| since.elapsed() > CALL_TIMEOUT)?;
            Some(endless(name, CALL_TIMEOUT))
        };
        self.error.get().cloned().or_else(endless)
    }

    /// Runs one of the script's functions while the load runs. LuaJIT cannot be interrupted then, but watched.
    fn watched<T>(&self, name: &'static str, call: impl FnOnce() -> mlua::Result<T>) -> mlua::Result<T> {
        let note = |call| *self.call.lock().unwrap_or_else(PoisonError::into_inner) = call;
        note(Some((name, Instant::now())));
        let outcome = call();
        note(None);
        outcome
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Relaxed)
    }

    fn fail(&self, error: &mlua::Error) {
        // Keep the first error, which is the cause.
        let _ = self.error.set(in_one_line(error));
        self.is_stopped.store(true, Relaxed);
    }
}

impl Script {
    /// Runs the script's file in a new state.
    ///
    /// # Errors
    /// The file cannot be read, or its top-level code fails.
    pub(crate) fn load(file: &ScriptFile, url: &Url, fields: &[String], thread: &Arc<Thread>) -> Result<Self> {
        let ScriptFile { path: file, is_trusted } = file;
        let source = std::fs::read(file).map_err(|error| anyhow!("--script {}: {error}", file.display()))?;
        let lua = if *is_trusted { trusted_lua() } else { Lua::new() };
        let script = Self {
            lua,
            thread: thread.clone(),
            request: None,
            delay: None,
            response: None,
            fixed_request: Vec::new(),
            requests_at_once: 1,
        };
        script.in_order(|| {
            define_wrk(&script.lua, url, fields)?;
            script.lua.load(source).set_name(format!("@{}", file.display())).exec()
        })?;
        Ok(script)
    }

    /// Calls the script's `setup` for the thread of `script`, in this state.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn set_up(&self, script: &Script) -> Result<()> {
        let handle = || Handle { lua: script.lua.clone(), thread: script.thread.clone() };
        self.in_order(|| {
            wrk(&script.lua)?.set("thread", handle())?;
            wrk(&self.lua)?.get::<Function>("setup")?.call(handle())
        })
    }

    /// Calls the script's `init`, and looks up its other functions.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn start(&mut self, url: &Url, arguments: &[String]) -> Result<()> {
        let globals = self.lua.globals();
        self.in_order(|| {
            let table = self.lua.create_table()?;
            // As in wrk, the URL has index 0.
            for (index, argument) in [url.as_str()].into_iter().chain(arguments.iter().map(String::as_str)).enumerate()
            {
                table.set(index, argument)?;
            }
            wrk(&self.lua)?.get::<Function>("init")?.call::<()>(table)
        })?;
        [self.request, self.delay, self.response] =
            ["request", "delay", "response"].map(|name| globals.get::<Function>(name).ok());
        if self.request.is_none() {
            self.fixed_request = self.call_request(&wrk(&self.lua)?.get::<Function>("request")?)?;
        }
        Ok(())
    }

    /// Counts the requests in the result of an extra call of `request`, as wrk does.
    ///
    /// # Errors
    /// The result is not a sequence of whole requests.
    pub(crate) fn count_requests_at_once(&self) -> Result<u64> {
        let request = match &self.request {
            Some(request) => self.call_request(request)?,
            None => self.fixed_request.clone(),
        };
        load::count_requests(&request).map_err(|error| anyhow!("the script: {error}"))
    }

    /// Calls the script's `done`, if it has one.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn finish(&self, summary: &ScriptSummary, latency: &Stats, requests: &Stats) -> Result<()> {
        self.in_order(|| {
            let Ok(done) = self.lua.globals().get::<Function>("done") else { return Ok(()) };
            let Errors { connect, read, write, timeout, status } = summary.errors;
            let errors = self.lua.create_table()?;
            for (kind, count) in
                [("connect", connect), ("read", read), ("write", write), ("timeout", timeout), ("status", status)]
            {
                errors.set(kind, count)?;
            }
            let table = self.lua.create_table()?;
            table.set("duration", summary.runtime.as_micros() as u64)?;
            table.set("requests", summary.complete)?;
            table.set("bytes", summary.bytes)?;
            table.set("errors", errors)?;
            done.call((table, latency.clone(), requests.clone()))
        })
    }

    /// Flushes the script's output.
    pub(crate) fn flush(&self) -> Result<()> {
        self.in_order(|| Ok(()))
    }

    fn call_request(&self, request: &Function) -> Result<Vec<u8>> {
        self.in_order(|| request.call::<LuaString>(())).map(|request| request.as_bytes().to_vec())
    }

    /// Runs Lua code before the load or after it. Its output has its own buffer, so both are flushed to keep the order.
    fn in_order<T>(&self, run: impl FnOnce() -> mlua::Result<T>) -> Result<T> {
        io::stdout().flush()?;
        let outcome = self.bounded(run);
        let _ = self.lua.load("io.stdout:flush()").exec();
        outcome.map_err(|error| anyhow!(in_one_line(&error)))
    }
}

impl Script {
    /// Ends an endless loop with an error. Only the interpreter can be interrupted, so nothing is compiled meanwhile.
    fn bounded<T>(&self, run: impl FnOnce() -> mlua::Result<T>) -> mlua::Result<T> {
        let deadline = Instant::now() + PREPARATION_TIMEOUT;
        let is_compiling = self.lua.load("local on = jit.status(); jit.off(); return on").eval::<bool>()?;
        let triggers = HookTriggers::new().every_nth_instruction(INSTRUCTIONS_PER_CHECK);
        self.lua.set_hook(triggers, move |_, _| match Instant::now() < deadline {
            true => Ok(VmState::Continue),
            false => Err(mlua::Error::runtime(endless("the script", PREPARATION_TIMEOUT))),
        })?;
        let outcome = run();
        self.lua.remove_hook();
        if is_compiling {
            self.lua.load("jit.on()").exec()?;
        }
        outcome
    }
}

fn endless(name: &str, limit: Duration) -> String {
    format!("{name} did not return within {} s; perhaps it loops endlessly", limit.as_secs())
}

impl RequestSource for Script {
    fn wants_content(&self) -> bool {
        self.response.is_some()
    }

    fn delay(&self) -> Duration {
        let Some(delay) = &self.delay else { return Duration::ZERO };
        match self.thread.watched("the script's delay()", || delay.call::<f64>(())) {
            Ok(delay_ms) => Duration::from_millis(delay_ms.max(0.0) as u64),
            Err(error) => {
                self.thread.fail(&error);
                Duration::ZERO
            }
        }
    }

    fn next_request(&self) -> Option<Vec<u8>> {
        if self.thread.is_stopped() {
            return None;
        }
        let Some(request) = &self.request else { return Some(self.fixed_request.clone()) };
        match self.thread.watched("the script's request()", || request.call::<LuaString>(())) {
            Ok(request) => Some(request.as_bytes().to_vec()),
            Err(error) => {
                self.thread.fail(&error);
                None
            }
        }
    }

    fn respond(&self, status: u16, content: &Content) {
        let Some(response) = &self.response else { return };
        if self.thread.is_stopped() {
            return;
        }
        let outcome = self.thread.watched("the script's response()", || {
            let fields = self.lua.create_table()?;
            for (name, value) in &content.fields {
                fields.set(name.as_str(), self.lua.create_string(value)?)?;
            }
            response.call::<()>((status, fields, self.lua.create_string(&content.body)?))
        });
        if let Err(error) = outcome {
            self.thread.fail(&error);
        }
    }

    fn requests_at_once(&self) -> u64 {
        self.requests_at_once
    }

    fn failure(&self) -> Option<String> {
        self.thread.error()
    }
}

/// The summary passed to `done`, besides the statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScriptSummary {
    /// How long the run took.
    pub(crate) runtime: Duration,
    /// Answers, whatever their status.
    pub(crate) complete: u64,
    /// Bytes received.
    pub(crate) bytes: u64,
    /// What failed.
    pub(crate) errors: Errors,
}

/// `file:line: message`, without the stack.
fn in_one_line(error: &mlua::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("runtime error: ").trim_start_matches("syntax error: ").to_owned()
}

fn wrk(lua: &Lua) -> mlua::Result<Table> {
    lua.globals().get("wrk")
}

/// Defines the global `wrk`.
fn define_wrk(lua: &Lua, url: &Url, fields: &[String]) -> mlua::Result<()> {
    let wrk = lua.create_table()?;
    wrk.set("scheme", url.scheme())?;
    wrk.set("host", url.host())?;
    wrk.set("port", url.given_port().map(|port| port.to_string()))?;
    wrk.set("path", url.path())?;
    let headers = lua.create_table()?;
    for (name, value) in fields.iter().filter_map(|field| field.split_once(':')) {
        headers.set(name, value.trim_start())?;
    }
    wrk.set("headers", headers)?;
    wrk.set("lookup", lua.create_function(|_, (host, service): (String, String)| lookup(&host, &service))?)?;
    wrk.set("connect", lua.create_function(|_, address: mlua::UserDataRef<Address>| Ok(address.answers()))?)?;
    lua.load(PRELUDE).set_name("@prelude.lua").call::<()>((wrk.clone(), url.authority()))?;
    lua.globals().get::<Table>("package")?.get::<Table>("loaded")?.set("wrk", wrk.clone())?;
    lua.globals().set("wrk", wrk)
}

fn lookup(host: &str, service: &str) -> mlua::Result<Vec<Address>> {
    let port = match service {
        "http" => 80,
        "https" => 443,
        number => number.parse().map_err(|_| mlua::Error::runtime(format!("unknown service {service:?}")))?,
    };
    let addresses = (host, port).to_socket_addrs();
    let addresses =
        addresses.map_err(|error| mlua::Error::runtime(format!("unable to resolve {host}:{service} {error}")))?;
    Ok(addresses.map(Address).collect())
}

/// An address in a script.
#[derive(Clone, Copy, Debug)]
struct Address(SocketAddr);

impl Address {
    fn answers(&self) -> bool {
        TcpStream::connect_timeout(&self.0, CONNECT_TIMEOUT).is_ok()
    }
}

impl UserData for Address {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, address, ()| Ok(address.0.to_string()));
    }
}

/// A thread in a script.
struct Handle {
    lua: Lua,
    thread: Arc<Thread>,
}

impl UserData for Handle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("addr", |_, handle| Ok(Address(handle.thread.address())));
        fields.add_field_method_set("addr", |_, handle, address: mlua::UserDataRef<Address>| {
            *handle.thread.address.lock().unwrap_or_else(PoisonError::into_inner) = address.0;
            Ok(())
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get", |lua, handle, name: String| transfer(handle.lua.globals().get::<Value>(name)?, lua));
        methods.add_method("set", |_, handle, (name, value): (String, Value)| {
            handle.lua.globals().set(name, transfer(value, &handle.lua)?)
        });
        methods.add_method("stop", |_, handle, ()| {
            handle.thread.is_stopped.store(true, Relaxed);
            Ok(())
        });
    }
}

/// Copies a value into another state.
fn transfer(value: Value, to: &Lua) -> mlua::Result<Value> {
    match value {
        Value::Nil => Ok(Value::Nil),
        Value::Boolean(value) => Ok(Value::Boolean(value)),
        Value::Integer(value) => Ok(Value::Integer(value)),
        Value::Number(value) => Ok(Value::Number(value)),
        Value::String(value) => to.create_string(value.as_bytes()).map(Value::String),
        Value::Table(table) => {
            let copy = to.create_table()?;
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair?;
                copy.set(transfer(key, to)?, transfer(value, to)?)?;
            }
            Ok(Value::Table(copy))
        }
        other => Err(mlua::Error::runtime(format!("cannot transfer '{}' to thread", other.type_name()))),
    }
}

impl UserData for Stats {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("min", |_, stats| Ok(stats.min()));
        fields.add_field_method_get("max", |_, stats| Ok(stats.max()));
        fields.add_field_method_get("mean", |_, stats| Ok(stats.mean()));
        fields.add_field_method_get("stdev", |_, stats| Ok(stats.stdev()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("percentile", |_, stats, percent| Ok(stats.percentile(percent)));
        methods.add_meta_method(MetaMethod::Len, |_, stats, ()| Ok(stats.distinct()));
        methods.add_meta_method(MetaMethod::Call, |_, stats, number: usize| Ok(stats.value(number).unwrap_or((0, 0))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_copied_between_states_and_functions_are_not() {
        let (from, to) = (Lua::new(), Lua::new());
        let value = from.load("return {a = {1, 'x'}, [true] = 2.5}").eval::<Value>().unwrap();
        to.globals().set("value", transfer(value, &to).unwrap()).unwrap();
        assert_eq!(to.load("return value.a[1] + #value.a[2] + value[true]").eval::<f64>().unwrap(), 4.5);
        let function = from.load("return print").eval::<Value>().unwrap();
        let error = transfer(function, &to).unwrap_err().to_string();
        assert!(error.contains("cannot transfer 'function' to thread"), "{error}");
    }
}
