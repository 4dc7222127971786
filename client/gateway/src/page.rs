//! `GET /`: the page, its style and its script, which are part of this program.

use crate::reply::{Reply, reply};
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};

/// Nothing from elsewhere, nothing inline, and no other page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 14] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/page.css", CSS, include_str!("page/page.css")),
    ("/page/parts.css", CSS, include_str!("page/parts.css")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/codes.js", SCRIPT, include_str!("page/codes.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    (
        "/page/failures.js",
        SCRIPT,
        include_str!("page/failures.js"),
    ),
    ("/page/graph.js", SCRIPT, include_str!("page/graph.js")),
    ("/page/methods.js", SCRIPT, include_str!("page/methods.js")),
    ("/page/queues.js", SCRIPT, include_str!("page/queues.js")),
    ("/page/rates.js", SCRIPT, include_str!("page/rates.js")),
    ("/page/scale.js", SCRIPT, include_str!("page/scale.js")),
    ("/page/slots.js", SCRIPT, include_str!("page/slots.js")),
    ("/page/theme.js", SCRIPT, include_str!("page/theme.js")),
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
    use muster_proto::code::Code;

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
        assert!(get("/page/main.js").is_some() && get("/page/../x").is_none());
    }

    #[test]
    fn the_page_knows_every_code_by_its_name() {
        let codes = include_str!("page/codes.js");
        for code in Code::ALL {
            let line = format!("[{}, \"{code:?}\"]", code.number());
            assert!(codes.contains(&line), "{line}");
        }
    }
}
