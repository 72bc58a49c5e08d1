//! The tasks of a thread: each is polled when the kernel has done something for its socket, or when its deadline has passed.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::app;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, recv};
use slab::Slab;

use super::ring::{Completion, Ring, Token, can_ask_again};
use super::shared::Permit;
use super::timers::{Moment, Timers};

/// How many tasks are polled before the kernel is told what they ask for: each asks for two things at most.
const POLLS_PER_TURN: usize = 128;
/// How much may have come for a task that does not take it. Then the kernel keeps the rest, and the client waits.
const INBOX_BYTES: usize = 16 * 1024;
/// How much of what the kernel has kept is read at once when the server stops.
const READ_BYTES: usize = 4 * 1024;

/// What other threads have for a reactor.
pub(crate) struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    bell: EventFd,
}

/// One thing of it.
pub(crate) enum Mail {
    /// A connection, to be given a task.
    Connection(TcpStream, Permit),
    /// The CPU was burnt that this task wanted to be burnt.
    Burnt(Token),
    /// The server stops: who need not go on shall end.
    Drain,
    /// No more connections come.
    Close,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { mail: Mutex::default(), bell })
    }

    pub(crate) fn send(&self, mail: Mail) {
        let is_first = {
            let mut all = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(mail);
            all.len() == 1
        };
        // Whoever sent before has rung, and nobody has looked yet.
        if is_first {
            // It fails only if it was rung 2^64 times.
            let _ = self.bell.write(1);
        }
    }

    fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a task does.
type Serving = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// All that a thread has. It lives as long as the process.
pub(crate) struct Reactor {
    state: RefCell<State>,
    is_draining: Cell<bool>,
    is_closed: Cell<bool>,
    mailbox: &'static Mailbox,
    /// The thread that burns CPU for the tasks, once one has asked for it.
    burner: OnceCell<Sender<(Token, Duration)>>,
}

struct State {
    ring: Ring,
    tasks: Slab<Task>,
    /// The tasks to poll.
    ready: VecDeque<Token>,
    timers: Timers,
}

/// A task and its socket, which is kept until the kernel has nothing to do with it any more.
struct Task {
    /// Nothing once it has ended, or while it is polled.
    serving: Option<Serving>,
    stream: TcpStream,
    is_ready: bool,
    is_receiving: bool,
    is_sending: bool,
    /// Too much has come: what it receives was taken back.
    is_held_back: bool,
    /// It has ended: all that the kernel does for it was taken back.
    is_given_up: bool,
    is_burnt: bool,
    /// What has come, and was not taken.
    inbox: Vec<u8>,
    /// Nothing more will come: the client has closed, or the connection has failed.
    end: Option<nix::Result<()>>,
    /// What came of sending.
    sent: Option<nix::Result<()>>,
    /// When it is polled if nothing happens before.
    timer: Option<Moment>,
}

#[cfg(test)]
pub(crate) const TASK_BYTES: usize = size_of::<Task>();

/// The socket of a task, which alone may use it.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    reactor: &'static Reactor,
    token: Token,
}

