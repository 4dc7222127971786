//! The secret that lets callers in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;
use std::hint::black_box;

/// Fewer can be tried out by whoever reaches the port.
const BYTES_MIN: usize = 16;

/// The secret that callers show, as a bearer token or as the password of HTTP's basic scheme.
#[derive(Clone)]
pub struct Token {
    secret: Vec<u8>,
}

/// A token that protects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Too short.
    #[error("the token has {bytes} bytes; give it at least {BYTES_MIN} random ones")]
    TooShort {
        /// How many there are.
        bytes: usize,
    },
    /// It can't be sent in a header.
    #[error("the token has a space or a character that no HTTP header takes")]
    Unprintable,
}

impl Token {
    /// Takes a secret as it stands in a file: white space around it does not count.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn new(text: &str) -> Result<Self, BadToken> {
        let secret = text.trim().as_bytes();
        if secret.len() < BYTES_MIN {
            let bytes = secret.len();
            return Err(BadToken::TooShort { bytes });
        }
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err(BadToken::Unprintable);
        }
        Ok(Token {
            secret: secret.to_vec(),
        })
    }

    /// Whether an `Authorization` header shows the token.
    pub(crate) fn opens(&self, header: &[u8]) -> bool {
        let Some((scheme, credentials)) = std::str::from_utf8(header)
            .ok()
            .and_then(|text| text.trim().split_once(' '))
        else {
            return false;
        };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(credentials.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        // RFC 7617: `user:password`; whatever the user's name is, the password is the token.
        let Ok(pair) = BASE64.decode(credentials) else {
            return false;
        };
        let colon = pair.iter().position(|&byte| byte == b':');
        colon.is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    /// Compares in a time that depends on the length of what was shown alone, so that it tells
    /// nothing of how much was right.
    fn is(&self, shown: &[u8]) -> bool {
        let mut difference = usize::from(shown.len() != self.secret.len());
        for (at, byte) in shown.iter().enumerate() {
            let own = self.secret[at % self.secret.len()];
            difference |= usize::from(black_box(byte ^ own));
        }
        black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery";

    #[test]
    fn bearer_and_basic_open_with_the_right_secret_alone() {
        let token = Token::new(&format!(" {SECRET}\n")).unwrap();
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        assert!(token.opens(format!("Bearer {SECRET}").as_bytes()));
        assert!(token.opens(format!("bearer  {SECRET} ").as_bytes()));
        assert!(token.opens(basic(&format!("anyone:{SECRET}")).as_bytes()));
        for wrong in [
            String::new(),
            SECRET.to_owned(),
            format!("Bearer {SECRET}x"),
            format!("Bearer {SECRET}{SECRET}"),
            format!("Bearer {}", &SECRET[1..]),
            "Bearer ".to_owned(),
            basic(SECRET),
            basic(&format!("{SECRET}:")),
            "Basic ?".to_owned(),
            format!("Digest {SECRET}"),
        ] {
            assert!(!token.opens(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn weak_secrets_are_refused_and_none_is_ever_shown() {
        let short = Token::new("short\n").unwrap_err();
        assert_eq!(short, BadToken::TooShort { bytes: 5 });
        let spaced = Token::new("a secret with spaces").unwrap_err();
        assert_eq!(spaced, BadToken::Unprintable);
        assert!(!format!("{:?}", Token::new(SECRET)).contains("horse"));
    }
}
