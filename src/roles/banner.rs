//! What the operator sees first: where the process listens, and what to paste into prometheus.yml.

use std::fmt::Write;
use std::net::SocketAddr;

/// The addresses of a running process.
pub struct Banner<'a> {
    /// Where remote write arrives.
    pub write: SocketAddr,
    /// All addresses of the ingest plane.
    pub ingest: &'a [SocketAddr],
    /// The query API, if there is one.
    pub query: Option<SocketAddr>,
    /// This machine's name.
    pub host: &'a str,
}

impl Banner<'_> {
    /// The text, for standard output.
    pub fn text(&self) -> String {
        let write = self.authority(self.write);
        let mut text = format!("annulus {} listens:\n", env!("CARGO_PKG_VERSION"));
        let mut line = |what: &str, url: String| {
            let _ = writeln!(text, "  {what:<14} {url}");
        };
        line("remote write", format!("http://{write}/api/v1/receive"));
        if let Some(query) = self.query {
            line(
                "query API",
                format!("http://{} (Grafana: a Prometheus data source)", self.authority(query)),
            );
        }
        line("metrics", format!("http://{write}/metrics"));
        for other in self.ingest.iter().filter(|address| **address != self.write) {
            line("also", format!("http://{}", self.authority(*other)));
        }
        let _ = write!(
            text,
            "\nIn each prometheus.yml (with a name for this machine that the sender can reach):\n\n\
             remote_write:\n  - url: http://{write}/api/v1/receive\n\n"
        );
        text
    }

    /// Host and port for a URL; the machine's name where the process listens on all addresses.
    fn authority(&self, address: SocketAddr) -> String {
        authority(address, self.host)
    }
}

/// Host and port as another machine may write them: `host` where the process listens on all addresses.
pub fn authority(address: SocketAddr, host: &str) -> String {
    if address.ip().is_unspecified() { format!("{host}:{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_can_be_pasted() {
        let ingest: Vec<SocketAddr> = ["0.0.0.0:10901", "[::1]:10902"].map(|a| a.parse().unwrap()).to_vec();
        let banner = Banner {
            write: ingest[0],
            ingest: &ingest,
            query: "127.0.0.1:9090".parse().ok(),
            host: "central",
        };
        let text = banner.text();
        for line in [
            "  remote write   http://central:10901/api/v1/receive\n",
            "  query API      http://127.0.0.1:9090 ",
            "  also           http://[::1]:10902\n",
            "remote_write:\n  - url: http://central:10901/api/v1/receive\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