impl Reactor {
    pub(crate) fn new(mailbox: &'static Mailbox) -> io::Result<Self> {
        let state =
            State { ring: Ring::with_buffers()?, tasks: Slab::new(), ready: VecDeque::new(), timers: Timers::new() };
        Ok(Self {
            state: RefCell::new(state),
            is_draining: Cell::new(false),
            is_closed: Cell::new(false),
            mailbox,
            burner: OnceCell::new(),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Runs tasks, one for each connection that comes with the mail, until no more come and all have ended.
    pub(crate) fn run(&'static self, spawn: impl Fn(TcpStream, Permit)) -> io::Result<()> {
        self.state.borrow_mut().ring.watch(&self.mailbox.bell);
        while !self.is_closed.get() || !self.state.borrow().tasks.is_empty() {
            if self.turn()? {
                for mail in self.mailbox.take() {
                    match mail {
                        Mail::Connection(stream, permit) => spawn(stream, permit),
                        Mail::Burnt(token) => self.state.borrow_mut().end_burn(token),
                        Mail::Drain => self.drain(),
                        Mail::Close => self.is_closed.set(true),
                    }
                }
            }
            self.poll_ready();
        }
        Ok(())
    }

    /// Makes a task of what `serve` does with the socket.
    pub(crate) fn spawn<F: Future<Output = io::Result<()>> + 'static>(
        &'static self,
        stream: TcpStream,
        serve: impl FnOnce(Socket) -> F,
    ) {
        let mut state = self.state.borrow_mut();
        let entry = state.tasks.vacant_entry();
        let token = entry.key() as Token;
        entry.insert(Task::new(stream, Box::pin(serve(Socket { reactor: self, token }))));
        state.wake(token);
    }

    /// The thread that burns CPU, so that other tasks are not kept off this one.
    fn burner(&self) -> &Sender<(Token, Duration)> {
        self.burner.get_or_init(|| {
            let (sender, burns) = channel();
            let mailbox = self.mailbox;
            // If there is no thread, `burns` is dropped, and sending fails.
            let _ = thread::Builder::new().spawn(move || {
                for (token, duration) in burns {
                    app::burn(duration);
                    mailbox.send(Mail::Burnt(token));
                }
            });
            sender
        })
    }

    /// Has every task look at whether it need go on.
    fn drain(&self) {
        self.is_draining.set(true);
        let state = &mut *self.state.borrow_mut();
        let tokens: Vec<_> = state.tasks.iter().map(|(key, _)| key as Token).collect();
        tokens.into_iter().for_each(|token| state.wake(token));
    }

    /// Waits for the kernel, and notes what it has done. True if somebody has rung.
    fn turn(&self) -> io::Result<bool> {
        let state = &mut *self.state.borrow_mut();
        let timeout = state.timeout();
        let (tasks, ready) = (&mut state.tasks, &mut state.ready);
        let mut has_rung = false;
        let mut is_watched = true;
        state.ring.turn(timeout, |completion| match completion {
            Completion::Received { token, result, is_last } => {
                tasks[token as usize].receive(result, is_last);
                wake(tasks, ready, token);
            }
            Completion::Sent { token, result } => {
                tasks[token as usize].is_sending = false;
                tasks[token as usize].sent = Some(result);
                wake(tasks, ready, token);
            }
            Completion::Readable { is_last } => {
                has_rung = true;
                is_watched = !is_last;
            }
            Completion::Accepted { .. } => {}
        })?;
        if !is_watched {
            state.ring.watch(&self.mailbox.bell);
        }
        state.expire();
        Ok(has_rung)
    }

    /// Lets tasks go on as far as they can, but not so many that the kernel waits for long.
    fn poll_ready(&self) {
        for _ in 0..POLLS_PER_TURN {
            let Some((token, serving)) = self.state.borrow_mut().next_ready() else { return };
            let serving = serving.and_then(poll);
            self.state.borrow_mut().finish(token, serving);
        }
    }
}

/// Lets a task go on as far as it can; nothing if it has ended. A panic is the end of it, and of nothing else.
fn poll(mut serving: Serving) -> Option<Serving> {
    // Nobody is woken by it: whatever happens to a task, it is polled.
    let mut context = Context::from_waker(Waker::noop());
    let poll = catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(&mut context)));
    // The connection may fail: that is the end of it, and of nothing else.
    poll.is_ok_and(|poll| poll.is_pending()).then_some(serving)
}

impl State {
    fn task(&mut self, token: Token) -> &mut Task {
        &mut self.tasks[token as usize]
    }

    /// Has a task polled soon.
    fn wake(&mut self, token: Token) {
        wake(&mut self.tasks, &mut self.ready, token);
    }

    /// How long there is nothing to do unless the kernel does something.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        // To the next millisecond, as tokio's timers are: those that are due by then share one wakeup.
        self.timers.remaining().map(|remaining| Duration::from_millis(remaining.as_micros().div_ceil(1000) as u64))
    }

    /// Wakes the tasks whose time has come.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(token) = self.timers.pop(now) {
            self.task(token).timer = None;
            self.wake(token);
        }
    }

    /// Has the task polled then, or before.
    fn set_timer(&mut self, token: Token, at: Instant) {
        self.timers.set(token, &mut self.tasks[token as usize].timer, at);
    }

    /// The next task to poll, and what it does.
    fn next_ready(&mut self) -> Option<(Token, Option<Serving>)> {
        let token = self.ready.pop_front()?;
        let task = self.task(token);
        task.is_ready = false;
        Some((token, task.serving.take()))
    }

    /// Keeps what the task still has to do; without anything, the socket is closed once the kernel is done with it.
    fn finish(&mut self, token: Token, serving: Option<Serving>) {
        let task = &mut self.tasks[token as usize];
        task.serving = serving;
        if task.serving.is_some() {
            if task.is_receiving && task.inbox.len() > INBOX_BYTES && !std::mem::replace(&mut task.is_held_back, true) {
                self.ring.cancel_receive(token);
            }
        } else if !task.is_receiving && !task.is_sending {
            let task = self.tasks.remove(token as usize);
            self.timers.remove(token, task.timer);
        } else if !std::mem::replace(&mut task.is_given_up, true) {
            if task.is_receiving {
                self.ring.cancel_receive(token);
            }
            if task.is_sending {
                self.ring.cancel_send(token);
            }
        }
    }

    /// The CPU was burnt that this task waits for.
    fn end_burn(&mut self, token: Token) {
        self.task(token).is_burnt = true;
        self.wake(token);
    }
}

