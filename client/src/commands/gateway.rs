//! `muster gateway`

use super::{CommandResult, Failure, connect, on_interrupt};
use crate::cli::{Common, GatewayArgs};
use crate::output::Output;
use log::{info, warn};
use muster_client::{Client, Error, Forward};
use muster_gateway as gateway;
use muster_gateway::{Config, Done, Pool, ServeError, Server, Stop, Ticket, Token};
use muster_proto::exit::Exit;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The variable that holds the token itself. It is no flag: others could read it in the list of
/// processes.
const TOKEN: &str = "MUSTER_GATEWAY_TOKEN";

pub fn run(common: &Common, args: &GatewayArgs, out: &mut Output) -> CommandResult {
    let server = Server::bind(Config {
        http: args.http.clone(),
        token: token(args.token_file.as_deref())?,
        insecure: args.insecure,
        behind_tls_proxy: args.behind_tls_proxy,
        allow_hosts: args.allow_host.clone(),
        allow_admin: args.allow_admin,
        timeout: args.timeout,
        body_bytes_max: args.body_bytes_max,
        ..Config::default()
    })?;
    let client = connect(common)?;
    let stop = Stop::default();
    let asked = stop.clone();
    on_interrupt(move || asked.ask())?;
    let url = format!("http://{}/", server.address());
    match out.json {
        true => out.line(&json!({ "url": url }).to_string())?,
        false => out.line(&url)?,
    }
    out.flush()?;
    info!("serving {} at {url}", client.endpoint());
    server.run(Arc::new(Broker(client)), stop)?;
    Ok(Exit::Done)
}

fn token(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    let (origin, text) = match file {
        Some(path) => {
            let system = |source| Failure::System {
                what: format!("--token-file {}", path.display()),
                source,
            };
            let text = std::fs::read_to_string(path).map_err(system)?;
            let mode = path.metadata().map_err(system)?.permissions().mode();
            if mode & 0o077 != 0 {
                let path = path.display();
                warn!("other users may read {path}: chmod 600 {path}");
            }
            (path.display().to_string(), text)
        }
        None => match std::env::var(TOKEN) {
            Ok(text) => (TOKEN.to_owned(), text),
            Err(_) => return Ok(None),
        },
    };
    let token = Token::new(&text);
    Ok(Some(token.map_err(|error| {
        Failure::Usage(format!("{origin}: {error}"))
    })?))
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Config(error) => Failure::Usage(error.to_string()),
            ServeError::Listen { http, source } => Failure::System {
                what: format!("--http {http}"),
                source,
            },
            ServeError::System(source) => Failure::System {
                what: "HTTP server".into(),
                source,
            },
        }
    }
}

/// The client as the gateway's way to the broker.
struct Broker(Client);

impl Pool for Broker {
    fn submit(&self, request: gateway::Request, done: Done) -> Result<Ticket, gateway::Failure> {
        let forward = Forward {
            body: request.body,
            method: request.method,
            key: request.key,
            is_once: request.is_once,
            timeout: request.timeout,
        };
        let forwarded = self
            .0
            .forward(forward, |reply| done(reply.map_err(failure)))
            .map_err(failure)?;
        Ok(Box::new(move || forwarded.cancel()))
    }

    fn is_connected(&self) -> bool {
        self.0.last_status().is_some()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failure(error: Error) -> gateway::Failure {
    match error {
        Error::UnknownOutcome => gateway::Failure::Unknown,
        Error::Timeout(_) => gateway::Failure::Timeout,
        error => gateway::Failure::Unavailable(error.to_string()),
    }
}
