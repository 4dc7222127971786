//! Who may come in: `Host`, `Origin` and the token.
//!
//! A browser sends requests to any address for any page. A page of another origin is recognised by
//! `Origin` and `Sec-Fetch-Site`; one whose own name was made to lead here (DNS rebinding), by
//! `Host`. Nothing here ever answers with CORS headers.

use crate::token::Token;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{StatusCode, Version};
use std::net::{IpAddr, Ipv6Addr};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The checks of every request.
#[derive(Debug)]
pub(crate) struct Gate {
    token: Option<Token>,
    hosts: Vec<String>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NoHost,
    Host,
    Origin,
    Token,
}

impl Denied {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Denied::NoHost => StatusCode::BAD_REQUEST,
            Denied::Host => StatusCode::MISDIRECTED_REQUEST,
            Denied::Origin => StatusCode::FORBIDDEN,
            Denied::Token => StatusCode::UNAUTHORIZED,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Denied::NoHost => "one Host header is needed",
            Denied::Host => "this host name is not one of the gateway's: --allow-host adds names",
            Denied::Origin => "pages of other origins may not call",
            Denied::Token => "show the gateway's token: as a bearer token, or as a password",
        }
    }
}

impl Gate {
    pub(crate) fn new(token: Option<Token>, hosts: &[String]) -> Self {
        Gate {
            token,
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Judges a request by its head. `is_open`: it needs no token.
    pub(crate) fn check(&self, head: &Parts, is_open: bool) -> Result<(), Denied> {
        let host = self.check_host(head)?;
        check_origin(head, host)?;
        match &self.token {
            Some(token) if !is_open => {
                let shown = head.headers.get(AUTHORIZATION);
                let opens = shown.is_some_and(|shown| token.opens(shown.as_bytes()));
                opens.then_some(()).ok_or(Denied::Token)
            }
            _ => Ok(()),
        }
    }

    fn check_host<'a>(&self, head: &'a Parts) -> Result<&'a str, Denied> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(Ok(host)), None) => host,
            // HTTP/1.0 has no Host header, and no browser speaks it.
            (None, None) if head.version == Version::HTTP_10 => return Ok(""),
            _ => return Err(Denied::NoHost),
        };
        // RFC 9112, section 3.2.2: the host of an absolute target stands above the header.
        let target = head
            .uri
            .authority()
            .map(hyper::http::uri::Authority::as_str);
        let is_ours = self.is_ours(host) && target.is_none_or(|target| self.is_ours(target));
        is_ours.then_some(host).ok_or(Denied::Host)
    }

    /// A plain address can't be rebound, so only names have to be known.
    fn is_ours(&self, authority: &str) -> bool {
        let name = match authority.strip_prefix('[') {
            Some(rest) => {
                let Some((address, rest)) = rest.split_once(']') else {
                    return false;
                };
                let is_port = rest.is_empty() || rest.starts_with(':');
                return is_port && address.parse::<Ipv6Addr>().is_ok();
            }
            None => authority
                .split_once(':')
                .map_or(authority, |(name, _)| name),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }
}

fn check_origin(head: &Parts, host: &str) -> Result<(), Denied> {
    let mut origins = head.headers.get_all(ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let origin = origin.to_str().map_err(|_| Denied::Origin)?;
        let (_, authority) = origin.split_once("://").ok_or(Denied::Origin)?;
        if !authority.eq_ignore_ascii_case(host) || origins.next().is_some() {
            return Err(Denied::Origin);
        }
    }
    let is_foreign = head
        .headers
        .get(FETCH_SITE)
        .is_some_and(|site| site == "cross-site" || site == "same-site");
    // A link on another site may lead to the page; what it then does is the page's own.
    let is_visit = head.method == hyper::Method::GET
        && head
            .headers
            .get(FETCH_MODE)
            .is_some_and(|mode| mode == "navigate");
    if is_foreign && !is_visit {
        return Err(Denied::Origin);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/rpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn judge(headers: &[(&str, &str)]) -> Result<(), Denied> {
        Gate::new(None, &["Pool.example".into()]).check(&head(headers), false)
    }

    #[test]
    fn addresses_localhost_and_allowed_names_are_ours() {
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8080",
            "10.0.0.7",
            "pool.example",
            "pool.example.:443",
        ] {
            assert_eq!(judge(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn names_that_anyone_can_point_here_are_not() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "[evil]",
            "",
        ] {
            assert_eq!(judge(&[("host", host)]), Err(Denied::Host), "{host}");
        }
        assert_eq!(judge(&[]), Err(Denied::NoHost));
        assert_eq!(
            judge(&[("host", "localhost"), ("host", "localhost")]),
            Err(Denied::NoHost)
        );
        let absolute = Request::post("http://evil.example/rpc").header("host", "localhost");
        let (absolute, ()) = absolute.body(()).unwrap().into_parts();
        let gate = Gate::new(None, &[]);
        assert_eq!(gate.check(&absolute, false), Err(Denied::Host));
    }

    #[test]
    fn only_the_own_origin_may_call() {
        let host = ("host", "localhost:8080");
        assert_eq!(judge(&[host, ("origin", "http://localhost:8080")]), Ok(()));
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:8081",
            "http://localhost",
            "http://127.0.0.1:8080",
        ] {
            let verdict = judge(&[host, ("origin", origin)]);
            assert_eq!(verdict, Err(Denied::Origin), "{origin}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(judge(&[host, cross]), Err(Denied::Origin));
        // A form on another page navigates, too.
        let navigate = ("sec-fetch-mode", "navigate");
        assert_eq!(judge(&[host, cross, navigate]), Err(Denied::Origin));
        let same = ("sec-fetch-site", "same-origin");
        assert_eq!(judge(&[host, same]), Ok(()));
    }

    #[test]
    fn the_token_is_asked_for_last_and_not_everywhere() {
        let token = Token::new("0123456789abcdef").unwrap();
        let gate = Gate::new(Some(token), &[]);
        let host = ("host", "localhost");
        assert_eq!(gate.check(&head(&[host]), false), Err(Denied::Token));
        assert_eq!(gate.check(&head(&[host]), true), Ok(()));
        let shown = ("authorization", "Bearer 0123456789abcdef");
        assert_eq!(gate.check(&head(&[host, shown]), false), Ok(()));
        assert_eq!(gate.check(&head(&[shown]), false), Err(Denied::NoHost));
    }
}
