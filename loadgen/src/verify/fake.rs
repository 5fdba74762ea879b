//! A query API in memory in which every kind of difference and failure can be planted, and a run to compare it with.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::answer::{FoundSample, FoundSeries, FoundValue};
use super::client::QueryClient;
use super::expectation::{Expectation, Fate};
use super::windows::{Window, seconds};
use crate::send::endpoint::Endpoint;
use crate::stream::{ExpectedSample, ExpectedSeries, STALE_NAN_BITS, SampleValue};

pub const STALE: f64 = f64::from_bits(STALE_NAN_BITS);
const LOOKBACK_MS: i64 = 300_000;
const BEGIN_MS: i64 = 1_700_000_000_000;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Status(u16),
    /// The connection breaks before the end.
    Truncated,
    Garbage,
    /// An answer with a warning.
    Partial,
}

/// What the receiver holds and how it answers.
#[derive(Default)]
pub struct State {
    pub series: Vec<FoundSeries>,
    /// Whether range selectors include their left end, as before Prometheus 3.
    pub is_left_closed: bool,
    /// Whether range selectors show stale markers, as an ordinary NaN.
    pub shows_stale: bool,
    pub queries: u64,
    faults: Vec<Fault>,
}

pub struct FakeReceiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl FakeReceiver {
    /// Begins to answer queries about these series.
    pub async fn start(series: Vec<FoundSeries>) -> FakeReceiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { series, ..State::default() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        FakeReceiver { address, state, task }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spoils the next answers.
    pub fn plant(&self, fault: Fault, times: usize) {
        self.state().faults = vec![fault; times];
    }

    pub async fn stop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub fn client(receiver: &FakeReceiver, retries: u32) -> QueryClient {
    let authority = receiver.address.to_string();
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(&authority).unwrap());
    let endpoint = Endpoint {
        url: format!("http://{authority}/"),
        host: receiver.address.ip().to_string(),
        port: receiver.address.port(),
        tls: None,
        is_http2: false,
        target: "/".parse().unwrap(),
        headers,
        timeout: Duration::from_secs(10),
    };
    QueryClient::new(endpoint, retries).unwrap()
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        assert_eq!(line, "POST /api/v1/query HTTP/1.1\r\n");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let (status, text, length) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.queries += 1;
            let empty = r#"{"status":"success","warnings":["one store is down"],"data":{"resultType":"vector","result":[]}}"#;
            match state.faults.pop() {
                None => (200, answer(&state, &body), None),
                Some(Fault::Status(status)) => {
                    (status, r#"{"status":"error","error":"planted"}"#.to_owned(), None)
                }
                Some(Fault::Truncated) => (200, answer(&state, &body), Some(100_000)),
                Some(Fault::Garbage) => (200, "<html>login</html>".to_owned(), None),
                Some(Fault::Partial) => (200, empty.to_owned(), None),
            }
        };
        let is_cut = length.is_some();
        let length = length.unwrap_or(text.len());
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
        stream.get_mut().write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        if is_cut {
            return;
        }
    }
}

