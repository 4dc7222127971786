//! Answers to the broker's own methods.

mod calls;
mod keys;
mod methods;
mod status;
mod workers;

use crate::CoreEvent;
use crate::clock::Clock;
use crate::frontend::{Asker, Desk};
use crate::introspect::{LOCALS, Local, read_params};
use crate::keyring::Keyring;
use crate::lanes::Lanes;
use crate::reply::Reply;
use crate::request::Request;
use crate::workers::Workers;
use muster_core::Core;
use muster_proto::code::Code;
use muster_proto::connection::Connection;
use muster_proto::rpc::RpcError;
use muster_proto::worker::Command;
use serde::Deserialize;
use serde_json::{Value, json};

type Answer = Result<Value, RpcError>;

/// What the broker says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Where programs on this machine find it.
    pub local: Connection,
    /// Where programs on other machines find it, when it listens to them.
    pub remote: Option<Connection>,
    /// Its run, as 16 hex digits.
    pub epoch: String,
}

/// The broker as its own methods see it.
pub struct Front<'a> {
    /// The decisions.
    pub core: &'a Core<Request, Reply>,
    /// Managed workers.
    pub workers: &'a Workers,
    /// Stock workers.
    pub lanes: &'a mut Lanes,
    /// What the broker says of itself.
    pub about: &'a About,
    /// The clock.
    pub clock: &'a Clock,
    /// Connections.
    pub clients: usize,
    /// Replies dropped because their clients do not read.
    pub replies_dropped: u64,
    /// What a method asks the core to do.
    pub later: &'a mut Vec<CoreEvent>,
    /// The keys, where some door asks for them.
    pub keyring: Option<&'a Keyring>,
    /// Users whose key was revoked just now.
    pub revoked: &'a mut Vec<String>,
}

impl Desk for Front<'_> {
    fn takes_raw(&self) -> bool {
        self.core.takes_raw()
    }

    fn answer(
        &mut self,
        method: Local,
        params: Option<&str>,
        asker: Asker<'_>,
    ) -> Result<String, RpcError> {
        let names = LOCALS
            .iter()
            .find(|(_, local, ..)| *local == method)
            .map_or(&[][..], |l| l.2);
        if is_for_admins(method) && !asker.is_admin() {
            let reason = json!({"reason": "this needs an admin key"});
            return Err(RpcError::new(Code::Forbidden).data(&reason));
        }
        let answer = match method {
            Local::ListMethods => Ok(self.list_methods()),
            Local::MethodSignature => self.signature(&read_params(params, names)?),
            Local::MethodHelp => self.help(&read_params(params, names)?),
            Local::Status => Ok(self.status(&asker)),
            Local::Workers => Ok(self.workers_json()),
            Local::Methods => Ok(self.methods_json()),
            Local::Endpoints => Ok(self.endpoints(&asker)),
            Local::Calls => Ok(self.calls(&read_params(params, names)?, &asker)),
            Local::Explain => self.explain(&read_params(params, names)?, &asker),
            Local::Keys => self.keys(),
            Local::NewKey => self.new_key(read_params(params, names)?),
            Local::RevokeKey => self.revoke_key(&read_params(params, names)?),
            Local::Cancel => self.cancel(&read_params(params, names)?, &asker),
            Local::Drain => self.command(&read_params(params, names)?, Command::Drain),
            Local::Scale => self.command(&read_params(params, names)?, Command::Resize),
            Local::Reload => self.command(&read_params(params, names)?, Command::Reload),
            Local::Discover => Ok(self.discover()),
            Local::AddWorker => self.add_worker(read_params(params, names)?),
            Local::RemoveWorker => self.remove_worker(&read_params(params, names)?),
            Local::Multicall | Local::Unknown => Err(RpcError::new(Code::MethodNotFound)),
        };
        answer.map(|value| value.to_string())
    }
}

#[derive(Deserialize)]
struct NameParams {
    name: String,
}

fn invalid(reason: &str) -> RpcError {
    RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}))
}

/// What concerns others than the one who asks.
fn is_for_admins(method: Local) -> bool {
    match method {
        Local::Drain
        | Local::Scale
        | Local::Reload
        | Local::AddWorker
        | Local::RemoveWorker
        | Local::Keys
        | Local::NewKey
        | Local::RevokeKey => true,
        Local::ListMethods
        | Local::MethodSignature
        | Local::MethodHelp
        | Local::Multicall
        | Local::Discover
        | Local::Status
        | Local::Workers
        | Local::Methods
        | Local::Endpoints
        | Local::Calls
        | Local::Explain
        | Local::Cancel
        | Local::Unknown => false,
    }
}