/// Has a task polled soon.
fn wake(tasks: &mut Slab<Task>, ready: &mut VecDeque<Token>, token: Token) {
    if !std::mem::replace(&mut tasks[token as usize].is_ready, true) {
        ready.push_back(token);
    }
}

impl Task {
    fn new(stream: TcpStream, serving: Serving) -> Self {
        Self {
            serving: Some(serving),
            stream,
            is_ready: false,
            is_receiving: false,
            is_sending: false,
            is_held_back: false,
            is_given_up: false,
            is_burnt: false,
            inbox: Vec::new(),
            end: None,
            sent: None,
            timer: None,
        }
    }

    /// Notes what has come.
    fn receive(&mut self, result: nix::Result<&[u8]>, is_last: bool) {
        if is_last {
            self.is_receiving = false;
            self.is_held_back = false;
        }
        match result {
            Ok([]) => self.end = Some(Ok(())),
            Ok(bytes) => self.inbox.extend_from_slice(bytes),
            Err(error) if can_ask_again(error) => {}
            Err(error) => self.end = Some(Err(error)),
        }
    }

    /// Takes what has come; nothing at the end.
    fn take(&mut self) -> nix::Result<Vec<u8>> {
        match &mut self.end {
            _ if !self.inbox.is_empty() => Ok(std::mem::take(&mut self.inbox)),
            Some(end) => std::mem::replace(end, Ok(())).map(|()| Vec::new()),
            None => Err(Errno::EAGAIN),
        }
    }

    /// Whether there is something to take.
    fn has_input(&self) -> bool {
        !self.inbox.is_empty() || self.end.is_some()
    }

    /// Reads what the kernel has and has not said yet, or was not asked for.
    fn look(&mut self) {
        let mut bytes = [0; READ_BYTES];
        let result = recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        if result != Err(Errno::EAGAIN) {
            self.receive(result.map(|count| &bytes[..count]), false);
        }
    }
}

impl Socket {
    /// Whether the server stops.
    pub(crate) fn is_draining(self) -> bool {
        self.reactor.is_draining()
    }

    /// What can be read now; nothing at the end of the input.
    pub(crate) fn try_read(self) -> io::Result<Vec<u8>> {
        let state = &mut *self.reactor.state.borrow_mut();
        let task = state.task(self.token);
        if self.is_draining() && !task.has_input() {
            task.look();
        }
        Ok(task.take()?)
    }

    /// Waits until there is something to read; if it `heeds_drain`, at most until the server stops.
    pub(crate) fn readable(self, deadline: Instant, heeds_drain: bool) -> impl Future<Output = io::Result<()>> {
        poll_fn(move |_| {
            let state = &mut *self.reactor.state.borrow_mut();
            let task = &mut state.tasks[self.token as usize];
            let is_late = Instant::now() >= deadline;
            // What came in time while this thread had no CPU is not late.
            if is_late && !task.has_input() {
                task.look();
            }
            if task.has_input() || (heeds_drain && self.is_draining()) {
                return Poll::Ready(Ok(()));
            }
            if is_late {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if !std::mem::replace(&mut task.is_receiving, true) {
                state.ring.receive(self.token, &task.stream);
            }
            state.set_timer(self.token, deadline);
            Poll::Pending
        })
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(self, bytes: Vec<u8>, deadline: Instant) -> impl Future<Output = io::Result<()>> {
        {
            let state = &mut *self.reactor.state.borrow_mut();
            let task = &mut state.tasks[self.token as usize];
            task.is_sending = true;
            state.ring.send(self.token, &task.stream, bytes);
        }
        poll_fn(move |_| {
            let state = &mut *self.reactor.state.borrow_mut();
            if let Some(result) = state.task(self.token).sent.take() {
                return Poll::Ready(result.map_err(io::Error::from));
            }
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            state.set_timer(self.token, deadline);
            Poll::Pending
        })
    }

    /// Says that no more will be sent.
    pub(crate) fn shutdown(self) -> io::Result<()> {
        self.reactor.state.borrow_mut().task(self.token).stream.shutdown(Shutdown::Write)
    }

    /// Waits for so long.
    pub(crate) fn sleep(self, duration: Duration) -> impl Future<Output = ()> {
        let end = Instant::now() + duration;
        poll_fn(move |_| {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            self.reactor.state.borrow_mut().set_timer(self.token, end);
            Poll::Pending
        })
    }

    /// Burns CPU on a thread that has nothing else to do.
    pub(crate) async fn burn(self, duration: Duration) {
        // Without the thread nothing is burnt.
        if self.reactor.burner().send((self.token, duration)).is_ok() {
            poll_fn(|_| match std::mem::take(&mut self.reactor.state.borrow_mut().task(self.token).is_burnt) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }
}
