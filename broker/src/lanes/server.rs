//! REP servers that listen: what `--worker` and `muster worker add` name.

/// A REP server to connect to, as `--worker` and `broker.add_worker` have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub endpoint: String,
    /// What it offers; empty: anything, raw bodies too.
    pub methods: Vec<String>,
}

impl Server {
    /// Reads `ENDPOINT[,methods=a,b]`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (endpoint, rest) = text
            .split_once(',')
            .map_or((text, None), |(e, r)| (e, Some(r)));
        let methods = match rest {
            None => Vec::new(),
            Some(rest) => {
                let list = rest
                    .strip_prefix("methods=")
                    .filter(|list| !list.is_empty());
                let list = list.ok_or_else(|| format!("`{rest}` is not methods=NAME[,NAME…]"))?;
                list.split(',').map(str::to_owned).collect()
            }
        };
        Ok(Server {
            endpoint: endpoint.to_owned(),
            methods,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_with_or_without_its_methods() {
        let plain = Server::parse("tcp://h:5555").unwrap();
        assert_eq!(
            (plain.endpoint.as_str(), plain.methods.len()),
            ("tcp://h:5555", 0)
        );
        let named = Server::parse("tcp://h:5555,methods=a,b").unwrap();
        assert_eq!(named.methods, ["a", "b"]);
        assert!(Server::parse("tcp://h:5555,method=a").is_err());
        assert!(Server::parse("tcp://h:5555,methods=").is_err());
    }
}
