//! Where a bucket is found: the host to dial, whether the bucket's name is a part of it, and the region in its name.
//!
//! The rules are those of the client that Thanos uses, so that a file that works there means the same here.

use std::net::IpAddr;

use super::config::{Lookup, S3Config};

/// Signatures name a region; servers that have none accept this one.
pub(super) const REGION_DEFAULT: &str = "us-east-1";

const AWS: &str = "amazonaws.com";
const AWS_CHINA: &str = "amazonaws.com.cn";
const GOOGLE: &str = "storage.googleapis.com";
const ALIYUN: &str = ".aliyuncs.com";

/// The base of URLs, without the bucket.
pub(super) fn base_url(config: &S3Config, region: &str) -> String {
    let scheme = if config.insecure { "http" } else { "https" };
    // Amazon's global host only redirects; the region's own host answers.
    let host = if config.endpoint != format!("s3.{AWS}") {
        config.endpoint.clone()
    } else if config.disable_dualstack {
        format!("s3.{region}.{AWS}")
    } else {
        format!("s3.dualstack.{region}.{AWS}")
    };
    format!("{scheme}://{host}")
}

/// Whether the bucket's name is the first part of the host.
pub(super) fn is_virtual_hosted(config: &S3Config) -> bool {
    match config.lookup {
        Lookup::VirtualHosted => true,
        Lookup::Path => false,
        // A wildcard certificate covers one part of a name only.
        Lookup::Auto if !config.insecure && config.bucket.contains('.') => false,
        Lookup::Auto => {
            let host = host(&config.endpoint);
            is_amazon(host) || host == GOOGLE || host.ends_with(ALIYUN)
        }
    }
}

/// The region that one of Amazon's hosts belongs to, if its name says so.
pub(super) fn region_in_host(endpoint: &str) -> Option<&str> {
    let host = host(endpoint);
    let bare = host.strip_suffix(AWS_CHINA).or_else(|| host.strip_suffix(AWS))?.strip_suffix('.')?;
    let rest = bare.strip_prefix("s3.").or_else(|| bare.strip_prefix("s3-"))?;
    let rest = rest.strip_prefix("fips.").or_else(|| rest.strip_prefix("fips-")).unwrap_or(rest);
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    let is_region = rest.contains('-') && !rest.contains('.') && rest != "external-1";
    is_region.then_some(rest)
}

/// Whether the server runs on this machine, where no proxy leads to.
pub(super) fn is_loopback(endpoint: &str) -> bool {
    let host = host(endpoint).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn is_amazon(host: &str) -> bool {
    let ends_in = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    ends_in(AWS) || ends_in(AWS_CHINA)
}

/// The endpoint without its port.
fn host(endpoint: &str) -> &str {
    match endpoint.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => endpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{Storage, parse};
    use super::*;

    fn config(endpoint: &str, bucket: &str, lines: &str) -> S3Config {
        let yaml = format!("type: S3\nconfig:\n  bucket: {bucket}\n  endpoint: '{endpoint}'\n{lines}");
        match parse(&yaml).unwrap().storage {
            Storage::S3(config) => *config,
            Storage::Filesystem { .. } => panic!("not an S3 bucket"),
        }
    }

    #[test]
    fn only_known_services_have_the_bucket_in_the_host() {
        for (endpoint, bucket, expected) in [
            ("s3.amazonaws.com", "b", true),
            ("s3.eu-west-1.amazonaws.com", "b", true),
            ("s3.cn-north-1.amazonaws.com.cn", "b", true),
            ("storage.googleapis.com", "b", true),
            ("oss-cn-hangzhou.aliyuncs.com", "b", true),
            ("s3.eu-west-1.amazonaws.com", "b.c", false),
            ("notamazonaws.com", "b", false),
            ("minio.monitoring.svc.cluster.local:9000", "b", false),
            ("localhost:9000", "b", false),
            ("10.0.0.7:9000", "b", false),
            ("[::1]:9000", "b", false),
        ] {
            assert_eq!(is_virtual_hosted(&config(endpoint, bucket, "")), expected, "{endpoint} {bucket}");
        }
        assert!(is_virtual_hosted(&config("localhost", "b", "  bucket_lookup_type: virtual-hosted\n")));
        assert!(!is_virtual_hosted(&config("s3.amazonaws.com", "b", "  bucket_lookup_type: path\n")));
    }

    #[test]
    fn regions_are_read_from_amazons_hosts() {
        for (endpoint, expected) in [
            ("s3.amazonaws.com", None),
            ("s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("s3-eu-west-1.amazonaws.com:443", Some("eu-west-1")),
            ("s3.dualstack.us-west-2.amazonaws.com", Some("us-west-2")),
            ("s3-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("s3-external-1.amazonaws.com", None),
            ("minio:9000", None),
        ] {
            assert_eq!(region_in_host(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_recognised() {
        for (endpoint, expected) in [
            ("localhost:9000", true),
            ("127.0.0.1:9000", true),
            ("[::1]:9000", true),
            ("localhost.lan", false),
            ("10.0.0.1:9000", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn amazons_global_host_becomes_the_regions() {
        let url = |lines: &str| base_url(&config("s3.amazonaws.com", "b", lines), "eu-west-1");
        assert_eq!(url(""), "https://s3.dualstack.eu-west-1.amazonaws.com");
        assert_eq!(url("  disable_dualstack: true\n"), "https://s3.eu-west-1.amazonaws.com");
        assert_eq!(base_url(&config("e:9000", "b", "  insecure: true\n"), "x"), "http://e:9000");
    }
}
