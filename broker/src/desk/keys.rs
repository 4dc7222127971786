//! Keys: listed, issued, revoked.

use super::{Answer, Front, NameParams, invalid};
use crate::keyring::Keyring;
use muster_proto::code::Code;
use muster_proto::connection::{Connection, Role};
use muster_proto::rpc::RpcError;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
pub(super) struct NewKeyParams {
    role: Role,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
}

impl Front<'_> {
    fn keyring(&self) -> Result<&Keyring, RpcError> {
        self.keyring.ok_or_else(|| {
            let reason =
                "this broker has no door with keys: listen on TCP, with --curve on loopback";
            RpcError::new(Code::InvalidParams).data(&json!({"reason": reason}))
        })
    }

    pub(super) fn keys(&self) -> Answer {
        let keys = self.keyring()?.list();
        Ok(keys.iter().map(|key| json!(key.as_ref())).collect())
    }

    /// A connection file for the new key's holder.
    pub(super) fn new_key(&self, params: NewKeyParams) -> Answer {
        let remote = self
            .about
            .remote
            .clone()
            .unwrap_or_else(|| self.about.local.clone());
        let now_s = self.clock.wall_seconds(self.clock.now()) as u64;
        let NewKeyParams {
            role,
            name,
            methods,
        } = params;
        let keyring = self.keyring()?;
        let name = name.unwrap_or_else(|| keyring.free_name(&format!("{role:?}").to_lowercase()));
        let curve = keyring
            .issue(&name, role, methods, now_s)
            .map_err(|error| invalid(&error.to_string()))?;
        let connection = Connection {
            curve: Some(curve),
            ..remote
        };
        Ok(json!({"name": name, "connection": connection}))
    }

    pub(super) fn revoke_key(&mut self, params: &NameParams) -> Answer {
        let key = self
            .keyring()?
            .revoke(&params.name)
            .map_err(|error| invalid(&error.to_string()))?;
        self.revoked.push(key);
        Ok(json!(true))
    }
}
