//! The frame around a gRPC message (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): a byte that says whether the message is
//! compressed, its length in four bytes, big-endian, and the message.

/// What stands before each message.
pub const FRAME_HEAD_BYTES: usize = 5;

/// Why a body is not one framed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body ends inside the frame.
    #[error("the body has {body_bytes} bytes where a message of {message_bytes} bytes was announced")]
    Cut {
        /// The body without the head of the frame.
        body_bytes: usize,
        /// What its head says.
        message_bytes: u64,
    },
    /// The method takes one message.
    #[error("{extra_bytes} bytes follow the one message of the request")]
    More {
        /// What follows.
        extra_bytes: usize,
    },
    /// Neither 0 nor 1.
    #[error("the flag of compression is {0}, which gRPC does not know")]
    Flag(u8),
}

/// The one message of a body, and whether it is compressed.
///
/// # Errors
/// When the body is not exactly one frame.
pub fn unframe(body: &[u8]) -> Result<(bool, &[u8]), FrameError> {
    let Some((head, message)) = body.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Err(FrameError::Cut { body_bytes: 0, message_bytes: 0 });
    };
    let [flag, length @ ..] = *head;
    let is_compressed = match flag {
        0 => false,
        1 => true,
        other => return Err(FrameError::Flag(other)),
    };
    let message_bytes = u64::from(u32::from_be_bytes(length));
    match (message.len() as u64).cmp(&message_bytes) {
        std::cmp::Ordering::Less => Err(FrameError::Cut { body_bytes: message.len(), message_bytes }),
        std::cmp::Ordering::Greater => {
            Err(FrameError::More { extra_bytes: message.len() - message_bytes as usize })
        }
        std::cmp::Ordering::Equal => Ok((is_compressed, message)),
    }
}

/// Appends a frame with what `put` appends as its message.
///
/// # Panics
/// When the message has 4 GiB or more: every body has a lower limit.
pub fn put_frame(out: &mut Vec<u8>, is_compressed: bool, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[u8::from(is_compressed), 0, 0, 0, 0]);
    put(out);
    let length = out.len() - start - FRAME_HEAD_BYTES;
    let length = u32::try_from(length).expect("a request is far smaller than 4 GiB");
    out[start + 1..start + FRAME_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_one_frame_is_told() {
        assert!(matches!(unframe(&[]), Err(FrameError::Cut { .. })));
        assert!(matches!(unframe(&[0, 0, 0, 0]), Err(FrameError::Cut { .. })));
        assert_eq!(unframe(&[0, 0, 0, 0, 2, 7]), Err(FrameError::Cut { body_bytes: 1, message_bytes: 2 }));
        assert_eq!(unframe(&[0, 0, 0, 0, 1, 7, 8]), Err(FrameError::More { extra_bytes: 1 }));
        assert_eq!(unframe(&[2, 0, 0, 0, 0]), Err(FrameError::Flag(2)));
        assert_eq!(unframe(&[1, 0, 0, 0, 1, 7]), Ok((true, &[7][..])));
    }

    proptest! {
        #[test]
        fn frames_round_trip(message in proptest::collection::vec(any::<u8>(), 0..300), flag: bool) {
            let mut body = Vec::new();
            put_frame(&mut body, flag, |out| out.extend_from_slice(&message));
            prop_assert_eq!(unframe(&body), Ok((flag, &message[..])));
        }

        #[test]
        fn random_bytes_end_in_a_result(body in proptest::collection::vec(any::<u8>(), 0..50)) {
            if let Ok((_, message)) = unframe(&body) {
                prop_assert_eq!(message.len() + FRAME_HEAD_BYTES, body.len());
            }
        }
    }
}
