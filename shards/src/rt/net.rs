//! Sockets: one listening socket per shard and address (SO_REUSEPORT), connections of either side as byte streams.

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

/// Succeeds when nobody else listens.
fn wait_for_port(address: SocketAddr) -> io::Result<()> {
    let is_in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    retry_at_start(|| listening_socket(address, false), is_in_use).map(drop)
}

/// Tries again for some seconds while a killed predecessor of this process may hold what is wanted: the kernel closes
/// the sockets and files of a process that used io_uring some time after the process has gone. For the start only,
/// when no executor runs on the calling thread.
#[expect(clippy::disallowed_methods, reason = "no executor runs on this thread")]
pub fn retry_at_start<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const TRIES: u32 = 30;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if may_pass(&error) => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
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
    pub async fn accept(&self) -> io::Result<Accepted> {
        self.0.shared_accept().await.map(Accepted).map_err(io::Error::from)
    }
}

/// A connection that any executor may take up. One that no executor takes up stays open until the process ends.
pub struct Accepted(glommio::net::AcceptedTcpStream);

impl Accepted {
    /// Takes it up on this executor.
    pub fn take_up(self) -> io::Result<Stream> {
        let tcp = self.0.bind_to_executor();
        tcp.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Stream { tcp, replay: Vec::new(), replayed: 0 })
    }
}

/// A connection; bytes that were read ahead to learn the protocol are replayed first.
pub struct Stream {
    tcp: glommio::net::TcpStream,
    replay: Vec<u8>,
    replayed: usize,
}

impl Stream {
    /// Connects to another process within so much time.
    pub async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Stream> {
        let tcp = glommio::net::TcpStream::connect_timeout(address, limit).await.map_err(io::Error::from)?;
        tcp.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Stream { tcp, replay: Vec::new(), replayed: 0 })
    }

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
