//! Series of a true sender between all the mutated ones. What they must hold is a function of series and round.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::support::query::{Labels, Matrix, QueryApi};
use super::super::support::wait_until;
use super::connection::{Connection, Request};
use super::content::{KINDS, Protocol, headers};
use super::message::{Field, double, encode, fixed, nested, packed, text, varint};
use super::requests::attribute;

/// A tenant that nobody else sends for.
pub const OWN_TENANT: &str = "control-alone";

/// The tenant of the mutated requests.
pub const SHARED_TENANT: &str = "control-and-mutants";

/// Series of each tenant and protocol.
const SERIES: usize = 25;

/// Between two samples of a series.
const STEP_MS: i64 = 1000;

/// How long a true sender tries again what may succeed later.
const RETRY_LIMIT: Duration = Duration::from_secs(290);

/// Sends round after round.
pub struct Control {
    connection: Connection,
    start_ms: i64,
    rounds: usize,
}

impl Control {
    /// The first round's samples have the time `start_ms`.
    pub fn new(address: SocketAddr, start_ms: i64) -> Control {
        Control { connection: Connection::new(address), start_ms, rounds: 0 }
    }

    /// A sample of each series, again until it is stored.
    pub fn send_round(&mut self) {
        let at_ms = self.start_ms + self.rounds as i64 * STEP_MS;
        for tenant in [OWN_TENANT, SHARED_TENANT] {
            for (kind, (protocol, encoding)) in KINDS.into_iter().enumerate() {
                let samples: Vec<_> =
                    (0..SERIES).map(|id| (format!("{kind}-{id}"), value(kind, id, self.rounds))).collect();
                let request = Request {
                    path: protocol.path(),
                    headers: headers(protocol, encoding, tenant),
                    body: encoding.apply(&encode(&message(protocol, &samples, at_ms))),
                    announced_bytes: None,
                };
                self.store(&request);
            }
        }
        self.rounds += 1;
    }

    fn store(&mut self, request: &Request) {
        wait_until("a control request is stored", RETRY_LIMIT, || {
            let response = self.connection.send(request).unwrap().unwrap();
            match response.status {
                // A partial success of OTLP would have a body.
                200 | 204 if response.body.is_empty() => Ok(()),
                503 => Err(response.text()),
                status => panic!("a control request got {status} {}", response.text()),
            }
        });
    }

    /// Compares what the query API gives with what was sent, bit for bit.
    pub fn assert_stored(&self, query: QueryApi) {
        let end_ms = self.start_ms + self.rounds as i64 * STEP_MS;
        let found = query.instant("control[1h]", end_ms);
        let expected = self.expected();
        for (labels, samples) in &expected {
            let found = found.get(labels).unwrap_or_else(|| panic!("{labels:?} is missing"));
            let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
                samples.iter().map(|(at_ms, value)| (*at_ms, value.to_bits())).collect()
            };
            assert_eq!(bits(found), bits(samples), "{labels:?}");
        }
        assert_eq!(found.len(), expected.len(), "a mutated request made a control series");
    }

    fn expected(&self) -> Matrix {
        let mut matrix = Matrix::new();
        for tenant in [OWN_TENANT, SHARED_TENANT] {
            for kind in 0..KINDS.len() {
                for id in 0..SERIES {
                    let pairs = [
                        ("__name__", "control"),
                        ("id", &format!("{kind}-{id}")),
                        ("replica", "a"),
                        ("tenant_id", tenant),
                    ];
                    let labels: Labels =
                        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
                    let at_ms = |round: usize| self.start_ms + round as i64 * STEP_MS;
                    let samples =
                        (0..self.rounds).map(|round| (at_ms(round), value(kind, id, round))).collect();
                    matrix.insert(labels, samples);
                }
            }
        }
        matrix
    }
}

/// No two of them are equal, and few have a short text.
fn value(kind: usize, id: usize, round: usize) -> f64 {
    ((round * KINDS.len() + kind) * SERIES + id) as f64 / 7.0
}

/// A sample of each series `control{id="…"}`, at one time.
pub fn message(protocol: Protocol, samples: &[(String, f64)], at_ms: i64) -> Vec<Field> {
    let sample = |value| nested(2, vec![double(1, value), varint(2, at_ms as u64)]);
    match protocol {
        Protocol::First => samples
            .iter()
            .map(|(id, value)| {
                let label = |name: &str, value: &str| nested(1, vec![text(1, name), text(2, value)]);
                nested(1, vec![label("__name__", "control"), label("id", id), sample(*value)])
            })
            .collect(),
        Protocol::Second => {
            let symbols =
                ["", "__name__", "control", "id"].into_iter().chain(samples.iter().map(|(id, _)| &**id));
            let series = samples
                .iter()
                .zip(4..)
                .map(|((_, value), id)| nested(5, vec![packed(1, &[1, 2, 3, id]), sample(*value)]));
            symbols.map(|symbol| text(4, symbol)).chain(series).collect()
        }
        Protocol::Otlp => {
            let time = fixed(3, at_ms as u64 * 1_000_000);
            let points = samples
                .iter()
                .map(|(id, value)| nested(1, vec![attribute(7, "id", id), time.clone(), double(4, *value)]))
                .collect();
            vec![nested(1, vec![nested(2, vec![nested(2, vec![text(1, "control"), nested(5, points)])])])]
        }
    }
}
