//! Composes replies around raw spans.

use super::RpcError;

/// The reply with a result: `{"jsonrpc":"2.0","result":…,"id":…}`.
///
/// `result` and `id` are JSON as written.
pub fn result_reply(id: &str, result: &[u8]) -> Vec<u8> {
    let (head, middle) = (r#"{"jsonrpc":"2.0","result":"#, r#","id":"#);
    let mut out = Vec::with_capacity(head.len() + result.len() + middle.len() + id.len() + 1);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(result);
    out.extend_from_slice(middle.as_bytes());
    out.extend_from_slice(id.as_bytes());
    out.push(b'}');
    out
}

/// The reply with an error: `{"jsonrpc":"2.0","error":…,"id":…}`; an unknown id is null.
pub fn error_reply(id: Option<&str>, error: &RpcError) -> Vec<u8> {
    let object = error.to_json();
    format!(
        r#"{{"jsonrpc":"2.0","error":{object},"id":{}}}"#,
        id.unwrap_or("null")
    )
    .into_bytes()
}

/// Makes a call of a notification: the object with `"id":id` as its first member.
///
/// `object` is a JSON object with at least one member, white space around it allowed.
pub fn insert_id(object: &str, id: u64) -> String {
    let open = object.find('{').map_or(0, |at| at + 1);
    format!("{}\"id\":{id},{}", &object[..open], &object[open..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn replies_keep_result_and_id_as_written() {
        assert_eq!(
            result_reply("\"1\"", b"[ 1 ]"),
            br#"{"jsonrpc":"2.0","result":[ 1 ],"id":"1"}"#
        );
        assert_eq!(
            error_reply(None, &RpcError::new(Code::ParseError)),
            br#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}"#
        );
        assert_eq!(
            insert_id(r#" {"method":"m"}"#, 7),
            r#" {"id":7,"method":"m"}"#
        );
    }
}
