//! Sockets: one listening socket per shard and address (SO_REUSEPORT), accepted connections as byte streams.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per listening socket.
const BACKLOG: i32 = 1024;

/// Binds `count` listening sockets to one address. Port 0 takes one free port for all of them.
///
/// SO_REUSEPORT would let a second process bind the same port and take half of the connections, silently; so a
/// socket without it is bound first, which fails while anybody else listens.
pub fn bind_all(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    if address.port() != 0 {
        wait_for_port(address)?;
    }
    let first = listening_socket(address, true)?;
    let bound = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an internet address"))?;
    let mut sockets = vec![OwnedFd::from(first)];
    while sockets.len() < count {
        sockets.push(OwnedFd::from(listening_socket(bound, true)?));
    }
    Ok((bound, sockets))
}

/// Succeeds when nobody else listens. The kernel closes the sockets of a killed process that used io_uring some
/// time after the process has gone, so a restart waits for them.
fn wait_for_port(address: SocketAddr) -> io::Result<()> {
    const TRIES: u32 = 30;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 1..TRIES {
        match listening_socket(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause(PAUSE),
            result => return result.map(drop),
        }
    }
    listening_socket(address, false).map(drop)
}

/// At start no executor runs yet, so the thread may sleep.
#[expect(clippy::disallowed_methods, reason = "no executor runs on this thread")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn listening_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A listening socket on this executor.
pub struct Listener(glommio::net::TcpListener);

impl Listener {
    /// Takes over a socket that [`bind_all`] made.
    #[expect(unsafe_code, reason = "glommio takes a listening socket only as a raw descriptor")]
    pub fn from_socket(socket: OwnedFd) -> Listener {
        // SAFETY: `into_raw_fd` gives up ownership of an open listening socket, and the listener takes it.
        Listener(unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) })
    }

    /// The next connection. Errors such as too many open files are the caller's to wait out.
    pub async fn accept(&self) -> io::Result<Stream> {
        let stream = self.0.accept().await.map_err(io::Error::from)?;
        stream.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Stream { tcp: stream, replay: Vec::new(), replayed: 0 })
    }
}

/// A connection; bytes that were read ahead to learn the protocol are replayed first.
pub struct Stream {
    tcp: glommio::net::TcpStream,
    replay: Vec<u8>,
    replayed: usize,
}

impl Stream {
    /// Makes the next reads return `bytes` before anything from the socket.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        debug_assert_eq!(self.replayed, self.replay.len(), "bytes that were put back were not read yet");
        self.replay = bytes;
        self.replayed = 0;
    }

    /// The other end.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let rest = &this.replay[this.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut this.tcp).poll_read(context, buffer);
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        this.replayed += len;
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_close(context)
    }
}
