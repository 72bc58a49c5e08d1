//! The ring of a thread: what the kernel is asked for, and what it has done.
//!
//! The kernel reads and writes memory behind the compiler's back. So that memory is owned here, until the kernel is done
//! with it, and this is the only module that is unsafe.
#![expect(unsafe_code, reason = "io_uring has no safe interface")]

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering::Release};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::errno::Errno;
use nix::libc;
use slab::Slab;

/// How much can be asked for before the kernel must be told.
const SUBMISSIONS: u32 = 512;
/// How much can have been done before it must be looked at, or the kernel takes memory for it.
const COMPLETIONS: u32 = 4096;
/// The buffers into which the kernel reads, for all connections of a ring: a power of two. If they run out, the connections
/// that have none ask again.
const BUFFERS: u16 = 256;
/// The size of each: that of most requests without a body. Of what is longer, each part takes a buffer.
const BUFFER_BYTES: usize = 512;
/// The one group that these buffers are.
const GROUP: u16 = 0;

/// Who asks: it comes back with what was done.
pub(crate) type Token = u32;

/// What the kernel has done. Where it says so, nothing more will come of what it was asked for.
pub(crate) enum Completion<'a> {
    /// It has accepted a connection, or could not.
    Accepted { result: nix::Result<TcpStream>, is_last: bool },
    /// A descriptor is readable.
    Readable { is_last: bool },
    /// Bytes have come; none at the end of the input. The last may also be an error, or nothing, and more can be asked for.
    Received { token: Token, result: nix::Result<&'a [u8]>, is_last: bool },
    /// All was sent, or the connection has failed.
    Sent { token: Token, result: nix::Result<()> },
}

/// What was asked for: the upper half of what comes back with a completion. The lower half says who asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Accept = 1,
    Readable = 2,
    Receive = 3,
    Send = 4,
    Cancel = 5,
}

impl Asked {
    fn by(self, who: u32) -> u64 {
        (self as u64) << 32 | u64::from(who)
    }

    fn from(user_data: u64) -> (Option<Self>, u32) {
        let all = [Asked::Accept, Asked::Readable, Asked::Receive, Asked::Send, Asked::Cancel];
        (all.into_iter().find(|asked| user_data >> 32 == *asked as u64), user_data as u32)
    }
}

/// A ring. Only the thread that has made it may use it.
pub(crate) struct Ring {
    uring: IoUring,
    /// Where the kernel puts what it reads, if this ring reads.
    buffers: Option<Buffers>,
    /// What the kernel is sending, and for whom.
    sends: Slab<(Token, Vec<u8>)>,
}

impl Ring {
    /// A ring on which nothing can be received.
    pub(crate) fn new() -> io::Result<Self> {
        // Only this thread asks, and it is interrupted only when it waits: Linux 6.1.
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        Ok(Self { uring, buffers: None, sends: Slab::new() })
    }

    /// A ring with buffers to receive in.
    pub(crate) fn with_buffers() -> io::Result<Self> {
        let mut ring = Self::new()?;
        ring.buffers = Some(Buffers::register(&ring.uring)?);
        Ok(ring)
    }

    /// Asks for the next connection, or for all. The listener must block, and stay open until the last has come.
    pub(crate) fn accept(&mut self, listener: &impl AsFd, wants_all: bool) {
        let listener = Fd(listener.as_fd().as_raw_fd());
        let entry = match wants_all {
            true => opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build(),
            // Nobody wants the address of the client.
            false => opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build(),
        };
        self.push(entry.user_data(Asked::Accept.by(0)));
    }

    /// Takes back what [`accept`](Self::accept) asked for: its last completion comes soon.
    pub(crate) fn cancel_accept(&mut self) {
        self.cancel(Asked::Accept, 0);
    }

    /// Asks to be told whenever this becomes readable; it must stay open.
    pub(crate) fn watch(&mut self, readable: &impl AsFd) {
        let entry = opcode::PollAdd::new(Fd(readable.as_fd().as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(entry.build().user_data(Asked::Readable.by(0)));
    }

    /// Asks for all that comes. The socket must block, and stay open until the last has come.
    pub(crate) fn receive(&mut self, token: Token, socket: &TcpStream) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(entry.user_data(Asked::Receive.by(token)));
    }

    /// Takes back what [`receive`](Self::receive) asked for: its last completion comes soon.
    pub(crate) fn cancel_receive(&mut self, token: Token) {
        self.cancel(Asked::Receive, token);
    }

    /// Asks for all of `bytes` to be sent. The socket must block, and stay open until that is done; one at a time.
    pub(crate) fn send(&mut self, token: Token, socket: &TcpStream, bytes: Vec<u8>) {
        let key = self.sends.insert((token, bytes));
        // The vector may move with the slab; the bytes stay where they are.
        let bytes = &self.sends[key].1;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length).flags(libc::MSG_WAITALL);
        self.push(entry.build().user_data(Asked::Send.by(key as u32)));
    }

    /// Gives up sending for `token`: the completion comes soon.
    pub(crate) fn cancel_send(&mut self, token: Token) {
        if let Some((key, _)) = self.sends.iter().find(|(_, (of, _))| *of == token) {
            self.cancel(Asked::Send, key as u32);
        }
    }

