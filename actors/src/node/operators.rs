//! The HTTP server that a node starts by itself, if its config has `[http]`.

#[cfg(feature = "http")]
pub(crate) use with_http::{bind, serve};
#[cfg(not(feature = "http"))]
pub(crate) use without_http::{bind, serve};

/// With the feature.
#[cfg(feature = "http")]
mod with_http {
    use std::net::TcpListener;

    use heartbeat_core::Config;

    use crate::http::{self, Server};
    use crate::lock::lock;
    use crate::node::Node;
    use crate::node::start::NodeError;

    /// Takes the address of the config, before anything is started.
    pub(crate) fn bind(config: &Config) -> Result<Option<TcpListener>, NodeError> {
        let Some(http) = &config.http else { return Ok(None) };
        http::bind(http).map(Some).map_err(|error| NodeError::Http(http.listen, error))
    }

    /// Serves the node's door there.
    pub(crate) fn serve(node: &Node, listener: Option<TcpListener>) -> Result<(), NodeError> {
        let (Some(listener), Some(http)) = (listener, &node.config().http) else { return Ok(()) };
        let server = Server::start(node.door(), listener).map_err(|error| NodeError::Http(http.listen, error))?;
        *lock(&node.inner.server) = Some(server);
        Ok(())
    }
}

/// Without it.
#[cfg(not(feature = "http"))]
mod without_http {
    use std::convert::Infallible;
    use std::io;

    use heartbeat_core::Config;

    use crate::node::Node;
    use crate::node::start::NodeError;

    /// Refuses a config that asks for a server.
    pub(crate) fn bind(config: &Config) -> Result<Option<Infallible>, NodeError> {
        let Some(http) = &config.http else { return Ok(None) };
        let error = io::Error::new(io::ErrorKind::Unsupported, "it needs the feature \"http\" of heartbeat-actors");
        Err(NodeError::Http(http.listen, error))
    }

    /// There is no listener to serve on.
    pub(crate) fn serve(_: &Node, listener: Option<Infallible>) -> Result<(), NodeError> {
        match listener {
            None => Ok(()),
            Some(never) => match never {},
        }
    }
}
