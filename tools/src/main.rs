//! annulus-tools

fn main() {}
