//! annulus-loadgen

fn main() {}
