//! The broker's own methods: `system.*`, `rpc.discover` and `broker.*`.

use muster_proto::code::Code;
use muster_proto::limits;
use muster_proto::rpc::RpcError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// A method that the broker answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Local {
    /// `system.listMethods`
    ListMethods,
    /// `system.methodSignature`
    MethodSignature,
    /// `system.methodHelp`
    MethodHelp,
    /// `system.multicall`
    Multicall,
    /// `rpc.discover`
    Discover,
    /// `broker.status`
    Status,
    /// `broker.workers`
    Workers,
    /// `broker.methods`
    Methods,
    /// `broker.endpoints`
    Endpoints,
    /// `broker.calls`
    Calls,
    /// `broker.explain`
    Explain,
    /// `broker.cancel`
    Cancel,
    /// `broker.drain`
    Drain,
    /// `broker.scale`
    Scale,
    /// `broker.reload`
    Reload,
    /// `broker.add_worker`
    AddWorker,
    /// `broker.remove_worker`
    RemoveWorker,
    /// `broker.keys`
    Keys,
    /// `broker.new_key`
    NewKey,
    /// `broker.revoke_key`
    RevokeKey,
    /// A name in the broker's own space that is none of these.
    Unknown,
}

/// Name, parameters and documentation of each.
pub const LOCALS: [(&str, Local, &[&str], &str); 20] = [
    (
        "broker.add_worker",
        Local::AddWorker,
        &["endpoint", "methods"],
        "Connect to a REP server.",
    ),
    (
        "broker.calls",
        Local::Calls,
        &["state", "limit"],
        "List calls: open ones, or recent ones that failed or were slow.",
    ),
    (
        "broker.cancel",
        Local::Cancel,
        &["id", "key"],
        "Cancel a call by its id or key.",
    ),
    (
        "broker.drain",
        Local::Drain,
        &["worker"],
        "Let a worker finish and leave.",
    ),
    (
        "broker.endpoints",
        Local::Endpoints,
        &[],
        "Addresses of the broker's sockets.",
    ),
    (
        "broker.explain",
        Local::Explain,
        &["id"],
        "Say where a call is and why.",
    ),
    (
        "broker.keys",
        Local::Keys,
        &[],
        "List the keys that let peers in.",
    ),
    (
        "broker.methods",
        Local::Methods,
        &[],
        "Describe every method on offer.",
    ),
    (
        "broker.new_key",
        Local::NewKey,
        &["role", "name", "methods"],
        "Issue a key.",
    ),
    (
        "broker.reload",
        Local::Reload,
        &["worker"],
        "Replace the children of workers.",
    ),
    (
        "broker.remove_worker",
        Local::RemoveWorker,
        &["endpoint"],
        "Leave a REP server.",
    ),
    (
        "broker.revoke_key",
        Local::RevokeKey,
        &["name"],
        "Let a key open no door any more.",
    ),
    (
        "broker.scale",
        Local::Scale,
        &["worker", "slots"],
        "Set a worker's number of slots.",
    ),
    (
        "broker.status",
        Local::Status,
        &[],
        "The broker in numbers.",
    ),
    (
        "broker.workers",
        Local::Workers,
        &[],
        "Describe every worker.",
    ),
    (
        "rpc.discover",
        Local::Discover,
        &[],
        "An OpenRPC document of everything on offer.",
    ),
    (
        "system.listMethods",
        Local::ListMethods,
        &[],
        "Names of all methods, sorted.",
    ),
    (
        "system.methodHelp",
        Local::MethodHelp,
        &["name"],
        "Documentation of a method.",
    ),
    (
        "system.methodSignature",
        Local::MethodSignature,
        &["name"],
        "A method's parameters.",
    ),
    (
        "system.multicall",
        Local::Multicall,
        &["calls"],
        "Several calls in one, spread.",
    ),
];

/// Which of the broker's own methods this is, if its name is in the broker's space.
pub fn local(method: &str) -> Option<Local> {
    let (space, _) = method.split_once('.')?;
    if !matches!(space, "system" | "broker" | "rpc") {
        return None;
    }
    let found = LOCALS.iter().find(|(name, ..)| *name == method);
    Some(found.map_or(Local::Unknown, |&(_, local, ..)| local))
}

/// Reads parameters by position or by name into `T`, whose members are all optional.
///
/// # Errors
/// [`Code::InvalidParams`] with the reason.
pub fn read_params<T: DeserializeOwned>(
    params: Option<&str>,
    names: &[&str],
) -> Result<T, RpcError> {
    let invalid = |reason: String| {
        RpcError::new(Code::InvalidParams).data(&serde_json::json!({"reason": reason}))
    };
    let value: Value =
        serde_json::from_str(params.unwrap_or("{}")).map_err(|error| invalid(error.to_string()))?;
    let object = match value {
        Value::Array(values) if values.len() > names.len() => {
            return Err(invalid(format!(
                "takes {} parameters, not {}",
                names.len(),
                values.len()
            )));
        }
        Value::Array(values) => names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(values)
            .collect(),
        other => other,
    };
    serde_json::from_value(object).map_err(|error| invalid(error.to_string()))
}

/// One call of a multicall.
#[derive(Debug, Deserialize)]
pub struct MulticallItem<'a> {
    #[serde(rename = "methodName")]
    method: String,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

impl MulticallItem<'_> {
    /// The JSON-RPC call it stands for.
    pub fn object(&self) -> String {
        let params = self.params.map_or("[]", RawValue::get);
        let method = serde_json::Value::from(self.method.as_str());
        format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params},"id":0}}"#)
    }
}

/// Reads `[[{"methodName", "params"}, …]]`.
///
/// # Errors
/// [`Code::InvalidParams`], or [`Code::TooLarge`] when there are too many.
pub fn read_multicall(params: Option<&str>) -> Result<Vec<MulticallItem<'_>>, RpcError> {
    let invalid = |reason: &str| {
        RpcError::new(Code::InvalidParams).data(&serde_json::json!({"reason": reason}))
    };
    let outer: Vec<Vec<MulticallItem<'_>>> = serde_json::from_str(params.unwrap_or("[]"))
        .map_err(|_| invalid("takes one array of {\"methodName\", \"params\"}"))?;
    let Ok([calls]) = <[_; 1]>::try_from(outer) else {
        return Err(invalid("takes one array of {\"methodName\", \"params\"}"));
    };
    if calls.len() > limits::BATCH_CALLS_MAX {
        return Err(RpcError::too_large(
            "batch_calls",
            calls.len(),
            limits::BATCH_CALLS_MAX,
        ));
    }
    Ok(calls)
}
