//! What `muster gateway` takes.

use super::duration;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `muster gateway`. The token, when there is one, is in a file or in MUSTER_GATEWAY_TOKEN.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Where to listen; with port 0 the system picks one
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "MUSTER_GATEWAY_HTTP",
        default_value = "127.0.0.1:8080"
    )]
    pub http: String,
    /// A file with the token that callers must show; needed on other addresses than loopback
    #[arg(long, value_name = "FILE", env = "MUSTER_GATEWAY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A proxy in front of the gateway speaks TLS with the callers
    #[arg(long)]
    pub behind_tls_proxy: bool,
    /// Let the token travel over the network where everybody on the way can read it
    #[arg(long)]
    pub insecure: bool,
    /// Answer to this host name, too; may be given several times
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Let callers change the cluster: drain, scale, cancel, keys
    #[arg(long)]
    pub allow_admin: bool,
    /// Deadline of calls that bring none, in seconds, or like 500ms, 2m; 0: none
    #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "0")]
    pub timeout: Duration,
    /// Longest body of a request
    #[arg(long, value_name = "BYTES", default_value_t = muster_proto::limits::BODY_BYTES_MAX)]
    pub body_bytes_max: usize,
}
