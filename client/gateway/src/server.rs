//! The listener and its connections.

use crate::config::{Config, ConfigError};
use crate::events;
use crate::gateway::{Counted, Gateway};
use crate::limits::{CONNECTIONS_MAX, GRACE, HEAD_BYTES_MAX};
use crate::patience::Patient;
use crate::pool::Pool;
use crate::router;
use crate::stop::Stop;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, info, warn};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

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
        let gateway = Arc::new(Gateway::new(self.config, pool, stop)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Only large bodies go there, and a few keep every core busy.
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
    tokio::select! {
        () = gateway.quiet() => {}
        () = gateway.stop.asked(2) => info!("stopped"),
        () = tokio::time::sleep(GRACE) => warn!("some requests did not finish in time"),
    }
    Ok(())
}

fn accept(gateway: &Arc<Gateway>, stream: TcpStream, peer: SocketAddr) {
    // Answers are small and whole: waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!("{peer}: {error}");
    }
    let counted = Counted::new(gateway);
    if gateway.connections() > CONNECTIONS_MAX {
        tokio::spawn(turn_away(stream, counted));
        return;
    }
    tokio::spawn(async move {
        if let Err(error) = converse(counted.gateway(), stream).await {
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
