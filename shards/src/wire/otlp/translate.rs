//! The walk through a request: resources, their scopes, the metrics of those, the points of each metric.
//!
//! Schema: ExportMetricsServiceRequest {1: repeated ResourceMetrics}; ResourceMetrics {1: Resource, 2: repeated
//! ScopeMetrics}; ScopeMetrics {2: repeated Metric}. Fields may come in any order, so whatever others depend on (a resource,
//! a metric's name) is looked for before they are read.

use super::Settings;
use super::fault::{Fault, OtlpError, PointError};
use super::label_set::LabelSet;
use super::metric::{GAUGE, Metric, Spread};
use super::output::{Output, Translated};
use super::points::time_ms;
use super::resource::Resource;
use super::value::{Attribute, Message};
use crate::labels::METRIC_NAME;
use crate::wire::TenantHasher;
use crate::wire::proto::Reader;

/// What a step counts for beside the bytes that it reads and writes.
const STEP_BYTES: usize = 16;

/// Translates one request, step by step.
pub struct Translator<'a> {
    settings: &'a Settings,
    request: Reader<'a>,
    /// What is open, outermost first.
    resource: Option<OpenResource<'a>>,
    scope: Option<Reader<'a>>,
    metric: Option<Metric<'a>>,
    /// The rest of a point that is many series.
    spread: Option<Spread<'a>>,
    out: Output<'a>,
}

/// A ResourceMetrics.
pub struct OpenResource<'a> {
    /// Looks for the resource, until it is at the end.
    search: Option<Reader<'a>>,
    fields: Reader<'a>,
    message: Message<'a>,
    /// What points of it become part of, or why they cannot.
    pub resource: Result<Resource<'a>, PointError>,
    /// The time of the newest point, in nanoseconds; zero before the first one.
    pub newest_ns: u64,
}

impl<'a> Translator<'a> {
    /// Translates `request` into `body`, which is empty and will not grow over `bytes_max`.
    pub fn new(
        request: &'a [u8],
        settings: &'a Settings,
        hasher: &'a TenantHasher,
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Translator<'a> {
        Translator {
            settings,
            request: Reader::new(request, 0),
            resource: None,
            scope: None,
            metric: None,
            spread: None,
            out: Output::new(body, hasher, bytes_max),
        }
    }

    /// Goes on until about `bytes` bytes are read or written. Answers whether the end was reached.
    ///
    /// # Errors
    /// When nothing of the request can be taken.
    pub fn run(&mut self, bytes: usize) -> Result<bool, OtlpError> {
        let mut done = 0;
        while done < bytes {
            let body_bytes = self.out.translated.body.len();
            let Some(read_bytes) = self.step()? else { return Ok(true) };
            done += STEP_BYTES + read_bytes + self.out.translated.body.len() - body_bytes;
        }
        Ok(false)
    }

    /// The memory that the result takes so far.
    pub fn memory_bytes(&self) -> usize {
        self.out.translated.memory_bytes()
    }

    /// The result, once the end was reached.
    pub fn finish(self) -> Translated {
        self.out.translated
    }

    /// Does one thing in the innermost message that is open, and answers how many bytes it read; `None` at the end.
    fn step(&mut self) -> Result<Option<usize>, OtlpError> {
        if let Some(spread) = &mut self.spread {
            if spread.step(&mut self.out)? {
                self.spread = None;
            }
            return Ok(Some(0));
        }
        if let Some((metric, resource)) = self.metric.as_mut().zip(self.resource.as_mut()) {
            return match metric.step(resource, &mut self.spread, &mut self.out)? {
                Some(read_bytes) => Ok(Some(read_bytes)),
                None => {
                    self.metric = None;
                    Ok(Some(0))
                }
            };
        }
        if let Some(scope) = &mut self.scope {
            match scope.field()? {
                Some(field) if field.number == 2 => self.metric = Some(Metric::open(Message::of(&field)?)),
                Some(_) => {}
                None => self.scope = None,
            }
            return Ok(Some(0));
        }
        if self.resource.is_some() {
            return self.step_resource().map(Some);
        }
        match self.request.field()? {
            Some(field) if field.number == 1 => {
                self.resource = Some(OpenResource::open(Message::of(&field)?));
                Ok(Some(0))
            }
            Some(_) => Ok(Some(0)),
            None => Ok(None),
        }
    }

    fn step_resource(&mut self) -> Result<usize, OtlpError> {
        let Some(open) = &mut self.resource else { return Ok(0) };
        if let Some(search) = &mut open.search {
            return match search.field()? {
                Some(field) if field.number == 1 => {
                    open.message = Message::of(&field)?;
                    Ok(0)
                }
                Some(_) => Ok(0),
                None => {
                    open.search = None;
                    open.resource = match Resource::read(open.message, self.settings) {
                        Ok(resource) => Ok(resource),
                        Err(Fault::Point(error)) => Err(error),
                        Err(Fault::Request(error)) => return Err(error),
                    };
                    Ok(open.message.bytes.len())
                }
            };
        }
        match open.fields.field()? {
            Some(field) if field.number == 2 => self.scope = Some(Message::of(&field)?.fields()),
            Some(_) => {}
            None => {
                if self.settings.target_info {
                    put_target_info(open, &mut self.out)?;
                }
                self.resource = None;
            }
        }
        Ok(0)
    }
}

impl<'a> OpenResource<'a> {
    fn open(message: Message<'a>) -> OpenResource<'a> {
        OpenResource {
            search: Some(message.fields()),
            fields: message.fields(),
            message: Message::default(),
            resource: Ok(Resource::default()),
            newest_ns: 0,
        }
    }

    /// The labels of a point of it.
    pub fn labels_of(&self, attributes: &[Attribute<'a>]) -> Result<LabelSet<'a>, Fault> {
        match &self.resource {
            Ok(resource) => resource.labels_of(attributes),
            Err(error) => Err(error.clone().into()),
        }
    }
}

/// One sample at the time of the newest point, as Thanos Receive writes it.
fn put_target_info(open: &OpenResource<'_>, out: &mut Output<'_>) -> Result<(), OtlpError> {
    const NAME: &str = "target_info";
    let Ok(resource) = &open.resource else { return Ok(()) };
    let Some(labels) = resource.target_info().filter(|_| open.newest_ns > 0) else { return Ok(()) };
    let series = out.series(&labels, &[(METRIC_NAME, NAME)])?;
    out.sample(series, time_ms(open.newest_ns), 1.0);
    out.metadata(GAUGE, NAME, "Target metadata", "")
}

#[cfg(test)]
mod tests {
    use super::super::tests::wide_histogram;
    use super::*;
    use crate::wire::SeriesHasher;

    #[test]
    fn a_step_writes_about_as_much_as_it_was_told() {
        let (request, settings) = (wide_histogram(5000, 50), Settings::default());
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let mut translator = Translator::new(&request, &settings, &hasher, Vec::new(), 1 << 20);
        let mut written = 0;
        while !translator.run(10_000).unwrap() {
            let body_bytes = translator.out.translated.body.len();
            assert!(body_bytes - written < 11_000, "{body_bytes} after {written}");
            written = body_bytes;
        }
        assert!(written > 300_000, "{written}");
    }
}
