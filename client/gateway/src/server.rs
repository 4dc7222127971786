//! The listener and its connections.

use crate::budget::Budget;
use crate::config::{Config, ConfigError, Patience};
use crate::events::{self, Hub};
use crate::failures::Failures;
use crate::gate::Gate;
use crate::limits::{BODIES_BYTES_MAX, CONNECTIONS_MAX, GRACE, HEAD_BYTES_MAX};
use crate::metrics::Metrics;
use crate::patience::Patient;
use crate::pool::Pool;
use crate::request::Policy;
use crate::router;
use crate::stop::Stop;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, info, warn};
use muster_proto::socket::random_bytes;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Why the gateway can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It is told something that makes no sense, or that is not safe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address can't be had.
    #[error("listen on {http}: {source}")]
    Listen {
        /// Where.
        http: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses what a server needs.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What all connections share.
pub(crate) struct Gateway {
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) policy: Policy,
    pub(crate) body_bytes_max: usize,
    pub(crate) patience: Patience,
    pub(crate) budget: Budget,
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) failures: Failures,
    pub(crate) hub: Hub,
    pub(crate) stop: Stop,
    connections: AtomicUsize,
    /// One of them has ended.
    ended: Notify,
    keys: AtomicU64,
    key_prefix: String,
}

impl Gateway {
    /// A key for a call: random for this gateway, so that nobody guesses it.
    pub(crate) fn key(&self) -> String {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        format!("{}.{number}", self.key_prefix)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A gateway that listens and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// [`ServeError::Config`] when that would not be safe, [`ServeError::Listen`].
    pub fn bind(config: Config) -> Result<Self, ServeError> {
        let addresses = config.check()?;
        let listen = |source| ServeError::Listen {
            http: config.http.clone(),
            source,
        };
        let listener = TcpListener::bind(&*addresses).map_err(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Server {
            listener,
            address,
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on this thread until `stop` is asked.
    ///
    /// # Errors
    /// [`ServeError::System`] when it can't start.
    pub fn run(self, pool: Arc<dyn Pool>, stop: Stop) -> Result<(), ServeError> {
        let mut key_prefix = String::new();
        for byte in random_bytes::<12>()? {
            let _ = write!(key_prefix, "{byte:02x}");
        }
        let config = self.config;
        let gateway = Arc::new(Gateway {
            pool,
            policy: Policy {
                allow_admin: config.allow_admin,
                timeout: config.timeout,
            },
            body_bytes_max: config.body_bytes_max,
            patience: config.patience,
            budget: Budget::new(BODIES_BYTES_MAX),
            gate: Gate::new(config.token, &config.allow_hosts),
            metrics: Metrics::default(),
            failures: Failures::default(),
            hub: Hub::default(),
            stop,
            connections: AtomicUsize::new(0),
            ended: Notify::new(),
            keys: AtomicU64::new(1),
            key_prefix,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Only large bodies go there, and two are enough to keep the cores busy.
            .max_blocking_threads(4)
            .build()?;
        runtime.block_on(serve(&gateway, self.listener))?;
        // Threads that still read a large body are not waited for.
        runtime.shutdown_background();
        Ok(())
    }
}

async fn serve(gateway: &Arc<Gateway>, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(events::poll(Arc::clone(gateway)));
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => accept(gateway, stream, peer),
                Err(error) => {
                    // Out of files, most likely: what there is has to end first.
                    warn!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = gateway.stop.asked(1) => {}
    }
    drop(listener);
    info!("leaving: finishing what is under way");
    let quiet = async {
        loop {
            let ended = gateway.ended.notified();
            if gateway.connections() == 0 {
                return;
            }
            ended.await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = gateway.stop.asked(2) => info!("stopped"),
        () = tokio::time::sleep(GRACE) => warn!("some requests did not finish in time"),
    }
    Ok(())
}

/// A connection as it is counted.
struct Counted {
    gateway: Arc<Gateway>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gateway.connections.fetch_sub(1, Ordering::Relaxed);
        self.gateway.ended.notify_one();
    }
}

fn accept(gateway: &Arc<Gateway>, stream: TcpStream, peer: SocketAddr) {
    // Answers are small and whole: waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!("{peer}: {error}");
    }
    let before = gateway.connections.fetch_add(1, Ordering::Relaxed);
    let counted = Counted {
        gateway: Arc::clone(gateway),
    };
    if before >= CONNECTIONS_MAX {
        tokio::spawn(turn_away(stream, counted));
        return;
    }
    tokio::spawn(async move {
        if let Err(error) = converse(&counted.gateway, stream).await {
            debug!("{peer}: {error}");
        }
    });
}

async fn converse(gateway: &Arc<Gateway>, stream: TcpStream) -> hyper::Result<()> {
    let service = service_fn(|request| {
        let gateway = Arc::clone(gateway);
        async move { Ok::<_, Infallible>(router::route(gateway, request).await) }
    });
    let io = TokioIo::new(Patient::new(stream, gateway.patience.stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.patience.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = gateway.stop.asked(1) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// One connection too many: says so, if that takes no time.
async fn turn_away(stream: TcpStream, counted: Counted) {
    let service = service_fn(|_| async { Ok::<_, Infallible>(router::full()) });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
    drop(counted);
}
