//! What a script runs against.

use std::sync::Arc;

use annulus_shards::Labels;

use super::memory::MemorySource;
use crate::promql::engine::Engine;
use crate::promql::parser::Features;
use crate::promql::value::{QueryAnswer, QueryError, QueryOptions, SampleValue};

/// Samples at a time that scripts assume a query may hold.
const SAMPLES_MAX: u64 = 10_000;

/// A store of samples with an evaluator over it.
pub trait Backend {
    /// Removes all samples.
    fn clear(&mut self);

    /// Adds samples of one series, in order of time.
    fn load(&mut self, labels: &Labels, samples: &[(i64, SampleValue)]);

    /// Evaluates a query at one time.
    fn instant(&self, query: &str, time_ms: i64) -> Result<QueryAnswer, QueryError>;

    /// Evaluates a query at each step from `start_ms` to `end_ms`.
    fn range(&self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64)
    -> Result<QueryAnswer, QueryError>;
}

/// The product's engine over samples in memory.
pub struct EngineBackend {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    options: QueryOptions,
    source: Arc<MemorySource>,
}

impl EngineBackend {
    /// An engine with the settings that scripts assume.
    ///
    /// # Errors
    /// When the system gives no thread or event queue for the runtime.
    pub fn new() -> std::io::Result<EngineBackend> {
        Ok(EngineBackend {
            engine: Engine::new(1),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            options: QueryOptions {
                samples_max: SAMPLES_MAX,
                delayed_name_removal: true,
                features: Features::ALL,
                ..QueryOptions::default()
            },
            source: Arc::default(),
        })
    }
}

impl Backend for EngineBackend {
    fn clear(&mut self) {
        Arc::make_mut(&mut self.source).clear();
    }

    fn load(&mut self, labels: &Labels, samples: &[(i64, SampleValue)]) {
        Arc::make_mut(&mut self.source).add(labels, samples);
    }

    fn instant(&self, query: &str, time_ms: i64) -> Result<QueryAnswer, QueryError> {
        let source = Arc::clone(&self.source);
        self.runtime.block_on(self.engine.instant(source, query, time_ms, &self.options))
    }

    fn range(
        &self,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<QueryAnswer, QueryError> {
        let source = Arc::clone(&self.source);
        let answer = self.engine.range(source, query, start_ms, end_ms, step_ms, &self.options);
        self.runtime.block_on(answer)
    }
}
