//! What the gateway is told, and whether it is safe.

use crate::token::Token;
use muster_proto::limits;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// How the gateway behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, as `ADDRESS:PORT`; port 0: the system picks one.
    pub http: String,
    /// What callers must show; `None`: nothing.
    pub token: Option<Token>,
    /// The token may travel unencrypted over a network.
    pub insecure: bool,
    /// Something in front of the gateway speaks TLS with the callers.
    pub behind_tls_proxy: bool,
    /// Names under which browsers may reach it, beyond `localhost` and plain addresses.
    pub allow_hosts: Vec<String>,
    /// Callers may use the broker's methods that change the cluster.
    pub allow_admin: bool,
    /// Deadline of calls that bring none; zero: the broker's own default.
    pub timeout: Duration,
    /// Longest request body.
    pub body_bytes_max: usize,
    /// Patience with slow callers.
    pub patience: Patience,
}

/// How long callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, the pause since the connection's last request included.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For reading anything of an answer.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            head: Duration::from_secs(30),
            // The largest body over a line of 3 Mbit/s.
            body: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            http: "127.0.0.1:8080".into(),
            token: None,
            insecure: false,
            behind_tls_proxy: false,
            allow_hosts: Vec::new(),
            allow_admin: false,
            timeout: Duration::ZERO,
            body_bytes_max: limits::BODY_BYTES_MAX,
            patience: Patience::default(),
        }
    }
}

/// A configuration that makes no sense, or would let anybody in.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such address.
    #[error("--http {http}: {reason}; it takes ADDRESS:PORT, such as 127.0.0.1:8080")]
    BadAddress {
        /// What was given.
        http: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The network could call the pool.
    #[error(
        "--http {http} can be reached from other machines: give --token-file or \
         MUSTER_GATEWAY_TOKEN, which callers then must show"
    )]
    NoToken {
        /// What was given.
        http: String,
    },
    /// The network could read the token.
    #[error(
        "--http {http} is not encrypted, so the network can read the token: put a proxy that \
         speaks TLS in front and say --behind-tls-proxy, or take the risk with --insecure"
    )]
    NoTls {
        /// What was given.
        http: String,
    },
}

impl Config {
    /// The addresses to listen on, if that is safe.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let http = || self.http.clone();
        let bad = |reason: String| ConfigError::BadAddress {
            http: self.http.clone(),
            reason,
        };
        let addresses: Vec<SocketAddr> = self
            .http
            .to_socket_addrs()
            .map_err(|error| bad(error.to_string()))?
            .collect();
        if addresses.is_empty() {
            return Err(bad("the name has no address".into()));
        }
        if addresses.iter().all(|address| address.ip().is_loopback()) {
            return Ok(addresses);
        }
        if self.token.is_none() {
            return Err(ConfigError::NoToken { http: http() });
        }
        if !self.insecure && !self.behind_tls_proxy {
            return Err(ConfigError::NoTls { http: http() });
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Config {
        Config {
            http: "0.0.0.0:0".into(),
            ..Config::default()
        }
    }

    #[test]
    fn loopback_needs_nothing() {
        for http in ["127.0.0.1:0", "[::1]:0", "127.9.9.9:1"] {
            let config = Config {
                http: http.into(),
                ..Config::default()
            };
            assert!(config.check().is_ok(), "{http}");
        }
    }

    #[test]
    fn other_addresses_need_a_token_and_a_word_on_tls() {
        assert!(matches!(open().check(), Err(ConfigError::NoToken { .. })));
        let insecure = Config {
            insecure: true,
            ..open()
        };
        assert!(matches!(insecure.check(), Err(ConfigError::NoToken { .. })));
        let token = Some(Token::new("0123456789abcdef").unwrap());
        let with_token = Config {
            token: token.clone(),
            ..open()
        };
        assert!(matches!(with_token.check(), Err(ConfigError::NoTls { .. })));
        let proxied = Config {
            behind_tls_proxy: true,
            ..with_token
        };
        assert!(proxied.check().is_ok());
        let taken = Config { token, ..insecure };
        assert!(taken.check().is_ok());
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let config = Config {
            http: "8080".into(),
            ..Config::default()
        };
        assert!(config.check().unwrap_err().to_string().contains("8080"));
    }
}
