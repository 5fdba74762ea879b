//! One connection to a query API, and the time that an answer takes on it.

use std::fmt::Display;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer; receivers give up earlier themselves.
const PATIENCE: Duration = Duration::from_secs(300);

/// Largest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// What is asked, by which path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    method: Method,
    path: String,
    parameters: Vec<(&'static str, String)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// From before the request was sent until the last byte was there.
    pub wall: Duration,
}

impl Question {
    /// Parameters as a form: expressions may be longer than a URL.
    pub fn post(path: &str, parameters: Vec<(&'static str, String)>) -> Question {
        Question { method: Method::POST, path: path.to_owned(), parameters }
    }

    /// Parameters in the URL.
    pub fn get(path: &str, parameters: Vec<(&'static str, String)>) -> Question {
        Question { method: Method::GET, path: path.to_owned(), parameters }
    }

    /// The parameters, in order.
    #[cfg(test)]
    pub fn parameters(&self) -> &[(&'static str, String)] {
        &self.parameters
    }

    fn request(&self, host: &str) -> Result<Request<Full<Bytes>>, String> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.parameters).finish();
        let builder = Request::builder().method(self.method.clone()).header(HOST, host);
        let request = if self.method == Method::GET {
            builder.uri(format!("{}?{form}", self.path)).body(Full::default())
        } else {
            let builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            builder.uri(&self.path).body(Full::new(Bytes::from(form)))
        };
        request.map_err(|error| error.to_string())
    }
}

/// A connection that stays open from question to question.
pub struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    /// Connects to the base address of a query API.
    pub async fn connect(base: &str) -> Result<Client, String> {
        let failed = |error: &dyn Display| format!("{base}: no connection: {error}");
        let host = base.strip_prefix("http://").ok_or_else(|| failed(&"not an address of HTTP"))?;
        let stream = TcpStream::connect(host).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // Its errors come to light in the requests that it carries.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Client { connection, host: host.to_owned() })
    }

    /// Asks once, and takes nothing but a whole answer with status 200.
    pub async fn ask(&mut self, question: &Question) -> Result<Answer, String> {
        let request = question.request(&self.host)?;
        let begin = Instant::now();
        let answer = timeout(PATIENCE, self.exchange(request)).await;
        let body = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
        Ok(Answer { body, wall: begin.elapsed() })
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes, String> {
        self.connection.ready().await.map_err(|error| format!("the connection is gone: {error}"))?;
        let answer = self.connection.send_request(request).await;
        let answer = answer.map_err(|error| format!("no answer: {error}"))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        Err(format!("{status}: {}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request after the other on one connection with these bytes.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut head = vec![0; 4096];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn one_connection_serves_one_question_after_the_other() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
        let bad = "HTTP/1.1 422 Nope\r\ncontent-length: 9\r\n\r\ntoo\n much";
        let url = server(vec![good, bad, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"]).await;
        let mut client = Client::connect(&url).await.unwrap();
        let question = Question::get("/api/v1/labels", vec![("start", "1".to_owned())]);
        assert_eq!(client.ask(&question).await.unwrap().body, "good");
        assert!(client.ask(&question).await.unwrap_err().ends_with(": too much"));
        assert!(client.ask(&question).await.unwrap_err().contains("broke off"));
        assert!(client.ask(&question).await.is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_one_clear_line() {
        let error = Client::connect("http://127.0.0.1:1").await.err().unwrap();
        assert!(error.starts_with("http://127.0.0.1:1: no connection"), "{error}");
        assert!(Client::connect("https://h").await.err().unwrap().contains("not an address of HTTP"));
    }
}
