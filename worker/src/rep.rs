//! The stock REP servers that a worker stands in front of: `--rep`.

use muster_proto::worker::Method;

/// Servers that listen, one behind each slot, and all of them offering the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepServers {
    endpoints: Vec<String>,
    /// JSON-RPC methods they answer; empty: raw bodies.
    methods: Vec<String>,
}

/// Why servers can't be hosted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepError {
    /// The endpoint is none.
    #[error("`{0}` does not start with tcp:// or ipc://")]
    BadEndpoint(String),
    /// What follows the endpoint.
    #[error("`{0}` is not methods=NAME[,NAME…]")]
    BadMethods(String),
    /// Two servers that can't stand in for each other.
    #[error("{0} offers other methods than the first server: start a worker of its own for it")]
    Differs(String),
}

impl RepServers {
    /// Reads `ENDPOINT[,methods=a,b]`, once for each server. `None`: there are none.
    ///
    /// # Errors
    /// [`RepError`] when one can't be used, or they do not offer the same.
    pub fn parse(texts: &[String]) -> Result<Option<Self>, RepError> {
        let mut servers: Option<RepServers> = None;
        for text in texts {
            let (endpoint, methods) = parse_one(text)?;
            match &mut servers {
                None => {
                    servers = Some(RepServers {
                        endpoints: vec![endpoint],
                        methods,
                    });
                }
                Some(servers) if servers.methods == methods => servers.endpoints.push(endpoint),
                Some(_) => return Err(RepError::Differs(endpoint)),
            }
        }
        Ok(servers)
    }

    /// How many there are, and so how many slots.
    pub fn count(&self) -> u32 {
        self.endpoints.len() as u32
    }

    /// Whether they get raw bodies.
    pub fn takes_raw(&self) -> bool {
        self.methods.is_empty()
    }

    /// Where the server of a slot listens.
    pub(crate) fn of_slot(&self, number: u32) -> Option<String> {
        self.endpoints.get(number as usize - 1).cloned()
    }

    /// What to register.
    pub(crate) fn methods(&self) -> impl Iterator<Item = Method> {
        self.methods.iter().map(|name| Method {
            name: name.clone(),
            params: None,
            doc: "Answered by a REP server.".into(),
            once: false,
            chunks: false,
            shared: false,
        })
    }
}

fn parse_one(text: &str) -> Result<(String, Vec<String>), RepError> {
    let (endpoint, rest) = match text.split_once(',') {
        None => (text, None),
        Some((endpoint, rest)) => (endpoint, Some(rest)),
    };
    if !endpoint.starts_with("tcp://") && !endpoint.starts_with("ipc://") {
        return Err(RepError::BadEndpoint(endpoint.to_owned()));
    }
    let methods = match rest {
        None => Vec::new(),
        Some(rest) => rest
            .strip_prefix("methods=")
            .filter(|list| !list.is_empty())
            .ok_or_else(|| RepError::BadMethods(rest.to_owned()))?
            .split(',')
            .map(str::to_owned)
            .collect(),
    };
    Ok((endpoint.to_owned(), methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Option<RepServers>, RepError> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        RepServers::parse(&texts)
    }

    #[test]
    fn each_server_has_a_slot_and_all_offer_the_same() {
        assert_eq!(parse(&[]), Ok(None));
        let servers = parse(&["tcp://h:1", "ipc:///x"]).unwrap().unwrap();
        assert!(servers.takes_raw());
        assert_eq!(servers.count(), 2);
        assert_eq!(servers.of_slot(2).as_deref(), Some("ipc:///x"));
        assert_eq!(servers.of_slot(3), None);
        let named = parse(&["tcp://h:1,methods=a,b"]).unwrap().unwrap();
        assert!(!named.takes_raw());
        let names: Vec<String> = named.methods().map(|method| method.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_can_not_be_hosted_is_said() {
        for (texts, word) in [
            (&["h:1"][..], "tcp://"),
            (&["tcp://h:1,a"], "methods="),
            (&["tcp://h:1,methods="], "methods="),
            (&["tcp://h:1", "tcp://h:2,methods=a"], "tcp://h:2"),
        ] {
            let error = parse(texts).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
