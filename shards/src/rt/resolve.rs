//! Names of other nodes to addresses, on a thread of its own: a look-up waits for the network as long as it likes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::executor::monotonic_now;

/// Names that may wait to be looked up, of all shards.
const WAITING_MAX: usize = 4096;

/// How long an answer holds.
const KEPT: Duration = Duration::from_secs(30);

/// How long a failure holds: all shards ask at once when a node goes.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// Names whose answers are kept.
const NAMES_MAX: usize = 4096;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nobody knows it, or it is not a host and a port.
    #[error("{name} cannot be resolved: {reason}")]
    Failed {
        /// The name with its port.
        name: String,
        /// What the system says.
        reason: String,
    },
    /// Too many names wait already.
    #[error("{WAITING_MAX} names wait to be resolved")]
    Busy,
    /// The thread has ended.
    #[error("names are not resolved any more")]
    Stopped,
}

type Answer = Result<Arc<[SocketAddr]>, ResolveError>;

struct Question {
    name: String,
    answer: flume::Sender<Answer>,
}

/// Asks the thread that looks names up, from any executor. The thread ends with the last of these.
#[derive(Clone)]
pub struct Resolver {
    questions: flume::Sender<Question>,
}

impl Resolver {
    /// Starts the thread; one is enough for a node.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start() -> io::Result<Resolver> {
        let (questions, asked) = flume::bounded::<Question>(WAITING_MAX);
        std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let mut cache = Cache::default();
            for question in asked {
                // Whoever has stopped waiting is not served: a name that takes long would hold up the others.
                if !question.answer.is_disconnected() {
                    let answer = cache.answer(&question.name, monotonic_now(), look_up);
                    let _ = question.answer.try_send(answer);
                }
            }
        })?;
        Ok(Resolver { questions })
    }

    /// The addresses of a host and port, at least one. Addresses in numbers are not asked for. The caller sets the time limit.
    ///
    /// # Errors
    /// When there is none.
    pub async fn resolve(&self, name: &str) -> Result<Arc<[SocketAddr]>, ResolveError> {
        if let Ok(address) = name.parse::<SocketAddr>() {
            return Ok(Arc::new([address]));
        }
        let (answer, answered) = flume::bounded(1);
        let question = Question { name: name.to_owned(), answer };
        match self.questions.try_send(question) {
            Ok(()) => answered.recv_async().await.map_err(|_| ResolveError::Stopped)?,
            Err(flume::TrySendError::Full(_)) => Err(ResolveError::Busy),
            Err(flume::TrySendError::Disconnected(_)) => Err(ResolveError::Stopped),
        }
    }
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(name.to_socket_addrs()?.collect())
}

/// Answers that hold for a while.
#[derive(Default)]
struct Cache {
    answers: HashMap<String, (Instant, Answer)>,
}

impl Cache {
    fn answer(
        &mut self,
        name: &str,
        now: Instant,
        look_up: impl FnOnce(&str) -> io::Result<Vec<SocketAddr>>,
    ) -> Answer {
        if let Some((until, answer)) = self.answers.get(name)
            && now < *until
        {
            return answer.clone();
        }
        let failed = |reason: String| Err(ResolveError::Failed { name: name.to_owned(), reason });
        let (answer, kept) = match look_up(name) {
            Ok(addresses) if addresses.is_empty() => (failed("it has no address".to_owned()), FAILURE_KEPT),
            Ok(addresses) => (Ok(addresses.into()), KEPT),
            Err(error) => (failed(error.to_string()), FAILURE_KEPT),
        };
        if self.answers.len() >= NAMES_MAX {
            self.answers.retain(|_, (until, _)| now < *until);
        }
        if self.answers.len() < NAMES_MAX || self.answers.contains_key(name) {
            self.answers.insert(name.to_owned(), (now + kept, answer.clone()));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 10901))
    }

    #[test]
    fn an_answer_holds_for_a_while_and_a_failure_for_less() {
        let (mut cache, now) = (Cache::default(), monotonic_now());
        let never = |_: &str| -> io::Result<Vec<SocketAddr>> { panic!("the answer is known") };
        let first = cache.answer("a:1", now, |_| Ok(vec![address(1)])).unwrap();
        assert_eq!(&first[..], [address(1)]);
        assert_eq!(&cache.answer("a:1", now + KEPT / 2, never).unwrap()[..], [address(1)]);
        assert_eq!(&cache.answer("a:1", now + KEPT, |_| Ok(vec![address(2)])).unwrap()[..], [address(2)]);
        assert!(cache.answer("b:1", now, |_| Err(io::ErrorKind::NotFound.into())).is_err());
        assert!(cache.answer("b:1", now + FAILURE_KEPT / 2, never).is_err());
        assert!(cache.answer("b:1", now + FAILURE_KEPT, |_| Ok(Vec::new())).is_err());
        assert!(cache.answer("b:1", now + 2 * FAILURE_KEPT, |_| Ok(vec![address(3)])).is_ok());
    }

    #[test]
    fn names_that_are_kept_are_bounded() {
        let (mut cache, now) = (Cache::default(), monotonic_now());
        for number in 0..NAMES_MAX + 10 {
            cache.answer(&number.to_string(), now, |_| Ok(vec![address(1)])).unwrap();
        }
        assert_eq!(cache.answers.len(), NAMES_MAX);
        cache.answer("new", now + KEPT, |_| Ok(vec![address(1)])).unwrap();
        assert_eq!(cache.answers.len(), 1);
    }

    #[test]
    fn names_and_numbers_are_resolved() {
        let resolver = Resolver::start().unwrap();
        let of = |name: &str| block_on(resolver.resolve(name));
        assert_eq!(&of("10.0.0.1:10901").unwrap()[..], [address(1)]);
        assert_eq!(of("[::1]:7").unwrap()[0].port(), 7);
        assert!(of("localhost:7").unwrap().iter().all(|address| address.ip().is_loopback()));
        for wrong in ["", ":", "host", "host:port", "10.0.0.1", "localhost:70000", "a b:1"] {
            let Err(ResolveError::Failed { name, .. }) = of(wrong) else { panic!("{wrong}") };
            assert_eq!(name, wrong);
        }
    }
}
