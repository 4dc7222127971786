//! `GET /`: the page, its style and its script, which are part of this program.

use crate::reply::{Reply, reply};
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};

/// Nothing from elsewhere, nothing inline, and no other page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const FILES: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
];

/// The file at this path, if there is one.
pub(crate) fn get(path: &str) -> Option<Reply> {
    let (_, kind, text) = FILES.into_iter().find(|(own, ..)| *own == path)?;
    let mut reply = reply(StatusCode::OK, kind, text);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_holds_nothing_inline() {
        for (path, _, text) in FILES {
            let hosts = text.matches("://").count();
            let svg = text.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(hosts, svg, "{path} names another host");
        }
        let html = FILES[0].2;
        for inline in ["<style", "style=", "onclick", "javascript:", "<script>"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert!(get("/page.js").is_some() && get("/page/../x").is_none());
    }
}
