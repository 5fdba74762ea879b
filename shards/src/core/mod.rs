//! One shard: the executor's loop that ties edge, mesh, head and WAL together; and the node that all shards make.

mod apply;
mod apply_extras;
mod apply_histograms;
mod batch;
mod budget;
mod checkpoint;
mod chunks;
mod cut;
mod data_dir;
mod dispatch;
mod extras;
mod handle;
mod node;
mod outcome;
mod read;
mod recover;
mod run;
mod shard;
mod state;
mod stats;
mod survey;

pub use batch::{Gather, WriteBatch, split};
pub use budget::ReadBudget;
pub use cut::CutError;
pub use data_dir::{DataDir, DataDirError, SHARDS_MAX, check_direct_io};
pub use dispatch::{Dispatcher, Held, Keyed, Origin};
pub(crate) use handle::readiness;
pub use handle::{
    FamilyMetadata, HeadChunk, HeadExemplars, HeadSeries, ReadError, ReadRequest, Readiness, SeriesPages,
    ShardHandle, TenantTexts, load_chunks,
};
pub use node::{IngestRules, Node, NodeConfig, RING_BYTES_MIN, StartError};
pub use outcome::{Failure, Outcome, Reason, Refusal};
pub use state::{ShardState, SharedState};
pub use stats::{Count, HeadStats, StatsGather, StatsScope};
pub use survey::{
    CheckpointContent, CheckpointSurvey, ChunkFileSurvey, ShardSurvey, SurveyError, TenantContent,
    survey_chunks, survey_content, survey_ring, survey_shard, survey_superblocks,
};

/// What the simulation of a whole shard drives.
#[cfg(test)]
pub(crate) mod parts {
    pub use super::checkpoint::Checkpointer;
    pub use super::chunks::ChunkWriter;
    pub use super::cut::Sweeper;
    pub use super::read::{Page, ReadJob, run as run_read};
    pub use super::recover::{RecoverError, Recovered, Report, recover_files};
    pub use super::run::{Reads, RunningRead, close, forget_tenants};
    pub use super::shard::{HeadBudget, Shard, ShardPlace};
}