/// Evaluates `{target="N"}` and `{target="N"}[Rms]`.
fn answer(state: &State, body: &[u8]) -> String {
    let field = |name: &str| {
        form_urlencoded::parse(body)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .unwrap()
    };
    let (query, time) = (field("query"), field("time"));
    let time_ms: i64 = time.replace('.', "").parse().unwrap();
    let target = query.split('"').nth(1).unwrap().to_owned();
    let label = ("target".to_owned(), target);
    let series = state.series.iter().filter(|series| series.labels.contains(&label));
    let range_ms =
        query.split_once('[').map(|(_, range)| range.trim_end_matches("ms]").parse::<i64>().unwrap());
    let result: Vec<String> = series
        .filter_map(|series| {
            let mut samples = series.samples.iter();
            let shown = match range_ms {
                Some(range_ms) => {
                    let begin_ms = time_ms - range_ms + i64::from(!state.is_left_closed);
                    let in_range = samples.filter(|sample| {
                        (begin_ms..=time_ms).contains(&sample.timestamp_ms) && !is_stale(sample)
                    });
                    in_range.map(point).collect::<Vec<_>>()
                }
                None => {
                    let last = samples.rfind(|sample| sample.timestamp_ms <= time_ms)?;
                    let is_shown = last.timestamp_ms > time_ms - LOOKBACK_MS && !is_stale(last);
                    is_shown.then(|| point(last)).into_iter().collect()
                }
            };
            let labels: std::collections::BTreeMap<_, _> = series.labels.iter().cloned().collect();
            let metric = serde_json::to_string(&labels).unwrap();
            let (one, many) = if range_ms.is_some() { ("[", "]") } else { ("", "") };
            let key = match (series.samples.first().map(|sample| &sample.value), range_ms) {
                (Some(FoundValue::Histogram(_)), Some(_)) => "histograms",
                (Some(FoundValue::Histogram(_)), None) => "histogram",
                (_, Some(_)) => "values",
                (_, None) => "value",
            };
            let points = shown.join(",");
            (!shown.is_empty()).then(|| format!(r#"{{"metric":{metric},"{key}":{one}{points}{many}}}"#))
        })
        .collect();
    let result_type = if range_ms.is_some() { "matrix" } else { "vector" };
    let result = result.join(",");
    format!(r#"{{"status":"success","data":{{"resultType":"{result_type}","result":[{result}]}}}}"#)
}

fn is_stale(sample: &FoundSample) -> bool {
    matches!(sample.value, FoundValue::Float(value) if value.to_bits() == STALE.to_bits())
}

fn point(sample: &FoundSample) -> String {
    let time = seconds(sample.timestamp_ms);
    match &sample.value {
        FoundValue::Float(value) => format!("[{time},\"{value}\"]"),
        FoundValue::Histogram(histogram) => {
            format!("[{time},{{\"count\":\"{}\",\"sum\":\"{}\"}}]", histogram.count.0, histogram.sum.0)
        }
    }
}

/// A run whose samples are all listed.
pub struct FakeRun {
    pub targets: Vec<Vec<ExpectedSeries>>,
    pub fates: Vec<Fate>,
    interval_ms: i64,
}

impl FakeRun {
    /// Targets with two series of so many samples; each round is a request.
    pub fn new(targets: usize, rounds: u64, interval_ms: i64) -> FakeRun {
        let series = |target: usize, number: usize| ExpectedSeries {
            labels: [("__name__", format!("m{number}")), ("target", target.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            samples: (0..rounds)
                .map(|round| ExpectedSample {
                    timestamp_ms: BEGIN_MS + round as i64 * interval_ms,
                    value: SampleValue::Float(round as f64 * 0.1 + number as f64),
                    request: round,
                })
                .collect(),
        };
        let targets = (0..targets).map(|target| vec![series(target, 0), series(target, 1)]).collect();
        FakeRun { targets, fates: vec![Fate::Acknowledged; rounds as usize], interval_ms }
    }

    /// What a receiver holds that has done everything right.
    pub fn received(&self) -> Vec<FoundSeries> {
        let found = |series: &ExpectedSeries| FoundSeries {
            labels: series.labels.clone(),
            samples: series
                .samples
                .iter()
                .map(|sample| FoundSample {
                    timestamp_ms: sample.timestamp_ms,
                    value: match &sample.value {
                        SampleValue::Float(value) => FoundValue::Float(*value),
                        SampleValue::Histogram(text) => {
                            FoundValue::Histogram(super::answer::parse_histogram(text).unwrap())
                        }
                    },
                })
                .collect(),
        };
        self.targets.iter().flatten().map(found).collect()
    }
}

impl Expectation for FakeRun {
    fn targets(&self) -> u64 {
        self.targets.len() as u64
    }

    fn selector(&self, target: u64) -> String {
        format!("{{target=\"{target}\"}}")
    }

    fn rounds(&self) -> u64 {
        self.fates.len() as u64
    }

    fn series(&self, target: u64, rounds: Range<u64>) -> Vec<ExpectedSeries> {
        let mut all = self.targets[target as usize].clone();
        all.iter_mut().for_each(|series| series.samples.retain(|sample| rounds.contains(&sample.request)));
        all
    }

    fn window(&self, rounds: Range<u64>) -> Window {
        let time_ms = |round: u64| BEGIN_MS + round as i64 * self.interval_ms;
        Window { begin_ms: time_ms(rounds.start), end_ms: time_ms(rounds.end) - 1 }
    }

    fn requests(&self) -> u64 {
        self.fates.len() as u64
    }

    fn fate(&self, request: u64) -> Fate {
        self.fates[request as usize]
    }
}
