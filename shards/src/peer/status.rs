//! The status codes of gRPC that this protocol uses (github.com/grpc/grpc, doc/statuscodes.md).

/// A status code; its number is what goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// All was taken.
    Ok = 0,
    /// The request can never be taken as it is.
    InvalidArgument = 3,
    /// A deadline passed.
    DeadlineExceeded = 4,
    /// A sample conflicts with what is stored, or its labels are not valid: Thanos' conflict.
    AlreadyExists = 6,
    /// A limit of the tenant or of a message's size.
    ResourceExhausted = 8,
    /// No such method or encoding.
    Unimplemented = 12,
    /// A fault of this node.
    Internal = 13,
    /// Not for now; the same request may be sent again.
    Unavailable = 14,
}

impl Code {
    /// Its name, as `grpc_code` of metrics has it.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::AlreadyExists => "AlreadyExists",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
        }
    }

    /// What a number from the wire means here. Codes that no table of ours has are a fault of the peer.
    pub fn of_number(number: u8) -> Code {
        match number {
            0 => Code::Ok,
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            6 => Code::AlreadyExists,
            8 => Code::ResourceExhausted,
            12 => Code::Unimplemented,
            14 => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_what_its_number_means() {
        for number in 0..=u8::MAX {
            let code = Code::of_number(number);
            assert!(code as u8 == number || code == Code::Internal, "{number}");
        }
    }
}
