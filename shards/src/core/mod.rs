//! One shard: the executor's loop that ties edge, mesh, head and WAL together.

mod batch;
mod data_dir;
mod outcome;

pub use batch::{Gather, WriteBatch, split};
pub use data_dir::{DataDir, DataDirError, SHARDS_MAX, check_direct_io};
pub use outcome::{Failure, Outcome, Reason, Refusal};
