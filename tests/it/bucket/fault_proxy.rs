//! A network between client and server that does what networks do on bad days.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

/// What happens to one connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Every request on it is answered with 503.
    Unavailable,
    /// It breaks after so many bytes to the server.
    CutUp(usize),
    /// It breaks after so many bytes from the server.
    CutDown(usize),
    /// It takes nothing and says nothing.
    Stall,
    /// For so long its bytes trickle towards the server.
    Slow(Duration),
}

/// The proxy; it ends with the test's runtime.
pub struct FaultProxy {
    /// Where it listens.
    pub address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    hang_up: Arc<Notify>,
}

#[derive(Default)]
struct Plan {
    next: VecDeque<Fault>,
    /// What happens when `next` is used up.
    rest: Option<Fault>,
}

impl FaultProxy {
    /// A proxy that passes everything on.
    pub async fn start(server: SocketAddr) -> FaultProxy {
        let socket = TcpSocket::new_v4().unwrap();
        // What lies in the kernel's buffers would hide how slowly bytes pass.
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let (plan, hang_up) = (Arc::new(Mutex::new(Plan::default())), Arc::new(Notify::new()));
        let (planned, hung_up) = (Arc::clone(&plan), Arc::clone(&hang_up));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = {
                    let mut plan = planned.lock().unwrap();
                    plan.next.pop_front().or(plan.rest)
                };
                let hung_up = Arc::clone(&hung_up);
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(client, server, fault) => {}
                        () = hung_up.notified() => {}
                    }
                });
            }
        });
        FaultProxy { address, plan, hang_up }
    }

    /// Breaks all connections; the next ones get these faults, those after them `rest`.
    pub fn plan(&self, next: impl IntoIterator<Item = Fault>, rest: Option<Fault>) {
        *self.plan.lock().unwrap() = Plan { next: next.into_iter().collect(), rest };
        self.hang_up.notify_waiters();
    }

    /// Faults that no connection has had yet.
    pub fn left_count(&self) -> usize {
        self.plan.lock().unwrap().next.len()
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, fault: Option<Fault>) {
    match fault {
        Some(Fault::Unavailable) => return unavailable(client).await,
        Some(Fault::Stall) => return std::future::pending().await,
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let (up_max, down_max) = match fault {
        Some(Fault::CutUp(bytes)) => (bytes, usize::MAX),
        Some(Fault::CutDown(bytes)) => (usize::MAX, bytes),
        _ => (usize::MAX, usize::MAX),
    };
    let slow_until = match fault {
        Some(Fault::Slow(time)) => Instant::now() + time,
        _ => Instant::now(),
    };
    tokio::select! {
        () = pump(&mut client_read, &mut server_write, up_max, slow_until) => {}
        () = pump(&mut server_read, &mut client_write, down_max, Instant::now()) => {}
    }
}

/// Copies until the end, or until so many bytes have passed.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    bytes_max: usize,
    slow_until: Instant,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = bytes_max;
    while left > 0 {
        let wanted = buffer.len().min(left);
        let Ok(count @ 1..) = from.read(&mut buffer[..wanted]).await else { return };
        if Instant::now() < slow_until {
            // The pause is the fault itself; nothing is synchronised by it.
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        left -= count;
    }
}

async fn unavailable(mut client: TcpStream) {
    const BODY: &str = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if !matches!(client.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: \
         {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let _ = client.write_all(answer.as_bytes()).await;
    // Closing before the body is read would reset the connection and lose the answer.
    let mut rest = [0; 4096];
    while matches!(client.read(&mut rest).await, Ok(1..)) {}
}
