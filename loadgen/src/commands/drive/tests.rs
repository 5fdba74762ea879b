//! Whole loads against a receiver that behaves well or badly.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::ledger::Fate;
use crate::send::endpoint::EndpointOptions;
use crate::send::load::Lanes;
use crate::send::reshard::CYCLE;
use crate::send::retry::RetryPolicy;
use crate::send::testing::{METADATA, Plain, Receiver, Reply, SAMPLES, endpoint_options};
use crate::stream::Protocol;

const SECOND_US: u64 = 1_000_000;

const PROMETHEUS: RetryPolicy = RetryPolicy {
    retries_max: None,
    backoff_min: Duration::from_millis(10),
    backoff_max: Duration::from_millis(50),
    retry_on_http_429: false,
};

/// A load of 100 requests per second for a second, without a warm-up.
struct Case {
    source: Plain,
    endpoint: EndpointOptions,
    plan: Plan,
    timing: Timing,
    makes_series: bool,
    drain: Duration,
}

impl Case {
    fn new(url: &str) -> Case {
        Case {
            source: Plain {
                blocks: 20,
                spacing_us: 10_000,
                encode_time: Duration::ZERO,
                panics_at: None,
                never_due: None,
            },
            endpoint: endpoint_options(url),
            plan: Plan {
                mode: Mode::Open,
                protocol: Protocol::RemoteWrite1,
                lanes: Lanes::Any { count: 4, in_flight_max: 4 },
                links: 4,
                retry: RetryPolicy::plain(0),
                end_us: SECOND_US,
                first_request: 0,
                end_request: u64::MAX,
                age_max_us: None,
                metadata_every: None,
            },
            timing: Timing { begin_us: 0, end_us: SECOND_US, ends_by_time: true },
            makes_series: false,
            drain: Duration::from_secs(10),
        }
    }

    fn ending_at(mut self, end_us: u64) -> Case {
        (self.plan.end_us, self.timing.end_us) = (end_us, end_us);
        self
    }

    fn with_retry(mut self, retry: RetryPolicy) -> Case {
        self.plan.retry = retry;
        self
    }

    async fn run(self) -> (RunResult, Arc<Ledger>) {
        let (job, ledger) = self.job();
        (drive(job, &Stop::default(), &|_| {}).await.unwrap(), ledger)
    }

    fn job(self) -> (Job, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new());
        let rate = SAMPLES as f64 * 1e6 / self.source.spacing_us as f64;
        let job = Job {
            source: Arc::new(self.source),
            ledger: Arc::clone(&ledger),
            endpoints: self.endpoint.endpoints(self.plan.protocol).unwrap(),
            plan: self.plan,
            timing: self.timing,
            makes_series: self.makes_series,
            drain: self.drain,
            cost: None,
            rate,
        };
        (job, ledger)
    }
}

