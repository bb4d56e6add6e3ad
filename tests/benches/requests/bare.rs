//! The bare echo: a length and a payload over TCP, one thread on each side.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::connections::Connections;
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

pub(crate) struct Client(Rc<Connections>);

pub(crate) fn client(server: SocketAddr) -> Client {
    Client(Rc::new(Connections::to(server)))
}

impl crate::Client for Client {
    fn ask(&self, payload: Payload) -> LocalBoxFuture<'static, usize> {
        let connections = self.0.clone();
        Box::pin(async move {
            let mut stream = connections.take().await;
            let mut message = Vec::with_capacity(4 + payload.len());
            message.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            message.extend_from_slice(&payload);
            stream.write_all(&message).await.unwrap();
            let mut answer = [0; SMALL];
            stream.read_exact(&mut answer).await.unwrap();
            connections.give_back(stream);
            answer.len()
        })
    }
}
