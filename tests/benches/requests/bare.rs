//! The bare echo: a length and a payload over TCP, one thread on each side.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Payload, SMALL, answer};

pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(echo(stream));
        }
    });
}

async fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut payload = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        payload.extend_from_slice(&buffer[..count]);
        let Some((length, rest)) = payload.split_first_chunk::<4>() else { continue };
        let length = u32::from_le_bytes(*length) as usize;
        if rest.len() >= length {
            stream.write_all(answer(&rest[..length])).await.unwrap();
            payload.drain(..4 + length);
        }
    }
}

pub(crate) struct Client {
    server: SocketAddr,
    unused: Rc<RefCell<Vec<TcpStream>>>,
}

pub(crate) fn client(server: SocketAddr) -> Client {
    Client { server, unused: Rc::default() }
}

impl crate::Client for Client {
    fn ask(&self, payload: Payload) -> LocalBoxFuture<'static, usize> {
        let (server, unused) = (self.server, self.unused.clone());
        Box::pin(async move {
            let free = unused.borrow_mut().pop();
            let mut stream = match free {
                Some(stream) => stream,
                None => TcpStream::connect(server).await.unwrap(),
            };
            stream.set_nodelay(true).unwrap();
            let mut message = Vec::with_capacity(4 + payload.len());
            message.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            message.extend_from_slice(&payload);
            stream.write_all(&message).await.unwrap();
            let mut answer = [0; SMALL];
            stream.read_exact(&mut answer).await.unwrap();
            unused.borrow_mut().push(stream);
            answer.len()
        })
    }
}
