//! annulus-benches

fn main() {}
