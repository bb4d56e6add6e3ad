//! "In an actix-web service": each line of the chapter that is code.

use actix_web::{App, Error, HttpResponse, HttpServer, web};
use heartbeat_actors::Update;
use heartbeat_actors::prelude::*;
use heartbeat_actors::shard::{Owner, Shards};

use crate::{Add, Counter};

// ANCHOR: handler
async fn add(counter: web::Data<WorkerAddr<Counter>>, amount: web::Path<u64>) -> Result<String, Error> {
    let total = counter.send(Add(*amount)).await?; // a SendError answers 503, 504 or 500
    Ok(total.to_string())
}
// ANCHOR_END: handler

// ANCHOR: ready
async fn ready(node: web::Data<Node>, counter: web::Data<WorkerAddr<Counter>>) -> HttpResponse {
    if node.is_joined() && counter.is_ready() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() }
        .finish()
}
// ANCHOR_END: ready

// ANCHOR: routing
async fn order(orders: web::Data<Shards<Counter>>, path: web::Path<(String, u64)>) -> Result<HttpResponse, Error> {
    let (customer, amount) = path.into_inner();
    match orders.owner(&customer)? {
        Owner::Here(worker) => Ok(HttpResponse::Ok().body(worker.send(Add(amount)).await?.to_string())),
        Owner::There(member) => {
            let host = member.address.ip(); // or what the member says in its metadata
            let location = format!("http://{host}:8080/orders/{customer}/{amount}");
            Ok(HttpResponse::TemporaryRedirect().insert_header(("Location", location)).finish())
        }
    }
}
// ANCHOR_END: routing

// ANCHOR: routes
fn routes(
    node: &Node,
    counter: &WorkerAddr<Counter>,
    orders: &Shards<Counter>,
) -> impl FnOnce(&mut web::ServiceConfig) {
    let (node, counter, orders) = (node.clone(), counter.clone(), orders.clone());
    move |config| {
        config
            .app_data(web::Data::new(node))
            .app_data(web::Data::new(counter))
            .app_data(web::Data::new(orders))
            .route("/add/{amount}", web::post().to(add))
            .route("/orders/{customer}/{amount}", web::post().to(order))
            .route("/ready", web::get().to(ready));
    }
}
// ANCHOR_END: routes

// ANCHOR: serve
pub(crate) async fn serve(config: Config, listen: (&str, u16)) -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::start(config).await?;
    let server = start(&node, listen).await?;
    server.await?; // until SIGTERM: takes no more connections, finishes the requests it has
    node.leave().await; // then the workers finish their queues, and the node leaves the cluster
    Ok(())
}

async fn start(node: &Node, listen: (&str, u16)) -> Result<actix_web::dev::Server, Box<dyn std::error::Error>> {
    let counter = node.supervise("counter", || Counter { total: 0 })?;
    let orders = node.supervise_shards("orders", 16, |_| Ok(Counter { total: 0 }))?;
    node.subscribe_fn("log", |update| {
        if let Update::Event(event) = update {
            println!("{}", event.name());
        }
    });
    counter.until_up().await?; // before the port is open
    let node = node.clone();
    let app = move || App::new().configure(routes(&node, &counter, &orders)); // once for each thread of the server
    Ok(HttpServer::new(app).workers(2).shutdown_timeout(10).bind(listen)?.run())
}
// ANCHOR_END: serve

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test;

    use super::*;

    #[actix_rt::test]
    async fn a_service_answers_and_says_when_it_cannot() -> Result<(), Box<dyn std::error::Error>> {
        let node = Node::start(Config::default()).await?;
        let counter = node.supervise("counter", || Counter { total: 0 })?;
        let orders = node.supervise_shards("orders", 4, |_| Ok(Counter { total: 0 }))?;
        counter.until_up().await?;
        orders.until_up().await?;
        let app = test::init_service(App::new().configure(routes(&node, &counter, &orders))).await;
        let ask = async |request: test::TestRequest| {
            let response = test::call_service(&app, request.to_request()).await;
            (response.status(), test::read_body(response).await)
        };
        assert_eq!(ask(test::TestRequest::get().uri("/ready")).await.0, StatusCode::OK);
        assert_eq!(ask(test::TestRequest::post().uri("/add/2")).await, (StatusCode::OK, "2".into()));
        assert_eq!(ask(test::TestRequest::post().uri("/orders/ada/3")).await, (StatusCode::OK, "3".into()));
        let (status, _) = ask(test::TestRequest::post().uri("/add/5000")).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "its handler panicked");
        assert_eq!(ask(test::TestRequest::post().uri("/add/4")).await, (StatusCode::OK, "4".into()));
        node.leave().await;
        assert_eq!(ask(test::TestRequest::get().uri("/ready")).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(test::TestRequest::post().uri("/add/4")).await.0, StatusCode::SERVICE_UNAVAILABLE);
        Ok(())
    }

    #[actix_rt::test]
    async fn a_server_stops_before_its_workers() -> Result<(), Box<dyn std::error::Error>> {
        let node = Node::start(Config::default()).await?;
        let server = start(&node, ("127.0.0.1", 0)).await?;
        let handle = server.handle();
        let served = actix_rt::spawn(server);
        handle.stop(true).await;
        served.await??;
        assert!(node.view().worker("counter").is_some_and(|worker| worker.failures == 0));
        node.leave().await;
        Ok(())
    }
}
