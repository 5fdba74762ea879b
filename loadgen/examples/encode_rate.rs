//! How fast the stream is made: encodes rounds on one thread and prints samples per second of its CPU time, for each
//! profile and protocol. Run it with `cargo run --release -p annulus-loadgen --example encode_rate`.

use std::hint::black_box;
use std::time::Duration;

use annulus_loadgen::stream::{BUILT_IN, Protocol, Stream, StreamConfig};
use rustix::time::{ClockId, clock_gettime};

const MEASURED: Duration = Duration::from_secs(2);

/// CPU time of this thread: other load on the machine does not disturb it much.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "profile               protocol      first round/s  later rounds/s  body B  memory B (a series)"
    );
    let mixed = "series = 100000\nlate_share = 0.01\nduplicate_share = 0.01\nchurn_per_hour = 0.1\n";
    let profiles = BUILT_IN.map(|built_in| (built_in.name, built_in.name));
    for (name, profile) in profiles.into_iter().chain([("late and duplicate", mixed)]) {
        for protocol in [Protocol::RemoteWrite1, Protocol::RemoteWrite2] {
            let stream = Stream::new(&StreamConfig {
                profile: profile.to_owned(),
                profile_changes: Vec::new(),
                seed: 1,
                series: Some(100_000),
                samples_per_request: 2000,
                begin_ms: 1_770_000_000_000,
                interval_ms: 15_000,
            })?;
            let (blocks, series) = (stream.requests_per_round(), stream.samples_per_round() as f64);
            let start = cpu_time();
            (0..blocks).for_each(|request| drop(black_box(stream.encode(request, protocol))));
            let first_s = (cpu_time() - start).as_secs_f64();
            let (start, mut request, mut body_bytes) = (cpu_time(), blocks, 0);
            while cpu_time() - start < MEASURED {
                body_bytes += stream.encode(request, protocol).body.len();
                request += 1;
            }
            let later = (request - blocks) as f64 / blocks as f64 * series;
            println!(
                "{name:<21} {:<13} {:>13.0} {:>15.0} {:>7.1} {:>9.1}",
                format!("{protocol:?}"),
                series / first_s,
                later / (cpu_time() - start).as_secs_f64(),
                body_bytes as f64 / later,
                stream.memory_bytes() as f64 / series,
            );
        }
    }
    Ok(())
}
