//! The answer to a request that was taken, at least in part (ExportMetricsServiceResponse {1: partial success {1: int64
//! rejected data points, 2: error message}}).

use crate::wire::put_varint;

/// The answer's bytes: none when every point was taken.
pub fn export_response(rejected_points: u64, error: &str) -> Vec<u8> {
    if rejected_points == 0 && error.is_empty() {
        return Vec::new();
    }
    let mut partial = vec![0x08];
    put_varint(&mut partial, rejected_points);
    partial.push(0x12);
    put_varint(&mut partial, error.len() as u64);
    partial.extend_from_slice(error.as_bytes());
    let mut response = vec![0x0a];
    put_varint(&mut response, partial.len() as u64);
    response.extend_from_slice(&partial);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Response {
        #[prost(message, optional, tag = "1")]
        partial: Option<Partial>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Partial {
        #[prost(int64, tag = "1")]
        rejected: i64,
        #[prost(string, tag = "2")]
        error: String,
    }

    #[test]
    fn only_a_partial_success_says_something() {
        assert!(export_response(0, "").is_empty());
        let response = Response::decode(&*export_response(300, "why")).unwrap();
        assert_eq!(response.partial, Some(Partial { rejected: 300, error: "why".into() }));
    }
}
