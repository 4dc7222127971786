//! Who may connect: CURVE keys, and the ZAP handler that judges them.

use zmq_sys::ZMQ_ZAP_ENFORCE_DOMAIN;

use super::Socket;
use super::error::SocketError;
use super::key;

impl Socket {
    /// Makes every later connection prove a key: this is the server's secret key (Z85).
    ///
    /// Without a ZAP domain and handler any key is let in; see
    /// [`set_zap_domain`](Self::set_zap_domain).
    ///
    /// # Errors
    /// [`SocketError::BadKey`].
    pub fn set_curve_server(&self, secret: &str) -> Result<(), SocketError> {
        let secret = key::check("secret", secret)?;
        let zmq = &self.raw.options;
        self.configure(|| zmq.set_curve_server(true))?;
        self.configure(|| zmq.set_curve_secretkey(secret))
    }

    /// Uses a key pair for every later connection, and talks only to the server with this public
    /// key (all Z85).
    ///
    /// # Errors
    /// [`SocketError::BadKey`].
    pub fn set_curve_client(
        &self,
        server: &str,
        public: &str,
        secret: &str,
    ) -> Result<(), SocketError> {
        let server = key::check("server", server)?;
        let public = key::check("public", public)?;
        let secret = key::check("secret", secret)?;
        let zmq = &self.raw.options;
        self.configure(|| zmq.set_curve_serverkey(server))?;
        self.configure(|| zmq.set_curve_publickey(public))?;
        self.configure(|| zmq.set_curve_secretkey(secret))
    }

    /// Has the ZAP handler (`inproc://zeromq.zap.01` of this context) judge every later connection,
    /// and lets nobody in while there is no handler.
    ///
    /// # Errors
    /// [`SocketError::System`] when the name is empty or over 255 bytes.
    pub fn set_zap_domain(&self, domain: &str) -> Result<(), SocketError> {
        // Each alone lets everyone in when no handler runs.
        self.configure(|| self.raw.options.set_zap_domain(domain))?;
        self.configure(|| self.raw.set_number(ZMQ_ZAP_ENFORCE_DOMAIN, 1))
    }
}
