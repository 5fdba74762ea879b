//! Series with a million labels.

use super::super::support::now_ms;
use super::super::support::query::Matrix;
use super::super::support::server::Server;
use super::super::support::write::series;
use super::content::Protocol;
use super::label_sets::{send, write_request};
use super::message::{double, fixed, nested, text};
use super::requests::attribute;

/// Labels of the series.
const LABELS: usize = 1_000_000;

/// The bodies have some 20 MB, which are copied once or twice while they are read.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 160 << 20;

fn names() -> Vec<String> {
    (0..LABELS).map(|number| format!("l{number:07}")).collect()
}

#[test]
fn a_series_with_a_million_labels_is_refused_alone() {
    let server = Server::start();
    let now = now_ms();
    let before = server.process.resident_bytes();
    let names = names();
    let pairs: Vec<(&[u8], &[u8])> = [(&b"__name__"[..], &b"m"[..])]
        .into_iter()
        .chain(names.iter().map(|name| (name.as_bytes(), &b"1"[..])))
        .collect();
    for (protocol, refused) in [(Protocol::First, 409), (Protocol::Second, 400)] {
        let mut fields = write_request(protocol, &pairs, (now, 1.0));
        // A series that is right, in the same request.
        if protocol == Protocol::First {
            fields.extend(write_request(protocol, &[(b"__name__", b"good"), (b"id", b"1")], (now, 1.0)));
        }
        let (status, answer) = send(&server, protocol, &fields);
        assert!([refused, 413].contains(&status), "{protocol:?}: {status} {answer}");
        server.sender().store(&[series("meanwhile", &format!("{protocol:?}"), &[(now, 1.0)])]);
    }
    let mut point: Vec<_> = names.iter().map(|name| attribute(7, name, "1")).collect();
    point.extend([fixed(3, now as u64 * 1_000_000), double(4, 1.0)]);
    let metric = vec![text(1, "m"), nested(5, vec![nested(1, point)])];
    let fields = [nested(1, vec![nested(2, vec![nested(2, metric)])])];
    let (status, answer) = send(&server, Protocol::Otlp, &fields);
    // A point that is refused for good is a partial success.
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("too many or too long"), "{answer}");
    let resource = nested(1, names.iter().map(|name| attribute(1, name, "1")).collect());
    let point = vec![fixed(3, now as u64 * 1_000_000), double(4, 1.0)];
    let metric = vec![text(1, "r"), nested(5, vec![nested(1, point)])];
    let fields = [nested(1, vec![resource, nested(2, vec![nested(2, metric)])])];
    let (status, answer) = send(&server, Protocol::Otlp, &fields);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("too many or too long"), "{answer}");

    let growth = server.process.resident_bytes().saturating_sub(before);
    eprintln!("{} MiB more than before", growth >> 20);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
    assert_eq!(server.query().instant("m", now), Matrix::new());
    assert_eq!(server.query().value("good", now), Some(1.0));
    assert_eq!(server.query().value("count(meanwhile)", now), Some(2.0));
}
