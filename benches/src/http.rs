//! The little of HTTP/1.1 that a sender and a check need, without a cost of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(120);

/// A status and the text that came with it.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept open.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Sends a whole request and reads the answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.0.get_mut().write_all(request)?;
        read_response(&mut self.0)
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> io::Result<Response> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    Connection::open(address)?.exchange(request.as_bytes())
}

/// Percent-encodes everything that a URL does not take as it is.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn read_response(stream: &mut impl BufRead) -> io::Result<Response> {
    let mut line = String::new();
    read_line(stream, &mut line)?;
    let status: u16 = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid("status line", &line))?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        read_line(stream, &mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().map_err(|_| invalid("content-length", value))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            read_line(stream, &mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| invalid("chunk size", &line))?;
            io::copy(&mut stream.take(length as u64), &mut body)?;
            read_line(stream, &mut line)?;
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        io::copy(&mut stream.take(length), &mut body)?;
    } else if status != 204 {
        stream.read_to_end(&mut body)?;
    }
    Ok(Response { status, body })
}

/// Reads into `line`, which ends up without its end.
fn read_line(stream: &mut impl BufRead, line: &mut String) -> io::Result<()> {
    line.clear();
    if stream.read_line(line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(())
}

fn invalid(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Response> {
        read_response(&mut text.as_bytes())
    }

    #[test]
    fn bodies_end_by_length_by_chunks_or_with_the_connection() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            assert_eq!(read(text).unwrap().text(), "hello", "{text:?}");
        }
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\nnext").unwrap().text(), "");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
