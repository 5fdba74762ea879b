//! What may become of a request to a peer.

/// Why a request to a peer was not taken, or is not known to have been. Texts of peers are cut to a bounded length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFailure {
    /// The peer says that it cannot take it for now.
    #[error("the peer is not available: {message}")]
    Unavailable {
        /// Its words.
        message: String,
    },
    /// There is no connection, or it was lost before the answer. The peer may have stored the request.
    #[error("the peer cannot be reached: {reason}")]
    Unreachable {
        /// What the last attempt found.
        reason: String,
    },
    /// The peer failed a moment ago; nothing was sent.
    #[error("the peer failed a moment ago and is not tried again yet")]
    BackOff,
    /// As much is on its way to this peer as may be; nothing was sent.
    #[error("the peer is slower than the requests for it")]
    Busy,
    /// Samples conflict with what the peer has stored, or their labels are not valid. The rest is stored.
    #[error("the peer refuses samples: {message}")]
    Conflict {
        /// Its words.
        message: String,
    },
    /// The peer can never take the request as it is.
    #[error("the peer refuses the request: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The tenant is over a limit of the peer.
    #[error("a limit of the peer is reached: {message}")]
    Limited {
        /// Its words.
        message: String,
    },
    /// The peer takes no such requests.
    #[error("the peer takes no writes: {message}")]
    Unimplemented {
        /// Its words.
        message: String,
    },
    /// No answer came in time. The peer may have stored the request, or still do so.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The answer is a fault of the peer, or none that its protocol has.
    #[error("the peer failed: {reason}")]
    Broken {
        /// Its words, or what is wrong with them.
        reason: String,
    },
}

impl PeerFailure {
    /// What all are called in metrics.
    pub const REASONS: [&'static str; 10] = [
        "unavailable",
        "unreachable",
        "backoff",
        "busy",
        "conflict",
        "refused",
        "limited",
        "unimplemented",
        "timeout",
        "broken",
    ];

    /// The place in [`PeerFailure::REASONS`].
    pub fn reason_index(&self) -> usize {
        match self {
            PeerFailure::Unavailable { .. } => 0,
            PeerFailure::Unreachable { .. } => 1,
            PeerFailure::BackOff => 2,
            PeerFailure::Busy => 3,
            PeerFailure::Conflict { .. } => 4,
            PeerFailure::Refused { .. } => 5,
            PeerFailure::Limited { .. } => 6,
            PeerFailure::Unimplemented { .. } => 7,
            PeerFailure::Timeout => 8,
            PeerFailure::Broken { .. } => 9,
        }
    }

    /// Whether the peer is there and works. `None` if the failure tells nothing about that.
    pub fn is_peer_up(&self) -> Option<bool> {
        match self {
            PeerFailure::Unavailable { .. } | PeerFailure::Unreachable { .. } => Some(false),
            PeerFailure::BackOff | PeerFailure::Busy | PeerFailure::Timeout => None,
            PeerFailure::Conflict { .. }
            | PeerFailure::Refused { .. }
            | PeerFailure::Limited { .. }
            | PeerFailure::Unimplemented { .. }
            | PeerFailure::Broken { .. } => Some(true),
        }
    }
}
