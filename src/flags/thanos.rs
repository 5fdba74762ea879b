//! Flags of Thanos that this version does not act on: those of Receive, and those of other components that a
//! configuration for one process carries along.

/// What follows from not acting on a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing: annulus has no such part, or always does it.
    None,
    /// Blocks are not compacted, and the bucket is not read.
    Storage,
    /// No node forwards to another.
    Replication,
    /// Limits on what is kept and read.
    Limits,
    /// The flag asks for encryption or authentication. To serve without it is not a smaller service but another one,
    /// so a value is refused.
    Security,
    /// Traces and request logs.
    Observability,
}

/// A flag of Thanos that has no effect here.
#[derive(Debug)]
pub struct Inert {
    name: &'static str,
    /// `--flag` and `--no-flag` rather than `--flag=value`.
    pub is_switch: bool,
    effect: Effect,
}

const fn value(name: &'static str, effect: Effect) -> Inert {
    Inert { name, is_switch: false, effect }
}

const fn switch(name: &'static str, effect: Effect) -> Inert {
    Inert { name, is_switch: true, effect }
}

static INERT: &[Inert] = &[
    switch("receive", Effect::None),
    switch("writer.intern", Effect::None),
    switch("enable-auto-gomemlimit", Effect::None),
    value("auto-gomemlimit.ratio", Effect::None),
    value("enable-feature", Effect::None),
    value("hash-func", Effect::None),
    value("matcher-cache-size", Effect::None),
    value("shipper.upload-concurrency", Effect::None),
    switch("shipper.allow-out-of-order-uploads", Effect::None),
    switch("shipper.skip-corrupted-blocks", Effect::None),
    value("tsdb.max-block-duration", Effect::None),
    value("tsdb.out-of-order.cap-max", Effect::Limits),
    switch("tsdb.wal-compression", Effect::None),
    switch("tsdb.no-lockfile", Effect::None),
    switch("tsdb.allow-overlapping-blocks", Effect::None),
    switch("tsdb.enable-native-histograms", Effect::None),
    value("tsdb.write-queue-size", Effect::None),
    switch("tsdb.memory-snapshot-on-shutdown", Effect::None),
    value("tsdb.head.expanded-postings-cache-size", Effect::None),
    value("tsdb.block.expanded-postings-cache-size", Effect::None),
    value("store.limits.request-series", Effect::Limits),
    value("store.limits.request-samples", Effect::Limits),
    value("receive.hashrings-algorithm", Effect::Replication),
    value("receive.hashrings-file-refresh-interval", Effect::Replication),
    value("receive.replication-protocol", Effect::Replication),
    value("receive.capnproto-address", Effect::Replication),
    value("receive.grpc-compression", Effect::Replication),
    value("receive.grpc-service-config", Effect::Replication),
    value("receive.replica-header", Effect::Replication),
    value("receive.forward.async-workers", Effect::Replication),
    value("receive-forward-timeout", Effect::Replication),
    value("receive-forward-max-backoff", Effect::Replication),
    value("receive.lazy-retrieval-max-buffered-responses", Effect::None),
    value("receive.tenant-certificate-field", Effect::Security),
    value("remote-write.server-tls-cert", Effect::Security),
    value("remote-write.server-tls-key", Effect::Security),
    value("remote-write.server-tls-client-ca", Effect::Security),
    value("remote-write.server-tls-min-version", Effect::None),
    value("remote-write.server-tls-ciphers", Effect::None),
    value("remote-write.server-tls-curves", Effect::None),
    value("remote-write.client-tls-cert", Effect::Replication),
    value("remote-write.client-tls-key", Effect::Replication),
    value("remote-write.client-tls-ca", Effect::Replication),
    switch("remote-write.client-tls-secure", Effect::Replication),
    switch("remote-write.client-tls-skip-verify", Effect::Replication),
    value("remote-write.client-server-name", Effect::Replication),
    value("remote-write.client-tls-min-version", Effect::Replication),
    value("http.config", Effect::Security),
    value("grpc-server-tls-cert", Effect::Security),
    value("grpc-server-tls-key", Effect::Security),
    value("grpc-server-tls-client-ca", Effect::Security),
    value("grpc-server-tls-min-version", Effect::None),
    value("grpc-server-tls-ciphers", Effect::None),
    value("grpc-server-tls-curves", Effect::None),
    value("grpc-server-max-connection-age", Effect::None),
    value("grpc-grace-period", Effect::None),
    value("tracing.config", Effect::Observability),
    value("tracing.config-file", Effect::Observability),
    value("request.logging-config", Effect::Observability),
    value("request.logging-config-file", Effect::Observability),
    // Thanos Query
    value("query.max-concurrent-select", Effect::None),
    switch("query.auto-downsampling", Effect::Storage),
    value("query.metadata.default-time-range", Effect::None),
    value("query.promql-engine", Effect::None),
    value("query.mode", Effect::None),
    value("query.tenant-header", Effect::None),
    value("query.default-tenant-id", Effect::None),
    value("query.tenant-label-name", Effect::None),
    value("deduplication.func", Effect::None),
    value("endpoint", Effect::Replication),
    value("store", Effect::Replication),
    value("store.response-timeout", Effect::None),
    value("store.unhealthy-timeout", Effect::None),
    value("web.route-prefix", Effect::None),
    value("web.external-prefix", Effect::None),
    switch("web.disable-cors", Effect::None),
    value("endpoint-strict", Effect::Replication),
    value("endpoint-group", Effect::Replication),
    value("endpoint-group-strict", Effect::Replication),
    value("endpoint.sd-config", Effect::Replication),
    value("endpoint.sd-config-file", Effect::Replication),
    value("store-strict", Effect::Replication),
    value("store.sd-files", Effect::Replication),
    value("store.sd-interval", Effect::Replication),
    value("store.sd-dns-interval", Effect::Replication),
    value("rule", Effect::Replication),
    value("metadata", Effect::Replication),
    value("exemplar", Effect::Replication),
    value("target", Effect::Replication),
    // Thanos Compact
    value("retention.resolution-raw", Effect::Storage),
    value("retention.resolution-5m", Effect::Storage),
    value("retention.resolution-1h", Effect::Storage),
    switch("wait", Effect::Storage),
    value("wait-interval", Effect::Storage),
    value("consistency-delay", Effect::Storage),
    value("delete-delay", Effect::Storage),
    value("compact.concurrency", Effect::Storage),
    value("compact.cleanup-interval", Effect::Storage),
    value("downsample.concurrency", Effect::Storage),
    switch("downsampling.disable", Effect::Storage),
    value("deduplication.replica-label", Effect::Storage),
    switch("debug.halt-on-error", Effect::Storage),
    switch("debug.accept-malformed-index", Effect::Storage),
    value("debug.max-compaction-level", Effect::Storage),
];

impl Inert {
    /// The warning for this flag, if it has this value; an error where going on would be wrong.
    pub fn accept(&self, value: &str) -> Result<Option<String>, String> {
        let name = self.name;
        if value.is_empty() {
            return Ok(None); // Charts pass empty values for what is not configured.
        }
        let consequence = match self.effect {
            Effect::None => "",
            Effect::Storage => ": blocks are uploaded, but neither compacted nor read from the bucket",
            Effect::Replication => ": this node neither forwards nor asks other nodes",
            Effect::Limits => ": what it would refuse or change is stored as sent",
            Effect::Observability => ": there are no traces and no request logs",
            Effect::Security => {
                return Err(format!(
                    "--{name} asks for TLS or authentication, which this version does not have: put a proxy that \
                     has it in front of annulus and leave the flag out"
                ));
            }
        };
        Ok(Some(format!("--{name} has no effect in this version{consequence}")))
    }
}

/// The flag of that name.
pub fn find(name: &str) -> Option<&'static Inert> {
    INERT.iter().find(|inert| inert.name == name)
}

/// All names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    INERT.iter().map(|inert| inert.name)
}
