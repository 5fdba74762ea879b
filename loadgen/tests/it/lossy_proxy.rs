//! A proxy that says "stored" to one request in so many and throws it away.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use prost::Message;

use super::remote_write::{v1, v2};

/// A running proxy. Its threads end with the test's process.
pub struct LossyProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    one_in: u64,
    requests: AtomicU64,
    /// Whether a body is of remote write 2.0, and the body.
    dropped: Mutex<Vec<(bool, Vec<u8>)>>,
}

impl LossyProxy {
    /// Passes all but one in `one_in` requests on.
    pub fn start(upstream: SocketAddr, one_in: u64) -> LossyProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            one_in,
            requests: AtomicU64::new(0),
            dropped: Mutex::new(Vec::new()),
        });
        let for_threads = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_threads);
                // A broken connection is the client's to notice.
                thread::spawn(move || drop(serve(client, &shared)));
            }
        });
        LossyProxy { address, shared }
    }

    /// Samples and histograms in the requests that were thrown away.
    pub fn dropped_samples(&self) -> u64 {
        let dropped = self.shared.dropped.lock().unwrap();
        let count = |(is_v2, body): &(bool, Vec<u8>)| {
            let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
            let samples: usize = if *is_v2 {
                let series = v2::Request::decode(plain.as_slice()).unwrap().series;
                series.iter().map(|series| series.samples.len() + series.histograms.len()).sum()
            } else {
                let series = v1::Request::decode(plain.as_slice()).unwrap().series;
                series.iter().map(|series| series.samples.len() + series.histograms.len()).sum()
            };
            samples as u64
        };
        dropped.iter().map(count).sum()
    }
}

fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut upstream = BufReader::new(TcpStream::connect(shared.upstream)?);
    loop {
        let (head, body) = read_message(&mut client)?;
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        if number % shared.one_in == shared.one_in / 2 {
            let is_v2 = String::from_utf8_lossy(&head).contains("write.v2.Request");
            shared.dropped.lock().unwrap().push((is_v2, body));
            client.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        upstream.get_mut().write_all(&[head, body].concat())?;
        let (head, body) = read_message(&mut upstream)?;
        client.get_mut().write_all(&[head, body].concat())?;
    }
}

/// Reads head and body of a request or of an answer.
fn read_message(stream: &mut impl BufRead) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let begin = head.len();
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&head[begin..]).to_ascii_lowercase();
        assert!(!line.starts_with("transfer-encoding"), "the proxy knows only content-length");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