fn fates(ledger: &Ledger) -> (usize, usize, usize) {
    let count = |fate| (0..ledger.end()).filter(|request| ledger.get(*request) == fate).count();
    (count(Fate::Acknowledged), count(Fate::Refused), count(Fate::Unknown))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_due_is_sent_and_acknowledged() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let (result, ledger) = Case::new(&receiver.url()).run().await;
    assert_eq!(result.acknowledged_samples, 100 * SAMPLES);
    assert_eq!(result.offered_rate, 1000.0);
    assert_eq!((result.sent_samples, result.unsent_requests, result.errors.len()), (1000, 0, 0));
    assert_eq!(fates(&ledger), (100, 0, 0));
    assert_eq!(result.body_bytes, 800);
    assert!(result.p50_ms > 0.0 && result.p50_ms <= result.p99_ms && result.p99_ms <= result.max_ms);
    assert!(!result.interrupted);
    let mut requests: Vec<u64> = receiver.seen().iter().map(|seen| seen.request).collect();
    requests.sort_unstable();
    assert_eq!(requests, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_of_the_receiver_is_charged_to_every_request_that_was_due_meanwhile() {
    let begun = Instant::now();
    let stall = Duration::from_millis(500)..Duration::from_millis(1500);
    let receiver = Receiver::start(move |_, _| {
        let elapsed = begun.elapsed();
        let after = if stall.contains(&elapsed) { stall.end - elapsed } else { Duration::ZERO };
        Reply { status: 200, after, ..Reply::default() }
    })
    .await;
    let (result, _) = Case::new(&receiver.url()).ending_at(3 * SECOND_US).run().await;
    // Only four requests were under way when it stalled. A hundred were due, and waited half a second on average.
    assert!(result.p99_ms > 900.0, "p99 {} ms", result.p99_ms);
    assert!(result.p95_ms > 700.0, "p95 {} ms", result.p95_ms);
    assert!(result.p50_ms < 300.0, "p50 {} ms", result.p50_ms);
    assert!(result.waited_p99_ms > 800.0, "they waited for a connection: {} ms", result.waited_p99_ms);
    assert_eq!(result.acknowledged_samples, 300 * SAMPLES);
    assert!(result.seconds.iter().any(|second| second.max_ms > Some(900.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_keeps_each_connection_busy() {
    let receiver =
        Receiver::start(|_, _| Reply { status: 200, after: Duration::from_millis(20), ..Reply::default() })
            .await;
    let mut case = Case::new(&receiver.url());
    case.plan.mode = Mode::Closed;
    let (result, ledger) = case.run().await;
    let requests = result.acknowledged_samples / SAMPLES;
    assert!((60..=204).contains(&requests), "4 connections, 20 ms each, 1 s: {requests}");
    assert!(result.p50_ms >= 20.0, "latency counts from sending");
    assert_eq!(fates(&ledger).0 as u64, requests);
    assert_eq!(result.unsent_requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_ends_with_its_last_request() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url()).ending_at(60 * SECOND_US);
    (case.plan.mode, case.plan.end_request) = (Mode::Closed, 50);
    let begun = Instant::now();
    let (result, ledger) = case.run().await;
    assert!(begun.elapsed() < Duration::from_secs(10) && result.duration_s < 10.0, "{result:?}");
    assert_eq!((fates(&ledger), result.interrupted), ((50, 0, 0), false));
    let measured = result.achieved_rate * result.duration_s;
    assert_eq!(measured.round() as u64, 50 * SAMPLES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_makes_all_series_before_it_measures() {
    let receiver = Receiver::start(|_, seen| {
        let after = Duration::from_millis(if seen.request < 20 { 400 } else { 0 });
        Reply { status: 200, after, ..Reply::default() }
    })
    .await;
    let mut case = Case::new(&receiver.url()).ending_at(60 * SECOND_US);
    (case.plan.mode, case.plan.end_request, case.makes_series) = (Mode::Closed, 60, true);
    let (result, ledger) = case.run().await;
    assert_eq!(fates(&ledger), (60, 0, 0));
    assert_eq!(result.acknowledged_samples, 60 * SAMPLES);
    assert_eq!((result.achieved_rate * result.duration_s).round() as u64, 40 * SAMPLES);
    assert!(result.max_ms < 400.0, "the first round is not measured: {} ms", result.max_ms);
    let seen = receiver.seen();
    assert!(seen[..20].iter().all(|seen| seen.request < 20), "no later request came before the first round");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_added_while_they_are_too_few() {
    let receiver =
        Receiver::start(|_, _| Reply { status: 200, after: Duration::from_millis(40), ..Reply::default() })
            .await;
    let mut case = Case::new(&receiver.url()).with_retry(PROMETHEUS).ending_at(4 * SECOND_US);
    case.plan.lanes = Lanes::Shards { min: 1, max: 16, capacity: 5, cycle: Duration::from_millis(500) };
    case.plan.links = 16;
    let (job, _) = case.job();
    let shown = Mutex::new(Vec::new());
    let show = |progress: &Progress| shown.lock().unwrap().push(progress.shards);
    let result = drive(job, &Stop::default(), &show).await.unwrap();
    let shards = result.shards.unwrap();
    // A hundred requests a second of 40 ms each keep four shards busy.
    assert!(shards.last >= 4 && shards.most <= 16, "{shards:?}");
    assert!(shown.lock().unwrap().iter().any(|shards| *shards > Some(1)));
    assert_eq!(result.acknowledged_samples, 400 * SAMPLES);
    let mut newest = [0; 20];
    for seen in receiver.seen() {
        let newest = &mut newest[seen.request as usize % 20];
        assert!(seen.request >= *newest, "{} came after {newest}", seen.request);
        *newest = seen.request;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_not_sent() {
    let receiver =
        Receiver::start(|_, _| Reply { status: 200, after: Duration::from_millis(300), ..Reply::default() })
            .await;
    let mut case = Case::new(&receiver.url()).ending_at(200_000);
    (case.plan.lanes, case.plan.links) = (Lanes::Any { count: 1, in_flight_max: 1 }, 1);
    case.plan.age_max_us = Some(250_000);
    let (result, ledger) = case.run().await;
    assert_eq!(fates(&ledger).0 as u64 * SAMPLES, result.acknowledged_samples);
    assert_eq!(result.acknowledged_samples + result.discarded_samples, 20 * SAMPLES);
    assert!(result.discarded_samples > 0 && result.unsent_requests == 0, "{result:?}");
    assert!(result.errors.iter().any(|(text, _)| text.contains("age limit")), "{:?}", result.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_sent_beside_the_samples_and_its_refusal_is_no_loss() {
    let receiver = Receiver::start(|_, seen| match seen.request {
        METADATA => Reply::status(400),
        _ => Reply::status(200),
    })
    .await;
    let mut case = Case::new(&receiver.url());
    case.plan.metadata_every = Some(Duration::from_millis(100));
    let (result, _) = case.run().await;
    assert!(receiver.seen().iter().filter(|seen| seen.request == METADATA).count() >= 2);
    assert_eq!((result.acknowledged_samples, result.metadata_messages), (100 * SAMPLES, 0));
    assert!(result.errors[0].0.starts_with("metadata: answered 400"), "{:?}", result.errors);
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url());
    case.plan.metadata_every = Some(Duration::from_millis(100));
    assert!(case.run().await.0.metadata_messages >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_sender_counts_each_failure() {
    let receiver =
        Receiver::start(|_, seen| Reply::status([200, 400, 503, 429][seen.request as usize % 4])).await;
    let (result, ledger) = Case::new(&receiver.url()).run().await;
    assert_eq!(fates(&ledger), (25, 50, 25));
    assert_eq!(
        (result.acknowledged_samples, result.refused_samples, result.unknown_samples),
        (250, 500, 250)
    );
    assert_eq!(result.retries, 0);
    let errors: Vec<_> = result.errors.iter().map(|(text, count)| (text.as_str(), *count)).collect();
    for error in ["answered 400: no, thanks", "answered 429: no, thanks", "answered 503: no, thanks"] {
        assert!(errors.contains(&(error, 25)), "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sends_until_it_is_taken_and_drops_what_is_refused() {
    let receiver = Receiver::start(|_, seen| {
        let attempt =
            seen.headers.get("retry-attempt").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        Reply::status(match (seen.request % 4, attempt) {
            (0, 0..3) => 500,
            (1, _) => 429,
            (2, _) => 409,
            _ => 200,
        })
    })
    .await;
    let mut case = Case::new(&receiver.url()).with_retry(PROMETHEUS).ending_at(400_000);
    case.plan.lanes = Lanes::Shards { min: 4, max: 4, capacity: 5, cycle: CYCLE };
    let (result, ledger) = case.run().await;
    assert_eq!(fates(&ledger), (20, 20, 0));
    assert_eq!(result.retries, 30);
    assert_eq!(result.acknowledged_samples + result.refused_samples, result.sent_samples);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited_for() {
    let receiver = Receiver::start(|index, _| match index {
        0 => Reply { status: 503, headers: vec![("retry-after", "1".to_owned())], ..Reply::default() },
        _ => Reply::status(200),
    })
    .await;
    let (result, _) = Case::new(&receiver.url()).with_retry(PROMETHEUS).ending_at(10_000).run().await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), result.retries, result.acknowledged_samples), (2, 1, SAMPLES));
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
    assert!(result.max_ms >= 1000.0, "the wait counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn series_keep_their_order_through_failures() {
    let failures = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_, _| {
        let is_bad = failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        Reply::status(if is_bad { 503 } else { 200 })
    })
    .await;
    let mut case = Case::new(&receiver.url()).with_retry(PROMETHEUS);
    case.source.blocks = 3;
    case.source.spacing_us = 2000;
    let (result, _) = case.run().await;
    assert_eq!(result.acknowledged_samples, 500 * SAMPLES);
    let mut newest = [0; 3];
    for seen in receiver.seen() {
        let newest = &mut newest[seen.request as usize % 3];
        assert!(seen.request >= *newest, "{} came after {newest}", seen.request);
        *newest = seen.request;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_given_up() {
    let receiver =
        Receiver::start(|_, _| Reply { status: 200, after: Duration::from_secs(60), ..Reply::default() })
            .await;
    let mut case = Case::new(&receiver.url()).ending_at(40_000);
    case.endpoint.access.timeout = Duration::from_millis(100);
    let (result, ledger) = case.run().await;
    assert_eq!(fates(&ledger), (0, 0, 4));
    assert_eq!(result.errors, [("no answer within 100ms".to_owned(), 4)]);
    assert_eq!(result.unknown_samples, 4 * SAMPLES);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_and_what_breaks_off_are_errors() {
    for answer in
        [b"\x00\x01garbage\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b""]
    {
        let address = Receiver::start_raw(answer).await;
        let case = Case::new(&format!("http://{address}/")).ending_at(40_000);
        let (result, ledger) = case.run().await;
        assert_eq!(fates(&ledger), (0, 0, 4), "{:?}", result.errors);
        assert_eq!(result.errors.iter().map(|(_, count)| count).sum::<u64>(), 4, "{:?}", result.errors);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_closes_after_each_answer_is_connected_to_again() {
    let close = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let address = Receiver::start_raw(close).await;
    let (result, _) = Case::new(&format!("http://{address}/")).ending_at(200_000).run().await;
    assert_eq!((result.acknowledged_samples, result.errors.len()), (20 * SAMPLES, 0), "{:?}", result.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_is_told_at_once() {
    let (job, _) = Case::new("http://127.0.0.1:1/").job();
    let error = drive(job, &Stop::default(), &|_| {}).await.unwrap_err().to_string();
    assert!(error.starts_with("http://127.0.0.1:1/: cannot connect: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_find_no_connection_in_time_are_counted() {
    let receiver =
        Receiver::start(|_, _| Reply { status: 200, after: Duration::from_secs(60), ..Reply::default() })
            .await;
    let mut case = Case::new(&receiver.url()).ending_at(200_000);
    case.drain = Duration::from_millis(100);
    let (result, ledger) = case.run().await;
    assert_eq!((result.unsent_requests, fates(&ledger)), (16, (0, 0, 4)));
    assert_eq!(result.sent_samples, 4 * SAMPLES);
    assert!(result.errors.iter().any(|(text, count)| text.contains("never sent") && *count == 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_generator_that_cannot_keep_its_schedule_says_so() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url()).ending_at(SECOND_US);
    case.source.encode_time = Duration::from_millis(15);
    let (result, _) = case.run().await;
    assert!(result.headroom.bottleneck.is_some(), "{:?}", result.headroom);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_generator_is_no_result() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url()).ending_at(60 * SECOND_US);
    case.source.panics_at = Some(5);
    let (job, _) = case.job();
    let begun = Instant::now();
    let outcome = drive(job, &Stop::default(), &|_| {}).await;
    assert!(matches!(outcome, Err(RunError::Crashed)));
    assert!(begun.elapsed() < Duration::from_secs(10), "and it is told soon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_schedule_is_no_result_either() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url()).ending_at(60 * SECOND_US);
    case.source.never_due = Some(5);
    let (job, _) = case.job();
    let begun = Instant::now();
    let outcome = drive(job, &Stop::default(), &|_| {}).await;
    assert!(matches!(outcome, Err(RunError::Crashed)));
    assert!(begun.elapsed() < Duration::from_secs(10), "and it is told soon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_stopped_gives_a_valid_part() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let stop = Stop::default();
    let begun = Instant::now();
    let (job, ledger) = Case::new(&receiver.url()).ending_at(60 * SECOND_US).job();
    let when_a_second_is_over = |progress: &Progress| {
        if progress.elapsed >= Duration::from_secs(1) {
            stop.request();
        }
    };
    let result = drive(job, &stop, &when_a_second_is_over).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(result.interrupted && (1.0..5.0).contains(&result.duration_s), "{} s", result.duration_s);
    assert_eq!(result.acknowledged_samples, result.sent_samples);
    assert_eq!(fates(&ledger).0 as u64 * SAMPLES, result.acknowledged_samples);
    assert!((500.0..1100.0).contains(&result.achieved_rate), "{}", result.achieved_rate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_remote_write_2_that_wrote_less_has_lost_something() {
    let receiver = Receiver::start(|_, seen| {
        let written = if seen.request == 3 { SAMPLES - 1 } else { SAMPLES };
        let headers = vec![("x-prometheus-remote-write-samples-written", written.to_string())];
        Reply { status: 204, headers, ..Reply::default() }
    })
    .await;
    let mut case = Case::new(&receiver.url()).ending_at(100_000);
    case.plan.protocol = Protocol::RemoteWrite2;
    let (result, ledger) = case.run().await;
    assert_eq!(fates(&ledger), (9, 0, 1));
    assert_eq!(ledger.get(3), Fate::Unknown);
    assert!(result.errors[0].0.contains("9/10"), "{:?}", result.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_with_prior_knowledge() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut case = Case::new(&receiver.url()).ending_at(200_000);
    case.endpoint.http2 = true;
    case.plan.links = 1;
    let (result, _) = case.run().await;
    assert_eq!((result.acknowledged_samples, result.errors.len()), (20 * SAMPLES, 0), "{:?}", result.errors);
    assert!(receiver.seen().iter().all(|seen| seen.version == Version::HTTP_2));
}

/// An authority, a certificate of the server, and one of a client; PEM files in a directory.
struct Certificates {
    directory: tempfile::TempDir,
    server: (CertificateDer<'static>, PrivateKeyDer<'static>),
    roots: Arc<RootCertStore>,
}

impl Certificates {
    fn make() -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            (certificate, key)
        };
        let (server, server_key) = signed("receiver.test");
        let (client, client_key) = signed("sender.test");
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("ca.pem", authority.pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        Certificates { directory, server: (server.der().clone(), key), roots: Arc::new(roots) }
    }

    fn server_config(&self, asks_client: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_client {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = (self.server.0.clone(), self.server.1.clone_key());
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    async fn case(&self, asks_client: bool) -> (Receiver, Case) {
        let config = self.server_config(asks_client);
        let receiver = Receiver::start_tls(Some(config), |_, _| Reply::status(200)).await;
        let mut case = Case::new(&format!("https://{}/api/v1/receive", receiver.address)).ending_at(100_000);
        case.endpoint.access.tls.ca_file = Some(self.directory.path().join("ca.pem"));
        case.endpoint.access.tls.server_name = Some("receiver.test".to_owned());
        (receiver, case)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_either_version_of_http() {
    let certificates = Certificates::make();
    for (is_http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let (receiver, mut case) = certificates.case(false).await;
        case.endpoint.http2 = is_http2;
        let (result, _) = case.run().await;
        assert_eq!((result.acknowledged_samples, result.errors.len()), (100, 0), "{:?}", result.errors);
        assert!(receiver.seen().iter().all(|seen| seen.version == version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_or_authority_is_not_accepted_unless_told_to() {
    let certificates = Certificates::make();
    let (_receiver, mut case) = certificates.case(false).await;
    case.endpoint.access.tls.server_name = Some("other.test".to_owned());
    let (job, _) = case.job();
    let error = drive(job, &Stop::default(), &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("TLS: "), "{error}");
    let (_receiver, mut case) = certificates.case(false).await;
    case.endpoint.access.tls.ca_file = None;
    case.endpoint.access.tls.insecure_skip_verify = true;
    assert_eq!(case.run().await.0.acknowledged_samples, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_a_certificate_gets_it() {
    let certificates = Certificates::make();
    let (_receiver, mut case) = certificates.case(true).await;
    case.endpoint.access.tls.cert_file = Some(certificates.directory.path().join("client.pem"));
    case.endpoint.access.tls.key_file = Some(certificates.directory.path().join("client.key"));
    let (result, _) = case.run().await;
    assert_eq!((result.acknowledged_samples, result.errors.len()), (100, 0), "{:?}", result.errors);
    let (_receiver, case) = certificates.case(true).await;
    let (job, _) = case.job();
    let outcome = drive(job, &Stop::default(), &|_| {}).await;
    // With TLS 1.3 the client learns only from the first answer that it was not accepted.
    assert!(outcome.is_err() || outcome.is_ok_and(|result| result.acknowledged_samples == 0));
}
