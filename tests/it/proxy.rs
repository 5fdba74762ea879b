//! HAProxy in front, as the architecture has it: health checks and writes on the same port.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::http::get;
use super::support::process::Process;
use super::support::server::{Addresses, Server};
use super::support::write::{Sender, series};
use super::support::{free_address, leave_out, now_ms, wait_for};

fn configuration(proxy: SocketAddr, server: &Addresses) -> String {
    let (first, second) = (server.write, server.grpc);
    format!(
        r#"
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend remote_write
    bind {proxy}
    default_backend receivers
backend receivers
    balance roundrobin
    option httpchk
    http-check send meth GET uri /-/ready
    http-check expect status 200
    default-server check inter 100ms fall 1 rise 1
    server receive-0 {first}
    server receive-1 {second}
"#
    )
}

#[test]
fn haproxy_passes_writes_on_and_follows_the_health_checks() {
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
        return leave_out(
            "haproxy_passes_writes_on_and_follows_the_health_checks",
            "haproxy is not installed",
        );
    }
    let mut server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let proxy = free_address();
    let config = home.path().join("haproxy.cfg");
    std::fs::write(&config, configuration(proxy, &server.addresses)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&config);
    let _haproxy = Process::spawn("haproxy", command, home.path());
    let passes_on = || get(proxy, "/-/healthy").is_ok_and(|response| response.status == 200).then_some(());
    wait_for("haproxy sees the receivers", Duration::from_secs(20), passes_on);

    let now = now_ms();
    for round in 0..10 {
        Sender::new(proxy).store(&[series("m", "1", &[(now + round, 1.0)])]);
    }
    server.process.kill();
    let mut sender = Sender::new(proxy);
    let next = [series("m", "1", &[(now + 10, 1.0)])];
    // What haproxy answers for a receiver that is gone makes a sender try again.
    assert!(sender.send(&next).unwrap().status >= 500);
    server.restart();
    wait_for("haproxy takes the receiver back", Duration::from_secs(20), || {
        (sender.send(&next).unwrap().status == 200).then_some(())
    });
    assert_eq!(server.query().value("count_over_time(m[1m])", now + 1000), Some(11.0));
}
