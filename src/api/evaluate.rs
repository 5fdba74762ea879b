//! What the API needs of PromQL; a trait, so that tests can stand in for the engine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use annulus_shards::Matcher;

use super::params::Steps;
use crate::promql::ast::{Borders, Expr};
use crate::promql::engine::Engine;
use crate::promql::parser::{self, Features};
use crate::promql::value::{ParseError, QueryAnswer, QueryError, QueryOptions};
use crate::source::Source;

/// The answer to a query, some time later; dropping it cancels the query.
pub type AnswerFuture<'a> = Pin<Box<dyn Future<Output = Result<QueryAnswer, QueryError>> + Send + 'a>>;

/// Parses and evaluates PromQL.
pub trait Evaluate: Send + Sync {
    /// See [`Engine::instant`].
    fn instant<'a>(
        &'a self,
        source: Arc<dyn Source>,
        query: &'a str,
        time_ms: i64,
        options: &'a QueryOptions,
    ) -> AnswerFuture<'a>;

    /// See [`Engine::range`].
    fn range<'a>(
        &'a self,
        source: Arc<dyn Source>,
        query: &'a str,
        steps: Steps,
        options: &'a QueryOptions,
    ) -> AnswerFuture<'a>;

    /// The tree of a query that may use these parts of the language.
    fn parse(&self, query: &str, features: Features) -> Result<Expr, ParseError> {
        parser::parse_with(query, features)
    }

    /// The matchers of a series selector, as `match[]` has it.
    fn selector(&self, text: &str) -> Result<Vec<Matcher>, ParseError>;

    /// The matchers of each selector of a query, in the order in which they stand.
    fn selectors(&self, query: &str) -> Result<Vec<Vec<Matcher>>, ParseError>;
}

impl Evaluate for Engine {
    fn instant<'a>(
        &'a self,
        source: Arc<dyn Source>,
        query: &'a str,
        time_ms: i64,
        options: &'a QueryOptions,
    ) -> AnswerFuture<'a> {
        Box::pin(Engine::instant(self, source, query, time_ms, options))
    }

    fn range<'a>(
        &'a self,
        source: Arc<dyn Source>,
        query: &'a str,
        Steps { start_ms, end_ms, step_ms }: Steps,
        options: &'a QueryOptions,
    ) -> AnswerFuture<'a> {
        Box::pin(Engine::range(self, source, query, start_ms, end_ms, step_ms, options))
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, ParseError> {
        let expr = match parser::parse(text) {
            // Whoever asks for series has words of its own for a selector that selects everything.
            Err(error) if parser::is_empty_selector(&error) => return Ok(Vec::new()),
            parsed => parsed?,
        };
        match expr {
            Expr::Vector(selector)
                if selector.offset.is_none()
                    && selector.at.is_none()
                    && selector.borders == Borders::Inside =>
            {
                Ok(selector.matchers)
            }
            _ => Err(ParseError {
                message: "expected a series selector and nothing else".to_owned(),
                line: 1,
                column: 1,
                span: Default::default(),
            }),
        }
    }

    fn selectors(&self, query: &str) -> Result<Vec<Vec<Matcher>>, ParseError> {
        Ok(parser::parse(query)?.into_selectors().into_iter().map(|selector| selector.matchers).collect())
    }
}
