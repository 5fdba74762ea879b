//! A connection that sends any bytes as a request, right or wrong.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::super::support::http::{Response, connect, read_response};

/// A request whose parts need not fit.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is posted.
    pub path: &'static str,
    /// All headers but `Host` and `Content-Length`; a value can be no text.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The content.
    pub body: Vec<u8>,
    /// A length that is not the body's.
    pub announced_bytes: Option<u64>,
}

impl Request {
    /// The bytes on the network.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.announced_bytes.unwrap_or(self.body.len() as u64);
        let mut out =
            format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n", self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// A connection that is kept alive while the requests on it are well framed.
pub struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Connection {
    /// Connects at the first request.
    pub fn new(address: SocketAddr) -> Connection {
        Connection { address, stream: None }
    }

    /// Sends a request and reads its answer. One that announces another length than it has gets a connection of its own,
    /// and need not get an answer: what the receiver takes for its rest is not what was meant.
    pub fn send(&mut self, request: &Request) -> io::Result<Option<Response>> {
        if request.announced_bytes.is_some() {
            return Ok(self.send_alone(request).ok());
        }
        let bytes = request.bytes();
        let was_kept = self.stream.is_some();
        match self.exchange(&bytes) {
            // A request before it may have made the receiver close the connection.
            Err(_) if was_kept => self.exchange(&bytes).map(Some),
            result => result.map(Some),
        }
    }

    fn send_alone(&self, request: &Request) -> io::Result<Response> {
        let mut stream = connect(self.address)?;
        stream.write_all(&request.bytes())?;
        stream.shutdown(Shutdown::Write)?;
        read_response(&mut BufReader::new(stream))
    }

    fn exchange(&mut self, bytes: &[u8]) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(self.address)?),
        };
        // A refusal can come before all was sent, and then it is the answer.
        let sent = stream.get_mut().write_all(bytes);
        let response = read_response(&mut stream)?;
        if sent.is_ok() && response.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(response)
    }
}
