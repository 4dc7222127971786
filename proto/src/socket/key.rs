//! Random bytes and CURVE keys.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use super::error::SocketError;
use super::raw::Errno;

/// Random bytes from the operating system.
///
/// # Errors
/// The system's, when it has no source of them.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// 32 random bytes that tell libzmq's own message, that a peer's connection ended, from whatever a
/// peer can send. Made anew at each start and never sent to anyone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// A fresh one.
    ///
    /// # Errors
    /// The system's, when it has no random bytes.
    pub fn random() -> io::Result<Self> {
        random_bytes().map(Self)
    }

    /// Whether a frame is this nonce. Takes as long for every frame of its length, so that timing
    /// tells a guesser nothing.
    pub fn matches(&self, frame: &[u8]) -> bool {
        frame.len() == self.0.len()
            && self
                .0
                .iter()
                .zip(frame)
                .fold(0, |different, (a, b)| different | (a ^ b))
                == 0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Nonce {
    /// Says nothing: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonce(…)")
    }
}

/// A CURVE key pair, both keys as 40 characters of Z85.
pub struct Keypair {
    /// May be known to all.
    pub public: String,
    /// Stays with its owner.
    pub secret: String,
}

/// Makes a CURVE key pair.
///
/// # Errors
/// [`SocketError::System`] when libzmq was built without CURVE.
pub fn curve_keypair() -> Result<Keypair, SocketError> {
    let pair = zmq::CurveKeyPair::new()
        .map_err(|error| SocketError::of("make a CURVE key pair")(Errno::from(error)))?;
    let text = |key: [u8; 32]| zmq::z85_encode(&key).expect("32 is a multiple of 4");
    Ok(Keypair {
        public: text(pair.public_key),
        secret: text(pair.secret_key),
    })
}

/// Checks a key's form: libzmq would take other characters for some key.
pub(super) fn check<'a>(which: &'static str, key: &'a str) -> Result<&'a [u8], SocketError> {
    let is_z85 =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-:+=^!/*?&<>()[]{}@%$#".contains(&byte);
    if key.len() == 40 && key.bytes().all(is_z85) {
        Ok(key.as_bytes())
    } else {
        Err(SocketError::BadKey { which })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_matches_itself_alone() {
        let nonce = Nonce::random().unwrap();
        assert!(nonce.matches(nonce.as_bytes()));
        assert!(!nonce.matches(&nonce.as_bytes()[1..]));
        assert!(!nonce.matches(b""));
        for at in 0..32 {
            let mut other = nonce;
            other.0[at] ^= 1;
            assert!(!nonce.matches(other.as_bytes()));
        }
        assert_eq!(format!("{nonce:?}"), "Nonce(…)");
    }

    #[test]
    fn key_pairs_are_valid_and_differ() {
        let (one, two) = (curve_keypair().unwrap(), curve_keypair().unwrap());
        assert_ne!(one.public, two.public);
        for key in [&one.public, &one.secret, &two.public] {
            assert!(check("public", key).is_ok());
        }
        assert!(check("public", &one.public[1..]).is_err());
        assert!(check("public", &"~".repeat(40)).is_err());
    }
}