    fn cancel(&mut self, asked: Asked, who: u32) {
        let entry = opcode::AsyncCancel::new(asked.by(who)).build();
        self.push(entry.user_data(Asked::Cancel.by(0)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to stays until its completion. Bytes to be sent are in `sends` until then; what is
        // received goes into `buffers`, which are never freed; nothing else points to memory.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            // The queue is full. It fails only while memory runs out.
            let _ = self.uring.submit();
        }
    }

    /// Tells the kernel what was asked for, waits until something was done, or for so long, and gives it to `each`.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>, mut each: impl FnMut(Completion<'_>)) -> io::Result<()> {
        self.enter(timeout)?;
        loop {
            let Self { uring, buffers, sends } = self;
            for entry in uring.completion() {
                complete(&entry, buffers.as_mut(), sends, &mut each);
            }
            // The kernel keeps what there was no room for.
            if !self.uring.submission().cq_overflow() {
                return Ok(());
            }
            self.enter(Some(Duration::ZERO))?;
        }
    }

    fn enter(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(Timespec::from);
        let args = timeout.iter().fold(SubmitArgs::new(), |args, timeout| args.timespec(timeout));
        match self.uring.submitter().submit_with_args(1, &args) {
            // EINTR is no matter, nor that nothing was done in time. The others pass.
            Err(error)
                if [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN].map(Some).contains(&error.raw_os_error()) =>
            {
                Ok(())
            }
            result => result.map(drop),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still read it.
        std::mem::forget(std::mem::take(&mut self.sends));
    }
}

/// Gives one completion to `each`, and takes back what the kernel is done with.
fn complete(
    entry: &cqueue::Entry,
    buffers: Option<&mut Buffers>,
    sends: &mut Slab<(Token, Vec<u8>)>,
    each: &mut impl FnMut(Completion<'_>),
) {
    let is_last = !cqueue::more(entry.flags());
    let result = match entry.result() {
        error @ ..0 => Err(Errno::from_raw(-error)),
        result => Ok(result),
    };
    match Asked::from(entry.user_data()) {
        (Some(Asked::Accept), _) => {
            // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
            let result = result.map(|descriptor: RawFd| unsafe { TcpStream::from_raw_fd(descriptor) });
            each(Completion::Accepted { result, is_last });
        }
        (Some(Asked::Readable), _) => each(Completion::Readable { is_last }),
        (Some(Asked::Receive), token) => {
            let (Some(buffers), Some(id)) = (buffers, cqueue::buffer_select(entry.flags())) else {
                return each(Completion::Received { token, result: result.map(|_| &[][..]), is_last });
            };
            let result = result.map(|length| buffers.filled(id, length as usize));
            each(Completion::Received { token, result, is_last });
            buffers.provide(id);
        }
        (Some(Asked::Send), key) => {
            let (token, bytes) = sends.remove(key as usize);
            // The kernel has tried to send the rest: only a failure has kept it from that.
            let is_whole = |sent| if sent as usize == bytes.len() { Ok(()) } else { Err(Errno::EPIPE) };
            each(Completion::Sent { token, result: result.and_then(is_whole) });
        }
        (Some(Asked::Cancel) | None, _) => {}
    }
}

/// Whether the kernel has stopped only because there was no buffer, or because it was told to.
pub(crate) fn can_ask_again(error: Errno) -> bool {
    matches!(error, Errno::ENOBUFS | Errno::ECANCELED | Errno::EINTR)
}

/// Buffers, which the kernel takes from a list and fills. They are never freed, for nobody knows when it stops. The list must
/// be on pages of its own.
struct Buffers {
    list: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    /// How many times a buffer was put into the list.
    provided: u16,
}

impl Buffers {
    fn register(uring: &IoUring) -> io::Result<Self> {
        let list = allocate(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast();
        let mut buffers = Self { list, bytes: allocate(usize::from(BUFFERS) * BUFFER_BYTES), provided: 0 };
        // SAFETY: the list is as long as it is said to be, on pages of its own, and never freed.
        unsafe { uring.submitter().register_buf_ring_with_flags(list.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        (0..BUFFERS).for_each(|id| buffers.provide(id));
        Ok(buffers)
    }

    /// What the kernel has put into a buffer, which is ours until it is provided again.
    fn filled(&mut self, id: u16, length: usize) -> &[u8] {
        // SAFETY: the kernel fills buffers of the list only, none beyond its length, and leaves this one alone until it is in
        // the list again, for which this borrow must have ended.
        unsafe { slice::from_raw_parts(self.start(id).as_ptr(), length) }
    }

    /// Puts a buffer into the list, from which the kernel may take it at once.
    fn provide(&mut self, id: u16) {
        let start = self.start(id);
        // SAFETY: the place is within the list. The kernel reads it only after `provided` says that it is filled.
        let place = unsafe { &mut *self.list.as_ptr().add(usize::from(self.provided % BUFFERS)) };
        place.set_addr(start.as_ptr() as u64);
        place.set_len(BUFFER_BYTES as u32);
        place.set_bid(id);
        self.provided = self.provided.wrapping_add(1);
        // SAFETY: the list begins at `list`; where its tail is, nobody writes but this thread, and always so.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.list.as_ptr()).cast_mut()) };
        tail.store(self.provided, Release);
    }

    fn start(&self, id: u16) -> NonNull<u8> {
        // SAFETY: the kernel knows the ids of these buffers and no others.
        unsafe { self.bytes.add(usize::from(id % BUFFERS) * BUFFER_BYTES) }
    }
}

/// A page of memory.
#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "only the kernel and raw pointers use it")] [u8; 4096]);

/// So many bytes on pages of their own, which are never freed.
fn allocate(bytes: usize) -> NonNull<u8> {
    NonNull::from(vec![Page([0; 4096]); bytes.div_ceil(size_of::<Page>())].leak()).cast()
}
