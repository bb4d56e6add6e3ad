//! The connections of a client that has one for each request in flight.

use std::cell::RefCell;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Connections to a server.
pub(crate) struct Connections {
    server: SocketAddr,
    unused: RefCell<Vec<TcpStream>>,
}

impl Connections {
    pub(crate) fn to(server: SocketAddr) -> Connections {
        Connections { server, unused: RefCell::default() }
    }

    /// One that carries no request now.
    pub(crate) async fn take(&self) -> TcpStream {
        let unused = self.unused.borrow_mut().pop();
        match unused {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.server).await.unwrap();
                stream.set_nodelay(true).unwrap();
                stream
            }
        }
    }

    pub(crate) fn give_back(&self, stream: TcpStream) {
        self.unused.borrow_mut().push(stream);
    }
}
