//! `promtool query` against annulus.

use std::process::Command;

use super::super::support::server::Server;
use super::super::support::write::series_of;
use super::super::support::{leave_out, now_ms};
use super::is_installed;

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").arg("query").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn promtool_reads_every_answer() {
    if !is_installed("promtool") {
        return leave_out("promtool query", "promtool is not installed");
    }
    let server = Server::start();
    let now_ms = now_ms();
    let of = |job: &str, value: f64| series_of(&[("__name__", "jobs"), ("job", job)], &[(now_ms, value)]);
    server.sender().store(&[of("a", 1.5), of("b\"c", f64::INFINITY)]);
    let url = format!("http://{}", server.addresses.query);

    let instant = promtool(&["instant", &url, "jobs * 2"]);
    assert!(instant.contains("job=\"a\"") && instant.contains("=> 3 @["), "{instant}");
    assert!(instant.contains("=> +Inf @["), "{instant}");
    assert!(promtool(&["instant", &url, "vector(1) + NaN"]).contains("=> NaN @["));
    assert!(promtool(&["instant", &url, "1"]).contains("scalar: 1 @["));

    let seconds = (now_ms / 1000).to_string();
    let end = (now_ms / 1000 + 60).to_string();
    let arguments =
        ["range", "--start", &seconds, "--end", &end, "--step", "15s", &url, "sum(jobs{job=\"a\"})"];
    let range = promtool(&arguments);
    assert!(range.matches("1.5 @[").count() >= 4, "{range}");

    let series = promtool(&["series", "--match", "jobs", "--match", "{job=\"a\"}", &url]);
    assert!(series.lines().count() == 2 && series.contains("job=\"a\""), "{series}");
    assert_eq!(promtool(&["labels", &url, "job"]), "a\nb\"c\n");

    let wrong = Command::new("promtool").args(["query", "instant", &url, "sum("]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("bad_data"));
}
