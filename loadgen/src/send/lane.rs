//! A lane: it carries one request at a time, from its start to its fate.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::dispatch::Start;
use super::link::{Answer, Link};
use super::load::{Mode, Shared};
use super::retry::{Attempt, Next, Retrier};
use crate::ledger::Fate;
use crate::stream::{Counts, Encoded, Protocol};

/// One lane with the connection that it uses, alone or together with others.
pub(super) struct Lane {
    pub shared: Arc<Shared>,
    pub link: Arc<Link>,
    pub inbox: UnboundedReceiver<Start>,
}

impl Lane {
    /// Carries requests until no more can come.
    pub async fn run(mut self) {
        while let Some(start) = self.inbox.recv().await {
            let begun_us = self.shared.clock.now_us();
            let is_sent = self.carry(start, begun_us).await;
            self.shared.finish(start, is_sent.then_some(begun_us));
        }
    }

    /// Carries one request to its fate; `false` if it was too old to be sent.
    async fn carry(&self, start: Start, begun_us: u64) -> bool {
        let Shared { recorder, ledger, source, plan, clock, .. } = &*self.shared;
        let scheduled_us = match plan.mode {
            Mode::Open => source.due_us(start.request),
            Mode::Closed => start.ready_us,
        };
        recorder.start(scheduled_us, start.ready_us, begun_us);
        let request = source.encode(start.request, plan.protocol);
        if self.is_too_old(start) {
            recorder.discard(scheduled_us, request.counts);
            return false;
        }
        let due_us = match plan.mode {
            Mode::Open => scheduled_us,
            // A closed loop has no schedule that the time of encoding could have delayed.
            Mode::Closed => clock.now_us(),
        };
        recorder.send(due_us, request.counts, request.body.len());
        // From here on it may have arrived; whoever stops us finds that in the ledger.
        ledger.set(start.request, Fate::Unknown);
        let fate = self.deliver(start, &request).await;
        ledger.set(start.request, fate);
        recorder.finish(due_us, clock.now_us(), request.counts, fate);
        true
    }

    async fn deliver(&self, start: Start, request: &Encoded) -> Fate {
        let Shared { recorder, plan, clock, .. } = &*self.shared;
        let mut retrier = Retrier::new(plan.retry);
        loop {
            let attempt = match self.link.post(request.body.clone(), retrier.retries()).await {
                Ok(answer) => {
                    let complaint = complaint(&answer, request.counts, plan.protocol);
                    let is_accepted = (200..300).contains(&answer.status);
                    let is_short = is_accepted && complaint.is_some();
                    complaint.into_iter().for_each(|text| recorder.error(text));
                    if is_short {
                        // Accepted, but not all of it: Prometheus would not send it again either.
                        return Fate::Unknown;
                    }
                    Attempt::Answered { status: answer.status, retry_after: answer.retry_after }
                }
                Err(trouble) => {
                    recorder.error(trouble.to_string());
                    Attempt::NoAnswer
                }
            };
            match retrier.next(attempt) {
                Next::Done(fate) => return fate,
                Next::Retry(pause) => {
                    self.shared.hold_resharding(pause);
                    tokio::time::sleep(pause).await;
                    if self.is_too_old(start) {
                        recorder.error("given up: older than the sample age limit".to_owned());
                        return Fate::Unknown;
                    }
                    recorder.retry(clock.now_us());
                }
            }
        }
    }

    /// Whether the samples of a request are older than the sender still sends.
    fn is_too_old(&self, start: Start) -> bool {
        let Shared { source, plan, clock, .. } = &*self.shared;
        plan.age_max_us.is_some_and(|max| clock.now_us().saturating_sub(source.due_us(start.request)) > max)
    }
}

/// What is wrong with an answer, if anything is. Under remote write 2.0 a receiver says what it wrote; one that
/// accepts a request and counts less has lost something, or has taken it for another protocol.
fn complaint(answer: &Answer, sent: Counts, protocol: Protocol) -> Option<String> {
    if !(200..300).contains(&answer.status) {
        let text = if answer.text.is_empty() { String::new() } else { format!(": {}", answer.text) };
        return Some(format!("answered {}{text}", answer.status));
    }
    if protocol == Protocol::RemoteWrite1 {
        return None;
    }
    let Some(written) = answer.written else {
        return Some(format!(
            "answered {} without saying what it wrote: it does not seem to speak remote write 2.0",
            answer.status
        ));
    };
    let is_whole = written.samples >= sent.samples
        && written.histograms >= sent.histograms
        && written.exemplars >= sent.exemplars;
    (!is_whole).then(|| {
        format!(
            "answered {} but wrote less than was sent (samples, histograms, exemplars): {}/{}, {}/{}, {}/{}",
            answer.status,
            written.samples,
            sent.samples,
            written.histograms,
            sent.histograms,
            written.exemplars,
            sent.exemplars
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, written: Option<Counts>) -> Answer {
        Answer { status, retry_after: None, written, text: "why".to_owned() }
    }

    #[test]
    fn a_receiver_of_remote_write_2_must_say_that_it_wrote_everything() {
        let sent = Counts { series: 3, samples: 2, histograms: 1, exemplars: 0 };
        let less = Counts { samples: 1, ..sent };
        let v2 = |written| complaint(&answer(204, written), sent, Protocol::RemoteWrite2);
        assert_eq!(v2(Some(sent)), None);
        assert!(v2(Some(less)).unwrap().contains("1/2, 1/1, 0/0"));
        assert!(v2(None).unwrap().contains("remote write 2.0"));
        assert_eq!(complaint(&answer(200, None), sent, Protocol::RemoteWrite1), None);
    }

    #[test]
    fn a_refusal_is_quoted() {
        let text = complaint(&answer(409, None), Counts::default(), Protocol::RemoteWrite1);
        assert_eq!(text.as_deref(), Some("answered 409: why"));
    }
}
