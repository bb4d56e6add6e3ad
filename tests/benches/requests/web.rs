//! HTTP/1.1 with connections that are kept: an actix-web server with one worker thread. The client
//! is no library: it writes a request and reads the answer, with nothing between.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use actix_rt::System;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connections::Connections;
use crate::{LARGE, Payload, answer};

pub(crate) fn serve() {
    System::new().block_on(async {
        let server = HttpServer::new(|| {
            App::new()
                .app_data(web::PayloadConfig::new(LARGE))
                .route("/", web::post().to(async |body: web::Bytes| HttpResponse::Ok().body(answer(&body).to_vec())))
        });
        let server = server.workers(1).disable_signals().bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        println!("{}", server.addrs()[0]);
        server.run().await.unwrap();
    });
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
            let head = format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n", payload.len());
            stream.write_all(&[head.as_bytes(), &payload].concat()).await.unwrap();
            let length = read_answer(&mut stream).await;
            connections.give_back(stream);
            length
        })
    }
}

/// Reads an answer; the length of its body.
async fn read_answer(stream: &mut TcpStream) -> usize {
    let mut read = Vec::with_capacity(1 << 10);
    loop {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the server has closed the connection");
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&read[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        if read.len() >= end + 4 + length {
            return length;
        }
    }
}
